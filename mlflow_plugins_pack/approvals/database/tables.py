"""The plugin's own tables in the registry's database, next to MLflow's.

No foreign key points at MLflow's tables: its SQLite migrations rebuild them. Queries use these
definitions; the migrations make the tables. All times are in milliseconds since the epoch.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Index, Integer, MetaData, String, Table, Text

VERSION_TABLE = "mpp_alembic_version"
AUDIT_TRIGGERS = ("mpp_audit_no_update", "mpp_audit_no_delete")

metadata = MetaData()


def _where() -> list[Column[str]]:
    # MLflow's own lengths.
    return [
        Column("workspace", String(63), nullable=False),
        Column("name", String(256), nullable=False),
    ]


requests = Table(
    "mpp_request",
    metadata,
    Column("id", String(32), primary_key=True),
    *_where(),
    Column("version", Integer, nullable=False),
    Column("version_uid", String(64), nullable=False),
    Column("target", String(210), nullable=False),
    Column("action", String(10), nullable=False),
    Column("state", String(12), nullable=False),
    Column("reason", Text),
    Column("requester", String(256), nullable=False),
    Column("creator", String(256)),
    Column("run_user", String(256)),
    Column("comment", Text),
    Column("digest", String(71)),
    # Of the files as they were read for the digest, where that takes long: a later write shows.
    Column("file_marks", String(64)),
    Column("holder_version", Integer),
    Column("holder_uid", String(64)),
    # Arguments of the stock call: the stage to move to, whether to archive the others.
    Column("stage", String(20)),
    Column("archive_existing", Integer, nullable=False),
    Column("policy", String(256), nullable=False),
    Column("policy_sha256", String(64), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("valid_until", BigInteger),
    # Set while open, NULL after: at most one open request per version and target, in any database.
    Column("open_key", String(64), unique=True),
    Index("mpp_request_by_version", "version_uid", "target"),
    Index("mpp_request_by_state", "state"),
    Index("mpp_request_by_target", "workspace", "name", "target"),
)

decisions = Table(
    "mpp_decision",
    metadata,
    Column("request_id", String(32), primary_key=True),
    Column("approver", String(256), primary_key=True),
    Column("verdict", String(10), nullable=False),
    Column("comment", Text),
    Column("decided_at", BigInteger, nullable=False),
)

user_claims = Table(
    "mpp_user_claim",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("username", String(256), nullable=False),
    Column("claims", Text, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

comments = Table(
    "mpp_comment",
    metadata,
    Column("id", String(32), primary_key=True),
    *_where(),
    Column("version", Integer, nullable=False),
    Column("version_uid", String(64), nullable=False, index=True),
    Column("target", String(210)),
    Column("request_id", String(32)),
    Column("author", String(256)),
    Column("text", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("edited_at", BigInteger),
)

grants = Table(
    "mpp_grant",
    metadata,
    Column("workspace", String(63), primary_key=True),
    Column("name", String(256), primary_key=True),
    Column("target", String(210), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("version_uid", String(64), nullable=False),
    Column("digest", String(71)),
    Column("request_id", String(32), nullable=False),
    Column("granted_by", String(256), nullable=False),
    Column("granted_at", BigInteger, nullable=False),
    # After a break-glass change: when the grant ends unless it was reviewed before.
    Column("review_by", BigInteger),
)

creators = Table(
    "mpp_version_creator",
    metadata,
    Column("version_uid", String(64), primary_key=True),
    *_where(),
    Column("version", Integer, nullable=False),
    Column("creator", String(256), nullable=False),
    Column("created_at", BigInteger, nullable=False),
)

check_tags = Table(
    "mpp_check_tag",
    metadata,
    Column("version_uid", String(64), primary_key=True),
    Column("tag", String(250), primary_key=True),
    Column("value", Text, nullable=False),
    Column("writer", String(256)),
    Column("set_at", BigInteger, nullable=False),
)

# What the database guards read; see `mlflow_plugins_pack.approvals.guards.install`.
guard = Table(
    "mpp_guard",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("policy_sha256", String(64), nullable=False),
    Column("installed_at", BigInteger, nullable=False),
)

guard_patterns = Table(
    "mpp_guard_pattern",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("kind", String(10), nullable=False),
    Column("policy_index", Integer, nullable=False),
    Column("name_like", String(600), nullable=False),
    Column("workspace_like", String(600), nullable=False),
)

guard_targets = Table(
    "mpp_guard_target",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("policy_index", Integer, nullable=False),
    Column("target", String(210), nullable=False),
)

guard_exemptions = Table(
    "mpp_guard_exemption",
    metadata,
    Column("workspace", String(63), primary_key=True),
    Column("name", String(256), primary_key=True),
)

outbox = Table(
    "mpp_outbox",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("event", String(40), nullable=False),
    Column("url", String(1000), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("next_attempt_at", BigInteger, nullable=False),
    Column("delivered_at", BigInteger),
    Column("last_error", String(500)),
    Index("mpp_outbox_by_state", "state", "next_attempt_at"),
)

leases = Table(
    "mpp_lease",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("owner", String(80), nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

# Digests that take longer than a call may: who computes them, and the result.
digest_jobs = Table(
    "mpp_digest_job",
    metadata,
    Column("version_uid", String(64), primary_key=True),
    *_where(),
    Column("version", Integer, nullable=False),
    Column("state", String(10), nullable=False),
    Column("digest", String(71)),
    Column("error", String(500)),
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_total", BigInteger, nullable=False),
    Column("owner", String(80), nullable=False),
    Column("lease_expires_at", BigInteger, nullable=False),
    # Of the files when the job started; see `content.file_marks`.
    Column("file_marks", String(64)),
    Column("started_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

policies = Table(
    "mpp_policy",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("text", Text, nullable=False),
    Column("first_used_at", BigInteger, nullable=False),
)

# At most one row: the policy by which every server of the database decides.
active_policy = Table(
    "mpp_active_policy",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sha256", String(64), nullable=False),
    Column("activated_at", BigInteger, nullable=False),
    Column("activated_by", String(256)),
)

audit = Table(
    "mpp_audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("created_at", BigInteger, nullable=False),
    Column("actor", String(256)),
    Column("action", String(40), nullable=False),
    Column("workspace", String(63)),
    Column("name", String(256)),
    Column("version", Integer),
    Column("target", String(210)),
    Column("request_id", String(32)),
    # Both words are reserved in some databases.
    Column("before", Text, quote=True),
    Column("after", Text, quote=True),
    Column("policy_sha256", String(64)),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False, unique=True),
    Index("mpp_audit_by_name", "workspace", "name"),
    Index("mpp_audit_by_request", "request_id"),
)

audit_head = Table(
    "mpp_audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", String(64), nullable=False),
)
