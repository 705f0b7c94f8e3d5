"""Parses a policy file and names every mistake with its line; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import yaml
from pydantic import ValidationError

from mlflow_plugins_pack.approvals.domain.request_states import is_satisfiable
from mlflow_plugins_pack.approvals.policy.models import Policy, PolicyFile
from mlflow_plugins_pack.errors import PolicyInvalidError
from mlflow_plugins_pack.identity.roles import CLAIM, ROLE, claims_in, has_roles

MAX_POLICY_BYTES = 60_000
"""The text is kept with requests, in a column that holds 64 KiB in MySQL."""

_MAX_DEPTH = 12
_MAX_NODES = 20_000


def parse_policy(text: str, origin: str) -> Policy:
    """Read and check a policy file.

    Args:
        text: YAML.
        origin: The file's name, for messages.

    Raises:
        PolicyInvalidError: With line, key and what was expected, for every mistake.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise _invalid(origin, [f"it is larger than {MAX_POLICY_BYTES} bytes"])
    lines: dict[tuple[Any, ...], int] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = _plain(node, (), lines) if node is not None else None
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(exc, "problem", None) or exc
        raise _invalid(origin, [f"{where}{problem}"]) from exc
    except RecursionError as exc:
        raise _invalid(origin, ["it is nested too deeply"]) from exc
    if not isinstance(data, dict):
        raise _invalid(origin, ["it must be a mapping that starts with 'version: 1'"])
    try:
        content = PolicyFile.model_validate(data)
    except ValidationError as exc:
        raise _invalid(origin, _explain(exc, lines)) from exc
    if problems := list(_contradictions(content, lines)):
        raise _invalid(origin, problems)
    return Policy(content, text, hashlib.sha256(text.encode()).hexdigest())


def _plain(node: yaml.Node, path: tuple[Any, ...], lines: dict[tuple[Any, ...], int]) -> Any:
    """Turn a YAML node into plain values, noting each one's line and refusing doubled keys."""
    lines.setdefault(path, node.start_mark.line + 1)
    if len(lines) > _MAX_NODES:  # anchors can make much of little text
        raise yaml.MarkedYAMLError(problem="it has too many values", problem_mark=node.start_mark)
    if len(path) > _MAX_DEPTH:
        raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), lines) for index, item in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        result: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(
                    problem="a key must be a plain word", problem_mark=key_node.start_mark
                )
            if key in result:
                raise yaml.MarkedYAMLError(
                    problem=f"the key {key!r} is listed twice", problem_mark=key_node.start_mark
                )
            at = (*path, key)
            lines[at] = key_node.start_mark.line + 1
            result[key] = _plain(value_node, at, lines)
        return result
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except ValueError as exc:  # a date or a number that does not exist
        raise yaml.MarkedYAMLError(problem=str(exc), problem_mark=node.start_mark) from exc
    except (AttributeError, LookupError, TypeError) as exc:  # a tag such as !!bool before a word
        raise yaml.MarkedYAMLError(
            problem=f"this is not a value of {node.tag}", problem_mark=node.start_mark
        ) from exc
    finally:
        loader.dispose()


def _explain(exc: ValidationError, lines: dict[tuple[Any, ...], int]) -> list[str]:
    problems = []
    for error in exc.errors():
        # What stands in brackets names a kind of check for pydantic; it is not a key.
        path = tuple(part for part in error["loc"] if not str(part).startswith("("))
        at = path
        while at and at not in lines:
            at = at[:-1]
        line = lines.get(at, 1)
        key = ".".join(str(part) for part in path)
        message = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            message = "unknown key"
        elif error["type"] == "string_type":
            message = f"expected text, found {error['input']!r}; put it in quotes"
        elif error["type"] == "missing":
            message = "this key is missing"
        problems.append((error["type"] != "extra_forbidden", f"line {line}: {key}: {message}"))
    return [text for _, text in sorted(problems)]


def _contradictions(content: PolicyFile, lines: dict[tuple[Any, ...], int]) -> Iterator[str]:
    for group, members in content.groups.items():
        if claims_in({group: members}) and not content.identity.gives_groups:
            yield (
                f"line {lines.get(('groups', group), 1)}: groups.{group}: no source under "
                f"'identity' gives groups, so a '{CLAIM}' member matches no one; set "
                "jwt.groups_claim or trusted_header.groups_header, or use the source oidc"
            )
    for group, members in content.groups.items():
        for member in members:
            if member.startswith("group:"):
                yield (
                    f"line {lines.get(('groups', group), 1)}: groups.{group}: {member!r} is not "
                    "a user: list the users of that group here too"
                )
    names: set[str] = set()
    for index, rule in enumerate(content.policies):
        at = ("policies", index)

        def line(key: str, at: tuple[Any, ...] = at, name: str = rule.name) -> str:
            return f"line {lines.get((*at, key), lines.get(at, 1))}: policy '{name}': "

        if rule.name in names:
            yield line("name") + "another policy has this name"
        names.add(rule.name)
        if not rule.match.models and not rule.match.prompts:
            yield line("match") + "name at least one pattern under models or prompts"
        if not rule.targets.aliases and not rule.targets.stages:
            yield line("targets") + "name at least one alias or stage"
        unknown = [("approvals", part.group) for part in rule.approvals]
        if rule.break_glass is not None:
            unknown.append(("break_glass", rule.break_glass.group))
        principals = [("checks", who) for check in rule.checks for who in check.principals]
        if rule.consume is not None:
            principals += [("consume", who) for who in rule.consume.principals]
        for key, who in principals:
            if who.startswith((ROLE, CLAIM)):
                yield line(key) + f"put {who!r} into a group, and name that as 'group:NAME'"
        unknown += [
            (key, who.removeprefix("group:")) for key, who in principals if who.startswith("group:")
        ]
        unknown = [(key, group) for key, group in unknown if group not in content.groups]
        for key, group in unknown:
            yield line(key) + f"the group {group!r} is not under 'groups'"
        if unknown:
            continue
        if has_roles(content.groups) or claims_in(content.groups):
            continue  # who that is, only the running server knows
        policy = Policy(content, "", "")
        if not is_satisfiable(policy.promote_rules(rule)):
            yield (
                line("approvals") + "the groups have too few people for these counts "
                "(one person counts for one rule), so nothing could ever be approved"
            )
        for key, rules in (
            ("demote", policy.demote_rules(rule)),
            ("rollback", policy.rollback_rules(rule)),
            ("break_glass", policy.review_rules(rule)),
        ):
            if getattr(rule, key) is not None and not is_satisfiable(rules):
                yield line(key) + "the groups have too few people for this count"
        emergency = rule.break_glass
        if emergency is not None and not content.groups[emergency.group]:
            yield line("break_glass") + f"the group {emergency.group!r} has no members"


def _invalid(origin: str, problems: list[str]) -> PolicyInvalidError:
    shown = "; ".join(problems[:8]) + ("; ..." if len(problems) > 8 else "")
    return PolicyInvalidError(
        f"the approvals policy {origin} cannot be used: {shown}. Nothing was changed. "
        f"Correct the file."
    )
