"""What the demo does, step by step; each step checks that it did what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from mlflow_plugins_pack.cli.demo.people import Person, RefusedError
from mlflow_plugins_pack.cli.demo.site import ADMIN, PEOPLE, DemoError, Site

MODEL = "tumour-classifier"
_INDENT = " " * 6


class Narrator:
    """Prints the story: numbered steps, what was seen, what was checked."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        self._number += 1
        self._console.print()
        self._console.print(Text(f"{self._number:2}  {title}", style="bold"))

    def show(self, text: str, style: str = "") -> None:
        """Print something as it is, indented; what is too long is wrapped."""
        width = self._console.width - len(_INDENT)
        for line in text.splitlines():
            for part in textwrap.wrap(line, width, break_on_hyphens=False) or [""]:
                self._console.print(Text(_INDENT + part, style=style))

    def check(self, is_so: bool, what: str) -> None:
        """Print a fact that was just checked.

        Raises:
            DemoError: If it is not so.
        """
        if not is_so:
            raise DemoError(f"not so: {what}")
        self._console.print(Text.assemble(("    ok  ", "green"), what))


class Story:
    """The main job on one site."""

    def __init__(self, site: Site, console: Console) -> None:
        self._site = site
        self._console = console
        self._tell = Narrator(console)
        self._people: dict[str, Person] = {}
        self._version = ""
        self._run_id = ""

    def run(self) -> None:
        """Run all steps.

        Raises:
            DemoError: At the first step that did not do what it says.
            RefusedError: If the server refused what it should have done.
        """
        self._start()
        try:
            self._train()
            self._show_lineage()
            self._try_to_promote()
            self._test()
            self._approve()
            self._promote()
            self._serve()
            self._log_again()
            self._tamper()
            self._audit()
        finally:
            for person in self._people.values():
                person.leave()

    def _start(self) -> None:
        tell, site = self._tell, self._site
        tell.step("Start a stock server; sign four users in")
        site.write_files()
        site.start_server()
        tell.show(
            "mlflow server --app-name approvals-basic-auth\n"
            "    --backend-store-uri    sqlite:///mlflow.db\n"
            "    --registry-store-uri   approval-sqlite:///mlflow.db\n"
            "    --artifacts-destination cas-file:///.../artifacts",
            "cyan",
        )
        # The processes start while the server does; each takes seconds to import MLflow.
        self._people = {name: Person(site, name) for name in PEOPLE}
        with self._waiting("the server starts"):
            site.wait_for_server()
            with _signed_in_as(site, ADMIN):
                site.create_people()
        for name, duty in PEOPLE.items():
            tell.show(f"{name:<7} {duty}")
        tell.check(site.refuses_strangers(), "a request without credentials gets 401")
        tell.check(
            all(person.do("sign_in") for person in self._people.values()),
            "each user signs in by their own profile",
        )

    def _train(self) -> None:
        tell = self._tell
        tell.step("alice trains on two files: a search over 6 settings, autologged")
        self._run_id = self._run_training()
        self._version = self._people["alice"].do("newest_version", name=MODEL)
        tell.check(self._version == "1", f"the best model is registered as {MODEL} version 1")

    def _run_training(self) -> str:
        site = self._site
        self._tell.show(
            "python train.py --measurements measurements.csv --diagnoses diagnoses.parquet", "cyan"
        )
        command = [sys.executable, "train.py", "--measurements", str(site.measurements)]
        command += ["--diagnoses", str(site.diagnoses), "--register-as", MODEL]
        with self._waiting("training"):
            done = subprocess.run(  # noqa: S603 - our own interpreter and script
                command,
                env=site.environment_of("alice"),
                cwd=site.folder / "people" / "alice",
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        if done.returncode != 0:
            raise DemoError(f"training failed:\n{done.stderr[-3000:]}")
        return done.stdout.strip().splitlines()[-1]

    def _show_lineage(self) -> None:
        tell, site = self._tell, self._site
        tell.step("The run lists what it read, without a line about it in train.py")
        tags = self._people["alice"].do("run_tags", run_id=self._run_id)
        inputs = json.loads(tags.get("lineage.inputs", "[]"))
        for entry in inputs:
            name = str(entry["u"]).rsplit("/", 1)[-1]
            tell.show(
                f"read {name:<18} {entry['n']:>7} bytes  {entry['h'][:19]}...  via {entry['via']}"
            )
        seen = {str(entry["u"]) for entry in inputs}
        expected = {path.resolve().as_uri() for path in (site.measurements, site.diagnoses)}
        tell.check(expected == seen, "both files, nothing else, each with its digest")

    def _try_to_promote(self) -> None:
        tell = self._tell
        tell.step("alice points @prod at version 1: refused, and the request is filed")
        tell.show(f'client.set_registered_model_alias("{MODEL}", "prod", 1)', "cyan")
        message = self._refusal("alice")
        tell.show(message, "yellow")
        tell.check("APPROVAL_REQUIRED: " in message, "nothing is in production yet")

    def _test(self) -> None:
        tell, site = self._tell, self._site
        tell.step("svc-ci tests version 1; only svc-ci may record that it passed")
        ci = self._people["svc-ci"]
        try:
            self._people["alice"].do(
                "tag_version", name=MODEL, version="1", key="tests", value="passed"
            )
        except RefusedError as refused:
            tell.show(str(refused), "yellow")
        else:
            raise DemoError("alice could set the tag 'tests'")
        accuracy = ci.do(
            "score",
            model_uri=f"models:/{MODEL}/1",
            measurements=str(site.measurements),
            diagnoses=str(site.diagnoses),
        )
        tell.check(accuracy > 0.9, f"accuracy {accuracy:.3f} is over 0.9")
        ci.do("tag_version", name=MODEL, version="1", key="tests", value="passed")
        tags = ci.do("version_tags", name=MODEL, version="1")
        tell.check(tags.get("tests") == "passed", "svc-ci has set the tag tests=passed")

    def _approve(self) -> None:
        tell = self._tell
        tell.step("Two approvers approve, each with a comment, through stock tags")
        for name, comment in (
            ("bob", "search covers the range, metrics hold"),
            ("carol", "data source is the approved one"),
        ):
            tell.show(f"{name}: approvals.approve = prod: {comment}", "cyan")
            self._people[name].do(
                "tag_version",
                name=MODEL,
                version="1",
                key="approvals.approve",
                value=f"prod: {comment}",
            )
            tags = self._people[name].do("version_tags", name=MODEL, version="1")
            tell.show(f"mlflow_approvals.prod = {tags.get('mlflow_approvals.prod')}")
        tell.check("APPROVED" in tags.get("mlflow_approvals.prod", ""), "version 1 is approved")

    def _promote(self) -> None:
        tell = self._tell
        tell.step("alice repeats the same call: it succeeds")
        tell.show(f'client.set_registered_model_alias("{MODEL}", "prod", 1)', "cyan")
        alice = self._people["alice"]
        alice.do("promote", name=MODEL, version="1", alias="prod")
        tell.check(alice.do("holder", name=MODEL, alias="prod") == "1", "@prod is version 1")

    def _serve(self) -> None:
        tell = self._tell
        tell.step(f"models:/{MODEL}@prod is loaded and predicts")
        accuracy = self._score_production()
        tell.check(accuracy > 0.9, f"569 predictions, accuracy {accuracy:.3f}")

    def _score_production(self) -> float:
        site = self._site
        accuracy: float = self._people["svc-ci"].do(
            "score",
            model_uri=f"models:/{MODEL}@prod",
            measurements=str(site.measurements),
            diagnoses=str(site.diagnoses),
        )
        return accuracy

    def _log_again(self) -> None:
        tell, site = self._tell, self._site
        tell.step("alice trains again on the same data: everything is logged, little is stored")
        before = site.stored_bytes()
        run_id = self._run_training()
        added = site.stored_bytes() - before
        alice = self._people["alice"]
        version = alice.do("newest_version", name=MODEL)
        logged = alice.do("logged_bytes", run_id=run_id, model_uri=f"models:/{MODEL}/{version}")
        tell.show(f"logged {logged:,} bytes, stored {added:,}: {1 - added / logged:.0%} saved")
        tell.check(added < logged / 3, "what the store already has is not stored again")

    def _tamper(self) -> None:
        tell = self._tell
        tell.step("One bit is flipped in every stored pack: the model is refused, not served")
        with _one_bit_flipped(self._site.packs()):
            try:
                self._score_production()
            except RefusedError as refused:
                tell.show(_innermost(str(refused)), "yellow")
            else:
                raise DemoError("the tampered model was loaded")
        tell.check(self._score_production() > 0.9, "once the bits are restored it is served again")

    def _audit(self) -> None:
        tell, site = self._tell, self._site
        tell.step("The audit log is intact and says who did what")
        tell.show("mlflow-pack approvals audit verify", "cyan")
        command = [sys.executable, "-m", "mlflow_plugins_pack.cli", "approvals", "audit", "verify"]
        command += ["--registry-store-uri", site.registry_uri]
        done = subprocess.run(  # noqa: S603 - our own command
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={
                **site.environment_of("alice"),
                "MLFLOW_PACK_APPROVALS_POLICY": str(site.folder / "policy.yaml"),
            },
        )
        for line in done.stdout.strip().splitlines():
            tell.show(line)
        tell.show(done.stderr.strip(), "yellow")
        tell.check(done.returncode == 0, "every entry's hash follows from the one before")

    def _refusal(self, name: str) -> str:
        try:
            self._people[name].do("promote", name=MODEL, version="1", alias="prod")
        except RefusedError as refused:
            return str(refused)
        raise DemoError(f"{name} could promote without an approval")

    @contextmanager
    def _waiting(self, what: str) -> Iterator[None]:
        with self._console.status(f"{what} ..."):
            yield


@contextmanager
def _signed_in_as(site: Site, name: str) -> Iterator[None]:
    """Make this process act as a person while the block runs."""
    wanted: dict[str, Any] = site.environment_of(name)
    before = dict(os.environ)
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _one_bit_flipped(paths: list[Path]) -> Iterator[None]:
    originals = {path: path.read_bytes() for path in paths}
    try:
        for path, original in originals.items():
            spoiled = bytearray(original)
            spoiled[len(spoiled) // 2] ^= 1
            _overwrite(path, bytes(spoiled))
        yield
    finally:
        for path, original in originals.items():
            _overwrite(path, original)


def _overwrite(path: Path, data: bytes) -> None:
    """Change a write-protected file in place, as a hardware fault or an attacker would."""
    mode = path.stat().st_mode
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(mode)


def _innermost(message: str) -> str:
    """Return the server's own message, which MLflow's client quotes after a text of its own."""
    _, _, quoted = message.partition("Response text: ")
    try:
        return str(json.loads(quoted)["message"])
    except (ValueError, KeyError):
        return message


def run_story(site: Site, console: Console) -> float:
    """Run the story and return how many seconds it took."""
    started = time.monotonic()
    Story(site, console).run()
    return time.monotonic() - started
