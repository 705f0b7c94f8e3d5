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
        "CVE-2026-2635",
        (3, 16, 1),
        "the basic-auth app starts with a well-known password of the admin",
        "set another admin_password in its configuration before the first start, or change it now",
    ),
)
"""Advisories of the versions that the package supports, oldest first."""


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
