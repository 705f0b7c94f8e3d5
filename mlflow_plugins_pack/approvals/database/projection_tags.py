"""Writes and reads the projection tags of versions: what approvals write into MLflow's tables.

See `domain.projection` for what the tags say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from mlflow_plugins_pack.approvals.database import batched_writes, mlflow_tables
from mlflow_plugins_pack.approvals.database.mlflow_tables import (
    MODEL_TAGS,
    TAGS_OF,
    VERSION_TAGS,
    VERSIONS,
    Version,
)
from mlflow_plugins_pack.approvals.domain.projection import (
    APPROVAL_SUFFIX,
    REQUEST_SUFFIX,
    HolderApproval,
    TargetStatus,
)
from mlflow_plugins_pack.approvals.domain.tag_names import PROJECTION_PREFIX
from mlflow_plugins_pack.approvals.domain.targets import Target


@dataclass(frozen=True)
class ProjectionTag:
    """A tag by which a version shows where it stands.

    Attributes:
        version: The version that has the tag.
        key: The tag's key.
        text: The tag's value; None: the tag is removed.
    """

    version: Version
    key: str
    text: str | None


def status_tags(version: Version, target: Target, status: TargetStatus) -> list[ProjectionTag]:
    """Return the tags that show a status: the line for people, and the JSON for programs."""
    key = PROJECTION_PREFIX + target.tag
    return [
        ProjectionTag(version, key, status.text),
        ProjectionTag(version, key + REQUEST_SUFFIX, status.to_json()),
    ]


def approval_tag(
    version: Version, target: Target, approval: HolderApproval | None
) -> ProjectionTag:
    """Return the tag that shows by which approval a version holds a target; None: by none."""
    key = PROJECTION_PREFIX + target.tag + APPROVAL_SUFFIX
    return ProjectionTag(version, key, approval.to_json() if approval else None)


_DROP_TAG = sa.delete(VERSION_TAGS).where(*TAGS_OF, VERSION_TAGS.c.key == sa.bindparam("tag"))


def show(session: Session, *tags: ProjectionTag) -> None:
    """Write tags, each version and key at most once."""
    letters = charset_of_tags(session)
    there = [_row(tag, fit(tag.text, letters)) for tag in tags if tag.text is not None]
    gone = [{**mlflow_tables.where(t.version), "tag": t.key} for t in tags if t.text is None]
    batched_writes.write(session, batched_writes.upsert(session, VERSION_TAGS), there)
    batched_writes.write(session, _DROP_TAG, gone)


def fit(text: str, charset: str | None) -> str:
    """Return a text that a column of a character set can hold, with JSON's escapes for the rest.

    MLflow's tables have the database's default, which may be latin1; the record itself is in our
    own tables, which hold every character.

    Args:
        text: The text, such as a line for people or JSON.
        charset: MySQL's name of the character set; None: any character fits.
    """
    if charset is None or charset == "utf8mb4":
        return text
    codec = {"utf8mb3": "utf-16", "utf8": "utf-16", "latin1": "latin-1"}.get(charset, "ascii")
    return "".join(letter if _holds(codec, letter) else json.dumps(letter)[1:-1] for letter in text)


def _holds(codec: str, letter: str) -> bool:
    if codec == "utf-16":  # MySQL's utf8mb3 has the characters of the first plane only
        return ord(letter) < 0x10000
    try:
        letter.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


_CHARSET = "mpp_tag_charset"
_READ_CHARSET = sa.text(
    "SELECT character_set_name FROM information_schema.columns WHERE table_schema = DATABASE() "
    "AND table_name = 'model_version_tags' AND column_name = 'value'"
)


def charset_of_tags(session: Session) -> str | None:
    """Return the character set of tags in MySQL; read once for each connection."""
    connection = session.connection()
    if connection.dialect.name != "mysql":
        return None
    if _CHARSET not in connection.info:
        connection.info[_CHARSET] = connection.execute(_READ_CHARSET).scalar()
    found: str | None = connection.info[_CHARSET]
    return found


def _row(tag: ProjectionTag, text: str) -> dict[str, Any]:
    about = tag.version
    where = {"workspace": about.workspace, "name": about.name, "version": about.version}
    return {**where, "key": tag.key, "value": text}


@dataclass(frozen=True)
class StoredTag:
    """A projection tag as the database has it.

    Attributes:
        workspace: The model's workspace.
        name: The model's name.
        version: The version's number; None: the tag is on the model.
        key: The tag's key.
        value: The tag's value.
    """

    workspace: str
    name: str
    version: int | None
    key: str
    value: str


def stored(
    session: Session, workspace: str | None = None, name: str | None = None
) -> Iterator[StoredTag]:
    """Yield the tags under the reserved prefix, of one model or of all; deleted versions' not."""
    of_version = VERSION_TAGS.join(
        VERSIONS,
        sa.and_(
            VERSIONS.c.workspace == VERSION_TAGS.c.workspace,
            VERSIONS.c.name == VERSION_TAGS.c.name,
            VERSIONS.c.version == VERSION_TAGS.c.version,
            VERSIONS.c.current_stage != mlflow_tables.DELETED,
        ),
    )
    for table, source in ((VERSION_TAGS, of_version), (MODEL_TAGS, MODEL_TAGS)):
        query = sa.select(table).select_from(source).where(_is_reserved(table))
        if workspace is not None:
            query = query.where(table.c.workspace == workspace, table.c.name == name)
        for row in session.execute(query):
            number = row.version if table is VERSION_TAGS else None
            yield StoredTag(row.workspace, row.name, number, row.key, row.value or "")


def _is_reserved(table: sa.Table) -> Any:
    return sa.func.lower(table.c.key).startswith(PROJECTION_PREFIX, autoescape=True)


def remove(session: Session, tag: StoredTag) -> None:
    """Remove a tag."""
    table = MODEL_TAGS if tag.version is None else VERSION_TAGS
    query = sa.delete(table).where(
        table.c.workspace == tag.workspace, table.c.name == tag.name, table.c.key == tag.key
    )
    if tag.version is not None:
        query = query.where(table.c.version == tag.version)
    session.execute(query)
