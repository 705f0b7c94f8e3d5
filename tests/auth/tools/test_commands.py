"""``mlflow-pack auth`` as a person runs it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlflow_plugins_pack.auth.tools.doctor import check
from mlflow_plugins_pack.cli.auth.group import auth
from tests.auth.support.certificates import Authority
from tests.auth.support.parts import Recorder, recording

Profiles = Callable[[str], Path]
SECRET = "planted-secret-4711"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(auth, arguments)


@pytest.fixture
def two_profiles(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Recorder:
    """One that works, by a command with an expiry, and one whose variable is not set."""
    answer = json.dumps({"access_token": SECRET, "expires_in": 3600})
    (tmp_path / "answer").write_text(answer)
    profiles(
        f'[profile.works]\nhosts = ["{named.url}"]\nsource = "command"\n'
        f'command = ["cat", "{tmp_path}/answer"]\n'
        '[profile.fails]\nhosts = ["https://h.example.invalid"]\nsource = "env"\nenv = "NOT_SET"\n'
    )
    return named


def test_status_shows_whether_each_credential_is_there_and_never_the_credential(
    two_profiles: Recorder,
) -> None:
    result = run("status", "--json")
    assert result.exit_code == 1
    works, fails = json.loads(result.stdout)
    assert works["credential"] == "there"
    assert works["hosts"] == [two_profiles.url]
    assert works["expires_in_seconds"] == 3600
    assert fails["credential"] == "missing"
    assert "NOT_SET is not set" in fails["problem"]
    table = run("status")
    assert "works" in table.output
    assert SECRET not in result.output + table.output
    assert two_profiles.seen == []


def test_status_without_profiles_says_so() -> None:
    result = run("status")
    assert result.exit_code == 0
    assert "no profiles file" in result.output
    assert json.loads(run("status", "--json").stdout) == []


def test_token_prints_the_token_alone(two_profiles: Recorder) -> None:
    assert run("token", "works").output == f"{SECRET}\n"
    assert run("token", "unknown").exit_code == 1
    assert run("token", "fails").exit_code == 1


def test_doctor_finds_and_explains_each_thing(
    two_profiles: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login other password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_AWS_SIGV4", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://elsewhere.example")
    result = run("doctor")
    assert result.exit_code == 1
    for said in (
        "is valid",
        "has a credential (command)",
        "NOT_SET is not set",
        "can be reached",
        "cannot be reached",
        "MLFLOW_TRACKING_TOKEN is set as well",
        "MLFLOW_TRACKING_AWS_SIGV4 is set as well",
        "~/.netrc for 127.0.0.1",
        "named by no profile",
    ):
        assert said in result.output
    assert SECRET not in result.output
    levels = {item["level"] for item in json.loads(run("doctor", "--json").stdout)}
    assert levels == {"ok", "warning", "error"}


def test_doctor_is_content_with_a_sane_profile(
    named: Recorder, profiles: Profiles, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("t\n")
    token.chmod(0o600)
    profiles(f'[profile.p]\nhosts = ["{named.url}"]\nsource = "file"\nfile = "{token}"\n')
    assert run("doctor").exit_code == 0
    assert {finding.level for finding in check()} == {"ok"}
    token.chmod(0o644)
    assert "chmod 600" in run("doctor").output


def test_doctor_finds_the_file_that_others_may_write(named: Recorder, profiles: Profiles) -> None:
    path = profiles(f'[profile.p]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "T"\n')
    path.chmod(0o666)
    result = run("doctor")
    assert result.exit_code == 1
    assert "chmod go-w" in result.output


def planted_proxy(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> str:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    return ""


def planted_other_provider(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "other")
    return ""


def planted_rival_that_is_refused(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "other")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "other")
    return 'on_conflict = "error"\n'


def planted_credentials_file(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> str:
    (home / ".mlflow").mkdir()
    (home / ".mlflow" / "credentials").write_text("[mlflow]\n")
    return ""


def planted_password_in_the_uri(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> str:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url.replace("//", f"//alice:{SECRET}@"))
    return ""


def planted_lost_token(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> str:
    monkeypatch.delenv("WORKING_TOKEN")
    return ""


def planted_open_folder(monkeypatch: pytest.MonkeyPatch, home: Path, url: str) -> str:
    home.chmod(0o777)
    return ""


@pytest.mark.parametrize(
    ("plant", "said", "level"),
    [
        (planted_proxy, "a proxy of the environment would read the credential", "error"),
        (planted_other_provider, "MLFLOW_TRACKING_AUTH=other is set as well", "error"),
        (planted_rival_that_is_refused, "so requests to the profile's hosts are refused", "error"),
        (planted_credentials_file, "~/.mlflow/credentials is set as well", "warning"),
        (planted_password_in_the_uri, "carries a user name or password", "error"),
        (planted_lost_token, "WORKING_TOKEN is not set", "error"),
        (planted_open_folder, "everybody may replace files in its folder", "error"),
    ],
)
def test_doctor_finds_each_planted_misconfiguration(
    named: Recorder,
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    plant: Callable[[pytest.MonkeyPatch, Path, str], str],
    said: str,
    level: str,
) -> None:
    """Alone, in what doctor is otherwise content with."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("WORKING_TOKEN", SECRET)
    text = f'[profile.p]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "WORKING_TOKEN"\n'
    profiles(text)
    assert {finding.level for finding in check()} == {"ok"}
    profiles(text + plant(monkeypatch, tmp_path, named.url))
    found = [finding for finding in check() if finding.level != "ok"]
    assert [finding.level for finding in found] == [level]
    assert said in found[0].message
    assert SECRET not in repr(found)
    assert not any("Authorization" in seen.headers for seen in named.seen)


def test_doctor_finds_a_certificate_that_is_not_trusted(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WORKING_TOKEN", SECRET)
    authority = Authority(tmp_path)
    with recording(certificate=authority.issue("server")) as secure:
        text = f'[profile.p]\nhosts = ["{secure.url}"]\nsource = "env"\nenv = "WORKING_TOKEN"\n'
        profiles(text)
        assert "its certificate is not trusted here" in run("doctor").output
        profiles(f'{text}tls = {{ ca = "{authority.ca}" }}\n')
        assert run("doctor").exit_code == 0


def test_doctor_without_profiles_has_nothing_to_say() -> None:
    assert [finding.level for finding in check()] == ["ok"]


def test_doctor_compares_the_clocks(named: Recorder, profiles: Profiles) -> None:
    """The server's own Date header is half an hour behind."""
    from email.utils import formatdate

    profiles(f'[profile.p]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "PATH"\n')
    named.dates = lambda: formatdate(time.time() - 1800, usegmt=True)
    assert re.search(r"18\d\d s ahead of", run("doctor").output)
    assert not any("Authorization" in seen.headers for seen in named.seen)


def test_doctor_finds_what_keeps_tls_from_working(
    named: Recorder, profiles: Profiles, tmp_path: Path
) -> None:
    address = named.url.replace("http://", "https://")  # it speaks http
    key = tmp_path / "key"
    key.write_text("")
    key.chmod(0o644)
    profiles(f'[profile.p]\nhosts = ["{address}"]\nsource = "env"\nenv = "PATH"\n')
    assert "no safe connection" in run("doctor").output
    profiles(
        f'[profile.p]\nhosts = ["{address}"]\nsource = "env"\nenv = "PATH"\n'
        f'tls = {{ cert = "{key}", key = "{key}" }}\n'
    )
    output = run("doctor").output
    assert "see tls.cert and tls.key" in output
    assert "chmod 600" in output
