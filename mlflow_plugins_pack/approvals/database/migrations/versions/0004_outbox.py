"""Events that wait to be delivered, and the lease of the process that delivers them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and the index by which drift is told from what was approved."""
    op.create_table(
        "mpp_outbox",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("event", sa.String(40), nullable=False),
        sa.Column("url", sa.String(1000), nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("next_at", sa.BigInteger, nullable=False),
        sa.Column("delivered_at", sa.BigInteger),
        sa.Column("last_error", sa.String(500)),
    )
    op.create_index("mpp_outbox_by_state", "mpp_outbox", ["state", "next_at"])
    op.create_table(
        "mpp_lease",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("holder", sa.String(80), nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("mpp_audit_by_request", "mpp_audit", ["request_id"])


def downgrade() -> None:
    """Drop them: what was not delivered is gone afterwards, the log still tells of it."""
    op.drop_index("mpp_audit_by_request", table_name="mpp_audit")
    op.drop_table("mpp_lease")
    op.drop_table("mpp_outbox")
