"""Decide whether a URL lies within a host that a profile names; pure.

The comparison is exact. A URL that two parsers could read in two ways (user information,
backslashes, a trailing dot, numbers that some resolvers take for an address) matches nothing:
the worst outcome is a request without credentials.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import unquote

DEFAULT_PORTS = {"http": 80, "https": 443}

# Everything before the path, character sets so narrow that no other parser splits it elsewhere.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<rest>[?#].*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PREFIX_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+", re.ASCII)
_DECODE_ROUNDS = 5


@dataclass(frozen=True)
class Scope:
    """Where one profile's credentials may go.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Lower case, IDN in its ASCII form, IPv6 compressed and without brackets.
        port: Always explicit.
        prefix: Path segments that a URL's path must start with; empty for the whole origin.
    """

    scheme: str
    host: str
    port: int
    prefix: tuple[str, ...] = ()

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if DEFAULT_PORTS[self.scheme] == self.port else f":{self.port}"
        return "/".join((f"{self.scheme}://{host}{port}", *self.prefix))

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port

    def covers(self, target: Target) -> bool:
        """Tell whether the target has this origin and lies under the prefix."""
        return self.origin == target.origin and stays_under(target.path, self.prefix)


@dataclass(frozen=True)
class Target:
    """A URL that can be read in one way only.

    Attributes:
        origin: Scheme, host and port, as in a `Scope`.
        path: The raw path, percent-encoding kept.
    """

    origin: tuple[str, str, int]
    path: str


def parse_scope(text: str) -> Scope:
    """Read an entry of a profile's ``hosts``.

    Args:
        text: For example ``https://mlflow.example.com`` or ``https://gw.example.com:8443/mlflow``.

    Returns:
        The scope.

    Raises:
        ValueError: Saying what is wrong with the text.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in DEFAULT_PORTS:
        raise ValueError("it must start with https:// (or http:// for a loopback address)")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise ValueError('it must not carry a user name or password; use source = "basic"')
    if not text.isascii():
        text = text.replace(authority, _to_ascii(authority), 1)
    match = _URL.fullmatch(text)
    if match is None:
        raise ValueError("it is not of the form https://host[:port][/path]")
    if match["rest"]:
        raise ValueError("it must not have a query or a fragment")
    host = _host(match["host"])
    if host is None:
        raise ValueError("its host name or address is malformed (a trailing dot, a part missing?)")
    scheme = match["scheme"].lower()
    if scheme == "http" and not is_loopback(host):
        raise ValueError("credentials are sent over https only, except to a loopback address")
    port = _port(scheme, match["port"])
    if port is None:
        raise ValueError("its port is not between 1 and 65535")
    path = (match["path"] or "").strip("/")
    prefix = tuple(path.split("/")) if path else ()
    if any(segment in (".", "..") or not _PREFIX_SEGMENT.fullmatch(segment) for segment in prefix):
        raise ValueError("its path may hold plain segments only: no '..', no '//', no '%'")
    return Scope(scheme, host, port, prefix)


def parse_target(url: str) -> Target | None:
    """Read the URL of a request; None if it could be read in more than one way."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    host, scheme = _host(match["host"]), match["scheme"].lower()
    port = _port(scheme, match["port"])
    if host is None or port is None:
        return None
    return Target((scheme, host, port), match["path"] or "/")


def is_loopback(host: str) -> bool:
    """Tell whether a normalised host is this machine whatever a name server says."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def stays_under(path: str, prefix: tuple[str, ...]) -> bool:
    """Tell whether a path starts with the prefix and never climbs out of it.

    Servers and proxies disagree on how often they decode, so every stage of decoding must stay
    under it; a path that still changes after a few rounds is taken for an attack.
    """
    if not prefix:
        return True
    for _ in range(_DECODE_ROUNDS):
        if not _resolves_under(path, prefix):
            return False
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return True
        path = decoded
    return False


def _resolves_under(path: str, prefix: tuple[str, ...]) -> bool:
    reached: list[str] = []
    entered = False
    for segment in path.replace("\\", "/").removeprefix("/").split("/"):
        # "a;x" is "a" with a parameter to some servers, so "..;x" climbs there.
        name = segment.partition(";")[0] if segment.startswith("..") else segment
        if name == "..":
            if entered and len(reached) == len(prefix):
                return False
            if reached:
                reached.pop()
        elif name == "" and not entered:
            return False  # some servers merge slashes, some take "//a" for another path than "/a"
        elif name not in ("", "."):
            reached.append(segment)
        entered = entered or tuple(reached) == prefix
    return tuple(reached[: len(prefix)]) == prefix


def _to_ascii(authority: str) -> str:
    import idna  # comes with requests; only an international name needs it

    host, colon, port = authority.partition(":")
    try:
        return idna.encode(host, uts46=True).decode("ascii") + colon + port
    except idna.IDNAError:
        raise ValueError("its international host name is not valid") from None


@functools.lru_cache(maxsize=256)  # each request asks, about few hosts
def _host(text: str) -> str | None:
    folded = text.lower()
    if folded.startswith("["):
        try:
            return str(ipaddress.IPv6Address(folded[1:-1]))
        except ValueError:
            return None
    labels = folded.split(".")
    if len(folded) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        return None
    # "127.1" and "0x7f.1" are addresses to some resolvers: only the canonical form is accepted.
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return str(ipaddress.IPv4Address(folded))
        except ValueError:
            return None
    return folded


def _port(scheme: str, text: str | None) -> int | None:
    if text is None:
        return DEFAULT_PORTS[scheme]
    return int(text) if 0 < int(text) <= 65535 else None


def shown(url: str | None) -> str:
    """Return a URL without what may hold a secret: user information, query and fragment."""
    plain = (url or "").partition("?")[0].partition("#")[0]
    scheme, separator, rest = plain.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
