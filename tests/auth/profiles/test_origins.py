"""Exact origins: what matches, and what only looks as if it did."""

from __future__ import annotations

import posixpath
import re
import string
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from urllib3.util import parse_url as parsed_by_urllib3

from mlflow_plugins_pack.auth.profiles.origins import (
    Scope,
    parse_scope,
    stays_under,
)
from mlflow_plugins_pack.web_urls import parse_url
from tests.auth.support.scopes import covered


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        ("https://mlflow.example.com", "https://mlflow.example.com/api?x=1"),
        ("https://mlflow.example.com", "https://mlflow.example.com"),
        ("https://mlflow.example.com/", "https://MLflow.Example.COM:443/api"),
        ("https://mlflow.example.com:443", "https://mlflow.example.com/api"),
        ("https://h.example:8443", "https://h.example:8443/"),
        ("http://localhost:5000", "http://localhost:5000/x"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000/x"),
        ("http://[::1]:5000", "http://[0:0:0:0:0:0:0:1]:5000/x"),
        ("https://bücher.example", "https://xn--bcher-kva.example/x"),
        ("https://mlflow_server", "https://mlflow_server/x"),
        ("https://gw.example/mlflow", "https://gw.example/mlflow"),
        ("https://gw.example/mlflow", "https://gw.example/mlflow/api"),
        ("https://gw.example/mlflow", "https://gw.example/mlflow/./a;x//b..c/a%E2%80%A6"),
        ("https://gw.example/mlflow", "https://gw.example/mlflow/a%20b%25"),
    ],
)
def test_covered(scope: str, url: str) -> None:
    assert covered(scope, url)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("http://mlflow.example.com", "https only"),
        ("http://127.0.0.1.example.com", "https only"),
        ("ftp://h", "must start with"),
        ("mlflow.example.com", "must start with"),
        ("https://u:p@h.example", "user name"),
        ("https://h.example.", "malformed"),
        ("https://h..example", "malformed"),
        ("https://127.1", "malformed"),
        ("https://[::1%25eth0]", "not of the form"),
        ("https://h:0", "port"),
        ("https://h:70000", "port"),
        ("https://h/a?x", "query"),
        ("https://h/a/../b", "plain segments"),
        ("https://h/a//b", "plain segments"),
        ("https://h/a;b", "plain segments"),
        ("https://h/%2e", "plain segments"),
        ("https://*.example.com", "not of the form"),
        ("https://", "not of the form"),
        ("https://h\\evil", "not of the form"),
    ],
)
def test_entries_that_are_refused_say_why(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_scope(text)


labels = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
names = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
hosts = st.builds(lambda first, last: ".".join((*first, last)), st.lists(labels, max_size=3), names)
scopes = st.builds(
    Scope,
    st.just("https"),
    hosts,
    st.integers(1, 65535),
    st.lists(st.text(string.ascii_letters + "-_", min_size=1), max_size=3).map(tuple),
)


@given(scopes)
def test_a_scope_reads_back_and_covers_itself(scope: Scope) -> None:
    assert parse_scope(str(scope)) == scope
    assert covered(str(scope), f"{scope}/api/x?y=https://evil#z")


@given(scopes, st.text())
def test_a_covered_url_goes_to_that_host_for_the_library_that_connects(
    scope: Scope, noise: str
) -> None:
    """Whatever is glued on, urllib3 connects where we think it does, or we do not match."""
    origin = f"{scope.scheme}://{scope.host}:{scope.port}"
    for url in (f"{origin}{noise}", f"{scope.scheme}://{noise}@{scope.host}", f"{noise}{origin}"):
        target = parse_url(url)
        if target is not None and target.origin == scope.origin:
            assert parsed_by_urllib3(url).host == scope.host
            assert parsed_by_urllib3(url).port in (scope.port, None)


@given(st.lists(st.sampled_from(["..", ".", "mlflow", "x", "%2e%2e", "..%2f", "", "%252e."])))
def test_a_path_under_the_prefix_never_resolves_elsewhere(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    if stays_under(path, ("mlflow",)):
        for _ in range(4):
            resolved = posixpath.normpath(re.sub("/+", "/", path))
            assert resolved == "/mlflow" or resolved.startswith("/mlflow/")
            path = unquote(path)
