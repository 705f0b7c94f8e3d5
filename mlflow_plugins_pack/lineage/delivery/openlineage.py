"""Reports finished runs to an OpenLineage endpoint, if one is configured; never raises.

A report is optional: it is sent when the run's own record is written, in a thread of its own, and
no run waits for it. The end of the process does, until the deadline of the run.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow_plugins_pack import settings
from mlflow_plugins_pack.lineage.delivery.deadline import Deadline
from mlflow_plugins_pack.lineage.document.graph import without_secrets

if TYPE_CHECKING:
    from mlflow_plugins_pack.lineage.document.graph import Graph
    from mlflow_plugins_pack.lineage.export.openlineage import RunDescription

_logger = logging.getLogger("mlflow_plugins_pack.lineage")
_SECONDS = 5
_RUN_ID = re.compile(r"[0-9a-f]{32}")
_warned: set[str] = set()


class Reports:
    """The reports of this process that are being sent.

    Args:
        muted: Gives a context in which the calling thread's own reads and writes are not recorded.
    """

    def __init__(self, muted: Callable[[], AbstractContextManager[None]]) -> None:
        self._muted = muted
        self._sending: list[tuple[threading.Thread, Deadline, str]] = []

    def forked(self) -> None:
        """Forget the threads in a forked child, where they do not run."""
        self._sending = []

    def send(
        self, run_id: str, graph: Graph, tracking_uri: str, status: str | None, deadline: Deadline
    ) -> None:
        """Begin to send the event of a run's end, if an address is configured."""
        url = settings.LINEAGE_OPENLINEAGE_URL.get()
        if not url:
            return

        def work() -> None:
            with self._muted():
                report(url, run_id, graph, tracking_uri, status)

        thread = threading.Thread(target=work, name="mlflow-pack-lineage-report", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # Python 3.12 starts no thread once the interpreter is ending.
            work()
            return
        self._sending = [one for one in self._sending if one[0].is_alive()]
        self._sending.append((thread, deadline, run_id))

    def wait(self) -> None:
        """Wait for the reports that are being sent, each until its run's deadline."""
        for thread, deadline, run_id in self._sending:
            thread.join(deadline.remaining)
            if thread.is_alive():
                _warn(settings.LINEAGE_OPENLINEAGE_URL.get(), run_id, "no answer in time")


def describe(client: Any, run: Any, *, status: str, when: datetime) -> RunDescription:
    """Return what an event says of a run besides its data.

    Args:
        client: An `MlflowClient` of the server that has the run.
        run: The run.
        status: Its status, or that which it is about to get.
        when: Time of the event.
    """
    import mlflow

    from mlflow_plugins_pack.lineage.export.openlineage import RunDescription

    def job_of(experiment_id: str) -> str:
        return str(client.get_experiment(experiment_id).name)

    parent_id = run.data.tags.get("mlflow.parentRunId")
    parent_job = None
    if parent_id:
        # A parent may have been deleted: it stays the parent.
        with contextlib.suppress(Exception):
            parent_job = job_of(client.get_run(parent_id).info.experiment_id)
    return RunDescription(
        run_id=run.info.run_id,
        status=status,
        job=job_of(run.info.experiment_id),
        when=when.isoformat(timespec="milliseconds"),
        namespace=settings.LINEAGE_OPENLINEAGE_NAMESPACE.get(),
        parent_id=parent_id if parent_id and _RUN_ID.fullmatch(parent_id) else None,
        parent_job=parent_job,
        mlflow_version=mlflow.__version__,
    )


def report(
    url: str, run_id: str, graph: Graph, tracking_uri: str, status: str | None = None
) -> None:
    """Send one event, and wait for its answer.

    Args:
        url: Where to.
        run_id: The run.
        graph: Its record.
        tracking_uri: Where it is.
        status: The status that the run is about to get; None if it has it.
    """
    from mlflow import MlflowClient

    from mlflow_plugins_pack.lineage.export.openlineage import event

    try:
        client = MlflowClient(tracking_uri)
        run = client.get_run(run_id)
        now = datetime.now(timezone.utc)
        described = describe(client, run, status=status or run.info.status, when=now)
        _post(url, json.dumps(event(graph, described)).encode())
    except Exception as exc:  # noqa: BLE001  # a run does not fail because of it
        _warn(url, run_id, f"{type(exc).__name__}: {exc}")


def _post(url: str, body: bytes) -> None:
    """Send an event with the credentials that the settings name.

    Raises:
        ValueError: If the address is not one that can be reported to, or that may get credentials.
        Exception: Whatever the sending raises; a status of 300 or more counts as an error.
    """
    import requests

    from mlflow_plugins_pack.http_deadline import Watch, watched_session, within
    from mlflow_plugins_pack.web_urls import check_secure_url

    if not url.startswith(("http://", "https://")):
        raise ValueError("only http and https addresses can be reported to")
    headers, auth = credentials()
    if headers or auth is not None:
        check_secure_url(without_secrets(url))
    headers["Content-Type"] = "application/json"
    watch = Watch()
    with watched_session(watch) as session:

        def send() -> requests.Response:
            # A redirect would take the credentials, and an event, somewhere else. The answer's
            # body is not needed and might never end, so it is not read.
            return session.post(
                url,
                body,
                headers=headers,
                auth=auth,
                timeout=_SECONDS,
                allow_redirects=False,
                stream=True,
            )

        try:
            answer = within(_SECONDS, send, watch)
        except requests.RequestException as exc:
            # Its own text has the address with the query, where a secret may be.
            raise ConnectionError(_reason(exc)) from None
    if answer.status_code >= 300:
        raise ValueError(f"the answer was {answer.status_code} {answer.reason}")


def _reason(error: BaseException | None) -> str:
    """Return why a connection failed, without its address."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return os.strerror(error.errno)
        error = error.__cause__ or error.__context__
    return "the request failed"


def credentials() -> tuple[dict[str, str], Any]:
    """Return headers with credentials, and an object that signs requests, as the settings say.

    Raises:
        OSError: If the token's file cannot be read.
        ValueError: If the header has no name.
    """
    headers = {}
    if header := settings.LINEAGE_OPENLINEAGE_HEADER.get():
        name, colon, value = header.partition(":")
        if not colon or not name.strip():
            raise ValueError(
                "MLFLOW_PACK_LINEAGE_OPENLINEAGE_HEADER is not of the form Name: value"
            )
        headers[name.strip()] = value.strip()
    if path := settings.LINEAGE_OPENLINEAGE_TOKEN_FILE.get():
        # Read for each event: such files are replaced before their token expires.
        headers["Authorization"] = f"Bearer {Path(path).read_text(encoding='utf-8').strip()}"
    auth = None
    if provider := settings.LINEAGE_OPENLINEAGE_AUTH.get():
        from mlflow.tracking.request_auth.registry import fetch_auth

        auth = fetch_auth(provider)
        if auth is None:
            raise ValueError(f"MLflow has no request auth provider called {provider!r}")
    return headers, auth


def _warn(url: str, run_id: str, problem: str) -> None:
    if url not in _warned:
        _warned.add(url)
        _logger.warning(
            "The lineage of run %s could not be reported to %s (%s). The run and its record are "
            "not affected; `mlflow-pack lineage export` gives the event later.",
            run_id,
            without_secrets(url),
            problem,
        )
