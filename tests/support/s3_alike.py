"""What services that speak S3 lack: switches for the proxy that stands before moto.

Each is what one of them was reported to answer: MinIO, Ceph RGW, Cloudflare R2, Oracle's object
storage, Wasabi, Dell ECS, Alibaba's OSS, and gateways in front of them.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

Headers = MutableMapping[str, str]


@dataclass
class Request:
    """What the client sent; a lack may change the headers and the body.

    Attributes:
        method: Of HTTP.
        path: With the query.
        headers: By name.
        body: As it was framed.
    """

    method: str
    path: str
    headers: Headers
    body: bytes

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.path).query, keep_blank_values=True)


Refusal = tuple[int, str] | None
"""Status and code."""


def _ignores_conditions(request: Request) -> Refusal:
    request.headers.pop("If-None-Match", None)
    return None


def _conditions(status: int, code: str) -> Callable[[Request], Refusal]:
    def refuse(request: Request) -> Refusal:
        return (status, code) if "If-None-Match" in request.headers else None

    return refuse


def _wants_md5(request: Request) -> Refusal:
    if "delete" not in request.query:
        return None
    if any(name.lower().startswith("x-amz-checksum") for name in request.headers):
        return 400, "InvalidRequest"
    digest = base64.b64encode(hashlib.md5(request.body).digest()).decode()
    return None if request.headers.get("Content-MD5") == digest else (400, "MissingContentMD5")


def _deletes_singly(request: Request) -> Refusal:
    return (501, "NotImplemented") if "delete" in request.query else None


def _trailers(status: int, code: str) -> Callable[[Request], Refusal]:
    def refuse(request: Request) -> Refusal:
        return (status, code) if "X-Amz-Trailer" in request.headers else None

    return refuse


def _stores_frames(request: Request) -> Refusal:
    """Take the frames of a body with a trailer for its content."""
    if "X-Amz-Trailer" in request.headers:
        for name in ("X-Amz-Trailer", "Content-Encoding", "X-Amz-Decoded-Content-Length"):
            request.headers.pop(name, None)
    return None


def _knows_no_continue(request: Request) -> Refusal:
    return (417, "ExpectationFailed") if "Expect" in request.headers else None


def _wants_virtual_hosts(request: Request) -> Refusal:
    bucket, _, rest = request.headers.pop("Host").partition(".")
    if not rest.startswith("s3.test"):
        return 403, "SecondLevelDomainForbidden"
    request.path = f"/{bucket}{request.path}"
    return None


def _refuses_list_2(request: Request) -> Refusal:
    return (501, "NotImplemented") if "list-type" in request.query else None


def _takes_list_2_for_1(request: Request) -> Refusal:
    request.path = request.path.replace("list-type=2&", "").replace("list-type=2", "")
    return None


def _ignores_tokens(request: Request) -> Refusal:
    request.path = re.sub("&?continuation-token=[^&]*", "", request.path)
    return None


def _short_pages(request: Request) -> Refusal:
    if request.method == "GET" and "prefix" in request.query and "max-keys" not in request.query:
        request.path += "&max-keys=2"
    return None


_REQUESTS: dict[str, tuple[Callable[[Request], Refusal], ...]] = {
    "conditions ignored": (_ignores_conditions,),
    "conditions 501": (_conditions(501, "NotImplemented"),),
    "conditions 400": (_conditions(400, "InvalidArgument"),),
    "md5 wanted on deletes": (_wants_md5,),
    "no DeleteObjects": (_deletes_singly,),
    "trailers 411": (_trailers(411, "MissingContentLength"),),
    "trailers 403": (_trailers(403, "SignatureDoesNotMatch"),),
    "trailers 501": (_trailers(501, "NotImplemented"),),
    "trailers stored": (_stores_frames,),
    "expect 417": (_knows_no_continue,),
    "virtual hosts only": (_wants_virtual_hosts,),
    "no second listing": (_refuses_list_2, _short_pages),
    "second listing ignored": (_takes_list_2_for_1, _short_pages),
    "short pages": (_short_pages,),
    "token ignored": (_ignores_tokens, _short_pages),
    "etag": (),
}

UNUSABLE = ("token ignored", "virtual hosts only")
"""Switches with which nothing works, or not without a setting."""

LACKS = tuple(sorted(_REQUESTS.keys() - set(UNUSABLE)))
"""Names of the other switches."""


def refusal(lacks: frozenset[str], request: Request) -> Refusal:
    """Return how a service refuses a request; what it ignores is taken off the request."""
    for lack in sorted(lacks):
        for change in _REQUESTS[lack]:
            if (refused := change(request)) is not None:
                return refused
    return None


def edit_headers(lacks: frozenset[str], headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return an answer's headers as the service has them."""
    if "etag" not in lacks:
        return headers
    # As of encrypted objects, and of services that number their objects.
    return [(n, '"v1-7b-4"' if re.fullmatch("(?i)etag", n) else v) for n, v in headers]
