"""A driver without SQLAlchemy: its statements are not seen, and the coverage names it.

service: postgresql
needs: psycopg2
reads: POSTGRESQL.public.cancer
writes: WORK/train.csv
blind: psycopg2
"""

import csv
import os

import mlflow
import psycopg2

with mlflow.start_run():
    connection = psycopg2.connect(
        os.environ["DATABASE_URL"].replace("+psycopg2", "").replace("+psycopg", "")
    )
    with connection.cursor() as cursor:
        cursor.execute("select * from cancer")
        rows = cursor.fetchall()
    connection.close()
    with open("train.csv", "w", newline="") as file:
        csv.writer(file).writerows(rows)
    mlflow.log_metric("rows", len(rows))
