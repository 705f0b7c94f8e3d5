"""The classes that stock MLflow's entry points name; loaded inside ``import mlflow``.

Neither class can fail when constructed: MLflow catches only ImportError there, so anything else
would break ``import mlflow``, or every request.
"""

from __future__ import annotations

import contextlib

from mlflow_plugins_pack.lineage.session import session

SCHEMA_TAGS = {"lineage.schema": "1"}


class LineageContextProvider:
    """Run context provider: constructing it starts the capture, and its one tag marks the run.

    MLflow copies the whole answer of `tags` into the source of autologged datasets and onto logged
    models; therefore it is one constant, and the record itself is written when the run ends.
    It does not subclass MLflow's `RunContextProvider`, whose module is still being imported here.
    """

    def __init__(self) -> None:
        with contextlib.suppress(Exception):
            session.start()

    def in_context(self) -> bool:
        """Return whether lineage is on."""
        return session.in_context()

    def tags(self) -> dict[str, str]:
        """Return the tag that marks a run whose lineage is being recorded."""
        session.resolving_tags()
        return dict(SCHEMA_TAGS)


class LineageFlushTick:
    """Request header provider without headers: it sees each request before it is sent.

    The request that ends a run is sent by the run's own thread; the record is written just before,
    so that a run that is seen as finished has its lineage.
    """

    def in_context(self) -> bool:
        """Write the record of a run that is about to end; always return False."""
        session.before_request()
        return False

    def request_headers(self) -> dict[str, str]:
        """Return no headers."""
        return {}
