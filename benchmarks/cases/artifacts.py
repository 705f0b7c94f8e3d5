"""Artifact repositories: the same files through stock's repository and through ours.

Large files go through others too, see `sides`. The data is made before the clock starts; what was
downloaded is compared with it after the clock stopped.
"""

from __future__ import annotations

import filecmp
import os
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.frame import PACK, STOCK, Case, Figure, Options, Sample, interleave, stopwatch
from benchmarks.sides import BOTO3, XET, Boto3, Repository, Side, Xet, has_xet
from benchmarks.targets import S3, Target, target

MIB = 1024 * 1024
Maker = Callable[[Options, Path], Iterator[Path]]
"""Makes the files of one step after the other in the given folder; yields what to log."""


def one_file(options: Options, folder: Path) -> Iterator[Path]:
    """One file of 1 GiB that does not compress."""
    random = np.random.default_rng(1)
    with (folder / "weights.bin").open("wb") as file:
        for _ in range(options.count(1024)):
            file.write(random.bytes(MIB))
    yield folder


def small_files(options: Options, folder: Path) -> Iterator[Path]:
    """2,000 files of 20 KiB in 20 folders."""
    random = np.random.default_rng(2)
    for index in range(options.count(2000)):
        path = folder / f"part-{index % 20:02}" / f"{index:04}.bin"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(random.bytes(20 * 1024))
    yield folder


def checkpoints(options: Options, folder: Path) -> Iterator[Path]:
    """10 checkpoints of 200 MiB, each with 1 % changed, in 8 stretches as layers are."""
    random = np.random.default_rng(3)
    size = options.count(200) * MIB
    state = bytearray(random.bytes(size))
    stretch = size // 100 // 8
    for step in range(10):
        path = folder / f"checkpoint-{step}" / "weights.bin"
        path.parent.mkdir()
        path.write_bytes(state)
        yield path.parent
        for start in random.integers(0, size - stretch, 8):
            state[start : start + stretch] = random.bytes(stretch)


def snapshots(options: Options, folder: Path) -> Iterator[Path]:
    """6 snapshots of a parquet table of 50 MiB, 3 % of the rows changed, in 8 stretches."""
    import pyarrow
    from pyarrow import parquet

    random = np.random.default_rng(6)
    rows = options.count(700_000)
    columns = {f"x{n}": random.normal(size=rows).astype(np.float32) for n in range(18)}
    columns["id"] = np.arange(rows)
    stretch = max(1, rows * 3 // 100 // 8)
    for step in range(6):
        path = folder / f"snapshot-{step}" / "table.parquet"
        path.parent.mkdir()
        parquet.write_table(pyarrow.table(columns), path, row_group_size=50_000)
        yield path.parent
        for start in random.integers(0, rows - stretch, 8):
            for n in range(18):
                columns[f"x{n}"][start : start + stretch] = random.normal(size=stretch)


def versions(options: Options, folder: Path) -> Iterator[Path]:
    """8 checkpoints of 150 MiB: edited, with an insertion, appended to, fine-tuned, in turns."""
    random = np.random.default_rng(7)
    size = options.count(150) * MIB
    state = bytearray(random.bytes(size))
    for step in range(8):
        path = folder / f"version-{step}" / "weights.bin"
        path.parent.mkdir()
        path.write_bytes(state)
        yield path.parent
        if step % 4 == 0:
            for start in random.integers(0, size - size // 800, 8):
                state[start : start + size // 800] = random.bytes(size // 800)
        elif step % 4 == 1:
            state[size // 3 : size // 3] = random.bytes(size // 100)
        elif step % 4 == 2:
            state += random.bytes(size // 50)
        else:
            # The last layers learn on: one value in eight is another one.
            tail = np.frombuffer(bytes(state[-size // 4 :]), np.uint8).copy()
            tail[::8] = random.integers(0, 256, len(tail[::8]))
            state[-size // 4 :] = tail.tobytes()


def models(options: Options, folder: Path) -> Iterator[Path]:
    """50 real scikit-learn models, logged as MLflow lays them out, each grown by one tree."""
    import cloudpickle
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier

    features, benign = load_breast_cancer(return_X_y=True)
    forest = RandomForestClassifier(n_estimators=100, warm_start=True, random_state=7)
    forest.fit(features, benign)
    for index in range(options.count(50)):
        # A forest that grows by one tree a day: how most retrained models relate.
        forest.n_estimators += 1
        forest.fit(features, benign)
        path = folder / f"model-{index:02}"
        path.mkdir()
        (path / "model.pkl").write_bytes(cloudpickle.dumps(forest))
        (path / "requirements.txt").write_text("mlflow\nscikit-learn\ncloudpickle\n" * 5)
        (path / "conda.yaml").write_text("name: mlflow-env\nchannels: [conda-forge]\n" * 10)
        (path / "python_env.yaml").write_text("python: 3.11\nbuild_dependencies: [pip]\n" * 10)
        (path / "input_example.json").write_text(str(features[:50].tolist()))
        (path / "MLmodel").write_text(f"model_uuid: {index:032}\nflavors: sklearn\n" * 20)
        yield path


def same_again(options: Options, folder: Path) -> Iterator[Path]:
    """200 MiB, logged by two runs; only the second one is measured."""
    random = np.random.default_rng(5)
    path = folder / "weights"
    path.mkdir()
    (path / "weights.bin").write_bytes(random.bytes(options.count(200) * MIB))
    yield path
    yield path


def _warm_up(_options: Options, folder: Path) -> Iterator[Path]:
    (folder / "small.bin").write_bytes(bytes(1000))
    yield folder


def _measure(
    open_side: Callable[[], Side], maker: Maker, options: Options, work: Path, *, is_again: bool
) -> Sample:
    """Log, count, download and compare once."""
    side = open_side()
    up_wall = up_cpu = down_wall = down_cpu = 0.0
    stored_before = 0
    with tempfile.TemporaryDirectory(dir=work) as name:
        source, copy = Path(name) / "source", Path(name) / "copy"
        source.mkdir()
        logged: list[Path] = []
        for step, path in enumerate(maker(options, source)):
            if is_again and step == 1:
                up_wall = up_cpu = 0.0
                stored_before = side.stored_bytes()
            with stopwatch() as watch:
                side.log(step, path)
            up_wall += watch.wall_seconds
            up_cpu += watch.cpu_seconds
            logged.append(path)
        stored = side.stored_bytes() - stored_before
        counter = side.requests()
        for step, path in enumerate(logged):
            goal = copy / str(step)
            goal.mkdir(parents=True)
            with stopwatch() as watch:
                side.download(step, goal)
            down_wall += watch.wall_seconds
            down_cpu += watch.cpu_seconds
            expect_same(path, goal)
    side.remove()
    return {
        "up": up_wall,
        "up, processor": up_cpu,
        "down": down_wall,
        "down, processor": down_cpu,
        "down, requests": counter.since().total() if counter is not None else 0,
        "stored": stored,
    }


def expect_same(wanted: Path, got: Path) -> None:
    for folder, _, files in os.walk(wanted):
        other = got / Path(folder).relative_to(wanted)
        same, different, missing = filecmp.cmpfiles(folder, other, files, shallow=False)
        if different or missing or len(same) != len(files):
            raise AssertionError(f"{other}: not what was logged: {different}, {missing}")


def _run(
    kind: str, maker: Maker, goals: dict[str, str], options: Options, blocks: int
) -> list[Figure]:
    figures = [
        Figure("up", "s", goal=goals.get("up", "")),
        Figure("up, processor", "s"),
        Figure("down", "s", goal=goals.get("down", "")),
        Figure("down, processor", "s"),
        *([Figure("down, requests", "")] if kind != "disk" else []),
        Figure("stored", "B", goal=goals.get("stored", "")),
    ]
    with (
        tempfile.TemporaryDirectory(dir=options.work, prefix="benchmark-") as name,
        target(kind, Path(name)) as place,
    ):
        sides = _sides(maker, place, Path(name), options)
        one = partial(_measure, options=options, work=Path(name))
        for side in sides.values():
            # Libraries are loaded and connections made before the first block.
            one(side, _warm_up, is_again=False)
        return interleave(
            {
                side: partial(one, opened, maker, is_again=maker is same_again)
                for side, opened in sides.items()
            },
            figures,
            blocks,
            options.progress,
        )


def _sides(
    maker: Maker, place: Target, work: Path, options: Options
) -> dict[str, Callable[[], Side]]:
    sides: dict[str, Callable[[], Side]] = {
        STOCK: partial(Repository, place, ""),
        PACK: partial(Repository, place, "cas-"),
    }
    if maker not in (one_file, checkpoints, snapshots, versions):
        return sides
    if isinstance(place, S3):
        sides[BOTO3] = partial(Boto3, place)
    if has_xet():
        sides[XET] = partial(Xet, work)
    else:
        options.progress(f"{XET} is left out: it is not installed")
    return sides


_STORIES: tuple[tuple[str, str, Maker, dict[str, str]], ...] = (
    ("file", "one file of 1 GiB", one_file, {"up": ">= 1x", "down": ">= 2x"}),
    ("small", "2,000 files of 20 KiB", small_files, {"up": ">= 15x", "down": ">= 30x"}),
    (
        "checkpoints",
        "10 checkpoints of 200 MiB, 1 % changed",
        checkpoints,
        {"up": ">= 6x", "down": ">= 1.5x", "stored": ">= 8x"},
    ),
    (
        "snapshots",
        "6 snapshots of a parquet table, 3 % of the rows changed",
        snapshots,
        {"down": ">= 1x"},
    ),
    (
        "versions",
        "8 checkpoints of 150 MiB: edited, grown, fine-tuned",
        versions,
        {"down": ">= 1x"},
    ),
    ("models", "50 scikit-learn model folders", models, {"stored": ">= 5x"}),
    ("again", "200 MiB that are there already", same_again, {"stored": ">= 100x"}),
)

KINDS = {
    "s3": "S3 on loopback",
    "far-s3": "S3 that takes 20 ms to answer",
    "disk": "local disk",
}

CASES = tuple(
    Case(
        f"artifacts-{name}-{kind}",
        f"{summary}, {where}",
        3,
        partial(_run, kind, maker, {} if kind == "disk" else goals),
    )
    for kind, where in KINDS.items()
    for name, summary, maker, goals in _STORIES
)
