"""Which attestations of other servers' approvals count, and for what; pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import Field, field_validator

from mlflow_plugins_pack.approvals.domain.attestation import ATTESTATION_TAG, Statement, unseal
from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.approvals.domain.targets import parse_target
from mlflow_plugins_pack.settings import format_duration
from mlflow_plugins_pack.strict_model import Name, Seconds, StrictModel

Fingerprint = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
_MOST_AHEAD_MS = 300_000
"""A signature from the future is refused; the clocks of two servers may differ by so much."""


class AttestedBy(StrictModel):
    """Attestations that count.

    Attributes:
        keys: fingerprints of the keys that may sign: ``sha256:`` and the SHA-256 of the 32 bytes of
            an Ed25519 public key.
        target: the alias or stage that it was approved for at its source; any if not given.
        max_age: how old the signature may be.
    """

    keys: list[Fingerprint] = Field(min_length=1, max_length=50)
    target: Name | None = None
    max_age: Seconds | None = None

    @field_validator("target")
    @classmethod
    def _is_target(cls, value: str | None) -> str | None:
        return value if value is None else parse_target(value).tag

    def problem(
        self,
        *,
        name: str,
        digest: str | None,
        tags: Mapping[str, str | None],
        approvers: int,
        now_ms: int,
    ) -> str | None:
        """Return why the attestation that a version has does not count, or None if it does.

        Args:
            name: The name of the model here.
            digest: The digest of the version's content; None: not known yet.
            tags: The version's tags.
            approvers: The number of people who must have approved it at its source.
            now_ms: Milliseconds since the epoch.
        """
        text = tags.get(ATTESTATION_TAG)
        if text is None:
            return "it has none"
        try:
            found = unseal(text)
        except ValueError as exc:
            return f"the one it has is not valid: {exc}"
        if found.fingerprint not in self.keys:
            return f"the one it has was signed by {found.fingerprint}"
        about = found.statement
        if digest is None or about.digest != digest:
            return "the one it has is about other files"
        if about.name != name:
            return f"the one it has was made for the model {about.name[:256]!r}"
        age_ms = now_ms - about.signed_at
        if age_ms < -_MOST_AHEAD_MS:
            return "the one it has was signed in the future"
        if self.max_age is not None and age_ms > self.max_age * 1000:
            return f"the one it has is older than {format_duration(self.max_age)}"
        count = len(self._people(about))
        if count < approvers:
            place = f" for {self.target}" if self.target is not None else ""
            return f"the one it has names {count} of {approvers} approvers{place}"
        return None

    def _people(self, about: Statement) -> set[str]:
        """Return who approved the version at its source."""
        return {
            fold(person)
            for approval in about.approvals
            if self.target is None or fold(approval.target) == fold(self.target)
            for person in approval.approvers
        }

    def describe(self) -> str:
        """Return the keys and conditions in one line."""
        parts = [" or ".join(key[:19] for key in self.keys)]
        if self.target is not None:
            parts.append(f"approved for {self.target}")
        if self.max_age is not None:
            parts.append(f"max_age: {format_duration(self.max_age)}")
        return ", ".join(parts)
