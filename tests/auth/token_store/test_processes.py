"""Several processes that refresh one sign-in at once."""

from __future__ import annotations

import pytest

from mlflow_plugins_pack.auth.sources.oidc import OidcSource
from tests.auth.support.sign_ins import in_processes, sign_in_by_browser, spend
from tests.support.oidc import SECRET as CLIENT_SECRET
from tests.support.oidc import OidcProvider


@pytest.fixture(autouse=True)
def _client_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLIENT_SECRET", CLIENT_SECRET)


def test_eight_processes_make_one_refresh_and_keep_the_rotated_token(
    source: OidcSource, provider: OidcProvider
) -> None:
    refused = provider.grants("refresh_token", ok=False)  # of other tests
    sign_in_by_browser(source)
    for _ in range(3):  # with a token spent twice the provider would revoke the whole sign-in
        spend(source)
        before = len(provider.grants("refresh_token"))
        tokens = in_processes(8, "me")
        assert len(tokens) == 8
        assert len(set(tokens)) == 1
        assert len(provider.grants("refresh_token")) == before + 1
    assert provider.grants("refresh_token", ok=False) == refused
