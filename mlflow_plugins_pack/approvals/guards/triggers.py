"""The SQL of the database guards, for each database; pure.

A trigger cannot read the policy file, so the policy is also kept as rows of LIKE patterns
(`pattern_rows`), and a trigger asks three questions of the row it is about:

- *guarded*: does a policy protect this target of this model, taken as a model or as a prompt?
- *held*: did an approval make this version the holder of such a target (a row of ``mpp_grant``)?
- *admitted*: does this transaction have a row for the model in ``mpp_guard_exemption``? The store
  writes one before an approved change and deletes it after, so it is never committed and no other
  transaction ever sees it.

No trigger names a table of MLflow but its own: SQLite parses every trigger when a migration
renames a rebuilt table, and one that named a table just dropped would stop the migration.
Names that are not plain ASCII count as matched by every pattern, since SQLite cannot fold them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlflow_plugins_pack.approvals.database.transactions import GUARD_CODE
from mlflow_plugins_pack.approvals.domain.matching import fold
from mlflow_plugins_pack.approvals.domain.tag_names import PROMPT_FLAG_TAG
from mlflow_plugins_pack.approvals.policy.models import Policy

TABLES = (
    "registered_models",
    "registered_model_tags",
    "model_versions",
    "model_version_tags",
    "registered_model_aliases",
)
REFUSAL = (
    f"{GUARD_CODE}an approval policy protects this; change it through the MLflow server "
    "(see: mlflow-pack approvals guards)"
)
"""At most 128 characters, MySQL's limit for a signal; it starts with the code others look for."""

# Any other integrity error would do: a driver then raises IntegrityError, as the other databases'
# drivers do, and stock MLflow answers 400. Errors without a number known to the driver become
# "temporarily unavailable", which clients repeat for minutes.
_MYSQL_NUMBER = 1451

_FUNCTIONS = ("mpp_guard_refuses(text, text, text)", "mpp_guard_holds(text, text, integer)")


@dataclass(frozen=True)
class Pattern:
    """One row of ``mpp_guard_pattern``.

    Attributes:
        kind: ``model``, ``prompt`` or ``exclude``.
        policy_index: The policy's index in the file.
        name_like: LIKE pattern (escape ``!``) of folded names.
        workspace_like: LIKE pattern of folded workspaces.
    """

    kind: str
    policy_index: int
    name_like: str
    workspace_like: str


def pattern_rows(policy: Policy) -> tuple[list[Pattern], list[tuple[int, str]]]:
    """Return a policy as patterns, and as (policy index, folded target) pairs."""
    patterns: list[Pattern] = []
    targets: list[tuple[int, str]] = []
    for index, rule in enumerate(policy.file.policies):
        match = rule.match
        for kind, globs in (("model", match.models), ("prompt", match.prompts)):
            patterns += [
                Pattern(kind, index, like(glob), like(workspace))
                for glob in globs
                for workspace in match.workspaces
            ]
        patterns += [Pattern("exclude", index, like(glob), "%") for glob in match.exclude]
        targets += [(index, f"{t.kind}:{fold(t.name)}") for t in rule.all_targets()]
    return patterns, targets


def like(glob: str) -> str:
    """Return the LIKE pattern of a policy's pattern; names of models hold no slash."""
    wild = {"*": "%", "**": "%", "?": "_"}
    tokens = re.split(r"(\*\*|\*|\?)", fold(glob))
    return "".join(wild.get(token) or re.sub(r"([!%_])", r"!\1", token) for token in tokens)


@dataclass(frozen=True)
class _Trigger:
    """A trigger; the condition says when the change is refused."""

    table: str
    event: str
    condition: str

    @property
    def name(self) -> str:
        return f"mpp_guard_{self.table}_{self.event.lower()}"


def trigger_names() -> list[str]:
    """Return the names of all triggers."""
    return [trigger.name for trigger in _triggers("sqlite")]


def install_statements(dialect: str) -> Iterator[str]:
    """Yield the statements that make the triggers, replacing any that are there."""
    yield from remove_statements(dialect)
    if dialect == "postgresql":
        yield from _postgresql_functions()
    for trigger in _triggers(dialect):
        yield from _create(dialect, trigger)


def remove_statements(dialect: str) -> Iterator[str]:
    """Yield the statements that drop the triggers; they succeed where the triggers do not exist."""
    for trigger in _triggers(dialect):
        if dialect == "postgresql":
            yield f"DROP TRIGGER IF EXISTS {trigger.name} ON {trigger.table}"
            yield f"DROP FUNCTION IF EXISTS {trigger.name}()"
        else:
            yield f"DROP TRIGGER IF EXISTS {trigger.name}"
    if dialect == "postgresql":
        for function in _FUNCTIONS:
            yield f"DROP FUNCTION IF EXISTS {function}"


def _create(dialect: str, trigger: _Trigger) -> Iterator[str]:
    head = f"CREATE TRIGGER {trigger.name} BEFORE {trigger.event} ON {trigger.table}"
    if dialect == "sqlite":
        yield f"{head} WHEN {trigger.condition} BEGIN SELECT RAISE(ABORT, '{REFUSAL}'); END"
    elif dialect == "mysql":
        yield (
            f"{head} FOR EACH ROW BEGIN IF {trigger.condition} THEN SIGNAL SQLSTATE '23000' "
            f"SET MYSQL_ERRNO = {_MYSQL_NUMBER}, MESSAGE_TEXT = '{REFUSAL}'; END IF; END"
        )
    else:
        result = "OLD" if trigger.event == "DELETE" else "NEW"
        yield (
            f"CREATE FUNCTION {trigger.name}() RETURNS trigger LANGUAGE plpgsql "
            f"AS $$ BEGIN IF {trigger.condition} THEN RAISE EXCEPTION '{REFUSAL}' "
            f"USING ERRCODE = 'integrity_constraint_violation'; END IF; RETURN {result}; END $$"
        )
        yield f"{head} FOR EACH ROW EXECUTE FUNCTION {trigger.name}()"


# --- the conditions -------------------------------------------------------------------------------


def _triggers(dialect: str) -> Iterator[_Trigger]:
    ask = _Questions(dialect)
    changed = ask.changed

    def refused(row: str, target: str | None) -> str:
        return ask.refused(f"{row}.workspace", f"{row}.name", target)

    def held(row: str) -> str:
        return ask.held(f"{row}.workspace", f"{row}.name", f"{row}.version")

    def alias(row: str) -> str:
        return refused(row, ask.joined("'alias:'", f"{row}.alias"))

    def stage(row: str) -> str:
        return refused(row, ask.joined("'stage:'", f"COALESCE({row}.current_stage, 'None')"))

    def content(row: str) -> str:
        # Of prompts: the rule of `tag_names.is_prompt_content`, as far as SQL can express it.
        key = f"lower({row}.{ask.quoted('key')})"
        return (
            f"((substr({key}, 1, 14) = 'mlflow.prompt.' OR substr({key}, 1, 15) = "
            f"'_mlflow_prompt_') AND {key} <> 'mlflow.prompt.associatedrunids')"
        )

    where = ("workspace", "name")
    table = "registered_model_aliases"
    yield _Trigger(table, "INSERT", alias("NEW"))
    yield _Trigger(
        table,
        "UPDATE",
        f"{changed(*where, 'alias', 'version')} AND ({alias('OLD')} OR {alias('NEW')})",
    )
    yield _Trigger(table, "DELETE", alias("OLD"))

    table = "model_versions"
    yield _Trigger(table, "INSERT", f"({stage('NEW')} OR {held('NEW')})")
    identity = (*where, "version", "creation_time", "source", "storage_location", "run_id")
    yield _Trigger(
        table,
        "UPDATE",
        f"(({changed(*where, 'version', 'current_stage')} AND ({stage('OLD')} OR {stage('NEW')})) "
        f"OR ({changed(*identity)} AND {held('OLD')}))",
    )
    yield _Trigger(table, "DELETE", f"({stage('OLD')} OR {held('OLD')})")

    table = "model_version_tags"
    yield _Trigger(table, "INSERT", f"({content('NEW')} AND {held('NEW')})")
    yield _Trigger(
        table,
        "UPDATE",
        f"({changed(*where, 'version', 'key', 'value')} AND "
        f"(({content('OLD')} AND {held('OLD')}) OR ({content('NEW')} AND {held('NEW')})))",
    )
    yield _Trigger(table, "DELETE", f"({content('OLD')} AND {held('OLD')})")

    # Without the flag a prompt would leave the prompts' policies, and its alias would be free.
    table = "registered_model_tags"
    quoted = ask.quoted("key")

    def unflagged(row: str) -> str:
        return f"lower({row}.{quoted}) = '{PROMPT_FLAG_TAG}' AND {refused(row, None)}"

    yield _Trigger(
        table, "INSERT", f"COALESCE(lower(NEW.value), '') <> 'true' AND {unflagged('NEW')}"
    )
    yield _Trigger(table, "UPDATE", f"{changed('key', 'value')} AND {unflagged('OLD')}")
    yield _Trigger(table, "DELETE", unflagged("OLD"))

    # Rows that the database moves or deletes along with their model fire no trigger in MySQL.
    table = "registered_models"
    of_any = ask.held("OLD.workspace", "OLD.name", None)
    yield _Trigger(table, "UPDATE", f"{changed(*where)} AND ({of_any} OR {refused('NEW', None)})")
    yield _Trigger(table, "DELETE", of_any)


class _Questions:
    """Writes the three questions in a database's SQL."""

    def __init__(self, dialect: str) -> None:
        self._dialect = dialect

    def quoted(self, column: str) -> str:
        return f"`{column}`" if self._dialect == "mysql" else column

    def joined(self, *parts: str) -> str:
        return f"concat({', '.join(parts)})" if self._dialect == "mysql" else " || ".join(parts)

    def changed(self, *columns: str) -> str:
        differs = {"sqlite": "{} IS NOT {}", "postgresql": "{} IS DISTINCT FROM {}"}.get(
            self._dialect, "NOT ({} <=> {})"
        )
        pairs = (differs.format(f"OLD.{self.quoted(c)}", f"NEW.{self.quoted(c)}") for c in columns)
        return f"({' OR '.join(pairs)})"

    def refused(self, workspace: str, name: str, target: str | None) -> str:
        """Guarded and not admitted; without a target: governed by any policy at all."""
        if self._dialect == "postgresql":
            return f"mpp_guard_refuses({workspace}, {name}, {target or 'NULL'})"
        return self.refused_in_full(workspace, name, target)

    def refused_in_full(self, workspace: str, name: str, target: str | None) -> str:
        admitted = (
            "EXISTS (SELECT 1 FROM mpp_guard_exemption p "
            f"WHERE p.workspace = {workspace} AND p.name = {name})"
        )
        return f"({self._guarded(workspace, name, target)} AND NOT {admitted})"

    def held(self, workspace: str, name: str, version: str | None) -> str:
        """A holder by approval of what is guarded, and not admitted; or any of a model's."""
        if self._dialect == "postgresql":
            return f"mpp_guard_holds({workspace}, {name}, {version or 'NULL'})"
        return self.held_in_full(workspace, name, version)

    def held_in_full(self, workspace: str, name: str, version: str | None) -> str:
        which = f"AND g.version = {version} " if version else ""
        return (
            "EXISTS (SELECT 1 FROM mpp_grant g "
            f"WHERE g.workspace = {workspace} AND g.name = {name} {which}"
            f"AND {self.refused_in_full('g.workspace', 'g.name', 'g.target')})"
        )

    def _guarded(self, workspace: str, name: str, target: str | None) -> str:
        """Some policy that matches, as a model or as a prompt, protects the target."""
        odd = self._odd(name)

        def fits(row: str) -> str:
            return (
                f"lower(trim({name})) LIKE {row}.name_like ESCAPE '!' "
                f"AND lower(trim({workspace})) LIKE {row}.workspace_like ESCAPE '!'"
            )

        def not_excluded(row: str, other: str) -> str:
            return (
                f"NOT EXISTS (SELECT 1 FROM mpp_guard_pattern {other} WHERE {other}.kind = "
                f"'exclude' AND {other}.policy_index = {row}.policy_index AND {fits(other)})"
            )

        governs = f"(({fits('a')} AND {not_excluded('a', 'd')}) OR {odd})"
        query = f"SELECT 1 FROM mpp_guard_pattern a WHERE a.kind <> 'exclude' AND {governs}"
        if target is not None:
            strange = f"({self._odd(target)} AND substr(t.target, 1, 6) = 'alias:')"
            query += (
                " AND EXISTS (SELECT 1 FROM mpp_guard_target t WHERE "
                f"t.policy_index = a.policy_index AND (t.target = lower({target}) OR {strange}))"
            )
        return f"EXISTS ({query})"

    def _odd(self, text: str) -> str:
        """Holds anything but printable ASCII."""
        if self._dialect == "sqlite":
            return f"{text} GLOB '*[^ -~]*'"
        if self._dialect == "postgresql":
            return f"""{text} ~ '[^ -~]' COLLATE "C\""""
        # Where case is ignored, U+017F is an s and thus in the range; latin1 has no such collation.
        return f"CONVERT({text} USING utf8mb4) COLLATE utf8mb4_bin REGEXP '[^ -~]'"


def _postgresql_functions() -> Iterator[str]:
    """Yield the questions as functions: they read our tables with their owner's rights.

    An account that may write MLflow's tables and not ours is refused like every other.
    """
    ask = _Questions("postgresql")
    definer = "LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT"
    refused: list[Any] = [ask.refused_in_full("ws", "nm", target) for target in ("tg", None)]
    yield (
        f"CREATE FUNCTION mpp_guard_refuses(ws text, nm text, tg text) RETURNS boolean {definer} "
        f"AS $$ BEGIN IF tg IS NULL THEN RETURN {refused[1]}; END IF; "
        f"RETURN {refused[0]}; END $$"
    )
    held = [ask.held_in_full("ws", "nm", version) for version in ("vn", None)]
    yield (
        f"CREATE FUNCTION mpp_guard_holds(ws text, nm text, vn integer) RETURNS boolean {definer} "
        f"AS $$ BEGIN IF vn IS NULL THEN RETURN {held[1]}; END IF; RETURN {held[0]}; END $$"
    )
