"""Sources of credentials, one module each; `open_source` returns the one of a profile.

May import oidc, token_store, credentials and profiles. Must not import the manager or anything
above it. A module that needs an optional package imports it on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlflow_plugins_pack.auth.credentials.contracts import (
    SecretReader,
    Source,
    TokenSource,
    WithExtraHeaders,
)
from mlflow_plugins_pack.auth.profiles import models as p
from mlflow_plugins_pack.auth.profiles.fields import SecretLocation
from mlflow_plugins_pack.auth.sources.basic import BasicSource
from mlflow_plugins_pack.auth.sources.command import CommandReader
from mlflow_plugins_pack.auth.sources.env import EnvReader
from mlflow_plugins_pack.auth.sources.file import FileReader
from mlflow_plugins_pack.auth.sources.headers import HeadersSource

if TYPE_CHECKING:
    from mlflow_plugins_pack.auth.oidc.transport import Transport
    from mlflow_plugins_pack.auth.sources.oidc import OidcSource

__all__ = ["Source", "open_oidc", "open_source"]


def open_source(name: str, profile: p.Profile) -> Source:
    """Return the source of a profile; reads nothing yet."""
    source = _main_source(name, profile)
    if not profile.extra_headers:
        return source
    return WithExtraHeaders(source, _headers(profile.extra_headers, profile.timeout_seconds))


def open_oidc(name: str, profile: p.OidcProfile) -> OidcSource:
    """Return the source of an OIDC profile, with the methods for a sign-in."""
    from mlflow_plugins_pack.auth.oidc.provider import ClientSecrets, Provider
    from mlflow_plugins_pack.auth.sources.oidc import OidcSource

    def optional(secret: SecretLocation | None) -> SecretReader | None:
        return None if secret is None else _place(secret, profile.timeout_seconds)

    own = ClientSecrets(
        optional(profile.client_secret),
        optional(profile.client_key),
        optional(profile.subject_token),
        optional(profile.assertion),
    )
    return OidcSource(name, Provider(profile, own, _transport(profile)))


def _main_source(name: str, profile: p.Profile) -> Source:
    timeout = profile.timeout_seconds
    if isinstance(profile, p.ChainProfile):
        from mlflow_plugins_pack.auth.sources.chain import ChainSource

        return ChainSource([(link.source, _main_source(name, link)) for link in profile.links])
    if isinstance(profile, p.BasicProfile):
        return BasicSource(profile.username, _place(profile.password, timeout))
    if isinstance(profile, p.HeadersProfile):
        return _headers(profile.headers, timeout)
    if isinstance(profile, p.CloudflareProfile):
        names = profile.own_headers()
        places = (profile.access_client_id, profile.access_client_secret)
        return _headers(dict(zip(names, places, strict=True)), timeout)
    if isinstance(profile, p.OidcProfile):
        return open_oidc(name, profile)
    if isinstance(profile, p.AwsSigv4Profile):
        from mlflow_plugins_pack.auth.sources.sigv4 import AwsSigv4Source

        return AwsSigv4Source(profile.aws_region, profile.aws_service, profile.aws_profile, timeout)
    return TokenSource(profile.header, profile.scheme, _token_place(profile))


def _token_place(profile: p.SourceProfile) -> SecretReader:
    if isinstance(profile, p.EnvProfile):
        return EnvReader(profile.env)
    if isinstance(profile, p.FileProfile):
        return FileReader(profile.file)
    if isinstance(profile, p.KubernetesProfile):
        return FileReader(
            profile.token_file, "give the pod a projected volume with a serviceAccountToken there"
        )
    if isinstance(profile, p.CommandProfile):
        return CommandReader(profile.command, profile.timeout_seconds)
    if isinstance(profile, p.KeyringProfile):
        from mlflow_plugins_pack.auth.sources.keyring import KeyringReader

        return KeyringReader(profile.keyring)
    if isinstance(profile, (p.GithubActionsProfile, p.GitlabProfile)):
        from mlflow_plugins_pack.auth.sources.ci import GithubActionsReader, GitlabReader

        if isinstance(profile, p.GitlabProfile):
            return GitlabReader(profile.id_token)
        return GithubActionsReader(profile.audience, _transport(profile))
    from mlflow_plugins_pack.auth.sources.cloud import AzureReader, GoogleReader

    if isinstance(profile, p.AzureProfile):
        return AzureReader(profile.azure_scope, profile.azure_client_id, profile.timeout_seconds)
    assert isinstance(profile, p.GoogleProfile)  # noqa: S101 - narrows the union for mypy
    return GoogleReader(profile.audience, profile.google_credentials, profile.timeout_seconds)


def _transport(profile: p.CommonProfile) -> Transport:
    from mlflow_plugins_pack.auth.oidc.transport import Transport

    return Transport(profile.timeout_seconds, profile.tls, profile.proxy)


def _headers(places: dict[str, SecretLocation], timeout_seconds: float) -> HeadersSource:
    return HeadersSource({name: _place(place, timeout_seconds) for name, place in places.items()})


def _place(secret: SecretLocation, timeout_seconds: float) -> SecretReader:
    if secret.env is not None:
        return EnvReader(secret.env)
    if secret.file is not None:
        return FileReader(secret.file)
    if secret.keyring is not None:
        from mlflow_plugins_pack.auth.sources.keyring import KeyringReader

        return KeyringReader(secret.keyring)
    return CommandReader(secret.command or [], timeout_seconds)
