"""A profiles file that others may write, or of the current directory, is not used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tests.auth.support.parts import (
    API,
    Profiles,
    Recorder,
    env_profile,
    get,
    write_profiles,
)


def test_the_current_directory_is_never_looked_at(
    named: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TOKEN", "planted-token-1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")
    (tmp_path / "mlflow-pack").mkdir()
    for path in ("auth.toml", "mlflow-pack/auth.toml"):
        write_profiles(tmp_path / path, env_profile(named.url))
    get(named.url)
    assert "Authorization" not in named.seen[0].headers


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_profiles_file_that_others_may_write_is_refused(
    named: Recorder, profiles: Profiles, mode: int
) -> None:
    path = profiles(f'[profile.p]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "T"\n')
    path.chmod(mode)
    with pytest.raises(MlflowException, match="chmod go-w"):
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert named.seen == []


@pytest.mark.parametrize(
    "text",
    [
        b"a = " + b"[" * 5000,
        b"a = " + b"{a=" * 5000,
        b"a." * 20_000 + b"a = 1",
        b"[" + b"a." * 20_000 + b"a]",
        b"a = " + b"9" * 5000,
        b"\xff",
        b"x" * 70_000,
    ],
    ids=lambda text: repr(text[:12]),
)
def test_a_profiles_file_that_no_parser_can_take_is_refused(
    named: Recorder, profiles: Profiles, text: bytes
) -> None:
    profiles("").write_bytes(text)
    with pytest.raises(MlflowException, match="The profiles file"):
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert named.seen == []


def test_a_profiles_file_in_a_folder_that_everybody_may_write_is_refused(
    named: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    path = write_profiles(folder / "auth.toml", "[profile]\n")
    monkeypatch.setenv("MLFLOW_PACK_AUTH_CONFIG", str(path))
    with pytest.raises(MlflowException, match="chmod o-w"):
        http_request(MlflowHostCreds(named.url), API, "GET")


@pytest.mark.parametrize("kind", ["folder", "pipe"])
@pytest.mark.parametrize("what", ["profiles", "secret"])
def test_another_thing_in_place_of_a_file_is_said_and_leaves_nothing_open(
    named: Recorder, profiles: Profiles, tmp_path: Path, kind: str, what: str
) -> None:
    odd = tmp_path / "odd"
    odd.mkdir() if kind == "folder" else os.mkfifo(odd, 0o600)
    path = profiles(f'[profile.p]\nhosts = ["{named.url}"]\nsource = "file"\nfile = "{odd}"\n')
    if what == "profiles":
        path.unlink()
        odd.rename(path)
    for number in range(3):
        before = len(os.listdir("/proc/self/fd")) if number else 1 << 20
        with pytest.raises(MlflowException, match="not a regular file"):
            http_request(MlflowHostCreds(named.url), API, "GET")
        assert len(os.listdir("/proc/self/fd")) <= before
    assert named.seen == []
