"""`mlflow-pack auth token` and `auth exec`: other programs, signed in, and nowhere else."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_plugins_pack.auth.credentials.secret import Secret
from mlflow_plugins_pack.auth.profiles.fields import Tls
from mlflow_plugins_pack.auth.profiles.models import EnvProfile
from mlflow_plugins_pack.auth.tools.exec_environment import child_environment
from mlflow_plugins_pack.errors import AuthConfigError, UnnamedHostError
from tests.auth.support.parts import JSON, Recorder
from tests.support import servers

Profiles = Callable[[str], Path]
SECRET = "planted-secret-4711"
SHOWN = "import json, os; print(json.dumps(dict(os.environ)))"


@pytest.fixture
def profile(named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch) -> Recorder:
    """The profile ``works`` for the host ``named``, with a bearer token."""
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(f'[profile.works]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n')
    return named


def auth(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlflow_plugins_pack.cli", "auth", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment_of_child(*arguments: str, **environment: str) -> dict[str, str]:
    done = auth("exec", *arguments, "--", sys.executable, "-c", SHOWN, **environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


def test_the_child_alone_is_given_the_token_and_the_address(profile: Recorder) -> None:
    child = environment_of_child("works")
    assert child["MLFLOW_TRACKING_TOKEN"] == SECRET
    assert child["MLFLOW_TRACKING_URI"] == profile.url
    assert not any(SECRET in value for name, value in child.items() if name.startswith("OTEL_"))
    assert "MLFLOW_TRACKING_TOKEN" not in os.environ


def test_the_exit_code_is_the_commands(profile: Recorder) -> None:
    assert auth("exec", "works", "--", "sh", "-c", "exit 42").returncode == 42
    missing = auth("exec", "works", "--", "no-such-program-here")
    assert missing.returncode == 1
    assert "cannot be started" in missing.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_reaches_the_command(profile: Recorder, number: signal.Signals) -> None:
    code = (
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600)\n"
    )
    command = [sys.executable, "-m", "mlflow_plugins_pack.cli", "auth", "exec", "works", "--"]
    with subprocess.Popen(
        [*command, sys.executable, "-c", code], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.wait(60) == 7


def test_a_stock_client_without_the_pack_signs_in_in_the_child(profile: Recorder) -> None:
    """As R and Java do: by MLFLOW_TRACKING_TOKEN and nothing else."""
    code = (
        "import os, urllib.request as u\n"
        "headers = {'Authorization': 'Bearer ' + os.environ['MLFLOW_TRACKING_TOKEN']}\n"
        "u.urlopen(u.Request(os.environ['MLFLOW_TRACKING_URI'] + '/version', headers=headers))\n"
    )
    done = auth("exec", "works", "--", sys.executable, "-S", "-c", code, NO_PROXY="*")
    assert done.returncode == 0, done.stderr
    assert profile.seen[0].headers["Authorization"] == f"Bearer {SECRET}"


def test_a_tracking_uri_elsewhere_is_refused(profile: Recorder, evil: Recorder) -> None:
    done = auth("exec", "works", "--", "env", MLFLOW_TRACKING_URI=evil.url)
    assert done.returncode == 1
    assert "does not name" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    below = environment_of_child("works", MLFLOW_TRACKING_URI=f"{profile.url}/below")
    assert below["MLFLOW_TRACKING_URI"] == f"{profile.url}/below"


def in_child(tls: Tls | None = None, **before: str) -> dict[str, str]:
    """Return the environment of a child of the profile ``works`` at a loopback address."""
    profile = EnvProfile(hosts=["http://127.0.0.1:5000"], source="env", env="TOKEN")
    if tls is not None:
        profile = profile.model_copy(update={"tls": tls})
    headers = (("Authorization", Secret(f"Bearer {SECRET}")),)
    return child_environment("works", profile, headers, before)


@pytest.mark.parametrize(
    "variable",
    [
        "MLFLOW_TRACKING_URI",
        "MLFLOW_REGISTRY_URI",
        "MLFLOW_WORKSPACE_STORE_URI",
        "MLFLOW_DEPLOYMENTS_TARGET",
        "MLFLOW_GATEWAY_URI",
    ],
)
@pytest.mark.parametrize(
    "url", ["http://evil", " http://evil/", "HTTP://evil", "http://127.0.0.1:5000@evil", "https:/x"]
)
def test_any_other_server_that_the_child_would_choose_is_refused(variable: str, url: str) -> None:
    with pytest.raises(UnnamedHostError, match=f"{variable} is .*does not name") as caught:
        in_child(**{variable: url})
    assert SECRET not in str(caught.value)


def test_servers_of_the_profile_and_databases_are_accepted() -> None:
    child = in_child(
        MLFLOW_REGISTRY_URI="approval-sqlite:///registry.db",
        MLFLOW_DEPLOYMENTS_TARGET="http://127.0.0.1:5000/below",
        MLFLOW_GATEWAY_URI="",
    )
    assert child["MLFLOW_REGISTRY_URI"] == "approval-sqlite:///registry.db"
    assert child["MLFLOW_TRACKING_TOKEN"] == SECRET


@pytest.mark.parametrize(
    "variable", ["http_proxy", "HTTP_PROXY", "Http_Proxy", "ALL_PROXY", "aLL_pROXY"]
)
def test_a_proxy_that_would_read_the_credential_is_refused(variable: str) -> None:
    with pytest.raises(AuthConfigError, match=f"{variable} would carry"):
        in_child(**{variable: "http://proxy:3128"})
    # Not every client knows this spelling.
    with pytest.raises(AuthConfigError, match=f"{variable} would carry"):
        in_child(**{variable: "http://proxy:3128", "No_Proxy": "127.0.0.1"})
    child = in_child(**{variable: "http://proxy:3128", "NO_PROXY": "127.0.0.1"})
    assert child["MLFLOW_TRACKING_TOKEN"] == SECRET


def test_the_child_checks_servers_as_the_profile_does() -> None:
    """Else it would give the credential to a server of any certificate."""
    tls = Tls(ca="/etc/ca.pem")
    assert in_child(tls)["MLFLOW_TRACKING_SERVER_CERT_PATH"] == "/etc/ca.pem"
    assert "MLFLOW_TRACKING_SERVER_CERT_PATH" not in in_child()
    for rival in (
        {"MLFLOW_TRACKING_INSECURE_TLS": "True"},
        {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/tmp/ca.pem"},
    ):
        with pytest.raises(AuthConfigError, match=next(iter(rival))):
            in_child(tls, **rival)
        assert in_child(**rival)["MLFLOW_TRACKING_TOKEN"] == SECRET


def test_a_collector_gets_the_token_only_where_the_profile_names_it(
    profile: Recorder, evil: Recorder
) -> None:
    elsewhere = environment_of_child("works", OTEL_EXPORTER_OTLP_ENDPOINT=evil.url)
    assert not any(SECRET in elsewhere[name] for name in elsewhere if name.startswith("OTEL_"))
    mixed = environment_of_child(
        "works",
        OTEL_EXPORTER_OTLP_ENDPOINT=evil.url,
        OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{profile.url}/v1/traces",
        OTEL_EXPORTER_OTLP_HEADERS="x-mlflow-experiment-id=1",
    )
    told = {name for name in mixed if name.startswith("OTEL_") and SECRET in mixed[name]}
    assert told == {"OTEL_EXPORTER_OTLP_TRACES_HEADERS"}
    wanted = f"x-mlflow-experiment-id=1,Authorization=Bearer%20{SECRET}"
    assert mixed["OTEL_EXPORTER_OTLP_TRACES_HEADERS"] == wanted


def test_a_user_and_a_password_are_handed_over_as_such(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PASSWORD", "a: pässword")
    profiles(
        f'[profile.p]\nhosts = ["{named.url}"]\nsource = "basic"\nusername = "alice"\n'
        'password = { env = "PASSWORD" }\n'
    )
    child = environment_of_child("p", MLFLOW_TRACKING_TOKEN="another")
    assert child["MLFLOW_TRACKING_USERNAME"] == "alice"
    assert child["MLFLOW_TRACKING_PASSWORD"] == "a: pässword"
    assert "MLFLOW_TRACKING_TOKEN" not in child


def test_what_other_clients_cannot_send_is_refused(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(
        f'[profile.p]\nhosts = ["{named.url}"]\nsource = "headers"\n'
        'headers = { "X-Api-Key" = { env = "TOKEN" } }\n'
    )
    done = auth("exec", "p", "--", "env")
    assert done.returncode == 1
    assert "X-Api-Key" in done.stderr
    assert done.stdout == ""


def test_a_token_for_curl(profile: Recorder) -> None:
    """As the page of the docs has it: the token goes through a pipe, not onto a command line."""
    curl = servers.find_program("curl", "curl")
    profile.rule = lambda seen: (200, JSON, b'{"experiments": []}')
    command = f'"{sys.executable}" -m mlflow_plugins_pack.cli auth token works'
    script = (
        f'{command} | sed "s/^/header = \\"Authorization: Bearer /; s/$/\\"/" '
        f'| "{curl}" --silent --noproxy "*" --config - {profile.url}/x'
    )
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout == '{"experiments": []}', done.stderr
    assert profile.seen[0].headers["Authorization"] == f"Bearer {SECRET}"


def test_an_international_host_is_given_as_it_is_sent() -> None:
    profile = EnvProfile(hosts=["https://b\u00fccher.example"], source="env", env="T")
    headers = (("Authorization", Secret("Bearer t")),)
    child = child_environment("p", profile, headers, {})
    assert child["MLFLOW_TRACKING_URI"] == "https://xn--bcher-kva.example"
