"""Figures for Prometheus, read from the database when they are asked for.

They are the same whichever server process is asked, and nothing is counted between two questions.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.background.drift import DriftFinding, DriftKind
from mlflow_plugins_pack.approvals.content import digest_jobs as jobs
from mlflow_plugins_pack.approvals.database.tables import (
    audit,
    audit_head,
    digest_jobs,
    outbox,
    requests,
)
from mlflow_plugins_pack.approvals.domain.request_states import State
from mlflow_plugins_pack.approvals.webhooks import outbox as deliveries
from mlflow_plugins_pack.errors import ConfigurationError

if TYPE_CHECKING:
    from prometheus_client import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of the text format, https://prometheus.io/docs/instrumenting/exposition_formats/."""

_PREFIX = "mlflow_pack_approvals_"


@dataclass(frozen=True)
class Figures:
    """What is exported; times are in milliseconds since the epoch.

    Attributes:
        requests: Count and time of the oldest, by the request's state.
        events: The same for webhook deliveries.
        digest_jobs: The same for digests that are computed in the background.
        refusals: Entries of refusals in the audit log, by their code.
        audit_entries: Entries of the audit log.
        audit_written_at: When the newest was written; None: there is none.
        drift: Count of differences from what was approved, by kind.
    """

    requests: Mapping[str, tuple[int, int]]
    events: Mapping[str, tuple[int, int]]
    digest_jobs: Mapping[str, tuple[int, int]]
    refusals: Mapping[str, int]
    audit_entries: int
    audit_written_at: int | None
    drift: Mapping[str, int]


@dataclass
class RefusalCounts:
    """Counts refusals by code; reads only the entries that it has not read before."""

    _counts: Counter[str] = field(default_factory=Counter)
    _read_to: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def up_to(self, session: Session, head: int) -> Mapping[str, int]:
        """Return the counts of the entries up to a number."""
        with self._lock:
            query = sa.select(audit.c.after).where(
                audit.c.seq > self._read_to, audit.c.seq <= head, audit.c.action == "REFUSED"
            )
            # Refusals come one at a time; there are many only the first time. None is added before
            # all are read: a reading that fails is repeated.
            added = Counter(
                str(json.loads(after or "{}").get("code", ""))
                for (after,) in session.execute(query.execution_options(yield_per=1000))
            )
            self._counts += added
            self._read_to = max(self._read_to, head)
            return dict(self._counts)


def read(session: Session, refusals: RefusalCounts, drift: Iterable[DriftFinding]) -> Figures:
    """Read the figures, with as many statements however much there is.

    Args:
        session: To read with.
        refusals: What has been counted before.
        drift: The differences from what was approved; finding them takes longer.
    """
    head = session.execute(sa.select(audit_head.c.seq)).scalar() or 0
    return Figures(
        requests=_by_state(session, requests, since=requests.c.created_at),
        events=_by_state(session, outbox, since=outbox.c.created_at),
        digest_jobs=_by_state(session, digest_jobs, since=digest_jobs.c.started_at),
        refusals=refusals.up_to(session, head),
        audit_entries=head,
        audit_written_at=session.execute(
            sa.select(audit.c.created_at).where(audit.c.seq == head)
        ).scalar(),
        drift=Counter(finding.kind.value for finding in drift),
    )


def _by_state(
    session: Session, table: sa.Table, since: sa.Column[int]
) -> dict[str, tuple[int, int]]:
    query = sa.select(table.c.state, sa.func.count(), sa.func.min(since)).group_by(table.c.state)
    return {state: (count, oldest) for state, count, oldest in session.execute(query)}


def as_text(figures: Figures) -> bytes:
    """Write figures in Prometheus's text format.

    Raises:
        ConfigurationError: If prometheus-client is not installed.
    """
    try:
        from prometheus_client import CollectorRegistry, generate_latest
    except ImportError as exc:
        raise ConfigurationError(
            "Metrics need the package prometheus-client, which is not installed. Nothing was "
            "read. Run `pip install 'mlflow-plugins-pack[metrics]'` where the server runs."
        ) from exc

    class _Collector:
        def collect(self) -> Iterator[Metric]:
            return _families(figures)

    registry = CollectorRegistry()
    registry.register(_Collector())
    text: bytes = generate_latest(registry)
    return text


def _families(figures: Figures) -> Iterator[Metric]:
    """Return the metrics; a state or kind that has nothing is 0, so that alerts see it."""
    yield _gauge("requests", "Requests by state.", "state", _counts(figures.requests, _STATES))
    yield _gauge(
        "oldest_request_timestamp_seconds",
        "When the oldest open request was filed, by state.",
        "state",
        {
            state: oldest / 1000
            for state, (_, oldest) in figures.requests.items()
            if State(state).is_open
        },
    )
    yield _gauge(
        "webhook_deliveries",
        "Webhook deliveries by state; delivered ones are deleted after some days.",
        "state",
        _counts(figures.events, _DELIVERY_STATES),
    )
    yield _gauge(
        "oldest_webhook_delivery_timestamp_seconds",
        "When the oldest event that is not delivered came about, by state.",
        "state",
        {
            state: oldest / 1000
            for state, (_, oldest) in figures.events.items()
            if state != deliveries.DELIVERED
        },
    )
    yield _gauge(
        "digest_jobs",
        "Digests of large versions that are computed in the background, by state.",
        "state",
        _counts(figures.digest_jobs, _JOB_STATES),
    )
    yield _gauge(
        "drift",
        "Protected targets that differ from what was approved, by kind.",
        "kind",
        {kind.value: figures.drift.get(kind.value, 0) for kind in DriftKind},
    )
    yield _counter("refusals", "Refused changes in the audit log, by code.", figures.refusals)
    yield _counter("audit_entries", "Entries of the audit log.", figures.audit_entries)
    if figures.audit_written_at is not None:
        yield _gauge(
            "audit_newest_entry_timestamp_seconds",
            "When the newest entry of the audit log was written.",
            None,
            {"": figures.audit_written_at / 1000},
        )


_STATES = [state.value for state in State]
_DELIVERY_STATES = [deliveries.PENDING, deliveries.DELIVERED, deliveries.FAILED]
_JOB_STATES = [jobs.RUNNING, jobs.DONE, jobs.FAILED]


def _counts(found: Mapping[str, tuple[int, int]], states: Iterable[str]) -> dict[str, float]:
    return {state: found[state][0] if state in found else 0 for state in states}


def _gauge(name: str, meaning: str, label: str | None, values: Mapping[str, float]) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(_PREFIX + name, meaning, labels=[label] if label else [])
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def _counter(name: str, meaning: str, values: Mapping[str, int] | int) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    if isinstance(values, int):
        return CounterMetricFamily(_PREFIX + name, meaning, value=values)
    family = CounterMetricFamily(_PREFIX + name, meaning, labels=["code"])
    for code, value in values.items():
        family.add_metric([code], value)
    return family
