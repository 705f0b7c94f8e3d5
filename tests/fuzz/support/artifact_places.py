"""The places where bytes enter the artifact store: from callers, and from the storage."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import zstandard
from click.testing import CliRunner
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts.format.manifest import SEGMENT_HEADER, SEGMENT_MAGIC
from mlflow_plugins_pack.artifacts.maintenance.locations import rewrite_locations
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.artifacts.store.keyring import read_master_keys
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import PackError
from tests.fuzz.support.odd_inputs import Odd
from tests.fuzz.support.running import FuzzError, Place, refused

RUN = f"1/{'ab' * 16}/artifacts"


class Target:
    """A store on disk with one run, as it is before each input."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder, folder / "files"
        self.files.mkdir()
        (self.files / "a.bin").write_bytes(os.urandom(100_000))
        (self.files / "b.txt").write_text("x" * 1000)
        self.store, self.whole = folder / "store", folder / "whole"
        self.database = folder / "locations.db"
        columns = "experiment_id INTEGER PRIMARY KEY, name TEXT, artifact_location TEXT"
        with sqlite3.connect(self.database) as connection:
            connection.execute(f"CREATE TABLE experiments ({columns})")
        self.repository = get_artifact_repository(f"cas-file://{self.store}/{RUN}")
        self.repository.log_artifacts(str(self.files), "m")
        self.repository.log_artifacts(str(self.files), "gone")
        self.repository.delete_artifacts("gone")
        self.command("gc")
        shutil.copytree(self.store, self.whole)

    def command(self, name: str, *arguments: str) -> None:
        """Run a command of `mlflow-pack artifacts`, which may refuse."""
        done = CliRunner().invoke(cli, ["artifacts", name, f"cas-file://{self.store}", *arguments])
        if not (done.exception is None or isinstance(done.exception, (SystemExit, PackError))):
            raise done.exception

    def use(self, odd: Odd) -> None:
        """Do what people do with a store, some of it, as a new process would."""
        opening._stores.clear()
        repository = get_artifact_repository(f"cas-file://{self.store}/{RUN}")
        out = self.folder / "out"
        out.mkdir()
        calls = (
            lambda: repository.list_artifacts("m"),
            lambda: repository.download_artifacts("m", str(out)),
            lambda: repository.log_artifacts(str(self.files), "n"),
            lambda: self.command("fsck"),
            lambda: self.command("gc"),
            lambda: self.command("stats"),
        )
        try:
            for call in odd.chance.sample(calls, 3):
                with refused():
                    call()
            for path in out.rglob("*.*"):
                if path.is_file() and path.read_bytes() != (self.files / path.name).read_bytes():
                    raise FuzzError(f"{path.name} was downloaded with other bytes")
        finally:
            shutil.rmtree(out)

    def _planted(self, odd: Odd, pattern: str, data: bytes | None = None) -> None:
        """Replace one object of the store, use it, and put the whole one back."""
        path = odd.pick(sorted(path for path in self.store.glob(pattern) if path.is_file()))
        whole = path.read_bytes()
        path.write_bytes(odd.data(whole) if data is None else data)
        try:
            self.use(odd)
        finally:
            shutil.rmtree(self.store)
            shutil.copytree(self.whole, self.store)

    # --- the places -----------------------------------------------------------------------------

    def paths(self, odd: Odd) -> None:
        path = odd.text("a/b", "m/a.bin").replace("\0", odd.pick(("\0", "")))
        out = self.folder / "out"
        out.mkdir()
        calls = (
            lambda: self.repository.log_artifact(str(self.files / "b.txt"), path),
            lambda: self.repository.log_artifacts(str(self.files), path),
            lambda: self.repository.list_artifacts(path),
            lambda: self.repository.download_artifacts(path, str(out)),
            lambda: self.repository.delete_artifacts(path),
        )
        try:
            for call in odd.chance.sample(calls, 3):
                # A path that the local disk cannot hold is the disk's refusal.
                with refused(FileNotFoundError, OSError, ValueError):
                    call()
        finally:
            shutil.rmtree(out)
            shutil.rmtree(self.store)
            shutil.copytree(self.whole, self.store)

    def roots(self, odd: Odd) -> None:
        scheme = odd.pick(
            ("cas-file:", "cas-s3:", "cas-gs:", "cas-wasbs:", "cas-file://", "CAS-FILE:")
        )
        uri = odd.pick(
            (scheme + odd.text("//h/a", "/tmp/x"), odd.in_a_word("cas-file:///nowhere/x"))
        )
        with refused(OSError, ValueError):
            # Reading makes nothing: a URI of an odd place leaves nothing behind on this machine.
            repository = get_artifact_repository(uri)
            if uri.lower().startswith("cas-file"):
                repository.list_artifacts()

    def contents(self, odd: Odd) -> None:
        data = odd.data()
        source = self.folder / "odd.bin"
        source.write_bytes(data)
        self.repository.log_artifact(str(source), "odd")
        found = Path(self.repository.download_artifacts("odd/odd.bin", str(self.folder)))
        if found.read_bytes() != data:
            raise FuzzError("other bytes came back")

    def format_file(self, odd: Odd) -> None:
        valid = json.loads((self.whole / ".cas" / "format.json").read_text())
        data = odd.json(valid).encode("utf-8", "replace") if odd.chance.random() < 0.7 else None
        self._planted(odd, ".cas/format.json", data)

    def segments(self, odd: Odd) -> None:
        entry = {"put": "m/a.bin", "size": 1, "sha256": "00" * 32, "mtime_ns": 0, "inline": "YQ=="}
        valid = {"version": 1, "scope": RUN, "name": "000000000001", "writer": "abcdefghijklmnop"}
        document = {**valid, "operations": [entry, {"delete": "m/b.txt"}], "packs": ["00" * 32]}
        data = None
        if odd.chance.random() < 0.7:  # with right hashes, by someone who may write the storage
            text = odd.json(document).encode("utf-8", "replace")
            header = SEGMENT_HEADER.pack(SEGMENT_MAGIC, len(text), hashlib.sha256(text).digest())
            data = header + zstandard.ZstdCompressor().compress(text)
        self._planted(odd, f"{RUN}/.m/*", data)

    def deltas(self, odd: Odd) -> None:
        self._planted(odd, ".cas/index/*")

    def packs(self, odd: Odd) -> None:
        self._planted(odd, ".cas/packs/*/*")

    def condemned(self, odd: Odd) -> None:
        self._planted(odd, ".cas/gc/*")

    def keys(self, odd: Odd) -> None:
        text = odd.text("QUFB" * 8, "ab" * 32)
        file = self.folder / "key"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        file.chmod(0o600)
        plain = text.encode("utf-8", "replace").decode().replace("\0", "")[:100_000]
        before = dict(os.environ)
        sources = (
            f"file:{file}",
            "env:ODD_KEY",
            f"command:cat {file}",
            odd.text("env:X", "file:/"),
        )
        source = odd.pick(sources).encode("utf-8", "replace").decode().replace("\0", "")
        try:
            os.environ.update(ODD_KEY=plain, MLFLOW_PACK_ARTIFACT_KEYS=source[:100_000])
            with refused():
                read_master_keys()
        finally:
            os.environ.clear()
            os.environ.update(before)

    def locations(self, odd: Odd) -> None:
        """Rewrite the locations of a database in which users have named places as they like."""
        root, new = "s3://bucket/root", "s3://other/place"
        below = f"{root}/{odd.text('1')}"
        odd_places = [below, odd.text(root), odd.in_a_word(root, f"{root}/1"), f"{root}-x"]
        written = [p.encode("utf-8", "replace").decode()[:100_000] for p in odd_places]
        connection = sqlite3.connect(self.database)
        with connection:
            connection.execute("DELETE FROM experiments")
            connection.executemany(
                "INSERT INTO experiments (experiment_id, name, artifact_location) VALUES (?, ?, ?)",
                [(n, f"e{n}", place) for n, place in enumerate(written, 1)],
            )
        rewrite_locations(f"sqlite:///{self.database}", root, new)
        query = "SELECT artifact_location FROM experiments ORDER BY experiment_id"
        found = [row[0] for row in connection.execute(query)]
        connection.close()
        expected = [
            new + place[len(root) :] if place == root or place.startswith(f"{root}/") else place
            for place in written
        ]
        if found != expected:
            raise FuzzError(f"{written!r:.500} became {found!r:.500}")


def places(folder: Path) -> list[Place]:
    on = Target(folder)
    form, store = "artifacts/format", "artifacts/store"
    uris = ("artifacts/uri/location.py", "artifacts/uri/allowed_roots.py")
    table: tuple[tuple[str, tuple[str, ...], Any, int, int], ...] = (
        ("paths of artifacts", (f"{form}/object_keys.py",), on.paths, 70_000, 12),
        ("URIs of artifact roots", uris, on.roots, 70_000, 20),
        ("files that are logged", ("artifacts/upload/",), on.contents, 1 << 20, 10),
        ("format.json", (f"{form}/format_file.py",), on.format_file, 1 << 20, 8),
        ("manifest segments", (f"{form}/manifest.py",), on.segments, 1 << 20, 10),
        ("index deltas", (f"{form}/index_delta.py",), on.deltas, 1 << 20, 8),
        ("tables of packs", (f"{form}/pack.py",), on.packs, 1 << 20, 8),
        ("condemned lists", (f"{form}/condemned_list.py",), on.condemned, 1 << 20, 6),
        ("master keys", (f"{store}/keyring.py",), on.keys, 1 << 20, 10),
        ("locations", ("artifacts/maintenance/locations.py",), on.locations, 70_000, 10),
    )
    return [
        Place(name, reads, feed, largest, speed=speed)
        for name, reads, feed, largest, speed in table
    ]
