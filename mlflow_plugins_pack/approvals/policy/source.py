"""The policy file in force: read again when it changes, kept when the new text is broken."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from mlflow_plugins_pack.approvals.caller import current_caller
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.policy.parse import parse_policy
from mlflow_plugins_pack.errors import PolicyInvalidError, RegistryBusyError
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


class PolicyRegister(Protocol):
    """The place where the servers of one database agree on the policy in force."""

    def is_free(self) -> bool:
        """Return whether this thread may use the register: not inside a transaction."""

    def in_force(self) -> tuple[str, str] | None:
        """Return the digest and the text of the policy in force, or None before the first one."""

    def activate(self, policy: Policy, replaces: str | None) -> bool:
        """Put a policy into force; return False if another one has replaced ``replaces``."""


class PolicySource:
    """Provides the policy in force; one per store and process.

    The file is small, so it is read again once a second of use and compared: no timestamp
    granularity, renamed file or mounted secret can hide a change. With a register, the file is
    only a proposal: it comes into force if no policy is, or if this server's file was in force
    before it was edited. Any other file waits for `mlflow-pack approvals policy activate`, so that
    of two servers with two files the weaker one never decides.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._proposed = self._policy = read_policy(path)
        self._looked_at = time.monotonic()
        self._complained: tuple[str, float] | None = None
        self._lock = threading.RLock()
        self._directory = Directory()
        self._register: PolicyRegister | None = None

    def attach(self, register: PolicyRegister) -> None:
        """Agree with the other servers of the database from now on.

        Raises:
            PolicyInvalidError: If the policy in force cannot be used by this server.
        """
        with self._lock:
            self._register = register
            self._agree(register, before=None)

    def current(self, claims: Mapping[str, frozenset[str]] | None = None) -> Policy:
        """Return the policy in force, at most a second behind the file and the register.

        Args:
            claims: The claims of users when they were last seen, by user. For the caller, only
                the claims of their own request count.
        """
        if time.monotonic() - self._looked_at >= _LOOK_AGAIN_SECONDS and self._may_look():
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

    def _may_look(self) -> bool:
        return self._register is None or self._register.is_free()

    def _look(self) -> None:
        before = self._proposed.sha256
        try:
            text = _text(self.path)
            if hashlib.sha256(text.encode()).hexdigest() != before:
                self._proposed = parse_policy(text, str(self.path))
            if self._register is None:
                self._use(self._proposed)
            else:
                self._agree(self._register, before)
        except PolicyInvalidError as exc:
            self._complain(
                "The edited approvals policy is NOT in force; the one with sha256 "
                f"{self._policy.sha256} still is. {exc.message}"
            )
        except RegistryBusyError as exc:
            self._complain(exc.message)
        finally:
            self._looked_at = time.monotonic()

    def _agree(self, register: PolicyRegister, before: str | None) -> None:
        """Use the policy in force; propose the file where that may come into force by itself."""
        found, proposed = register.in_force(), self._proposed
        in_force = found[0] if found is not None else None
        if in_force != proposed.sha256 and in_force == before:
            if register.activate(proposed, in_force):
                in_force = proposed.sha256
            else:
                found = register.in_force()
        if found is None or in_force == proposed.sha256:
            self._complained = None
            self._use(proposed)
            return
        if self._policy.sha256 != found[0]:
            self._use(parse_policy(found[1], f"in force (sha256 {found[0]})"))
        self._complain(
            f"The approvals policy {self.path} (sha256 {proposed.sha256}) is NOT in force: the "
            f"servers of this database decide by another one (sha256 {found[0]}). Give this server "
            "the same file, or put this one into force: mlflow-pack approvals policy activate"
        )

    def _use(self, policy: Policy) -> None:
        if self._policy.sha256 != policy.sha256:
            _logger.warning("The approvals policy with sha256 %s is in force now.", policy.sha256)
        self._policy = policy

    def _complain(self, message: str) -> None:
        now = time.monotonic()
        if self._complained is not None:
            last, at = self._complained
            if last == message and now - at < _REPEAT_COMPLAINT_SECONDS:
                return
        self._complained = (message, now)
        _logger.error("%s", message)
