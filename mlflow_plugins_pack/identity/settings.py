"""Where a server's caller is looked for, as people write it; pure."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mlflow_plugins_pack.strict_model import StrictModel

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


def _check_url(url: str) -> str:
    if not url.startswith(("https://", "http://127.0.0.1", "http://localhost", "http://[::1]")):
        raise ValueError("it must be https, except on this machine itself")
    return url


PlainHeader = Annotated[str, AfterValidator(_check_header)]
Network = Annotated[str, AfterValidator(_check_network)]
Url = Annotated[str, AfterValidator(_check_url)]
Text = Annotated[str, Field(min_length=1)]


class JwtSettings(StrictModel):
    """A token that the caller, or a proxy on its behalf, presents.

    Attributes:
        issuer: Must equal ``iss``; its discovery document names the keys.
        audience: Must be in ``aud``.
        jwks_uri: Where the keys are, if the issuer has no discovery document.
        header: Where the token is: behind ``Bearer`` in Authorization, alone in any other.
        algorithms: Which signatures count.
        user_claim: Who the caller is.
        groups_claim: The caller's groups, a list of texts; none if absent.
    """

    issuer: Url
    audience: Text
    jwks_uri: Url | None = None
    header: Text = "Authorization"
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "PS256", "ES256"]
    user_claim: Text = "sub"
    groups_claim: Text | None = None


class TrustedHeaderSettings(StrictModel):
    """A name that a reverse proxy has put on the request, after it signed the caller in.

    Attributes:
        peers: Networks that the proxy connects from.
        secret_header: Where the proxy proves itself.
        secret_file: What it must say there; or
        secret_env: the variable that holds it.
        user_header: Who the caller is.
        groups_header: The caller's groups.
        groups_separator: Between them; never a comma, which joins doubled headers.
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
    """Where the caller's name comes from: these sources in order, and no others."""

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
            raise ValueError("a source is there twice")
        return self

    @property
    def gives_groups(self) -> bool:
        """Whether any source vouches for groups besides the name."""
        return (
            "oidc" in self.sources
            or (self.jwt is not None and self.jwt.groups_claim is not None)
            or (self.trusted_header is not None and self.trusted_header.groups_header is not None)
        )
