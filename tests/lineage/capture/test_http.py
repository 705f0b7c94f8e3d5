"""Which place an HTTP request reads or writes."""

from __future__ import annotations

import pytest

from mlflow_plugins_pack.lineage.capture.event import READ, WRITE
from mlflow_plugins_pack.lineage.capture.libraries.http import place_of

_GOOGLE = "https://storage.googleapis.com"


@pytest.mark.parametrize(
    ("method", "url", "found"),
    [
        ("GET", "https://u:p@host/a.csv?token=x#y", (READ, "https://host/a.csv")),
        ("PUT", "https://host/a.csv", (WRITE, "https://host/a.csv")),
        ("POST", "https://host/a.csv", None),
        ("HEAD", "https://host/a.csv", None),
        (
            "GET",
            f"{_GOOGLE}/download/storage/v1/b/box/o/d%2Fa.csv?alt=media",
            (READ, "gs://box/d/a.csv"),
        ),
        ("GET", f"{_GOOGLE}/storage/v1/b/box/o/d%2Fa.csv?alt=media", (READ, "gs://box/d/a.csv")),
        ("GET", f"{_GOOGLE}/storage/v1/b/box/o/d%2Fa.csv", None),
        ("GET", f"{_GOOGLE}/storage/v1/b/box/o/a.csv?alt=json&projection=noAcl", None),
        ("GET", f"{_GOOGLE}/storage/v1/b/box/o?prefix=d", None),
        ("GET", f"{_GOOGLE}/storage/v1/b/box?fields=name", None),
        (
            "POST",
            f"{_GOOGLE}/upload/storage/v1/b/box/o?uploadType=media&name=d%2Fa",
            (WRITE, "gs://box/d/a"),
        ),
        ("POST", f"{_GOOGLE}/storage/v1/b/box/o/a/rewriteTo/b/box/o/c", None),
        ("GET", f"{_GOOGLE}/box/d/a%20b.csv?X-Goog-Signature=x", (READ, "gs://box/d/a%20b.csv")),
        ("PUT", "https://box.storage.googleapis.com/d/a.csv", (WRITE, "gs://box/d/a.csv")),
        ("GET", "https://box.storage.googleapis.com/", None),
    ],
)
def test_place_of_a_request(method: str, url: str, found: tuple[str, str] | None) -> None:
    assert place_of(method, url) == found
