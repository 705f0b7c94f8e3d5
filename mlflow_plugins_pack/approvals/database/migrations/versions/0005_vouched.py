"""What tokens and proxies said about people when they were last seen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "mpp_vouched",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("person", sa.String(256), nullable=False),
        sa.Column("claims", sa.Text, nullable=False),
        sa.Column("ts", sa.BigInteger, nullable=False),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )


def downgrade() -> None:
    """Drop it: votes by claims count again once their people have been seen again."""
    op.drop_table("mpp_vouched")
