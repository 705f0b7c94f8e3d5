"""Decides whether a URL is within a host that a profile names; pure.

The comparison is exact. A URL that two parsers could read in two ways matches nothing: the worst
outcome is a request without credentials.
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote

from mlflow_plugins_pack.web_urls import DEFAULT_PORTS, WebUrl, is_loopback, parse_url

_PREFIX_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+", re.ASCII)
_DECODE_ROUNDS = 5


@dataclass(frozen=True)
class Scope:
    """A host, and perhaps a path on it, that receives the credentials of one profile.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Lower case, IDN in its ASCII form, IPv6 compressed and without brackets.
        port: Always explicit.
        prefix: Path segments that a URL's path must start with; empty for the whole origin.
    """

    scheme: str
    host: str
    port: int
    prefix: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if DEFAULT_PORTS[self.scheme] == self.port else f":{self.port}"
        return "/".join((f"{self.scheme}://{host}{port}", *self.prefix))

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port

    @property
    def is_local_http(self) -> bool:
        """True if it is plain http on this machine."""
        return self.scheme == "http" and is_loopback(self.host)

    def covers(self, url: WebUrl) -> bool:
        """Return whether the URL has this origin and is under the prefix."""
        return self.origin == url.origin and stays_under(url.path, self.prefix)

    def might_cover(self, url: WebUrl) -> bool:
        """Return whether some server or proxy could take the URL for one that is covered."""
        return self.origin == url.origin and _may_be_under(url.path, self.prefix)


def parse_scope(text: str) -> Scope:
    """Parse an entry of a profile's ``hosts``.

    Args:
        text: For example ``https://mlflow.example.com`` or ``https://gw.example.com:8443/mlflow``.

    Returns:
        The scope.

    Raises:
        ValueError: If the text is not such an address; it says what is wrong.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in DEFAULT_PORTS:
        raise ValueError("it must start with https:// (or http:// for a loopback address)")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise ValueError('it must not carry a user name or password; use source = "basic"')
    if not text.isascii():
        text = text.replace(authority, _to_ascii(authority), 1)
    url = parse_url(text)
    if url is None:
        raise ValueError(
            "it is not of the form https://host[:port][/path], its host is malformed, or its port "
            "is not between 1 and 65535"
        )
    if url.rest:
        raise ValueError("it must not have a query or a fragment")
    if not url.is_secure:
        raise ValueError("credentials are sent over https only, except to a loopback address")
    path = url.path.strip("/")
    prefix = tuple(path.split("/")) if path else ()
    if any(segment in (".", "..") or not _PREFIX_SEGMENT.fullmatch(segment) for segment in prefix):
        raise ValueError("its path may hold plain segments only: no '..', no '//', no '%'")
    return Scope(*url.origin, prefix)


def stays_under(path: str, prefix: tuple[str, ...]) -> bool:
    """Return whether a path starts with the prefix and never climbs out of it.

    Servers and proxies disagree on how often they decode, so every stage of decoding must stay
    under it; a path that still changes after a few rounds is taken for an attack.
    """
    if not prefix:
        return True
    for _ in range(_DECODE_ROUNDS):
        if not _resolves_under(path, prefix):
            return False
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return True
        path = decoded
    return False


def _may_be_under(path: str, prefix: tuple[str, ...]) -> bool:
    """Return whether a path is under the prefix at some stage of decoding, resolved or not."""
    for _ in range(_DECODE_ROUNDS):
        plain = re.sub("/+", "/", re.sub(r";[^/]*", "", path.replace("\\", "/")))
        for reading in (plain, posixpath.normpath(plain)):
            if tuple(reading.strip("/").split("/")[: len(prefix)]) == prefix:
                return True
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return False
        path = decoded
    return True


def _resolves_under(path: str, prefix: tuple[str, ...]) -> bool:
    reached: list[str] = []
    entered = False
    for segment in path.replace("\\", "/").removeprefix("/").split("/"):
        if segment.startswith("..;"):
            return False  # some servers take ";x" for a parameter and climb, to others it is a name
        if segment == "..":
            if entered and len(reached) == len(prefix):
                return False
            if reached:
                reached.pop()
        elif segment == "" and not entered:
            return False  # some servers merge slashes, some take "//a" for another path than "/a"
        elif segment not in ("", "."):
            reached.append(segment)
        entered = entered or tuple(reached) == prefix
    return tuple(reached[: len(prefix)]) == prefix


def _to_ascii(authority: str) -> str:
    import idna  # comes with requests; only an international name needs it

    host, colon, port = authority.partition(":")
    try:
        return idna.encode(host, uts46=True).decode("ascii") + colon + port
    except idna.IDNAError:
        raise ValueError("its international host name is not valid") from None
