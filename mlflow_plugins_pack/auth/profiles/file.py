"""Read the profiles file into strict models.

It decides where credentials go and which commands run, so a file that others could have written
is refused.
"""

from __future__ import annotations

import os
import stat
import sys
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from mlflow_plugins_pack.auth.profiles.models import (
    KNOWN_SOURCES,
    MODELS,
    ChainProfile,
    CommonProfile,
    Profile,
)
from mlflow_plugins_pack.auth.profiles.origins import Scope
from mlflow_plugins_pack.auth.profiles.paths import CONFIG_VARIABLE, user_config
from mlflow_plugins_pack.auth.profiles.reading import read_file
from mlflow_plugins_pack.errors import AmbiguousAddressError, AuthConfigError
from mlflow_plugins_pack.web_urls import parse_url, shown

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_LARGEST_BYTES = 64 * 1024
_MOST_DOTS = 500
"""In one line: a key of many parts takes the parser the square of their number in memory."""
_SHOWN_PROBLEMS = 10


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

    def find(self, text: str) -> str | None:
        """Return the name of the profile whose scope covers a URL, if any.

        Args:
            text: The URL as it is sent.

        Raises:
            AmbiguousAddressError: If the URL may be one of a profile, and may be another: neither a
                credential nor a request without one is sent there.
        """
        url = parse_url(text)
        for scope, name in self.scopes:
            if url is not None and scope.covers(url):
                return name
            if scope.might_be_host_of(text) if url is None else scope.might_cover(url):
                raise AmbiguousAddressError(
                    f"{shown(text)} may be read as an address of sign-in profile {name!r} "
                    f"({scope}), and as another. The request was not sent. Write the address as "
                    f"the profile does: without a user name, a dot at the end of the host, or "
                    f"'..' and ';' in the path."
                )
        return None


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
    is_nested = any(line.count(b".") > _MOST_DOTS for line in text.splitlines())
    try:
        document = {} if is_nested else tomllib.loads(text.decode("utf-8"))
    except UnicodeDecodeError:
        problem = "it is not UTF-8"
    except RecursionError:
        is_nested = True
    except ValueError as exc:  # TOMLDecodeError, or a number of too many digits
        problem = f"it is not TOML: {exc}"
    if is_nested:
        problem = "it is nested too deeply"
    if problem:
        # Raised outside the handler: a chained exception would carry the document.
        raise AuthConfigError(f"The profiles file {path} was refused: {problem}. {_NEXT}")
    return check_profiles(path, document)


def check_profiles(origin: str, document: dict[str, Any]) -> Profiles:
    """Check a document of profiles.

    Args:
        origin: Where it comes from, for messages.
        document: As TOML gives it.

    Raises:
        AuthConfigError: Naming what is wrong, without any value.
    """
    tables = document.get("profile")
    problems = [f"{key}: this key is unknown here" for key in document if key != "profile"]
    if not isinstance(tables, dict):
        problems.append("profile: there must be a table [profile.NAME] for each profile")
        tables = {}
    models: dict[str, Profile] = {}
    for name, table in tables.items():
        model, found = _read_profile(table)
        problems += [f"profile.{name}{problem}" for problem in found]
        if model is not None:
            models[name] = model
            problems += [f"profile.{name}: {text}" for text in _twice(model)]
    scopes = [(scope, name) for name, model in models.items() for scope in model.scopes]
    owners: dict[Scope, str] = {}
    for scope, name in scopes:
        if scope in owners:
            problems.append(f"{scope} is named twice (profiles {owners[scope]} and {name})")
        owners[scope] = name
    if problems:
        listed = "; ".join(problems[:_SHOWN_PROBLEMS])
        raise AuthConfigError(f"The profiles file {origin} was refused: {listed}. {_NEXT}")
    scopes.sort(key=lambda entry: len(entry[0].prefix), reverse=True)
    return Profiles(origin, models, tuple(scopes))


_NEXT = (
    "Nothing was sent. Correct the file; `mlflow-pack auth doctor` checks it without sending "
    "anything."
)


def _read_profile(table: Any) -> tuple[Profile | None, list[str]]:
    """Return the model of one table, or what is wrong with it."""
    known = f"known are {', '.join(KNOWN_SOURCES)}"
    if not isinstance(table, dict):
        return None, [": it must be a table"]
    if "source" not in table:
        return None, [f": source is missing; {known}"]
    source = table["source"]
    names = source if isinstance(source, list) else [source]
    if not names or not all(isinstance(name, str) and name in MODELS for name in names):
        return None, [f": the source is unknown; {known}"]
    if isinstance(source, str):
        return _validate(MODELS[source], table)
    return _read_chain(names, table)


def _read_chain(names: list[str], table: dict[str, Any]) -> tuple[Profile | None, list[str]]:
    """Return the model of a table whose sources are tried in order; each takes its own keys."""
    links, problems = [], []
    taken = {"source"}
    for name in names:
        keys = set(MODELS[name].model_fields)
        taken |= keys
        own = {key: value for key, value in table.items() if key in keys}
        link, found = _validate(MODELS[name], {**own, "source": name})
        problems += [problem for problem in found if problem not in problems]
        if link is not None:
            links.append(link)
    problems += [f".{key}: this key is unknown here" for key in table if key not in taken]
    if len(set(names)) != len(names):
        problems.append(": a source is there twice")
    if "aws-sigv4" in names:
        problems.append(": aws-sigv4 signs each request and cannot be one of several")
    if problems:
        return None, problems
    common = {key: getattr(links[0], key) for key in CommonProfile.model_fields}
    return ChainProfile.model_construct(source=tuple(names), links=tuple(links), **common), []


def _validate(model: Any, table: dict[str, Any]) -> tuple[Any, list[str]]:
    try:
        return model.model_validate(table), []
    except ValidationError as exc:
        errors = exc.errors(include_input=False, include_context=False)
        return None, [_describe(error) for error in errors]


def _twice(profile: Profile) -> list[str]:
    """Return which header two parts of a profile would set."""
    links = profile.links if isinstance(profile, ChainProfile) else (profile,)
    for link in links:
        folded = [name.lower() for name in (*profile.extra_headers, *link.own_headers())]
        if profile.correlation_header is not None:
            folded.append(profile.correlation_header.lower())
        if twice := [name for name in folded if folded.count(name) > 1]:
            return [f"the header {twice[0]} is set twice"]
    return []


def _describe(error: Any) -> str:
    where = ".".join(str(word) for word in error["loc"] if word != "[key]")
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        message = "this key is unknown here"
    return f".{where}: {message}" if where else f": {message}"


def _read_trusted(path: str) -> bytes:
    if not os.path.isabs(path):
        raise AuthConfigError(
            f"{CONFIG_VARIABLE} names {path!r}, which depends on the current directory. "
            f"Nothing was sent. Give an absolute path."
        )

    def check(found: os.stat_result) -> None:
        if problem := distrust(found) or distrust_folder(path):
            raise AuthConfigError(f"The profiles file {path} was refused: {problem}")

    try:
        data = read_file(path, _LARGEST_BYTES, check)
    except (OSError, ValueError) as exc:
        raise _unreadable(path, exc) from None
    if len(data) > _LARGEST_BYTES:
        raise AuthConfigError(
            f"The profiles file {path} was refused: it is larger than 64 KiB. {_NEXT}"
        )
    return data


def distrust(found: os.stat_result) -> str:
    """Return why a configuration file is not trusted; empty if it is."""
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
    """Return why a file's folder is not trusted; empty if it is."""
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
        f"it readable, or unset {CONFIG_VARIABLE} to use {user_config()}. A process that has found "
        f"a profiles file before does not go on without it: start it again."
    )
