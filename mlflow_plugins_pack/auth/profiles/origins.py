"""Decides whether a URL is within a host that a profile names; pure.

The comparison is exact. A URL that two parsers could read in two ways is not covered; where it may
be one of a named host, the request is not sent at all.
"""

from __future__ import annotations

import contextlib
import ipaddress
import posixpath
import re
import socket
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from mlflow_plugins_pack.web_urls import DEFAULT_PORTS, WebUrl, is_loopback, parse_url

_PREFIX_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,=:@-]+", re.ASCII)
_DECODE_ROUNDS = 5
_ENDLESS = "/.."
"""Stands for a path that still changes after that: an attack."""
# Two dots, or what a careless decoder takes for them: with blanks, control characters, bytes that
# are not UTF-8, or more dots, as some file systems drop those.
_CLIMBS = re.compile(r"[\x00-\x20\x7f]*(?:[.\ufffd][\x00-\x20\x7f]*){2,}")


@dataclass(frozen=True)
class Scope:
    """A host, and perhaps a path on it, that receives the credentials of one profile.

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

    @property
    def is_local_http(self) -> bool:
        """True if it is plain http on this machine."""
        return self.scheme == "http" and is_loopback(self.host)

    def covers(self, url: WebUrl) -> bool:
        """Return whether the URL has this origin and is under the prefix."""
        return self.origin == url.origin and stays_under(url.path, self.prefix)

    def might_cover(self, url: WebUrl) -> bool:
        """Return whether some server or proxy could take the URL for one that is covered."""
        return self.origin == url.origin and _may_be_under(url.path, self.prefix)

    def might_be_host_of(self, text: str) -> bool:
        """Return whether a URL that is not read in one way only may lead to this host."""
        return _possible_origin(text) == self.origin


def parse_scope(text: str) -> Scope:
    """Parse an entry of a profile's ``hosts``.

    Args:
        text: For example ``https://mlflow.example.com`` or ``https://gw.example.com:8443/mlflow``.

    Returns:
        The scope.

    Raises:
        ValueError: If the text is not such an address; it says what is wrong.
    """
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in DEFAULT_PORTS:
        raise ValueError("it must start with https:// (or http:// for a loopback address)")
    authority = re.split(r"[/?#\\]", rest, maxsplit=1)[0]
    if "@" in authority:
        raise ValueError('it must not carry a user name or password; use source = "basic"')
    if not text.isascii():
        text = text.replace(authority, _to_ascii(authority), 1)
    url = parse_url(text)
    if url is None:
        raise ValueError(
            "it is not of the form https://host[:port][/path], its host is malformed, or its port "
            "is not between 1 and 65535"
        )
    if url.rest:
        raise ValueError("it must not have a query or a fragment")
    if not url.is_secure:
        raise ValueError("credentials are sent over https only, except to a loopback address")
    path = url.path.strip("/")
    prefix = tuple(path.split("/")) if path else ()
    if any(segment in (".", "..") or not _PREFIX_SEGMENT.fullmatch(segment) for segment in prefix):
        raise ValueError("its path may hold plain segments only: no '..', no '//', no '%', no ';'")
    return Scope(*url.origin, prefix)


def stays_under(path: str, prefix: tuple[str, ...]) -> bool:
    """Return whether a path starts with the prefix, however a server or proxy reads it."""
    if not prefix:
        return True
    for text in _forms(path):
        segments = text.removeprefix("/").split("/")
        if tuple(segments[: len(prefix)]) != prefix or any(map(_CLIMBS.fullmatch, segments)):
            return False
    return True


def _may_be_under(path: str, prefix: tuple[str, ...]) -> bool:
    """Return whether any server or proxy may take a path for one under the prefix."""
    for text in _forms(path):
        merged = re.sub("/+", "/", text)
        for form in (merged, posixpath.normpath(merged)):
            segments = [segment for segment in form.split("/") if segment not in ("", ".")]
            if tuple(segments[: len(prefix)]) == prefix or text == _ENDLESS:
                return True
    return False


def _forms(path: str) -> Iterator[str]:
    """Yield a path as servers and proxies may read it.

    They disagree on how often to decode, on backslashes, on whether ``;x`` is a parameter or a part
    of the name, and on characters of other scripts that look like dots and slashes.
    """
    for _ in range(_DECODE_ROUNDS):
        text = path if path.isascii() else unicodedata.normalize("NFKC", path)
        text = text.replace("\\", "/")
        yield text
        if ";" in text:
            yield re.sub(r";[^/]*", "", text)
        decoded = unquote(path, errors="replace")
        if decoded == path:
            return
        path = decoded
    yield _ENDLESS


def _possible_origin(text: str) -> tuple[str, str, int] | None:
    """Return the origin to which a URL leads for the library that connects; None if it refuses."""
    from urllib3.exceptions import LocationParseError
    from urllib3.util import parse_url as read_by_urllib3

    try:
        found = read_by_urllib3(text)
    except LocationParseError:
        return None
    scheme, host = found.scheme or "", found.host or ""
    if scheme not in DEFAULT_PORTS:
        return None
    host = unquote(host).strip("[]").partition("%")[0].rstrip(".").lower()
    with contextlib.suppress(OSError, ValueError):
        host = socket.inet_ntoa(socket.inet_aton(host))  # "127.1" and the like
    with contextlib.suppress(ValueError):
        host = str(ipaddress.IPv6Address(host))
    return scheme, host, DEFAULT_PORTS[scheme] if found.port is None else found.port


def _to_ascii(authority: str) -> str:
    import idna  # comes with requests; only an international name needs it

    host, colon, port = authority.partition(":")
    try:
        return idna.encode(host, uts46=True).decode("ascii") + colon + port
    except idna.IDNAError:
        raise ValueError("its international host name is not valid") from None
