"""Switched off, the plugin leaves nothing: no hook, no tag, no request, no file."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lineage.support.scripts import RunScript
from tests.support import servers

TRAINING = """
import json, os, re, sys, mlflow, pandas
from sklearn.linear_model import LinearRegression
if WITHOUT_PACK:
    import importlib.metadata as metadata
    genuine = metadata.EntryPoints.select
    def select(self, **wanted):
        return metadata.EntryPoints(
            e for e in genuine(self, **wanted) if "plugins_pack" not in e.value)
    metadata.EntryPoints.select = select
requests_sent = []
import requests
send = requests.Session.send
def counted(self, request, **kwargs):
    place = request.url.partition("?")[0].rpartition("/api/")[2]
    requests_sent.append((request.method, re.sub(r"[0-9a-f]{32}|/\\d+/", "ID", place)))
    return send(self, request, **kwargs)
requests.Session.send = counted
import mlflow.sklearn
mlflow.set_experiment(EXPERIMENT)
mlflow.sklearn.autolog()
frame = pandas.read_csv(os.environ["DATA"] + "/cancer.csv")
y = frame.pop("target")
with mlflow.start_run() as run:
    LinearRegression().fit(frame, y)
    mlflow.log_metric("m", 1)
    with mlflow.start_run(nested=True):
        mlflow.log_text("x", "x.txt")
from mlflow_plugins_pack.lineage.session import session
state = {
    "started": session.current()._started,
    "finder": [type(f).__module__ for f in sys.meta_path if "plugins_pack" in type(f).__module__],
    "monitors": type(mlflow.tracking.fluent.run_id_to_system_metrics_monitor).__name__,
}
client = mlflow.MlflowClient()
def artifacts(run_id, path=None):
    for file in client.list_artifacts(run_id, path):
        yield file.path
        if file.is_dir: yield from artifacts(run_id, file.path)
runs = []
for found in client.search_runs([run.info.experiment_id], order_by=["start_time"]):
    ignored = ("mlflow.runName", "mlflow.source.name", "mlflow.parentRunId",
               "mlflow.log-model.history", "mlflow.modelTags")
    runs.append({
        "tags": sorted((k, v) for k, v in found.data.tags.items() if k not in ignored),
        "params": sorted(found.data.params.items()),
        "metrics": sorted(found.data.metrics.items()),
        "datasets": [(d.dataset.name, d.dataset.digest, d.dataset.source.replace(os.getcwd(), ""))
                     for d in found.inputs.dataset_inputs],
        "artifacts": sorted(artifacts(found.info.run_id)),
    })
print(json.dumps({"state": state, "runs": runs, "requests": sorted(requests_sent)}))
"""


def _run(run_script: RunScript, server: servers.MlflowServer, *, without_pack: bool) -> Any:
    code = f"WITHOUT_PACK = {without_pack}\nEXPERIMENT = 'off-{without_pack}'\n{TRAINING}"
    return run_script(code, server.url, MLFLOW_PACK_LINEAGE_ENABLED="false").value


def test_off_is_the_same_history_and_the_same_requests_as_without_the_pack(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    stock = _run(run_script, server, without_pack=True)
    off = _run(run_script, server, without_pack=False)
    assert off["state"] == {"started": False, "finder": [], "monitors": "dict"}
    assert off["runs"] == stock["runs"]
    assert len(off["runs"]) == 2
    assert off["requests"] == stock["requests"]


def test_unreadable_switch_means_off_and_says_so(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    outcome = run_script(
        """
        import json, mlflow
        with mlflow.start_run() as run: pass
        print(json.dumps(sorted(k for k in mlflow.get_run(run.info.run_id).data.tags)))
        """,
        server.url,
        warns=True,
        MLFLOW_PACK_LINEAGE_ENABLED="flase",  # codespell:ignore flase
    )
    assert not any(tag.startswith("lineage") for tag in outcome.value)
    assert outcome.output.count("expected true or false") == 1


def test_importing_the_entry_point_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, json; before = set(sys.modules)\n"
        "import mlflow_plugins_pack.lineage.plugin as p; p.LineageContextProvider()\n"
        "p.LineageFlushTick().in_context()\n"
        "print(json.dumps(sorted(m.split('.')[0] for m in set(sys.modules) - before)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    loaded = set(json.loads(done.stdout))
    heavy = {"mlflow", "boto3", "botocore", "pandas", "pyarrow", "sqlalchemy", "requests", "click"}
    assert not loaded & heavy
