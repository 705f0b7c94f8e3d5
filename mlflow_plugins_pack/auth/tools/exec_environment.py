"""The environment of a program started by `mlflow-pack auth exec`; pure.

Such a program does not know profiles: it sends its credential to whatever address it is given. So
it gets a credential only together with addresses that the profile names.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote

from mlflow_plugins_pack.auth.credentials.lifetime import Headers
from mlflow_plugins_pack.auth.profiles.models import Profile
from mlflow_plugins_pack.errors import AuthConfigError, UnnamedHostError
from mlflow_plugins_pack.web_urls import parse_url, shown

_OTLP = "OTEL_EXPORTER_OTLP_"
_SIGNALS = ("TRACES_", "METRICS_", "LOGS_")
_STOCK = ("MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")


def child_environment(
    name: str, profile: Profile, headers: Headers, before: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of a child that signs in as a profile does.

    Args:
        name: The name of the profile, for messages.
        profile: The profile.
        headers: The headers that sign a request in now.
        before: The environment of this process.

    Returns:
        The environment, with the credential where stock MLflow clients look for it, and as the
        headers of those OTLP signals whose endpoint the profile names.

    Raises:
        UnnamedHostError: If MLFLOW_TRACKING_URI is an address that the profile does not name.
        AuthConfigError: If stock clients cannot sign in as the profile does.
    """
    environment = {key: value for key, value in before.items() if key not in _STOCK}
    uri = environment.setdefault("MLFLOW_TRACKING_URI", profile.hosts[0])
    if not _names(profile, uri):
        raise UnnamedHostError(
            f"MLFLOW_TRACKING_URI is {shown(uri)}, which profile {name!r} does not name, so its "
            f"credential would go there. Nothing was started. Unset it, or name the profile of "
            f"that server."
        )
    values = {header.lower(): value.reveal() for header, value in headers}
    kind, _, text = values.get("authorization", "").partition(" ")
    if len(values) != 1 or kind not in ("Bearer", "Basic"):
        raise AuthConfigError(
            f"The profile {name!r} signs in by {', '.join(h for h, _ in headers) or 'signatures'}; "
            f"other clients can be given one bearer token, or a user and a password, only. Nothing "
            f"was started."
        )
    if kind == "Bearer":
        environment["MLFLOW_TRACKING_TOKEN"] = text
    else:
        user, _, password = base64.b64decode(text).decode().partition(":")
        environment["MLFLOW_TRACKING_USERNAME"] = user
        environment["MLFLOW_TRACKING_PASSWORD"] = password
    for signal in _SIGNALS:
        endpoint = before.get(f"{_OTLP}{signal}ENDPOINT") or before.get(f"{_OTLP}ENDPOINT", "")
        if _names(profile, endpoint):
            own = f"{_OTLP}{signal}HEADERS"
            others = environment.get(own) or environment.get(f"{_OTLP}HEADERS", "")
            ours = f"Authorization={quote(f'{kind} {text}', safe='')}"
            if "authorization=" not in others.lower():
                environment[own] = f"{others},{ours}" if others else ours
    return environment


def _names(profile: Profile, url: str) -> bool:
    target = parse_url(url)
    return target is not None and any(scope.covers(target) for scope in profile.scopes)
