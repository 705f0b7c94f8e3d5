"""Damages every object of a store, one at a time, and looks at what readers and commands say.

    python -m tests.artifacts.support.damage [--runs 50] [--encrypted] [--where FOLDER]

For every object: deleted, cut, one bit flipped, swapped with another of its kind, and replaced by
what stood there before, if that was something else. Then

* a reader of any run gets the right bytes, or an error that names the object;
* `artifacts fsck --read-data` names it, if it says or holds anything that another does not;
* the commands that the messages name lead back to a store that is written, read, checked and
  collected without an error, and all other runs have lost nothing.

Every record of the host's caches is damaged likewise: what an upload then stores can be read by
another host, and a download gives the right bytes. Prints how often what was seen.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import click.testing
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlflow_plugins_pack.artifacts import deferred
from mlflow_plugins_pack.artifacts.format.manifest import decode_segment
from mlflow_plugins_pack.artifacts.format.segment_names import parse_segment_name
from mlflow_plugins_pack.artifacts.store import opening
from mlflow_plugins_pack.cli.main import cli
from mlflow_plugins_pack.errors import PackError
from tests.contracts.artifact_repository import content, random_bytes

HOUR = 3600
DAMAGES = ("deleted", "cut", "flipped", "swapped", "replaced by an older one")

Files = dict[str, bytes]


class ViolationError(Exception):
    """A reader got wrong bytes, or no message named the object, or no command led back."""


def command(*arguments: str) -> tuple[int, str]:
    """Run `mlflow-pack artifacts` in this process; return its exit code and all that it said."""
    result = click.testing.CliRunner().invoke(cli, ["artifacts", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def new_host(folder: Path) -> None:
    """Forget all that this process knows, as another host."""
    opening._stores.clear()
    opening._backends.clear()
    os.environ["MLFLOW_PACK_ARTIFACT_CACHE_DIR"] = str(folder)


class Lab:
    """A store with runs, what each of them must hold, and a copy of it for each case."""

    def __init__(self, folder: Path, runs: int, *, encrypted: bool) -> None:
        self.folder = folder
        self.base, self.work = folder / "base", folder / "work"
        self.encrypted = encrypted
        self.expected: dict[str, Files] = {}
        self.older: dict[str, bytes] = {}
        self._cases = 0
        self._build(runs)

    def uri(self, run: str, *, of: Path | None = None) -> str:
        return f"cas-file://{of or self.work}/{run}"

    # --- building ---

    def _build(self, runs: int) -> None:
        new_host(self.folder / "cache-base")
        root = f"cas-file://{self.base}"
        assert command("init", root)[0] == 0
        for number in range(runs):
            self._log(number)
        self._age()
        self._remembering(lambda: command("gc", root, "--grace", "0s"))
        if self.encrypted:
            self._remembering(lambda: command("rekey", root, "--reencrypt"))
        # Some entries have been joined, some joined ones have taken their place, packs have been
        # rewritten, and a list of condemned packs waits.
        repository = get_artifact_repository(self.uri(self._run(0), of=self.base))
        for name in ("late.bin", "later.bin"):
            with self._local({name: random_bytes(50_000, seed=len(name))}) as source:
                repository.log_artifacts(str(source))
        for name in ("late.bin", "later.bin"):
            repository.delete_artifacts(name)
            time.sleep(1.1)
            self._remembering(lambda: command("gc", root, "--grace", "1s"))
        self.check_reading(self.base)

    def _run(self, number: int) -> str:
        return f"1/{number:032x}/artifacts"

    def _log(self, number: int) -> None:
        run = self._run(number)
        repository = get_artifact_repository(self.uri(run, of=self.base))
        files: Files = {
            "small.txt": b"small %d" % number,
            "model/weights.bin": random_bytes(40_000 + number, seed=number),
            "model/shared.bin": random_bytes(150_000, seed=-1),
        }
        if number % 10 == 1:
            files["model/large.bin"] = random_bytes(6_000_000, seed=-2)
        with self._local(files) as source:
            repository.log_artifacts(str(source))
        calls = 40 if number % 10 == 2 else 2
        for call in range(calls):
            name = f"step-{call}.txt"
            # Every other one is so long that a joined segment refers to its entry.
            files[name] = b"%d %d" % (number, call) * (1 if call % 2 else 200)
            with self._local({name: files[name]}) as source:
                repository.log_artifact(str(source / name))
        with self._local({"gone.bin": random_bytes(80_000, seed=500 + number)}) as source:
            repository.log_artifacts(str(source), "gone")
        repository.delete_artifacts("gone")
        if number % 10 == 3:
            repository.lock("approved", "model")
        self.expected[run] = files

    @contextlib.contextmanager
    def _local(self, files: Files) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self.folder) as name:
            for path, data in files.items():
                target = Path(name) / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(data)
            yield Path(name)

    def _age(self) -> None:
        """Make everything two hours old, as the storage sees it."""
        then = time.time() - 2 * HOUR
        for path in self.base.rglob("*"):
            os.utime(path, (then, then))
        opening._stores.clear()

    def _remembering(self, change: Callable[[], object]) -> None:
        """Keep what stood at each key before a change that replaced it."""
        before = content(self.base)
        change()
        for key, data in content(self.base).items():
            if key in before and before[key] != data:
                self.older[key] = before[key]

    # --- looking ---

    def check_reading(
        self, root: Path, keys: Sequence[str] = (), but: Sequence[str] = ()
    ) -> list[str]:
        """Read all runs; return the errors, each of which must name a damaged object.

        Args:
            root: The store's folder.
            keys: The damaged objects.
            but: Runs that may have lost something.
        """
        errors = []
        for run, files in self._concerned(keys or but):
            if run in but:
                continue
            try:
                with tempfile.TemporaryDirectory(dir=self.folder) as target:
                    get_artifact_repository(self.uri(run, of=root)).download_artifacts("", target)
                    found = content(target)
            except PackError as exc:
                if not keys:
                    raise
                if not any(names(exc.message, key) for key in keys):
                    raise ViolationError(
                        f"a reader's error does not name it: {exc.message}"
                    ) from exc
                errors.append(exc.message)
                continue
            if found != files:
                raise ViolationError(f"{run} is read wrong or incomplete, and no error says so")
        return errors

    def _concerned(self, keys: Sequence[str]) -> list[tuple[str, Files]]:
        """Return all runs; of damage to some runs' manifests these, and a few others."""
        scopes = scopes_of(keys) or list(keys)
        everything = list(self.expected.items())
        if not scopes or any(key.startswith(".cas/") for key in keys):
            return everything
        others = random.Random(str(keys)).sample(everything, min(3, len(everything)))
        return [item for item in everything if item[0] in scopes or item in others]

    # --- damaging ---

    def objects(self) -> list[str]:
        return sorted(content(self.base))

    def copy(self) -> None:
        """Make a copy to damage; nothing writes into an object, so that links are enough."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.base, self.work, copy_function=os.link)
        self._cases += 1
        new_host(self.folder / f"cache-{self._cases}")

    def damage(self, key: str, how: str, chance: random.Random) -> list[str]:
        """Damage one object of the copy; return which were damaged, none if that cannot be."""
        path = self.work / key
        data = path.read_bytes()
        written = path.stat().st_mtime
        changed = {key: data}
        if how == "cut":
            changed[key] = data[: len(data) * chance.randrange(100) // 100]
        elif how == "flipped" and data:
            at = chance.randrange(len(data))
            bit = bytes([data[at] ^ 1 << chance.randrange(8)])
            changed[key] = data[:at] + bit + data[at + 1 :]
        elif how == "swapped":
            others = [k for k in self.objects() if k != key and kind_of(k) == kind_of(key)]
            if others:
                other = chance.choice(others)
                changed = {key: (self.work / other).read_bytes(), other: data}
        elif how == "replaced by an older one":
            changed[key] = self.older.get(key, data)
        if how != "deleted" and changed[key] == data:
            return []
        for name, new in changed.items():
            (self.work / name).unlink()
            if how != "deleted":
                (self.work / name).write_bytes(new)
                os.utime(self.work / name, (written, written))
        return list(changed)

    def case(self, key: str, how: str, chance: random.Random) -> str | None:
        """Damage one object and return what was seen; None if there is no such damage.

        Raises:
            ViolationError: If what was seen must not be.
        """
        self.copy()
        damaged = self.damage(key, how, chance)
        if not damaged:
            return None
        errors = self.check_reading(self.work, damaged)
        root = f"cas-file://{self.work}"
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(os.environ["MLFLOW_PACK_ARTIFACT_CACHE_DIR"])
        opening._stores.clear()
        said = check(root)
        is_named = all(names(said, key) for key in damaged)
        if errors and not is_named:
            raise ViolationError(f"readers say {errors[0]!r}, and fsck does not name it")
        # Two index objects say the same together, whichever has which name; an older list names the
        # same packs, and what was encrypted again says what it did.
        is_harmless = (
            says_nothing(key)
            or self._says_the_same(key)
            or (kind_of(key), how) == ("index", "swapped")
            or (how == "replaced by an older one" and kind_of(key) != "keys")
        )
        if how != "deleted" and not is_named and not is_harmless:
            raise ViolationError("fsck does not name it")
        self.repair(root, damaged, said)
        otherwise = "finds what it lists" if '"kind"' in said else "is content"
        return f"{'an error names it' if errors else 'right bytes'}, fsck " + (
            "names it" if is_named else otherwise
        )

    def _bring_back(self, run: str, path: str, *, is_lost: bool) -> None:
        repository = get_artifact_repository(self.uri(run))
        if is_lost:
            repository.delete_artifacts(path)
            return
        with self._local({path: self.expected[run][path]}) as source:
            repository.log_artifacts(str(source))

    def _says_the_same(self, key: str) -> bool:
        """Return whether a manifest segment is read as before: not each bit of a frame counts."""
        scope, _, name = key.partition("/.m/")
        if not name or self.encrypted or not (self.work / key).exists():
            return False
        try:
            found = decode_segment((self.work / key).read_bytes(), scope, name)
        except PackError:
            return False
        return found == decode_segment((self.base / key).read_bytes(), scope, name)

    def repair(self, root: str, damaged: Sequence[str], said: str) -> None:
        """Go back to a working store by the commands that messages name, and see that it works."""
        opening._stores.clear()
        if "init --restore" in said:
            said = command("init", root, "--restore")[1] + check(root)
        if "artifacts rekey" in said:
            assert command("rekey", root)[0] == 0
        command("fsck", root, "--read-data", "--repair-index", "--repair-manifests")
        scopes = scopes_of(damaged)
        # What the messages say: log again what has lost its bytes.
        everything = {
            f"{number}/{path}": data
            for number, (_, files) in enumerate(self._concerned(damaged))
            for path, data in files.items()
        }
        new = f"2/{'f' * 32}/artifacts"
        with self._local(everything) as source:
            get_artifact_repository(self.uri(new)).log_artifacts(str(source))
        opening._stores.clear()
        problems = json.loads(check(root))["problems"]
        for problem in problems:
            # What was deleted by a call that is lost is back, and its bytes may be gone; and a file
            # whose list of chunks is lost must be logged again to its own run.
            run, _, path = problem["where"].partition("/artifacts/")
            if problem["kind"] == "artifact":
                self._bring_back(f"{run}/artifacts", path, is_lost=f"{run}/artifacts" in scopes)
        if problems and (problems := json.loads(check(root))["problems"]):
            raise ViolationError(f"fsck after the repair: {problems}")
        self.check_reading(self.work, but=scopes)
        for run in (*scopes, new):
            with self._local({"after.txt": b"after"}) as source:
                get_artifact_repository(self.uri(run)).log_artifacts(str(source), "after")
        code, said = command("gc", root, "--grace", "0s")
        if code:
            raise ViolationError(f"gc after the repair: {said}")


def check(root: str) -> str:
    """Return what fsck says of a store, whether it can be opened or not."""
    try:
        return command("fsck", root, "--read-data", "--json")[1]
    except PackError as exc:
        return exc.message


def scopes_of(keys: Sequence[str]) -> list[str]:
    """Return the runs whose manifests objects belong to."""
    return sorted({key.partition("/.m/")[0] for key in keys if "/.m/" in key})


def kind_of(key: str) -> str:
    """Return what kind of object a key names, for the table of counts."""
    folder, _, name = key.rpartition("/")
    if folder.endswith(".m"):
        if name.startswith(("lock", "receipt")):
            return name.partition("-")[0]
        return "joined segment" if len(name) == 25 else "entry"
    part = key.removeprefix(".cas/").partition("/")[0]
    return f"gc {name}" if part == "gc" and len(name) < 26 else part


def says_nothing(key: str) -> bool:
    """Return whether an object says all that it says by its name, or holds nothing."""
    return kind_of(key) in ("lock", "receipt", "gc reserve", "gc lease")


def names(said: str, key: str) -> bool:
    """Return whether a text names an object: by key, a pack by name, a call by its number."""
    scope, _, name = key.partition("/.m/")
    if (segment := parse_segment_name(name)) is not None and segment.is_joined:
        numbers = [int(number) for number in re.findall(re.escape(scope) + r"/\.m/(\d{12})", said)]
        return any(segment.first <= number <= segment.last for number in numbers)
    key = key.removesuffix("-2") if "/lock-" in key else key
    return key in said or (key.startswith(".cas/packs/") and key.rpartition("/")[2] in said)


def check_objects(
    lab: Lab,
    *,
    ways: Sequence[str] = DAMAGES,
    most_of_a_kind: int | None = None,
    told: Callable[[int, int], None] = lambda done, wrong: None,
) -> tuple[Counter[tuple[str, str, str]], list[str]]:
    """Damage every object in every way; return how often what was seen, and what must not be."""
    kinds: dict[str, list[str]] = {}
    for key in lab.objects():
        kinds.setdefault(kind_of(key), []).append(key)
    seen: Counter[tuple[str, str, str]] = Counter()
    violations = []
    for key in (key for keys in kinds.values() for key in keys[-(most_of_a_kind or len(keys)) :]):
        for how in ways:
            try:
                outcome = lab.case(key, how, random.Random(f"{key} {how}"))
            except (ViolationError, PackError) as exc:
                outcome = "WRONG"
                violations.append(f"{key} {how}: {exc}")
            if outcome is not None:
                seen[kind_of(key), how, outcome] += 1
                told(sum(seen.values()), len(violations))
    return seen, violations


# --- caches ---------------------------------------------------------------------------------------


def check_caches(
    lab: Lab, *, most_records: int = 100, flips: int = 40
) -> tuple[Counter[tuple[str, str, str]], list[str]]:
    """Damage every record of a host's index cache, and every file that it keeps."""
    seen: Counter[tuple[str, str, str]] = Counter()
    violations: list[str] = []
    chance = random.Random(0)
    lab.copy()
    run = next(iter(lab.expected))
    cache = Path(os.environ["MLFLOW_PACK_ARTIFACT_CACHE_DIR"])
    known = {"k.bin": random_bytes(40_000, seed=0), "l.bin": random_bytes(150_000, seed=-1)}
    os.environ["MLFLOW_PACK_ARTIFACT_CACHE_BYTES"] = str(10**9)
    with lab._local({"x.bin": random_bytes(40_000, seed=77)}) as source:
        get_artifact_repository(lab.uri(run)).log_artifacts(str(source), "extra")
    lab.expected[run]["extra/x.bin"] = random_bytes(40_000, seed=77)
    lab.check_reading(lab.work)
    older = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    with lab._local({"y.bin": random_bytes(40_000, seed=78)}) as source:
        get_artifact_repository(lab.uri(run)).log_artifacts(str(source), "extra")
    lab.expected[run]["extra/y.bin"] = random_bytes(40_000, seed=78)
    lab.check_reading(lab.work)
    good = {path: path.read_bytes() for path in cache.rglob("*") if path.is_file()}
    good = {path: data for path, data in good.items() if data}

    def outcome_of(number: int) -> str:
        """Upload what is known and what is new, and read all as this host and as another one."""
        opening._stores.clear()
        files = {**known, "n.bin": random_bytes(40_000, seed=1000 + number)}
        target = f"3/{number:032x}/artifacts"
        try:
            with lab._local(files) as source:
                get_artifact_repository(lab.uri(target)).log_artifacts(str(source))
            outcome = "stored"
        except PackError:
            outcome = "refused"
        lab.check_reading(lab.work)
        os.environ["MLFLOW_PACK_ARTIFACT_CACHE_DIR"] = str(lab.folder / "other-host")
        opening._stores.clear()
        if outcome == "stored":
            lab.expected[target] = files
            try:
                lab.check_reading(lab.work)
            finally:
                del lab.expected[target]
        os.environ["MLFLOW_PACK_ARTIFACT_CACHE_DIR"] = str(cache)
        return outcome

    def restore() -> None:
        opening._stores.clear()
        shutil.rmtree(cache)
        for path, data in good.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def trial(kind: str, how: str, damage: Callable[[], None]) -> None:
        restore()
        damage()
        try:
            outcome = outcome_of(sum(seen.values()))
        except (ViolationError, PackError) as exc:
            outcome = "WRONG"
            violations.append(f"{kind} {how}: {exc}")
        seen[kind, how, outcome] += 1

    index = next(path for path in good if path.suffix == ".sqlite")
    for path, data in good.items():
        kind = "index cache" if path == index else "kept file"
        trial(kind, "deleted", path.unlink)
        trial(kind, "cut", lambda p=path, d=data: p.write_bytes(d[: len(d) // 2]))
        for _ in range(flips if path == index else 1):
            at = chance.randrange(len(data))
            flipped = data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]
            trial(kind, "flipped", lambda p=path, d=flipped: p.write_bytes(d))
        if path in older and older[path] != data:
            trial(kind, "replaced by an older one", lambda p=path: p.write_bytes(older[p]))
        if kind == "kept file":
            other = chance.choice([p for p in good if p not in (path, index)] or [path])
            trial(kind, "swapped", lambda p=path, o=other: p.write_bytes(good[o]))
    restore()
    for table, count in record_counts(index).items():
        for number in range(min(count, most_records)):
            trial(f"{table} record", "deleted", lambda t=table, n=number: drop(index, t, n))
            restore()
            for column in columns(index, table):
                for how, change in (("flipped", flip_value), ("swapped", None)):
                    trial(
                        f"{table} record",
                        how,
                        lambda t=table, n=number, c=column, f=change: alter(
                            index, t, n, c, f, chance
                        ),
                    )
    del os.environ["MLFLOW_PACK_ARTIFACT_CACHE_BYTES"]
    return seen, violations


def record_counts(index: Path) -> dict[str, int]:
    with contextlib.closing(sqlite3.connect(index)) as database:
        tables = [
            r[0] for r in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        return {t: database.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in tables}


def columns(index: Path, table: str) -> list[str]:
    with contextlib.closing(sqlite3.connect(index)) as database:
        return [row[1] for row in database.execute(f"PRAGMA table_info({table})")]


def flip_value(value: object, chance: random.Random) -> object:
    if isinstance(value, int):
        return value ^ 1 << chance.randrange(20)
    data = bytearray(value.encode() if isinstance(value, str) else value or b"\0")
    if data:
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(7)
    return data.decode("ascii", "replace") if isinstance(value, str) else bytes(data)


def drop(index: Path, table: str, number: int) -> None:
    with contextlib.closing(sqlite3.connect(index)) as database, database:
        row = database.execute(f"SELECT * FROM {table} LIMIT 1 OFFSET {number}").fetchone()
        key, value = columns(index, table)[:2], row[:2]
        where = " AND ".join(f"{name} IS ?" for name in key[: len(value)])
        database.execute(f"DELETE FROM {table} WHERE {where}", value)


def alter(
    index: Path,
    table: str,
    number: int,
    column: str,
    change: Callable[[object, random.Random], object] | None,
    chance: random.Random,
) -> None:
    """Change one value of one record, or exchange it with the next record's."""
    names_ = columns(index, table)
    at = names_.index(column)
    with contextlib.closing(sqlite3.connect(index)) as database, database:
        rows = database.execute(f"SELECT * FROM {table}").fetchall()
        row, other = list(rows[number]), list(rows[(number + 1) % len(rows)])
        if change is not None:
            row[at] = change(row[at], chance)
        else:
            row[at], other[at] = other[at], row[at]
        changed = [row] if change is not None else [row, other]
        for old in (rows[number], rows[(number + 1) % len(rows)])[: len(changed)]:
            where = " AND ".join(f"{name} IS ?" for name in names_)
            database.execute(f"DELETE FROM {table} WHERE {where}", old)
        marks = ",".join("?" * len(names_))
        with contextlib.suppress(sqlite3.IntegrityError):
            database.executemany(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", changed)


def tell(done: int, wrong: int) -> None:
    """Print how far it is, now and then: the whole takes an hour."""
    if done % 200 == 0:
        print(f"... {done} damages, {wrong} wrong", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--encrypted", action="store_true")
    parser.add_argument("--where", type=Path, help="a folder on a quick disk")
    given = parser.parse_args(arguments)
    wrong: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="damage-", dir=given.where) as name,
        settings(encrypted=given.encrypted),
    ):
        began = time.monotonic()
        lab = Lab(Path(name), given.runs, encrypted=given.encrypted)
        print(f"{given.runs} runs, {len(lab.objects())} objects", flush=True)
        for check_all in (partial(check_objects, told=tell), check_caches):
            seen, violations = check_all(lab)
            for (kind, how, outcome), count in sorted(seen.items()):
                print(f"{count:6}  {kind:15} {how:25} {outcome}")
            wrong += violations
            passed = time.monotonic() - began
            print(
                f"{sum(seen.values())} damages, {len(violations)} wrong, {passed:.0f} s", flush=True
            )
    print("\n".join(wrong))
    return 1 if wrong else 0


@contextlib.contextmanager
def settings(*, encrypted: bool) -> Iterator[None]:
    """Set what the store needs, and have receipts written at once."""
    before = dict(os.environ)
    later = deferred.later
    deferred.later = lambda key, call: call()
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    if encrypted:
        os.environ["ARTIFACT_KEY"] = "07" * 32
        os.environ["MLFLOW_PACK_ARTIFACT_KEYS"] = "env:ARTIFACT_KEY"
        os.environ["MLFLOW_PACK_ARTIFACT_ENCRYPT"] = "true"
    try:
        yield
    finally:
        deferred.later = later
        os.environ.clear()
        os.environ.update(before)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
