# ruff: noqa: E501 - rows of tables
"""Write docs/reference/ from the code: settings, commands, errors, tags, tables, URIs, REST, schemas.

    python scripts/make_reference.py

tests/docs/test_documentation.py fails when a page is not what this would write.
"""

from __future__ import annotations

import configparser
import inspect
import json
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parent.parent
FOLDER = CHECKOUT / "docs" / "reference"

_MADE = "<!-- Written by scripts/make_reference.py; change the code, not this page. -->\n"


def _table(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    head = list(head)
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in rows:
        cells = (str(cell).replace("|", "\\|").replace("\n", " ") for cell in row)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


# --- settings -----------------------------------------------------------------------------------


def _shown_default(value: object) -> str:
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, (tuple, frozenset)):
        return f"`{','.join(map(str, value))}`" if value else "not set"
    return "not set" if value in ("", None) else f"`{value}`"


def settings_page() -> str:
    """Return the page of all environment variables."""
    from mlflow_plugins_pack import settings

    rows = [
        (f"`{one.name}`", one.meaning, one.type_name, _shown_default(one.default))
        for one in settings.all_settings()
    ]
    return f"""# Settings

{_MADE}
The pack reads these environment variables when it needs them, never on import. Credentials and
endpoints of storage and databases are read as stock MLflow reads them (`AWS_*`,
`MLFLOW_S3_ENDPOINT_URL`, `AZURE_STORAGE_CONNECTION_STRING`, ...). The parts of a list are separated
by commas. A value of another type is an error of the call that needs it, which names the setting.

{_table(("setting", "meaning", "type", "default"), rows)}"""


# --- commands -----------------------------------------------------------------------------------


def _plain(text: str) -> str:
    return inspect.cleandoc(text).replace("\b\n", "")


def _commands(group: object, words: tuple[str, ...]) -> Iterator[str]:
    import click

    if not isinstance(group, click.Group):
        raise TypeError(group)
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        path = (*words, name)
        usage = " ".join([*path, *command.collect_usage_pieces(click.Context(command))])
        yield f"{'##' if len(path) == 2 else '###'} {' '.join(path)}\n"
        if not isinstance(command, click.Group):
            yield f"```text\n{usage}\n```\n"
        yield _plain(command.help or "") + "\n"
        rows = []
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                names, meaning = parameter.get_help_record(click.Context(command)) or ("", "")
                rows.append((f"`{names}`", meaning))
        if rows:
            yield _table(("option", "meaning"), rows)
        if isinstance(command, click.Group):
            yield from _commands(command, path)


def commands_page() -> str:
    """Return the page of all commands with their options."""
    from mlflow_plugins_pack.cli.main import cli

    body = "\n".join(_commands(cli, ("mlflow-pack",)))
    return f"""# Commands

{_MADE}
Every command prints this with `--help`; listings print JSON with `--json`. Exit codes: 0 done,
1 refused or found wrong, 2 wrong usage; `approvals wait` and `apply` end with 3 when the time is up.

{body}"""


# --- errors -------------------------------------------------------------------------------------


def _errors(base: type, depth: int = 0) -> Iterator[tuple[str, str, str, str]]:
    from mlflow.exceptions import ERROR_CODE_TO_HTTP_STATUS
    from mlflow.protos.databricks_pb2 import ErrorCode

    summary = inspect.cleandoc(base.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    name = ErrorCode.Name(base.status)
    status = ERROR_CODE_TO_HTTP_STATUS.get(name, 500)
    # Other modules derive errors of their own, which count only if they happen to be imported.
    children = [kind for kind in base.__subclasses__() if kind.__module__ == base.__module__]
    shown_status = "" if children and not base.code else str(status)
    yield (
        "&nbsp;" * 4 * depth + f"`{base.__name__}`",
        f"`{base.code}`" if base.code else "",
        shown_status,
        summary,
    )
    for child in children:
        yield from _errors(child, depth + 1)


def errors_page() -> str:
    """Return the page of all error classes and the codes that begin their messages."""
    from mlflow_plugins_pack.errors import PackError

    rows = _errors(PackError)
    return f"""# Errors

{_MADE}
Every error the pack raises on purpose is a `mlflow_plugins_pack.errors.PackError`, which is an
`MlflowException`. A refusal of the approvals begins with its code, followed by a colon; scripts may
rely on the code and the class, never on the sentence after it. The message says what happened,
what was not changed, and what to do next. HTTP is the status with which a server answers.

{_table(("class", "code", "HTTP", "meaning"), rows)}"""


# --- tags ---------------------------------------------------------------------------------------

_COMMAND_TAGS = {
    "request": "Asks for the version to become the target.",
    "approve": "Approves the open request.",
    "withdraw": "Withdraws the user's approval while the request is pending.",
    "reject": "Rejects the open request.",
    "cancel": "Cancels the user's own request.",
    "comment": "Adds a comment.",
    "comment.edit": "Replaces the user's newest comment.",
    "comment.delete": "Deletes the user's newest comment.",
    "break_glass": "Promotes without approval in an emergency; a review follows.",
    "break_glass.demote": "Takes the target away in an emergency; a review follows.",
}

_LINEAGE_TAGS = {
    "inputs": "JSON list of what was read.",
    "outputs": "JSON list of what the program's own code wrote.",
    "digest": "One digest over the contents of all data and models that were read.",
    "upstream.runs": "JSON list of the runs whose artifacts or files were read.",
    "upstream.models": "JSON list of the model versions that were fetched, aliases resolved.",
    "code": "JSON object: entry script and its digest, git commit, uncommitted changes.",
    "env": "JSON object: Python, platform, and one digest over all installed packages.",
    "coverage": "JSON object: the capture layers that were on, and libraries they cannot see into.",
    "truncated": "JSON object, if a list was shortened: what was rolled up, left out or dropped.",
    "schema": "Version of these tags; set when the run is created.",
}


_SHIPPING_TAGS = {
    "id": "Names the shipment; on the version at the target.",
    "from": "JSON object: server, version, run, model and digest at the source; on the version, run "
    "and logged model at the target.",
    "attestation": "The approvals of the source, signed; on the version at the target.",
    "run": "The id at the source; on the run at the target.",
    "model": "The id at the source; on the logged model at the target.",
    "to.PLACE": "JSON object: server, version and digest at the target; on the version at the "
    "source. PLACE stands for one target.",
}


def tags_page() -> str:
    """Return the page of all tags that the pack reads or writes."""
    from mlflow_plugins_pack.approvals.domain.projection import APPROVAL_SUFFIX, REQUEST_SUFFIX
    from mlflow_plugins_pack.approvals.domain.tag_names import (
        COMMAND_PREFIX,
        COMMANDS,
        PROJECTION_PREFIX,
    )
    from mlflow_plugins_pack.lineage.document.tags import PREFIX
    from mlflow_plugins_pack.shipping.record import PREFIX as SHIPPED

    commands = [(f"`{COMMAND_PREFIX}{name}`", _COMMAND_TAGS[name]) for name in COMMANDS]
    states = [
        (f"`{PROJECTION_PREFIX}TARGET`", "The state of the request in words, for people to read."),
        (
            f"`{PROJECTION_PREFIX}TARGET{REQUEST_SUFFIX}`",
            "JSON object: the newest request's state, votes, basis and progress, for programs.",
        ),
        (
            f"`{PROJECTION_PREFIX}TARGET{APPROVAL_SUFFIX}`",
            "JSON object: the request that the version holds the target by, and its digest.",
        ),
    ]
    lineage = [(f"`{PREFIX}{name}`", meaning) for name, meaning in _LINEAGE_TAGS.items()]
    shipped = [(f"`{SHIPPED}{name}`", meaning) for name, meaning in _SHIPPING_TAGS.items()]
    return f"""# Tags

{_MADE}
## Commands of the approvals

Set on a model version or prompt version, by a signed-in user, with the value `TARGET: comment`,
where TARGET is an alias or `stage:NAME`; or `TARGET #ID: comment`, to vote for, reject or cancel the request of
that id and no other. A command tag is carried out, not stored.

{_table(("tag", "meaning"), commands)}
## States of the approvals

Written by the registry store alone, on the version that a request is about.

{_table(("tag", "value"), states)}
## Lineage

Written on runs, and copied to logged models and model versions as [the record](lineage-record.md) says.

{_table(("tag", "value"), lineage)}
## Shipping

Written by `mlflow-pack ship`, at both ends.

{_table(("tag", "value"), shipped)}"""


# --- tables -------------------------------------------------------------------------------------


def tables_page() -> str:
    """Return the page of all tables in the registry's database."""
    from mlflow_plugins_pack.approvals.database import tables

    parts = []
    for table in tables.metadata.tables.values():
        rows = []
        for column in table.columns:
            notes = []
            if column.primary_key:
                notes.append("primary key")
            if column.unique:
                notes.append("unique")
            if column.nullable:
                notes.append("may be NULL")
            rows.append((f"`{column.name}`", str(column.type), ", ".join(notes)))
        about = table.info.get("meaning")
        parts.append(
            f"## {table.name}\n\n"
            + (f"{about}\n\n" if about else "")
            + _table(("column", "type", ""), rows)
        )
    body = "\n".join(parts)
    return f"""# Tables of the approvals

{_MADE}
The registry store keeps these in the registry's database, next to MLflow's own tables, to which no
foreign key points. Times are milliseconds since 1970. `mlflow-pack approvals db upgrade` creates and
upgrades them; their revision is in `{tables.VERSION_TABLE}`.

{body}"""


# --- URI schemes --------------------------------------------------------------------------------


def schemes_page() -> str:
    """Return the page of everything that stock MLflow loads by an entry point."""
    setup = configparser.ConfigParser()
    setup.read(CHECKOUT / "setup.cfg")
    parts = []
    for group, text in setup["options.entry_points"].items():
        if not group.startswith("mlflow."):
            continue
        rows = []
        for line in text.strip().splitlines():
            name, _, target = line.partition("=")
            rows.append((f"`{name.strip()}`", f"`{target.strip()}`"))
        parts.append(f"## {group}\n\n" + _table(("name", "object"), rows))
    body = "\n".join(parts)
    return f"""# URI schemes and entry points

{_MADE}
| | stock | with the pack |
|---|---|---|
| `--registry-store-uri` | `sqlite:///mlflow.db` | `approval-sqlite:///mlflow.db` |
| | `postgresql://user@host/db` | `approval-postgresql://user@host/db` |
| | `mysql+pymysql://user@host/db` | `approval-mysql+pymysql://user@host/db` |
| `--artifacts-destination`, `--default-artifact-root` | `/srv/artifacts` | `cas-file:///srv/artifacts` |
| | `s3://bucket/prefix` | `cas-s3://bucket/prefix` |
| | `gs://bucket/prefix` | `cas-gs://bucket/prefix` |
| | `wasbs://container@account.blob.core.windows.net/prefix` | `cas-wasbs://container@account.blob.core.windows.net/prefix` |
| | `abfss://container@account.dfs.core.windows.net/prefix` | `cas-abfss://container@account.dfs.core.windows.net/prefix` |
| `--backend-store-uri` | any database | unchanged |
| a client's tracking URI | `https://mlflow.example.com` | unchanged |

The word and a hyphen go in front of the stock URI. `sqlite+approval://` would open the stock store
and enforce nothing; `mlflow-pack doctor` finds that and other misleading URIs. An `approval-` scheme
that is listed here for a database that is not served is registered to explain the refusal.

{body}"""


# --- files that people write --------------------------------------------------------------------

_DURATION = "^[0-9]+[smhd]$"


def _with_durations(schema: Any) -> Any:
    """Return a JSON Schema in which defaults of durations are written as people write them."""
    from mlflow_plugins_pack.settings import format_duration

    if isinstance(schema, list):
        return [_with_durations(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    shown = {key: _with_durations(value) for key, value in schema.items()}
    if shown.get("pattern") == _DURATION and isinstance(shown.get("default"), int):
        shown["default"] = format_duration(shown["default"])
    return shown


def _policy_schema() -> dict[str, Any]:
    from mlflow_plugins_pack.approvals.policy.models import PolicyFile

    schema: dict[str, Any] = _with_durations(PolicyFile.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema


def _type_of(schema: dict[str, Any]) -> str:
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_type_of(one) for one in schema[key] if one.get("type") != "null")
    if "const" in schema:
        return f"`{schema['const']}`"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if schema.get("pattern") == _DURATION:
        return "duration"
    if schema.get("type") == "array":
        return f"list of {_type_of(schema.get('items', {}))}"
    if schema.get("type") == "object":
        return f"map to {_type_of(schema.get('additionalProperties', {}))}"
    return str(schema.get("type", "any"))


def _keys_of(name: str, schema: dict[str, Any]) -> str:
    required = schema.get("required", [])
    rows = []
    for key, one in schema.get("properties", {}).items():
        default = one.get("default")
        if default is None or isinstance(default, dict):
            shown = "required" if key in required else ""
        else:
            shown = f"`{json.dumps(default, ensure_ascii=False)}`"
        rows.append((f"`{key}`", _type_of(one), shown))
    about = inspect.cleandoc(schema.get("description", "")).partition("\n\n")[0]
    return f"## {name}\n\n{about}\n\n" + _table(("key", "value", "default"), rows)


def policy_page() -> str:
    """Return the page of the policy file's keys."""
    schema = _policy_schema()
    parts = [_keys_of("PolicyFile", schema)]
    parts += [_keys_of(name, one) for name, one in schema["$defs"].items()]
    body = "\n".join(parts)
    return f"""# Policy file

{_MADE}
Every key of the file that `MLFLOW_PACK_APPROVALS_POLICY` names; [what the rules mean](policy-rules.md) explains
them with examples. Unknown keys are errors. A duration is a number and one of `s`, `m`, `h`, `d`. The same
as [JSON Schema](policy.schema.json), for editors; `mlflow-pack approvals policy validate` checks more.

{body}"""


def _profiles_schema() -> dict[str, Any]:
    from pydantic import TypeAdapter

    from mlflow_plugins_pack.auth.profiles.models import KNOWN_SOURCES, SourceProfile

    one: dict[str, Any] = TypeAdapter(SourceProfile).json_schema()
    chain = {
        "description": "Several sources, tried in order; each takes its own keys.",
        "type": "object",
        "properties": {
            "source": {
                "type": "array",
                "items": {"enum": list(KNOWN_SOURCES)},
                "minItems": 2,
            },
        },
        "required": ["hosts", "source"],
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Sign-in profiles of mlflow-plugins-pack (auth.toml)",
        "type": "object",
        "properties": {
            "profile": {
                "type": "object",
                "additionalProperties": {"anyOf": [*one["anyOf"], chain]},
            },
        },
        "additionalProperties": False,
        "$defs": one["$defs"],
    }


# --- REST ---------------------------------------------------------------------------------------


def _openapi() -> dict[str, Any]:
    from mlflow_plugins_pack.approvals.api.app import create_api

    # The description of the endpoints needs no registry.
    document: dict[str, Any] = create_api(None).openapi()  # type: ignore[arg-type]
    return document


def rest_page() -> str:
    """Return the page of the review app's endpoints."""
    document = _openapi()
    rows = [
        (f"`{method.upper()}`", f"`{path}`", inspect.cleandoc(_summary(call)).replace("\n", " "))
        for path, calls in document["paths"].items()
        for method, call in calls.items()
    ]
    return f"""# REST

{_MADE}
The endpoints of the [review app](review-app.md), which also says who may call them. A running app serves
their OpenAPI document at `/approvals/api/v1/openapi.json`; it is [published here](openapi.json), too.
Errors have MLflow's `error_code` and `message`, and the approvals' `pack_code`, one of the
[codes](errors.md).

{_table(("method", "path", "does"), rows)}"""


def _summary(call: dict[str, Any]) -> str:
    return str(call.get("description") or call.get("summary") or "").partition("\n\n")[0]


def python_page() -> str:
    """Return the page of the Python API, whose text the site takes from the docstrings."""
    return f"""# Python

{_MADE}
::: mlflow_plugins_pack.lineage.attach

::: mlflow_plugins_pack.lineage.query.api
"""


def pages() -> dict[str, str]:
    """Return the text of each page by its file name."""
    made = {
        "settings.md": settings_page(),
        "commands.md": commands_page(),
        "errors.md": errors_page(),
        "tags.md": tags_page(),
        "tables.md": tables_page(),
        "uris.md": schemes_page(),
        "policy.md": policy_page(),
        "rest.md": rest_page(),
        "python.md": python_page(),
        "policy.schema.json": _as_json(_policy_schema()),
        "profiles.schema.json": _as_json(_profiles_schema()),
        "openapi.json": _as_json(_openapi()),
    }
    return {name: re.sub(r"[ \t]+\n", "\n", text).rstrip() + "\n" for name, text in made.items()}


def _as_json(document: dict[str, Any]) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False)


def main() -> int:
    """Write the pages."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
