"""HTTP to a provider: bounded in time and size, without redirects or foreign credentials."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from mlflow_plugins_pack.auth.credentials.contracts import SourceDownError, SourceError
from mlflow_plugins_pack.auth.credentials.secret import redact
from mlflow_plugins_pack.auth.profiles.fields import Tls

_LARGEST_BYTES = 1 << 20


class OAuthError(SourceError):
    """The provider refused (RFC 6749, section 5.2).

    Attributes:
        code: The error code, such as ``invalid_grant``.
    """

    def __init__(self, code: str, description: object, url: str) -> None:
        self.code = code
        detail = f": {redact(description)}" if isinstance(description, str) and description else ""
        super().__init__(f"{url} refused with {redact(code, 60)}{detail}")


@dataclass(frozen=True)
class Transport:
    """A connection to a provider.

    Attributes:
        timeout_seconds: Limit of one whole exchange, in seconds.
        tls: The certificates of the profile; that of the client is for its hosts, not for these.
        proxy: The proxy of the profile; if None, that of the environment.
    """

    timeout_seconds: float
    tls: Tls
    proxy: str | None

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Get a JSON object.

        Raises:
            SourceError: If the answer is not a JSON object with status 200.
        """
        status, document = self._ask("GET", url, None, headers or {})
        if status != 200:
            raise SourceError(f"{url} answered with status {status}")
        return document

    def post(
        self,
        url: str,
        form: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        *,
        may_be_empty: bool = False,
    ) -> dict[str, Any]:
        """Post a form and return the JSON object that answers it.

        Raises:
            OAuthError: If the provider refuses with an OAuth error.
            SourceError: If it answers otherwise, or does not answer.
        """
        status, document = self._ask("POST", url, form, headers or {}, may_be_empty=may_be_empty)
        if isinstance(error := document.get("error"), str):
            raise OAuthError(error, document.get("error_description"), url)
        if status != 200:
            raise SourceError(f"{url} answered with status {status}")
        return document

    def _ask(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None,
        headers: Mapping[str, str],
        *,
        may_be_empty: bool = False,
    ) -> tuple[int, dict[str, Any]]:
        import requests

        from mlflow_plugins_pack.http_deadline import exchange, read_body

        def ask(session: requests.Session) -> tuple[int, Mapping[str, str], bytes]:
            answer = session.request(
                method,
                url,
                data=form,
                headers={"Accept": "application/json", **headers},
                allow_redirects=False,
                timeout=self.timeout_seconds,
                stream=True,
                verify=self.tls.ca or True,
                proxies={"http": self.proxy, "https": self.proxy} if self.proxy else None,
            )
            return answer.status_code, answer.headers, read_body(answer, _LARGEST_BYTES)

        problem, is_lasting, status, body = "", True, 0, b""
        received: Mapping[str, str] = {}
        try:
            status, received, body = exchange(self.timeout_seconds, ask)
        except (requests.RequestException, OSError) as exc:
            problem, is_lasting = _explain(exc), isinstance(exc, requests.exceptions.SSLError)
        except UnicodeError:  # half of a character in a secret, which the error holds
            problem, is_lasting = "was not asked: a value is not text that can be sent", True
        if problem:  # raised outside the handler: the error holds the request and its secrets
            raise (SourceError if is_lasting else SourceDownError)(f"{url} {problem}")
        if may_be_empty and not body.strip():
            return status, {}
        return status, _parse(url, status, received, body)


def _parse(url: str, status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    if 300 <= status < 400:
        raise SourceError(f"{url} answered with a redirect, which is not followed with secrets")
    if status == 429 or status >= 500:
        raise SourceDownError(
            f"{url} is busy or out of order (status {status})",
            _retry_after(headers.get("Retry-After", "")),
        )
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, dict):
        return document
    # A gateway's page, mostly: it stands there while what is behind it is down.
    what = (
        "a web page"
        if "html" in headers.get("Content-Type", "").lower()
        else "something other than a JSON object"
    )
    raise SourceError(f"{url} answered with {what} (status {status}); is the issuer right?")


def _retry_after(text: str) -> float:
    """Return the seconds of a Retry-After header (RFC 9110, section 10.2.3); 0 without one."""
    seconds = text.strip()
    if seconds.isdecimal():
        return float(min(int(seconds[:12]), 10**6))
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _explain(exc: Exception) -> str:
    import requests

    if isinstance(exc, (requests.Timeout, TimeoutError)):
        return "did not answer in time"
    if isinstance(exc, requests.exceptions.SSLError):
        return "has a certificate that is not trusted here (see tls.ca), or wants one of ours"
    if isinstance(exc, requests.exceptions.ProxyError):
        return "cannot be reached through the proxy"
    if isinstance(exc, requests.ConnectionError):
        return "cannot be reached"
    return f"could not be asked ({type(exc).__name__}: {redact(str(exc), 120)})"
