"""One rule for the folders that the pack reads and writes outside a project."""

from __future__ import annotations

import pwd
from pathlib import Path

import pytest

from mlflow_plugins_pack import base_dirs
from mlflow_plugins_pack.artifacts.store import index_cache
from mlflow_plugins_pack.auth.profiles import paths
from mlflow_plugins_pack.lineage.delivery import local_queue
from mlflow_plugins_pack.lineage.fingerprints import hashing

VARIABLES = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")


def in_use() -> list[str]:
    """Return every base directory as its users compute it."""
    return [
        paths.user_config(),
        paths.token_folder(),
        str(local_queue.folder()),
        str(index_cache.cache_folder()),
        hashing.cache_folder(),
    ]


def test_variables_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"/base/{name}")
    assert in_use() == [
        "/base/XDG_CONFIG_HOME/mlflow-pack/auth.toml",
        "/base/XDG_STATE_HOME/mlflow-pack/auth",
        "/base/XDG_STATE_HOME/mlflow-pack/lineage",
        "/base/XDG_CACHE_HOME/mlflow-pack",
        "/base/XDG_CACHE_HOME/mlflow-pack/digests",
    ]


@pytest.mark.parametrize("value", ["", "relative", "~/base", "./base"])
def test_a_value_that_is_not_absolute_is_ignored(
    value: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in VARIABLES:
        monkeypatch.setenv(name, value)
    assert in_use() == [
        f"{tmp_path}/.config/mlflow-pack/auth.toml",
        f"{tmp_path}/.local/state/mlflow-pack/auth",
        f"{tmp_path}/.local/state/mlflow-pack/lineage",
        f"{tmp_path}/.cache/mlflow-pack",
        f"{tmp_path}/.cache/mlflow-pack/digests",
    ]


@pytest.mark.parametrize("home", [None, "relative"])
def test_without_a_home_the_current_directory_is_not_used(
    home: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    assert {base_dirs.config_dir(), base_dirs.state_dir(), base_dirs.cache_dir()} == {
        "/nonexistent/.config/mlflow-pack",
        "/nonexistent/.local/state/mlflow-pack",
        "/nonexistent/.cache/mlflow-pack",
    }
    assert paths.find_config() is None
