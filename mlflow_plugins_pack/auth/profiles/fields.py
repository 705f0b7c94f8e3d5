"""The types of a profile's values: header names, paths, commands, addresses, secrets' locations."""

from __future__ import annotations

import os
import re
from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from mlflow_plugins_pack.strict_model import StrictModel
from mlflow_plugins_pack.web_urls import check_secure_url

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
    if "\0" in path:
        raise ValueError("no path holds a NUL character")
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


HeaderName = Annotated[str, AfterValidator(_check_header_name)]
AbsolutePath = Annotated[str, AfterValidator(_check_path)]
Command = Annotated[list[str], AfterValidator(_check_command)]
VariableName = Annotated[str, Field(pattern=r"^[^=\x00]+$")]
SecureUrl = Annotated[str, AfterValidator(check_secure_url)]
KeyringEntry = Annotated[str, Field(pattern=r"^[^/]+/.+$")]
"""A service and a name, as ``service/name``."""
Word = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x20\x7f]+$")]


class SecretLocation(StrictModel):
    """Location of one secret: exactly one of a variable, a file, a command, a keyring's entry."""

    env: VariableName | None = None
    file: AbsolutePath | None = None
    command: Command | None = None
    keyring: KeyringEntry | None = None

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
    def _exactly_one(self) -> SecretLocation:
        places = (self.env, self.file, self.command, self.keyring)
        if sum(place is not None for place in places) != 1:
            raise ValueError("give exactly one of env, file, command, keyring")
        return self


class Tls(StrictModel):
    """Certificates for connections to the profile's hosts.

    Attributes:
        ca: Path of the certificates to trust in place of the default ones.
        cert: Path of the client's certificate, for mutual TLS.
        key: Path of its private key, if that is not in the same file.
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
