"""Objects that native clients read and write have version and size, as those of boto3 do."""

from __future__ import annotations

import json

import pytest

from mlflow_plugins_pack.lineage.capture import s3_objects
from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


def test_native_clients_name_versions(
    run_script: RunScript, database: str, moto: servers.ObjectStore
) -> None:
    bucket = moto.new_root().removeprefix("s3://").partition("/")[0]
    outcome = run_script(
        """
        import io, json, os, sys
        import mlflow, boto3, pandas, polars, pyarrow.dataset, pyarrow.parquet
        from pyarrow.fs import S3FileSystem, SubTreeFileSystem
        bucket, endpoint = os.environ["BUCKET"], os.environ["MLFLOW_S3_ENDPOINT_URL"]
        client = boto3.client("s3", endpoint_url=endpoint)
        body = io.BytesIO()
        pandas.DataFrame({"x": [1]}).to_parquet(body)
        def put(key, body=body.getvalue()):
            answer = client.put_object(Bucket=bucket, Key=key, Body=body)
            return [answer.get("VersionId") or answer["ETag"].strip('"'), len(body)]
        versioning = dict(Bucket=bucket, VersioningConfiguration=dict(Status="Enabled"))
        put("old.parquet")
        client.put_bucket_versioning(**versioning)
        known = {key: put(key) for key in (
            "raw/a b.parquet", "raw/polars.parquet", "parts/1.parquet", "parts/deep/2.parquet",
            "sub/tree.parquet")}
        known["some/1.csv"] = put("some/1.csv", b"x\\n1\\n")
        put("parts/_hidden.parquet"), put("some/deep/2.csv", b"x\\n1\\n"), put("raw/a b.parquet2")
        options = {"aws_endpoint_url": endpoint, "aws_access_key_id": "x",
                   "aws_secret_access_key": "y", "aws_region": "us-east-1",
                   "aws_allow_http": "true"}
        s3 = S3FileSystem(endpoint_override=endpoint, access_key="x", secret_key="y")
        with mlflow.start_run() as run:
            pyarrow.parquet.read_table(f"{bucket}/raw/a b.parquet", filesystem=s3)
            polars.read_parquet(f"s3://{bucket}/raw/polars.parquet", storage_options=options)
            pyarrow.dataset.dataset(f"{bucket}/parts", filesystem=s3).to_table()
            tree = SubTreeFileSystem(f"{bucket}/sub", s3)
            table = pyarrow.parquet.read_table("tree.parquet", filesystem=tree)
            polars.scan_csv(f"s3://{bucket}/some/*.csv", storage_options=options).collect()
            pyarrow.parquet.write_table(table, f"{bucket}/out.parquet", filesystem=s3)
        head = client.head_object(Bucket=bucket, Key="out.parquet")
        known["out.parquet"] = [head["VersionId"], head["ContentLength"]]
        print(json.dumps([run.info.run_id, known]))
        """,
        database,
        BUCKET=bucket,
        **moto.environment,
    )
    run_id, known = outcome.value
    record = RunRecord(database, run_id)
    found = {
        e["u"].partition(f"{bucket}/")[2].replace("%20", " "): [e.get("v"), e.get("n")]
        for which in ("inputs", "outputs")
        for e in json.loads(record.tags[which])
        if e["u"].startswith("s3://") and e["via"] == "wrap"
    }
    assert found == known


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("a/*.csv", {"a/1.csv"}),
        ("a/**/*.csv", {"a/1.csv", "a/b/2.csv"}),
        ("a/**", {"a/1.csv", "a/b/2.csv", "a/x"}),
        ("a/b*/2.csv", {"a/b/2.csv"}),
    ],
)
def test_wildcards_of_keys(key: str, names: set[str]) -> None:
    pattern = s3_objects._pattern(key)
    assert pattern
    assert {
        name for name in ("a/1.csv", "a/b/2.csv", "a/x", "b.csv") if pattern.fullmatch(name)
    } == (names)
    assert s3_objects._pattern("a/1.csv") is None
