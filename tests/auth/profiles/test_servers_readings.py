"""A signed path is under its prefix for every server: in whatever order it decodes and resolves."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests.utils import requote_uri
from urllib3.util import parse_url as as_urllib3_sends

from mlflow_plugins_pack.auth.profiles.file import parse_profiles
from mlflow_plugins_pack.errors import AmbiguousAddressError

FOUND = parse_profiles(
    "x",
    b'[profile.a]\nhosts = ["https://h/a"]\nsource = "env"\nenv = "A"\n'
    b'[profile.b]\nhosts = ["https://h/b", "http://127.0.0.1"]\nsource = "env"\nenv = "B"\n',
)
PARTS = (
    *("a", "b", "x", "", ".", "..", ";", ";x", ".;", ".;x", "..;", "\\", "..."),
    *("%2e", "%2e%2e", "%2f", "%3b", "%5c", "%252f", "%253b", "%25252e"),
)


def resolved(path: str) -> str:
    reached: list[str] = []
    for segment in path.split("/")[1:]:
        if segment != "..":
            reached += [segment] * (segment != ".")
        elif reached:
            reached.pop()
    return "/" + "/".join(reached)


STEPS: dict[str, Callable[[str], str]] = {
    "decode": lambda path: unquote(path, errors="replace"),
    "drop parameters": lambda path: re.sub(r";[^/]*", "", path),
    "merge slashes": lambda path: re.sub("/+", "/", path),
    "turn backslashes": lambda path: path.replace("\\", "/"),
    "resolve": resolved,
}
SERVERS = {
    "Tomcat, Jetty": "drop parameters, decode, merge slashes, resolve",
    "Tomcat that allows backslashes": (
        "drop parameters, decode, turn backslashes, merge slashes, resolve"
    ),
    "Spring": "decode, drop parameters, merge slashes, resolve",
    "Spring without merging": "decode, drop parameters, resolve",
    "nginx": "decode, merge slashes, resolve",
    "Python": "decode, resolve",
    "nginx before Tomcat": (
        "decode, merge slashes, resolve, drop parameters, decode, merge slashes, resolve"
    ),
    "IIS": "decode, turn backslashes, merge slashes, resolve",
    "one that does not decode": "resolve",
}


def random_paths(seed: int, count: int) -> list[str]:
    chance = random.Random(seed)
    return [
        "/a/"
        + "".join(
            chance.choice(PARTS) + chance.choice(["/", "/", "/", ""])
            for _ in range(chance.randint(1, 5))
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("server", SERVERS)
def test_a_signed_path_stays_under_its_prefix(server: str) -> None:
    signed = 0
    for path in random_paths(7, 1500):
        try:
            if FOUND.find(f"https://h{path}") != "a":
                continue
        except AmbiguousAddressError:
            continue
        signed += 1
        read = as_urllib3_sends(requote_uri(f"https://h{path}")).path or "/"
        for step in SERVERS[server].split(", "):
            read = STEPS[step](read)
        segments = [segment for segment in read.split("/") if segment]
        assert segments[:1] == ["a"], path
    assert signed > 300


@given(st.text(), st.sampled_from(["", "http://", "https://h/", "https://", "http://x@"]))
def test_any_text_is_of_a_profile_of_none_or_refused(text: str, start: str) -> None:
    with contextlib.suppress(AmbiguousAddressError):
        assert FOUND.find(start + text) in ("a", "b", None)
