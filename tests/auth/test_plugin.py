"""Stock MLflow, signed in automatically and by opt-in."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_plugins_pack.auth.plugin import PackAuthProvider, PackHeaderProvider
from tests.auth.support.parts import PEOPLE, Recorder, Seen, env_profile, get, write_profiles
from tests.support import servers

Profiles = Callable[[str], Path]
pytestmark = pytest.mark.compat


def basic_profile(url: str, name: str, extra: str = "") -> str:
    return (
        f'[profile.{name}]\nhosts = ["{url}"]\nsource = "basic"\nusername = "{name}"\n'
        f'password = {{ env = "SECRET_OF_{name.upper()}" }}\n{extra}'
    )


API = "/api/2.0/mlflow/experiments/get"


JOB = """
import sys, os, mlflow, pathlib
from mlflow import MlflowClient
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("of-" + sys.argv[2])
data = pathlib.Path(sys.argv[3]); data.write_bytes(os.urandom(1 << 20))
with mlflow.start_run() as run:
    mlflow.log_param("p", 1); mlflow.log_metric("m", 2.0)
    mlflow.log_artifact(str(data))
    mlflow.log_text("x", "a b/ü%.txt")
@mlflow.trace
def f(x): return x + 1
f(1)
mlflow.flush_trace_async_logging()
run = mlflow.get_run(run.info.run_id)
path = mlflow.artifacts.download_artifacts(run_id=run.info.run_id, artifact_path=data.name)
assert pathlib.Path(path).read_bytes() == data.read_bytes()
assert len(mlflow.search_traces(return_type="list")) == 1
client = MlflowClient()
client.create_registered_model("model-" + sys.argv[2])
print(run.info.user_id, run.data.params)
"""


def test_two_people_do_the_main_job_against_stock_basic_auth(
    basic_auth: servers.MlflowServer, tmp_path: Path
) -> None:
    """Each in a process with a profiles file of their own: one automatic, one by opt-in."""
    processes = []
    for name, explicit in zip(PEOPLE, ({}, {"MLFLOW_TRACKING_AUTH": "plugins-pack"}), strict=True):
        secret = tmp_path / f"{name}.password"
        secret.write_text(f"{servers.PASSWORD}\n")
        config = write_profiles(
            tmp_path / f"{name}.toml",
            f'[profile.{name}]\nhosts = ["{basic_auth.url}"]\nsource = "basic"\n'
            f'username = "{name}"\npassword = {{ file = "{secret}" }}\n',
        )
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", JOB, basic_auth.url, name, f"{tmp_path}/{name}"],
                env=servers.clean_environment(
                    MLFLOW_PACK_AUTH_CONFIG=str(config),
                    MLFLOW_PACK_LINEAGE_ENABLED="false",
                    MLFLOW_DISABLE_TELEMETRY="true",
                    HOME=str(tmp_path),
                    **explicit,
                ),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    for process in processes:
        output, _ = process.communicate(timeout=200)
        assert process.returncode == 0, output
        assert servers.PASSWORD not in output


def test_without_a_profile_the_protected_server_refuses(basic_auth: servers.MlflowServer) -> None:
    assert get(basic_auth.url, "/api/2.0/mlflow/experiments/search").status_code == 401


def test_the_header_reaches_the_named_host_only(
    named: Recorder, evil: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "planted-token-1")
    profiles(env_profile(named.url, 'extra_headers = { "X-Access" = { env = "TOKEN" } }\n'))
    get(named.url)
    get(evil.url)
    assert named.seen[0].headers["Authorization"] == "Bearer planted-token-1"
    assert named.seen[0].headers["X-Access"] == "planted-token-1"
    assert len(evil.seen) == 1
    assert not evil.seen[0].has("planted-token-1")


def test_opt_in_signing_refuses_a_host_that_no_profile_names(
    named: Recorder, evil: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", "planted-token-1")
    profiles(env_profile(named.url))
    http_request(MlflowHostCreds(named.url, auth="plugins-pack"), API, "GET")
    assert named.seen[0].headers["Authorization"] == "Bearer planted-token-1"
    with pytest.raises(MlflowException, match="No sign-in profile names"):
        http_request(MlflowHostCreds(evil.url, auth="plugins-pack"), API, "GET")
    assert evil.seen == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profile.prod", "not TOML"),
        ('[profile.prod]\nhosts = ["https://h"]\nsource = "ldap"\n', "env, file, command, keyring"),
        ('[profile.prod]\nhosts = ["http://h.example"]\nsource = "env"\nenv = "T"\n', "https only"),
    ],
)
def test_a_broken_profiles_file_stops_every_request(
    named: Recorder, profiles: Profiles, text: str, said: str
) -> None:
    profiles(text)
    with pytest.raises(MlflowException, match=said):
        get(named.url)
    assert named.seen == []


@pytest.mark.parametrize("setting", ["missing.toml", "/nowhere/auth.toml"])
def test_a_named_file_that_is_not_usable_stops_every_request(
    named: Recorder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, setting: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_profiles(tmp_path / "missing.toml", "[profile]\n")
    monkeypatch.setenv("MLFLOW_PACK_AUTH_CONFIG", setting)
    with pytest.raises(MlflowException, match="Nothing was sent"):
        get(named.url)
    assert named.seen == []


def test_an_unknown_way_to_build_requests_sends_nothing(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What happens when MLflow changes the function that automatic signing looks into."""
    monkeypatch.setenv("TOKEN", "planted-token-1")
    profiles(env_profile(named.url))
    headers = PackHeaderProvider().request_headers()
    with pytest.raises(requests.exceptions.InvalidHeader, match="Upgrade mlflow-plugins-pack"):
        requests.get(named.url, headers=headers, timeout=5)
    assert named.seen == []


def test_without_a_profiles_file_a_request_is_stock_byte_for_byte(
    named: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.request_header import registry

    def send() -> Seen:
        get(named.url, extra_headers={"X-Own": "1"})
        return named.seen[-1]

    ours = send()
    registered = registry._request_header_provider_registry
    stock = [p for p in registered._registry if not isinstance(p, PackHeaderProvider)]
    assert len(stock) < len(registered._registry), "the provider is not installed"
    monkeypatch.setattr(registered, "_registry", stock)
    assert send() == ours


def test_the_provider_costs_nothing_at_import_and_without_a_file() -> None:
    code = (
        "import os, sys\n"
        "import mlflow_plugins_pack\n"
        "before = set(sys.modules)\n"
        "from mlflow_plugins_pack.auth.plugin import PackHeaderProvider\n"
        "assert PackHeaderProvider().request_headers() == {}\n"
        "new = set(sys.modules) - before\n"
        "heavy = {n for n in new if not n.startswith('mlflow_plugins_pack.')}\n"
        "print(heavy & {'requests', 'mlflow', 'pydantic', 'tomllib'})\n"
        "print([n for n in new if n.startswith('mlflow_plugins_pack.')])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    heavy, ours = done.stdout.splitlines()
    assert heavy == "set()"
    assert sorted(eval(ours)) == [
        "mlflow_plugins_pack.auth",
        "mlflow_plugins_pack.auth.plugin",
        "mlflow_plugins_pack.auth.profiles",
        "mlflow_plugins_pack.auth.profiles.paths",
        "mlflow_plugins_pack.base_dirs",
    ]


def test_both_providers_have_the_methods_that_mlflow_calls() -> None:
    from mlflow.tracking.request_auth.abstract_request_auth_provider import RequestAuthProvider
    from mlflow.tracking.request_header.abstract_request_header_provider import (
        RequestHeaderProvider,
    )

    for ours, base in (
        (PackHeaderProvider, RequestHeaderProvider),
        (PackAuthProvider, RequestAuthProvider),
    ):
        wanted = [name for name in vars(base) if not name.startswith("_")]
        assert wanted
        for name in wanted:
            assert inspect.signature(getattr(ours, name)).parameters.keys() == (
                inspect.signature(getattr(base, name)).parameters.keys()
            )
    assert PackAuthProvider().get_name() == "plugins-pack"


def test_the_server_version_is_asked_once(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sign-in leaves the credentials object alone: it is the key of MLflow's cache."""
    from mlflow.store.tracking.rest_store import RestStore

    monkeypatch.setenv("TOKEN", "planted-token-1")
    profiles(env_profile(named.url))
    named.rule = lambda seen: (200, {}, b"3.17.2")
    for _ in range(5):
        store = RestStore(lambda: MlflowHostCreds(named.url))
        assert store._get_server_version(store.get_host_creds()) is not None
    assert [seen.path for seen in named.seen] == ["/version"]


def test_threads_share_one_sign_in(named: Recorder, profiles: Profiles, tmp_path: Path) -> None:
    """64 threads with no token run the command once; at a 401 once more."""
    count = tmp_path / "count"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\nsleep 0.2\necho x >> {count}\necho token-$(wc -l < {count})\n")
    program.chmod(0o700)
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\ncommand = ["{program}"]\n'
    )
    valid = {"token-1"}

    def rule(seen: Seen) -> tuple[int, dict[str, str], bytes]:
        token = seen.headers.get("Authorization", "").removeprefix("Bearer ")
        return (200 if token in valid else 401), {}, b"{}"

    named.rule = rule
    statuses: list[int] = []

    def ask() -> None:
        statuses.append(get(named.url).status_code)

    for round_number in (1, 2):
        threads = [threading.Thread(target=ask) for _ in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert count.read_text().count("x") == round_number
        valid.clear()
        valid.add("token-2")
    assert statuses == [200] * 128
