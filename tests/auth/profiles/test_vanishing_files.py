"""A profiles file that is gone for a moment, as while an editor saves it, signs no one out."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.auth import manager
from tests.auth.support.parts import SECRET, Profiles, Recorder, env_profile, get, write_profiles


@pytest.fixture
def config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The person's own profiles file, at the default place; it does not exist yet."""
    monkeypatch.delenv("MLFLOW_PACK_AUTH_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TOKEN", SECRET)
    (tmp_path / "config" / "mlflow-pack").mkdir(parents=True)
    return tmp_path / "config" / "mlflow-pack" / "auth.toml"


@pytest.mark.parametrize("gone", ["renamed", "emptied"])
def test_a_file_that_comes_back_is_waited_for(named: Recorder, config: Path, gone: str) -> None:
    text = env_profile(named.url)
    write_profiles(config, text)
    get(named.url)
    if gone == "renamed":
        config.rename(config.with_suffix(".backup"))
    else:
        config.write_text("")
    back = threading.Timer(0.1, write_profiles, (config, text))
    back.start()
    get(named.url)
    back.join()
    assert [seen.has(SECRET) for seen in named.seen] == [True, True]


def test_a_file_that_stays_away_sends_nothing(
    named: Recorder, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager, "_REWRITE_SECONDS", 0.1)
    write_profiles(config, env_profile(named.url))
    get(named.url)
    config.unlink()
    for _ in range(2):
        with pytest.raises(MlflowException, match="cannot be read"):
            get(named.url)
    assert len(named.seen) == 1
    write_profiles(config, env_profile(named.url))
    get(named.url)
    assert [seen.has(SECRET) for seen in named.seen] == [True, True]


def test_the_same_for_a_file_that_the_environment_names(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    path = profiles(env_profile(named.url))
    get(named.url)
    path.unlink()
    back = threading.Timer(0.1, write_profiles, (path, env_profile(named.url)))
    back.start()
    get(named.url)
    back.join()
    assert [seen.has(SECRET) for seen in named.seen] == [True, True]


def test_without_a_file_ever_nothing_changes(named: Recorder, config: Path) -> None:
    assert get(named.url).status_code == 200
    assert not config.exists()
