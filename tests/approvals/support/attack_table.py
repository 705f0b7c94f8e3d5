"""Maps each bypass attempt and each interface to the tests that cover it.

``python -m tests.approvals.support.attack_table`` writes docs/explanation/bypass-attempts.md. An
attempt is anything by which what production serves could change without approval. For each
interface an attempt has its tests, or the reason why the interface cannot be used for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.approvals.support.attacks import ATTACKS
from tests.support.paths import ROOT

DOCUMENT = ROOT / "docs" / "explanation" / "bypass-attempts.md"
INTERFACES = ("REST", "pages", "prompts", "direct", "database")
NOT_PROMPTS = "the client has no prompt call for it"


@dataclass(frozen=True)
class Attempt:
    """A row.

    Attributes:
        what: what a user does.
        tests: interface to ``file::test``, several separated by blanks; in addition to those of
            `ATTACKS`.
        reasons: interface to why it cannot be used; ``rest`` is every interface not named.
    """

    what: str
    tests: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


ANY_INTERFACE = "the same code for every interface"
NO_CALL = "it is not a call of the registry"
FORGED = "test_attacks::test_row_35_a_forged_approval_is_shown_by_no_interface"
WEAKER = "test_attacks::test_row_36_a_second_server_with_a_weaker_file_decides_by_the_first"
FILES = "test_approved_files::test_no_call_of_the_server_writes_approved_files"
ROUTES = "test_server_routes::test_every_call_that_reaches_the_registry_or_files_is_listed"
VOTES = "test_attacks::test_row_37_votes_that_were_cast_are_not_taken_away"
ATTEMPTS = {
    1: Attempt("set or move an alias", reasons={"prompts": "row 13"}),
    2: Attempt("delete an alias", reasons={"prompts": "row 13"}),
    3: Attempt("set an alias that only looks different", reasons={"prompts": "row 13"}),
    4: Attempt("enter or leave a stage", reasons={"prompts": NOT_PROMPTS}),
    5: Attempt(
        "archive the versions in a stage",
        {"REST": "test_attacks::test_row_5_archiving_is_approved_and_recorded_as_such"},
        {"prompts": NOT_PROMPTS},
    ),
    6: Attempt("delete a version", reasons={"prompts": "row 13"}),
    7: Attempt(
        "delete a model and create it again",
        {"REST": "test_attacks::test_row_7_a_model_made_again_starts_with_nothing"},
        {"prompts": "row 13"},
    ),
    8: Attempt("rename a model into or out of a policy", reasons={"prompts": NOT_PROMPTS}),
    9: Attempt(
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
    10: Attempt(
        "register another version, for consumers of a number or of the latest",
        {
            "direct": "test_attacks::test_rows_9_and_10_copies_and_new_versions_are_unapproved",
            "REST": "test_requirements::test_consumers_get_approved_versions_only",
        },
        {
            "pages": "they call what REST calls",
            "prompts": "a new prompt version is as free, and its alias row 13",
            "database": "reading is not guarded: who has the password reads everything",
        },
    ),
    11: Attempt(
        "forge tags, or change them after approval",
        {"REST": "test_attacks::test_row_11_a_check_tag_changed_after_approval_makes_it_stale"},
        {"prompts": "row 12"},
    ),
    12: Attempt(
        "rewrite a prompt's text, which is a tag",
        {"database": "test_attacks::test_row_12_text_rewritten_behind_the_registry_is_stale"},
    ),
    13: Attempt("do rows 1, 2, 6 and 7 to prompts"),
    14: Attempt(
        "change a description",
        {"REST": "test_attacks::test_row_14_descriptions_are_free"},
        {"rest": "descriptions may be changed and are not used in decisions"},
    ),
    15: Attempt("set a tag of the plugin, or the tag that makes a model a prompt"),
    16: Attempt(
        "overwrite the artifacts of an approved version",
        {
            "REST": "test_attacks::test_row_16_files_changed_after_the_approval_are_not_applied "
            "test_server::test_changed_bytes_make_an_approval_stale "
            "test_requirements::test_approved_files_are_locked_where_the_repository_can",
            "direct": "registry_store::test_changed_bytes_are_not_applied",
        },
        {"rest": "files do not pass through the registry; a change reads them again"},
    ),
    17: Attempt(
        "log or delete a logged model's artifacts",
        {"direct": "registry_store::test_changed_bytes_are_not_applied"},
        {"rest": "the tracking store's call, with the same effect as row 16"},
    ),
    18: Attempt(
        "`mlflow gc` of the run",
        {"direct": "registry_store::test_bytes_that_cannot_be_read_cannot_be_approved"},
        {"rest": NO_CALL + "; `approvals verify` finds what is gone"},
    ),
    19: Attempt(
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
    20: Attempt(
        "`mlflow migrate-filestore`, imports, raw SQL",
        {
            "database": "test_guards::test_raw_sql_is_refused "
            "test_guards::test_replacing_rows_is_refused "
            "test_drift::test_raw_sql_is_found "
            "test_drift::test_an_imported_file_store_arrives_unapproved",
        },
        {"rest": "an import through the server makes the calls of rows 1 to 15"},
    ),
    21: Attempt(
        "a client with the database's URI",
        {"database": "test_guards::test_a_stock_client_of_the_database_is_refused"},
        {"rest": "the column `database` of every other row is this one"},
    ),
    22: Attempt("act without being signed in, as jobs do, or without a vote"),
    23: Attempt("be an administrator", reasons={"prompts": "as row 22"}),
    24: Attempt(
        "read a replica that does not know of a rejection yet",
        {"direct": "test_plugin::test_decisions_are_read_from_the_primary"},
        {"rest": ANY_INTERFACE},
    ),
    25: Attempt(
        "have a webhook report what did not happen",
        {
            "pages": "test_attacks::test_row_25_no_event_without_the_act",
            "REST": "test_webhooks::"
            "test_a_killed_server_loses_no_event_and_stock_webhooks_stay_right",
        },
        {"rest": "stock webhooks are fired by the server's handlers alone"},
    ),
    26: Attempt(
        "an alias of MLflow's registries of MCP servers and skills",
        reasons={"rest": "kept in the tracking store: out of scope, see Limits"},
    ),
    27: Attempt(
        "a registry that is not a database",
        {"direct": "test_plugin::test_what_cannot_be_opened_says_why"},
        {"rest": "the server does not start"},
    ),
    28: Attempt(
        "`models:/m-ID` and `runs:/` URIs",
        reasons={
            "rest": "they use no alias: out of scope, see Limits; `approvals verify` compares "
            "what was deployed with what was approved"
        },
    ),
    29: Attempt(
        "name a model or alias so that the database treats it as another",
        {
            "direct": "test_lookalikes::test_a_model_is_governed_however_its_name_is_written "
            "test_lookalikes::test_a_protected_alias_is_not_deleted_as_another "
            "test_targets::test_lookalikes_fold_together",
            "database": "test_guards::test_guards_read_the_policy_as_the_server_does",
        },
        {"rest": ANY_INTERFACE},
    ),
    30: Attempt(
        "change the subject of a call while it is being decided",
        {
            "direct": "test_lookalikes::test_a_version_that_comes_while_its_alias_is_set "
            "test_lookalikes::test_a_model_that_becomes_a_prompt_while_its_alias_is_set",
        },
        {"rest": ANY_INTERFACE},
    ),
    31: Attempt(
        "vote twice under two spellings of one's name",
        {"direct": "test_request_states::test_one_person_under_two_spellings_counts_once"},
        {"rest": ANY_INTERFACE},
    ),
    32: Attempt(
        "roll back to what was never approved, or was taken away again by a decision",
        {
            "direct": "test_requirements::test_an_unreviewed_break_glass_is_not_a_rollback_target "
            "test_requirements::test_a_clock_that_went_back_makes_no_rollback_last_for_ever "
            "test_requirements::test_what_was_taken_away_is_not_a_rollback_target "
            "test_requirements::test_approval_to_be_archived_is_none_to_be_used",
        },
        {"rest": ANY_INTERFACE},
    ),
    33: Attempt(
        "have the holder of a protected stage archived as a side effect",
        {
            "direct": "test_requirements::"
            "test_nothing_is_archived_as_a_side_effect_where_that_needs_approval",
        },
        {"rest": ANY_INTERFACE},
    ),
    34: Attempt(
        "have other files loaded than those approved, by a source that can lead elsewhere",
        {
            "REST": "test_server::test_a_file_that_clients_load_otherwise_is_not_approvable",
            "direct": "test_location::test_a_place_that_can_lead_elsewhere_is_not_approvable "
            "test_location::test_a_run_as_source_is_refused_before_anyone_votes "
            "test_location::test_a_download_is_digested_with_what_the_client_lays_over_it "
            "test_location::test_a_file_that_clients_load_otherwise_is_found",
        },
        {"prompts": "a prompt has no files"},
    ),
    35: Attempt(
        "write tags of an approval that never was",
        {
            "REST": FORGED,
            "pages": FORGED,
            "direct": f"{FORGED} test_unbacked_tags::test_no_call_shows_more_than_the_ledger_says",
            "database": f"{FORGED} test_unbacked_tags::"
            "test_the_first_start_removes_what_was_written_by_hand "
            "test_unbacked_tags::"
            "test_what_is_written_past_a_running_server_goes_and_the_truth_stays",
        },
        {"prompts": "the tags are reserved: row 11"},
    ),
    36: Attempt(
        "start a second server with a weaker policy file on the same database",
        {
            "direct": f"{WEAKER} test_policy_in_force::"
            "test_a_second_server_with_a_weaker_file_decides_by_the_first_policy "
            "test_policy_in_force::"
            "test_a_restart_with_another_file_changes_nothing_until_it_is_activated",
            "database": WEAKER,
        },
        {"rest": ANY_INTERFACE},
    ),
    37: Attempt(
        "cancel a request that others have voted on, or take a vote away by a tag of the run",
        {
            "REST": VOTES,
            "pages": VOTES,
            "direct": f"{VOTES} "
            "test_rights::test_an_approved_request_is_not_its_requesters_to_cancel "
            "test_rights::test_a_tag_that_anyone_may_write_takes_no_vote_away",
        },
        {
            "prompts": ANY_INTERFACE,
            "database": "the server obeys commands, the database stores a tag",
        },
    ),
    38: Attempt(
        "have a reviewer believe that a misspelled tag was a vote",
        {
            "direct": "test_near_misses::"
            "test_a_misspelt_vote_is_refused_with_the_right_spelling "
            "test_near_misses::test_a_tag_that_imitates_the_state_is_refused",
        },
    ),
    39: Attempt(
        "stop a server with names, models or lineage of any size",
        {
            "REST": "test_places::test_odd_input_has_no_wrong_effect",
            "direct": "test_targets::test_matching_takes_linear_time_and_keeps_no_long_names "
            "test_recorded::test_a_large_file_takes_no_time_and_no_memory "
            "test_recorded::test_nested_lineage_is_not_an_error",
        },
        {"rest": ANY_INTERFACE},
    ),
    40: Attempt(
        "have files approved that consumers do not load: those at the same path of the server",
        {
            "direct": "test_allowed_places::"
            "test_by_default_the_servers_own_store_counts "
            "test_allowed_places::test_a_local_path_is_refused_at_the_request",
        },
        {"prompts": "a prompt has no files"},
    ),
    41: Attempt(
        "write approved files by another call of the server: in parts, by a presigned address, "
        "as MLflow's pages upload",
        {"REST": FILES, "pages": FILES},
        {
            "prompts": "a prompt has no files",
            "rest": "files do not pass through the registry; a change reads them again",
        },
    ),
    42: Attempt(
        "use a call that no row is about: GraphQL, or one that a newer MLflow has",
        {"REST": ROUTES, "pages": f"{ROUTES} test_server_routes::test_graphql_changes_nothing"},
        {
            "prompts": "the client's prompt methods make the calls of rows 1 to 15",
            "direct": "`test_differential` compares the store's methods with stock's list",
            "database": "no call of the server",
        },
    ),
    43: Attempt(
        "use the review app: vote as another or on what one may not read, change what is not "
        "approved, have a reviewer's browser vote",
        {
            "REST": "test_requests::test_the_app_refuses_as_the_store_does "
            "test_requests::test_asking_needs_edit_in_mlflow "
            "test_requests::test_a_vote_counts_for_the_request_that_was_seen "
            "test_requests::test_what_a_visitor_may_not_read_does_not_exist "
            "test_places::test_odd_input_has_no_wrong_effect",
            "pages": "test_pages::test_forms_of_other_sites_are_refused "
            "test_pages::test_pages_of_other_peoples_models_do_not_exist "
            "test_pages::test_what_users_write_stays_text",
        },
        {"rest": "the app is a client of the store and of the server, as the others are"},
    ),
    44: Attempt(
        "write files between the last vote and the change, in a store that can lock them",
        {
            "direct": "test_lock_before_apply::test_the_last_vote_between_reading_and_deciding "
            "test_lock_before_apply::test_files_written_between_reading_and_the_last_vote "
            "test_lock_before_apply::test_a_vote_whose_lock_is_late "
            "test_lock_before_apply::test_a_slow_call_removes_no_lock_of_another "
            "test_lock_before_apply::test_files_that_cannot_be_locked_are_not_promoted",
        },
        {"prompts": "a prompt's text cannot be changed from the request on", "rest": ANY_INTERFACE},
    ),
    45: Attempt(
        "write files, or cancel and ask again about others, between a reviewer's look and the vote",
        {
            "REST": "test_requests::test_files_that_changed_since_show_and_get_no_vote "
            "test_requests::test_a_vote_counts_for_the_request_that_was_seen",
            "direct": "test_votes_on_changed_files::test_a_vote_on_files_that_changed "
            "test_votes_on_changed_files::test_a_vote_for_the_request_that_was_looked_at "
            "test_votes_on_changed_files::test_the_review_of_an_emergency_change_is_about_its_files",
        },
        {"rest": ANY_INTERFACE},
    ),
    46: Attempt(
        "make a prompt of a model that was approved, or the reverse, for content that was not",
        {
            "direct": "test_prompt_content::test_what_was_approved_as_a_model_becomes_no_prompt "
            "test_prompt_content::test_what_was_approved_as_a_prompt_becomes_no_model "
            "test_prompt_content::test_the_text_of_a_replaced_version_stays "
            "test_prompt_content::"
            "test_consumers_of_a_prompt_that_is_a_model_get_what_both_policies_approved",
            "database": "test_prompt_content::"
            "test_consumers_get_no_text_that_was_changed_behind_the_registry",
        },
        {"rest": ANY_INTERFACE},
    ),
    47: Attempt(
        "have a copy inherit the approval of what break-glass promoted and no one has reviewed",
        {
            "direct": "test_requirements::"
            "test_what_break_glass_promoted_is_inherited_once_it_is_reviewed",
        },
        {"rest": ANY_INTERFACE},
    ),
}


INTRODUCTION = """\
# Bypass attempts and the controls that stop them

<!-- Written by: python -m tests.approvals.support.attack_table -->

Everything by which what production serves could change without approval, for each interface:

- `REST`: the stock client with the server's address;
- `pages`: the same calls as MLflow's own pages make them (`/ajax-api`);
- `prompts`: the client's prompt methods;
- `direct`: a client with an `approval-` registry URI, as job processes have it: it has no
  signed-in user;
- `database`: a stock client with the database's own URI, or SQL, while the database guards are
  installed. A refusal there is not in the audit log, because the database rolls it back.

Each attack of `test_attack` is made on SQLite, PostgreSQL and MariaDB, on a server without
workspaces and on one with them; of the two databases of MariaDB, one has the default character set
latin1 (with `NIGHTLY=1` both modes have both). It must be refused with the right code, change
nothing, and be in the audit log; the number of attacks is in parentheses. The other tests of
`test_attacks` and those of `registry_store` run in the same six places, `test_guards` on the three
databases, `test_lookalikes` on MariaDB set up like MySQL 8, which treats most letters as equal to
others, and the rest, about code that all databases share, on SQLite.
"""


def cell(row: int, interface: str) -> tuple[list[str], str]:
    """Return an interface's tests (``file::test``, number of attacks), or the reason for none."""
    attempt, found = ATTEMPTS[row], []
    mine = [attack for attack in ATTACKS if attack.row == row]
    if mine and not (interface == "prompts" and all(a.prompt_api is None for a in mine)):
        found.append(f"test_attacks::test_attack ({len(mine)})")
    found += attempt.tests.get(interface, "").split()
    reason = "" if found else attempt.reasons.get(interface, attempt.reasons.get("rest", ""))
    return found, reason


def document() -> str:
    """Return the page."""
    lines = [INTRODUCTION]
    for row, attempt in ATTEMPTS.items():
        lines += [
            f"## {row}. {attempt.what}",
            "",
            "| interface | tests, or why it cannot be used |",
        ]
        lines += ["|---|---|"]
        for interface in INTERFACES:
            found, reason = cell(row, interface)
            shown = "<br>".join(f"`{test}`" for test in found) or reason
            lines.append(f"| {interface} | {shown} |")
        passed = {a.database: a.what for a in ATTACKS if a.row == row and a.database != "refused"}
        if passed:
            lines += ["", "The guards allow these, without effect:", ""]
            texts = {
                reason: [a.what for a in ATTACKS if a.row == row and a.database == reason]
                for reason in passed
            }
            lines += [f"- {', '.join(what)}: {reason}." for reason, what in texts.items()]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
