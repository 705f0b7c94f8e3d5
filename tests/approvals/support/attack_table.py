"""Which test covers which way and door.

``python -m tests.approvals.support.attack_table`` writes the page. The ways are the rows of the
table in the design of the plugin: everything by which what production serves can change. A door has
its tests, or the reason why it does not lead there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.approvals.support.attacks import ATTACKS
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "approvals-attacks.md"
DOORS = ("REST", "pages", "prompts", "direct", "database")
NOT_PROMPTS = "the client has no prompt call for it"


@dataclass(frozen=True)
class Way:
    """A row.

    Attributes:
        what: What somebody does.
        tests: Besides those of the table of attacks: door to ``file::test``, several separated by
            blanks; ``all`` is every door that has no reason.
        reasons: Door to why it does not lead there; ``rest`` is every door not named.
    """

    what: str
    tests: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


ANY_DOOR = "the same code, whatever the door"
NO_CALL = "it is no call of the registry"
WAYS = {
    1: Way("set or move an alias", reasons={"prompts": "row 13"}),
    2: Way("delete an alias", reasons={"prompts": "row 13"}),
    3: Way("an alias that only looks different", reasons={"prompts": "row 13"}),
    4: Way("enter or leave a stage", reasons={"prompts": NOT_PROMPTS}),
    5: Way(
        "archive the versions that are there",
        {"REST": "test_attacks::test_row_5_archiving_is_approved_and_recorded_as_such"},
        {"prompts": NOT_PROMPTS},
    ),
    6: Way("delete a version", reasons={"prompts": "row 13"}),
    7: Way(
        "delete a model, and make it again",
        {"REST": "test_attacks::test_row_7_a_model_made_again_starts_with_nothing"},
        {"prompts": "row 13"},
    ),
    8: Way("rename a model into or out of a policy", reasons={"prompts": NOT_PROMPTS}),
    9: Way(
        "copy a version with its tags",
        {
            "REST": "test_attacks::test_rows_9_and_10_copies_and_new_versions_are_unapproved "
            "test_server::test_a_copied_version_is_unapproved",
            "direct": "registry_store::test_copied_tags_approve_nothing",
        },
        {
            "pages": "they call what REST calls",
            "prompts": NOT_PROMPTS,
            "database": "a copy is free; its alias is row 1",
        },
    ),
    10: Way(
        "register another version, for consumers of a number or of the latest",
        {
            "direct": "test_attacks::test_rows_9_and_10_copies_and_new_versions_are_unapproved",
            "REST": "test_requirements::test_consumers_get_approved_versions_only",
        },
        {
            "pages": "they call what REST calls",
            "prompts": "a new prompt version is as free, and its alias row 13",
            "database": "reading is not guarded: who has the database's password reads all of it",
        },
    ),
    11: Way(
        "forge tags, or change them after approval",
        {"REST": "test_attacks::test_row_11_a_check_tag_changed_after_approval_makes_it_stale"},
        {"prompts": "row 12"},
    ),
    12: Way(
        "rewrite a prompt's text, which is a tag",
        {"database": "test_attacks::test_row_12_text_rewritten_behind_the_registry_is_stale"},
    ),
    13: Way("the same as rows 1, 2, 6 and 7, for prompts"),
    14: Way(
        "change a description",
        {"REST": "test_attacks::test_row_14_descriptions_are_free"},
        {"rest": "descriptions are free, and decide nothing"},
    ),
    15: Way("tag a model: ours, or the one that makes it a prompt"),
    16: Way(
        "overwrite the artifacts of an approved version",
        {
            "REST": "test_server::test_changed_bytes_make_an_approval_stale "
            "test_requirements::test_approved_files_are_locked_where_the_repository_can",
            "direct": "registry_store::test_changed_bytes_are_not_applied",
        },
        {"rest": "files do not go through the registry, so that it looks again when it applies"},
    ),
    17: Way(
        "log or delete a logged model's artifacts",
        {"direct": "registry_store::test_changed_bytes_are_not_applied"},
        {"rest": "the tracking store's call, with the same effect as row 16"},
    ),
    18: Way(
        "`mlflow gc` of the run",
        {"direct": "registry_store::test_bytes_that_cannot_be_read_cannot_be_approved"},
        {"rest": NO_CALL + "; `approvals verify` finds what is gone"},
    ),
    19: Way(
        "delete a workspace, with its models moved or deleted",
        {
            "REST": "test_attacks_on_workspaces::test_row_19_a_workspace_with_holders_stays",
            "database": "test_attacks_on_workspaces::test_row_19_a_workspace_with_holders_stays "
            "test_attacks_on_workspaces::test_row_19_without_guards_drift_finds_what_moved",
            "direct": "registry_store::test_no_approval_survives_a_change_of_workspace "
            "test_attacks_on_workspaces::test_row_19_an_approval_counts_in_its_workspace_only",
        },
        {"pages": "they call what REST calls", "prompts": NOT_PROMPTS},
    ),
    20: Way(
        "`mlflow migrate-filestore`, imports, raw SQL",
        {
            "database": "test_guards::test_raw_sql_is_refused "
            "test_guards::test_replacing_rows_is_refused "
            "test_drift::test_raw_sql_is_found "
            "test_drift::test_an_imported_file_store_arrives_unapproved",
        },
        {"rest": "an import through the server makes the calls of rows 1 to 15"},
    ),
    21: Way(
        "a client with the database's URI",
        {"database": "test_guards::test_a_stock_client_of_the_database_is_refused"},
        {"rest": "the column `database` of every other row is this one"},
    ),
    22: Way("act without being signed in, as jobs do, or without a vote"),
    23: Way("be an administrator", reasons={"prompts": "as row 22"}),
    24: Way(
        "read a replica that does not know of a rejection yet",
        {"direct": "test_plugin::test_decisions_are_read_from_the_primary"},
        {"rest": ANY_DOOR},
    ),
    25: Way(
        "a webhook that tells of what did not happen",
        {
            "pages": "test_attacks::test_row_25_no_event_without_the_act",
            "REST": "test_webhooks::"
            "test_a_killed_server_loses_no_event_and_stock_webhooks_stay_right",
        },
        {"rest": "stock webhooks are fired by the server's handlers alone"},
    ),
    26: Way(
        "an alias of MLflow's MCP server registry",
        reasons={"rest": "kept in the tracking store: out of reach, see Limits"},
    ),
    27: Way(
        "a registry that is no database",
        {"direct": "test_plugin::test_what_cannot_be_opened_says_why"},
        {"rest": "the server does not start"},
    ),
    28: Way(
        "`models:/m-ID` and `runs:/` URIs",
        reasons={
            "rest": "no alias is asked: out of reach, see Limits; `approvals verify` compares "
            "what was deployed with what was approved"
        },
    ),
    29: Way(
        "name a model or alias so that the database takes it for another",
        {
            "direct": "test_lookalikes::test_a_model_is_governed_however_its_name_is_written "
            "test_lookalikes::test_a_protected_alias_is_not_deleted_as_another "
            "test_targets::test_lookalikes_fold_together",
            "database": "test_guards::test_guards_read_the_policy_as_the_server_does",
        },
        {"rest": ANY_DOOR},
    ),
    30: Way(
        "change what a call is about while it is being judged",
        {
            "direct": "test_lookalikes::test_a_version_that_comes_while_its_alias_is_set "
            "test_lookalikes::test_a_model_that_becomes_a_prompt_while_its_alias_is_set",
        },
        {"rest": ANY_DOOR},
    ),
    31: Way(
        "vote twice under two spellings of one's name",
        {"direct": "test_request_states::test_one_person_under_two_spellings_counts_once"},
        {"rest": ANY_DOOR},
    ),
    32: Way(
        "go back to what was never approved: by a broken glass, by a clock that went back",
        {
            "direct": "test_requirements::test_a_broken_glass_is_no_approval_to_go_back_to "
            "test_requirements::test_a_clock_that_went_back_makes_no_rollback_last_for_ever",
        },
        {"rest": ANY_DOOR},
    ),
    33: Way(
        "have what holds a protected stage archived by the way",
        {
            "direct": "test_requirements::"
            "test_nothing_is_archived_by_the_way_where_that_needs_approval",
        },
        {"rest": ANY_DOOR},
    ),
}


INTRODUCTION = """\
# Ways around the approvals, and what meets them

<!-- Written by: python -m tests.approvals.support.attack_table -->

Every way by which what production serves can change, and every door that leads to it:

- `REST`: the stock client with the server's address;
- `pages`: the same calls as MLflow's own pages make them (`/ajax-api`);
- `prompts`: the client's prompt methods;
- `direct`: a client with an `approval-` registry URI, as job processes have it: nobody is signed
  in there;
- `database`: a stock client with the database's own URI, or SQL, while the database guards are
  installed. What is refused there is not in the audit log: the database undoes it.

Each attack of `test_attack` is made on SQLite, PostgreSQL and MariaDB, on a server without
workspaces and on one with them. It must be refused with the right code and words, change nothing,
and be in the audit log; how many attacks there are stands behind it. The other tests of
`test_attacks` and those of `registry_store` run in the same six places, `test_guards` on the three
databases, `test_lookalikes` on MariaDB set up as MySQL 8 is, which takes most letters for others,
and the rest, about what is the same everywhere, on SQLite.
"""


def cell(row: int, door: str) -> tuple[list[str], str]:
    """Return a door's tests (``file::test``, with the attacks made), and the reason without."""
    way, found = WAYS[row], []
    mine = [attack for attack in ATTACKS if attack.row == row]
    if mine and not (door == "prompts" and all(a.prompt_api is None for a in mine)):
        found.append(f"test_attacks::test_attack ({len(mine)})")
    found += way.tests.get(door, "").split()
    reason = "" if found else way.reasons.get(door, way.reasons.get("rest", ""))
    return found, reason


def document() -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for row, way in WAYS.items():
        lines += [f"## {row}. {way.what}", "", "| door | test, or why it does not lead there |"]
        lines += ["|---|---|"]
        for door in DOORS:
            found, reason = cell(row, door)
            shown = "<br>".join(f"`{test}`" for test in found) or reason
            lines.append(f"| {door} | {shown} |")
        passed = {a.database: a.what for a in ATTACKS if a.row == row and a.database != "refused"}
        if passed:
            lines += ["", "The guards let pass, and it is worth nothing:", ""]
            whats = {
                reason: [a.what for a in ATTACKS if a.row == row and a.database == reason]
                for reason in passed
            }
            lines += [f"- {', '.join(what)}: {reason}." for reason, what in whats.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
