"""Versions whose files are being read; the index that finds the open requests of a target."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the index."""
    op.create_table(
        "mpp_reading",
        sa.Column("version_uid", sa.String(64), primary_key=True),
        sa.Column("workspace", sa.String(63), nullable=False),
        sa.Column("name", sa.String(256), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("state", sa.String(10), nullable=False),
        sa.Column("digest", sa.String(71)),
        sa.Column("error", sa.String(500)),
        sa.Column("bytes_done", sa.BigInteger, nullable=False),
        sa.Column("bytes_total", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String(80), nullable=False),
        sa.Column("until_ms", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_index("mpp_request_by_target", "mpp_request", ["workspace", "name", "target"])


def downgrade() -> None:
    """Drop them: who asks again has the files read again."""
    op.drop_index("mpp_request_by_target", table_name="mpp_request")
    op.drop_table("mpp_reading")
