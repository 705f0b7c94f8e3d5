"""MLflow and the review app in one process, under each server program."""

from __future__ import annotations

import base64
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from tests.approvals.support.review_sites import ReviewSite, password_of, whole_site
from tests.support import servers

API = "/approvals/api/v1"


def ask_approve_apply(site: ReviewSite, name: str) -> str:
    version = site.new_version(name)
    site.tested(name, version)
    body = {"model": name, "version": version, "target": "prod"}
    request = site.json("alice", "POST", f"{API}/requests", body)["id"]
    at = f"{API}/requests/{request}"
    for user in ("bob", "dave"):
        state = site.json(user, "POST", f"{at}/approve", {"comment": "fine"})["state"]
    assert state == "APPROVED"
    assert site.call("bob", "PUT", f"{at}/applied", json={}).status_code == 403
    assert site.json("alice", "PUT", f"{at}/applied", {})["state"] == "APPLIED"
    page = site.call("bob", "GET", f"/approvals/requests/{request}")
    assert f"Promote {name} version {version} to alias prod" in page.text
    assert site.call("mallory", "GET", f"/approvals/requests/{request}").status_code == 404
    return page.text


def status_of(url: str, target: bytes) -> int:
    """Return the status of the answer to an address that no library of clients would send."""
    parts = urlsplit(url)
    token = base64.b64encode(":".join(password_of("bob")).encode())
    with socket.create_connection((parts.hostname or "", parts.port or 80), timeout=60) as wire:
        wire.sendall(
            b"GET %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\nConnection: close\r\n\r\n"
            % (parts.path.encode() + target, parts.netloc.encode(), token)
        )
        answer = b""
        while part := wire.recv(65536):
            answer += part
    return int(answer.split(b" ", 2)[1])


ODD = (
    b"/approvals/?text=ol\xc3\xa9",
    b"/approvals/?text=\xff",
    b"/approvals/ol\xe9",
    b"/approvals/%FF?text=%FF",
    b"/approvals/?text=a%00b",
    b"/approvals/models/model?name=%00",
    b"/approvals/api/v1/requests?text=%00",
)


def test_under_uvicorn_with_four_workers(tmp_path: Path) -> None:
    with whole_site(tmp_path, workers=4) as site:
        page = ask_approve_apply(site, "one-1")
        assert 'href="/#/models/one-1/versions/1"' in page
        # Stock basic-auth is as closed as it is without the review app.
        for path in ("/api/2.0/mlflow/experiments/get?experiment_id=0", "/", "/approvals/"):
            assert requests.get(site.url + path, timeout=60).status_code == 401, path
        for path in ("/version", "/api/3.0/mlflow/users/list"):
            stock = requests.get(site.url + path, auth=password_of("mallory"), timeout=60)
            assert stock.status_code in (200, 403), path
        assert site.call("admin", "GET", "/approvals/health").status_code == 200
        forged = {"X-Forwarded-User": "admin", "Remote-User": "admin"}
        assert site.call(None, "GET", "/approvals/", headers=forged).status_code == 401
        rebound = site.call("bob", "GET", "/approvals/", headers={"Host": "evil.example"})
        assert rebound.status_code == 401  # MLflow's own check of the Host header
        for target in ODD:
            assert status_of(site.url, target) < 500, target


def test_under_gunicorn_with_a_static_prefix(tmp_path: Path) -> None:
    options = ["--gunicorn-opts", "--timeout 120", "--static-prefix", "/ml"]
    with whole_site(tmp_path, options=options, prefix="/ml") as site:
        page = ask_approve_apply(site, "one-2")
        assert 'href="/ml/approvals/static/review.css"' in page
        assert 'href="/ml/#/models/one-2/versions/1"' in page
        assert site.call("bob", "GET", "/approvals/static/review.css").status_code == 200
        outside = requests.get(site.url.removesuffix("/ml") + "/approvals/", timeout=60)
        assert outside.status_code == 401  # MLflow's own answer to what it does not know
        assert "review app" not in outside.text
        for target in ODD:
            assert status_of(site.url, target) in (400, 404), target


@pytest.mark.parametrize("inner", ["", "no-such-app"])
def test_over_another_app(tmp_path: Path, inner: str) -> None:
    (tmp_path / "policy.yaml").write_text(
        "version: 1\npolicies:\n"
        "  - {name: p, match: {models: ['*']}, targets: {aliases: [prod]}, approvals: []}\n"
    )
    settings = {
        "MLFLOW_PACK_APPROVALS_POLICY": str(tmp_path / "policy.yaml"),
        "MLFLOW_PACK_REVIEW_INNER_APP": inner,
    }
    registry = f"approval-sqlite:///{tmp_path / 'mlflow.db'}"

    def serve() -> None:
        with servers.mlflow_server(
            tmp_path, registry=registry, app_name="approvals", **settings
        ) as server:
            page = requests.get(f"{server.url}/approvals/", timeout=60)
            assert (page.status_code, "No request is open." in page.text) == (200, True)
            answer = requests.post(
                f"{server.url}{API}/requests",
                json={"model": "m", "version": 1, "target": "prod"},
                timeout=60,
            )
            assert (answer.status_code, answer.json()["pack_code"]) == (401, "IDENTITY_REQUIRED")

    if inner:
        from mlflow_plugins_pack.errors import ConfigurationError
        from mlflow_plugins_pack.review.inside import wrapped

        with pytest.raises(ConfigurationError, match="no-such-app"):
            wrapped(inner)
        with pytest.raises(ConfigurationError, match="the review app itself"):
            wrapped("approvals")
    else:
        serve()
