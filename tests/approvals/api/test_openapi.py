"""Every endpoint keeps to the OpenAPI document, whatever is sent to it."""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.specs.openapi import checks

from tests.approvals.support.review_sites import ReviewSite, password_of

EXAMPLES = 200 if os.environ.get("NIGHTLY") else 4
_LEFT_OUT = [
    # A model that a user may not read is answered as one that does not exist, whether the
    # parameters fit or not.
    checks.positive_data_acceptance,
    checks.negative_data_rejection,
    checks.unsupported_method,
]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize("user", ["bob", "mallory"])
def test_answers_fit_the_document(review: ReviewSite, user: str) -> None:
    schema = schemathesis.openapi.from_url(f"{review.url}/approvals/api/v1/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 15
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        def call(case: Case) -> None:
            case.call_and_validate(auth=password_of(user), excluded_checks=_LEFT_OUT)

        call()
