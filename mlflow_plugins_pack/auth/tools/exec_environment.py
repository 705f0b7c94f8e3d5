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
from mlflow_plugins_pack.web_urls import WebUrl, parse_url, shown

_OTLP = "OTEL_EXPORTER_OTLP_"
_SIGNALS = ("TRACES_", "METRICS_", "LOGS_")
_ADDRESSES = (
    "MLFLOW_REGISTRY_URI",
    "MLFLOW_WORKSPACE_STORE_URI",
    "MLFLOW_DEPLOYMENTS_TARGET",
    "MLFLOW_GATEWAY_URI",
)
"""Variables, next to MLFLOW_TRACKING_URI, that choose a server for stock clients."""
_INSECURE = "MLFLOW_TRACKING_INSECURE_TLS"
_TRUSTED = "MLFLOW_TRACKING_SERVER_CERT_PATH"
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
        UnnamedHostError: If a variable names a server that the profile does not name.
        AuthConfigError: If stock clients cannot sign in as the profile does, a proxy would read
            the credential, or they would send it to a server of any certificate.
    """
    environment = {key: value for key, value in before.items() if key not in _STOCK}
    environment.setdefault("MLFLOW_TRACKING_URI", str(profile.scopes[0]))
    _check_addresses(name, profile, environment)
    _give_certificates(name, profile, environment)
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
            _check_proxy(name, endpoint, environment)
            own = f"{_OTLP}{signal}HEADERS"
            others = environment.get(own) or environment.get(f"{_OTLP}HEADERS", "")
            ours = f"Authorization={quote(f'{kind} {text}', safe='')}"
            if "authorization=" not in others.lower():
                environment[own] = f"{others},{ours}" if others else ours
    return environment


def _check_addresses(name: str, profile: Profile, environment: Mapping[str, str]) -> None:
    for variable in ("MLFLOW_TRACKING_URI", *_ADDRESSES):
        uri = environment.get(variable, "").strip()
        # A registry may be a database, which gets no credential; a tracking URI must be a server.
        if variable != "MLFLOW_TRACKING_URI" and not uri.lower().startswith("http"):
            continue
        if not _names(profile, uri):
            raise UnnamedHostError(
                f"{variable} is {shown(uri)}, which profile {name!r} does not name, so its "
                f"credential would go there. Nothing was started. Unset it, or name the profile of "
                f"that server."
            )
        _check_proxy(name, uri, environment)


def _give_certificates(name: str, profile: Profile, environment: dict[str, str]) -> None:
    """Have the child check servers by the certificates that the profile trusts."""
    if (ca := profile.tls.ca) is None:
        return
    if environment.get(_INSECURE, "").lower() in ("true", "1"):
        rival = f"{_INSECURE} turns off the check of the server's certificate"
    elif environment.setdefault(_TRUSTED, ca) != ca:
        rival = f"{_TRUSTED} names other certificates to trust"
    else:
        return
    raise AuthConfigError(
        f"{rival}, and profile {name!r} asks for it with tls.ca: the child might give the "
        "credential to another server. Nothing was started. Unset the variable."
    )


def _check_proxy(name: str, uri: str, environment: Mapping[str, str]) -> None:
    url = parse_url(uri)
    if url is not None and url.scheme == "http" and (proxy := _proxy_for(url, environment)):
        raise AuthConfigError(
            f"{proxy} would carry the credential of profile {name!r} for {shown(uri)} in clear "
            f"text to another machine. Nothing was started. Set NO_PROXY=localhost,127.0.0.1,::1."
        )


def _proxy_for(url: WebUrl, environment: Mapping[str, str]) -> str | None:
    """Return the variable of the proxy for a plain http URL; None without one.

    `requests` and urllib accept any spelling of the names; every client accepts NO_PROXY and
    no_proxy only.
    """
    from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]

    bypass = ",".join(environment.get(name, "") for name in ("NO_PROXY", "no_proxy"))
    if proxy_bypass_environment(f"{url.host}:{url.port}", {"no": bypass}):
        return None
    # `requests` also takes those of one host.
    wanted = {f"{kind}{host}_proxy" for kind in ("http", "all") for host in ("", f"://{url.host}")}
    names = (name for name, value in environment.items() if value)
    return next((name for name in names if name.lower() in wanted), None)


def _names(profile: Profile, url: str) -> bool:
    target = parse_url(url)
    return target is not None and any(scope.covers(target) for scope in profile.scopes)
