"""No secret reaches a host that no profile names: artifact URIs, other clients, redirects."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tests.auth.support.certificates import Authority
from tests.auth.support.parts import (
    API,
    ARTIFACT,
    JSON,
    SECRET,
    Answer,
    Profiles,
    Recorder,
    Seen,
    get,
    recording,
    redirect_to,
)


@pytest.mark.parametrize("scheme", ["mlflow-artifacts", "http"])
def test_an_artifact_uri_at_another_host_gets_no_secret(
    signed_in: object, evil: Recorder, named: Recorder, tmp_path: Path, scheme: str
) -> None:
    mlflow.set_tracking_uri(named.url)
    address = evil.url.removeprefix("http://")
    path = "/api/2.0/mlflow-artifacts/artifacts/x/a.txt" if scheme == "http" else "/x/a.txt"
    evil.rule = lambda seen: (
        (200, JSON, b'{"files": []}')
        if "path=" in seen.path
        else (200, {"Content-Type": "text/plain"}, b"bait")
    )
    try:
        got = mlflow.artifacts.download_artifacts(
            artifact_uri=f"{scheme}://{address}{path}", dst_path=str(tmp_path)
        )
    except MlflowException:
        got = None
    finally:
        mlflow.set_tracking_uri(None)
    assert evil.seen, f"the attack did not reach the other host; got {got}"
    assert not any(seen.has(SECRET) for seen in evil.seen)


def test_a_model_whose_source_is_at_another_host_gets_no_secret(
    signed_in: object, evil: Recorder, named: Recorder, tmp_path: Path
) -> None:
    """A server of today refuses such a source; an older, edited or hostile one hands it out."""
    address = evil.url.removeprefix("http://")
    source = f"mlflow-artifacts://{address}/1/model"
    version = {"name": "m", "version": "1", "source": source, "status": "READY"}

    def rule(seen: Seen) -> Answer:
        if "get-download-uri" in seen.path:
            return 200, JSON, json.dumps({"artifact_uri": source}).encode()
        return 200, JSON, json.dumps({"model_version": version}).encode()

    named.rule = rule
    evil.rule = lambda seen: (200, JSON, b'{"files": []}')
    mlflow.set_tracking_uri(named.url)
    try:
        mlflow.artifacts.download_artifacts(artifact_uri="models:/m/1", dst_path=str(tmp_path))
    except MlflowException:
        pass
    finally:
        mlflow.set_tracking_uri(None)
    assert evil.seen, "the attack did not reach the other host"
    assert not any(seen.has(SECRET) for seen in evil.seen)


def test_the_deployments_client_gives_no_secret_to_its_target(
    signed_in: object, evil: Recorder
) -> None:
    from mlflow.deployments import get_deploy_client

    evil.rule = lambda seen: (200, JSON, b'{"endpoints": []}')
    get_deploy_client(evil.url).list_endpoints()
    assert evil.seen
    assert not any(seen.has(SECRET) for seen in evil.seen)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_elsewhere_is_followed_without_any_secret(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder, status: int
) -> None:
    """Another port of the same host is another server."""
    named.rule = redirect_to(f"{evil.url}/stolen", status)
    signed_in()
    assert named.seen[0].has(SECRET)
    assert len(evil.seen) == 1
    assert not evil.seen[0].has(SECRET)


def test_a_redirect_to_another_name_of_the_host_carries_no_secret(
    signed_in: Callable[..., requests.Response], named: Recorder
) -> None:
    named.rule = lambda seen: (
        (200, JSON, b"{}")
        if seen.path == "/next"
        else (302, {"Location": f"http://localhost:{named.port}/next"}, b"")
    )
    signed_in()
    assert named.seen[1].path == "/next"
    assert not named.seen[1].has(SECRET)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_out_of_tls_carries_no_secret(
    profiles: Profiles,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    evil: Recorder,
    status: int,
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    authority = Authority(tmp_path)
    with recording(certificate=authority.issue("server")) as secure:
        profiles(
            f'[profile.prod]\nhosts = ["{secure.url}"]\nsource = "env"\nenv = "TOKEN"\n'
            f'tls = {{ ca = "{authority.ca}" }}\n'
        )
        secure.rule = redirect_to(f"{evil.url}/plain", status)
        http_request(MlflowHostCreds(secure.url), ARTIFACT, "GET")
        with pytest.raises(MlflowException, match="Nothing was sent there"):
            http_request(MlflowHostCreds(secure.url), API, "GET")
        assert all(seen.has(SECRET) for seen in secure.seen)
    assert len(evil.seen) == 1
    assert not evil.seen[0].has(SECRET)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_an_api_call_is_not_redirected_elsewhere(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder, status: int
) -> None:
    named.rule = redirect_to(f"{evil.url}/login", status)
    with pytest.raises(MlflowException, match="Nothing was sent there"):
        signed_in("POST", API, json={"body": SECRET})
    assert evil.seen == []


@pytest.mark.parametrize("status", [307, 308])
def test_an_upload_is_not_replayed_elsewhere(
    signed_in: Callable[..., requests.Response], named: Recorder, evil: Recorder, status: int
) -> None:
    named.rule = redirect_to(f"{evil.url}/stolen", status)
    with pytest.raises(MlflowException, match="does not name"):
        signed_in("PUT", data=io.BytesIO(b"private bytes"))
    assert evil.seen == []


def test_nor_by_way_of_another_host_of_the_profile(
    named: Recorder, evil: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`requests` drops Authorization between the two, and sends the body on."""
    monkeypatch.setenv("TOKEN", SECRET)
    with recording() as second:
        profiles(
            f'[profile.prod]\nhosts = ["{named.url}", "{second.url}"]\nsource = "env"\n'
            'env = "TOKEN"\n'
        )
        named.rule = redirect_to(f"{second.url}/next", 307)
        second.rule = redirect_to(f"{evil.url}/stolen", 307)
        with pytest.raises(MlflowException, match="does not name"):
            http_request(MlflowHostCreds(named.url), ARTIFACT, "PUT", data=b"private bytes")
    assert [seen.body for seen in second.seen] == [b"private bytes"]
    assert evil.seen == []


@pytest.mark.parametrize(
    "look_alike",
    [
        "localhost:{port}",
        "127.1:{port}",
        "2130706433:{port}",
        "someone@127.0.0.1:{port}",
        "[::ffff:127.0.0.1]:{port}",
    ],
)
def test_a_request_to_a_look_alike_carries_no_secret(
    signed_in: object, named: Recorder, look_alike: str
) -> None:
    """All of these lead to the very server that the profile names by another address."""
    try:
        get(f"http://{look_alike.format(port=named.port)}")
    except MlflowException:
        assert named.seen == []  # not every system connects to each of them
    assert not any(seen.has(SECRET) for seen in named.seen)


def test_a_redirect_elsewhere_carries_none_of_the_profiles_other_headers(
    named: Recorder, evil: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n'
        'workspace = "internal-name"\ncorrelation_header = "X-Correlation"\n'
    )
    named.rule = redirect_to(f"{evil.url}/x", 302)
    get(named.url, ARTIFACT)
    assert named.seen[0].headers["X-MLFLOW-WORKSPACE"] == "internal-name"
    assert "X-Correlation" in named.seen[0].headers
    assert not {"X-MLFLOW-WORKSPACE", "X-Correlation"} & set(evil.seen[0].headers)
