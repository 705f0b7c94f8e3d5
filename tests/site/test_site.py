"""The documentation's site in Chromium: search, accessibility, links; it fetches nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
import yaml

from tests.support import servers

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

QUESTIONS = yaml.safe_load((Path(__file__).parent / "questions.yaml").read_text())
PAGES = (
    "index.html",
    "tutorials/first-promotion.html",
    "how-to/approvals/pipeline.html",
    "reference/policy.html",
    "explanation/security.html",
)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    program = servers.find_program("chromium", "chromium", "chromium-browser", "google-chrome")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program, headless=True, args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


def _hits(page: Page, question: str) -> list[str]:
    """Type a question into the site's search; return the pages of its first three hits."""
    field = page.locator("input[data-md-component=search-query]")
    item = "li.md-search-result__item"
    page.evaluate(f"document.querySelectorAll('{item}').forEach((one) => one.dataset.old = 1)")
    field.fill(question)
    field.press("Space")  # the site answers to keys
    page.wait_for_selector(f"{item}:not([data-old])", state="attached")
    links = page.locator(f"{item} > a.md-search-result__link")
    hrefs = [
        links.nth(number).get_attribute("href") or "" for number in range(min(3, links.count()))
    ]
    return [re.sub(r"^.*?://[^/]+/|\.html.*$", "", href) for href in hrefs]


def test_the_search_answers_what_people_ask(chromium: Browser, served_site: str) -> None:
    assert len(QUESTIONS) >= 20
    page = chromium.new_page()
    page.goto(f"{served_site}/index.html")
    page.locator("input[data-md-component=search-query]").click()
    unanswered = {}
    for one in QUESTIONS:
        hits = _hits(page, one["question"])
        if not set(hits) & set(one["answered_by"]):
            unanswered[one["question"]] = hits
    page.close()
    assert not unanswered


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_are_accessible_and_fetch_nothing(
    chromium: Browser, served_site: str, scheme: Any, width: int
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    context = chromium.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 844}, reduced_motion="reduce"
    )
    page = context.new_page()
    fetched: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: fetched.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    found: dict[str, dict[str, list[str]]] = {}
    for name in PAGES:
        page.goto(f"{served_site}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth + 1"), name
        for violation in Axe().run(page).response["violations"]:
            shown = [node["html"][:160] for node in violation["nodes"][:2]]
            found.setdefault(violation["id"], {}).setdefault(name, shown)
    context.close()
    assert not found, yaml.safe_dump(found)
    assert not errors
    elsewhere = [url for url in fetched if not url.startswith((served_site, "data:", "blob:"))]
    assert not elsewhere


def test_no_page_or_style_loads_from_elsewhere(site: Path) -> None:
    """Of every page and style, not only of those that a browser opens above."""
    elements = "script|link|img|iframe|source|video|audio|object|embed|use"
    attributes = "src|srcset|href|data|poster"
    address = r"""((?:https?:)?//[^"'>)\s]+)"""
    loads = re.compile(rf"""<(?:{elements})\b[^>]*?\s(?:{attributes})=["']?{address}""")
    styles = re.compile(rf"""(?:url\(|@import)\s*["']?{address}""")
    found = {}
    for path in site.rglob("*"):
        if path.suffix not in (".html", ".css", ".svg"):
            continue
        text = path.read_text()
        inner = re.findall(r"<style.*?</style>", text, re.DOTALL)
        style = text if path.suffix == ".css" else "".join(inner)
        if elsewhere := loads.findall(text) + styles.findall(style):
            found[path.relative_to(site).as_posix()] = elsewhere
    assert not found


def test_links_of_the_site_lead_to_places(site: Path) -> None:
    texts = {path.relative_to(site).as_posix(): path.read_text() for path in site.rglob("*.html")}
    places = {
        name: set(re.findall(r'\sid="([^"]+)"', text)) | set(re.findall(r'\sname="([^"]+)"', text))
        for name, text in texts.items()
    }
    broken = []
    for name, text in texts.items():
        if name == "404.html":
            continue
        for link in re.findall(r'<a[^>]*\shref="([^"]+)"', text):
            link, anchor = urldefrag(urljoin(f"http://site/{name}", link.replace("&amp;", "&")))
            if urlsplit(link).netloc != "site":
                continue
            target = unquote(urlsplit(link).path)[1:] or "index.html"
            if target in places:
                if anchor and unquote(anchor) not in places[target]:
                    broken.append(f"{name}: {target}#{anchor}")
            elif not (site / target).is_file():
                broken.append(f"{name}: {target}")
    assert not broken
