"""Profiles' hosts and the URLs that they cover."""

from __future__ import annotations

from mlflow_plugins_pack.auth.profiles.origins import parse_scope
from mlflow_plugins_pack.web_urls import parse_url


def covered(scope: str, url: str) -> bool:
    target = parse_url(url)
    return target is not None and parse_scope(scope).covers(target)
