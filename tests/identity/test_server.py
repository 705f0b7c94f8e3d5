"""Stock servers that know their callers: by verified tokens, by roles, by a trusted proxy."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.auth.support.proxies import PROXY_SECRET, nginx_auth_request, verifying
from tests.support import servers
from tests.support.oidc import AUDIENCE, OidcProvider
from tests.support.oidc.tokens import forged_token, machine_token

AUTHORIZATION_FUNCTION = "mlflow_plugins_pack.identity.basic_auth_app:authenticate_request"
POLICY = """
version: 1
identity: {identity}
groups: {{leads: {members}}}
policies:
  - name: prod
    match: {{models: ["fraud-*"]}}
    targets: {{aliases: [prod]}}
    approvals: [{{group: leads, count: 1}}]
"""

CLAIMED = """
  - name: claimed
    match: {models: ["claimed-*"]}
    targets: {aliases: [prod]}
    approvals: [{group: sre, count: 2}]
    checks: [{tag: tests, equals: passed, writers: ["group:ci"]}]
"""


def call(url: str, path: str, headers: dict[str, str], **body: Any) -> requests.Response:
    return requests.post(f"{url}/api/2.0/mlflow/{path}", json=body, headers=headers, timeout=60)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def basic(name: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{name}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


ADMIN = basic(*servers.ADMIN)


def register(url: str, name: str, headers: dict[str, str]) -> None:
    """Register versions 1 and 2 of a model with one file."""
    run = call(url, "runs/create", headers, experiment_id="0").json()["run"]["info"]
    path = run["artifact_uri"].removeprefix("mlflow-artifacts:/")
    sent = requests.put(
        f"{url}/api/2.0/mlflow-artifacts/artifacts/{path}/model.txt",
        data=b"weights",
        headers=headers,
        timeout=60,
    )
    assert sent.status_code == 200, sent.text
    assert call(url, "registered-models/create", headers, name=name).status_code == 200
    for _ in range(2):
        body = {"name": name, "source": run["artifact_uri"], "run_id": run["run_id"]}
        made = call(url, "model-versions/create", headers, **body)
        assert made.status_code == 200, made.text


@pytest.fixture(scope="module")
def token_server(
    shared_provider: OidcProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.MlflowServer]:
    """Stock basic-auth that accepts the provider's tokens; the role ml-leads approves."""
    folder = tmp_path_factory.mktemp("token-server")
    text = servers.write_auth_config(folder).read_text()
    stock = text.rpartition("authorization_function = ")[2].strip()
    config = folder / "tokens.ini"
    config.write_text(text.replace(stock, AUTHORIZATION_FUNCTION))
    policy = folder / "policy.yaml"
    policy.write_text(
        POLICY.format(identity="{sources: [basic_auth]}", members='["role:ml-leads", carol]')
    )
    with servers.mlflow_server(
        folder,
        app_name="basic-auth",
        registry=f"approval-sqlite:///{folder / 'mlflow.db'}",
        MLFLOW_AUTH_CONFIG_PATH=str(config),
        MLFLOW_PACK_APPROVALS_POLICY=str(policy),
        MLFLOW_PACK_JWT_ISSUER=shared_provider.issuer,
        MLFLOW_PACK_JWT_AUDIENCE=AUDIENCE,
        MLFLOW_PACK_JWT_CREATE_USERS="true",
    ) as server:
        yield server


def search(server: servers.MlflowServer, headers: dict[str, str]) -> requests.Response:
    return call(server.url, "experiments/search", headers, max_results=1)


def test_stock_basic_auth_accepts_verified_tokens_and_passwords(
    token_server: servers.MlflowServer, provider: OidcProvider
) -> None:
    token = machine_token(provider)
    assert search(token_server, bearer(token)).status_code == 200
    me = requests.get(
        f"{token_server.url}/api/2.0/mlflow/users/current", headers=bearer(token), timeout=30
    )
    assert me.json()["user"]["username"] == "machine"
    assert search(token_server, ADMIN).status_code == 200
    # The routes that FastAPI serves are behind the same function.
    artifacts = f"{token_server.url}/api/2.0/mlflow-artifacts/artifacts?path=x"
    assert requests.get(artifacts, headers=bearer(token), timeout=30).status_code == 200
    assert requests.get(artifacts, headers=bearer(f"{token}x"), timeout=30).status_code == 401


def test_a_user_of_the_provider_named_admin_is_not_mlflows_admin(
    token_server: servers.MlflowServer, provider: OidcProvider
) -> None:
    token = forged_token(provider, sub="admin")
    answer = search(token_server, bearer(token))
    assert answer.status_code == 401
    assert "MLFLOW_PACK_JWT_ADMINS" in answer.text


def unsigned(claims: dict[str, object]) -> str:
    parts = [json.dumps(part).encode() for part in ({"alg": "none", "typ": "JWT"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts) + "."


def test_tokens_that_do_not_hold_get_a_401(
    token_server: servers.MlflowServer, provider: OidcProvider
) -> None:
    claims: dict[str, object] = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "admin"}
    for token in (
        unsigned({**claims, "exp": 9_999_999_999}),
        forged_token(provider, aud="other"),
        forged_token(provider, iss="https://evil.example"),
        forged_token(provider, exp=1),
        forged_token(provider, sub="a\nb"),
        f"{machine_token(provider)}x",
        "x",
    ):
        answer = search(token_server, bearer(token))
        assert answer.status_code == 401, token
        assert "invalid_token" in answer.headers["WWW-Authenticate"]
        assert token not in answer.text
    assert search(token_server, {}).status_code == 401
    assert search(token_server, basic("admin", "wrong")).status_code == 401


def test_a_role_is_a_group_of_the_policy(
    token_server: servers.MlflowServer, provider: OidcProvider
) -> None:
    """Bob signs in by token; only once an admin gives him the role does his vote count."""
    url = token_server.url
    alice, bob = (bearer(forged_token(provider, sub=name)) for name in ("alice", "bob"))
    assert search(token_server, alice).status_code == search(token_server, bob).status_code == 200
    register(url, "fraud-eu", alice)
    body = {"name": "fraud-eu", "version": "1"}
    vote = {**body, "key": "approvals.approve", "value": "prod: good"}
    asked = {**body, "key": "approvals.request", "value": "prod: please"}
    answer = call(url, "model-versions/set-tag", alice, **asked)
    assert answer.status_code == 200, answer.text
    refused = call(url, "model-versions/set-tag", bob, **vote)
    assert refused.status_code == 403, refused.text
    assert "NOT_AN_APPROVER" in refused.text
    role = requests.post(
        f"{url}/api/3.0/mlflow/roles/create",
        json={"name": "ml-leads", "workspace": "default"},
        headers=ADMIN,
        timeout=30,
    )
    assert role.status_code == 200, role.text
    given = requests.post(
        f"{url}/api/3.0/mlflow/roles/assign",
        json={"role_id": role.json()["role"]["id"], "username": "bob"},
        headers=ADMIN,
        timeout=30,
    )
    assert given.status_code == 200, given.text

    def votes() -> bool:
        return call(url, "model-versions/set-tag", bob, **vote).status_code == 200

    servers.wait_until(votes, "bob's vote", token_server.log)


@pytest.fixture(scope="module")
def open_server(
    shared_provider: OidcProvider, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[servers.MlflowServer]:
    """A stock server without an app, whose policy knows callers by token or by a proxy."""
    folder = tmp_path_factory.mktemp("open-server")
    identity = {
        "sources": ["jwt", "trusted_header"],
        "jwt": {
            "issuer": shared_provider.issuer,
            "audience": AUDIENCE,
            "groups_claim": "groups",
        },
        "trusted_header": {
            "peers": ["127.0.0.1/32"],
            "secret_header": "XProxySecret",
            "secret_env": "PROXY_SECRET",
            "user_header": "XRemoteUser",
            "groups_header": "XRemoteGroups",
        },
    }
    policy = folder / "policy.yaml"
    members = '[bob, carol, dave], sre: ["claim:mlflow-sre"], ci: ["claim:ci", eve]'
    policy.write_text(POLICY.format(identity=json.dumps(identity), members=members) + CLAIMED)
    with servers.mlflow_server(
        folder,
        registry=f"approval-sqlite:///{folder / 'mlflow.db'}",
        # Of a proxy elsewhere: for this machine's, uvicorn would put the client's address in place.
        options=["--uvicorn-opts", "--forwarded-allow-ips=192.0.2.1"],
        MLFLOW_PACK_APPROVALS_POLICY=str(policy),
        PROXY_SECRET=PROXY_SECRET,
    ) as server:
        yield server


def test_approvals_know_callers_by_token_and_by_proxy(
    open_server: servers.MlflowServer, provider: OidcProvider
) -> None:
    url = open_server.url
    proxy = {"XRemoteUser": "carol", "XProxySecret": PROXY_SECRET}
    register(url, "fraud-us", {})
    for version in ("1", "2"):
        body = {"name": "fraud-us", "version": version}

        def tag(
            headers: dict[str, str], command: str, body: dict[str, str] = body
        ) -> requests.Response:
            wanted = {"key": f"approvals.{command}", "value": "prod: x"}
            return call(url, "model-versions/set-tag", headers, **body, **wanted)

        assert tag(bearer(forged_token(provider, sub="alice")), "request").status_code == 200
        for stranger in (
            {},
            bearer(unsigned({"sub": "bob"})),
            bearer(forged_token(provider, sub="bob", aud="other")),
            # What the token's source refuses, the proxy's must not let in.
            {**proxy, **bearer("x.y.z")},
            {**proxy, "XProxySecret": "guessed"},
            {**proxy, "XRemoteUser": "mallory,carol"},
            {"X_Remote_User": "carol", "X-Remote-User": "carol"},
        ):
            answer = tag(stranger, "approve")
            assert answer.status_code == 401, answer.text
            assert "IDENTITY_REQUIRED" in answer.text
        approver = bearer(forged_token(provider, sub="bob")) if version == "1" else proxy
        answer = tag(approver, "approve")
        assert answer.status_code == 200, answer.text


def test_a_proxy_that_names_its_client_is_still_the_peer(
    open_server: servers.MlflowServer, provider: OidcProvider, tmp_path: Path
) -> None:
    """nginx sends X-Forwarded-For, which uvicorn must not take for the peer's address."""
    register(open_server.url, "fraud-nginx", {})
    directives = 'proxy_set_header Authorization ""; proxy_set_header X-Forwarded-For 203.0.113.7;'
    with (
        verifying(provider) as verifier,
        nginx_auth_request(tmp_path / "nginx", open_server.url, verifier, directives) as url,
    ):
        body = {"name": "fraud-nginx", "version": "1", "key": "approvals.request"}
        headers = bearer(forged_token(provider, sub="alice"))
        said = call(url, "model-versions/set-tag", headers, **body, value="prod: please")
        assert said.status_code == 200, said.text
        # What a client says of itself goes no further than nginx.
        forged = {**headers, "XRemoteUser": "bob", "XProxySecret": PROXY_SECRET}
        body["key"] = "approvals.approve"
        said = call(url, "model-versions/set-tag", forged, **body, value="prod: fine")
        assert (said.status_code, "'alice'" in said.text) == (403, True), said.text
    # A client that reaches the server itself lacks the secret, whatever address it claims.
    spoofed = {"XRemoteUser": "bob", "X-Forwarded-For": "127.0.0.1"}
    said = call(open_server.url, "model-versions/set-tag", spoofed, **body, value="prod: fine")
    assert (said.status_code, "IDENTITY_REQUIRED" in said.text) == (401, True), said.text


def test_claims_of_tokens_and_proxies_are_groups_where_the_policy_says_so(
    open_server: servers.MlflowServer, provider: OidcProvider
) -> None:
    url = open_server.url
    register(url, "claimed-1", {})

    def as_(name: str, *groups: str) -> dict[str, str]:
        return bearer(forged_token(provider, sub=name, groups=list(groups)))

    def tag(headers: dict[str, str], key: str, value: str, version: str) -> requests.Response:
        body = {"name": "claimed-1", "version": version, "key": key, "value": value}
        return call(url, "model-versions/set-tag", headers, **body)

    def say(headers: dict[str, str], command: str, version: str) -> requests.Response:
        return tag(headers, f"approvals.{command}", "prod: x", version)

    def promote(version: str) -> requests.Response:
        body = {"name": "claimed-1", "alias": "prod", "version": version}
        return call(url, "registered-models/alias", as_("alice"), **body)

    proxy = {"XRemoteUser": "carol", "XProxySecret": PROXY_SECRET}
    bob, carol = as_("bob", "x", "mlflow-sre"), {**proxy, "XRemoteGroups": "x;mlflow-sre"}
    for version in ("1", "2"):
        assert say(as_("alice"), "request", version).status_code == 200
        for stranger in (
            as_("bob"),
            as_("bob", "MLFLOW-SRE", "claim:mlflow-sre"),
            as_("claim:mlflow-sre"),
            as_("sre"),
            bearer(forged_token(provider, sub="bob", groups="mlflow-sre")),
            proxy,
            {**proxy, "XRemoteGroups": "mlflow-sre-interns"},
        ):
            answer = say(stranger, "approve", version)
            assert (answer.status_code, "NOT_AN_APPROVER" in answer.text) == (403, True), answer
        for approver in (bob, carol):
            answer = say(approver, "approve", version)
            assert answer.status_code == 200, answer.text
        assert "RESERVED_TAG" in tag(bob, "tests", "passed", version).text
        assert tag(as_("svc", "ci"), "tests", "passed", version).status_code == 200
    # Alice's own token says nothing of theirs.
    answer = promote("1")
    assert answer.status_code == 200, answer.text
    # A user seen without the group is no longer a member, whatever a token said before.
    assert say(as_("bob"), "comment", "2").status_code == 200
    for version in ("2",):
        assert say(as_("alice"), "request", version).status_code in (200, 400)
        answer = promote(version)
        assert answer.status_code == 403, answer.text
        assert "(sre 0/2)" in answer.text or "(sre 1/2)" in answer.text
