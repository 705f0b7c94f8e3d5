"""Programs in any language, run for a run: which files they open; nothing else changes."""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mlflow
import pytest

from mlflow_plugins_pack.lineage.capture.programs import seccomp
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers

try:
    seccomp.machine()
    _WHY_NOT = ""
except seccomp.UnavailableError as exc:
    _WHY_NOT = str(exc)

pytestmark = pytest.mark.skipif(bool(_WHY_NOT), reason=_WHY_NOT)

PREPARE = """
import json, os, shutil, sqlite3, subprocess, sys, mlflow
from mlflow_plugins_pack import lineage
mlflow.set_experiment("programs")
def run(*words, **options):
    with mlflow.start_run() as started:
        code = lineage.run_program(words, **options)
    return started.info.run_id, code
"""

JAVA = """
import java.nio.file.*;
public class Copy {
    public static void main(String[] a) throws Exception {
        Files.write(Path.of(a[1]), Files.readAllBytes(Path.of(a[0])));
    }
}
"""

RELATIVE = """
import os
folder = os.open("sub", os.O_RDONLY)
os.read(os.open("deep.csv", os.O_RDONLY, dir_fd=folder), 9)
os.rename("deep.csv", "moved.csv", src_dir_fd=folder, dst_dir_fd=folder)
"""

TO_SQLITE = "create table t (a); insert into t values (1);"

# What is run, the inputs, the outputs.
PROGRAMS: dict[str, tuple[list[str], set[str], set[str]]] = {
    "gzip": (["gzip", "-k", "raw.csv"], {"raw.csv"}, {"raw.csv.gz"}),
    "awk": (
        ["sh", "-c", "awk '{print $1 * 2}' raw.csv > part.$$ && mv part.$$ doubled.csv"],
        {"raw.csv"},
        {"doubled.csv"},
    ),
    "cd": (
        ["sh", "-c", "cd sub && sort -r deep.csv > ../sorted.csv"],
        {"deep.csv"},
        {"sorted.csv"},
    ),
    "perl": (["perl", "-pe", "s/1/2/", "raw.csv"], {"raw.csv"}, set()),
    "sqlite3": (["sqlite3", "made.db", TO_SQLITE], set(), {"made.db"}),
    "java": (
        ["java", "Copy.java", "raw.csv", "copied.csv"],
        {"Copy.java", "raw.csv"},
        {"copied.csv"},
    ),
    "git": (["git", "diff", "--no-index", "raw.csv", "other.csv"], {"raw.csv", "other.csv"}, set()),
    "make": (["make", "-s"], {"Makefile", "raw.csv"}, {"made.txt"}),
    "gcc": (["gcc", "-static", "-o", "read", "read.c"], {"read.c"}, {"read"}),
    "folder": (
        [
            sys.executable,
            "-ISc",
            RELATIVE,
        ],
        {"deep.csv"},
        {"moved.csv"},
    ),
    "forks": (
        ["sh", "-c", "for i in $(seq 100); do cat raw.csv > /dev/null; done"],
        {"raw.csv"},
        set(),
    ),
}
_TOOLS = {"cd": "sort", "forks": "sh", "folder": "sh"}


@pytest.fixture(autouse=True)
def data(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("raw.csv", "sub/deep.csv", "other.csv"):
        (tmp_path / name).write_text("".join(f"{number}\n" for number in range(2000)))


def test_programs_in_any_language(run_script: RunScript, database: str, tmp_path: Path) -> None:
    (tmp_path / "Copy.java").write_text(JAVA)
    (tmp_path / "Makefile").write_text("made.txt: raw.csv\n\tcut -c1 raw.csv > made.txt\n")
    (tmp_path / "read.c").write_text('#include <stdio.h>\nint main() { return puts("x") < 0; }\n')
    wanted = {name: words for name, (words, _, _) in PROGRAMS.items() if _has(name)}
    assert len(wanted) >= 6
    outcome = run_script(
        PREPARE
        + """
wanted = json.loads(os.environ["WANTED"]).items()
print(json.dumps({name: run(*words, stdout=subprocess.DEVNULL) for name, words in wanted}))
""",
        database,
        WANTED=json.dumps(wanted),
    )
    for name, (run_id, code) in outcome.value.items():
        record = RunRecord(database, run_id)
        assert code == 0, name
        assert record.own() == PROGRAMS[name][1], name
        assert record.outputs() == PROGRAMS[name][2], name
        assert json.loads(record.tags["coverage"])["complete"], name


def _has(name: str) -> bool:
    return shutil.which(_TOOLS.get(name, name)) is not None


def test_what_cannot_be_seen_is_said_and_harms_nobody(
    run_script: RunScript, database: str, tmp_path: Path
) -> None:
    """A service left behind, an observer that is killed, one that fails, a program in a program."""
    moved = "read first < other.csv; exec unshare -rm cat raw.csv"
    tried = subprocess.run(["sh", "-c", moved], cwd=tmp_path, capture_output=True, check=False)
    outcome = run_script(
        PREPARE
        + """
import threading, time
from mlflow_plugins_pack.lineage.session import program
found = {}
found["missing"] = run("nonesuch")
found["killed itself"] = run("sh", "-c", "kill -9 $$")
def quietly(*words):
    return run(*words, stdout=subprocess.DEVNULL)
if moved := os.environ["MOVED"]:
    found["moved"] = quietly("sh", "-c", moved)
found["left"] = quietly("sh", "-c", "(sleep 1; cat raw.csv > late.txt) & cat other.csv")
while not (os.path.exists("late.txt") and os.path.getsize("late.txt")):
    time.sleep(0.1)

def kill_observers():
    own = f"^[^ ]+ -I -S -c.*programs.supervisor.*mlflow-pack-lineage-{os.getpid()}-"
    while not os.path.isdir("begun"):
        time.sleep(0.05)
    for _ in range(3):
        subprocess.run(["pkill", "-KILL", "-f", own])
        time.sleep(0.4)
killer = threading.Thread(target=kill_observers)
killer.start()
slow = "for i in $(seq 300); do cat raw.csv; mkdir -p begun; sleep 0.01; done; exit 5"
found["killed"] = quietly("sh", "-c", slow)
killer.join()

start = program._START
program._START = start.replace("main(sys.argv[1:])", "")+ '''
from mlflow_plugins_pack.lineage.capture.programs import supervisor
supervisor.Report.look = lambda *arguments: 1 / 0
main(sys.argv[1:])
'''
found["fails"] = quietly("cat", "raw.csv")
program._START = "import sys; sys.exit(1)"
found["silent"] = quietly("cat", "raw.csv")
program._START = start
inner = '''
import mlflow
from mlflow_plugins_pack import lineage
with mlflow.start_run():
    lineage.run_program(["cat", "sub/deep.csv"])
'''
found["inner"] = quietly(sys.executable, "-c", inner)

def elsewhere():
    raise program.seccomp.UnavailableError("this system is not Linux")
program.seccomp.machine = elsewhere
del os.memfd_create
found["elsewhere"] = quietly("sort", "raw.csv")
print(json.dumps(found))
""",
        database,
        MOVED="" if tried.returncode else moved,
        warns=True,
    )
    found = outcome.value
    if not tried.returncode:  # the system lets a process have other mounts
        run_id, code = found.pop("moved")
        record = RunRecord(database, run_id)
        assert (code, record.own()) == (0, {"other.csv"})
        assert json.loads(record.tags["coverage"])["programs"] == ["sh"]
    codes = {name: code for name, (_, code) in found.items()}
    assert codes == {
        "left": 0, "killed": 5, "fails": 0, "silent": 0, "inner": 0, "missing": 127, "elsewhere": 0,
        "killed itself": -9,
    }  # fmt: skip
    records = {name: RunRecord(database, run_id) for name, (run_id, _) in found.items()}
    assert records["left"].own() == {"other.csv"}
    assert records["killed"].own() == {"raw.csv"}
    assert records["inner"].own() == {"deep.csv"}  # only the outer one could be asked for it
    # Of the process, not of the run: what is noted once stays.
    lacking = {
        name: sorted({*json.loads(r.tags["coverage"]).get("programs", [])} - {"pkill"})
        for name, r in records.items()
    }
    assert lacking == {
        "missing": [], "killed itself": [], "left": ["sh"], "killed": ["sh"],
        "fails": ["cat", "sh"], "silent": ["cat", "sh"], "inner": ["cat", "sh"],
        "elsewhere": ["cat", "sh", "sort"],
    }  # fmt: skip
    assert "another program observes this process already" in outcome.output
    assert "this system is not Linux" in outcome.output


# --- mlflow-pack lineage run ----------------------------------------------------------------------


def lineage_run(*arguments: str, folder: Path, database: str, **options: Any) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "mlflow_plugins_pack.cli", "lineage", "run", *arguments],
        cwd=folder,
        # Who starts the tests in the background may have set it to be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        env=servers.clean_environment(
            MLFLOW_TRACKING_URI=database,
            MLFLOW_EXPERIMENT_NAME=folder.name,
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="1",
        ),
        **options,
    )


def only_run(database: str, folder: Path) -> RunRecord:
    client = mlflow.MlflowClient(database)
    experiment = client.get_experiment_by_name(folder.name)
    (run,) = client.search_runs([experiment.experiment_id])
    return RunRecord(database, run.info.run_id)


def test_a_run_of_a_command_is_the_command(tmp_path: Path, database: str) -> None:
    """Its output and environment, its exit code, and files that the shell opened for it."""
    with (tmp_path / "raw.csv").open() as source, (tmp_path / "out.csv").open("w") as target:
        process = lineage_run(
            "--", "sh", "-c", "sort -n; env | grep MLFLOW_ > env.txt; exit 7",
            folder=tmp_path, database=database, stdin=source, stdout=target, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        _, said = process.communicate(timeout=120)
    assert process.returncode == 7
    record = only_run(database, tmp_path)
    assert said.splitlines()[-1] == f"mlflow-pack: recorded in run {record.run.info.run_id}."
    assert (tmp_path / "out.csv").read_text().splitlines() == [str(n) for n in range(2000)]
    assert record.status == "FAILED"
    assert record.own() == {"raw.csv"}
    assert record.outputs() == {"out.csv", "env.txt"}
    known = {line.partition("=")[0] for line in (tmp_path / "env.txt").read_text().splitlines()}
    assert "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT" not in known


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_command(tmp_path: Path, database: str, number: int) -> None:
    """One that it handles, and one that ends it."""
    handles = (
        "trap 'cat raw.csv > caught.csv; exit 9' TERM; echo ready; while :; do sleep 0.1; done"
    )
    dies = "import os; os.read(os.open('raw.csv', 0), 9); print('ready', flush=True); os.read(0, 1)"
    command = {signal.SIGTERM: ("sh", "-c", handles), signal.SIGINT: (sys.executable, "-c", dies)}
    process = lineage_run(
        "-q", "--", *command[signal.Signals(number)], folder=tmp_path, database=database,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    process.wait(timeout=60)  # not communicate, which first ends the program's input
    process.communicate()
    record = only_run(database, tmp_path)
    assert record.own() == {"raw.csv"}
    if number == signal.SIGTERM:
        assert (process.returncode, record.status) == (9, "FAILED")
        assert record.outputs() == {"caught.csv"}
    else:
        assert (process.returncode, record.status) == (-signal.SIGINT, "KILLED")


def test_the_command_has_the_terminal(tmp_path: Path, database: str) -> None:
    ask = "import os; print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp(), input('name: '))"
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.environ["MLFLOW_TRACKING_URI"] = database
        command = [sys.executable, "-m", "mlflow_plugins_pack.cli", "lineage", "run", "-q", "--"]
        os.execv(sys.executable, [*command, sys.executable, "-c", ask])
    seen = b""
    deadline = time.monotonic() + 60
    while b"name: " not in seen and time.monotonic() < deadline:
        seen += os.read(terminal, 1000)
    os.write(terminal, b"Ada\n")
    try:
        while data := os.read(terminal, 1000):
            seen += data
    except OSError:  # Linux says so at the end of a terminal
        pass
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
    assert b"True True Ada" in seen


def test_the_command_runs_even_if_no_server_answers(tmp_path: Path) -> None:
    process = lineage_run(
        "--", "sh", "-c", "echo done; exit 3", folder=tmp_path, database="http://127.0.0.1:9",
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    output, said = process.communicate(timeout=120)
    assert (process.returncode, output) == (3, "done\n")
    assert "nothing is recorded" in said
