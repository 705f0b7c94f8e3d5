"""What approvals read from MLflow's registry tables, and the one thing they write: projection tags.

It names MLflow's table classes; apart from it only `store.versions` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from mlflow.utils.validation import _validate_model_version
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.domain.identifiers import version_uid
from mlflow_plugins_pack.approvals.domain.tag_names import (
    PROMPT_FLAG_TAG,
    PROMPT_SOURCES,
)
from mlflow_plugins_pack.approvals.domain.targets import Target

_HIGHEST_VERSION = 2**31 - 1
_models = SqlRegisteredModel.__table__
_versions = SqlModelVersion.__table__
_aliases = SqlRegisteredModelAlias.__table__
VERSION_TAGS = SqlModelVersionTag.__table__
MODEL_TAGS = SqlRegisteredModelTag.__table__


@dataclass(frozen=True)
class Version:
    """A registered version as the database has it.

    Attributes:
        is_prompt: whether the model is flagged as a prompt, so that its text can be loaded.
        has_files: whether it has a real source, so that it can be loaded as a model. A version
            may be both: the flag does not make the files unreachable.
    """

    workspace: str
    name: str
    version: int
    uid: str
    stage: str
    source: str | None
    storage_location: str | None
    run_id: str | None
    is_prompt: bool
    has_files: bool


def version_number(version: Any) -> int:
    """Return a version's number, however the caller wrote it.

    Raises:
        MlflowException: If it is not a number, or too large for the database.
    """
    _validate_model_version(version)  # which returns the number since MLflow 3.16 only
    number = int(version)
    if number > _HIGHEST_VERSION:
        raise MlflowException(f"Model Version {number} not found", RESOURCE_DOES_NOT_EXIST)
    return number


def lock_model(session: Session, workspace: str, name: str) -> None:
    """Lock a model against other approvals until the transaction ends.

    Must be the transaction's first statement: in MySQL a snapshot taken before would stay old.
    Nor may it read anything but the row: PostgreSQL, having waited for the lock, looks again at
    that row only. In SQLite the transaction began with the one lock there is.
    """
    if session.get_bind().dialect.name != "sqlite":
        session.connection().execute(_LOCK, {"workspace": workspace, "name": name})


def is_prompt_model(session: Session, workspace: str, name: str) -> bool:
    """Return whether the registered model is flagged as a prompt."""
    value = session.execute(
        sa.select(MODEL_TAGS.c.value).where(
            MODEL_TAGS.c.workspace == workspace,
            MODEL_TAGS.c.name == name,
            MODEL_TAGS.c.key == PROMPT_FLAG_TAG,
        )
    ).scalar()
    return _is_true(value)


# Statements are built once: to build one takes Python longer than most databases take to answer.
_WORKSPACE: sa.BindParameter[str] = sa.bindparam("workspace")
_NAME: sa.BindParameter[str] = sa.bindparam("name")
# FOR NO KEY UPDATE where it exists: new versions and tags need not wait.
_LOCK = (
    sa.select(_models.c.name)
    .where(_models.c.workspace == _WORKSPACE, _models.c.name == _NAME)
    .with_for_update(key_share=True)
)
_FLAG = (
    sa.select(MODEL_TAGS.c.value)
    .where(
        MODEL_TAGS.c.workspace == _versions.c.workspace,
        MODEL_TAGS.c.name == _versions.c.name,
        MODEL_TAGS.c.key == PROMPT_FLAG_TAG,
    )
    .scalar_subquery()
    .label("prompt_flag")
)
_VERSION_FIELDS = (
    "workspace",
    "name",
    "version",
    "creation_time",
    "source",
    "storage_location",
    "run_id",
    "current_stage",
)
_SELECT = sa.select(*(_versions.c[field] for field in _VERSION_FIELDS), _FLAG).where(
    _versions.c.current_stage != STAGE_DELETED_INTERNAL
)
"""The versions that are not deleted, each with its model's flag of a prompt."""
_OF_MODEL = _SELECT.where(_versions.c.workspace == _WORKSPACE, _versions.c.name == _NAME).order_by(
    _versions.c.version
)
_BY_NUMBER = _OF_MODEL.where(_versions.c.version == sa.bindparam("number"))
_ALIASED = (
    sa.select(_aliases.c.version)
    .where(
        _aliases.c.workspace == _WORKSPACE,
        _aliases.c.name == _NAME,
        _aliases.c.alias == sa.bindparam("alias"),
    )
    .scalar_subquery()
)
VERSIONS = _versions
DELETED = STAGE_DELETED_INTERNAL
BESIDE_ALIAS = (
    _OF_MODEL.add_columns(_ALIASED.label("aliased"))
    .where(_versions.c.version.in_([sa.bindparam("number"), _ALIASED]))
    .order_by(None)
)
"""A version and the one that an alias points at, in no order; see `ledger.snapshot`."""
BESIDE_STAGE = _OF_MODEL.where(
    sa.or_(
        _versions.c.version == sa.bindparam("number"),
        _versions.c.current_stage == sa.bindparam("stage"),
    )
).order_by(None)
"""A version and those in a stage, in no order."""
TAGS_OF = (
    VERSION_TAGS.c.workspace == _WORKSPACE,
    VERSION_TAGS.c.name == _NAME,
    VERSION_TAGS.c.version == sa.bindparam("number"),
)


def _read_versions(
    session: Session | sa.Connection,
    query: sa.Select[Any],
    workspace: str,
    name: str,
    **where: object,
) -> list[Version]:
    rows = session.execute(query, {"workspace": workspace, "name": name, **where})
    return [from_row(row) for row in rows]


def from_row(row: Any) -> Version:
    """Make a `Version` of a row of one of the selects here."""
    return to_version(row, is_prompt_model=_is_true(row.prompt_flag))


def _is_true(flag: str | None) -> bool:
    # As MLflow reads it.
    return (flag or "").lower() == "true"


def to_version(row: object, *, is_prompt_model: bool) -> Version:
    """Make a `Version` of a row or of MLflow's ORM object."""
    r: object = row
    fields = ("creation_time", "source", "storage_location", "run_id")
    workspace, name, version = (getattr(r, f) for f in ("workspace", "name", "version"))
    creation_time, source, storage_location, run_id = (getattr(r, f) for f in fields)
    return Version(
        workspace=workspace,
        name=name,
        version=int(version),
        uid=version_uid(
            workspace, name, int(version), creation_time, source, storage_location, run_id
        ),
        stage=getattr(r, "current_stage", None) or "None",
        source=source,
        storage_location=storage_location,
        run_id=run_id,
        is_prompt=is_prompt_model,
        has_files=not is_prompt_model
        or source not in PROMPT_SOURCES
        or storage_location not in (None, *PROMPT_SOURCES),
    )


def find_version(
    session: Session | sa.Connection, workspace: str, name: str, version: int
) -> Version | None:
    """Return a version, or None if it does not exist or is deleted."""
    found = _read_versions(session, _BY_NUMBER, workspace, name, number=version)
    return found[0] if found else None


def all_versions(session: Session, workspace: str, name: str) -> list[Version]:
    """Return every version of a model, lowest first."""
    return _read_versions(session, _OF_MODEL, workspace, name)


def holdings(session: Session, workspace: str, name: str) -> Iterator[tuple[Target, Version]]:
    """Yield every alias with its version and every version with a stage."""
    by_number = {v.version: v for v in all_versions(session, workspace, name)}
    rows = session.execute(
        sa.select(_aliases.c.alias, _aliases.c.version)
        .where(_aliases.c.workspace == workspace, _aliases.c.name == name)
        .order_by(_aliases.c.alias)
    ).all()
    for alias, number in rows:
        if number in by_number:
            yield Target("alias", alias), by_number[number]
    for version in by_number.values():
        if version.stage != "None":
            yield Target("stage", version.stage), version


_COPIED = re.compile(r"models:/(?P<name>[^/@]+)/(?P<version>[1-9][0-9]{0,8})")


def names_a_version(source: str | None) -> bool:
    """Return whether a source is another registered version, as that of a copy is."""
    return _COPIED.fullmatch(source or "") is not None


def copied_from(session: Session, version: Version) -> Version | None:
    """Return the version that this one was copied from, if its source says so."""
    match = _COPIED.fullmatch(version.source or "")
    if match is None:
        return None
    return find_version(session, version.workspace, match["name"], int(match["version"]))


def every_holding(session: Session) -> Iterator[tuple[Target, Version]]:
    """Yield, of all models, every alias with its version and every version with a stage."""
    aliased = _SELECT.add_columns(_aliases.c.alias).join(
        _aliases,
        sa.and_(
            _aliases.c.workspace == _versions.c.workspace,
            _aliases.c.name == _versions.c.name,
            _aliases.c.version == _versions.c.version,
        ),
    )
    for row in session.execute(aliased):
        yield Target("alias", row.alias), from_row(row)
    for row in session.execute(_SELECT.where(_versions.c.current_stage != "None")):
        version = from_row(row)
        yield Target("stage", version.stage), version


def all_models(session: Session) -> list[tuple[str, str]]:
    """Return (workspace, name) of every registered model and prompt."""
    query = sa.select(_models.c.workspace, _models.c.name).order_by(
        _models.c.workspace, _models.c.name
    )
    return [(row.workspace, row.name) for row in session.execute(query)]


_READ_TAGS = sa.select(VERSION_TAGS.c.key, VERSION_TAGS.c.value).where(*TAGS_OF)


def version_tags(session: Session, version: Version) -> dict[str, str | None]:
    """Return the tags of a version."""
    return {row.key: row.value for row in session.execute(_READ_TAGS, where(version))}


def where(version: Version) -> dict[str, Any]:
    """Return the parameters of `TAGS_OF` for a version."""
    return {"workspace": version.workspace, "name": version.name, "number": version.version}


def actual_name(session: Session, workspace: str, name: str) -> str:
    """Return a model's name as the database has it; MySQL finds it by look-alikes too."""
    query = sa.select(_models.c.name).where(
        _models.c.workspace == workspace, _models.c.name == name
    )
    found: str | None = session.execute(query).scalar()
    return found or name


def actual_alias(session: Session, workspace: str, name: str, alias: str) -> str:
    """Return an alias as the database has it, where a call for this one would find it."""
    query = sa.select(_aliases.c.alias).where(
        _aliases.c.workspace == workspace, _aliases.c.name == name, _aliases.c.alias == alias
    )
    found: str | None = session.execute(query).scalar()
    return found or alias


def actual_tag_key(session: Session, version: Version, key: str) -> str:
    """Return the key of the tag that a write to this key would change."""
    query = sa.select(VERSION_TAGS.c.key).where(*TAGS_OF, VERSION_TAGS.c.key == key)
    found: str | None = session.execute(query, where(version)).scalar()
    return found or key
