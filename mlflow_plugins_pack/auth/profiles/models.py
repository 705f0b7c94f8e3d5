"""The models of a profile, one for each source.

A profile holds no secret, only where each one is: a secret written into it is refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlflow_plugins_pack.auth.profiles.fields import (
    AbsolutePath,
    Command,
    HeaderName,
    KeyringEntry,
    SecretLocation,
    SecureUrl,
    Tls,
    VariableName,
    Word,
)
from mlflow_plugins_pack.auth.profiles.origins import Scope, parse_scope
from mlflow_plugins_pack.strict_model import StrictModel


class CommonProfile(StrictModel):
    """The keys of every profile, whatever its source."""

    hosts: Annotated[list[str], Field(min_length=1)]
    extra_headers: dict[HeaderName, SecretLocation] = {}
    on_conflict: Literal["profile", "error"] = "profile"
    timeout_seconds: Annotated[float, Field(strict=False, gt=0, le=300)] = 15.0
    tls: Tls = Tls()
    proxy: SecureUrl | None = None
    workspace: Annotated[str, Field(pattern=r"^[\x21-\x7e]+$")] | None = None
    correlation_header: HeaderName | None = None

    @field_validator("hosts")
    @classmethod
    def _check_hosts(cls, hosts: list[str]) -> list[str]:
        for host in hosts:
            try:
                parse_scope(host)
            except ValueError as exc:
                # Whatever stands before an @ may be a password.
                raise ValueError(f"{host.rpartition('@')[2]!r}: {exc}") from None
        return hosts

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """The hosts, parsed."""
        return tuple(parse_scope(host) for host in self.hosts)

    @property
    def source_name(self) -> str:
        """The source as people read it; several are joined in their order."""
        source: str | tuple[str, ...] = getattr(self, "source", "")
        return source if isinstance(source, str) else " > ".join(source)

    def own_headers(self) -> list[str]:
        """Return the names of the headers that the source sends."""
        return ["Authorization"]


class _TokenProfile(CommonProfile):
    header: HeaderName = "Authorization"
    scheme: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*$")] = "Bearer"

    def own_headers(self) -> list[str]:
        return [self.header]


class EnvProfile(_TokenProfile):
    """A token in an environment variable."""

    source: Literal["env"]
    env: VariableName


class FileProfile(_TokenProfile):
    """A token in a file that may be rotated at any time."""

    source: Literal["file"]
    file: AbsolutePath


class CommandProfile(_TokenProfile):
    """A token printed by a program."""

    source: Literal["command"]
    command: Command


class KeyringProfile(_TokenProfile):
    """A token in the desktop's keyring, as ``service/name``."""

    source: Literal["keyring"]
    keyring: KeyringEntry


class BasicProfile(CommonProfile):
    """A user name and a password."""

    source: Literal["basic"]
    username: Annotated[str, Field(min_length=1, pattern=r"^[^:\x00-\x1f\x7f]*$")]
    password: SecretLocation


class HeadersProfile(CommonProfile):
    """Any headers, each with a secret value."""

    source: Literal["headers"]
    headers: Annotated[dict[HeaderName, SecretLocation], Field(min_length=1)]

    def own_headers(self) -> list[str]:  # noqa: D102 - as the base's
        return list(self.headers)


class CloudflareProfile(CommonProfile):
    """A service token of Cloudflare Access: its two headers."""

    source: Literal["cloudflare-access"]
    access_client_id: SecretLocation
    access_client_secret: SecretLocation

    def own_headers(self) -> list[str]:  # noqa: D102 - as the base's
        return ["CF-Access-Client-Id", "CF-Access-Client-Secret"]


class KubernetesProfile(_TokenProfile):
    """A projected service-account token, which the kubelet rotates in place."""

    source: Literal["kubernetes"]
    token_file: AbsolutePath = "/var/run/secrets/tokens/mlflow"


class GithubActionsProfile(_TokenProfile):
    """The identity of a GitHub Actions job (needs ``permissions: id-token: write``)."""

    source: Literal["github-actions"]
    audience: Word


class GitlabProfile(_TokenProfile):
    """The identity of a GitLab job: the variable that its ``id_tokens`` names."""

    source: Literal["gitlab"]
    id_token: VariableName = "MLFLOW_ID_TOKEN"


class AzureProfile(_TokenProfile):
    """A token of Microsoft Entra ID for a scope, by azure-identity's default chain."""

    source: Literal["azure"]
    azure_scope: Word
    azure_client_id: Word | None = None


class GoogleProfile(_TokenProfile):
    """An ID token of Google for an audience, such as the client ID of an IAP backend."""

    source: Literal["google"]
    audience: Word
    google_credentials: AbsolutePath | None = None


class AwsSigv4Profile(CommonProfile):
    """Each request signed with AWS Signature Version 4 by botocore's default credentials."""

    source: Literal["aws-sigv4"]
    aws_region: Word
    aws_service: Word = "execute-api"
    aws_profile: Word | None = None

    def own_headers(self) -> list[str]:  # noqa: D102 - as the base's
        return ["Authorization", "X-Amz-Date", "X-Amz-Security-Token"]


Flow = Literal[
    "auto",
    "authorization_code",
    "device_code",
    "client_credentials",
    "token_exchange",
    "jwt_bearer",
]


class OidcProfile(_TokenProfile):
    """A token of an OpenID Connect provider.

    Attributes:
        issuer: The issuer as the provider writes it; its discovery document names the endpoints.
        scope: OAuth scopes, separated by blanks.
        flow: The OAuth flow; ``auto`` chooses by what else is configured.
        subject_token: The token to exchange, for ``token_exchange``.
        assertion: The JWT to exchange, for ``jwt_bearer``.
        token: The one of the provider's two tokens that is sent.
        cache: The store that shares tokens with other and later processes.
    """

    source: Literal["oidc"]
    issuer: SecureUrl
    client_id: Annotated[str, Field(min_length=1)]
    flow: Flow = "auto"
    scope: Annotated[str, Field(min_length=1)] | None = None
    audience: Word | None = None
    resource: Word | None = None
    client_secret: SecretLocation | None = None
    client_secret_in: Literal["header", "body"] = "header"
    client_key: SecretLocation | None = None
    subject_token: SecretLocation | None = None
    subject_token_type: Word = "urn:ietf:params:oauth:token-type:access_token"
    assertion: SecretLocation | None = None
    redirect_port: Annotated[int, Field(ge=0, le=65535)] = 0
    token: Literal["access_token", "id_token"] = "access_token"
    cache: Literal["file", "keyring", "memory"] = "file"

    @model_validator(mode="after")
    def _has_what_its_flow_needs(self) -> OidcProfile:
        needs = {
            "client_credentials": self.client_secret or self.client_key,
            "token_exchange": self.subject_token,
            "jwt_bearer": self.assertion,
        }
        if not needs.get(self.flow, True):
            wanted = {
                "client_credentials": "client_secret or client_key",
                "token_exchange": "subject_token",
                "jwt_bearer": "assertion",
            }[self.flow]
            raise ValueError(f"the flow {self.flow} needs {wanted}")
        if self.client_secret is not None and self.client_key is not None:
            raise ValueError("give client_secret or client_key, not both")
        return self

    @property
    def chosen_flow(self) -> Flow:
        """The flow, ``auto`` resolved; of the two that need a person, the browser's."""
        if self.flow != "auto":
            return self.flow
        if self.subject_token is not None:
            return "token_exchange"
        if self.assertion is not None:
            return "jwt_bearer"
        if self.client_secret is not None or self.client_key is not None:
            return "client_credentials"
        return "authorization_code"

    @property
    def needs_person(self) -> bool:
        """True if a person has to sign in from time to time."""
        return self.chosen_flow in ("authorization_code", "device_code")


SourceProfile = (
    EnvProfile
    | FileProfile
    | CommandProfile
    | KeyringProfile
    | BasicProfile
    | HeadersProfile
    | OidcProfile
    | CloudflareProfile
    | KubernetesProfile
    | GithubActionsProfile
    | GitlabProfile
    | AzureProfile
    | GoogleProfile
    | AwsSigv4Profile
)
MODELS: dict[str, Any] = {
    model.model_fields["source"].annotation.__args__[0]: model for model in SourceProfile.__args__
}
KNOWN_SOURCES = tuple(MODELS)


class ChainProfile(CommonProfile):
    """Several sources, tried in order until one gives a credential."""

    source: tuple[str, ...]
    links: tuple[SourceProfile, ...]

    def own_headers(self) -> list[str]:  # noqa: D102 - as the base's
        return [name for link in self.links for name in link.own_headers()]


Profile = SourceProfile | ChainProfile
