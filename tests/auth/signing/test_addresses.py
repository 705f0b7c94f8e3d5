"""The address as it is sent decides, however it was written: no unsigned request by accident."""

from __future__ import annotations

import pytest
import requests
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request
from requests.adapters import HTTPAdapter

from tests.auth.support.parts import API, SECRET, Profiles, Recorder

PROFILE = """
[profile.p]
hosts = ["https://b\u00fccher.example", "https://mlflow.example.com", "https://gw.example.com/team"]
source = "env"
env = "TOKEN"
proxy = "https://proxy.example"
tls = { ca = "CA" }
"""


@pytest.fixture
def sent(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> list[tuple[requests.PreparedRequest, object]]:
    """The requests that are sent, with the certificates they trust: they reach no network."""
    seen: list[tuple[requests.PreparedRequest, object]] = []

    def send(
        self: HTTPAdapter, request: requests.PreparedRequest, **kwargs: object
    ) -> requests.Response:
        seen.append((request, kwargs["verify"]))
        response = requests.Response()
        response.status_code, response.url, response.request = 200, str(request.url), request
        response._content, response.raw = b"{}", None
        return response

    monkeypatch.setattr("mlflow.utils.request_utils.TCPKeepAliveHTTPAdapter.send", send)
    monkeypatch.setenv("TOKEN", SECRET)
    ca = f"{tmp_path}/ca.pem"
    profiles(PROFILE.replace("CA", ca))
    return seen


@pytest.mark.parametrize("auth", [None, "plugins-pack"])
@pytest.mark.parametrize(
    "host",
    [
        "https://mlflow.example.com",
        " https://mlflow.example.com",
        "\thttps://mlflow.example.com",
        "https://mlflow.example.com:",
        "https://mlflow.example.com:0443",
        "HTTPS://MLFLOW.example.com",
        "https://mlflow\u3002example.com",
        "https://\uff4dlflow.example.com",
        "https://b\u00fccher.example",
        "https://B\u00dcCHER.example",
        "https://xn--bcher-kva.example",
    ],
)
def test_an_address_is_compared_as_it_is_sent(
    sent: list[tuple[requests.PreparedRequest, object]], host: str, auth: str | None
) -> None:
    try:
        http_request(MlflowHostCreds(host, auth=auth), API, "GET")
    except MlflowException:
        assert sent == []  # `requests` refuses it
        return
    ((request, verify),) = sent
    assert request.headers["Authorization"] == f"Bearer {SECRET}"
    assert str(verify).endswith("ca.pem")


@pytest.mark.parametrize(
    "host",
    [
        "https://mlflow.example.com.",
        "https://someone@mlflow.example.com",
        "https://gw.example.com/team/.;/%2f..",
        "https://gw.example.com/x/..;/team",
        "https://gw.example.com//team",
    ],
)
@pytest.mark.parametrize("auth", [None, "plugins-pack"])
def test_an_address_that_may_be_a_named_one_is_not_asked_unsigned(
    sent: list[tuple[requests.PreparedRequest, object]], host: str, auth: str | None
) -> None:
    with pytest.raises(MlflowException, match="not sent"):
        http_request(MlflowHostCreds(host, auth=auth), API, "GET")
    assert sent == []


def test_a_redirect_to_such_an_address_is_not_followed(
    signed_in: object, named: Recorder, evil: Recorder
) -> None:
    named.rule = lambda seen: (302, {"Location": f"http://x@127.0.0.1:{named.port}/y"}, b"")
    with pytest.raises(MlflowException, match="not sent"):
        http_request(MlflowHostCreds(named.url), "/get-artifact", "GET")
    assert len(named.seen) == 1
