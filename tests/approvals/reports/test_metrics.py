"""Metrics: as Prometheus's own parser reads them, from the app and from the command."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest
import sqlalchemy as sa
import yaml
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database.tables import audit
from mlflow_plugins_pack.approvals.reports import metrics
from tests.approvals.support.review_sites import ReviewSite
from tests.support import servers
from tests.support.paths import ROOT

API = "/approvals/api/v1"
NAME = "metrics-1"


def _values(text: str) -> dict[tuple[str, ...], float]:
    """Return the values by the metric's name without our prefix, and its labels' values."""
    return {
        (sample.name.removeprefix("mlflow_pack_approvals_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def _scrape(review: ReviewSite) -> dict[tuple[str, ...], float]:
    answer = review.call("admin", "GET", f"{API}/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert answer.headers["Cache-Control"] == "no-store"
    return _values(answer.text)


def test_the_figures_follow_what_happens(review: ReviewSite) -> None:
    version = review.new_version(NAME)
    before = _scrape(review)
    body = {"model": NAME, "version": version, "target": "prod"}
    request = review.json("alice", "POST", f"{API}/requests", body)
    refused = review.call("alice", "POST", f"{API}/requests/{request['id']}/approve", json={})
    assert refused.json()["pack_code"] == "NOT_AN_APPROVER"
    after = _scrape(review)

    grown = {key: value - before.get(key, 0) for key, value in after.items()}
    assert grown["requests", "PENDING"] == 1
    assert grown["requests", "APPLIED"] == 0
    assert grown["refusals_total", "NOT_AN_APPROVER"] == 1
    assert grown["audit_entries_total",] == 2
    assert ("drift", "unapproved") in after
    assert after["digest_jobs", "running"] == 0
    assert after["webhook_deliveries", "failed"] == 0
    filed = request["created_at"] / 1000
    assert after["oldest_request_timestamp_seconds", "PENDING"] <= filed
    assert after["audit_newest_entry_timestamp_seconds",] >= filed

    command = subprocess.run(
        [sys.executable, "-m", "mlflow_plugins_pack.cli", "approvals", "metrics",
         "--registry-store-uri", f"sqlite:///{review.folder / 'mlflow.db'}"],
        env=servers.clean_environment(
            MLFLOW_PACK_APPROVALS_POLICY=str(review.folder / "policy.yaml")
        ),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert command.returncode == 0, command.stderr
    told = _values(command.stdout)
    for found in (told, after):
        for key in [key for key in found if key[0] == "drift"]:
            del found[key]  # the app looks for it at most twice a minute
    assert told == after


def test_only_admins_read_them(review: ReviewSite) -> None:
    for user, status in (("bob", 403), (None, 401)):
        answer = review.call(user, "GET", f"{API}/metrics")
        assert answer.status_code == status
        assert "mlflow_pack" not in answer.text


def test_a_refusal_is_counted_once_though_a_reading_failed() -> None:
    engine = sa.create_engine("sqlite://")
    audit.create(engine)
    entry = {"created_at": 1, "action": "REFUSED", "prev_hash": ""}
    refusals = metrics.RefusalCounts()
    with Session(engine) as session:
        for seq, after in ((1, '{"code": "SELF_APPROVAL"}'), (2, "cut off")):
            session.execute(audit.insert().values(seq=seq, after=after, hash=str(seq), **entry))
        with pytest.raises(ValueError, match="Expecting value"):
            refusals.up_to(session, 2)
        session.execute(audit.update().where(audit.c.seq == 2).values(after='{"code": "FROZEN"}'))
        for _ in range(2):
            assert refusals.up_to(session, 2) == {"SELF_APPROVAL": 1, "FROZEN": 1}
    engine.dispose()


def test_the_example_asks_for_metrics_that_exist() -> None:
    figures = metrics.Figures(
        requests={"PENDING": (1, 1)}, events={"pending": (1, 1)}, digest_jobs={},
        refusals={"SELF_APPROVAL": 1}, audit_entries=1, audit_written_at=1, drift={},
    )  # fmt: skip
    exported = {
        f"mlflow_pack_approvals_{key[0]}" for key in _values(metrics.as_text(figures).decode())
    }
    monitoring = ROOT / "examples" / "team-server" / "monitoring"
    rules = yaml.safe_load((monitoring / "alerts.yaml").read_text())["groups"][0]["rules"]
    panels = json.loads((monitoring / "grafana-dashboard.json").read_text())["panels"]
    asked = [rule["expr"] for rule in rules]
    asked += [target["expr"] for panel in panels for target in panel["targets"]]
    named = set(re.findall(r"mlflow_pack_\w+", " ".join(asked)))
    assert named <= exported
    assert exported - named == {"mlflow_pack_approvals_audit_newest_entry_timestamp_seconds"}
    page = (ROOT / "docs" / "how-to" / "approvals" / "monitor.md").read_text()
    described = set(re.findall(r"^\| `(\w+)", page, re.MULTILINE))
    assert {f"mlflow_pack_approvals_{name}" for name in described} == exported
