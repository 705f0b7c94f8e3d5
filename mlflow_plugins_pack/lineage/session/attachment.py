"""A run that was created through `MlflowClient`, attached to a thread; never raises."""

from __future__ import annotations

import contextlib
from types import TracebackType

from mlflow_plugins_pack.lineage.session import session


class Attachment:
    """A run that was created through `MlflowClient`, attached to this thread.

    Args:
        run_id: The run.
        tracking_uri: Where it is; the current tracking URI if None.
    """

    def __init__(self, run_id: str, tracking_uri: str | None = None) -> None:
        self.run_id = run_id
        with contextlib.suppress(Exception):
            session.current().start()
            if session.current().is_on():
                session.current().attach(run_id, tracking_uri)

    def detach(self) -> None:
        """Write the run's record and stop attributing reads to it; the second call does nothing."""
        with contextlib.suppress(Exception):
            session.current().detach(self.run_id)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.detach()
