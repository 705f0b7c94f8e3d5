"""What approvals read from MLflow's registry tables, and the one thing they write: projection tags.

The only module that names MLflow's table classes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from mlflow.entities.model_registry.model_version_stages import STAGE_DELETED_INTERNAL
from mlflow.store.model_registry.dbmodels.models import (
    SqlModelVersion,
    SqlModelVersionTag,
    SqlRegisteredModel,
    SqlRegisteredModelAlias,
    SqlRegisteredModelTag,
)
from mlflow.utils.validation import _validate_model_version
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.names import (
    DIGEST_SUFFIX,
    PROJECTION_PREFIX,
    PROMPT_FLAG_TAG,
    PROMPT_SOURCES,
    Target,
    version_uid,
)

_models = SqlRegisteredModel.__table__
_versions = SqlModelVersion.__table__
_aliases = SqlRegisteredModelAlias.__table__
_version_tags = SqlModelVersionTag.__table__
_model_tags = SqlRegisteredModelTag.__table__


@dataclass(frozen=True)
class Version:
    """A registered version as the database has it.

    Attributes:
        is_prompt: Whether the model is flagged as a prompt, so that its text can be loaded.
        has_files: Whether it has a real source, so that it can be loaded as a model. A version
            may be both: no flag makes a real model something else.
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
        MlflowException: If it is none.
    """
    _validate_model_version(version)  # which returns the number since MLflow 3.16 only
    return int(version)


def lock_model(session: Session, workspace: str, name: str) -> bool:
    """Lock a model against other approvals until the transaction ends; False if there is none.

    Must be the transaction's first statement: in MySQL a snapshot taken before would stay old.
    """
    # FOR NO KEY UPDATE where there is such a thing: new versions and tags need not wait.
    query = (
        sa.select(_models.c.name)
        .where(_models.c.workspace == workspace, _models.c.name == name)
        .with_for_update(key_share=True)
    )
    return session.execute(query).first() is not None


def is_prompt_model(session: Session, workspace: str, name: str) -> bool:
    """Tell whether the registered model is flagged as a prompt."""
    value = session.execute(
        sa.select(_model_tags.c.value).where(
            _model_tags.c.workspace == workspace,
            _model_tags.c.name == name,
            _model_tags.c.key == PROMPT_FLAG_TAG,
        )
    ).scalar()
    return _is_true(value)


def _select_versions() -> sa.Select[Any]:
    """Select the versions that are not deleted, each with its model's flag of a prompt."""
    flag = (
        sa.select(_model_tags.c.value)
        .where(
            _model_tags.c.workspace == _versions.c.workspace,
            _model_tags.c.name == _versions.c.name,
            _model_tags.c.key == PROMPT_FLAG_TAG,
        )
        .scalar_subquery()
        .label("prompt_flag")
    )
    return sa.select(_versions, flag).where(_versions.c.current_stage != STAGE_DELETED_INTERNAL)


def _read_versions(session: Session, workspace: str, name: str, *where: object) -> list[Version]:
    rows = session.execute(
        _select_versions()
        .where(
            _versions.c.workspace == workspace,
            _versions.c.name == name,
            *where,  # type: ignore[arg-type]
        )
        .order_by(_versions.c.version)
    )
    return [to_version(row, is_prompt_model=_is_true(row.prompt_flag)) for row in rows]


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


def find_version(session: Session, workspace: str, name: str, version: int) -> Version | None:
    """Return a version, or None if it is not there or deleted."""
    found = _read_versions(session, workspace, name, _versions.c.version == version)
    return found[0] if found else None


def all_versions(session: Session, workspace: str, name: str) -> list[Version]:
    """Return every version of a model, lowest first."""
    return _read_versions(session, workspace, name)


def find_alias(session: Session, workspace: str, name: str, alias: str) -> Version | None:
    """Return the version an alias points at."""
    number = (
        sa.select(_aliases.c.version)
        .where(
            _aliases.c.workspace == workspace,
            _aliases.c.name == name,
            _aliases.c.alias == alias,
        )
        .scalar_subquery()
    )
    found = _read_versions(session, workspace, name, _versions.c.version == number)
    return found[0] if found else None


def in_stage(session: Session, workspace: str, name: str, stage: str) -> list[Version]:
    """Return the versions in a stage, lowest first; `get_latest_versions` gives the last."""
    return _read_versions(session, workspace, name, _versions.c.current_stage == stage)


def holder(session: Session, workspace: str, name: str, target: Target) -> Version | None:
    """Return the version that a target stands for now."""
    if target.kind == "alias":
        return find_alias(session, workspace, name, target.name)
    staged = in_stage(session, workspace, name, target.name)
    return staged[-1] if staged else None


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


def copied_from(session: Session, version: Version) -> Version | None:
    """Return the version that this one was copied from, if its source says so."""
    match = _COPIED.fullmatch(version.source or "")
    if match is None:
        return None
    return find_version(session, version.workspace, match["name"], int(match["version"]))


def every_holding(session: Session) -> Iterator[tuple[Target, Version]]:
    """Yield, of all models, every alias with its version and every version with a stage."""
    query = _select_versions()
    aliased = query.add_columns(_aliases.c.alias).join(
        _aliases,
        sa.and_(
            _aliases.c.workspace == _versions.c.workspace,
            _aliases.c.name == _versions.c.name,
            _aliases.c.version == _versions.c.version,
        ),
    )
    for row in session.execute(aliased):
        yield Target("alias", row.alias), to_version(row, is_prompt_model=_is_true(row.prompt_flag))
    for row in session.execute(query.where(_versions.c.current_stage != "None")):
        version = to_version(row, is_prompt_model=_is_true(row.prompt_flag))
        yield Target("stage", version.stage), version


def all_models(session: Session) -> list[tuple[str, str]]:
    """Return (workspace, name) of every registered model and prompt."""
    query = sa.select(_models.c.workspace, _models.c.name).order_by(
        _models.c.workspace, _models.c.name
    )
    return [(row.workspace, row.name) for row in session.execute(query)]


def version_tags(session: Session, version: Version) -> dict[str, str | None]:
    """Return the tags of a version."""
    rows = session.execute(
        sa.select(_version_tags.c.key, _version_tags.c.value).where(*_tag_where(version))
    )
    return {row.key: row.value for row in rows}


def _tag_where(version: Version) -> list[sa.ColumnElement[bool]]:
    return [
        _version_tags.c.workspace == version.workspace,
        _version_tags.c.name == version.name,
        _version_tags.c.version == version.version,
    ]


def actual_name(session: Session, workspace: str, name: str) -> str:
    """Return a model's name as the database has it; MySQL finds it by look-alikes too."""
    query = sa.select(_models.c.name).where(
        _models.c.workspace == workspace, _models.c.name == name
    )
    found: str | None = session.execute(query).scalar()
    return found or name


def actual_tag_key(session: Session, version: Version, key: str) -> str:
    """Return the key of the tag that a write to this key would change."""
    query = sa.select(_version_tags.c.key).where(*_tag_where(version), _version_tags.c.key == key)
    found: str | None = session.execute(query).scalar()
    return found or key


def project(session: Session, version: Version, target: Target, text: str) -> None:
    """Show a target's state as a tag of the version; people and filters read it, nothing else."""
    _show(session, version, PROJECTION_PREFIX + target.tag, text)


def project_digest(session: Session, version: Version, target: Target, digest: str | None) -> None:
    """Show the digest with which the version holds a target, for whoever deploys it; None: it
    holds it no more.
    """
    key = PROJECTION_PREFIX + target.tag + DIGEST_SUFFIX
    if digest is None:
        session.execute(
            sa.delete(_version_tags).where(*_tag_where(version), _version_tags.c.key == key)
        )
    else:
        _show(session, version, key, digest)


def _show(session: Session, version: Version, key: str, text: str) -> None:
    updated = session.execute(
        sa.update(_version_tags)
        .where(*_tag_where(version), _version_tags.c.key == key)
        .values(value=text)
    )
    if updated.rowcount == 0:  # type: ignore[attr-defined]
        session.execute(
            sa.insert(_version_tags).values(
                workspace=version.workspace,
                name=version.name,
                version=version.version,
                key=key,
                value=text,
            )
        )
