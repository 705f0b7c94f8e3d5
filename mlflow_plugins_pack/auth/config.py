"""Read the profiles file into strict models.

The file holds no secret, only where each one is: a secret written into it is refused. It decides
where credentials go and which commands run, so a file that others could have written is refused
too.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from mlflow_plugins_pack.auth.location import CONFIG_VARIABLE, user_config
from mlflow_plugins_pack.auth.origin import Scope, Target, parse_scope
from mlflow_plugins_pack.errors import AuthConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LARGEST_BYTES = 1 << 20
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
_SHOWN_PROBLEMS = 10


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


HeaderName = Annotated[str, AfterValidator(_check_header_name)]
AbsolutePath = Annotated[str, AfterValidator(_check_path)]
Command = Annotated[list[str], AfterValidator(_check_command)]
VariableName = Annotated[str, Field(pattern=r"^[^=\x00]+$")]


class _Strict(BaseModel):
    # Inputs are hidden since a misplaced secret would be one.
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class SecretPlace(_Strict):
    """Where one secret is: exactly one of an environment variable, a file, a command."""

    env: VariableName | None = None
    file: AbsolutePath | None = None
    command: Command | None = None

    @model_validator(mode="before")
    @classmethod
    def _refuse_plain_text(cls, value: object) -> object:
        if isinstance(value, str):
            raise ValueError(
                "a secret must not be written into this file; say where it is: "
                '{ env = "NAME" }, { file = "/path" } or { command = ["program", "argument"] }'
            )
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretPlace:
        if sum(place is not None for place in (self.env, self.file, self.command)) != 1:
            raise ValueError("give exactly one of env, file, command")
        return self


class _Profile(_Strict):
    hosts: Annotated[list[str], Field(min_length=1)]
    extra_headers: dict[HeaderName, SecretPlace] = {}
    on_conflict: Literal["profile", "error"] = "profile"
    timeout_seconds: Annotated[float, Field(strict=False, gt=0, le=300)] = 15.0

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


class _TokenProfile(_Profile):
    header: HeaderName = "Authorization"
    scheme: Annotated[str, Field(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]*$")] = "Bearer"


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


class BasicProfile(_Profile):
    """A user name and a password."""

    source: Literal["basic"]
    username: Annotated[str, Field(min_length=1, pattern=r"^[^:\x00-\x1f\x7f]*$")]
    password: SecretPlace


class HeadersProfile(_Profile):
    """Any headers, each with a secret value."""

    source: Literal["headers"]
    headers: Annotated[dict[HeaderName, SecretPlace], Field(min_length=1)]


Profile = Annotated[
    EnvProfile | FileProfile | CommandProfile | BasicProfile | HeadersProfile,
    Field(discriminator="source"),
]
KNOWN_SOURCES = ("env", "file", "command", "basic", "headers")


class _File(_Strict):
    profile: dict[str, Profile]


@dataclass(frozen=True)
class Profiles:
    """The profiles of one file.

    Attributes:
        path: The file.
        by_name: The profiles in the order of the file.
        scopes: Every scope with its profile's name; deepest prefix first.
    """

    path: str
    by_name: dict[str, Profile]
    scopes: tuple[tuple[Scope, str], ...]

    def find(self, target: Target | None) -> str | None:
        """Return the name of the profile whose scope covers the target, if any."""
        if target is None:
            return None
        return next((name for scope, name in self.scopes if scope.covers(target)), None)


FileMark = tuple[int, ...]


def mark_of(path: str) -> FileMark:
    """Return what changes whenever the file does, access rights included.

    Raises:
        AuthConfigError: If the file is not there or cannot be looked at.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as exc:
        raise _unreadable(path, exc) from None
    return (
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_size,
        found.st_ino,
        found.st_dev,
        found.st_mode,
        found.st_uid,
    )


def load_profiles(path: str) -> Profiles:
    """Read and check a profiles file.

    Args:
        path: An absolute path.

    Returns:
        Its profiles.

    Raises:
        AuthConfigError: If it cannot be read, others may write it, or it is not valid.
    """
    return parse_profiles(path, _read_trusted(path))


def parse_profiles(path: str, text: bytes) -> Profiles:
    """Check a profiles file's content; see `load_profiles`."""
    problem = ""
    document: dict[str, Any] = {}
    try:
        document = tomllib.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        problem = "it is not UTF-8"
    except tomllib.TOMLDecodeError as exc:
        problem = f"it is not TOML: {exc}"
    if problem:
        # Raised outside the handler: a chained exception would carry the document.
        raise AuthConfigError(f"The profiles file {path} was refused: {problem}. {_NEXT}")
    problems = list(_unknown_sources(document))
    models: dict[str, Profile] = {}
    if not problems:
        try:
            models = _File.model_validate(document).profile
        except ValidationError as exc:
            problems = [
                _describe(error) for error in exc.errors(include_input=False, include_context=False)
            ]
    scopes = [(scope, name) for name, model in models.items() for scope in model.scopes]
    owners: dict[Scope, str] = {}
    for scope, name in scopes:
        if scope in owners:
            problems.append(f"{scope} is named twice (profiles {owners[scope]} and {name})")
        owners[scope] = name
    problems += [f"profile.{name}: {text}" for name, m in models.items() for text in _twice(m)]
    if problems:
        listed = "; ".join(problems[:_SHOWN_PROBLEMS])
        raise AuthConfigError(f"The profiles file {path} was refused: {listed}. {_NEXT}")
    scopes.sort(key=lambda entry: len(entry[0].prefix), reverse=True)
    return Profiles(path, models, tuple(scopes))


_NEXT = (
    "Nothing was sent. Correct the file; `mlflow-pack auth doctor` checks it without sending "
    "anything."
)


def _unknown_sources(document: dict[str, Any]) -> list[str]:
    profiles = document.get("profile")
    if not isinstance(profiles, dict):
        return []
    return [
        f"profile.{name}: the source is unknown; known are {', '.join(KNOWN_SOURCES)}"
        for name, profile in profiles.items()
        if isinstance(profile, dict)
        and "source" in profile
        and profile["source"] not in KNOWN_SOURCES
    ]


def _twice(profile: Profile) -> list[str]:
    names: list[str] = list(profile.extra_headers)
    if isinstance(profile, HeadersProfile):
        names += profile.headers
    elif isinstance(profile, BasicProfile):
        names.append("Authorization")
    else:
        names.append(profile.header)
    folded = [name.lower() for name in names]
    return [f"the header {n} is set twice" for n in names if folded.count(n.lower()) > 1][:1]


def _describe(error: Any) -> str:
    # The discriminator's value appears in pydantic's location: profile, NAME, SOURCE, key...
    words = [str(part) for part in error["loc"]]
    if len(words) > 2 and words[0] == "profile" and words[2] in KNOWN_SOURCES:
        del words[2]
    where = ".".join(word for word in words if word != "[key]")
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "this key is unknown here"
    elif error["type"] == "union_tag_not_found":
        message = f"source is missing; known are {', '.join(KNOWN_SOURCES)}"
    return f"{where}: {message}" if where else message


def _read_trusted(path: str) -> bytes:
    if not os.path.isabs(path):
        raise AuthConfigError(
            f"{CONFIG_VARIABLE} names {path!r}, which depends on the current directory. "
            f"Nothing was sent. Give an absolute path."
        )
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as exc:
        raise _unreadable(path, exc) from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if problem := distrust(found) or distrust_folder(path):
            raise AuthConfigError(f"The profiles file {path} was refused: {problem}")
        if found.st_size > _LARGEST_BYTES:
            raise AuthConfigError(
                f"The profiles file {path} was refused: it is larger than 1 MiB. {_NEXT}"
            )
        return file.read(_LARGEST_BYTES)


def distrust(found: os.stat_result) -> str:
    """Say why a configuration file is not to be trusted; empty if it is."""
    if not stat.S_ISREG(found.st_mode):
        return "it is not a regular file. Nothing was sent. Name a regular file."
    if not hasattr(os, "getuid"):  # Windows: access is governed by ACLs, which os.stat hides
        return ""
    if found.st_uid not in (0, os.getuid()):
        return (
            f"it belongs to another user (uid {found.st_uid}), who could send your credentials "
            f"anywhere. Nothing was sent. Make a copy of your own, once you have read it."
        )
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return (
            f"others may write it (mode {stat.S_IMODE(found.st_mode):04o}), so they could send "
            f"your credentials anywhere. Nothing was sent. Check what it says, then: "
            f"chmod go-w FILE"
        )
    return ""


def distrust_folder(path: str) -> str:
    """Say why a file's folder is not to be trusted; empty if it is."""
    folder = os.path.dirname(os.path.realpath(path))
    mode = os.stat(folder).st_mode
    if hasattr(os, "getuid") and mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        return (
            f"everybody may replace files in its folder {folder} (mode "
            f"{stat.S_IMODE(mode):04o}). Nothing was sent. Run: chmod o-w {folder}"
        )
    return ""


def _unreadable(path: str, exc: Exception) -> AuthConfigError:
    reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
    return AuthConfigError(
        f"The profiles file {path} cannot be read: {reason}. Nothing was sent. Create it or make "
        f"it readable, or unset {CONFIG_VARIABLE} to use {user_config()}."
    )
