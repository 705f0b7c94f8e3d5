"""Look-alike origins and paths are not covered by a profile."""

from __future__ import annotations

import pytest

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
        "/mlflow/../other/../mlflow/x",
        "/other/%2e%2e/../mlflow/../x",
    ],
)
def test_paths_outside_the_prefix_are_not_covered(path: str) -> None:
    assert not covered("https://gw.example/mlflow", f"https://gw.example{path}")
