"""Several sources in order: the first that gives a credential signs in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from mlflow_plugins_pack.auth.credentials.contracts import Source, SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import Credential


class ChainSource:
    """Sources by name, in order."""

    def __init__(self, links: Sequence[tuple[str, Source]]) -> None:
        self._links = tuple(links)

    def stamp(self) -> object:
        """Return all stamps: an earlier source may have something by now."""
        return tuple(source.stamp() for _, source in self._links)

    def fetch(self) -> Credential:
        """Ask one after the other.

        Raises:
            SourceError: If none gives anything; it lists what each said.
        """
        said: list[str] = []
        for name, source in self._links:
            try:
                return replace(source.fetch(), source=name)
            except SourceError as exc:
                said.append(f"{len(said) + 1}. {name}: {exc}")
        raise SourceError("no source gave one: " + "; ".join(said))
