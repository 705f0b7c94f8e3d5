"""Where credentials come from, one module each; `open_source` picks the one of a profile."""

from __future__ import annotations

from mlflow_plugins_pack.auth.config import (
    BasicProfile,
    CommandProfile,
    EnvProfile,
    FileProfile,
    HeadersProfile,
    Profile,
    SecretPlace,
)
from mlflow_plugins_pack.auth.sources._base import Place, Source, TokenSource, WithExtraHeaders
from mlflow_plugins_pack.auth.sources.basic import BasicSource
from mlflow_plugins_pack.auth.sources.command import CommandPlace
from mlflow_plugins_pack.auth.sources.env import EnvPlace
from mlflow_plugins_pack.auth.sources.file import FilePlace
from mlflow_plugins_pack.auth.sources.headers import HeadersSource

__all__ = ["Source", "open_source"]


def open_source(profile: Profile) -> Source:
    """Return the source of a profile; reads nothing yet."""
    source = _main_source(profile)
    if not profile.extra_headers:
        return source
    extra = HeadersSource(
        {
            name: _place(place, profile.timeout_seconds)
            for name, place in profile.extra_headers.items()
        }
    )
    return WithExtraHeaders(source, extra)


def _main_source(profile: Profile) -> Source:
    timeout = profile.timeout_seconds
    if isinstance(profile, BasicProfile):
        return BasicSource(profile.username, _place(profile.password, timeout))
    if isinstance(profile, HeadersProfile):
        return HeadersSource(
            {name: _place(place, timeout) for name, place in profile.headers.items()}
        )
    place: Place
    if isinstance(profile, EnvProfile):
        place = EnvPlace(profile.env)
    elif isinstance(profile, FileProfile):
        place = FilePlace(profile.file)
    else:
        assert isinstance(profile, CommandProfile)  # noqa: S101 - narrows the union for mypy
        place = CommandPlace(profile.command, timeout)
    return TokenSource(profile.header, profile.scheme, place)


def _place(secret: SecretPlace, timeout_seconds: float) -> Place:
    if secret.env is not None:
        return EnvPlace(secret.env)
    if secret.file is not None:
        return FilePlace(secret.file)
    return CommandPlace(secret.command or [], timeout_seconds)
