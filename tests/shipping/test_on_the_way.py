"""What changes on the way is refused; what is secret goes to the server that it is for."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlflow_plugins_pack.cli.ship import ship as command
from mlflow_plugins_pack.errors import DigestDiffersError
from mlflow_plugins_pack.shipping import journey
from mlflow_plugins_pack.shipping.ends import End
from mlflow_plugins_pack.shipping.journey import Options
from tests.shipping.support.versions import all_of, client_of, make_version
from tests.support.fault_proxy import Fault, fault_proxy
from tests.support.recording_proxy import recording_proxy
from tests.support.servers import MlflowServer


@pytest.mark.parametrize(
    ("end", "what", "method"),
    [
        ("source", "flip answer", "GET"),
        ("target", "flip request", "PUT"),
        ("target", "flip answer", "GET"),
    ],
)
def test_changed_bytes_are_refused_and_nothing_is_registered(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path, end: str, what: str, method: str
) -> None:
    name = f"changed-{end}-{method}"
    make_version(dev.url, name, tmp_path / "model")
    server = dev if end == "source" else prod
    with fault_proxy(server.url) as proxy:
        proxy.faults.append(Fault(what, method, "weights.bin"))
        source = End(proxy.url if end == "source" else dev.url)
        target = End(proxy.url if end == "target" else prod.url)
        before = all_of(prod.url)["versions"]
        with pytest.raises(DigestDiffersError, match="Nothing was registered"):
            journey.ship(source, target, f"models:/{name}/1", Options(), lambda _: None)
        assert len(proxy.done) == 1
        assert all_of(prod.url)["versions"] == before
    source, target = End(dev.url), End(prod.url)
    assert journey.ship(source, target, f"models:/{name}/1", Options(), lambda _: None).is_new
    assert all_of(prod.url)["versions"] == before + 1


def test_files_that_changed_at_the_source_since_are_not_taken_for_the_same(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    store = f"cas-file://{tmp_path}/store"
    client_of(dev.url).create_experiment("rewritten", f"{store}/1")
    make_version(dev.url, "rewritten", tmp_path / "model", experiment="rewritten")
    source, target = End(dev.url, storage=[store]), End(prod.url)
    journey.ship(source, target, "models:/rewritten/1", Options(), lambda _: None)
    version = client_of(dev.url).get_model_version("rewritten", "1")
    (tmp_path / "model" / "MLmodel").write_text("other")
    model_id = version.source.removeprefix("models:/")
    client_of(dev.url).log_model_artifacts(model_id, str(tmp_path / "model"))
    with pytest.raises(DigestDiffersError, match="was shipped before"):
        journey.ship(source, target, "models:/rewritten/1", Options(), lambda _: None)


def invoke(*arguments: str) -> Any:
    result = CliRunner().invoke(command, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_each_server_gets_its_own_credential_and_no_other(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_version(dev.url, "signed", tmp_path / "model")
    with recording_proxy(dev.url) as source, recording_proxy(prod.url) as target:
        text = "".join(
            f'[profile.{name}]\nhosts = ["{url}"]\nsource = "basic"\nusername = "{name}"\n'
            f'password = {{ env = "PASSWORD_OF_{name.upper()}" }}\n'
            for name, url in (("dev", source.url), ("prod", target.url))
        )
        profiles = tmp_path / "auth.toml"
        profiles.write_text(text)
        profiles.chmod(0o600)
        monkeypatch.setenv("MLFLOW_PACK_AUTH_CONFIG", str(profiles))
        for name in ("DEV", "PROD"):
            monkeypatch.setenv(f"PASSWORD_OF_{name}", f"secret of {name}")
        # As in a job that has a token of its own for the source.
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "ambient")
        arguments = ("models:/signed/1", "--tracking-uri", source.url, "--to", "prod", "--json")
        done = json.loads(invoke(*arguments).stdout)
        assert (done["source"], done["is_new"]) == ("models:/signed/1", True)
        assert (done["moved"]["files"], done["points"]) == (3, 1_502)
        said = invoke(*arguments[:-1]).stdout
        assert said.startswith("Nothing to do: models:/signed/1 is models:/signed/1 at")
    for proxy, name in ((source, "dev"), (target, "prod")):
        expected = base64.b64encode(f"{name}:secret of {name.upper()}".encode()).decode()
        found = {dict(request.headers).get("Authorization") for request in proxy.requests}
        assert found == {f"Basic {expected}"}, name


def test_the_command_says_what_it_did(
    dev: MlflowServer, prod: MlflowServer, tmp_path: Path
) -> None:
    make_version(dev.url, "spoken", tmp_path / "model")
    result = invoke("models:/spoken/1", "--tracking-uri", dev.url, "--to", prod.url)
    first, second, *left = result.stdout.splitlines()
    assert first.startswith(
        "models:/spoken/1 is models:/spoken/1 at the target: 3 files, 293.0 KiB"
    )
    assert second.startswith("Its files are equal at both ends, sha256:")
    assert [line for line in left if not line.startswith("Not taken along: 1 ")] == []
    assert result.stderr.startswith("... reading the version\n")
    assert invoke("models:/spoken/1", "--to", prod.url).exit_code == 2
