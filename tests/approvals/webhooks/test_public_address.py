"""Addresses that a webhook may lead to, in every disguise."""

from __future__ import annotations

import ipaddress

import pytest

from mlflow_plugins_pack.approvals.webhooks.public_address import is_public


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_public(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",  # a cloud's metadata
        "100.64.0.1",  # a carrier's
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2001:0:808:808:0:0:80ff:fffe",  # Teredo of 127.0.0.1
        "64:ff9b::a9fe:a9fe",  # NAT64 of 169.254.169.254
        "64:ff9b:1::1",  # local-use NAT64
    ],
)
def test_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))
