"""What every endpoint works with: the registry store, the MLflow server, the visitor."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote

from cachetools import TTLCache
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import (
    INVALID_PARAMETER_VALUE,
    PERMISSION_DENIED,
    RESOURCE_DOES_NOT_EXIST,
    ErrorCode,
)
from mlflow.utils.workspace_context import ServerWorkspaceContext
from sqlalchemy.orm import Session
from starlette.requests import HTTPConnection

from mlflow_plugins_pack.approvals import caller
from mlflow_plugins_pack.approvals.api.mlflow_server import MlflowServer
from mlflow_plugins_pack.approvals.api.visitors import (
    KEEP_SECONDS,
    WORKSPACE_HEADER,
    Visitor,
    Visitors,
)
from mlflow_plugins_pack.approvals.commands.runner import Command
from mlflow_plugins_pack.approvals.domain.tag_names import PROMPT_FLAG_TAG
from mlflow_plugins_pack.approvals.ledger.requests import Request
from mlflow_plugins_pack.approvals.policy.models import Policy
from mlflow_plugins_pack.approvals.reports import request_lists
from mlflow_plugins_pack.approvals.reports.metrics import RefusalCounts
from mlflow_plugins_pack.errors import IdentityRequiredError

if TYPE_CHECKING:
    from mlflow_plugins_pack.approvals.store.store import ApprovalStoreMixin

T = TypeVar("T")
_SLOW_SECONDS = 30.0
_WORTH_A_SEARCH = 3
"""From so many names on, one search is less work than a question for each."""
_UNQUOTABLE = re.compile(r"['\"\\\x00-\x1f]")
_LONGEST_LIST = 3000
"""Characters of names in one search; some servers read lines of 4,094."""
_DENIED = frozenset({PERMISSION_DENIED, RESOURCE_DOES_NOT_EXIST})


@dataclass(frozen=True)
class Site:
    """Addresses that pages and messages name.

    Attributes:
        mlflow_url: MLflow's pages, as a browser reaches them; empty: on the same origin.
        has_workspaces: Whether the server has workspaces.
        has_stores: Whether this process has the server's stores of runs and artifacts; without, it
            reaches them as a client of the server.
    """

    mlflow_url: str = ""
    has_workspaces: bool = False
    has_stores: bool = False


class Review:
    """The review app's parts.

    Args:
        open_store: Returns the registry store, always the same.
        server: The MLflow server.
        site: The addresses.

    Attributes:
        refusals: Counts refusals for the metrics.
    """

    def __init__(
        self,
        open_store: Callable[[], ApprovalStoreMixin],
        server: MlflowServer,
        site: Site,
    ) -> None:
        self._open_store = open_store
        self.server = server
        self.site = site
        self.refusals = RefusalCounts()
        self._visitors = Visitors(server)
        self._readable: TTLCache[tuple[str, str], bool] = TTLCache(65536, KEEP_SECONDS)
        self._slow: TTLCache[str, Any] = TTLCache(8, _SLOW_SECONDS)
        self._answers: TTLCache[tuple[str, str], Any] = TTLCache(1024, KEEP_SECONDS)
        self._lock = threading.Lock()  # caches are not made for threads
        self._slow_lock = threading.Lock()

    @property
    def store(self) -> ApprovalStoreMixin:
        """The registry store, which enforces the policy."""
        return self._open_store()

    def visitor_of(self, request: HTTPConnection) -> Visitor:
        """Return who makes a request.

        Raises:
            SignInNeededError: If they must sign in first.
            MlflowException: If there can be no such workspace.
        """
        settings = self.store.governance.policies.current().file.identity
        workspace = None
        if self.site.has_workspaces:
            asked = request.query_params.get("workspace") or request.headers.get(WORKSPACE_HEADER)
            workspace = asked or Visitor.workspace
            if not workspace.isascii():  # none is called so, and headers have no such letters
                raise not_found(f"the workspace {workspace!r}")
        return self._visitors.identify(request, settings, workspace)

    @contextlib.contextmanager
    def acting(self, visitor: Visitor) -> Iterator[ApprovalStoreMixin]:
        """Act on the store in the visitor's name; what they may do, the policy decides."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(caller.acting_as(visitor.caller))
            stack.enter_context(ServerWorkspaceContext(visitor.workspace))
            if self.site.has_stores:
                stack.enter_context(caller.for_server())
            yield self.store

    def read(self, visitor: Visitor, work: Callable[[Session, Policy], T]) -> T:
        """Read the registry's database under the policy in force for the visitor."""
        with self.acting(visitor) as store:
            policy = store.governance.policy()
            return store.enforcer.transactions.read(lambda session: work(session, policy))

    def now_and_then(self, name: str, work: Callable[[], T]) -> T:
        """Return what slow work found, which is done once in half a minute, in one thread."""
        with self._slow_lock:
            if name not in self._slow:
                self._slow[name] = work()
            found: T = self._slow[name]
            return found

    def kept(self, visitor: Visitor, question: str, ask: Callable[[], T]) -> T:
        """Return a small answer of MLflow to a visitor, which is kept as long as their rights."""
        key = (visitor.key, question)
        with self._lock:
            found = self._answers.get(key)
        if found is None:
            found = ask()
            with self._lock:
                self._answers[key] = found
        answer: T = found
        return answer

    # --- what a visitor may read ----------------------------------------------------------------

    def may_read(self, visitor: Visitor, name: str) -> bool:
        """Return whether MLflow lets the visitor read a model or prompt.

        Raises:
            MlflowException: If the server cannot say.
        """
        key = (visitor.key, name)
        with self._lock:
            found = self._readable.get(key)
        if found is None:
            try:
                self.server.call(
                    "GET", "registered-models/get", visitor.credentials, params={"name": name}
                )
                found = True
            except MlflowException as exc:
                if ErrorCode.Value(exc.error_code) not in _DENIED:
                    raise
                found = False
            with self._lock:
                self._readable[key] = found
        return found

    def readable(self, visitor: Visitor, names: Iterable[str]) -> set[str]:
        """Return those of some models and prompts that MLflow lets the visitor read.

        Raises:
            MlflowException: If the server cannot say.
        """
        wanted = set(names)
        with self._lock:
            known = {n: self._readable.get((visitor.key, n)) for n in wanted}
        unknown = {name for name, found in known.items() if found is None}
        alone = {name for name in unknown if _UNQUOTABLE.search(name)}
        if len(unknown - alone) < _WORTH_A_SEARCH:
            alone = unknown
        found = {name for name, may in known.items() if may}
        found |= {name for name in alone if self.may_read(visitor, name)}
        for some in _in_parts(sorted(unknown - alone)):
            try:
                found |= self._search(visitor, some)
            except MlflowException as exc:
                if ErrorCode.Value(exc.error_code) != INVALID_PARAMETER_VALUE:
                    raise
                # Older versions of MLflow know no IN for names.
                found |= {name for name in some if self.may_read(visitor, name)}
        return found

    def _search(self, visitor: Visitor, names: Sequence[str]) -> set[str]:
        """Return those of some names that MLflow's search lists for the visitor."""
        listed = ", ".join(f"'{name}'" for name in names)
        found: set[str] = set()
        for kind in ("", f" AND tags.`{PROMPT_FLAG_TAG}` = 'true'"):  # else prompts are left out
            params = {"filter": f"name IN ({listed}){kind}", "max_results": len(names)}
            answer = self.server.call(
                "GET", "registered-models/search", visitor.credentials, params=params
            )
            found |= {str(model["name"]) for model in answer.get("registered_models", ())}
        found &= set(names)  # MySQL finds look-alikes too
        with self._lock:
            self._readable.update({(visitor.key, name): True for name in found})
        return found

    def require_read(self, visitor: Visitor, name: str) -> None:
        """Refuse what the visitor may not read, in the words of what does not exist.

        Raises:
            MlflowException: ``RESOURCE_DOES_NOT_EXIST``.
        """
        if not self.may_read(visitor, name):
            raise not_found(f"the model or prompt {name!r}")

    def request(self, visitor: Visitor, request_id: str) -> Request:
        """Return a request that the visitor may read.

        Raises:
            MlflowException: ``RESOURCE_DOES_NOT_EXIST``, also where it exists and is not theirs.
        """
        found = self.read(visitor, lambda s, _: request_lists.find(s, request_id))
        if found is None or found.workspace != visitor.workspace:
            raise not_found(f"the request {request_id!r}")
        if not self.may_read(visitor, found.name):
            raise not_found(f"the request {request_id!r}")
        return found

    # --- what a visitor does ----------------------------------------------------------------------

    def give(self, visitor: Visitor, name: str, command: Command) -> None:
        """Run a command of `approvals.commands` in the visitor's name.

        It is written as the server: reading the model and a vote by the policy are enough.

        Raises:
            ApprovalError: If the policy refuses it.
            MlflowException: If the visitor may not read the model.
        """
        require_user(visitor)
        self.require_read(visitor, command.name)
        with self.acting(visitor) as store:
            store.commands.give(name, command)

    def forward(
        self, visitor: Visitor, method: str, path: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        """Make one of MLflow's own calls with the visitor's own credentials.

        Raises:
            MlflowException: MLflow's refusal, or the store's.
        """
        require_user(visitor)
        return self.server.call(method, path, visitor.credentials, json=body)


def _in_parts(names: Iterable[str]) -> Iterator[list[str]]:
    """Yield lists of names that fit into one address each."""
    part: list[str] = []
    length = 0
    for name in names:
        size = len(quote(f"'{name}', "))
        if part and length + size > _LONGEST_LIST:
            yield part
            part, length = [], 0
        part.append(name)
        length += size
    if part:
        yield part


def require_user(visitor: Visitor) -> str:
    """Return the visitor's name.

    Raises:
        IdentityRequiredError: If they have none.
    """
    if visitor.user is None:
        raise IdentityRequiredError(
            "this needs a signed-in user, and the server signs no one in. Nothing was changed. "
            "Start MLflow with an app that authenticates users, such as --app-name basic-auth."
        )
    return visitor.user


def not_found(what: str) -> MlflowException:
    """Return the error for what does not exist, or must not be shown to exist."""
    return MlflowException(
        f"{what} does not exist, or you may not read it. Nothing was changed. Check the name, or "
        "ask for the permission READ.",
        RESOURCE_DOES_NOT_EXIST,
    )
