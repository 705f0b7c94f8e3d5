"""Triggers that make the audit table append-only.

A revision of its own: where creating a trigger needs a right that the account lacks, the tables
stay and the next start goes on from here.
"""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_MESSAGE = "mpp_audit is append-only"


def upgrade() -> None:
    """Create the triggers, replacing half-made ones."""
    for statement in _statements(op.get_context().dialect.name):
        op.execute(statement)


def downgrade() -> None:
    """Drop the triggers."""
    dialect = op.get_context().dialect.name
    on = " ON mpp_audit" if dialect == "postgresql" else ""
    names = ["mpp_audit_no_update", "mpp_audit_no_delete"]
    if dialect == "postgresql":
        names.append("mpp_audit_no_truncate")
    for name in names:
        op.execute(f"DROP TRIGGER IF EXISTS {name}{on}")
    if dialect == "postgresql":
        op.execute("DROP FUNCTION IF EXISTS mpp_audit_refuse()")


def _statements(dialect: str) -> list[str]:
    events = ("UPDATE", "DELETE")
    if dialect == "postgresql":
        return [
            (
                "CREATE OR REPLACE FUNCTION mpp_audit_refuse() RETURNS trigger "
                f"LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '{_MESSAGE}'; END $$"
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
            body = f"BEGIN SELECT RAISE(ABORT, '{_MESSAGE}'); END"
        else:
            body = f"FOR EACH ROW SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{_MESSAGE}'"
        statements.append(f"CREATE TRIGGER {name} BEFORE {event} ON mpp_audit {body}")
    return statements
