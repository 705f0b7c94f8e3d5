"""The dialogue of ``mlflow-pack auth login``: what it says while it waits for a person."""

from __future__ import annotations

import os
import sys
import webbrowser

from mlflow_plugins_pack.auth.credentials.contracts import SourceError
from mlflow_plugins_pack.auth.manager import get_manager
from mlflow_plugins_pack.auth.oidc import login
from mlflow_plugins_pack.auth.profiles.file import Profiles
from mlflow_plugins_pack.auth.profiles.models import ChainProfile, OidcProfile
from mlflow_plugins_pack.auth.sources import open_oidc
from mlflow_plugins_pack.auth.sources.sign_outs import profiles_with_tokens
from mlflow_plugins_pack.cli.output import describe_seconds, echo
from mlflow_plugins_pack.errors import AuthConfigError, CredentialError


def sign_in(name: str | None, way: str | None, *, opens: bool, timeout_seconds: float) -> None:
    """Sign a person in, and say so.

    Args:
        name: The profile; None for the only one that needs a person.
        way: ``browser`` or ``device``; None to choose.
        opens: Whether to open the browser.
        timeout_seconds: How long to wait.

    Raises:
        AuthConfigError: If there is no such profile.
        CredentialError: If the sign-in was not completed.
    """
    name, profile = _choose(get_manager().profiles(), name)
    source = open_oidc(name, profile)
    chosen = way or ("device" if profile.flow == "device_code" or not _has_browser() else "browser")
    try:
        if chosen == "device":
            answer, who = login.by_device(source.provider, timeout_seconds, _show_code)
        else:

            def show(url: str) -> None:
                _show_address(url, profile.issuer, timeout_seconds, opens=opens)

            answer, who = login.by_browser(source.provider, timeout_seconds, show)
        credential = source.signed_in(answer, who)
    except SourceError as exc:
        problem = str(exc)
    else:
        echo(f"Signed in as {who or '(the provider did not say)'}.", fg="green")
        life = credential.lifetime_seconds
        span = "" if life is None else f" for {describe_seconds(life)}"
        renewed = ", and is renewed by itself" if answer.refresh_token else ""
        hosts = ", ".join(str(scope) for scope in profile.scopes)
        echo(f"The token for {hosts} is good{span}{renewed}.")
        return
    raise CredentialError(
        f"The sign-in to the profile {name!r} failed: {problem}. Nothing was kept."
    )


def sign_out(name: str | None) -> None:
    """Sign a person out, and say so."""
    profiles = get_manager().profiles()
    is_renamed = name not in profiles.by_name and name in profiles_with_tokens()
    gone, name = name, next(iter(_oidc(profiles)), None) if is_renamed else name
    name, profile = _choose(profiles, name)
    source = open_oidc(name, profile)
    try:
        done = source.end_renamed(gone or "") if is_renamed else source.sign_out()
    except SourceError as exc:
        problem = str(exc)
    else:
        echo(
            f"Signed out of {gone if is_renamed else name}: its tokens are forgotten."
            if done.was_signed_in
            else f"The profile {name} was not signed in."
        )
        for reason in done.problems:
            echo(f"The provider was not told to end the sign-in: {reason}.", err=True)
        return
    raise CredentialError(f"The profile {name!r} was not signed out: {problem}.")


def _choose(profiles: Profiles, name: str | None) -> tuple[str, OidcProfile]:
    found = _oidc(profiles)
    persons = [key for key, profile in found.items() if profile.needs_person]
    if name is None and len(persons) == 1:
        name = persons[0]
    if name is None:
        listed = ", ".join(persons) or "none"
        raise AuthConfigError(f"Which profile? Those that a person signs in to: {listed}.")
    if name not in profiles.by_name:
        known = ", ".join(profiles.by_name) or "none"
        raise AuthConfigError(f"There is no profile {name!r} in {profiles.path} (it has: {known}).")
    if name not in found:
        raise AuthConfigError(
            f"The profile {name!r} has no sign-in: its source gives the credential by itself. "
            f"`mlflow-pack auth status` shows whether it can."
        )
    return name, found[name]


def _oidc(profiles: Profiles) -> dict[str, OidcProfile]:
    found = {}
    for key, profile in profiles.by_name.items():
        links = profile.links if isinstance(profile, ChainProfile) else (profile,)
        for link in links:
            if isinstance(link, OidcProfile):
                found[key] = link
    return found


def _has_browser() -> bool:
    """Return whether a browser opened here would be visible to the user."""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return False
    if sys.platform == "linux" and not (
        os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY") or os.environ.get("BROWSER")
    ):
        return False
    try:
        webbrowser.get()
    except webbrowser.Error:
        return False
    return True


def _show_address(url: str, issuer: str, timeout_seconds: float, *, opens: bool) -> None:
    opened = opens and _has_browser() and webbrowser.open(url)
    if opened:
        echo(f"A browser opens {issuer} to sign you in. If it does not, open this yourself:")
    else:
        echo("Open this in a browser on this machine to sign in:")
    echo("", f"  {url}", "")
    echo(f"Waiting for {describe_seconds(timeout_seconds)} (Ctrl-C to give up) ...")


def _show_code(address: str, code: str, whole: str | None) -> None:
    echo("On any device, open")
    echo("", f"  {address}", "", bold=True)
    echo(f"and enter the code  {code}", bold=True)
    if whole is not None:
        echo(f"(or open {whole}, which has it)")
    echo("Waiting (Ctrl-C to give up) ...")
