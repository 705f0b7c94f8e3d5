"""Which roots a tracking server may open; pure.

A run's or experiment's artifact URI is what a client sent. Stock MLflow's guards know its own
schemes only, so ours decide here: a server opens its destination, its default root and what its
operator listed, and nothing else. Client processes open what they are told to.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.artifacts.uri.location import Location, parse_location
from mlflow_plugins_pack.errors import ForbiddenRootError

# Exported by `mlflow server` to its workers (mlflow.server.constants); the first one marks a
# process as a server's, as it does for stock MLflow's own policy on hosts.
SERVER_ROOT_VARIABLE = "_MLFLOW_SERVER_ARTIFACT_ROOT"
SERVER_DESTINATION_VARIABLE = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"


def is_server(environment: Mapping[str, str]) -> bool:
    """Return whether the process works on a tracking server's behalf."""
    return SERVER_ROOT_VARIABLE in environment or SERVER_DESTINATION_VARIABLE in environment


def allowed_roots(environment: Mapping[str, str], listed: Iterable[str]) -> list[Location]:
    """Return the roots a server may open.

    Args:
        environment: The process's environment.
        listed: Further roots as the operator lists them.

    Raises:
        UnsupportedUriError: If no backend of the pack serves a listed root.
    """
    own = (environment.get(SERVER_ROOT_VARIABLE), environment.get(SERVER_DESTINATION_VARIABLE))
    roots = [
        parse_location(uri) for uri in own if uri and uris.is_pack_uri(uris.ARTIFACT_WORD, uri)
    ]
    return roots + [parse_location(uri) for uri in listed]


def check_allowed(
    location: Location, environment: Mapping[str, str], listed: Iterable[str]
) -> None:
    """Refuse a location that a server may not open.

    Raises:
        ForbiddenRootError: If this is a server and the location is outside its roots.
    """
    if not is_server(environment):
        return
    if any(root.contains(location) for root in allowed_roots(environment, listed)):
        return
    raise ForbiddenRootError(
        f"This tracking server does not open {location.uri!r}: it is neither in the server's "
        f"artifacts destination nor in its default artifact root. Nothing was opened. If the "
        f"operator trusts that root, add it to MLFLOW_PACK_ARTIFACT_ROOTS on the server."
    )
