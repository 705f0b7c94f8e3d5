"""A request waits for its credential no longer than the profile says."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import requests

from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError, SourceError
from mlflow_plugins_pack.auth.sources.bounded import bounded
from mlflow_plugins_pack.auth.sources.command import CommandReader
from mlflow_plugins_pack.auth.sources.sigv4 import AwsSigv4Source

LIMIT = 0.5
LATE = 4


@pytest.fixture(autouse=True)
def _no_other_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.parametrize("error", [PermissionError, ProcessLookupError])
def test_a_program_that_cannot_be_killed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, error: type[OSError]
) -> None:
    """As one that became root: sudo, or a setuid program."""

    def refuse(group: int, number: int) -> None:
        raise error

    monkeypatch.setattr(os, "killpg", refuse)
    began = time.monotonic()
    with pytest.raises(SourceError, match="did not end within"):
        CommandReader(["sleep", str(LATE)], LIMIT).read()
    assert time.monotonic() - began < LATE / 2


def test_a_program_that_prints_for_ever_and_cannot_be_killed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "killpg", lambda group, number: None)
    began = time.monotonic()
    with pytest.raises(SourceError, match="64 KiB"):
        CommandReader(["sh", "-c", f"head -c 99999 /dev/zero; exec sleep {LATE}"], LATE).read()
    assert time.monotonic() - began < LATE / 2


def slow_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: int) -> AwsSigv4Source:
    """Return a source whose ``credential_process`` is slow once it was quick so many times."""
    ends = datetime.now(timezone.utc) + timedelta(seconds=700)  # botocore renews it each time
    program, count = tmp_path / "program", tmp_path / "count"
    count.write_text("")
    program.write_text(
        f"#!/bin/sh\necho >> {count}\n"
        f"if [ $(wc -l < {count}) -gt {quick} ]; then exec sleep {LATE}; fi\n"
        'echo \'{"Version": 1, "AccessKeyId": "AKIA", "SecretAccessKey": "s", "SessionToken": "t", '
        f'"Expiration": "{ends:%Y-%m-%dT%H:%M:%SZ}"}}\'\n'
    )
    program.chmod(0o700)
    config = tmp_path / "aws"
    config.write_text(f"[default]\ncredential_process = {program}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    return AwsSigv4Source("eu-west-1", "execute-api", None, LIMIT * 4)


def test_a_slow_program_of_the_aws_configuration_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = slow_process(tmp_path, monkeypatch, quick=0)
    began = time.monotonic()
    with pytest.raises(SourceDownError, match="botocore gave no answer"):
        source.fetch()
    assert time.monotonic() - began < LATE


def test_one_that_becomes_slow_is_given_up_when_a_request_is_signed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credential = slow_process(tmp_path, monkeypatch, quick=2).fetch()
    request = requests.Request("GET", "https://h.example/").prepare()
    began = time.monotonic()
    with pytest.raises(SourceError, match="botocore gave no answer"):
        credential.headers_for(request)
    assert time.monotonic() - began < LATE


def test_a_library_that_hangs_is_given_up() -> None:
    began = time.monotonic()
    with pytest.raises(SourceDownError, match=r"azure-identity gave no answer within 0\.1 s"):
        bounded(0.1, "azure-identity", lambda: time.sleep(LATE))
    assert time.monotonic() - began < LATE / 2
