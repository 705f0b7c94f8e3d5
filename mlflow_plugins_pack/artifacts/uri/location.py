"""The place that an artifact URI names: storage, container, path; pure but for relative paths."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.format import object_keys
from mlflow_plugins_pack.artifacts.uri.schemes import PACK_SCHEMES, SCHEMES
from mlflow_plugins_pack.errors import UnsupportedUriError


@dataclass(frozen=True)
class Location:
    """A place in a storage.

    Attributes:
        scheme: A key of `SCHEMES`.
        container: Bucket, or ``container@account.blob.core...``; empty on disk.
        path: Key prefix without slashes around; on disk the absolute path without its first.
    """

    scheme: str
    container: str
    path: str

    def at(self, path: str) -> Location:
        """Return another place in the same storage."""
        return replace(self, path=path)

    @property
    def uri(self) -> str:
        """The location as a URI of the pack."""
        separator = f"://{self.container}/" if self.container else ":/"
        return uris.to_pack(uris.ARTIFACT_WORD, f"{self.scheme}{separator}{self.path}").rstrip("/")

    def contains(self, other: Location) -> bool:
        """Return whether the other place is this one or below it."""
        return (self.scheme, self.container) == (other.scheme, other.container) and (
            object_keys.relative_to(other.path, self.path) is not None
        )


def parse_location(uri: str) -> Location:
    """Read an artifact URI.

    Raises:
        UnsupportedUriError: If no backend of the pack serves it, if it has a query or fragment, or
            if it names a host where none is allowed.
        ArtifactPathError: If its path climbs.
    """
    stock = uris.to_stock(uris.ARTIFACT_WORD, uri)
    name, _, rest = stock.partition(":")
    scheme = SCHEMES.get(name.lower())
    if scheme is None:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} has a scheme that the pack does "
            f"not serve; it serves {', '.join(PACK_SCHEMES)}. Nothing was opened."
        )
    if "?" in rest or "#" in rest:
        raise UnsupportedUriError(
            f"The artifact URI {uris.without_credentials(uri)!r} has a '?' or '#'. Endpoints and "
            f"credentials come from the environment, never from the URI. Nothing was opened."
        )
    container, path = scheme.parse(uri, rest)
    return Location(name.lower(), container, path)
