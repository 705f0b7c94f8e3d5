"""The pages, as a browser without JavaScript uses them, and as an attacker does."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest
import requests

from tests.approvals.support.review_sites import ReviewSite, password_of

API = "/approvals/api/v1"


class Browser:
    """A browser of one person: it keeps cookies, and sends what forms have in them."""

    def __init__(self, review: ReviewSite, user: str | None) -> None:
        self.url = review.url
        self._session = requests.Session()
        self._session.trust_env = False
        self._session.auth = None if user is None else password_of(user)
        self.page = ""

    def get(self, path: str) -> requests.Response:
        answer = self._session.get(self.url + path, timeout=120)
        self.page = answer.text
        return answer

    def send(
        self, path: str, headers: dict[str, str] | None = None, **fields: str
    ) -> requests.Response:
        token = re.search(r'name="csrf_token" value="([^"]+)"', self.page)
        # A page without a form sets the cookie as well.
        fields.setdefault("csrf_token", token[1] if token else self._session.cookies["mpp_csrf"])
        sent = {"Origin": self.url, "Sec-Fetch-Site": "same-origin"} | (headers or {})
        answer = self._session.post(self.url + path, data=fields, headers=sent, timeout=120)
        self.page = answer.text
        return answer


def ask(review: ReviewSite, name: str, version: int, comment: str = "please") -> str:
    body = {"model": name, "version": version, "target": "prod", "comment": comment}
    return str(review.json("alice", "POST", f"{API}/requests", body)["id"])


def test_three_people_do_the_whole_job_with_forms(review: ReviewSite) -> None:
    version = review.new_version("page-1")
    review.tested("page-1", version)
    alice, bob, dave = (Browser(review, user) for user in ("alice", "bob", "dave"))
    alice.get("/approvals/models/model?name=page-1")
    asked = alice.send(
        "/approvals/models/model?name=page-1", version=str(version), target="prod", text="**now**"
    )
    assert "The request is filed." in asked.text
    assert "<strong>now</strong>" in asked.text
    path = urlsplit(asked.url).path

    assert f'href="{path}"' in bob.get("/approvals/").text
    assert "May still approve: bob, carol, dave" in bob.get(path).text
    assert "Your comment is added." in bob.send(path, action="comment", text="why?").text
    assert "1 of 2" in bob.send(path, action="approve", text="fine").text
    refused = bob.send(path, action="apply")
    assert (refused.status_code, "Permission denied" in refused.text) == (403, True)
    dave.get(path)
    assert "Your approval is recorded." in dave.send(path, action="approve").text
    alice.get(path)
    assert "The change is made." in alice.send(path, action="apply").text
    with review.signed_in("alice") as client:
        assert client.get_model_version_by_alias("page-1", "prod").version == str(version)
    model = bob.get("/approvals/models/model?name=page-1").text
    assert "approved by bob, dave" in model
    assert f'href="{path}"' in bob.get("/approvals/?view=history").text


@pytest.mark.parametrize(
    "path", ["/", "/models", "/audit", "/audit?verify=1", "/policy", "/policy?model=fraud-eu"]
)
def test_each_page_is_protected_and_private(review: ReviewSite, path: str) -> None:
    answer = Browser(review, "bob").get(f"/approvals{path}")
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["X-Frame-Options"] == "DENY"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text  # the policy forbids scripts in the page
    stranger = Browser(review, None).get(f"/approvals{path}")
    assert (stranger.status_code, stranger.headers["WWW-Authenticate"]) == (
        401,
        'Basic realm="mlflow"',
    )


def test_pages_of_other_peoples_models_do_not_exist(review: ReviewSite) -> None:
    version = review.new_version("page-2")
    request = ask(review, "page-2", version)
    mallory = Browser(review, "mallory")
    for path in (
        f"/requests/{request}",
        "/models/model?name=page-2",
        "/models",
        "/audit?model=page-2",
        f"/audit?request_id={request}",
        "/audit.jsonl?model=page-2",
        "/?view=open",
        "/health",
    ):
        answer = mallory.get(f"/approvals{path}")
        assert "train page-2" not in answer.text
        assert "alice" not in answer.text, path
    mallory.get("/approvals/policy")
    refused = mallory.send(f"/approvals/requests/{request}", action="comment", text="hi")
    assert refused.status_code == 404
    asked = mallory.send("/approvals/models/model?name=page-2", version="1", target="prod")
    assert asked.status_code == 404


def test_forms_of_other_sites_are_refused(review: ReviewSite) -> None:
    version = review.new_version("page-3")
    path = f"/approvals/requests/{ask(review, 'page-3', version)}"
    bob = Browser(review, "bob")
    bob.get(path)
    page = bob.page
    evil = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    for headers, fields in (
        (evil, {}),
        ({"Sec-Fetch-Site": "same-site"}, {}),
        ({"Origin": "null", "Sec-Fetch-Site": "cross-site"}, {}),
        ({}, {"csrf_token": ""}),
        ({}, {"csrf_token": "x" * 43}),
        ({"Content-Type": "text/plain"}, {}),
        ({"X-HTTP-Method-Override": "DELETE"}, {"csrf_token": "x"}),
    ):
        bob.page = page
        answer = bob.send(path, headers, action="approve", **fields)
        assert answer.status_code in (400, 403), headers
    # Older browsers name the origin only.
    for origin, status in (("https://evil.example", 403), (review.url, 400)):
        answer = requests.post(
            f"{review.url}{API}/requests",
            data="{}",
            headers={"Origin": origin},
            auth=password_of("bob"),
            timeout=60,
        )
        assert answer.status_code == status
    assert review.json("bob", "GET", f"{API}/requests/{path[-32:]}")["votes"] == []


XSS = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>{{7*7}}"


def test_what_users_write_stays_text(review: ReviewSite) -> None:
    name = "page <b>4"
    version = review.new_version(name, metrics={"a: m/b": 1.0})
    with review.signed_in("alice") as client:
        found = client.get_model_version(name, str(version))
        client.set_model_version_tag(name, str(version), "k u", XSS)
        client.log_param(found.run_id, "p u", XSS[:60])
        client.set_tag(found.run_id, "lineage.inputs", f'[{{"u": "s3://{XSS[2:60]}", "n": 1}}]')
        client.set_tag(found.run_id, "mlflow.source.name", XSS)
        client.log_text(found.run_id, XSS, "model/<img src=x onerror=alert(1)>.txt")
        client.log_text(found.run_id, f"{XSS}==1\n", "model/requirements.txt")
        client.update_model_version(name, str(version), XSS)
    request = ask(review, name, version, XSS)
    review.json("bob", "POST", f"{API}/requests/{request}/comments", {"text": XSS})
    review.json("bob", "POST", f"{API}/requests/{request}/approve", {"comment": XSS})
    bob = Browser(review, "bob")
    for path in (
        f"/requests/{request}",
        "/?view=open&text=%22%3E%3Cscript%3E",
        "/models?text=%22%3E%3Cscript%3E",
        "/models/model?name=page%20%3Cb%3E4",
        "/audit?model=%22%3E%3Cscript%3E",
        f"/audit?request_id={request}",
        "/policy?model=%22%3E%3Cscript%3E&as_user=%22%3E%3Cscript%3E",
        "/lineage?target=%22%3E%3Cscript%3E",
        "/lineage?target=%3Cscript%3Ealert(1)%3C/script%3E",
        "/lineage?target=models:/page%20%3Cb%3E4/1",
        "/requests/%22%3E%3Cscript%3E",
        f"/requests/{request}?done=%3Cscript%3E",
    ):
        page = bob.get(f"/approvals{path}").text
        for tag in ("<script>", "<img", "<b>4"):
            assert tag not in page, (path, tag)
    page = bob.get(f"/approvals/requests/{request}").text
    assert "{{7*7}}" in page
    assert "&lt;img src=x onerror=alert(1)&gt;.txt" in page


def test_huge_bodies_and_unknown_methods(review: ReviewSite) -> None:
    path = f"{API}/requests"
    assert review.call("bob", "POST", path, data=b"x" * 200_000).status_code == 413

    def chunks() -> object:
        for _ in range(20):
            yield b"x" * 10_000

    assert review.call("bob", "POST", path, data=chunks()).status_code == 413
    assert review.call("bob", "POST", path, data=b'{"a":' * 10_000).status_code == 400
    assert review.call("bob", "DELETE", path).status_code == 405
    assert review.call("bob", "TRACE", "/approvals/").status_code == 405
    for token in ("\u0663", "////", "W10=", "eyJvZmZzZXQiOiAiOTk5OTk5OTk5OTk5OTk5OTk5OTkifQ=="):
        answer = review.call("bob", "GET", "/approvals/models", params={"page_token": token})
        assert answer.status_code == 400, token  # MLflow itself fails on some of these
    for place in ("//evil.example", "/\\evil.example", "/approvals//evil.example/.."):
        answer = review.call("bob", "GET", place)
        assert "evil.example" not in answer.headers.get("Location", "")
