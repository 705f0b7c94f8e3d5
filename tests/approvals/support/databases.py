"""The databases that the tests run on."""

from __future__ import annotations

import os

from tests.support.servers import DatabaseServer

DATABASES = ("sqlite", "postgresql", "mariadb")


# A database of MariaDB whose default is latin1 costs no further server where one is needed anyway.
SITES = [*DATABASES, "sqlite-workspaces", "postgresql-workspaces", "mariadb_latin1-workspaces"]
if os.environ.get("NIGHTLY"):
    SITES += ["mariadb_latin1", "mariadb-workspaces"]


MYSQL_8_MODE = (
    "ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,"
    "ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
)


def new_like_mysql(server: DatabaseServer) -> str:
    """Create a database in MariaDB as MySQL 8 does it by default; return its URL."""
    url = server.new_database("CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci")
    return f"{url}?charset=utf8mb4&sql_mode={MYSQL_8_MODE}"
