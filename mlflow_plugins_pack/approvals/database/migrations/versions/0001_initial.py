"""Creates the tables, indexes and triggers, all named ``mpp_*``; frozen, so no import of ours.

Where DDL is not transactional (MySQL), a first start that fails half-way, such as for the right to
create triggers, leaves what it made; the next one makes only what is missing.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import context, op
from sqlalchemy.schema import CreateIndex, CreateTable

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Names and comments keep every character and compare exactly, whatever the database's default.
_OPTIONS: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}
_REFUSAL = "mpp_audit is append-only"

_metadata = sa.MetaData()


def _model() -> list[sa.Column[str]]:
    return [
        sa.Column("workspace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
    ]


sa.Table(
    "mpp_request",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    *_model(),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("version_uid", sa.String(64), nullable=False),
    sa.Column("target", sa.String(210), nullable=False),
    sa.Column("action", sa.String(10), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("reason", sa.Text),
    sa.Column("requester", sa.String(256), nullable=False),
    sa.Column("creator", sa.String(256)),
    sa.Column("run_user", sa.String(256)),
    sa.Column("comment", sa.Text),
    sa.Column("digest", sa.String(71)),
    sa.Column("file_marks", sa.String(64)),
    sa.Column("holder_version", sa.Integer),
    sa.Column("holder_uid", sa.String(64)),
    sa.Column("stage", sa.String(20)),
    sa.Column("archive_existing", sa.Integer, nullable=False),
    sa.Column("policy", sa.String(256), nullable=False),
    sa.Column("policy_sha256", sa.String(64), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger),
    sa.Column("valid_until", sa.BigInteger),
    sa.Column("open_key", sa.String(64)),
    sa.UniqueConstraint("open_key", name="mpp_request_open_key"),
    sa.Index("mpp_request_by_version", "version_uid", "target"),
    sa.Index("mpp_request_by_state", "state"),
    sa.Index("mpp_request_by_target", "workspace", "name", "target"),
    **_OPTIONS,
)
sa.Table(
    "mpp_decision",
    _metadata,
    sa.Column("request_id", sa.String(32), primary_key=True),
    sa.Column("approver", sa.String(256), primary_key=True),
    sa.Column("verdict", sa.String(10), nullable=False),
    sa.Column("comment", sa.Text),
    sa.Column("decided_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_user_claim",
    _metadata,
    sa.Column("id", sa.String(64), primary_key=True),
    sa.Column("username", sa.String(256), nullable=False),
    sa.Column("claims", sa.Text, nullable=False),
    sa.Column("seen_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_comment",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    *_model(),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("version_uid", sa.String(64), nullable=False),
    sa.Column("target", sa.String(210)),
    sa.Column("request_id", sa.String(32)),
    sa.Column("author", sa.String(256)),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("edited_at", sa.BigInteger),
    sa.Index("mpp_comment_by_version", "version_uid"),
    **_OPTIONS,
)
sa.Table(
    "mpp_grant",
    _metadata,
    sa.Column("workspace", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(256), primary_key=True),
    sa.Column("target", sa.String(210), primary_key=True),
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("version_uid", sa.String(64), nullable=False),
    sa.Column("digest", sa.String(71)),
    sa.Column("request_id", sa.String(32), nullable=False),
    sa.Column("granted_by", sa.String(256), nullable=False),
    sa.Column("granted_at", sa.BigInteger, nullable=False),
    sa.Column("review_by", sa.BigInteger),
    **_OPTIONS,
)
sa.Table(
    "mpp_version_creator",
    _metadata,
    sa.Column("version_uid", sa.String(64), primary_key=True),
    *_model(),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("creator", sa.String(256), nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_check_tag",
    _metadata,
    sa.Column("version_uid", sa.String(64), primary_key=True),
    sa.Column("tag", sa.String(250), primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Column("writer", sa.String(256)),
    sa.Column("set_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_guard",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("policy_sha256", sa.String(64), nullable=False),
    sa.Column("installed_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_guard_pattern",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("kind", sa.String(10), nullable=False),
    sa.Column("policy_index", sa.Integer, nullable=False),
    sa.Column("name_like", sa.String(600), nullable=False),
    sa.Column("workspace_like", sa.String(600), nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_guard_target",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("policy_index", sa.Integer, nullable=False),
    sa.Column("target", sa.String(210), nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_guard_exemption",
    _metadata,
    sa.Column("workspace", sa.String(63), primary_key=True),
    sa.Column("name", sa.String(256), primary_key=True),
    **_OPTIONS,
)
sa.Table(
    "mpp_outbox",
    _metadata,
    sa.Column("id", sa.String(32), primary_key=True),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("event", sa.String(40), nullable=False),
    sa.Column("url", sa.String(1000), nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("next_attempt_at", sa.BigInteger, nullable=False),
    sa.Column("delivered_at", sa.BigInteger),
    sa.Column("last_error", sa.String(500)),
    sa.Index("mpp_outbox_by_state", "state", "next_attempt_at"),
    **_OPTIONS,
)
sa.Table(
    "mpp_lease",
    _metadata,
    sa.Column("name", sa.String(32), primary_key=True),
    sa.Column("owner", sa.String(80), nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_digest_job",
    _metadata,
    sa.Column("version_uid", sa.String(64), primary_key=True),
    *_model(),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("state", sa.String(10), nullable=False),
    sa.Column("digest", sa.String(71)),
    sa.Column("error", sa.String(500)),
    sa.Column("bytes_done", sa.BigInteger, nullable=False),
    sa.Column("bytes_total", sa.BigInteger, nullable=False),
    sa.Column("owner", sa.String(80), nullable=False),
    sa.Column("lease_expires_at", sa.BigInteger, nullable=False),
    sa.Column("file_marks", sa.String(64)),
    sa.Column("started_at", sa.BigInteger, nullable=False),
    sa.Column("updated_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_policy",
    _metadata,
    sa.Column("sha256", sa.String(64), primary_key=True),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("first_used_at", sa.BigInteger, nullable=False),
    **_OPTIONS,
)
sa.Table(
    "mpp_active_policy",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("activated_at", sa.BigInteger, nullable=False),
    sa.Column("activated_by", sa.String(256)),
    **_OPTIONS,
)
sa.Table(
    "mpp_audit",
    _metadata,
    sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("actor", sa.String(256)),
    sa.Column("action", sa.String(40), nullable=False),
    sa.Column("workspace", sa.String(63)),
    sa.Column("name", sa.String(256)),
    sa.Column("version", sa.Integer),
    sa.Column("target", sa.String(210)),
    sa.Column("request_id", sa.String(32)),
    sa.Column("before", sa.Text, quote=True),
    sa.Column("after", sa.Text, quote=True),
    sa.Column("policy_sha256", sa.String(64)),
    sa.Column("prev_hash", sa.String(64), nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    sa.UniqueConstraint("hash", name="mpp_audit_hash"),
    sa.Index("mpp_audit_by_name", "workspace", "name"),
    sa.Index("mpp_audit_by_request", "request_id"),
    **_OPTIONS,
)
_head = sa.Table(
    "mpp_audit_head",
    _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.String(64), nullable=False),
    **_OPTIONS,
)

# The guards' triggers, which `approvals guards install` makes: table, events.
_GUARDED = {
    "registered_model_aliases": ("INSERT", "UPDATE", "DELETE"),
    "model_versions": ("INSERT", "UPDATE", "DELETE"),
    "model_version_tags": ("INSERT", "UPDATE", "DELETE"),
    "registered_model_tags": ("INSERT", "UPDATE", "DELETE"),
    "registered_models": ("UPDATE", "DELETE"),
}
_GUARD_FUNCTIONS = ("mpp_guard_refuses(text, text, text)", "mpp_guard_holds(text, text, integer)")


def upgrade() -> None:
    """Create what is missing: the tables, the audit chain's empty head, the audit triggers."""
    found = None if context.is_offline_mode() else sa.inspect(op.get_bind())
    tables = found.get_table_names() if found else []
    for table in _metadata.sorted_tables:
        if table.name not in tables:
            op.execute(CreateTable(table))
        there = found.get_indexes(table.name) if found and table.name in tables else []
        names = {index["name"] for index in there}
        for index in sorted(table.indexes, key=lambda index: str(index.name)):
            if index.name not in names:
                op.execute(CreateIndex(index))
    if found is None or op.get_bind().execute(sa.select(_head.c.id)).first() is None:
        op.bulk_insert(_head, [{"id": 1, "seq": 0, "hash": "0" * 64}])
    for statement in _audit_triggers(op.get_context().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    """Drop everything: requests, votes and the audit log are gone afterwards.

    The guards' triggers go first: they read these tables, and without them no write would work.
    """
    dialect = op.get_context().dialect.name
    is_postgresql = dialect == "postgresql"
    for table, events in _GUARDED.items():
        for event in events:
            name = f"mpp_guard_{table}_{event.lower()}"
            op.execute(f"DROP TRIGGER IF EXISTS {name}" + (f" ON {table}" if is_postgresql else ""))
            if is_postgresql:
                op.execute(f"DROP FUNCTION IF EXISTS {name}()")
    for dropped in reversed(_metadata.sorted_tables):
        op.drop_table(dropped.name)
    if is_postgresql:
        for function in (*_GUARD_FUNCTIONS, "mpp_audit_refuse()"):
            op.execute(f"DROP FUNCTION IF EXISTS {function}")


def _audit_triggers(dialect: str) -> list[str]:
    """Return the statements that make the audit table append-only, replacing what is there."""
    events = ("UPDATE", "DELETE")
    if dialect == "postgresql":
        return [
            (
                "CREATE OR REPLACE FUNCTION mpp_audit_refuse() RETURNS trigger "
                f"LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
            ),
            *(
                f"CREATE OR REPLACE TRIGGER mpp_audit_no_{event.lower()} BEFORE {event} "
                "ON mpp_audit FOR EACH STATEMENT EXECUTE FUNCTION mpp_audit_refuse()"
                for event in (*events, "TRUNCATE")
            ),
        ]
    statements = []
    for event in events:
        name = f"mpp_audit_no_{event.lower()}"
        statements.append(f"DROP TRIGGER IF EXISTS {name}")
        if dialect == "sqlite":
            body = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
        else:
            body = f"FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{_REFUSAL}'"
        statements.append(f"CREATE TRIGGER {name} BEFORE {event} ON mpp_audit {body}")
    return statements
