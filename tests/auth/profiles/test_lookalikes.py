"""Look-alike origins and paths are not covered by a profile."""

from __future__ import annotations

import pytest

from mlflow_plugins_pack.auth.profiles.file import parse_profiles
from mlflow_plugins_pack.errors import AmbiguousAddressError
from tests.auth.support.scopes import covered


@pytest.mark.parametrize(
    "url",
    [
        "http://mlflow.example.com/",
        "https://mlflow.example.com:8443/",
        "https://mlflow.example.com.evil/",
        "https://evil.com/mlflow.example.com",
        "https://xmlflow.example.com/",
        "https://example.com/",
        "https://a.mlflow.example.com/",
        "https://mlflow.example.com./",
        "https://mlflow.example.com@evil.com/",
        "https://user:pw@mlflow.example.com/",
        "https://mlflow.example.com\\@evil.com/",
        "https://evil.com\\.mlflow.example.com/",
        "https://evil.com#@mlflow.example.com/",
        "https://mlflow.example.com%2eevil.com/",
        "https://mlflow%2eexample.com/",
        "https://mlflow.ex\u0430mple.com/",
        "https://mlflow.example.com\u3002evil/",
        "https://mlflow.example.com:0443x/",
        "https://mlflow.example.com:/",
        "https://mlflow.example.com :443/",
        " https://mlflow.example.com/",
        "https:mlflow.example.com/",
        "https:///mlflow.example.com/",
        "//mlflow.example.com/",
        "https://[::ffff:127.0.0.1]/",
        "",
    ],
)
def test_look_alikes_are_not_covered(url: str) -> None:
    assert not covered("https://mlflow.example.com", url)


@pytest.mark.parametrize(
    "host",
    ["127.1:5000", "0x7f.0.0.1:5000", "2130706433:5000", "0177.0.0.1:5000", "localhost:5000"],
)
def test_other_spellings_of_an_address_are_not_covered(host: str) -> None:
    assert not covered("http://127.0.0.1:5000", f"http://{host}/")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/other",
        "/mlflowx",
        "//mlflow",
        "/Mlflow",
        "/mlflow/../other",
        "/mlflow/%2e%2e/other",
        "/mlflow/%252e%252e/other",
        "/mlflow/..%2fother",
        "/mlflow/..;/other",
        "/mlflow/..\\other",
        "/mlflow/.;/%2f..",
        "/mlflow/;/%2e%2e/other",
        "/mlflow/.;x/../other",
        "/mlflow/a/../b",
        "/mlflow;x/a",
        "/;x/mlflow",
        "/mlflow/%c0%ae%c0%ae/other",
        "/mlflow/%2e%00%2e/other",
        "/mlflow/%ef%bc%8e%ef%bc%8e/other",
        "/mlflow/%e2%80%a5/other",
        "/mlflow/a%3b/..%3b/b",
        "/mlflow/../other/../mlflow/x",
        "/other/%2e%2e/../mlflow/../x",
    ],
)
def test_paths_outside_the_prefix_are_not_covered(path: str) -> None:
    assert not covered("https://gw.example/mlflow", f"https://gw.example{path}")


TWO = """
[profile.a]
hosts = ["https://h.example/a", "https://b\u00fccher.example"]
source = "env"
env = "A"
[profile.b]
hosts = ["https://h.example/b", "http://127.0.0.1:5000", "http://[::1]:5000"]
source = "env"
env = "B"
"""


@pytest.mark.parametrize(
    "url",
    [
        "https://h.example/a/../b",
        "https://h.example/a/%2e%2e/b",
        "https://h.example/a/.;/%2f../b/x",
        "https://h.example/x/..;/b",
        "https://h.example//a",
        "https://h.example/x/%252e%252e/a",
        "https://user@h.example/a",
        "https://user:pw@h.example./a",
        "https://h.example./a",
        "https://xn--bcher-kva.example./",
        "http://127.1:5000/",
        "http://2130706433:5000/",
        "http://0x7f.0.0.1:5000/",
        "http://someone@127.0.0.1:5000/",
        "http://127%2e0.0.1:5000/",
        "http://someone@[0:0:0:0:0:0:0:1]:5000/",
        "http://[::1%25lo]:5000/",
    ],
)
def test_an_address_that_may_be_a_named_one_is_refused(url: str) -> None:
    """Neither a credential nor a request without one is sent there."""
    found = parse_profiles("x", TWO.encode())
    with pytest.raises(AmbiguousAddressError, match="not sent") as caught:
        found.find(url)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://h.example/",
        "https://h.example/ab/x",
        "https://h.example/c/%2e%2e/d",
        "https://other.example./a",
        "https://user@other.example/a",
        "http://user@h.example/a",
        "https://user@h.example:8443/a",
        "http://127.1:5001/",
        "http://[::1%25lo]:5001/",
        "https://h.example:99999/a",
        "nonsense",
        "",
    ],
)
def test_an_address_that_is_surely_another_is_left_to_mlflow(url: str) -> None:
    assert parse_profiles("x", TWO.encode()).find(url) is None
