"""The first tables, all named mpp_*."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


# Comments and names may have any letters, and compare exactly, whatever the database's default.
_OPTIONS: Any = {"mysql_charset": "utf8mb4", "mysql_collate": "utf8mb4_bin"}


def _where() -> list[sa.Column[str]]:
    return [
        sa.Column("workspace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
    ]


def upgrade() -> None:
    """Create the tables and the audit chain's empty head."""
    op.create_table(
        "mpp_request",
        sa.Column("id", sa.String(32), primary_key=True),
        *_where(),
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
        sa.Column("holder_version", sa.Integer),
        sa.Column("holder_uid", sa.String(64)),
        sa.Column("stage", sa.String(20)),
        sa.Column("archive_existing", sa.Integer, nullable=False),
        sa.Column("policy", sa.String(256), nullable=False),
        sa.Column("policy_sha", sa.String(64), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("valid_until", sa.BigInteger),
        sa.Column("open_key", sa.String(64)),
        sa.UniqueConstraint("open_key", name="mpp_request_open_key"),
        **_OPTIONS,
    )
    op.create_index("mpp_request_by_version", "mpp_request", ["version_uid", "target"])
    op.create_index("mpp_request_by_state", "mpp_request", ["state"])
    op.create_table(
        "mpp_decision",
        sa.Column("request_id", sa.String(32), primary_key=True),
        sa.Column("approver", sa.String(256), primary_key=True),
        sa.Column("verdict", sa.String(10), nullable=False),
        sa.Column("comment", sa.Text),
        sa.Column("ts", sa.BigInteger, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "mpp_comment",
        sa.Column("id", sa.String(32), primary_key=True),
        *_where(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("version_uid", sa.String(64), nullable=False),
        sa.Column("target", sa.String(210)),
        sa.Column("request_id", sa.String(32)),
        sa.Column("author", sa.String(256)),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("edited_at", sa.BigInteger),
        **_OPTIONS,
    )
    op.create_index("mpp_comment_by_version", "mpp_comment", ["version_uid"])
    op.create_table(
        "mpp_grant",
        sa.Column("workspace", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(256), primary_key=True),
        sa.Column("target", sa.String(210), primary_key=True),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version_uid", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(71)),
        sa.Column("request_id", sa.String(32), nullable=False),
        sa.Column("granted_by", sa.String(256), nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("review_by", sa.BigInteger),
        **_OPTIONS,
    )
    op.create_table(
        "mpp_version_creator",
        sa.Column("version_uid", sa.String(64), primary_key=True),
        *_where(),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("creator", sa.String(256), nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "mpp_check_tag",
        sa.Column("version_uid", sa.String(64), primary_key=True),
        sa.Column("tag", sa.String(250), primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
        sa.Column("writer", sa.String(256)),
        sa.Column("ts", sa.BigInteger, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "mpp_policy",
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        **_OPTIONS,
    )
    op.create_table(
        "mpp_audit",
        sa.Column("seq", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.String(256)),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("workspace", sa.String(63)),
        sa.Column("name", sa.String(256)),
        sa.Column("version", sa.Integer),
        sa.Column("target", sa.String(210)),
        sa.Column("request_id", sa.String(32)),
        sa.Column("before", sa.Text, quote=True),
        sa.Column("after", sa.Text, quote=True),
        sa.Column("policy_sha", sa.String(64)),
        sa.Column("prev_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.UniqueConstraint("hash", name="mpp_audit_hash"),
        **_OPTIONS,
    )
    op.create_index("mpp_audit_by_name", "mpp_audit", ["workspace", "name"])
    head = op.create_table(
        "mpp_audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        **_OPTIONS,
    )
    op.bulk_insert(head, [{"id": 1, "seq": 0, "hash": "0" * 64}])


def downgrade() -> None:
    """Drop the tables: requests, votes and the audit log are gone afterwards."""
    for name in (
        "mpp_audit_head",
        "mpp_audit",
        "mpp_policy",
        "mpp_check_tag",
        "mpp_version_creator",
        "mpp_grant",
        "mpp_comment",
        "mpp_decision",
        "mpp_request",
    ):
        op.drop_table(name)
