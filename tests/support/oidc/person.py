"""A person at the provider's development pages, without a browser: fills in each form it meets."""

from __future__ import annotations

from html.parser import HTMLParser
from urllib.parse import urljoin

import requests


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.action: str | None = None
        self.fields: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.action is None:
            self.action = given.get("action", "")
        elif tag == "input" and given.get("name") and given.get("type") != "checkbox":
            self.fields[given["name"]] = given.get("value", "")


def sign_in(url: str, name: str = "alice") -> str:
    """Open an address and sign in; return the last page's text."""
    with requests.Session() as session:
        answer = session.get(url, timeout=30)
        for _ in range(8):
            form = _Form()
            form.feed(answer.text)
            if form.action is None or "text/html" not in answer.headers.get("Content-Type", ""):
                return answer.text
            for field in ("login", "password"):
                if field in form.fields:
                    form.fields[field] = name
            answer = session.post(urljoin(answer.url, form.action), data=form.fields, timeout=30)
            if "callback" in answer.url:
                return answer.text
    raise AssertionError(f"the pages do not end; the last is\n{answer.text[:2000]}")
