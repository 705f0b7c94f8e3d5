"""The format's page and the standalone reader are right: together they read a real store."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path

from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.format import index_delta, manifest, pack, recipe
from mlflow_plugins_pack.artifacts.maintenance.gc import collect
from mlflow_plugins_pack.artifacts.store.opening import open_store
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from tests.contracts.artifact_repository import content, new_run_uri, random_bytes
from tests.support import servers
from tests.support.paths import ROOT

PROJECT = ROOT
READER = PROJECT / "examples" / "read_artifact_store.py"
PAGE = PROJECT / "docs" / "explanation" / "artifact-format.md"


def test_standalone_reader_reads_everything(tmp_path):
    store = tmp_path / "store"
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "empty").write_bytes(b"")
    (source / "small.txt").write_bytes(b"small")
    (source / "sub" / "ü %.csv").write_bytes(b"1,2,3\n" * 100_000)
    (source / "long.bin").write_bytes(random_bytes(20_000_000))
    repository = get_artifact_repository(new_run_uri(f"cas-file://{store}"))
    for number in range(40):
        (source / "changing").write_bytes(b"%d" % number)
        (source / f"held-{number:02}").write_bytes(b"%1000d" % number)
        repository.log_artifact(str(source / "changing"))
        repository.log_artifact(str(source / f"held-{number:02}"), "held")
        (source / f"held-{number:02}").unlink()
    repository.log_artifacts(str(source), "model")
    repository.delete_artifacts("model/small.txt")
    repository.log_artifact(str(source / "long.bin"), "again")
    (source / "doomed.bin").write_bytes(random_bytes(20_000_000, seed=1))
    repository.log_artifact(str(source / "doomed.bin"))
    repository.delete_artifacts("doomed.bin")
    collect(open_store(parse_location(f"cas-file://{store}")), 0)
    expected = content(repository.download_artifacts(""))
    assert set(expected) == {
        *("changing", "again/long.bin", *(f"held/held-{n:02}" for n in range(40))),
        *(f"model/{n}" for n in ("empty", "changing", "long.bin", "sub/ü %.csv")),
    }
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run(
        [sys.executable, str(READER), str(store), str(target)],
        check=True,
        timeout=120,
        env=servers.clean_environment(),
    )
    scope = target / Path(repository.artifact_uri.split("/store/")[1])
    assert content(scope) == expected


def test_reader_is_short_and_needs_nothing_of_ours():
    text = READER.read_text()
    assert len(text.splitlines()) < 100
    assert not re.search(r"^\s*(import|from)\s+(mlflow|pyfastcdc|boto3)", text, re.MULTILINE)


def test_page_shows_the_real_format(tmp_path):
    text = PAGE.read_text()
    for magic in (
        manifest.SEGMENT_MAGIC,
        recipe.RECIPE_MAGIC,
        pack.HEADER,
        pack.FOOTER_MAGIC,
        index_delta.MAGIC,
    ):
        assert f'"{magic.decode()}"' in text
    shown = json.loads(text.split("```json\n")[1].split("```")[0])
    repository = get_artifact_repository(f"cas-file://{tmp_path}/store")
    repository.log_artifacts(str(tmp_path))
    real = json.loads((tmp_path / "store/.cas/format.json").read_text())
    varying = {"store_id": "", "check": ""}
    assert {**shown, **varying} == {**real, **varying}
    others = {key: value for key, value in real.items() if key != "check"}
    said = json.dumps(others, sort_keys=True, separators=(",", ":"))
    assert real["check"] == hashlib.sha256(f".cas/format.json\0{said}".encode()).hexdigest()
    example = json.loads(text.split("```json\n")[2].split("```")[0])
    assert set(example) == {"version", "scope", "name", "writer", "operations", "packs"}
