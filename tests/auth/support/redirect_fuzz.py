"""Random Locations and URLs: where the signer allows credentials, and where `requests` sends them.

Each case is one request through a real `requests.Session` whose adapter connects to nothing: it
notes the address that `requests` would connect to, and answers the first request with a redirect.
A request that carries the credential must go to the profile's host and stay under its prefix.

    python -m tests.auth.support.redirect_fuzz [COUNT [SEED]]

Nightly: COUNT is 1000000, the default (some 6 minutes of one core). Exits with 1 at the first case
that leaks, and prints it.
"""

from __future__ import annotations

import io
import os
import posixpath
import random
import re
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import requests
from requests.adapters import HTTPAdapter
from urllib3.response import HTTPResponse

from mlflow_plugins_pack.auth import manager
from mlflow_plugins_pack.auth.signing.signer import PackAuth
from mlflow_plugins_pack.errors import AuthError
from tests.auth.support.parts import write_profiles

HOST, PORT, PREFIX = "127.0.0.1", 5000, "team-a"
TOKEN = "planted-fuzz-token"
PROFILE = (
    f'[profile.p]\nhosts = ["http://{HOST}:{PORT}/{PREFIX}"]\nsource = "env"\nenv = "FUZZ_TOKEN"\n'
)

_SCHEMES = ["http:", "http:", "https:", "HTTP:", "hTTp:", "ftp:", "http", "", "", "x:", ":"]
_SLASHES = ["", "/", "//", "//", "///", "////", "/////", "\\", "\\\\", "/\\", "\\/", "//\\", "/./"]
_USERS = ["", "", "", "", "u@", f"{HOST}:{PORT}@", f"{HOST}:{PORT}\\@", f"{HOST}#@", "@", "u:p@"]
_HOSTS = [
    *[f"{HOST}:{PORT}"] * 6,
    *["evil", "evil.example:5000", f"{HOST}.evil:{PORT}", f"{HOST}.:{PORT}", f"{HOST}:{PORT}x"],
    *["127.1:5000", "2130706433:5000", "0x7f.1:5000", "[::1]:5000", "[::ffff:127.0.0.1]:5000"],
    *["localhost:5000", "127.0.0.1:05000", "127.0.0.1:", "127.0.0.1:5001", "127.0.0.1", ""],
    *["127%2e0.0.1:5000", "127.0.0.1%00.evil:5000", "127.0.0.1;evil:5000", "127。0。0。1:5000"],
]
_PARTS = [
    *["team-a"] * 4,
    *["team-b", "..", ".", "", "%2e%2e", "%252e%252e", "..;", "..;x", "..%2f", "%2f", "\\..", "x"],
    *[";", ";x", ".;", ".;x", "%2f..", "%3bx", "team-a;x", ";%2e%2e"],
    *["team-a%2f..%2fteam-b", "..\\", "Team-a", "team-ax", "ü", "%c0%ae%c0%ae", "..%5c", "a%"],
]
_TAILS = ["", "", "", "?a=b", "#f", "?@evil/", "#@evil/", f"?//{HOST}:{PORT}", "\\@evil", " ", "//"]
_NOISE = [*"\t \\/:@#?%.;[]-_\x00\x0b\x7f\xa0\u3002\uff0f\u2100é", "%2f", "//", "..", "%00"]


def random_location(chance: random.Random) -> str:
    """Return a Location, or a URL, that some parser may misread."""
    pick = chance.choice
    path = "/".join(pick(_PARTS) for _ in range(chance.randint(0, 4)))
    slash = pick(["", "/", "/", "/", "//", "\\"])
    text = "".join([pick(_SCHEMES), pick(_SLASHES), pick(_USERS), pick(_HOSTS)])
    if chance.random() < 0.25:
        text = pick(["", pick(_SCHEMES) + pick(_SLASHES)])
    text += slash + path + pick(_TAILS)
    for _ in range(pick([0, 0, 0, 1, 2])):
        at = chance.randint(0, len(text))
        text = text[:at] + pick(_NOISE) + text[at + chance.randint(0, 1) :]
    return text


def stays_inside(url: str, address: Mapping[str, Any], path: str) -> bool:
    """Return whether a request to an address with a path stays within the profile's host.

    Another implementation than the package's, on purpose.
    """
    if (address["scheme"], address["host"], address["port"]) != ("http", HOST, PORT):
        return False
    path = path.partition("?")[0]
    for _ in range(4):
        plain = path.replace("\\", "/")
        for reading in (plain, "/".join(part.partition(";")[0] for part in plain.split("/"))):
            for text in (reading, re.sub("/+", "/", reading)):
                resolved = posixpath.normpath(text)
                if resolved != f"/{PREFIX}" and not resolved.startswith(f"/{PREFIX}/"):
                    return False
        path = unquote(path)
    return True


class LeakError(AssertionError):
    """A credential went to a host, or a path, that the profile does not name."""


class NotingAdapter(HTTPAdapter):
    """Answers the first request of a case with a redirect, and checks each that is signed in."""

    def __init__(self) -> None:
        super().__init__()
        self.location: bytes | None = None
        self.status = 302
        self.signed = self.followed = 0

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:  # type: ignore[override]
        url = request.url or ""
        address, _ = self.build_connection_pool_key_attributes(request, verify=True)
        path = self.request_url(request, None)
        # Not their repr, which hides it.
        if any(TOKEN in str(text) for text in (url, request.body, *request.headers.values())):
            self.signed += 1
            if not stays_inside(url, address, path):
                raise LeakError(f"to {address} {path!r} (URL {url!r}, Location {self.location!r})")
        location, self.location = self.location, None
        headers = {} if location is None else {"Location": location.decode("latin-1")}
        if location is None:
            self.followed += 1
        raw = HTTPResponse(
            io.BytesIO(b""),
            headers=headers,
            status=200 if location is None else self.status,
            preload_content=False,
        )
        return self.build_response(request, raw)


def run(count: int, seed: int = 0) -> tuple[int, int, int]:
    """Try random cases.

    Returns:
        How many requests carried the credential, how many followed a redirect, and how many cases
        were refused with an error.

    Raises:
        LeakError: At the first request that carries the credential out of the profile's host.
    """
    chance = random.Random(seed)
    adapter, refused = NotingAdapter(), 0
    session = requests.Session()
    session.trust_env = False
    session.adapters.clear()
    session.mount("", adapter)  # whatever the scheme
    base = f"http://{HOST}:{PORT}/{PREFIX}"
    bases = [f"{base}/api/2.0/mlflow-artifacts/artifacts/x", f"{base}/x", base, f"{base}/"]
    for _ in range(count):
        text = random_location(chance)
        if chance.random() < 0.3:  # the URL of a request itself
            url, adapter.location = text, None
        else:
            url, adapter.location = chance.choice(bases), text.encode("utf-8", "surrogatepass")
        adapter.status = chance.choice([301, 302, 303, 307, 308])
        try:
            session.get(url, auth=PackAuth(), headers={"X-Extra": "1"})
        except LeakError as exc:
            raise LeakError(f"seed {seed}: {url!r} and {text!r}: {exc}") from None
        except (AuthError, ValueError, requests.RequestException, UnicodeError):
            refused += 1
    return adapter.signed, adapter.followed, refused


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(1 << 32)
    with tempfile.TemporaryDirectory() as folder:
        path = write_profiles(Path(folder) / "auth.toml", PROFILE)
        os.environ.update(MLFLOW_PACK_AUTH_CONFIG=str(path), FUZZ_TOKEN=TOKEN)
        manager.get_manager()
        try:
            signed, followed, refused = run(count, seed)
        except LeakError as exc:
            sys.stdout.write(f"{exc}\n")
            return 1
    sys.stdout.write(
        f"seed {seed}: {count} cases, {signed} signed in, {followed} followed, {refused} refused\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
