"""The demo does the whole main job, and its output is the one in docs/tutorials/demo.md."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import servers

ROOT = Path(__file__).parents[2]

_CHANGING = (
    # The folder; wrapped anywhere where it is long.
    (re.compile(r"cas-file:[^`]*`"), "FOLDER`"),
    (re.compile(r"[0-9a-f]{8,64}"), "HEX"),
    (re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+Z?(\+00:00)?"), "TIME"),
    (re.compile(r"\brequest [0-9a-f]+\b", re.IGNORECASE), "request ID"),
    (re.compile(r"https?://127\.0\.0\.1:\d+"), "URL"),
    (re.compile(r"[\d,.]+%?"), "N"),
    (re.compile(r"\s+"), " "),
)


def normalised(text: str) -> str:
    """Replace what changes from run to run: digests, times, sizes; fold white space."""
    for pattern, replacement in _CHANGING:
        text = pattern.sub(replacement, text)
    return text.strip()


def run_demo(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlflow_plugins_pack.cli", "demo", *options],
        cwd=folder,
        env=servers.clean_environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_demo_does_what_the_docs_show(tmp_path: Path) -> None:
    done = run_demo("--dir", str(tmp_path / "demo"), folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert normalised(done.stdout) == normalised(_shown_in(ROOT / "docs" / "tutorials" / "demo.md"))
    assert (tmp_path / "demo" / "mlflow.db").exists()


def _shown_in(page: Path) -> str:
    return "".join(re.findall(r"```text\n(.*?)```", page.read_text(), re.DOTALL))


def test_the_readme_shows_steps_of_the_same_demo() -> None:
    shown, steps = _shown_in(ROOT / "docs" / "tutorials" / "demo.md"), _shown_in(ROOT / "README.md")
    assert all(step in shown for step in steps.split("\n\n"))
    assert "APPROVAL_REQUIRED" in steps


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("mine")
    done = run_demo("--dir", str(tmp_path), folder=tmp_path)
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


@pytest.mark.parametrize("setting", ["MLFLOW_PACK_LINEAGE_CAPTURE=none"])
def test_the_demo_ignores_the_persons_own_settings(setting: str) -> None:
    from mlflow_plugins_pack.cli.demo.site import clean_environment

    name, _, value = setting.partition("=")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(name, value)
        patch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
        environment = clean_environment(EXTRA="1")
    assert not any(key.startswith("MLFLOW_PACK") for key in environment)
    assert "MLFLOW_TRACKING_URI" not in environment
    assert environment["EXTRA"] == "1"
