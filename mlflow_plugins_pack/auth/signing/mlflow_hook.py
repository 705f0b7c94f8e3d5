"""Automatic signing: the one module of sign-in that uses what is not public in MLflow.

A header provider is given neither the URL nor the host. Its caller is ``http_request``, whose
local ``kwargs`` become the arguments of the request: an ``auth`` object put there sees the
finished request, and its errors reach the caller instead of being logged and ignored.
"""

from __future__ import annotations

import contextlib
import functools
from types import FrameType
from typing import Any

import mlflow
from mlflow.utils.rest_utils import MlflowHostCreds

from mlflow_plugins_pack.auth.manager import get_manager, sent_url
from mlflow_plugins_pack.auth.profiles.models import Profile
from mlflow_plugins_pack.auth.signing.signer import PackAuth
from mlflow_plugins_pack.errors import AuthConflictError, AuthError, PackError

_DEPTH = 8


class _Raise:
    """An ``auth`` object that raises an error in place of signing in."""

    def __init__(self, error: PackError) -> None:
        self._error = error

    def __call__(self, request: object) -> object:
        raise self._error


def sign_in_request(frame: FrameType | None, provider_name: str) -> None:
    """Sign in the request that stock MLflow is building, if a profile names its URL.

    Args:
        frame: The frame that called the header provider.
        provider_name: The value of ``MLFLOW_TRACKING_AUTH`` that chooses opt-in signing.

    Raises:
        PackError: If the request must not be sent; the caller has to stop it.
    """
    variables = _http_request_variables(frame)
    if variables is None:
        raise AuthError(
            f"MLflow {mlflow.__version__} builds requests in a way this version of "
            f"mlflow-plugins-pack does not know, so sign-in profiles cannot be applied. Nothing "
            f"was sent. Upgrade mlflow-plugins-pack, or remove the profiles file."
        )
    written, kwargs, credentials = variables
    url = sent_url(written)
    if url is None:
        return  # `requests` does not send it either, and says why
    if credentials.auth == provider_name:
        # MLflow puts a strict PackAuth there, which also reports what is wrong with the profiles.
        current = None
        with contextlib.suppress(PackError):
            current = get_manager().match(url)
        if current is not None:
            _use_connection(current.profile, kwargs, credentials)
        return
    if credentials.auth or credentials.aws_sigv4 or credentials.use_databricks_sdk:
        _check_no_profile(url, credentials)
        return
    try:
        current = get_manager().match(url)
        if current is not None:
            kwargs.setdefault("auth", PackAuth())
            _use_connection(current.profile, kwargs, credentials)
    except PackError as exc:
        # Which hosts the unreadable file names is unknown, so no request is sent at all.
        kwargs["auth"] = _Raise(exc)


def _use_connection(profile: Profile, kwargs: dict[str, Any], credentials: Any) -> None:
    """Use the profile's certificates and proxy for this request."""
    tls = profile.tls
    if tls.pair is not None and credentials.client_cert_path is None:
        kwargs["cert"] = tls.pair
    if profile.proxy is not None:
        kwargs.setdefault("proxies", {"http": profile.proxy, "https": profile.proxy})
    if tls.ca is not None and credentials.verify is False:
        raise AuthConflictError(
            "MLFLOW_TRACKING_INSECURE_TLS turns off the check of the server's certificate, and the "
            "sign-in profile asks for it with tls.ca. The request was not sent. Unset the variable."
        )
    if tls.ca is not None and credentials.verify not in (True, tls.ca):
        raise AuthConflictError(
            "MLFLOW_TRACKING_SERVER_CERT_PATH and tls.ca of the sign-in profile name different "
            "certificates to trust. The request was not sent. Unset the variable."
        )
    if tls.ca is not None and credentials.verify is True:
        # `verify` is a property computed from fields that are also the key of MLflow's caches, so
        # another class, not another value, answers it.
        credentials.__class__ = _trusting(tls.ca)


@functools.lru_cache(maxsize=16)
def _trusting(ca: str) -> type[MlflowHostCreds]:
    return type("MlflowHostCreds", (MlflowHostCreds,), {"verify": property(lambda _: ca)})


def _check_no_profile(url: str, credentials: Any) -> None:
    """Leave signing to MLflow's other ways, unless a profile names the same host."""
    current = get_manager().match(url)
    if current is None:
        return
    other = (
        f"MLFLOW_TRACKING_AUTH={credentials.auth}"
        if credentials.auth
        else "MLFLOW_TRACKING_AWS_SIGV4"
        if credentials.aws_sigv4
        else "the Databricks SDK"
    )
    raise AuthConflictError(
        f"{other} and the sign-in profile {current.name!r} both sign in requests to this host. The "
        f"request was not sent. Unset the former, or remove the host from the profile."
    )


def _http_request_variables(frame: FrameType | None) -> tuple[str, dict[str, Any], Any] | None:
    for _ in range(_DEPTH):
        if frame is None:
            return None
        if (
            frame.f_code.co_name == "http_request"
            and frame.f_globals.get("__name__") == "mlflow.utils.rest_utils"
        ):
            variables = frame.f_locals
            url, kwargs = variables.get("url"), variables.get("kwargs")
            credentials = variables.get("host_creds")
            known = isinstance(url, str) and isinstance(kwargs, dict) and credentials is not None
            return (url, kwargs, credentials) if known else None  # type: ignore[return-value]
        frame = frame.f_back
    return None
