"""Alembic tree of the approvals tables."""
