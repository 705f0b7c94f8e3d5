"""What lineage adds to whole programs: a training, very many files, very many SQL statements.

One block of either is one run from its start to its end, the record's writing included. All
processor time of the process counts, the background thread's too.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave, stopwatch

IMAGES = {"opens": (100_000, 28, "png"), "photos": (100_000, 224, "jpeg")}
"""Number of files, pixels a side, and format; the first are about the smallest possible files."""
TREES = 20
STATEMENTS = 5_000

_WRITE = """
import os, sys
from PIL import Image
place, count, side, suffix = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
for index in range(count):
    if index % 1000 == 0:
        os.makedirs(f"{place}/{index // 1000:03}")
    image = Image.linear_gradient("L").resize((side, side)).rotate(index % 360)
    image.save(f"{place}/{index // 1000:03}/{index:06}.{suffix}")
"""


def _run(kind: str, options: Options, blocks: int) -> list[Figure]:
    from benchmarks.worker import environment, worker

    trees = options.count(STATEMENTS if kind == "sql" else TREES)
    goal = {"training": "+2 %", "sql": "+5 %"}.get(kind, "+10 %")
    with (
        _database(kind) as settings,
        tempfile.TemporaryDirectory(prefix="lineage-", dir=Path.home()) as name,
    ):
        module = "benchmarks.cases.lineage_scripts"
        if kind in IMAGES:
            count, side, suffix = IMAGES[kind]
            images = [f"{name}/files", str(options.count(count)), str(side), suffix]
            arguments = [sys.executable, "-c", _WRITE, *images]
            subprocess.run(arguments, check=True, env=environment(pack=False))
        with (
            worker(module, kind, name, "stock", str(trees), pack=False, **settings) as stock,
            worker(module, kind, name, "pack", str(trees), pack=True, **settings) as pack,
        ):
            stock(), pack()  # imports, caches and the experiment's first run
            return interleave(
                {STOCK: stock, PACK: pack},
                [Figure("processor", "s", goal=goal), Figure("wall", "s")],
                blocks,
                options.progress,
            )


@contextlib.contextmanager
def _database(kind: str) -> Iterator[dict[str, str]]:
    if kind != "sql":
        yield {}
        return
    from tests.support import servers

    with servers.postgresql() as server:
        yield {"DATABASE_URL": server.new_database()}


CASES = (
    Case(
        "runs-training",
        "a training run of some seconds that reads CSV and parquet, autologged",
        30,
        partial(_run, "training"),
    ),
    Case(
        "runs-opens",
        "a run that opens and decodes 100,000 images of 28 x 28",
        10,
        partial(_run, "opens"),
    ),
    Case(
        "runs-photos",
        "a run that opens and decodes 100,000 pictures of 224 x 224",
        10,
        partial(_run, "photos"),
    ),
    Case(
        "runs-sql",
        "a run that sends 5,000 statements with other values to PostgreSQL through SQLAlchemy",
        20,
        partial(_run, "sql"),
    ),
)


def main() -> None:
    """Be a worker: one run a request."""
    import mlflow

    from benchmarks.worker import serve

    kind, folder, side, trees = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    place = folder / side
    place.mkdir()
    mlflow.set_tracking_uri(f"sqlite:///{place / 'mlflow.db'}")
    mlflow.create_experiment("benchmark", (place / "artifacts").as_uri())
    mlflow.set_experiment("benchmark")
    if kind == "training":
        work = partial(_train, place, trees)
    elif kind == "sql":
        work = partial(_query, side, trees)
    else:
        work = partial(_open, folder)

    def measure() -> Sample:
        with stopwatch() as watch:
            work()
        return {"processor": watch.cpu_seconds, "wall": watch.wall_seconds}

    serve(measure)


def _train(place: Path, trees: int) -> None:
    import mlflow
    import pandas
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier

    source = place.parent / f"train-{place.name}"
    if not source.exists():
        source.mkdir()
        x, y = make_classification(20_000, 30, random_state=0)
        frame = pandas.DataFrame(x).add_prefix("x").assign(target=y)
        frame.iloc[:10_000].to_csv(source / "first.csv", index=False)
        frame.iloc[10_000:].to_parquet(source / "second.parquet", index=False)
    mlflow.sklearn.autolog(log_models=False, log_datasets=False)
    with mlflow.start_run():
        frame = pandas.concat(
            [pandas.read_csv(source / "first.csv"), pandas.read_parquet(source / "second.parquet")]
        )
        model = RandomForestClassifier(trees, random_state=0)
        model.fit(frame.drop(columns="target"), frame["target"])


def _open(folder: Path) -> None:
    import mlflow
    import numpy
    from PIL import Image

    with mlflow.start_run():
        total = 0.0
        for part in sorted(os.listdir(folder / "files")):
            for name in os.listdir(folder / "files" / part):
                with Image.open(f"{folder}/files/{part}/{name}") as image:
                    total += float(numpy.asarray(image).mean())
        mlflow.log_metric("mean", total)


def _query(side: str, count: int) -> None:
    import mlflow
    import sqlalchemy

    engine = sqlalchemy.create_engine(os.environ["DATABASE_URL"])
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(f"create table if not exists rows_{side} (x int, y int)")
        )
    with mlflow.start_run(), engine.connect() as connection:
        for number in range(count):
            text = f"select x, y from rows_{side} where x = {number} and y > {number}"
            connection.execute(sqlalchemy.text(text)).fetchall()
    engine.dispose()


if __name__ == "__main__":
    main()
