"""The audit log: append-only, each entry's hash over the one before it.

The hash is ``sha256(prev_hash + canonical JSON)``, canonical as RFC 8785 has it, so that any
program in any language can check an export. An entry is written only onto the head that it follows:
the log has one order, whatever the number of servers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import rfc8785
import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import batched_writes
from mlflow_plugins_pack.approvals.database.tables import audit, audit_head

GENESIS = "0" * 64
_HASHED = tuple(column.name for column in audit.columns if column.name != "hash")


def entry_hash(entry: Mapping[str, Any]) -> str:
    """Return the hash of an entry from all its other columns."""
    body = rfc8785.dumps({name: entry[name] for name in _HASHED})
    return hashlib.sha256(entry["prev_hash"].encode() + body).hexdigest()


@dataclass(frozen=True)
class Verification:
    """Outcome of checking a chain.

    Attributes:
        entries: How many entries were read.
        head: Hash of the last good entry.
        broken_at: Sequence number of the first entry that does not hold, if any.
        problem: What is wrong there.
    """

    entries: int
    head: str
    broken_at: int | None = None
    problem: str | None = None

    @property
    def is_intact(self) -> bool:
        """The whole chain holds."""
        return self.broken_at is None


def verify_chain(
    entries: Iterable[Mapping[str, Any]], head_seq: int, head_hash: str
) -> Verification:
    """Check a chain against its head; pure.

    Args:
        entries: All entries, ordered by sequence number.
        head_seq: Sequence number the head row has.
        head_hash: Hash the head row has.
    """
    last_seq, last_hash = 0, GENESIS

    def broken(seq: int, problem: str) -> Verification:
        return Verification(last_seq, last_hash, seq, problem)

    for entry in entries:
        seq = entry["seq"]
        if seq != last_seq + 1:
            return broken(last_seq + 1, f"entry {last_seq + 1} is missing; {seq} follows")
        if entry["prev_hash"] != last_hash:
            return broken(seq, f"entry {seq} does not follow from the entry before it")
        if entry_hash(entry) != entry["hash"]:
            return broken(seq, f"entry {seq} was changed after it was written")
        last_seq, last_hash = seq, entry["hash"]
    if last_seq < head_seq:
        return broken(last_seq + 1, f"the entries {last_seq + 1} to {head_seq} are missing")
    if last_seq > head_seq or last_hash != head_hash:
        return broken(head_seq + 1, "the head does not match the last entry")
    return Verification(last_seq, last_hash)


_HEAD = "mpp_audit_head"
_READ_HEAD = (
    sa.select(audit_head.c.seq, audit_head.c.hash).where(audit_head.c.id == 1).with_for_update()
)
_INSERT = sa.insert(audit)
_MOVE_HEAD = (
    sa.update(audit_head)
    .where(audit_head.c.id == 1, audit_head.c.seq == sa.bindparam("old_seq"))
    .values(seq=sa.bindparam("new_seq"), hash=sa.bindparam("new_hash"))
)


def expect(session: Session, seq: int, head_hash: str) -> None:
    """Append after the head as it was read without a lock.

    If another transaction's entry comes first, `RowChangedError` undoes the transaction.
    """
    session.info[_HEAD] = (session.get_transaction(), seq, head_hash)


def append(session: Session, *, created_at: int, action: str, **values: Any) -> dict[str, Any]:
    """Add an entry at the end, in the caller's transaction.

    Args:
        session: The session of the recorded change's own transaction.
        created_at: Milliseconds since the epoch.
        action: What happened, such as APPLIED.
        values: Further columns; ``before`` and ``after`` may be mappings and are kept as JSON.

    Returns:
        The entry as it was written.
    """
    # A head that is locked is this transaction's alone: it is read once.
    transaction, seq, prev_hash = session.info.get(_HEAD, (None, 0, ""))
    if transaction is None or transaction is not session.get_transaction():
        seq, prev_hash = session.execute(_READ_HEAD).one()
    entry: dict[str, Any] = dict.fromkeys(_HASHED)
    entry.update(values, seq=seq + 1, created_at=created_at, action=action, prev_hash=prev_hash)
    for name in ("before", "after"):
        if entry[name] is not None:
            entry[name] = rfc8785.dumps(entry[name]).decode()
    entry["hash"] = entry_hash(entry)
    head = {"old_seq": seq, "new_seq": entry["seq"], "new_hash": entry["hash"]}
    batched_writes.write(session, _MOVE_HEAD, [head], expected=1)
    batched_writes.write(session, _INSERT, [entry])
    session.info[_HEAD] = (session.get_transaction(), entry["seq"], entry["hash"])
    return entry


def verify(connection: Connection) -> Verification:
    """Check the chain in a database."""
    head_seq, head_hash = connection.execute(sa.select(audit_head.c.seq, audit_head.c.hash)).one()
    # Up to the head just read: entries that arrive later are for the next check.
    rows = connection.execution_options(stream_results=True).execute(
        sa.select(audit).where(audit.c.seq <= head_seq).order_by(audit.c.seq)
    )
    found = verify_chain((dict(row._mapping) for row in rows), head_seq, head_hash)
    if found.is_intact:
        beyond = connection.execute(sa.select(sa.func.max(audit.c.seq))).scalar() or 0
        now = connection.execute(sa.select(audit_head.c.seq)).scalar_one()
        if beyond > now:
            problem = f"entry {now + 1} was added without moving the head"
            return Verification(found.entries, found.head, now + 1, problem)
    return found
