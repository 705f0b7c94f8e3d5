"""Sign each request with AWS Signature Version 4, by botocore and its credentials."""

from __future__ import annotations

from typing import Any

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.credentials.lifetime import Credential
from mlflow_plugins_pack.auth.credentials.secret import Secret, redact
from mlflow_plugins_pack.auth.sources.bounded import bounded

# What requests, urllib3 or a proxy may still change is left out of the signature.
_SIGNED = ("host", "content-type", "x-mlflow-workspace")


class AwsSigv4Source:
    """Signatures for one service in one region.

    Args:
        region: The region.
        service: The service.
        profile: The profile of the AWS configuration; None for the default one.
        timeout_seconds: How long finding or renewing credentials may take.
    """

    def __init__(
        self, region: str, service: str, profile: str | None, timeout_seconds: float
    ) -> None:
        self._region, self._service, self._profile = region, service, profile
        self._timeout_seconds = timeout_seconds
        self._credentials: Any = None

    def stamp(self) -> object:
        """Return a constant: botocore renews its credentials by itself."""
        return None

    def fetch(self) -> Credential:
        """Find AWS credentials; the signature itself is made for each request."""
        from botocore.session import Session

        def find() -> Any:
            found = Session(profile=self._profile).get_credentials()
            return found, None if found is None else found.get_frozen_credentials()

        problem = "none are found in the places where the AWS CLI looks"
        try:
            self._credentials, frozen = bounded(self._timeout_seconds, "botocore", find)
            if frozen is not None:
                return Credential((), sign=self._sign, who=frozen.access_key)
        except SourceError:
            raise
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
            SigV4Auth(self._frozen(), self._service, self._region).add_auth(wanted)
        except SourceError:
            raise
        except Exception as exc:  # noqa: BLE001 - renewing may fail in many ways
            problem = redact(str(exc))
        if problem:
            raise SourceError(f"AWS credentials could not be renewed: {problem}")
        names = ("Authorization", "X-Amz-Date", "X-Amz-Security-Token")
        return tuple(
            (name, Secret(str(wanted.headers[name]))) for name in names if name in wanted.headers
        )

    def _frozen(self) -> Any:
        """Return the keys for one signature, renewed if need be."""
        credentials = self._credentials
        is_due = getattr(credentials, "refresh_needed", None)  # static ones are not renewed
        if is_due is None or not is_due():
            return credentials.get_frozen_credentials()
        return bounded(self._timeout_seconds, "botocore", credentials.get_frozen_credentials)
