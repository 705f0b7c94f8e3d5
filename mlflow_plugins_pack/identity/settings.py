"""The settings that say how a server's caller is identified; pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mlflow_plugins_pack.strict_model import StrictModel
from mlflow_plugins_pack.web_urls import check_secure_url

SourceName = Literal["basic_auth", "oidc", "jwt", "trusted_header"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]

_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*", re.ASCII)


def _check_header(name: str) -> str:
    # WSGI folds "X_User" and "X-User" into one: a client could send the form that a proxy does
    # not take away.
    if not _PLAIN_NAME.fullmatch(name):
        raise ValueError(
            "a trusted header's name has letters and digits only, such as XRemoteUser: with a "
            "hyphen a client could smuggle in the same name with an underscore"
        )
    return name


def _check_network(text: str) -> str:
    ipaddress.ip_network(text)
    return text


PlainHeader = Annotated[str, AfterValidator(_check_header)]
Network = Annotated[str, AfterValidator(_check_network)]
Url = Annotated[str, AfterValidator(check_secure_url)]
Text = Annotated[str, Field(min_length=1)]


class JwtSettings(StrictModel):
    """A token that the caller, or a proxy on its behalf, presents.

    Attributes:
        issuer: the value of ``iss``; its discovery document names the keys.
        audience: the value that ``aud`` must be or contain.
        jwks_uri: the address of the keys, if the issuer has no discovery document.
        header: the header with the token: after ``Bearer`` in Authorization, alone in any other.
        algorithms: the signature algorithms to accept.
        user_claim: the claim with the user's name.
        groups_claim: the claim with the user's groups, a list of texts.
    """

    issuer: Url
    audience: Text
    jwks_uri: Url | None = None
    header: Text = "Authorization"
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "PS256", "ES256"]
    user_claim: Text = "sub"
    groups_claim: Text | None = None


class TrustedHeaderSettings(StrictModel):
    """A user name that a reverse proxy adds to a request after it signed the user in.

    Attributes:
        peers: the networks that the proxy connects from.
        secret_header: the header with the proxy's secret.
        secret_file: the file with that secret; or
        secret_env: the environment variable with it.
        user_header: the header with the user's name.
        groups_header: the header with the user's groups.
        groups_separator: the text between groups; never a comma, which joins doubled headers.
    """

    peers: Annotated[list[Network], Field(min_length=1)]
    secret_header: PlainHeader
    secret_file: Text | None = None
    secret_env: Text | None = None
    user_header: PlainHeader
    groups_header: PlainHeader | None = None
    groups_separator: Annotated[str, Field(pattern=r"^[;|:/ ]$")] = ";"

    @model_validator(mode="after")
    def _one_secret(self) -> TrustedHeaderSettings:
        if (self.secret_file is None) == (self.secret_env is None):
            raise ValueError("give exactly one of secret_file and secret_env")
        return self


class Identity(StrictModel):
    """The sources of the caller's name, in order; no others are asked."""

    sources: Annotated[list[SourceName], Field(min_length=1)] = ["basic_auth"]
    jwt: JwtSettings | None = None
    trusted_header: TrustedHeaderSettings | None = None
    allow_anonymous: Literal[False] = False

    @model_validator(mode="after")
    def _sources_and_settings_agree(self) -> Identity:
        for name in ("jwt", "trusted_header"):
            if (name in self.sources) != (getattr(self, name) is not None):
                raise ValueError(
                    f"{name!r} must be among the sources and have settings, or neither"
                )
        if len(set(self.sources)) != len(self.sources):
            raise ValueError("a source is listed twice")
        return self

    @property
    def gives_groups(self) -> bool:
        """True if any source provides groups in addition to the name."""
        return (
            "oidc" in self.sources
            or (self.jwt is not None and self.jwt.groups_claim is not None)
            or (self.trusted_header is not None and self.trusted_header.groups_header is not None)
        )
