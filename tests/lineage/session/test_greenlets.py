"""gevent replaces threads, locks and sockets, often after mlflow was imported."""

from __future__ import annotations

from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript


def test_reads_are_recorded_after_everything_was_patched(
    run_script: RunScript, database: str
) -> None:
    outcome = run_script(
        """
        import json, os, warnings, mlflow
        warnings.simplefilter("ignore")
        import gevent.monkey
        gevent.monkey.patch_all()
        import pandas
        ids = []
        for name in ("one", "two"):
            open(name + ".csv", "w").write("a\\\\n1\\\\n")
            with mlflow.start_run() as run:
                pandas.read_csv(name + ".csv")
                gevent.sleep(1.5)  # the worker's greenlet has its turn
                open(os.environ["DATA"] + "/" + "settings.yaml").read()
                open(name + ".out", "w").close()
            ids.append(run.info.run_id)
        print(json.dumps(ids))
        """,
        database,
    )
    for run_id, name in zip(outcome.value, ("one", "two"), strict=True):
        record = RunRecord(database, run_id)
        assert {f"{name}.csv", "settings.yaml"} <= record.inputs()
        assert f"{name}.out" in record.outputs()
