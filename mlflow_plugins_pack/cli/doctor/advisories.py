"""Published security advisories of MLflow, which a server should not run with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlflow_plugins_pack.findings import Finding


@dataclass(frozen=True)
class Advisory:
    """One advisory.

    Attributes:
        number: the CVE's number.
        fixed_in: the first version of MLflow without the fault.
        what: what an attacker can do.
        until_then: what to do where MLflow cannot be upgraded.
    """

    number: str
    fixed_in: tuple[int, int, int]
    what: str
    until_then: str


ADVISORIES = (
    Advisory(
        "CVE-2026-64849",
        (3, 15, 0),
        "MLflow's own webhooks can be sent to addresses inside the server's network",
        "let only trusted users create webhooks, or block the server's outgoing connections",
    ),
    Advisory(
        "CVE-2026-96804",
        (3, 15, 0),
        "a statsmodels model runs code when it is loaded, even where "
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION is false",
        "load no statsmodels models of others",
    ),
    Advisory(
        "CVE-2026-118625",
        (3, 16, 0),
        "any user of the basic-auth app can reach endpoints that lack a permission check",
        "give accounts to trusted users only",
    ),
    Advisory(
        "CVE-2026-118626",
        (3, 16, 0),
        "any user of the basic-auth app can read and change the issues of all experiments",
        "give accounts to trusted users only",
    ),
    Advisory(
        "CVE-2026-2635",
        (3, 16, 1),
        "the basic-auth app starts with a well-known password of the admin",
        "set another admin_password in its configuration before the first start, or change it now",
    ),
    Advisory(
        "CVE-2026-115886",
        (3, 17, 0),
        "a serialized scorer makes the server send requests to addresses inside its network",
        "require sign-in, and uninstall trulens on the server",
    ),
    Advisory(
        "CVE-2026-116691",
        (3, 17, 0),
        "CrewAI autologging writes the API keys of model providers into traces",
        "turn mlflow.crewai.autolog off, and replace keys that were used with it",
    ),
    Advisory(
        "CVE-2026-116692",
        (3, 17, 0),
        "a serialized scorer makes the server run Python files that callers store as artifacts",
        "require sign-in, and keep artifacts out of the server's own disk",
    ),
)
"""Advisories of the versions that the package supports, by the version that fixed them.

Where an advisory names no fixed version, it is the first release that has the missing check.
"""


def advisories_for(version: tuple[int, ...]) -> Iterator[Finding]:
    """Yield a finding for each advisory that applies to a version of MLflow."""
    for advisory in ADVISORIES:
        if version < advisory.fixed_in:
            fixed = ".".join(map(str, advisory.fixed_in))
            yield Finding(
                "warning",
                advisory.number,
                f"{advisory.what}. Upgrade MLflow to {fixed} or newer; until then "
                f"{advisory.until_then}.",
            )
