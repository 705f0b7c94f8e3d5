"""The caller of a real Flask request, from each source, and from none it was not told to ask."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
import pytest
from pydantic import ValidationError

from mlflow_plugins_pack.identity.resolvers import (
    Caller,
    RefusedError,
    from_jwt,
    from_trusted_header,
    resolve,
)
from mlflow_plugins_pack.identity.roles import KEEP_SECONDS, Directory, claims_in, has_roles
from mlflow_plugins_pack.identity.settings import Identity, JwtSettings, TrustedHeaderSettings
from tests.support.oidc import AUDIENCE, OidcProvider
from tests.support.oidc.tokens import machine_token

SECRET = "planted-proxy-secret"
PROXY = {
    "peers": ["10.0.0.0/8", "::1"],
    "secret_header": "XProxySecret",
    "secret_env": "PROXY_SECRET",
    "user_header": "XRemoteUser",
    "groups_header": "XRemoteGroups",
}
HEADERS = {"XRemoteUser": "alice", "XProxySecret": SECRET, "XRemoteGroups": "leads; risk"}
TRUSTED = {"sources": ["trusted_header"], "trusted_header": PROXY}
app = flask.Flask(__name__)


def caller(
    settings: dict[str, Any], headers: Any = (), peer: str = "10.1.2.3", **environ: Any
) -> Caller | None:
    environ = {"REMOTE_ADDR": peer, **environ}
    with app.test_request_context(headers=headers, environ_overrides=environ):
        return resolve(Identity.model_validate(settings))


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY_SECRET", SECRET)


def test_outside_a_request_there_is_nobody() -> None:
    assert resolve(Identity()) is None


def test_basic_auth_counts_by_what_the_app_verified_only() -> None:
    settings = Identity()
    with app.test_request_context(headers={"Authorization": "Basic YWRtaW46eA=="}):
        assert resolve(settings) is None
    with app.test_request_context():
        flask.g.mlflow_authenticated_user = "alice"
        assert resolve(settings) == Caller("alice", source="basic_auth")
    with app.test_request_context():
        flask.g.mlflow_authenticated_user = "alice"
        assert resolve(Identity(sources=["oidc"])) is None


@dataclass
class AuthContext:
    """What mlflow-oidc-auth leaves in the environment."""

    username: str | None
    is_admin: bool = False


@pytest.mark.parametrize("context", [AuthContext("alice"), {"username": "alice"}])
def test_the_context_of_mlflow_oidc_auth(context: object) -> None:
    settings = {"sources": ["oidc"]}
    found = caller(settings, mlflow_oidc_auth=context)
    assert found == Caller("alice", source="oidc")
    assert caller(settings, mlflow_oidc_auth=AuthContext(None)) is None
    assert caller(settings) is None
    assert caller(settings, headers={"mlflow_oidc_auth": "alice"}) is None


def test_a_trusted_header() -> None:
    assert caller(TRUSTED, HEADERS) == Caller(
        "alice", frozenset({"leads", "risk"}), "trusted_header"
    )
    assert caller(TRUSTED, HEADERS, peer="::1") is not None
    assert caller(TRUSTED, HEADERS, peer="::ffff:10.0.0.1") is not None
    assert caller(TRUSTED) is None


@pytest.mark.parametrize(
    ("changes", "peer"),
    [
        ({}, "192.0.2.1"),
        ({}, ""),
        ({"XProxySecret": "other"}, "10.1.2.3"),
        ({"XProxySecret": ""}, "10.1.2.3"),
        ({"XRemoteUser": "admin,alice"}, "10.1.2.3"),
        ({"XRemoteUser": " "}, "10.1.2.3"),
        ({"XRemoteUser": "a" * 300}, "10.1.2.3"),
        ({"XRemoteGroups": "leads,admins"}, "10.1.2.3"),
    ],
)
def test_a_header_that_is_not_to_be_trusted(changes: dict[str, str], peer: str) -> None:
    assert caller(TRUSTED, {**HEADERS, **changes}, peer) is None


def test_a_doubled_header_is_refused() -> None:
    doubled = [*HEADERS.items(), ("XRemoteUser", "admin")]
    assert caller(TRUSTED, doubled) is None


def test_an_unset_secret_admits_no_caller(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PROXY_SECRET")
    assert caller(TRUSTED, {**HEADERS, "XProxySecret": ""}) is None
    file = tmp_path / "secret"
    proxy = {**PROXY, "secret_file": str(file), "secret_env": None}
    settings = {"sources": ["trusted_header"], "trusted_header": proxy}
    assert caller(settings, HEADERS) is None
    file.write_text(f"{SECRET}\n")
    assert caller(settings, HEADERS) is not None
    file.write_text("rotated\n")
    assert caller(settings, HEADERS) is None


@pytest.mark.parametrize("name", ["X-Remote-User", "X_Remote_User", "", "X Remote"])
def test_a_header_name_that_can_be_smuggled_is_refused(name: str) -> None:
    proxy = {**PROXY, "user_header": name}
    with pytest.raises(ValidationError, match="letters and digits only"):
        Identity.model_validate({"sources": ["trusted_header"], "trusted_header": proxy})


@pytest.mark.parametrize(
    "settings",
    [
        {"sources": ["jwt"]},
        {"sources": ["basic_auth"], "trusted_header": PROXY},
        {"sources": []},
        {"sources": ["oidc", "oidc"]},
        {"sources": ["header"]},
        {"allow_anonymous": True},
        {"sources": ["jwt"], "jwt": {"issuer": "http://idp.example", "audience": "a"}},
        {"sources": ["trusted_header"], "trusted_header": {**PROXY, "peers": ["anywhere"]}},
        {"sources": ["trusted_header"], "trusted_header": {**PROXY, "groups_separator": ","}},
        {"sources": ["trusted_header"], "trusted_header": {**PROXY, "secret_env": None}},
    ],
)
def test_settings_that_do_not_fit_together(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Identity.model_validate(settings)


def jwt_settings(provider: OidcProvider, **more: Any) -> dict[str, Any]:
    jwt = {"issuer": provider.issuer, "audience": AUDIENCE, "groups_claim": "groups", **more}
    return {"sources": ["jwt", "basic_auth"], "jwt": jwt}


def test_a_bearer_token_of_a_real_provider(provider: OidcProvider) -> None:
    token = machine_token(provider)
    settings = jwt_settings(provider)
    found = caller(settings, {"Authorization": f"Bearer {token}"})
    assert found == Caller("machine", frozenset({"ci"}), "jwt")
    proxied = jwt_settings(provider, header="X-Proxy-Assertion", user_claim="preferred_username")
    assert caller(proxied, {"X-Proxy-Assertion": token}) is not None
    assert caller(proxied, {"Authorization": f"Bearer {token}"}) is None


def test_what_one_source_refuses_does_not_count_as_anothers(provider: OidcProvider) -> None:
    settings = Identity.model_validate(jwt_settings(provider))
    token = machine_token(provider)
    for text, expected in ((f"{token}x", None), ("", "bob")):
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        with app.test_request_context(headers=headers):
            flask.g.mlflow_authenticated_user = "bob"
            found = resolve(settings)
            assert (found.user if found else None) == expected


def test_a_claim_that_names_nobody_is_refused(provider: OidcProvider) -> None:
    token = machine_token(provider)
    for claim in ("groups", "exp", "absent"):
        settings = jwt_settings(provider, user_claim=claim)
        assert caller(settings, {"Authorization": f"Bearer {token}"}) is None


def test_roles_are_expanded_and_kept_for_a_moment() -> None:
    asked: list[str] = []
    clock = [0.0]

    def members(role: str) -> frozenset[str]:
        asked.append(role)
        return frozenset({"bob", "carol"})

    directory = Directory(members, lambda: clock[0])
    groups = {"leads": ["role:ml-leads", "dave"], "ci": ["svc"]}
    assert has_roles(groups)
    assert not has_roles({"ci": ["svc"]})
    for _ in range(3):
        assert directory.expand(groups) == {"leads": ["bob", "carol", "dave"], "ci": ["svc"]}
    assert asked == ["ml-leads"]
    clock[0] += KEEP_SECONDS + 0.1
    directory.expand(groups)
    assert asked == ["ml-leads"] * 2


def test_claims_are_members_by_exact_name_only() -> None:
    groups = {"sre": ["claim:sre", "dave"], "ci": ["claim:ci"]}
    assert claims_in(groups) == {"sre", "ci"}
    known = {"bob": frozenset({"sre", "x"}), "sre": frozenset({"SRE"}), "eve": frozenset()}
    assert Directory().expand(groups, known) == {"sre": ["bob", "dave"], "ci": []}
    assert Directory().expand(groups) == {"sre": ["dave"], "ci": []}


@pytest.mark.parametrize(
    ("identity", "gives"),
    [
        ({}, False),
        ({"sources": ["oidc"]}, True),
        ({"sources": ["jwt"], "jwt": {"issuer": "https://i", "audience": "a"}}, False),
        (
            {
                "sources": ["jwt"],
                "jwt": {"issuer": "https://i", "audience": "a", "groups_claim": "g"},
            },
            True,
        ),
    ],
)
def test_which_sources_give_groups(identity: dict[str, Any], gives: bool) -> None:
    assert Identity.model_validate(identity).gives_groups is gives


def test_a_peer_that_uvicorn_has_replaced_is_explained() -> None:
    """With X-Forwarded-For of nginx, REMOTE_ADDR is the client's address."""
    settings = TrustedHeaderSettings(
        peers=["127.0.0.1/32"], secret_header="XSecret", secret_env="S", user_header="XUser"
    )
    with pytest.raises(RefusedError, match=r"203\.0\.113\.7.*--no-proxy-headers"):
        from_trusted_header({"HTTP_XUSER": "alice", "REMOTE_ADDR": "203.0.113.7"}, settings)


@pytest.mark.parametrize("token", ["opaque", "a.b", "gho_16C7e42F292c6912E7", "v4.local.x"])
def test_a_token_that_cannot_be_verified_says_what_helps(token: str) -> None:
    settings = JwtSettings(issuer="https://idp.example", audience="mlflow")
    with pytest.raises(RefusedError, match=r"signing in again does not help.*id_token"):
        from_jwt({"Authorization": f"Bearer {token}"}, settings)
