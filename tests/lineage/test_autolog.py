"""Autologged trainings and hyper-parameter searches: the demo's and most people's main case."""

from __future__ import annotations

import json

import pytest

from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


@pytest.mark.parametrize("store", ["http", pytest.param("sqlite", marks=pytest.mark.nightly)])
def test_search_its_children_and_its_model(
    run_script: RunScript, server: servers.MlflowServer, database: str, store: str
) -> None:
    tracking_uri = server.url if store == "http" else database
    outcome = run_script(
        """
        import json, os, pathlib, mlflow, pandas
        from sklearn.ensemble import RandomForestClassifier
        from sklearn.model_selection import GridSearchCV
        mlflow.sklearn.autolog(log_input_examples=True)
        data = os.environ["DATA"]
        train = pandas.read_csv(data + "/cancer.csv")
        extra = pandas.read_parquet(data + "/cancer.parquet")
        y = train.pop("target")
        search = GridSearchCV(RandomForestClassifier(n_estimators=3), {"max_depth": [2, 3]}, cv=2)
        search.fit(train, y)                      # autolog's own run
        own = mlflow.last_active_run().info.run_id
        with mlflow.start_run() as run:           # the person's run
            search.fit(train, y)
            best = search.best_estimator_
            mlflow.sklearn.log_model(best, name="best", serialization_format="cloudpickle")
        print(json.dumps([own, run.info.run_id]))
        """,
        tracking_uri,
        timeout=200,
    )
    both = {"cancer.csv", "cancer.parquet"}
    for run_id in outcome.value:
        record = RunRecord(tracking_uri, run_id)
        assert record.inputs() == both
        assert set(record.datasets()) == both
        children = record.client.search_runs(
            [record.run.info.experiment_id], f"tags.`mlflow.parentRunId` = '{run_id}'"
        )
        assert len(children) == 2
        for child in children:
            assert RunRecord(tracking_uri, child.info.run_id).inputs() == both
            assert child.data.tags["lineage.digest"] == record.tags["digest"]
        models = record.client.search_logged_models(
            [record.run.info.experiment_id], filter_string=f"source_run_id = '{run_id}'"
        )
        assert models
        for model in models:
            assert model.tags["lineage.digest"] == record.tags["digest"]
            assert json.loads(model.tags["lineage.inputs"])
    autologged = {
        i.dataset.source for i in record.run.inputs.dataset_inputs if i.dataset.name == "dataset"
    }
    assert not any("lineage.inputs" in source for source in autologged)


def test_logged_models_own_files_are_not_the_runs_data(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    outcome = run_script(
        """
        import json, os, mlflow, numpy
        from sklearn.linear_model import LinearRegression
        numbers = numpy.load(os.environ["DATA"] + "/cancer.npy")
        with mlflow.start_run() as run:
            model = LinearRegression().fit(numbers[:, :-1], numbers[:, -1])
            info = mlflow.sklearn.log_model(
                model, name="line", input_example=numbers[:2, :-1], registered_model_name="line")
            mlflow.pyfunc.load_model(info.model_uri).predict(numbers[:1, :-1])
        print(json.dumps(run.info.run_id))
        """,
        server.url,
    )
    record = RunRecord(server.url, outcome.value)
    assert record.inputs() == {"cancer.npy"}
    assert record.outputs() == set()
