"""``mlflow-pack approvals``: the group, assembled from the modules next to it."""

from __future__ import annotations

import click

from mlflow_plugins_pack.cli.approvals.audit import audit, drift, metrics
from mlflow_plugins_pack.cli.approvals.db import db
from mlflow_plugins_pack.cli.approvals.events import events
from mlflow_plugins_pack.cli.approvals.guards import guards
from mlflow_plugins_pack.cli.approvals.pipeline import apply, verify, wait
from mlflow_plugins_pack.cli.approvals.policy import policy
from mlflow_plugins_pack.cli.approvals.requests import comments, list_requests, show
from mlflow_plugins_pack.cli.approvals.reviews import REVIEW_COMMANDS


@click.group()
def approvals() -> None:
    """Review and promote versions."""


for _command in (
    list_requests,
    show,
    comments,
    *REVIEW_COMMANDS,
    wait,
    apply,
    verify,
    audit,
    drift,
    metrics,
    policy,
    db,
    events,
    guards,
):
    approvals.add_command(_command)
