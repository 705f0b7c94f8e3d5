"""What a profile may say: strict models, one a source.

A profile holds no secret, only where each one is: a secret written into it is refused.
"""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    Field,
    field_validator,
    model_validator,
)

from mlflow_plugins_pack.auth.profiles.origins import (
    Scope,
    is_loopback,
    parse_scope,
    parse_target,
)
from mlflow_plugins_pack.strict_model import StrictModel

_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", re.ASCII)
# Headers that requests or MLflow compute: setting one would corrupt the request, not sign it in.
_RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "content-type",
        "cookie",
        "host",
        "proxy-authorization",
        "transfer-encoding",
        "x-mlflow-workspace",
    }
)


def _check_header_name(name: str) -> str:
    if not _HEADER_NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if name.lower() in _RESERVED_HEADERS:
        raise ValueError(f"the header {name} belongs to the request itself")
    return name


def _check_path(path: str) -> str:
    expanded = os.path.expanduser(path)
    if not os.path.isabs(expanded):
        raise ValueError(
            "the path must be absolute (or start with ~/): the current directory must not decide"
        )
    return expanded


def _check_command(words: list[str]) -> list[str]:
    if not words or not words[0]:
        raise ValueError("it must be a list: the program and its arguments")
    program = os.path.expanduser(words[0])
    if os.sep in program and not os.path.isabs(program):
        raise ValueError(
            "the program must be a bare name found on PATH or an absolute path: "
            "the current directory must not decide what runs"
        )
    return [program, *words[1:]]


def check_secure_url(url: str) -> str:
    """Return the URL if secrets may be sent there: https, or http to a loopback address.

    Raises:
        ValueError: If not.
    """
    target = parse_target(url)
    if target is None or "?" in url or "#" in url:
        raise ValueError("it is not of the form https://host[:port][/path]")
    if target.origin[0] == "http" and not is_loopback(target.origin[1]):
        raise ValueError("it must be https, except on a loopback address")
    return url


HeaderName = Annotated[str, AfterValidator(_check_header_name)]
AbsolutePath = Annotated[str, AfterValidator(_check_path)]
Command = Annotated[list[str], AfterValidator(_check_command)]
VariableName = Annotated[str, Field(pattern=r"^[^=\x00]+$")]
SecureUrl = Annotated[str, AfterValidator(check_secure_url)]
Word = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x20\x7f]+$")]


class SecretPlace(StrictModel):
    """Where one secret is: exactly one of a variable, a file, a command, a keyring's entry."""

    env: VariableName | None = None
    file: AbsolutePath | None = None
    command: Command | None = None
    keyring: Annotated[str, Field(pattern=r"^[^/]+/.+$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_plain_text(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(
                "a secret must not be written into this file; say where it is: "
                '{ env = "NAME" }, { file = "/path" }, { keyring = "service/name" } or '
                '{ command = ["program", "argument"] }'
            )
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretPlace:
        places = (self.env, self.file, self.command, self.keyring)
        if sum(place is not None for place in places) != 1:
            raise ValueError("give exactly one of env, file, command, keyring")
        return self


class Tls(StrictModel):
    """How the connection to the profile's hosts is made safe.

    Attributes:
        ca: A file of certificates to trust instead of the usual ones.
        cert: The client's certificate, for mutual TLS.
        key: Its private key, if it is not in the same file.
    """

    ca: AbsolutePath | None = None
    cert: AbsolutePath | None = None
    key: AbsolutePath | None = None

    @property
    def pair(self) -> str | tuple[str, str] | None:
        """The client's certificate as `requests` takes it."""
        return (self.cert, self.key) if self.cert and self.key else self.cert

    @model_validator(mode="after")
    def _key_has_a_certificate(self) -> Tls:
        if self.key is not None and self.cert is None:
            raise ValueError("a key needs its cert")
        return self


class CommonProfile(StrictModel):
    """What every profile may say, whatever its source."""

    hosts: Annotated[list[str], Field(min_length=1)]
    extra_headers: dict[HeaderName, SecretPlace] = {}
    on_conflict: Literal["profile", "error"] = "profile"
    timeout_seconds: Annotated[float, Field(strict=False, gt=0, le=300)] = 15.0
    tls: Tls = Tls()
    proxy: SecureUrl | None = None
    workspace: Word | None = None
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
    keyring: Annotated[str, Field(pattern=r"^[^/]+/.+$")]


class BasicProfile(CommonProfile):
    """A user name and a password."""

    source: Literal["basic"]
    username: Annotated[str, Field(min_length=1, pattern=r"^[^:\x00-\x1f\x7f]*$")]
    password: SecretPlace


class HeadersProfile(CommonProfile):
    """Any headers, each with a secret value."""

    source: Literal["headers"]
    headers: Annotated[dict[HeaderName, SecretPlace], Field(min_length=1)]

    def own_headers(self) -> list[str]:  # noqa: D102 - as the base's
        return list(self.headers)


class CloudflareProfile(CommonProfile):
    """A service token of Cloudflare Access: its two headers."""

    source: Literal["cloudflare-access"]
    access_client_id: SecretPlace
    access_client_secret: SecretPlace

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
        issuer: As the provider writes it; its endpoints are read from its discovery document.
        scope: OAuth scopes, with blanks between.
        flow: How the token is had; ``auto`` chooses by what is configured.
        subject_token: Of whom the token is had, for ``token_exchange``.
        assertion: What is exchanged for it, for ``jwt_bearer``.
        token: Which of the provider's two tokens is sent.
        cache: Where tokens are kept for the other processes and the next ones.
    """

    source: Literal["oidc"]
    issuer: SecureUrl
    client_id: Annotated[str, Field(min_length=1)]
    flow: Flow = "auto"
    scope: Annotated[str, Field(min_length=1)] | None = None
    audience: Word | None = None
    resource: Word | None = None
    client_secret: SecretPlace | None = None
    client_secret_in: Literal["header", "body"] = "header"
    client_key: SecretPlace | None = None
    subject_token: SecretPlace | None = None
    subject_token_type: Word = "urn:ietf:params:oauth:token-type:access_token"
    assertion: SecretPlace | None = None
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
        """Tell whether somebody has to sign in now and then."""
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
