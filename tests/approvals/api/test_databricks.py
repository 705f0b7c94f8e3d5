"""The unmodified Databricks SDK drives transition requests and comments."""

from __future__ import annotations

import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import NotFound, PermissionDenied
from databricks.sdk.service.ml import (
    ActivityAction,
    ActivityType,
    CommentActivityAction,
    ModelRegistryAPI,
)

from tests.approvals.support.review_sites import ReviewSite, password_of


def sdk(review: ReviewSite, user: str) -> ModelRegistryAPI:
    name, password = password_of(user)
    client = WorkspaceClient(
        host=review.url,
        username=name,
        password=password,
        auth_type="basic",
        config_file="/dev/null",
    )
    return client.model_registry


def test_transition_requests_under_a_policy_of_two_approvals(review: ReviewSite) -> None:
    version = str(review.new_version("sdk-1"))
    review.tested("sdk-1", int(version))
    about = ("sdk-1", version, "Production")

    made = sdk(review, "alice").create_transition_request(*about, comment="please").request
    assert made is not None
    assert (made.user_id, made.to_stage, made.comment) == ("alice", "Production", "please")
    assert made.available_actions == [ActivityAction.CANCEL_TRANSITION_REQUEST]
    assert made.creation_timestamp

    [listed] = sdk(review, "bob").list_transition_requests("sdk-1", version)
    assert listed.activity_type is ActivityType.REQUESTED_TRANSITION
    assert (listed.from_stage, listed.to_stage, listed.user_id) == ("None", "Production", "alice")

    with pytest.raises(PermissionDenied, match="NOT_AN_APPROVER"):
        sdk(review, "alice").approve_transition_request(*about, False)
    first = sdk(review, "bob").approve_transition_request(*about, False, comment="fine").activity
    assert first is not None
    assert (first.activity_type, first.user_id) == (ActivityType.APPROVED_REQUEST, "bob")
    with review.signed_in("alice") as client:  # one of two approvals changes nothing
        assert client.get_model_version("sdk-1", version).current_stage == "None"
    sdk(review, "dave").approve_transition_request(*about, False)
    with review.signed_in("alice") as client, pytest.warns(FutureWarning):
        client.transition_model_version_stage("sdk-1", version, "Production")
    assert list(sdk(review, "bob").list_transition_requests("sdk-1", version)) == []


def test_reject_and_delete(review: ReviewSite) -> None:
    version = str(review.new_version("sdk-2"))
    about = ("sdk-2", version, "Production")
    sdk(review, "alice").create_transition_request(*about)
    rejected = sdk(review, "carol").reject_transition_request(*about, comment="no").activity
    assert rejected is not None
    assert rejected.activity_type is ActivityType.REJECTED_REQUEST
    sdk(review, "alice").create_transition_request(*about)
    with pytest.raises(NotFound):
        sdk(review, "alice").delete_transition_request(*about, creator="bob")
    gone = (
        sdk(review, "alice")
        .delete_transition_request(*about, creator="alice", comment="oh")
        .activity
    )
    assert gone is not None
    assert gone.activity_type is ActivityType.CANCELLED_REQUEST
    with pytest.raises(NotFound):
        sdk(review, "bob").approve_transition_request(*about, False)


def test_comments(review: ReviewSite) -> None:
    version = str(review.new_version("sdk-3"))
    bob = sdk(review, "bob")
    made = bob.create_comment("sdk-3", version, "why?").comment
    assert made is not None
    assert made.id is not None
    assert (made.user_id, made.comment) == ("bob", "why?")
    assert made.available_actions == [
        CommentActivityAction.EDIT_COMMENT,
        CommentActivityAction.DELETE_COMMENT,
    ]
    changed = bob.update_comment(made.id, "because").comment
    assert changed is not None
    assert changed.comment == "because"
    assert (changed.last_updated_timestamp or 0) >= (made.creation_timestamp or 0) > 0
    for user in ("dave", "mallory"):
        with pytest.raises(NotFound):
            sdk(review, user).delete_comment(made.id)
    bob.delete_comment(made.id)
    with pytest.raises(NotFound):
        bob.update_comment(made.id, "again")
