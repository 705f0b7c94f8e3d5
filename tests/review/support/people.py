"""People with a browser, who visit the review app."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.approvals.support.review_sites import password_of

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


class People:
    """Windows of a browser, one for each person.

    Args:
        browser: The browser.
        url: The address of the app.
        options: Of each window.
    """

    def __init__(self, browser: Browser, url: str, **options: Any) -> None:
        self._browser, self._url, self._options = browser, url, options
        self._pages: dict[str, Page] = {}
        self.problems: list[str] = []

    def __getitem__(self, user: str) -> Page:
        if user not in self._pages:
            name, password = password_of(user)
            context = self._browser.new_context(
                http_credentials={"username": name, "password": password}, **self._options
            )
            page = context.new_page()
            page.on("pageerror", lambda error: self.problems.append(str(error)))
            page.on("console", self._note)
            self._pages[user] = page
        return self._pages[user]

    def _note(self, message: Any) -> None:
        if message.type == "error" and "403" not in message.text:
            self.problems.append(message.text)

    def visit(self, user: str, path: str) -> Page:
        page = self[user]
        page.goto(self._url + path)
        return page

    def press(self, user: str, path: str, button: str, notice: str, reason: str = "") -> None:
        """Press a button of a request's page and read what the page says then."""
        page = self.visit(user, path)
        if reason:
            page.get_by_label("Reason, kept with the request").fill(reason)
        page.get_by_role("button", name=button, exact=True).click()
        assert notice in page.get_by_role("status").inner_text()

    def ask(self, name: str, version: int) -> str:
        """Have alice ask for approval; return the path of the request's page."""
        page = self.visit("alice", f"/approvals/models/model?name={name}")
        page.get_by_label("Version", exact=True).select_option(str(version))
        page.get_by_label("Target", exact=True).select_option("prod")
        page.get_by_label("Why", exact=True).fill("see **the report**")
        page.get_by_role("button", name="Ask for approval").click()
        assert "The request is filed." in page.get_by_role("status").inner_text()
        return urlsplit(page.url).path
