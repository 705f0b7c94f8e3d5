"""What the overrides of a stock registry store share."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar, cast

from mlflow.store.db.db_types import MYSQL
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.commands.commands import Commands
from mlflow_plugins_pack.approvals.database import mlflow_tables
from mlflow_plugins_pack.approvals.database.transactions import Transactions
from mlflow_plugins_pack.approvals.domain.matching import is_plain
from mlflow_plugins_pack.approvals.enforcement.enforcer import Enforcer
from mlflow_plugins_pack.approvals.enforcement.governance import Governance
from mlflow_plugins_pack.approvals.policy.checks import Check
from mlflow_plugins_pack.errors import ApprovalError, RegistryBusyError

if TYPE_CHECKING:
    from collections.abc import Callable

    _Base: Any = SqlAlchemyStore
else:
    _Base = object

T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any]")


def recording(method: F) -> F:
    """Keep a method's refusals in the audit log, once what it began is undone."""
    signature = inspect.signature(method)

    @functools.wraps(method)
    def call(self: Override, *args: Any, **kwargs: Any) -> Any:
        try:
            return method(self, *args, **kwargs)
        except ApprovalError as refusal:
            given = signature.bind(self, *args, **kwargs).arguments
            target = next((f"{k}:{given[k]}" for k in ("alias", "stage") if k in given), None)
            self.enforcer.record_refusal(refusal, given["name"], given.get("version"), target)
            raise

    return cast("F", call)


class Override(_Base):
    """Part of a store that is mixed in before a stock one.

    Attributes:
        governance: The policy in force.
        enforcer: Enforces it.
        commands: Requests, votes, comments and break-glass.
    """

    governance: Governance
    enforcer: Enforcer
    commands: Commands
    _transactions: Transactions

    def _named(self, name: Any, *, exactly: bool = False) -> Any:
        """Return the model's name as the database has it.

        MySQL's collations find a model by look-alikes of its name; policies must see the real one.

        Args:
            name: As the caller wrote it.
            exactly: Also where it differs in case only, which no policy minds.
        """
        if not isinstance(name, str) or self.db_type != MYSQL or (is_plain(name) and not exactly):
            return name
        workspace = self._get_active_workspace()
        return self._transactions.read(lambda s: mlflow_tables.actual_name(s, workspace, name))

    def _numbered(self, name: str, version: Any) -> Any:
        """Return a version as the number that policies see, where one may govern the model.

        Given as it was written, MLflow before 3.16 has the database read it: MariaDB takes ``1_0``,
        which is 10 to Python, for 1.
        """
        return (
            mlflow_tables.version_number(version) if self.governance.may_govern(name) else version
        )

    def _write_free(self, name: str, write: Callable[[], T], alias: str = "") -> T:
        """Make a change that no policy is about; guards may think so of letters beyond ASCII."""
        if is_plain(f"{name}{alias}"):
            return write()
        if self.db_type != MYSQL:
            return self.enforcer.write_admitted(name, write)

        def work(_session: Session) -> T:
            value = self.enforcer.write_admitted(name, write)
            if self._named(name) != name:  # a model that the name finds was made meanwhile
                raise RegistryBusyError(
                    f"{name!r} was made while this was looked at. Nothing was changed. Try again."
                )
            return value

        return self._transactions.write(work)

    def _checks(self, name: str, key: str) -> list[Check]:
        """Return the checks that read a tag of versions of this name, prompt or not."""
        rules = self.governance.policy().rules_that_may(self._get_active_workspace(), name)
        return [check for rule in rules for check in rule.checks_of_tag(key)]
