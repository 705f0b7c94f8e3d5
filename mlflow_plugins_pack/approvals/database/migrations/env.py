"""Alembic's environment: runs on the connection it is given, with a version table of its own."""

from __future__ import annotations

from alembic import context

config = context.config
version_table = config.get_main_option("version_table")

if context.is_offline_mode():
    context.configure(
        url=config.get_main_option("sqlalchemy.url"),
        version_table=version_table,
        literal_binds=True,
    )
else:
    context.configure(
        connection=config.attributes["connection"],
        version_table=version_table,
        transactional_ddl=config.attributes["connection"].dialect.name != "mysql",
    )

with context.begin_transaction():
    context.run_migrations()
