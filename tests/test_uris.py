"""The pack's URIs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack import uris
from mlflow_plugins_pack.errors import UnsupportedUriError


@given(st.sampled_from(["cas", "approval"]), st.text(min_size=1))
def test_the_stock_part_survives_unchanged(word: str, rest: str) -> None:
    stock = f"s3://{rest}"
    assert uris.to_stock(word, uris.to_pack(word, stock)) == stock


@pytest.mark.parametrize("uri", ["s3://b", "cas+s3://b", "cas://b", "", "cas-", "/cas-s3:/x"])
def test_another_scheme_is_refused_with_an_example(uri: str) -> None:
    with pytest.raises(UnsupportedUriError, match="cas-s3://bucket/prefix"):
        uris.to_stock("cas", uri)


def test_a_refusal_hides_the_password() -> None:
    with pytest.raises(UnsupportedUriError) as caught:
        uris.to_stock("approval", "postgresql://u:hunter2@h/db")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "scheme"),
    [
        ("cas-s3://b/p", "cas-s3"),
        ("cas-file:/a/b", "cas-file"),
        ("approval-mysql+pymysql://h/d", "approval-mysql+pymysql"),
        ("CAS-S3://b", "cas-s3"),
        ("/plain/path", ""),
        ("./a:b", ""),
    ],
)
def test_scheme_of(uri: str, scheme: str) -> None:
    assert uris.scheme_of(uri) == scheme
