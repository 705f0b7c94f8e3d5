"""Any headers, each with a value from its own place, such as an API key or an access proxy's."""

from __future__ import annotations

from collections.abc import Mapping

from mlflow_plugins_pack.auth.credentials.contracts import (
    SecretReader,
    SourceError,
    header_value,
    shortest_life,
)
from mlflow_plugins_pack.auth.credentials.lifetime import Credential


class HeadersSource:
    """Headers by name."""

    def __init__(self, places: Mapping[str, SecretReader]) -> None:
        self._places = dict(places)

    def stamp(self) -> object:
        """Return all stamps."""
        return tuple(place.stamp() for place in self._places.values())

    def fetch(self) -> Credential:
        """Read every value."""
        headers, values = [], []
        for name, place in self._places.items():
            try:
                reading = place.read()
                headers.append((name, header_value(reading.secret)))
            except SourceError as exc:
                raise SourceError(f"for the header {name}: {exc}") from None
            values.append(reading)
        return Credential(tuple(headers), shortest_life(values))
