from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow.store.artifact import artifact_repository_registry as registry

from mlflow_plugins_pack.approvals.content import digest, hashing
from mlflow_plugins_pack.approvals.database.mlflow_tables import Version
from mlflow_plugins_pack.errors import DigestUnavailableError


def version(location: str | None, *, is_prompt: bool = False, has_files: bool = True) -> Version:
    return Version("default", "m", 1, "uid", "None", location, location, None, is_prompt, has_files)


def of_files(files: dict[str, bytes]) -> str:
    """The formula, written again."""
    whole = hashlib.sha256()
    for path in sorted(files, key=str.encode):
        sha = hashlib.sha256(files[path]).hexdigest()
        whole.update(f"{path}\0{len(files[path])}\0{sha}\n".encode())
    return "sha256:" + whole.hexdigest()


FILES = {"MLmodel": b"a", "data/ü b%20.bin": bytes(range(256)), "data/empty": b"", "Z": b"z"}


def write(root: Path, files: dict[str, bytes]) -> None:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)


def test_local_folders(tmp_path: Path) -> None:
    write(tmp_path, FILES)
    expected = of_files(FILES)
    for location in (str(tmp_path), tmp_path.as_uri()):
        assert digest.version_digest(version(location), {}) == expected


@pytest.mark.parametrize("change", ["content", "add", "remove", "rename"])
def test_every_change_shows(tmp_path: Path, change: str) -> None:
    write(tmp_path, FILES)
    before = digest.version_digest(version(str(tmp_path)), {})
    if change == "content":
        (tmp_path / "Z").write_bytes(b"y")
    elif change == "add":
        (tmp_path / "new").write_bytes(b"")
    elif change == "remove":
        (tmp_path / "data" / "empty").unlink()
    else:
        (tmp_path / "Z").rename(tmp_path / "Y")
    assert digest.version_digest(version(str(tmp_path)), {}) != before


def test_what_a_link_leads_to_counts(tmp_path: Path) -> None:
    write(tmp_path / "model", {"a": b"a"})
    write(tmp_path / "elsewhere", {"b": b"b"})
    (tmp_path / "model" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "model" / "loop").symlink_to(tmp_path / "model")
    model = version(str(tmp_path / "model"))
    before = digest.version_digest(model, {})
    write(tmp_path / "elsewhere", {"b": b"other"})
    assert digest.version_digest(model, {}) != before


def test_objects_on_s3_are_read(moto: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    root = moto.new_root()
    write(tmp_path, FILES)
    location = f"{root}/model"
    registry.get_artifact_repository(location).log_artifacts(str(tmp_path))
    assert digest.version_digest(version(location), {}) == of_files(FILES)
    with pytest.raises(DigestUnavailableError):
        digest.version_digest(version(f"{root}/nothing"), {})


def test_a_repository_that_knows_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    class Knowing:
        def content_digest(self, artifact_path: str | None = None) -> str:
            assert artifact_path is None
            return "sha256:known"

    monkeypatch.setattr(registry, "get_artifact_repository", lambda uri: Knowing())
    assert digest.Files(version("cas-s3://b/m")).is_quick
    assert digest.version_digest(version("cas-s3://b/m"), {}) == "sha256:known"


@pytest.mark.parametrize("location", [None, "", "/no/such/folder", "nope://x", "runs:/gone/m"])
def test_what_cannot_be_read_is_said(location: str | None, tmp_path: Path) -> None:
    with pytest.raises(DigestUnavailableError, match="no approval can be bound") as caught:
        digest.version_digest(version(location), {})
    assert caught.value.get_http_status_code() == 409
    assert not digest.Files(version(location)).is_quick


@pytest.mark.parametrize(
    ("kind", "is_quick"), [("few", True), ("many", False), ("large", False), ("pipe", False)]
)
def test_a_few_small_files_on_disk_are_read_at_once(
    tmp_path: Path, kind: str, is_quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, FILES)
    if kind == "many":
        write(tmp_path, {f"data/{number}": b"" for number in range(hashing.FEW_FILES)})
    elif kind == "large":
        write(tmp_path, {"large": bytes(hashing.FEW_BYTES)})
    elif kind == "pipe":
        os.mkfifo(tmp_path / "data" / "pipe")
    assert digest.Files(version(str(tmp_path))).is_quick is is_quick
    monkeypatch.setenv("MLFLOW_PACK_APPROVALS_DIGEST_SECONDS", "0")
    assert not digest.Files(version(str(tmp_path))).is_quick


@given(st.dictionaries(st.text(max_size=5), st.none() | st.text(max_size=5), max_size=4))
def test_prompts_are_their_content_tags(others: dict[str, str | None]) -> None:
    prompt = version("prompt-template", is_prompt=True, has_files=False)
    text = {"mlflow.prompt.text": "hello"}
    tags = {**others, **text, "mlflow.prompt.associatedRunIds": "x"}
    assert digest.version_digest(prompt, tags) == of_files({"mlflow.prompt.text": b"hello"})
    tags["mlflow.prompt.text"] = "bye"
    assert digest.version_digest(prompt, tags) != of_files({"mlflow.prompt.text": b"hello"})


def test_a_prompt_with_files_is_both(tmp_path: Path) -> None:
    write(tmp_path, {"a": b"a"})
    both = version(str(tmp_path), is_prompt=True)
    tags: dict[str, str | None] = {"mlflow.prompt.text": "hello"}
    found = digest.version_digest(both, tags)
    assert found not in (of_files({"a": b"a"}), digest.tags_digest(tags))
    write(tmp_path, {"a": b"b"})
    assert digest.version_digest(both, tags) != found
