"""Three people do the whole job in Chromium, with JavaScript and without; axe-core on each page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.approvals.support.review_sites import (
    ReviewSite,
    review_app,
    served_mlflow,
    whole_site,
)
from tests.review.support.people import People

if TYPE_CHECKING:
    from playwright.sync_api import Browser

API = "/approvals/api/v1"
PHONE = {"width": 390, "height": 844}
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(params=["next to it, with scripts", "inside, without scripts"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[ReviewSite, bool]]:
    if request.param.startswith("inside"):
        with whole_site(tmp_path) as site:
            yield site, False
        return
    registry = f"approval-sqlite:///{tmp_path / 'mlflow.db'}"
    with served_mlflow(tmp_path, registry) as mlflow, review_app(tmp_path, mlflow, registry) as url:
        yield ReviewSite(mlflow, url, tmp_path), True


def test_the_whole_job(chromium: Browser, served: tuple[ReviewSite, bool]) -> None:
    site, has_scripts = served
    name = "fraud-eu"
    first = site.new_version(name, metrics={"auc": 0.91, "loss": 0.4})
    second = site.new_version(name, metrics={"auc": 0.93, "loss": 0.5})
    for version in (first, second):
        site.tested(name, version)
    people = People(chromium, site.url, java_script_enabled=has_scripts, viewport=DESKTOP)

    def holder() -> str:
        with site.signed_in("alice") as client:
            return str(client.get_model_version_by_alias(name, "prod").version)

    # Version 1, approved by two people of whom each may only READ.
    path = people.ask(name, first)
    inbox = people.visit("bob", "/approvals/")
    inbox.get_by_role("link", name=f"{name} version {first}").click()
    assert urlsplit(inbox.url).path == path
    people.press("bob", path, "Approve", "Your approval is recorded.", "metrics hold")
    people.press("dave", path, "Approve", "Your approval is recorded.")
    people.press("alice", path, "Apply", "The change is made.")
    assert holder() == str(first)

    # Version 2: compared, commented on, rejected; asked for again, and approved.
    path = people.ask(name, second)
    page = people.visit("carol", path)
    auc = page.get_by_role("row").filter(has_text="auc")
    assert "better" in auc.inner_text()
    assert "worse" in page.get_by_role("row").filter(has_text="loss").inner_text()
    page.get_by_label("Comment in Markdown").fill("Why is the *loss* higher?")
    page.get_by_role("button", name="Comment", exact=True).click()
    assert page.locator(".comment em").inner_text() == "loss"
    people.press("carol", path, "Reject", "You rejected the request.", "the loss")
    assert "rejected" in people.visit("alice", path).locator("main").inner_text()
    path = people.ask(name, second)
    people.press("bob", path, "Approve", "Your approval is recorded.")
    people.press("bob", path, "Withdraw my approval", "Your approval is withdrawn.")
    people.press("carol", path, "Approve", "Your approval is recorded.")
    people.press("dave", path, "Approve", "Your approval is recorded.")
    page = people.visit("bob", path)  # READ is enough to vote and not to apply
    page.get_by_role("button", name="Apply").click()
    assert "Permission denied" in page.get_by_role("alert").inner_text()
    people.press("alice", path, "Apply", "The change is made.")
    assert holder() == str(second)

    # Back to version 1, which by the policy needs no approval.
    people.press("alice", people.ask(name, first), "Apply", "The change is made.")
    assert holder() == str(first)
    model = people.visit("erin", f"/approvals/models/model?name={name}")
    assert model.locator(".timeline li").count() == 3
    assert people.problems == []


PAGES = (
    "/",
    "/?view=history",
    "/models",
    "/models/model?name={name}",
    "/requests/{request}",
    "/lineage?target=models:/{name}/1",
    "/audit?verify=1",
    "/policy",
    "/policy?model={name}",
    "/requests/00000000000000000000000000000000",
)


def test_axe_finds_no_serious_fault_and_no_page_is_wider_than_a_phone(
    chromium: Browser, review: ReviewSite
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    name = "axe-1"
    version = review.new_version(name)
    body = {"model": name, "version": version, "target": "prod", "comment": "please"}
    request = review.json("alice", "POST", f"{API}/requests", body)["id"]
    review.json("bob", "POST", f"{API}/requests/{request}/approve", {"comment": "fine"})
    review.json("carol", "POST", f"{API}/requests/{request}/comments", {"text": "`why`?"})
    found = []
    for scheme, size in (("light", DESKTOP), ("dark", PHONE)):
        people = People(chromium, review.url, color_scheme=scheme, viewport=size)
        for path in PAGES:
            page = people.visit("dave", "/approvals" + path.format(name=name, request=request))
            width = page.evaluate("document.documentElement.scrollWidth")
            if width > size["width"]:
                found.append((scheme, path, f"{width} pixels wide"))
            for fault in Axe().run(page).response["violations"]:
                if fault["impact"] in ("serious", "critical"):
                    targets = [node["target"] for node in fault["nodes"]][:3]
                    found.append((scheme, path, f"{fault['id']}: {targets}"))
    assert found == []


def test_the_graph_is_moved_enlarged_and_folded(chromium: Browser, review: ReviewSite) -> None:
    name = "graph-1"
    version = review.new_version(name)
    with review.signed_in("alice") as client:
        client.set_registered_model_alias(name, "shadow", str(version))
        run = client.get_model_version(name, str(version)).run_id
        client.set_tag(
            run, "lineage.inputs", '[{"u": "s3://a/b.csv", "h": "sha256:' + "c" * 64 + '"}]'
        )
    path = f"/approvals/lineage?target=models:/{name}/{version}"
    people = People(chromium, review.url, viewport=DESKTOP)
    page = people.visit("bob", path)
    graph = page.locator("svg.graph")

    def view() -> list[float]:
        return [float(part) for part in (graph.get_attribute("viewBox") or "").split()]

    before = view()
    page.get_by_role("button", name="Enlarge").click()
    assert view()[2] < before[2]
    page.get_by_role("button", name="Right", exact=True).click()
    assert view()[0] > before[0]
    page.get_by_role("button", name="Whole graph").click()
    assert view() == before
    box = graph.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] - 30, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 130, box["y"] + 30, steps=4)
    page.mouse.up()
    assert view()[0] > before[0]
    data = graph.get_by_text("b.csv", exact=True)
    assert data.is_visible()
    fold = graph.get_by_role("button", name=f"What is behind train {name}")
    fold.focus()
    page.keyboard.press("Enter")
    assert not data.is_visible()
    assert page.get_by_role("table").get_by_text("b.csv").first.is_visible()
    page.keyboard.press("Enter")
    assert data.is_visible()
    assert people.problems == []
    # Without scripts the graph scrolls, and its nodes are links.
    plain = People(chromium, review.url, viewport=DESKTOP, java_script_enabled=False).visit(
        "bob", path
    )
    assert plain.get_by_role("button", name="Enlarge").count() == 0
    assert plain.locator("svg.graph a").count() == 3


def test_the_keyboard_reaches_everything(chromium: Browser, review: ReviewSite) -> None:
    page = People(chromium, review.url, viewport=DESKTOP).visit("bob", "/approvals/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    page.keyboard.press("Enter")
    page.wait_for_url("**/approvals/#content")


def test_other_sites_can_neither_frame_a_page_nor_send_its_forms(
    chromium: Browser, review: ReviewSite, tmp_path: Path
) -> None:
    name = "frame-1"
    version = review.new_version(name)
    body = {"model": name, "version": version, "target": "prod"}
    request = review.json("alice", "POST", f"{API}/requests", body)["id"]
    path = f"{review.url}/approvals/requests/{request}"
    evil = tmp_path / "evil.html"
    evil.write_text(
        f'<iframe src="{path}"></iframe><form method="post" action="{path}">'
        '<input name="action" value="approve"><input name="csrf_token" value="x"></form>'
    )
    people = People(chromium, review.url)
    page = people.visit("bob", f"/approvals/requests/{request}")  # signed in, with our cookie
    page.goto(evil.as_uri())
    assert "Approve" not in page.frames[1].content()
    with page.expect_navigation():
        page.evaluate("document.forms[0].submit()")
    assert "Approve" not in page.content() or "another site" in page.content()
    assert review.json("bob", "GET", f"{API}/requests/{request}")["votes"] == []
