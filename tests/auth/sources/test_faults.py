"""A source that fails: nothing is sent, and the error says why without the secret."""

from __future__ import annotations

import traceback

import mlflow
import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from tests.auth.support.parts import (
    API,
    SECRET,
    Profiles,
    Recorder,
    env_profile,
)


def test_a_failing_source_sends_nothing_and_says_what_to_do(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles(env_profile(named.url))
    mlflow.set_tracking_uri(named.url)
    try:
        with pytest.raises(MlflowException, match="TOKEN is not set") as caught:
            mlflow.MlflowClient().get_experiment("1")
    finally:
        mlflow.set_tracking_uri(None)
    assert "'prod'" in str(caught.value)
    assert "mlflow-pack auth status" in str(caught.value)
    assert named.seen == []


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sleep", "30"], "did not end within"),
        (["sh", "-c", "yes"], "more than 64 KiB"),
        (["sh", "-c", f"echo the token is {SECRET} >&2; exit 3"], "exit code 3"),
        (["sh", "-c", f"echo password={SECRET} >&2; exit 3"], "exit code 3"),
        (["true"], "printed no token"),
        (["no-such-program-here"], "cannot be started"),
        (["printf", "two\\nlines"], "line break"),
        (["printf", "{"], "is not JSON"),
        (["printf", '{"access_token": "t", "expires_in": -5}'], "expires_in"),
    ],
)
def test_a_helper_that_misbehaves_sends_nothing_and_tells_no_secret(
    named: Recorder, profiles: Profiles, command: list[str], said: str
) -> None:
    listed = ", ".join(f"'{word}'" if '"' in word else f'"{word}"' for word in command)
    listed = listed.replace('"two\\nlines"', "'two\\nlines'")
    profiles(
        f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "command"\ncommand = [{listed}]\n'
        "timeout_seconds = 1\n"
    )
    with pytest.raises(MlflowException, match=said) as caught:
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "'prod'" in str(caught.value)
    assert named.seen == []


@pytest.mark.parametrize("token", ["a\nb", "a\rb", "töken\u20ac", "", "   "])
def test_a_token_that_no_header_may_carry_is_refused(
    named: Recorder, profiles: Profiles, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("TOKEN", token)
    profiles(f'[profile.prod]\nhosts = ["{named.url}"]\nsource = "env"\nenv = "TOKEN"\n')
    with pytest.raises(MlflowException, match="has no credential"):
        http_request(MlflowHostCreds(named.url), API, "GET")
    assert named.seen == []
