"""What a server names is opened only if a person named it, and no credential goes astray."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlflow_plugins_pack.errors import AuthConflictError, ConfigurationError, StorageNotNamedError
from mlflow_plugins_pack.shipping.ends import End, check_credentials, end_of

DEV, PROD = End("https://dev.example.com"), End("https://prod.example.com/mlflow/")


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts:/1/m-1/artifacts",
        "https://dev.example.com/api/2.0/mlflow-artifacts/artifacts/1",
        "s3://named/root/1/m-1/artifacts",
        "cas-s3://named/root",
        "cas-file:/srv/named/1",
        "cas-file:///srv/named/1",
        "file:///srv/named/1",
        "/srv/named/1",
    ],
)
def test_named_places_are_opened(location: str) -> None:
    storage = ("s3://named/root/", "cas-s3://named/root", "cas-file:///srv/named", "/srv/named")
    End("https://dev.example.com", storage=storage).check(location)


@pytest.mark.parametrize(
    "location",
    [
        "mlflow-artifacts://other.example.com/1",
        "https://dev.example.com.evil/1",
        "https://user@dev.example.com/1",
        "http://dev.example.com/1",
        "s3://named/roots",
        "s3://named/root/../other",
        "s3://named/root/%2e%2e/other",
        "s3://other/root",
        "cas-file:///srv/named/../other",
        "cas-file:///srv/namedly",
        "file:///etc",
        "/etc/passwd",
        "relative",
        "",
        "s3://named/root/\n",
    ],
)
def test_other_places_are_not(location: str) -> None:
    storage = ("s3://named/root/", "cas-file:///srv/named", "/srv/named")
    with pytest.raises(StorageNotNamedError):
        End("https://dev.example.com", storage=storage).check(location)


@pytest.mark.parametrize(
    "uri", ["sqlite:///mlflow.db", "databricks", "https://", "https://user:secret@host"]
)
def test_an_end_is_a_server(uri: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        End(uri)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_AUTH"]
)
def test_no_credential_of_the_environment_goes_to_the_target(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_credentials(DEV, PROD)
    monkeypatch.setenv(name, "value")
    with pytest.raises(AuthConflictError, match=r"prod\.example\.com"):
        check_credentials(DEV, PROD)
    check_credentials(DEV, End("https://dev.example.com/other"))


def write_profiles(path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path.write_text(text)
    path.chmod(0o600)
    monkeypatch.setenv("MLFLOW_PACK_AUTH_CONFIG", str(path))


def test_a_profile_of_the_target_replaces_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "of the source")
    profile = '[profile.prod]\nhosts = ["https://prod.example.com/mlflow"]\nworkspace = "live"\n'
    source = 'source = "env"\nenv = "TOKEN"\n'
    write_profiles(tmp_path / "auth.toml", profile + source, monkeypatch)
    check_credentials(DEV, PROD)
    found = end_of("prod", None, ())
    assert (found.uri, found.workspace) == ("https://prod.example.com/mlflow", "live")
    assert end_of("prod", "other", ()).workspace == "other"
    # Its own header goes next to the one that stock MLflow adds.
    write_profiles(tmp_path / "own.toml", f'{profile}{source}header = "X-Key"\n', monkeypatch)
    with pytest.raises(AuthConflictError):
        check_credentials(DEV, PROD)


def test_a_profile_of_several_hosts_names_no_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = '[profile.p]\nhosts = ["https://a.example.com", "https://b.example.com"]\n'
    write_profiles(tmp_path / "a.toml", f'{text}source = "env"\nenv = "T"\n', monkeypatch)
    with pytest.raises(ConfigurationError, match="several hosts"):
        end_of("p", None, ())
