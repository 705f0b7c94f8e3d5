"""The policy file in force: read again when it changes, kept when the new text is broken."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mlflow_plugins_pack.approvals.caller import current_caller
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.errors import PolicyInvalidError
from mlflow_plugins_pack.identity.roles import Directory, claims_in, has_roles
from mlflow_plugins_pack.settings import APPROVALS_POLICY

_logger = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 1.0
_REPEAT_COMPLAINT_SECONDS = 60.0


def policy_path() -> Path:
    """Return the policy file's path.

    Raises:
        PolicyInvalidError: If the setting is empty.
    """
    text = APPROVALS_POLICY.get()
    if not text:
        raise PolicyInvalidError(
            f"{APPROVALS_POLICY.name} is not set, and a registry with an 'approval-' URI does not "
            "run without a policy file: everything would be allowed. Nothing was opened. Set it "
            "to the path of a policy file."
        )
    return Path(text).expanduser().absolute()


def read_policy(path: Path) -> Policy:
    """Read a policy file.

    Raises:
        PolicyInvalidError: If it cannot be read or is wrong.
    """
    return parse_policy(_text(path), str(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as exc:
        raise PolicyInvalidError(
            f"the approvals policy {path} cannot be read ({exc}). Nothing was changed. "
            "Put the file there, readable by the server."
        ) from exc


class PolicySource:
    """Provides the policy in force; one per store and process.

    The file is small, so it is simply read again once a second of use and compared: no timestamp
    granularity, renamed file or mounted secret can hide a change.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._policy = read_policy(path)
        self._looked_at = time.monotonic()
        self._complained: tuple[str, float] | None = None
        self._lock = threading.Lock()
        self._directory = Directory()

    def current(self, claims: Mapping[str, frozenset[str]] | None = None) -> Policy:
        """Return the policy in force, at most a second behind the file.

        Args:
            claims: The claims of users when they were last seen, by user. For the caller, only
                the claims of their own request count.
        """
        if time.monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS:
            with self._lock:
                if time.monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS:
                    self._look()
        policy = self._policy
        has_claims = bool(claims_in(policy.file.groups))
        if not has_claims and not has_roles(policy.file.groups):
            return policy
        known = dict(claims or {})
        if has_claims and (caller := current_caller(policy.file.identity)) is not None:
            known[caller.user] = caller.groups
        groups = self._directory.expand(policy.file.groups, known)
        return replace(policy, file=policy.file.model_copy(update={"groups": groups}))

    def claims(self) -> frozenset[str]:
        """Return the claims that make people members of the policy's groups."""
        return claims_in(self._policy.file.groups)

    def _look(self) -> None:
        try:
            text = _text(self.path)
            if hashlib.sha256(text.encode()).hexdigest() != self._policy.sha256:
                self._policy = parse_policy(text, str(self.path))
                _logger.warning(
                    "The approvals policy %s has changed; sha256 %s is in force now.",
                    self.path,
                    self._policy.sha256,
                )
            self._complained = None
        except PolicyInvalidError as exc:
            self._complain(exc.message)
        finally:
            self._looked_at = time.monotonic()

    def _complain(self, message: str) -> None:
        now = time.monotonic()
        if self._complained is not None:
            last, at = self._complained
            if last == message and now - at < _REPEAT_COMPLAINT_SECONDS:
                return
        self._complained = (message, now)
        _logger.error(
            "The edited approvals policy is NOT in force; the one with sha256 %s still is. %s",
            self._policy.sha256,
            message,
        )
