"""What the database guards know: the policy as patterns, and the passes of open transactions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from mlflow_plugins_pack.approvals.guards.triggers import remove_statements

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables; the guards themselves are installed only when somebody asks for them."""
    op.create_table(
        "mpp_guard",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("policy_sha", sa.String(64), nullable=False),
        sa.Column("installed_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "mpp_guard_pattern",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("name_like", sa.String(600), nullable=False),
        sa.Column("workspace_like", sa.String(600), nullable=False),
    )
    op.create_table(
        "mpp_guard_target",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("place", sa.Integer, nullable=False),
        sa.Column("target", sa.String(210), nullable=False),
    )
    op.create_table(
        "mpp_guard_pass",
        sa.Column("workspace", sa.String(63), primary_key=True),
        sa.Column("name", sa.String(256), primary_key=True),
    )


def downgrade() -> None:
    """Drop the tables, after the triggers that read them: without these no write would work."""
    for statement in remove_statements(op.get_context().dialect.name):
        op.execute(statement)
    for name in ("mpp_guard_pass", "mpp_guard_target", "mpp_guard_pattern", "mpp_guard"):
        op.drop_table(name)
