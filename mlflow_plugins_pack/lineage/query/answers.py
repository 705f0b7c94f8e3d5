"""The answers that are listings: which runs used data, and which models stand on it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mlflow_plugins_pack.lineage.document.wording import counted, of_them
from mlflow_plugins_pack.lineage.query.targets import Place


@dataclass(frozen=True)
class Use:
    """One run that read what was asked about.

    Attributes:
        run: Its id.
        name: Its name.
        status: Its status, such as ``FINISHED``.
        started: Milliseconds since 1970.
        uri: Where it read the content from.
        digest: ``sha256:<hex>`` of what it read, or None.
        size: Bytes of it, or None.
        differs: Whether the file that was asked about has another content by now.
        changed: Whether the content changed while the run went on.
        models: Logged models, versions and aliases that came of the run directly, as URIs.
        lacks: What the run's record may lack; empty if it is complete.
    """

    run: str
    name: str
    status: str
    started: int
    uri: str
    digest: str | None
    size: int | None
    differs: bool
    changed: bool
    models: tuple[str, ...]
    lacks: tuple[str, ...]

    @property
    def versions(self) -> tuple[str, ...]:
        """The registered versions among the models."""
        return tuple(uri for uri in self.models if _is_version(uri))

    @property
    def aliases(self) -> tuple[str, ...]:
        """The aliases among the models, without their names."""
        return tuple(uri.rpartition("@")[2] for uri in self.models if "@" in uri)


@dataclass(frozen=True)
class UsedBy:
    """The runs that read a content, or anything from its place.

    Attributes:
        place: What was asked about.
        uses: The newest first.
        notes: What the answer leaves out, in sentences.
    """

    place: Place
    uses: tuple[Use, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What was found, in one line."""
        runs = {use.run for use in self.uses}
        versions = {version for use in self.uses for version in use.versions}
        aliases = sorted({uri for use in self.uses for uri in use.models if "@" in uri})
        others = sum(use.differs for use in self.uses)
        parts = [counted(len(runs), "run", "runs")]
        if others:
            parts.append(f"{others} of them when it had another content")
        parts.append(counted(len(versions), "version", "versions"))
        return ", ".join([*parts, *of_them(uri.rpartition("@")[2] for uri in aliases)])

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "target": {
                "uri": self.place.uris[0] if self.place.uris else None,
                "digest": self.place.digest,
                "exists": self.place.exists,
            },
            "runs": [{**asdict(use), "complete": not use.lacks} for use in self.uses],
            "notes": list(self.notes),
            "summary": self.summary,
        }


@dataclass(frozen=True)
class AffectedModel:
    """A registered version, or a logged model without one, that stands on what was asked about.

    Attributes:
        uri: ``models:/NAME/VERSION``, or ``models:/m-...``.
        aliases: The version's aliases.
        stage: Its stage, or None.
        made: When it was made, in milliseconds since 1970, or None.
        run: The run that made it.
        run_name: That run's name.
        through: Runs on the way from the data to it, the first one first, as ids.
        differs: Whether it stands on a content that the file has no longer.
        lacks: What the records of these runs may lack; empty if they are complete.
    """

    uri: str
    aliases: tuple[str, ...]
    stage: str | None
    made: int | None
    run: str
    run_name: str
    through: tuple[str, ...]
    differs: bool
    lacks: tuple[str, ...]

    @property
    def is_registered(self) -> bool:
        """Whether it is a registered version."""
        return _is_version(self.uri)


@dataclass(frozen=True)
class Affected:
    """The models that stand on what was asked about.

    Attributes:
        target: What was asked about, as it was written.
        models: Those with aliases first, then the newest.
        notes: What the answer leaves out, in sentences.
    """

    target: str
    models: tuple[AffectedModel, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """What was found, in one line, such as ``5 versions, 1 of them @prod``."""
        versions = [model for model in self.models if model.is_registered]
        aliases = [alias for model in versions for alias in model.aliases]
        parts = [counted(len(versions), "version", "versions"), *of_them(aliases)]
        if others := len(self.models) - len(versions):
            parts.append(counted(others, "logged model", "logged models") + " not registered")
        return ", ".join(parts)

    def to_json(self) -> dict[str, Any]:
        """Return all of it for scripts."""
        return {
            "target": self.target,
            "models": [
                {**asdict(model), "registered": model.is_registered, "complete": not model.lacks}
                for model in self.models
            ],
            "notes": list(self.notes),
            "summary": self.summary,
        }


def _is_version(uri: str) -> bool:
    return "@" not in uri and uri.removeprefix("models:/").rpartition("/")[2].isdigit()
