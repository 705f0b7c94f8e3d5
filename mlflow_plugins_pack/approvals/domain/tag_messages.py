"""The texts of refusals about tags and the commands in them; pure. See `messages` for the rules."""

from __future__ import annotations

from collections.abc import Sequence

from mlflow_plugins_pack.approvals.domain.messages import UNCHANGED


def reserved_tag(key: str) -> str:
    """Text of RESERVED_TAG for the plugin's own names."""
    return (
        f"the tag '{key}' shows the state of approvals and is written by the registry alone. "
        f"{UNCHANGED} To take part, set approvals.request, .approve, .reject, .cancel or .comment "
        'on a model version, with the value "TARGET: text".'
    )


def misspelt_tag(*, key: str, name: str, meant: str) -> str:
    """Text of RESERVED_TAG for a name that looks like a command's and is not one."""
    return (
        f"the tag '{key}' looks like the command '{meant}', and as an ordinary tag of '{name}' it "
        f"would not count. {UNCHANGED} Set '{meant}' on the model version instead, with the value "
        '"TARGET: text".'
    )


def imitated_tag(*, key: str, name: str) -> str:
    """Text of RESERVED_TAG for a name that looks like one of the registry's own."""
    return (
        f"the tag '{key}' of '{name}' could be taken for one that shows the state of approvals, "
        f"which the registry alone writes. {UNCHANGED} Use another name."
    )


def check_tag(*, key: str, name: str, policy: str, writers: Sequence[str], user: str | None) -> str:
    """Text of RESERVED_TAG for a tag that a policy's check reads."""
    who = f"'{user}'" if user else "a caller who is not signed in"
    return (
        f"the tag '{key}' is a check of policy '{policy}' on '{name}', and {who} may not write it: "
        f"only {', '.join(writers)} may. {UNCHANGED} Let one of them set it."
    )


def prompt_flag(name: str) -> str:
    """Text of RESERVED_TAG for the tag that makes a model a prompt."""
    return (
        f"whether '{name}' is a prompt decides which policy governs it, so the tag that says so "
        f"cannot be changed. {UNCHANGED} Register it under another name instead."
    )


def prompt_flag_of_approved(name: str) -> str:
    """Text of RESERVED_TAG for that tag, where versions were approved or wait for it."""
    return (
        f"versions of '{name}' were approved, or wait for approval, as what it is now. Were it a "
        "prompt in place of a model, or the reverse, they would be loaded with other content than "
        f"that. {UNCHANGED} Register it under another name instead."
    )


def content_locked(*, key: str, name: str, version: int, why: str) -> str:
    """Text of CONTENT_LOCKED."""
    return (
        f"the tag '{key}' is content of version {version} of prompt '{name}', which {why}. "
        f"{UNCHANGED} Register a new version with the new text and have that approved."
    )


def command_malformed(command: str, problem: str) -> str:
    """Text of INVALID_COMMAND for a value that cannot be read."""
    return (
        f'approvals.{command} takes "TARGET: text", such as "prod: looks good" or '
        f'"stage:Production: looks good"; {problem}. {UNCHANGED} Set the tag again.'
    )
