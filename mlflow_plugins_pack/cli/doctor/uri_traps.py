"""Spellings of URIs that MLflow accepts and that do not do what they look like; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mlflow_plugins_pack.artifacts.uri.schemes import PACK_SCHEMES, SCHEMES
from mlflow_plugins_pack.uris import (
    ARTIFACT_WORD,
    REGISTRY_WORD,
    scheme_of,
    without_credentials,
)

Role = Literal["tracking", "backend", "registry", "artifacts"]

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_WORDS = re.compile(r"[+_.\-]")


@dataclass(frozen=True)
class Trap:
    """A URI that will not do what its author means.

    Attributes:
        consequence: What MLflow will do with it.
        instead: What to write; empty if there is no simple answer.
    """

    consequence: str
    instead: str


def find_trap(role: Role, uri: str) -> Trap | None:
    """Return the trap that a URI is in the given place.

    Args:
        role: Where it stands: ``tracking`` (a client's tracking URI), ``backend``
            (``--backend-store-uri``), ``registry`` (``--registry-store-uri`` or a client's registry
            URI), ``artifacts`` (``--artifacts-destination`` or ``--default-artifact-root``).
        uri: The URI as typed.

    Returns:
        The trap, or None where the URI is fine as far as its scheme tells.
    """
    scheme = scheme_of(uri)
    rest = uri[len(scheme) :]
    parts = [part for part in _WORDS.split(scheme) if part]
    if role in ("tracking", "backend"):
        return _in_tracking(role, scheme, rest)
    if role == "registry":
        return _in_registry(scheme, parts, rest)
    return _in_artifacts(scheme, parts, rest)


def _in_tracking(role: Role, scheme: str, rest: str) -> Trap | None:
    for word in (REGISTRY_WORD, ARTIFACT_WORD):
        if scheme.startswith((f"{word}-", f"{word}+")):
            stock = scheme[len(word) + 1 :] + rest
            where = "the tracking URI" if role == "tracking" else "--backend-store-uri"
            return Trap(
                f"{where} takes no scheme of the pack: MLflow refuses it or runs without jobs",
                f"{without_credentials(stock)} there, and the '{word}-' URI for "
                + ("the registry" if word == REGISTRY_WORD else "artifacts"),
            )
    return None


def _in_registry(scheme: str, parts: list[str], rest: str) -> Trap | None:
    if scheme.startswith(f"{ARTIFACT_WORD}-"):
        return Trap("an artifact URI is not a registry: every registry call answers 400", "")
    if REGISTRY_WORD not in parts and "approvals" not in parts:
        return None
    databases = [part for part in parts if part in _DATABASES]
    if scheme.startswith(f"{REGISTRY_WORD}-") and databases:
        return None
    instead = f"{REGISTRY_WORD}-{databases[0]}{without_credentials(rest)}" if databases else ""
    if parts and parts[0] in _DATABASES:
        return Trap(
            "it starts with a stock database's name, so MLflow opens the stock store: "
            "NO approval is enforced, and nothing says so",
            instead,
        )
    return Trap(
        "MLflow knows no such registry: the server starts, and every registry call answers 400",
        instead,
    )


def _in_artifacts(scheme: str, parts: list[str], rest: str) -> Trap | None:
    if scheme.startswith(f"{REGISTRY_WORD}-"):
        return Trap("a registry URI is not an artifact store: every artifact call fails", "")
    if ARTIFACT_WORD not in parts or scheme in PACK_SCHEMES:
        return None
    stock = [part for part in parts if part in SCHEMES]
    instead = f"{ARTIFACT_WORD}-{stock[0]}{rest}" if stock else ""
    if "+" in scheme:
        return Trap(
            "the server turns the '+' into a space when a model version is created from it, "
            "and no such scheme is registered",
            instead,
        )
    return Trap(f"the pack serves {', '.join(PACK_SCHEMES)} only", instead)
