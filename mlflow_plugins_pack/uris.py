"""The pack's URIs: ``<word>-<stock URI>``, parsed and formatted; pure.

A hyphen, never a ``+`` in front: MLflow's server unquotes a ``+`` in a model version's source and
the scheme is lost.
"""

from __future__ import annotations

import re

from mlflow_plugins_pack.errors import UnsupportedUriError

ARTIFACT_WORD = "cas"
REGISTRY_WORD = "approval"

_SCHEME = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*):", re.IGNORECASE)


def scheme_of(uri: str) -> str:
    """Return the lower-case scheme of a URI, or an empty string for a bare path."""
    match = _SCHEME.match(uri)
    return match["scheme"].lower() if match else ""


def is_pack_uri(word: str, uri: str) -> bool:
    """Return whether the URI's scheme starts with the given word and a hyphen."""
    return scheme_of(uri).startswith(f"{word}-")


def to_stock(word: str, uri: str) -> str:
    """Strip the pack's word from a URI.

    Args:
        word: ``cas`` or ``approval``.
        uri: For example ``cas-s3://bucket/prefix`` or ``approval-sqlite:///mlflow.db``.

    Returns:
        The stock URI behind it, every character after the word unchanged.

    Raises:
        UnsupportedUriError: If the URI does not start with the word and a hyphen.
    """
    if not is_pack_uri(word, uri):
        raise UnsupportedUriError(
            f"{_shown(uri)!r} is not a URI of this plugin: it must start with '{word}-' and go on "
            f"as the stock URI does, such as {_EXAMPLES[word]!r}. Nothing was opened."
        )
    return uri[len(word) + 1 :]


def to_pack(word: str, stock_uri: str) -> str:
    """Put the pack's word in front of a stock URI; the inverse of `to_stock`."""
    return f"{word}-{stock_uri}"


_EXAMPLES = {
    ARTIFACT_WORD: "cas-s3://bucket/prefix",
    REGISTRY_WORD: "approval-sqlite:///mlflow.db",
}


def without_credentials(uri: str) -> str:
    """Return the URI with any password in its authority replaced by ``***``."""
    return re.sub(r"(//[^/@:]*):[^/@]*@", r"\1:***@", uri)


_shown = without_credentials
