"""What is seen, what is not taken for data, and what never leaves the machine."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.lineage.support.reading import RunRecord
from tests.lineage.support.scripts import RunScript
from tests.support import servers


def test_every_common_reader_and_writer(
    run_script: RunScript, server: servers.MlflowServer, dataset_folder: Path, tmp_path: Path
) -> None:
    outcome = run_script(
        """
        import json, os, pathlib, pickle, sqlite3, subprocess, sys, tempfile, logging
        import joblib, numpy, pandas, mlflow, sklearn.datasets, yaml
        import pyarrow.parquet, pyarrow.dataset
        data = pathlib.Path(os.environ["DATA"])
        subprocess.run(["cp", "-r", str(data), "here"], check=True)
        with sqlite3.connect("given.sqlite") as made:
            made.execute("create table t (x)")
        made.close()
        subprocess.run(["cp", "given.sqlite", "other.sqlite"], check=True)
        with open("pickled.pkl", "wb") as file:
            pickle.dump([1, 2], file)
        subprocess.run(["cp", "pickled.pkl", "numbers.pkl"], check=True)
        subprocess.run(["cp", "here/cancer.csv", "odd näme 100%#?.csv"], check=True)
        subprocess.run(["cp", "here/cancer.csv", "log artifact.csv"], check=True)
        for name in "abcde":
            subprocess.run(["cp", "here/cancer.parquet", name + ".parquet"], check=True)
        with mlflow.start_run() as run:
            pandas.read_csv("here/cancer.csv")
            pandas.read_parquet("here/cancer.parquet")
            pyarrow.parquet.read_table("a.parquet")
            pyarrow.parquet.ParquetFile("b.parquet").read()
            pyarrow.dataset.dataset(["c.parquet", "d.parquet"]).to_table()
            pyarrow.dataset.dataset("here/parts", partitioning="hive").to_table()
            with open("e.parquet", "rb") as file:
                pandas.read_parquet(file)
            numpy.load("here/cancer.npy", mmap_mode="r")
            yaml.safe_load(pathlib.Path("here/settings.yaml").read_text())
            pickle.load(open("numbers.pkl", "rb"))
            sqlite3.connect("other.sqlite").execute("select * from t").fetchall()
            pandas.read_csv("odd näme 100%#?.csv")
            # writes
            frame = pandas.DataFrame({"x": [1.0]})
            frame.to_csv("written.csv")
            frame.to_parquet("written.parquet")
            joblib.dump(frame, "model.joblib")
            pathlib.Path("half.tmp").write_text("x")
            os.replace("half.tmp", "renamed.txt")
            with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as file: file.write("x")
            os.replace(file.name, "atomic.csv")
            os.mkdir("folder"); os.rename("folder", "moved folder")
            pathlib.Path("last.txt").write_text("x")
            os.replace("last.txt", "before.txt")
            pathlib.Path("last.txt").write_text("y")
            pathlib.Path("second.tmp").write_text("x")
            os.link("second.tmp", "linked.txt"); os.remove("second.tmp")
            pathlib.Path("stage.csv").write_text("x\\n1\\n")
            pandas.read_csv("stage.csv")
            # noise
            sklearn.datasets.load_iris()
            pathlib.Path("gone.txt").write_text("x"); os.remove("gone.txt")
            with tempfile.NamedTemporaryFile("w+") as file: file.write("x")
            with tempfile.NamedTemporaryFile("w+", delete=False) as file: file.write("x")
            logging.basicConfig(filename="train.log"); logging.warning("hi")
            pathlib.Path(".env").write_text("SECRET=1"); pathlib.Path(".env").read_text()
            gone = f"{tempfile.gettempdir()}/gone-{os.urandom(8).hex()}"
            subprocess.run(["cp", "here/cancer.csv", gone], check=True)
            open(gone).read(); os.remove(gone)
            mlflow.log_artifact("log artifact.csv")
            mlflow.log_dict({"a": 1}, "a.json")
            mlflow.log_text("x", "x.txt")
            mlflow.artifacts.load_dict(run.info.artifact_uri + "/a.json")
            open("/proc/self/status").read(); open("/etc/hostname").read()
            try: open("missing.csv")
            except FileNotFoundError: pass
            os.listdir("."); os.open(".", os.O_RDONLY)
        print(json.dumps(run.info.run_id))
        """,
        server.url,
    )
    record = RunRecord(server.url, outcome.value)
    document = record.document(tmp_path / "home")
    read = {Path(e["u"].removeprefix("file://")).name for e in document["inputs"]}
    assert read == {
        "cancer.csv",
        "cancer.parquet",
        "a.parquet",
        "b.parquet",
        "c.parquet",
        "d.parquet",
        "rows.parquet",
        "e.parquet",
        "cancer.npy",
        "settings.yaml",
        "numbers.pkl",
        "other.sqlite",
        "odd%20n%C3%A4me%20100%25%23%3F.csv",
        "stage.csv",
    }
    assert len([e for e in document["inputs"] if e["u"].endswith("rows.parquet")]) == 3
    written = {Path(e["u"]).name for e in document["outputs"]}
    assert written == {
        *("written.csv", "written.parquet", "model.joblib", "renamed.txt", "linked.txt"),
        *("stage.csv", "before.txt", "last.txt", "atomic.csv"),
        *("given.sqlite", "pickled.pkl"),  # before the run
    }
    entries = {Path(e["u"]).name: e for e in document["inputs"]}
    content = (dataset_folder / "cancer.csv").read_bytes()
    csv = entries["cancer.csv"]
    assert csv["h"] == "sha256:" + hashlib.sha256(content).hexdigest()
    assert (csv["n"], csv["c"], csv["via"], csv["r"]) == (len(content), "full", "audit", "data")
    assert entries["cancer.parquet"]["via"] == "wrap"
    assert entries["settings.yaml"]["r"] == "config"
    assert entries["stage.csv"]["r"] == "intermediate"
    assert {e["u"].rpartition("/")[2]: e["r"] for e in document["outputs"]}["model.joblib"] == (
        "model"
    )
    datasets = record.datasets()
    assert datasets["cancer.csv"] == csv["h"].removeprefix("sha256:")[:36]
    assert "odd näme 100%#?.csv" in datasets
    assert not {"settings.yaml", "stage.csv"} & set(datasets)
    found = record.client.search_runs(
        [record.run.info.experiment_id], f"tags.`lineage.inputs` LIKE '%{csv['h']}%'"
    )
    assert outcome.value in {run.info.run_id for run in found}
    found = record.client.search_runs(
        [record.run.info.experiment_id], f"dataset.digest = '{datasets['cancer.csv']}'"
    )
    assert outcome.value in {run.info.run_id for run in found}


def test_dataset_source_resolves_to_the_file(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    outcome = run_script(
        """
        import json, os, mlflow, pandas
        with mlflow.start_run() as run:
            pandas.read_csv(os.environ["DATA"] + "/cancer.csv")
        dataset = mlflow.get_run(run.info.run_id).inputs.dataset_inputs[0].dataset
        source = mlflow.data.get_source(dataset)
        original = open(os.environ["DATA"] + "/cancer.csv").read()
        print(json.dumps([open(source.load()).read() == original]))
        """,
        server.url,
    )
    assert outcome.value == [True]


def test_file_changed_after_it_was_read_is_flagged(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    outcome = run_script(
        """
        import json, os, pathlib, subprocess, time, mlflow, pandas
        pathlib.Path("moving.csv").write_text("x\\n1\\n")
        subprocess.run(["cp", "moving.csv", "still.csv"])
        with mlflow.start_run() as run:
            pandas.read_csv("moving.csv"); pandas.read_csv("still.csv")
            subprocess.run(["sh", "-c", "echo 2 >> moving.csv"])
        print(json.dumps(run.info.run_id))
        """,
        server.url,
    )
    entries = RunRecord(server.url, outcome.value).entries()
    assert entries["moving.csv"]["changed"] is True
    assert "changed" not in entries["still.csv"]
    grown = hashlib.sha256(b"x\n1\n2\n").hexdigest()
    assert entries["moving.csv"].get("h") != f"sha256:{grown}"


def test_settings_include_exclude_redact_and_layers(
    run_script: RunScript, server: servers.MlflowServer, tmp_path: Path
) -> None:
    outcome = run_script(
        """
        import json, os, pathlib, mlflow, pandas, sklearn.datasets
        home = pathlib.Path.home()
        home.mkdir()
        for name in ("kept.csv", "secret.csv"):
            (home / name).write_text("x\\n1\\n")
        with mlflow.start_run() as run:
            for name in ("kept.csv", "secret.csv"):
                pandas.read_csv(home / name)
            sklearn.datasets.load_iris()
            pandas.read_parquet(os.environ["DATA"] + "/cancer.parquet")
        print(json.dumps(run.info.run_id))
        """,
        server.url,
        MLFLOW_PACK_LINEAGE_INCLUDE="*/sklearn/datasets/data",
        MLFLOW_PACK_LINEAGE_EXCLUDE="*/secret*",
        MLFLOW_PACK_LINEAGE_REDACT="true",
        MLFLOW_PACK_LINEAGE_CAPTURE="audit,boto",
    )
    record = RunRecord(server.url, outcome.value)
    assert record.inputs() == {"kept.csv", "iris.csv"}
    assert record.entries()["kept.csv"]["u"] == "file:///~/kept.csv"
    coverage = json.loads(record.tags["coverage"])
    assert coverage["layers"] == ["audit", "boto"]
    assert "pyarrow" in coverage["blind"]


def test_wrong_setting_warns_once_and_never_fails(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    outcome = run_script(
        """
        import json, os, mlflow
        ids = []
        for _ in range(2):
            with mlflow.start_run() as run:
                open(os.environ["DATA"] + "/cancer.csv").read()
            ids.append(run.info.run_id)
        print(json.dumps(ids))
        """,
        server.url,
        MLFLOW_PACK_LINEAGE_MAX_INPUTS="many",
        MLFLOW_PACK_LINEAGE_CAPTURE="audit,fanotfy",
        warns=True,
    )
    assert outcome.output.count("MLFLOW_PACK_LINEAGE_MAX_INPUTS has the value 'many'") == 1
    assert outcome.output.count("fanotfy") == 1
    for run_id in outcome.value:
        assert RunRecord(server.url, run_id).inputs() == {"cancer.csv"}


@pytest.mark.parametrize("imported_first", [False, True], ids=["mlflow-first", "boto3-first"])
def test_s3_reads_and_writes(
    run_script: RunScript,
    server: servers.MlflowServer,
    moto: servers.ObjectStore,
    imported_first: bool,
    tmp_path: Path,
) -> None:
    bucket = moto.new_root().removeprefix("s3://").partition("/")[0]
    outcome = run_script(
        f"""
        {"import boto3, pyarrow.parquet" if imported_first else ""}
        import json, os, mlflow
        import boto3
        url = os.environ["MLFLOW_S3_ENDPOINT_URL"]
        client = boto3.client("s3", endpoint_url=url)
        etag = client.put_object(Bucket="{bucket}", Key="raw/my data.csv", Body=b"x\\n1\\n")["ETag"]
        client.put_object(Bucket="{bucket}", Key="raw/big.csv", Body=b"x" * 20_000_000)
        client.put_bucket_versioning(
            Bucket="{bucket}", VersioningConfiguration=dict(Status="Enabled"))
        version = client.put_object(Bucket="{bucket}", Key="raw/v.csv", Body=b"v")["VersionId"]
        experiment = mlflow.create_experiment(
            "direct-{bucket}", artifact_location="s3://{bucket}/artifacts")
        with mlflow.start_run(experiment_id=experiment) as run:
            client.get_object(Bucket="{bucket}", Key="raw/my data.csv")["Body"].read()
            client.get_object(Bucket="{bucket}", Key="raw/v.csv")["Body"].read()
            client.download_file("{bucket}", "raw/big.csv", "big.csv")
            client.upload_file("big.csv", "{bucket}", "out/result.csv")
            mlflow.log_artifact("big.csv")
            mlflow.artifacts.download_artifacts(run.info.artifact_uri + "/big.csv")
            try: client.get_object(Bucket="{bucket}", Key="raw/absent")
            except client.exceptions.NoSuchKey: pass
        print(json.dumps([run.info.run_id, etag, version]))
        """,
        server.url,
        **moto.environment,
    )
    run_id, etag, version = outcome.value
    record = RunRecord(server.url, run_id)
    inputs = {e["u"]: e for e in json.loads(record.tags["inputs"])}
    objects = {uri for uri in inputs if uri.startswith("s3://")}
    assert objects == {
        f"s3://{bucket}/raw/my%20data.csv",
        f"s3://{bucket}/raw/v.csv",
        f"s3://{bucket}/raw/big.csv",
    }
    plain = inputs[f"s3://{bucket}/raw/my%20data.csv"]
    assert (plain["v"], plain["n"], plain["via"]) == (etag.strip('"'), 4, "boto")
    assert inputs[f"s3://{bucket}/raw/v.csv"]["v"] == version
    assert inputs[f"s3://{bucket}/raw/big.csv"]["n"] == 20_000_000
    outputs = {e["u"] for e in json.loads(record.tags["outputs"])}
    # What was written before the run belongs to it, too.
    assert {uri for uri in outputs if uri.startswith("s3://")} == {
        *objects,
        f"s3://{bucket}/out/result.csv",
    }
    assert "my data.csv" in record.datasets()


def test_secrets_in_urls_never_appear(
    run_script: RunScript, server: servers.MlflowServer, moto: servers.ObjectStore, tmp_path: Path
) -> None:
    root = moto.new_root().removeprefix("s3://").partition("/")[0]
    outcome = run_script(
        f"""
        import json, os, mlflow, urllib.request, boto3, sqlite3
        client = boto3.client("s3", endpoint_url=os.environ["MLFLOW_S3_ENDPOINT_URL"])
        client.put_object(Bucket="{root}", Key="a.csv", Body=b"x")
        wanted = dict(Bucket="{root}", Key="a.csv")
        signed = client.generate_presigned_url("get_object", Params=wanted)
        with mlflow.start_run() as run:
            urllib.request.urlopen(signed + "&token=hunter2").read()
            sqlite3.connect("file:with.sqlite?mode=rwc&key=hunter2", uri=True).close()
        print(json.dumps(run.info.run_id))
        """,
        server.url,
        **moto.environment,
    )
    record = RunRecord(server.url, outcome.value)
    everything = json.dumps([record.tags, record.document(tmp_path / "home"), record.datasets()])
    assert "hunter2" not in everything
    assert "Signature" not in everything
    assert "with.sqlite" in everything


def test_many_files_are_counted_exactly_and_rolled_up(
    run_script: RunScript, server: servers.MlflowServer, tmp_path: Path
) -> None:
    # Made by this process: what the script itself wrote would be among the first run's outputs.
    (tmp_path / "images").mkdir()
    for index in range(300):
        (tmp_path / f"images/{index:04}.bin").write_bytes(bytes([index % 256]))
    outcome = run_script(
        """
        import json, mlflow
        ids = []
        for _ in range(2):
            with mlflow.start_run() as run:
                for index in range(300):
                    open(f"images/{index:04}.bin", "rb").read()
                    open(f"images/{index:04}.bin", "rb").read()
            ids.append(run.info.run_id)
        print(json.dumps(ids))
        """,
        server.url,
        MLFLOW_PACK_LINEAGE_MAX_INPUTS="250",
    )
    for run_id in outcome.value:
        record = RunRecord(server.url, run_id)
        (folder,) = json.loads(record.tags["inputs"])
        assert folder["u"] == (tmp_path / "images").as_uri() + "/"
        assert folder["files"] == 300
        assert json.loads(record.tags["truncated"]) == {"rolled_up": 300}
        assert len(record.document(tmp_path)["inputs"]) == 1
        assert list(record.datasets()) == ["images"]


def test_plain_file_store(run_script: RunScript, tmp_path: Path) -> None:
    uri = (tmp_path / "runs").as_uri()
    outcome = run_script(
        """
        import json, os, mlflow
        with mlflow.start_run() as run:
            open(os.environ["DATA"] + "/cancer.csv").read()
        tags = mlflow.get_run(run.info.run_id).data.tags
        print(json.dumps([tags["lineage.inputs"], tags["lineage.outputs"]]))
        """,
        uri,
        MLFLOW_ALLOW_FILE_STORE="true",
    )
    inputs, outputs = map(json.loads, outcome.value)
    assert [Path(entry["u"]).name for entry in inputs] == ["cancer.csv"]
    assert outputs == []


def test_what_the_program_opens_is_data_wherever_it_lies(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    outcome = run_script(
        """
        import json, logging, os, pathlib, mlflow, pandas
        home = pathlib.Path.home()
        places = [home / ".cache/kagglehub/a.csv", home / ".keras/datasets/b.csv",
                  pathlib.Path("/dev/shm") / f"c{os.getpid()}.csv"]
        secret = home / ".aws/credentials"
        for place in (*places, secret):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text("a,b\\n1,2\\n")
        import matplotlib.font_manager  # makes and reads its own cache
        with mlflow.start_run():
            pass
        with mlflow.start_run() as run:
            for place in places:
                pandas.read_csv(place)
            secret.read_text()
        places[2].unlink()
        print(json.dumps([run.info.run_id, [place.name for place in places]]))
        """,
        server.url,
    )
    run_id, names = outcome.value
    assert RunRecord(server.url, run_id).own() == set(names)


def test_libraries_imported_before_mlflow_are_seen_too(
    run_script: RunScript, server: servers.MlflowServer
) -> None:
    outcome = run_script(
        """
        import pandas, pyarrow.dataset, pyarrow.parquet
        from pyarrow.parquet import read_table
        import json, os, pickle, subprocess, mlflow
        subprocess.run(["cp", os.environ["DATA"] + "/cancer.parquet", "other.parquet"])
        with mlflow.start_run() as run:
            read_table("other.parquet")
            pandas.read_parquet(os.environ["DATA"] + "/cancer.parquet").to_parquet("new.parquet")
        assert pickle.loads(pickle.dumps(pyarrow.dataset.dataset)) is pyarrow.dataset.dataset
        print(json.dumps(run.info.run_id))
        """,
        server.url,
    )
    record = RunRecord(server.url, outcome.value)
    assert record.inputs() == {"other.parquet", "cancer.parquet"}
    assert record.outputs() == {"new.parquet"}
