"""Two runs that end at the same time and read the same file both get their record."""

from __future__ import annotations

import uuid

import mlflow
import sqlalchemy
from mlflow.store.tracking.dbmodels.models import SqlDataset
from sqlalchemy.orm import Session

from mlflow_plugins_pack.lineage.delivery import writer
from mlflow_plugins_pack.lineage.document.graph import DATA, Entry, Graph
from tests.lineage.support.reading import RunRecord


def test_another_run_logs_the_same_dataset_in_between(database: str) -> None:
    client = mlflow.MlflowClient(database)
    first, other = (client.create_run("0").info.run_id for _ in range(2))
    digest = f"sha256:{uuid.uuid4().hex * 2}"
    graph = Graph(inputs=(Entry("file:///data/train.csv", digest, 1, 1, role=DATA),))
    met = []

    def before_flush(session: Session, *_: object) -> None:
        # MLflow has looked for the dataset, did not find it, and is about to insert it.
        if not met and any(isinstance(new, SqlDataset) for new in session.new):
            met.append(True)
            writer.write(other, graph, tracking_uri=database, base=Graph())

    sqlalchemy.event.listen(Session, "before_flush", before_flush)
    try:
        writer.write(first, graph, tracking_uri=database, base=Graph())
    finally:
        sqlalchemy.event.remove(Session, "before_flush", before_flush)
    assert met
    for run_id in (first, other):
        assert list(RunRecord(database, run_id).datasets().values()) == [digest[7:43]]
