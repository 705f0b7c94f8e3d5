"""What a program uses and no layer sees: libraries by who imports them, programs by their names."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mlflow_plugins_pack.lineage.building.coverage import coverage
from mlflow_plugins_pack.lineage.capture import mentions, own_code, usage
from mlflow_plugins_pack.lineage.capture.libraries.table import LAYERS, NOT_SEEN_INTO, SEEN_INTO
from mlflow_plugins_pack.lineage.capture.observing.observe import unobserved
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript


@pytest.fixture(autouse=True)
def nothing_used(monkeypatch: pytest.MonkeyPatch) -> None:
    # What other tests of this process have loaded is watched, and so not this program's.
    libraries = {*NOT_SEEN_INTO, *SEEN_INTO, *(name.partition(".")[0] for name in unobserved)}
    monkeypatch.setattr(usage, "watched", libraries)
    for name in ("_programs", "_imported_by_user", "_loaded_before"):
        monkeypatch.setattr(usage, name, type(getattr(usage, name))())
    # The program is a test runner, whose text is not what is tested.
    monkeypatch.setattr(own_code, "texts", list)
    monkeypatch.setattr(mentions, "_began", [])


@pytest.mark.parametrize(
    ("event", "arguments", "name"),
    [
        ("subprocess.Popen", ("/usr/bin/Rscript", ["Rscript", "train.R"], None, None), "Rscript"),
        ("subprocess.Popen", ("/bin/sh", ["/bin/sh", "-c", "java -jar x"], None, None), "java"),
        ("subprocess.Popen", (b"/usr/bin/dbt", [b"dbt", b"run"], None, None), "dbt"),
        ("subprocess.Popen", ("git", ["git", "status"], None, None), None),
        ("os.system", ("spark-submit job.py --password=x",), "spark-submit"),
        ("os.posix_spawn", ("/usr/bin/julia", ["julia", "x.jl"], {}), "julia"),
        ("os.spawn", (0, "/usr/bin/julia", ["julia", "x.jl"], {}), "julia"),
    ],
)
def test_of_a_program_only_the_name_is_kept(event: str, arguments: Any, name: str | None) -> None:
    usage.note_program(event, arguments, None)
    assert usage.unseen_programs(0) == ([name] if name else [])
    assert coverage(LAYERS)["complete"] is (name is None)


def test_python_programs_count_unless_each_says_that_it_captures() -> None:
    for _ in range(2):
        usage.note_program("subprocess.Popen", ("python3", ["python3", "x.py"], None, None), None)
    assert usage.unseen_programs(1) == ["python3"]
    assert usage.unseen_programs(2) == []


def test_what_a_record_lacks_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert coverage(LAYERS) == {"layers": list(LAYERS), "complete": True}
    assert coverage(LAYERS, applies="partly")["applies"] == "partly"
    assert not coverage(LAYERS, unchecked=True)["complete"]
    assert not coverage(LAYERS[1:])["complete"]
    monkeypatch.setenv("WORLD_SIZE", "8")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    assert coverage(LAYERS)["complete"]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert coverage(LAYERS) == {"layers": list(LAYERS), "complete": False, "other_hosts": True}


def test_coverage_of_real_programs(run_script: RunScript, database: str) -> None:
    outcome = run_script(
        """
        import json, os, pathlib, subprocess, sys
        pathlib.Path("ray.py").write_text("")
        pathlib.Path("site-packages/library").mkdir(parents=True)
        pathlib.Path("site-packages/library/__init__.py").write_text("import catboost")
        pathlib.Path("catboost.py").write_text("")
        sys.path.append("site-packages")
        import mlflow
        ids = []
        def run(*commands, library=None):
            with mlflow.start_run() as run:
                for command in commands:
                    subprocess.run(command, check=True)
                if library:
                    __import__(library)
            ids.append(run.info.run_id)
        run(["git", "--version"])
        run([sys.executable, "-c", "import mlflow"])
        run([sys.executable, "-c", "1"])
        run(["sort", "ray.py"])
        run(library="ray")
        run(library="library")
        print(json.dumps(ids))
        """,
        database,
    )
    found = [json.loads(RunRecord(database, run_id).tags["coverage"]) for run_id in outcome.value]
    assert [one["complete"] for one in found] == [True, True, False, False, False, False]
    assert "blind" not in found[3]
    assert "sort" in found[3]["programs"]
    assert [one["blind"] for one in found[4:]] == [["ray"], ["catboost", "ray"]]
