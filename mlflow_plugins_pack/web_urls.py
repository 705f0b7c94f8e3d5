"""Web addresses: the one place that decides which are local and which are secure; pure.

A URL that two parsers could read in two ways (user information, backslashes, a trailing dot,
numbers that some resolvers take for an address) is not parsed at all.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from dataclasses import dataclass

DEFAULT_PORTS = {"http": 80, "https": 443}

# Everything before the path, in character sets so narrow that no other parser splits it elsewhere.
_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<rest>[?#].*)?",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)


@dataclass(frozen=True)
class WebUrl:
    """An http or https URL that can be read in one way only.

    Attributes:
        scheme: ``http`` or ``https``.
        host: Lower case; IPv6 compressed and without brackets.
        port: Always explicit.
        path: The raw path, percent-encoding kept; at least ``/``.
        rest: Query and fragment with their ``?`` or ``#``; empty without them.
    """

    scheme: str
    host: str
    port: int
    path: str = "/"
    rest: str = ""

    @property
    def origin(self) -> tuple[str, str, int]:
        """Scheme, host and port."""
        return self.scheme, self.host, self.port

    @property
    def is_local(self) -> bool:
        """True if the host is this machine, whatever a name server answers."""
        return is_loopback(self.host)

    @property
    def is_secure(self) -> bool:
        """True if secrets may be sent there: https, or http that does not leave this machine."""
        return self.scheme == "https" or self.is_local


def parse_url(url: str) -> WebUrl | None:
    """Parse a URL; None if it is not http or https, or could be read in more than one way."""
    match = _URL.fullmatch(url)
    if match is None:
        return None
    host, scheme = _host(match["host"]), match["scheme"].lower()
    port = _port(scheme, match["port"])
    if host is None or port is None:
        return None
    return WebUrl(scheme, host, port, match["path"] or "/", match["rest"] or "")


def check_secure_url(url: str, *, may_have_query: bool = False) -> str:
    """Return the URL if secrets may be sent there.

    Args:
        url: The URL.
        may_have_query: Whether a query is accepted; some providers keep a policy's name there.

    Raises:
        ValueError: If the URL is malformed, or neither https nor on a loopback address.
    """
    parsed = parse_url(url)
    if parsed is None or "#" in parsed.rest or (parsed.rest and not may_have_query):
        raise ValueError("it is not of the form https://host[:port][/path]")
    if not parsed.is_secure:
        raise ValueError("it must be https, except on a loopback address")
    return url


def is_loopback(host: str) -> bool:
    """Return whether a normalised host is this machine, whatever a name server answers."""
    if host == "localhost":
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    # Python versions differ on IPv4 addresses inside IPv6 ones: those are never local here.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None


def shown(url: str | None) -> str:
    """Return a URL without what may hold a secret: user information, query and fragment.

    Where a password may have any of the characters that end it, only the scheme is left.
    """
    text = url or ""
    scheme, separator, rest = text.partition("://")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if parse_url(text) is None and "@" in rest[len(authority) :]:
        return f"{scheme}{separator}[hidden]"
    path = rest[len(authority) :].partition("?")[0].partition("#")[0]
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{path}"


@functools.lru_cache(maxsize=256)  # each request asks, about few hosts
def _host(text: str) -> str | None:
    folded = text.lower()
    if len(folded) > 253:
        return None
    if folded.startswith("["):
        try:
            return str(ipaddress.IPv6Address(folded[1:-1]))
        except ValueError:
            return None
    labels = folded.split(".")
    if not all(_LABEL.fullmatch(label) for label in labels):
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
