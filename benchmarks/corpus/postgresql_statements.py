"""Statements as people write them: CTEs, a subquery, INSERT ... SELECT, UPDATE ... FROM.

service: postgresql
reads: POSTGRESQL.public.cancer POSTGRESQL.public.hospitals POSTGRESQL.clinic.visits
writes: POSTGRESQL.public.features POSTGRESQL.public.features2
"""

import os

import mlflow
from sqlalchemy import column, create_engine, func, select, table, text

engine = create_engine(os.environ["DATABASE_URL"])
with mlflow.start_run(), engine.begin() as connection:
    connection.execute(text("CREATE TABLE features (hospital int, n int)"))
    connection.execute(
        text(
            """
            WITH busy AS (SELECT hospital, count(*) AS n FROM cancer GROUP BY hospital)
            INSERT INTO features
            SELECT b.hospital, b.n FROM busy b /* from the_comment */
            WHERE b.hospital IN (SELECT hospital FROM clinic.visits WHERE seen > :least)
            """
        ),
        {"least": 0},
    )
    connection.execute(
        text("UPDATE features SET n = n + h.id FROM hospitals h WHERE h.id = features.hospital")
    )
    connection.execute(text('CREATE TABLE "features2" AS SELECT * FROM features'))
    hospitals = table("hospitals", column("id"))
    mlflow.log_metric("n", connection.execute(select(func.count(hospitals.c.id))).scalar_one())
