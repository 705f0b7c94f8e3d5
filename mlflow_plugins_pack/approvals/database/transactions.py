"""One write transaction for the check, MLflow's own write and the record of both.

Stock store methods open their session through ``ManagedSessionMaker``. Inside `Transactions.write`
that call joins the open transaction instead, so what MLflow writes commits with the approval that
allowed it, or not at all.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, TypeVar

import sqlalchemy as sa
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, INTERNAL_ERROR, TEMPORARILY_UNAVAILABLE
from sqlalchemy.engine import Engine
from sqlalchemy.orm import Session, sessionmaker

from mlflow_plugins_pack.approvals.database.batched_writes import RowChangedError
from mlflow_plugins_pack.errors import RegistryBusyError

T = TypeVar("T")
_logger = logging.getLogger(__name__)

_ATTEMPTS = 12
_ATTEMPT = "mpp_attempt"
# Deadlock, lock timeout, serialisation failure: the transaction was undone, try it again.
_RETRY_SQLSTATES = frozenset({"40001", "40P01", "55P03"})
_RETRY_MYSQL = frozenset({1205, 1213, 1020})
GUARD_CODE = "mpp_guard: "
"""Starts the message of every refusal by a database guard: SQLite gives a trigger no other code."""


class Transactions:
    """Write transactions of one store.

    Args:
        engine: The registry's database.

    Attributes:
        prepare: called before each write transaction, outside it.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.prepare: Callable[[], None] = lambda: None
        self._sessions = sessionmaker(bind=engine)
        # PostgreSQL shows each statement of a transaction what is committed by then: one around
        # them gives a reader nothing, and costs two round trips.
        alone = engine.dialect.name == "postgresql"
        reading = engine.execution_options(isolation_level="AUTOCOMMIT") if alone else engine
        self._reading = sessionmaker(bind=reading)
        self._current: ContextVar[Session | None] = ContextVar("mpp_session", default=None)
        self._on_insert: ContextVar[Callable[[Session, Any], None] | None] = ContextVar(
            "mpp_on_insert", default=None
        )

    def joining(self, stock_maker: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a stock ``ManagedSessionMaker`` so that it joins an open write transaction."""

        @contextlib.contextmanager
        def make_managed_session(read_only: bool = True) -> Iterator[Session]:
            session = self._current.get()
            if session is not None:
                yield session
                session.flush()
                return
            with stock_maker(read_only=read_only) as session:
                if (hook := self._on_insert.get()) is not None and not read_only:
                    sa.event.listen(session, "after_flush", lambda s, _: _each_new(s, hook))
                yield session

        return make_managed_session

    @property
    def is_open(self) -> bool:
        """Whether a write transaction is open in this context."""
        return self._current.get() is not None

    def is_writing(self, session: Session) -> bool:
        """Return whether the session is that of the open write transaction."""
        return self._current.get() is session

    @contextlib.contextmanager
    def on_insert(self, hook: Callable[[Session, Any], None]) -> Iterator[None]:
        """Call the hook, in its own transaction, for each row stock code inserts meanwhile."""
        token = self._on_insert.set(hook)
        try:
            yield
        finally:
            self._on_insert.reset(token)

    def read(self, work: Callable[[Session], T]) -> T:
        """Run work that only reads, on the primary: a replica may not know of an approval yet.

        Raises:
            MlflowException: What the database said.
        """
        if (session := self._current.get()) is not None:
            return work(session)
        try:
            with self._reading() as session:
                return work(session)
        except sa.exc.SQLAlchemyError as exc:
            raise _translated(exc) from exc

    def write(self, work: Callable[[Session], T]) -> T:
        """Run work in one transaction; nested calls join the outer one.

        The work may run several times: a transaction that lost a deadlock, or counted on a row that
        has changed since, is undone and repeated.

        Raises:
            RegistryBusyError: If the database kept refusing.
            MlflowException: What the work raised, or what the database said.
        """
        if (session := self._current.get()) is not None:
            return work(session)
        self.prepare()
        last: Exception
        for attempt in range(_ATTEMPTS):
            try:
                return self._once(work, attempt)
            except RowChangedError as exc:
                last = exc
            except sa.exc.DBAPIError as exc:
                if not _may_retry(exc):
                    raise _translated(exc) from exc
                _logger.debug("Transaction undone by the database, attempt %d", attempt + 1)
                last = exc
            except sa.exc.SQLAlchemyError as exc:
                raise _translated(exc) from exc
            time.sleep(random.uniform(0, 0.01 * 2 ** min(attempt, 6)))  # noqa: S311 - jitter
        if isinstance(last, sa.exc.IntegrityError):
            raise _translated(last) from last
        raise RegistryBusyError(
            f"the registry's database undid the transaction {_ATTEMPTS} times because of other "
            "writers. Nothing was changed. Try again."
        ) from last

    @staticmethod
    def may_be_bold(session: Session) -> bool:
        """Return whether rows read without a lock may be relied on: not after that has failed."""
        return session.info.get(_ATTEMPT) == 0

    def _once(self, work: Callable[[Session], T], attempt: int) -> T:
        with self._sessions(info={_ATTEMPT: attempt}) as session:
            if self._engine.dialect.name == "sqlite":
                _begin_immediate(session.connection())
            token = self._current.set(session)
            try:
                result = work(session)
                session.commit()
            except BaseException:
                session.rollback()
                raise
            finally:
                self._current.reset(token)
            return result


# What stock sets too, for each session; a connection keeps it. Inside a transaction the first would
# have no effect.
_SQLITE_SETTINGS = (
    "PRAGMA foreign_keys = ON",
    "PRAGMA busy_timeout = 20000",
    "PRAGMA case_sensitive_like = true",
)


def _begin_immediate(connection: sa.Connection) -> None:
    """Begin with the write lock: a deferred BEGIN fails when it turns from reading to writing."""
    if not connection.info.get("mpp_is_set_up"):
        for setting in _SQLITE_SETTINGS:
            connection.exec_driver_sql(setting)
        connection.info["mpp_is_set_up"] = True
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _each_new(session: Session, hook: Callable[[Session, Any], None]) -> None:
    for instance in list(session.new):
        hook(session, instance)


def _may_retry(exc: sa.exc.DBAPIError) -> bool:
    original: Any = exc.orig
    state = getattr(original, "sqlstate", None) or getattr(original, "pgcode", None)
    if state in _RETRY_SQLSTATES:
        return True
    arguments = getattr(original, "args", ())
    if {getattr(original, "errno", None), *arguments[:1]} & _RETRY_MYSQL:
        return True
    # A unique key was taken meanwhile: the next attempt sees the row and goes another way. (Stock
    # code turns the conflicts it expects into its own errors before they come here.)
    if isinstance(exc, sa.exc.IntegrityError):
        return GUARD_CODE not in str(original)
    return "database is locked" in str(original)


def _translated(exc: sa.exc.SQLAlchemyError) -> MlflowException:
    """Return a database error with the code that stock stores give it, without the statement.

    The statement and its values, which may be other users' words, go to the server's log only.
    """
    original = getattr(exc, "orig", None)
    if GUARD_CODE in str(original):
        return MlflowException(str(original), error_code=BAD_REQUEST)
    _logger.warning("The registry's database refused a call", exc_info=exc)
    code = BAD_REQUEST
    if isinstance(exc, sa.exc.OperationalError):
        code = TEMPORARILY_UNAVAILABLE
    elif isinstance(exc, sa.exc.InternalError):
        code = INTERNAL_ERROR
    arguments = getattr(original, "args", ())
    number = f", error {arguments[0]}" if arguments and isinstance(arguments[0], int) else ""
    return MlflowException(
        f"the registry's database refused the call ({type(exc).__name__}{number}). Nothing was "
        "changed. The server's log has the details.",
        error_code=code,
    )
