"""The steps of a shipment, in the order that makes an interruption harmless.

Files first, compared at both ends; then the run and the logged model are completed; the version is
registered last. Whatever was created before that is found again by its tags.
"""

from __future__ import annotations

import posixpath
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from mlflow.exceptions import MlflowException

from mlflow_plugins_pack.approvals.domain.attestation import ATTESTATION_TAG, unseal
from mlflow_plugins_pack.approvals.ledger.signed_heads import Key
from mlflow_plugins_pack.errors import DigestDiffersError
from mlflow_plugins_pack.shipping import content, reading, record, signing, writing
from mlflow_plugins_pack.shipping.content import Moved
from mlflow_plugins_pack.shipping.ends import End, check_credentials
from mlflow_plugins_pack.shipping.record import Left, VersionRecord, link

_LINEAGE_FOLDER = "lineage"
_FALLBACK_EXPERIMENT = "shipped"

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """What a person asked for.

    Attributes:
        name: The name of the model at the target; the same if None.
        experiment: The name of the run's experiment at the target; the same if None.
        with_run_artifacts: Whether all artifacts of the run go along, not only its lineage.
        key: Signs what the source says of its approvals; None: they stay behind.
    """

    name: str | None = None
    experiment: str | None = None
    with_run_artifacts: bool = False
    key: Key | None = None


@dataclass
class Shipped:
    """What was done.

    Attributes:
        source, target: The version at each end, as ``models:/NAME/VERSION``.
        is_new: False: it was at the target already, and nothing was copied.
        is_attested_anew: Whether the attestation that it had there was replaced.
        digest: The digest of its files, equal at both ends; empty if nothing was compared.
        moved: What was moved.
        points: The number of points of metrics.
        attested: The approvals that were signed, by target; None: nothing was signed.
        left: What could not be taken along.
    """

    source: str
    target: str = ""
    is_new: bool = True
    is_attested_anew: bool = False
    digest: str = ""
    moved: Moved = field(default_factory=Moved)
    points: int = 0
    attested: dict[str, list[str]] | None = None
    left: Left = field(default_factory=Left)


def ship(source: End, target: End, wanted: str, options: Options, say: Say) -> Shipped:
    """Take a version from one server to another.

    Args:
        source: Where it is.
        target: Where it goes.
        wanted: ``models:/NAME/VERSION`` or ``models:/NAME@ALIAS``.
        options: What was asked for.
        say: Told of each step before it is taken.

    Raises:
        DigestDiffersError: If the files differ at the two ends; then nothing is registered.
        NotShippableError: If the version cannot be taken along.
        AuthConflictError: If a credential of the source's would go to the target.
        MlflowException: If a server refuses or fails.
    """
    check_credentials(source, target)
    say("reading the version")
    version = reading.read_version(source, wanted)
    return _Journey(source, target, version, options, say).go()


class _Journey:
    def __init__(
        self, source: End, target: End, version: VersionRecord, options: Options, say: Say
    ) -> None:
        self._source, self._target, self._version = source, target, version
        self._options, self._say = options, say
        self._name = options.name or version.name
        self._done = Shipped(f"models:/{version.name}/{version.version}")

    def go(self) -> Shipped:
        """Take all steps."""
        self._say("looking for it at the target")
        with self._target.acting() as client:
            found = writing.find_version(client, self._name, self._version.shipment_id)
        if found is None:
            found = self._carry()
        else:
            self._done.is_new = False
            self._done.digest = self._check_earlier(found)
            self._renew_attestation(found)
        self._done.target = f"models:/{found.name}/{found.version}"
        self._link_back(found)
        return self._done

    def _check_earlier(self, found: Any) -> str:
        """Compare with an earlier shipment what can be compared without reading files.

        What is signed is read at the source in any case: the tags at the target are anyone's.
        """
        then = record.read_link(found.tags.get(record.FROM_TAG)).get("digest")
        now = content.free_digest(self._source, self._version.location)
        if now is None and self._options.key is not None:
            self._say("reading the source")
            now = content.read_digest(self._source, self._version.location)
        if now is not None and then != now:
            raise DigestDiffersError(
                f"{self._done.source} was shipped before, as models:/{found.name}/{found.version}, "
                f"with the files {then}; its files are {now} now. Nothing was copied. Find out who "
                "wrote to them, and register what is meant to go to the target as a new version."
            )
        return str(then or "")

    def _renew_attestation(self, found: Any) -> None:
        """Sign again if the source has approved more, or less, since."""
        tags = self._attestation()
        for key, text in tags.items():
            if not signing.says_the_same(found.tags.get(key), text):
                self._say("writing the new attestation")
                with self._target.acting() as client:
                    client.set_model_version_tag(found.name, str(found.version), key, text)
                self._done.is_attested_anew = True

    def _attestation(self) -> dict[str, str]:
        """Return the tag with the signed approvals of the source; empty without a key."""
        key, version, done = self._options.key, self._version, self._done
        if key is None:
            done.left.add(len(version.approvals), "approvals (--sign)")
            return {}
        self._say("signing the approvals")
        if version.approvals and not reading.enforces_approvals(self._source, version):
            done.left.add(
                len(version.approvals),
                "approvals, since anyone may write their tags at the source",
            )
            version = replace(version, approvals=())
        now_ms = int(time.time() * 1000)
        text = signing.attest(self._source, version, self._name, done.digest, key, now_ms)
        about = unseal(text).statement
        done.attested = {one.target: list(one.approvers) for one in about.approvals}
        return {ATTESTATION_TAG: text}

    def _carry(self) -> Any:
        version, done = self._version, self._done
        here = link(self._source.uri, self._source.workspace, version=done.source)
        self._say("preparing the run and the model")
        with self._target.acting() as client:
            experiment = writing.experiment_of(client, self._experiment())
            run: Any = version.run and writing.run_of(client, experiment, version.run, here)
            run_id = run.info.run_id if run else None
            model = (
                writing.model_of(client, experiment, run_id, version, here)
                if version.path_in_run is None
                else None
            )
        place = (
            model.artifact_location
            if model is not None
            else posixpath.join(run.info.artifact_uri, version.path_in_run or "")
        )
        done.moved = content.move(
            self._source, version.location, self._target, place, version.approved_digests, self._say
        )
        done.digest = done.moved.digest
        if run is not None:
            self._complete_run(run)
        if model is not None:
            self._complete_model(run_id, model)
        return self._register(place, run_id, model)

    def _experiment(self) -> str:
        run = self._version.run
        return self._options.experiment or (run.experiment if run else _FALLBACK_EXPERIMENT)

    def _complete_run(self, there: Any) -> None:
        run, left = self._version.run, self._done.left
        assert run is not None  # noqa: S101 - for the type checker
        self._say("the run's lineage")
        folder = "" if self._options.with_run_artifacts else _LINEAGE_FOLDER
        self._run_artifacts(folder, there)
        self._say("the run's parameters, metrics, tags and datasets")
        with self._target.acting() as client:
            points = reading.history(self._source, run)
            self._done.points = writing.write_run(client, there.info.run_id, run, points)
        left.add(int(record.has_parent(run.tags)), "link to the run's parent")
        own = self._version.model.model_id if self._version.model else None
        left.add(len(run.output_steps.keys() - {own}), "other logged models of the run")

    def _run_artifacts(self, folder: str, there: Any) -> None:
        run = self._version.run
        assert run is not None  # noqa: S101 - for the type checker
        with self._source.acting():
            listed = self._source.repository(run.artifact_uri).list_artifacts(None)
        names = {info.path for info in listed}
        if folder and folder not in names:
            self._done.left.add(len(names), "folders and files of the run (--run-artifacts)")
            return
        if folder:
            self._done.left.add(len(names) - 1, "folders and files of the run (--run-artifacts)")
        if names:
            content.move(
                self._source,
                posixpath.join(run.artifact_uri, folder).rstrip("/"),
                self._target,
                posixpath.join(there.info.artifact_uri, folder).rstrip("/"),
                frozenset(),
                self._say,
            )

    def _complete_model(self, run_id: str | None, model: Any) -> None:
        about, run = self._version.model, self._version.run
        self._say("the logged model")
        step = run.output_steps.get(about.model_id, 0) if run and about else 0
        with self._target.acting() as client:
            writing.write_model(client, run_id, model.model_id, about, step)
            writing.finish_model(client, model.model_id)
        if about is not None:
            self._done.left.add(about.other_points, "metrics of the model that other runs measured")

    def _register(self, place: str, run_id: str | None, model: Any) -> Any:
        version = self._version
        origin = link(
            self._source.uri,
            self._source.workspace,
            version=self._done.source,
            run_id=version.run.run_id if version.run else None,
            model_id=version.model.model_id if version.model else None,
            digest=self._done.digest,
            shipped_at=int(time.time() * 1000),
        )
        attestation = self._attestation()
        if version.run is not None:
            self._say("ending the run")
            with self._target.acting() as client:
                writing.end_run(client, str(run_id), version.run)
        self._say("registering the version")
        with self._target.acting() as client:
            return writing.register(
                client,
                self._name,
                version,
                place=f"models:/{model.model_id}" if model is not None else place,
                run_id=run_id,
                model_id=model.model_id if model is not None else None,
                tags={record.ID_TAG: version.shipment_id, record.FROM_TAG: origin, **attestation},
            )

    def _link_back(self, found: Any) -> None:
        """Write at the source where the version went; it is shipped although the source refuses."""
        key = record.to_tag(self._target.uri, self._target.workspace)
        value = link(
            self._target.uri,
            self._target.workspace,
            version=self._done.target,
            digest=self._done.digest,
        )
        if self._version.tags.get(key) == value:
            return
        self._say("linking the source to it")
        try:
            with self._source.acting() as client:
                client.set_model_version_tag(
                    self._version.name, str(self._version.version), key, value
                )
        except MlflowException as exc:
            self._done.left.lines.append(f"the link at the source, which refused it: {exc.message}")
