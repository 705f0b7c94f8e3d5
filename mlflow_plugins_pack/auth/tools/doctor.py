"""Finds what keeps profiles from working, or makes them less safe than they look."""

from __future__ import annotations

import http.client
import os
import ssl
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from mlflow_plugins_pack.auth.manager import Manager, sent_url
from mlflow_plugins_pack.auth.profiles.fields import SecretLocation
from mlflow_plugins_pack.auth.profiles.file import Profiles
from mlflow_plugins_pack.auth.profiles.models import (
    ChainProfile,
    FileProfile,
    OidcProfile,
    Profile,
)
from mlflow_plugins_pack.auth.profiles.origins import Scope
from mlflow_plugins_pack.auth.profiles.paths import find_config
from mlflow_plugins_pack.auth.sources.sign_outs import profiles_with_tokens
from mlflow_plugins_pack.errors import AmbiguousAddressError, AuthConfigError, CredentialError
from mlflow_plugins_pack.findings import Finding
from mlflow_plugins_pack.http_deadline import Watch, within

_CONNECT_SECONDS = 3.0
_CLOCK_SECONDS = 60.0
_SUBJECT = "auth profiles"


@dataclass(frozen=True)
class ProfileStatus:
    """The state of one profile; holds no secret.

    Attributes:
        name: The profile.
        hosts: The hosts that its credential may be sent to.
        source: The source of the credential.
        headers: Names of the headers it sends; empty if there is a problem.
        expires_in_seconds: Seconds that the credential is valid; None if unknown.
        problem: The reason for a missing credential; None if it is available.
        who: The name of the user, as far as the source knows.
        origin: The origin of the credential, in words.
    """

    name: str
    hosts: tuple[str, ...]
    source: str
    headers: tuple[str, ...] = ()
    expires_in_seconds: float | None = None
    problem: str | None = None
    who: str | None = None
    origin: str = ""


def statuses(manager: Manager, names: list[str] | None = None) -> list[ProfileStatus]:
    """Ask every profile's source once, or those of the profiles named.

    Raises:
        AuthConfigError: If there is no usable profiles file.
    """
    wanted = list(manager.profiles().by_name) if names is None else names
    return [_status(manager, name, manager.profile(name)) for name in wanted]


def _status(manager: Manager, name: str, profile: Profile) -> ProfileStatus:
    hosts = tuple(str(scope) for scope in profile.scopes)
    try:
        credential = manager.credential(name)
    except CredentialError as exc:
        return ProfileStatus(name, hosts, profile.source_name, problem=exc.message)
    headers = tuple(header for header, _ in credential.headers)
    return ProfileStatus(
        name,
        hosts,
        profile.source_name,
        headers or tuple(profile.own_headers()),
        credential.lifetime_seconds,
        who=credential.who,
        origin=_origin(profile, credential.source),
    )


def _origin(profile: Profile, chosen: str) -> str:
    """Return the origin of a credential, in words."""
    links = profile.links if isinstance(profile, ChainProfile) else (profile,)
    for link in links:
        if chosen in ("", link.source):
            return link.issuer if isinstance(link, OidcProfile) else f"the source {link.source}"
    return profile.source_name


def check() -> list[Finding]:
    """Check the profiles file, each credential and host, and rival settings.

    Each host gets one HEAD request without any credential.
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
            yield from _check_host(subject, scope, profile)
            yield from _check_proxy(subject, scope)
        yield from _check_secret_files(subject, profile)
        yield from _check_rivals(subject, profile)
    yield from _check_tracking_uri(profiles)
    for name in sorted(profiles_with_tokens() - set(profiles.by_name)):
        yield Finding(
            "warning",
            f"profile {name}",
            f"it was removed or renamed, and its sign-in is still stored. "
            f"Run: mlflow-pack auth logout {name}",
        )


def _check_host(subject: str, scope: Scope, profile: Profile) -> Iterator[Finding]:
    """Connect to a host, with the profile's certificates and no credential, and read its clock."""
    problem, date = "", None
    try:
        date = _date_of(_connection(scope, profile))
    except ssl.SSLCertVerificationError as exc:
        problem = f"its certificate is not trusted here ({exc.verify_message}); set tls.ca"
    except ssl.SSLError as exc:
        problem = f"no safe connection ({exc.reason or 'TLS'}); see tls.cert and tls.key"
    except http.client.HTTPException:
        problem = "it does not answer as a web server; is it https where the profile says http?"
    except OSError as exc:
        reason = exc.strerror or str(exc)
        yield Finding(
            "warning",
            subject,
            f"{scope} cannot be reached from here: {reason}. Check the name and the network; "
            f"behind a proxy this may be as it should.",
        )
        return
    if problem:
        yield Finding("error", subject, f"{scope}: {problem}.")
        return
    yield Finding("ok", subject, f"{scope} can be reached")
    yield from _check_clock(subject, scope, date)


def _date_of(connection: http.client.HTTPConnection) -> str | None:
    def ask() -> str | None:
        connection.request("HEAD", "/")
        return connection.getresponse().headers.get("Date")

    watch = Watch()
    watch.add(connection)
    try:
        return within(_CONNECT_SECONDS, ask, watch)
    finally:
        connection.close()


def _connection(scope: Scope, profile: Profile) -> http.client.HTTPConnection:
    if scope.scheme == "http":
        return http.client.HTTPConnection(scope.host, scope.port, timeout=_CONNECT_SECONDS)
    context = ssl.create_default_context(cafile=profile.tls.ca)
    if profile.tls.cert is not None:
        context.load_cert_chain(profile.tls.cert, profile.tls.key)
    return http.client.HTTPSConnection(
        scope.host, scope.port, timeout=_CONNECT_SECONDS, context=context
    )


def _check_clock(subject: str, scope: Scope, date: str | None) -> Iterator[Finding]:
    try:
        there = parsedate_to_datetime(date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return
    difference = time.time() - there
    if abs(difference) > _CLOCK_SECONDS:
        way = "ahead of" if difference > 0 else "behind"
        yield Finding(
            "warning",
            subject,
            f"this machine's clock is {abs(difference):.0f} s {way} that of {scope}. Tokens count "
            f"as expired, or as not valid yet, where clocks differ: set them by NTP.",
        )


def _check_proxy(subject: str, scope: Scope) -> Iterator[Finding]:
    from requests.utils import get_environ_proxies, select_proxy

    url = str(scope)
    if scope.is_local_http and select_proxy(url, get_environ_proxies(url)):
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
    """Return every file that holds a secret of the profile."""
    if isinstance(profile, ChainProfile):
        return set().union(*(_secret_files(link) for link in profile.links))
    files = {profile.file} if isinstance(profile, FileProfile) else set()
    if profile.tls.key is not None:
        files.add(profile.tls.key)
    values: list[Any] = []
    for name in type(profile).model_fields:
        value = getattr(profile, name)
        values += value.values() if isinstance(value, dict) else [value]
    return files | {
        place.file
        for place in values
        if isinstance(place, SecretLocation) and place.file is not None
    }


def _check_rivals(subject: str, profile: Profile) -> Iterator[Finding]:
    """Yield the other credentials for the profile's hosts."""
    from requests.utils import get_netrc_auth

    other = os.environ.get("MLFLOW_TRACKING_AUTH", "")
    if other not in ("", "plugins-pack"):
        yield _refused(subject, f"MLFLOW_TRACKING_AUTH={other}")
    if os.environ.get("MLFLOW_TRACKING_AWS_SIGV4", "").lower() in ("true", "1"):
        yield _refused(subject, "MLFLOW_TRACKING_AWS_SIGV4")
    if os.environ.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in ("true", "1"):
        yield Finding(
            "error",
            subject,
            "MLFLOW_TRACKING_INSECURE_TLS turns off the check of the servers' certificates: "
            "anyone on the way can read the credential. Unset it; set tls.ca for a private CA.",
        )
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
            result = (
                "The profile wins for its own hosts; other hosts get the other"
                if "Authorization" in (*profile.own_headers(), *profile.extra_headers)
                else "The profile's hosts are sent both"
            )
            yield Finding(
                "warning",
                subject,
                f"{rival} is set as well. {result}. Remove it unless that is wanted.",
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
        return
    try:
        name = profiles.find(sent_url(uri) or uri)
    except AmbiguousAddressError as exc:
        yield Finding("error", "MLFLOW_TRACKING_URI", exc.message)
        return
    if name is None:
        yield Finding(
            "warning",
            "MLFLOW_TRACKING_URI",
            f"{shown} is named by no profile, so requests there are not signed in. Scheme, host "
            f"and port must be exactly those of a profile's host.",
        )
