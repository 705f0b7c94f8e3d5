"""Find what keeps profiles from working, or makes them less safe than they look."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.auth.config import FileProfile, Profile, Profiles, SecretPlace
from mlflow_plugins_pack.auth.location import find_config
from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.origin import Scope, is_loopback, parse_target
from mlflow_plugins_pack.errors import AuthConfigError, CredentialError
from mlflow_plugins_pack.findings import Finding

_CONNECT_SECONDS = 3.0
_SUBJECT = "auth profiles"


@dataclass(frozen=True)
class ProfileStatus:
    """How one profile is doing; holds no secret.

    Attributes:
        name: The profile.
        hosts: Where its credential may go.
        source: Where it comes from.
        headers: Names of the headers it sends; empty if there is a problem.
        expires_in_seconds: How long the credential is good; None if unknown.
        problem: Why there is no credential; None if there is one.
    """

    name: str
    hosts: tuple[str, ...]
    source: str
    headers: tuple[str, ...] = ()
    expires_in_seconds: float | None = None
    problem: str | None = None


def statuses(manager: Manager) -> list[ProfileStatus]:
    """Ask every profile's source once.

    Raises:
        AuthConfigError: If there is no usable profiles file.
    """
    found = []
    for name, profile in manager.profiles().by_name.items():
        hosts = tuple(str(scope) for scope in profile.scopes)
        try:
            credential = manager.credential(name)
        except CredentialError as exc:
            found.append(ProfileStatus(name, hosts, profile.source, problem=exc.message))
        else:
            headers = tuple(header for header, _ in credential.headers)
            life = credential.lifetime_seconds
            found.append(ProfileStatus(name, hosts, profile.source, headers, life))
    return found


def check() -> list[Finding]:
    """Check the profiles file, each credential and host, and rival settings.

    Sends no request: hosts are connected to and no more.
    """
    path = find_config()
    if path is None:
        return [Finding("ok", _SUBJECT, "no profiles file: requests go out as stock sends them")]
    manager = Manager()
    try:
        profiles = manager.profiles()
    except AuthConfigError as exc:
        return [Finding("error", _SUBJECT, exc.message)]
    return list(_check_all(manager, profiles))


def _check_all(manager: Manager, profiles: Profiles) -> Iterator[Finding]:
    names = ", ".join(profiles.by_name) or "none"
    yield Finding("ok", _SUBJECT, f"{profiles.path} is valid; profiles: {names}")
    for status in statuses(manager):
        subject = f"auth profile {status.name}"
        if status.problem:
            yield Finding("error", subject, status.problem)
        else:
            yield Finding("ok", subject, f"has a credential ({status.source})")
        profile = profiles.by_name[status.name]
        for scope in profile.scopes:
            yield _check_reachable(subject, scope)
            yield from _check_proxy(subject, scope)
        yield from _check_secret_files(subject, profile)
        yield from _check_rivals(subject, profile)
    yield from _check_tracking_uri(profiles)


def _check_reachable(subject: str, scope: Scope) -> Finding:
    try:
        socket.create_connection((scope.host, scope.port), _CONNECT_SECONDS).close()
    except OSError as exc:
        reason = exc.strerror or str(exc)
        return Finding(
            "warning",
            subject,
            f"{scope} cannot be reached from here: {reason}. Check the name and the network; "
            f"behind a proxy this may be as it should.",
        )
    return Finding("ok", subject, f"{scope} can be reached")


def _check_proxy(subject: str, scope: Scope) -> Iterator[Finding]:
    from requests.utils import get_environ_proxies

    if scope.scheme == "http" and is_loopback(scope.host):
        proxies = get_environ_proxies(str(scope))
        if proxies.get("http") or proxies.get("all"):
            yield Finding(
                "error",
                subject,
                f"a proxy of the environment would read the credential for {scope}, so requests "
                f"are refused. Set NO_PROXY=localhost,127.0.0.1,::1.",
            )


def _check_secret_files(subject: str, profile: Profile) -> Iterator[Finding]:
    for path in sorted(_secret_files(profile)):
        try:
            found = os.stat(path)
        except OSError:
            continue  # said with the credential
        mine = hasattr(os, "geteuid") and found.st_uid == os.geteuid()
        if mine and found.st_mode & (stat.S_IRGRP | stat.S_IROTH):
            yield Finding(
                "warning", subject, f"others may read the secret in {path}. Run: chmod 600 {path}"
            )


def _secret_files(profile: Profile) -> set[str]:
    files = {profile.file} if isinstance(profile, FileProfile) else set()
    named: list[Any] = [*profile.extra_headers.values()]
    named += getattr(profile, "headers", {}).values()
    named.append(getattr(profile, "password", None))
    return files | {
        place.file for place in named if isinstance(place, SecretPlace) and place.file is not None
    }


def _check_rivals(subject: str, profile: Profile) -> Iterator[Finding]:
    """Say what else wants to sign in to the profile's hosts."""
    from requests.utils import get_netrc_auth

    other = os.environ.get("MLFLOW_TRACKING_AUTH", "")
    if other not in ("", "plugins-pack"):
        yield _refused(subject, f"MLFLOW_TRACKING_AUTH={other}")
    if os.environ.get("MLFLOW_TRACKING_AWS_SIGV4", "").lower() in ("true", "1"):
        yield _refused(subject, "MLFLOW_TRACKING_AWS_SIGV4")
    rivals = []
    if os.environ.get("MLFLOW_TRACKING_TOKEN"):
        rivals.append("MLFLOW_TRACKING_TOKEN")
    if os.environ.get("MLFLOW_TRACKING_USERNAME") and os.environ.get("MLFLOW_TRACKING_PASSWORD"):
        rivals.append("MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
    if os.path.exists(os.path.expanduser("~/.mlflow/credentials")):
        rivals.append("~/.mlflow/credentials")
    rivals += [
        f"~/.netrc for {scope.host}"
        for scope in profile.scopes
        if get_netrc_auth(str(scope)) is not None
    ]
    for rival in rivals:
        if profile.on_conflict == "error":
            yield _refused(subject, rival)
        else:
            yield Finding(
                "warning",
                subject,
                f"{rival} is set as well. The profile wins for its own hosts; other hosts get the "
                f"other. Remove it unless that is wanted.",
            )


def _refused(subject: str, rival: str) -> Finding:
    return Finding(
        "error",
        subject,
        f"{rival} is set as well, so requests to the profile's hosts are refused. Unset it.",
    )


def _check_tracking_uri(profiles: Profiles) -> Iterator[Finding]:
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri.startswith(("http://", "https://")):
        return
    shown = uri.partition("://")[0] + "://" + uri.partition("://")[2].rpartition("@")[2]
    if "@" in uri:
        yield Finding(
            "error",
            "MLFLOW_TRACKING_URI",
            "carries a user name or password, so no profile applies and it shows in logs. Remove "
            'them; a profile with source = "basic" signs in.',
        )
    elif profiles.find(parse_target(uri)) is None:
        yield Finding(
            "warning",
            "MLFLOW_TRACKING_URI",
            f"{shown} is named by no profile, so nobody is signed in there. Scheme, host and port "
            f"must be those of a profile's hosts exactly.",
        )
