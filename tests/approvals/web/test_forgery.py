"""No page of another site, and no other method, makes a visitor's browser change anything."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from fastapi.routing import APIRoute

from mlflow_plugins_pack.approvals.api import databricks, governance
from mlflow_plugins_pack.approvals.api import requests as rest
from mlflow_plugins_pack.approvals.api.protection import is_csrf_token
from mlflow_plugins_pack.approvals.web import (
    audit_page,
    health_page,
    inbox,
    model_page,
    policy_page,
    request_page,
)
from mlflow_plugins_pack.review import lineage_page
from tests.approvals.support.review_sites import ReviewSite, password_of

API = "/approvals/api/v1"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
OVERRIDES = ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override")


def changing_routes() -> list[tuple[str, str]]:
    """Return the method and path of each route that can change something."""
    routers = (databricks, rest, governance, inbox, request_page, model_page, audit_page)
    found = [
        (method, route.path)
        for module in (*routers, policy_page, health_page, lineage_page)
        for route in module.router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods - {"GET", "HEAD"})
    ]
    assert len(found) > 12
    return found


ROUTES = changing_routes()


class Asked:
    """A request that waits for bob, and what must stay as it is.

    Attributes:
        id: Of the request.
        comment: The id of bob's comment on it.
    """

    def __init__(self, review: ReviewSite) -> None:
        self._review = review
        version = review.new_version("forged")
        body = {"model": "forged", "version": version, "target": "prod"}
        self.id = review.json("alice", "POST", f"{API}/requests", body)["id"]
        at = f"{API}/requests/{self.id}/comments"
        self.comment = review.json("bob", "POST", at, {"text": "bob's own"})[0]["id"]

    def path_of(self, route: str) -> str:
        """Return the address of a route with the ids in it."""
        ids = {"request_id": self.id, "comment_id": self.comment, "action": "approve"}
        return route.format(**ids)

    def state(self) -> tuple[Any, ...]:
        """Return all that a request of bob's could have changed."""
        found = self._review.json("bob", "GET", f"{API}/requests/{self.id}")
        texts = [comment["text"] for comment in found["comments"]]
        listed = self._review.json("bob", "GET", f"{API}/requests?view=open&model=forged")
        return found["state"], found["votes"], texts, len(listed["requests"])


@pytest.fixture(scope="module")
def asked(review: ReviewSite) -> Asked:
    return Asked(review)


@pytest.fixture
def unchanged(asked: Asked) -> Iterator[None]:
    before = asked.state()
    yield
    assert asked.state() == before


def browser(review: ReviewSite, user: str) -> tuple[requests.Session, str]:
    """Return a browser in which a person is signed in, and the token of its pages."""
    session = requests.Session()
    session.trust_env = False
    session.auth = password_of(user)
    session.get(f"{review.url}/approvals/policy", timeout=60)
    return session, str(session.cookies["mpp_csrf"])


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_another_site_changes_nothing(
    review: ReviewSite, asked: Asked, method: str, route: str
) -> None:
    session, token = browser(review, "bob")
    host = urlsplit(review.url).netloc
    for headers in (
        {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
        {"Sec-Fetch-Site": "same-site", "Origin": f"http://evil.{host}"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": f"https://{host}.evil.example"},
        {"Origin": f"https://{host}@evil.example"},
        {"Origin": "http://[evil"},
        {"Origin": ""},
    ):
        for kind, body in (
            (FORM, f"csrf_token={token}&action=approve&request={asked.id}&text=x"),
            ({"Content-Type": "application/json"}, "{}"),
        ):
            answer = session.request(
                method,
                review.url + asked.path_of(route),
                headers={**headers, **kind},
                data=body,
                timeout=60,
            )
            assert answer.status_code == 403, (headers, answer.text)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("route", [path for _, path in ROUTES if "/api/" not in path])
def test_a_form_needs_the_token_of_its_own_browser(
    review: ReviewSite, asked: Asked, route: str
) -> None:
    session, own = browser(review, "bob")
    _, others = browser(review, "mallory")
    for cookie, field in (
        (own, None),
        (own, ""),
        (own, others),
        (own, own[:-1]),
        (own, f"{own}x"),
        (own, "ol%C3%A9"),
        (None, others),
        ("", ""),
    ):
        session.cookies.clear()
        body = f"action=approve&request={asked.id}&text=x&version=1&target=prod"
        body += "" if field is None else f"&csrf_token={field}"
        headers = FORM if cookie is None else {**FORM, "Cookie": f"mpp_csrf={cookie}"}
        address = review.url + asked.path_of(route)
        answer = session.post(address, headers=headers, data=body, timeout=60)
        assert answer.status_code == 403, (cookie, field, answer.status_code)


def test_tokens_with_any_letters_can_be_compared() -> None:
    assert is_csrf_token("é\udcff", "é\udcff")
    assert not is_csrf_token("é", "e")
    assert not is_csrf_token("", "")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_bodies_that_a_form_can_send_are_not_json(
    review: ReviewSite, asked: Asked, method: str, route: str
) -> None:
    if "/api/" not in route or method == "DELETE":  # no form sends a DELETE
        pytest.skip("takes no JSON")
    session, token = browser(review, "bob")
    for kind in ("text/plain", FORM["Content-Type"], "multipart/form-data; boundary=x", None):
        answer = session.request(
            method,
            review.url + asked.path_of(route),
            headers={"Content-Type": kind},  # type: ignore[dict-item]  # None: leave it out
            data=f'{{"comment": "x", "text": "x", "csrf_token": "{token}"}}',
            timeout=60,
        )
        assert answer.status_code == 400, (kind, answer.text)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_a_method_is_what_the_request_line_says(
    review: ReviewSite, asked: Asked, method: str, route: str
) -> None:
    session, token = browser(review, "bob")
    fields = {"action": "approve", "csrf_token": token, "_method": method, "text": "x"}
    for name in OVERRIDES:
        for sent in ("GET", "HEAD", "OPTIONS"):
            address = review.url + asked.path_of(route)
            answer = session.request(
                sent, address, params=fields, headers={name: method}, timeout=60
            )
            assert answer.status_code < 500
    if method != "POST":
        answer = session.post(
            review.url + asked.path_of(route), data=fields, headers={OVERRIDES[0]: method}
        )
        assert answer.status_code in (400, 404, 405), answer.text
