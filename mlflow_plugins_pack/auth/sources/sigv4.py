"""Sign each request with AWS Signature Version 4, by botocore and its credentials."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import Credential
from mlflow_plugins_pack.auth.credentials.secret import Secret, redact

# What requests, urllib3 or a proxy may still change is left out of the signature.
_SIGNED = ("host", "content-type", "x-mlflow-workspace")


class AwsSigv4Source:
    """Signatures for one service in one region."""

    def __init__(self, region: str, service: str, profile: str | None) -> None:
        self._region, self._service, self._profile = region, service, profile
        self._credentials: Any = None

    def stamp(self) -> object:
        """Return a constant: botocore renews its credentials by itself."""
        return None

    def fetch(self) -> Credential:
        """Find AWS credentials; the signature itself is made for each request."""
        from botocore.session import Session

        problem = "none are found in the places where the AWS CLI looks"
        try:
            session = Session(profile=self._profile)
            self._credentials = session.get_credentials()
            if self._credentials is not None:
                frozen = self._credentials.get_frozen_credentials()
                return Credential((), sign=self._sign, who=frozen.access_key)
        except Exception as exc:  # noqa: BLE001 - of botocore and of all it tries
            problem = redact(str(exc))
        raise SourceError(f"AWS credentials: {problem}")

    def _sign(self, request: Any) -> tuple[tuple[str, Secret], ...]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest

        body = request.body
        if body is not None and not isinstance(body, (str, bytes)) and not hasattr(body, "seek"):
            raise SourceError("a body that is streamed and cannot be read twice cannot be signed")
        headers = {
            name: value for name, value in request.headers.items() if name.lower() in _SIGNED
        }
        # A blank as "+" is signed as a plus by botocore, and read as a blank by servers.
        base, mark, query = str(request.url).partition("?")
        request.url = base + mark + query.replace("+", "%20")
        wanted = AWSRequest(request.method, request.url, headers, data=body)
        problem = ""
        try:
            frozen = self._credentials.get_frozen_credentials()
            SigV4Auth(frozen, self._service, self._region).add_auth(wanted)
        except Exception as exc:  # noqa: BLE001 - renewing may fail in many ways
            problem = redact(str(exc))
        if problem:
            raise SourceError(f"AWS credentials could not be renewed: {problem}")
        names = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
        return tuple(
            (name, Secret(str(wanted.headers[name]))) for name in names if name in wanted.headers
        )
