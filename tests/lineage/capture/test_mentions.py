"""What the program's own text shows to be unseen: data read too early, standard input, methods."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mlflow_plugins_pack.lineage.capture import mentions
from tests.support import servers

MENTIONS = """
from mlflow_plugins_pack.lineage.building.coverage import coverage
from mlflow_plugins_pack.lineage.capture.libraries.table import LAYERS
from mlflow_plugins_pack.lineage.session import session
{before}
session.start()
{after}
print(sorted(coverage(LAYERS).get("blind", ())))
"""


def blind_of(code: str, folder: Path, **given: object) -> list[str]:
    """Return what a program's coverage names, whose capture begins at a line of it."""
    script = folder / "train.py"
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=servers.clean_environment(),
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
        **{"stdin": subprocess.DEVNULL, **given},  # type: ignore[call-overload]
    )
    found: list[str] = json.loads(done.stdout.splitlines()[-1].replace("'", '"'))
    return found


@pytest.mark.parametrize(
    ("before", "reads"),
    [
        ("import os\nos.environ.get('X')", False),
        ("text = open(__file__).read()", True),
        ("open('x', 'w')\nopen('x', mode='a')", False),
        ("import pathlib\npathlib.Path(__file__).read_text()", True),
        ("def prepare():\n    return open(__file__).read()", False),
        ("def prepare():\n    return open(__file__).read()\nprepare()", True),
        ("def load_dotenv():\n    pass\nload_dotenv()", False),
        ("class Data:\n    frame = pandas.read_csv('x')", True),
        ("not python (", False),
    ],
)
def test_what_is_read_before_a_line(before: str, reads: bool) -> None:
    count = before.count("\n") + 1
    assert mentions.reads_before(f"{before}\nimport mlflow\nopen('x')", 0, count + 1) is reads


def test_what_a_function_reads_before_a_line() -> None:
    text = "open('x')\n@decorated\ndef main():\n    open('x')\n    import mlflow\n    open('x')"
    assert mentions.reads_before(text, 2, 5)
    assert not mentions.reads_before(text, 2, 4)


def test_the_line_where_the_capture_begins(tmp_path: Path) -> None:
    code = MENTIONS.format(before="open(__file__)", after="")
    assert blind_of(code, tmp_path) == [mentions.BEFORE_IMPORT]
    code = MENTIONS.format(before="", after="open(__file__)")
    assert blind_of(code, tmp_path) == []


def test_standard_input_folders_descriptors_and_own_imports(tmp_path: Path) -> None:
    code = "import sys, os\nsys.stdin.read()\nos.open('.', 0, dir_fd=os.open('.', 0))\n"
    code += "import ctypes, numpy.ctypeslib\n"
    found = blind_of(MENTIONS.format(before="", after=code), tmp_path)
    assert found == ["ctypes"]
    code += "os.close(os.open('.', 0, **{'dir_fd': None}))"
    code = MENTIONS.format(before="", after=code)
    assert blind_of(code, tmp_path) == ["ctypes", "dir_fd"]
    with (tmp_path / "train.py").open() as file:
        assert mentions.STANDARD_INPUT in blind_of(code, tmp_path, stdin=file)
