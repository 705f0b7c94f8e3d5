"""Renders templates: escaping, addresses, times, who is signed in."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote, urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from mlflow.exceptions import MlflowException
from starlette.requests import Request
from starlette.responses import HTMLResponse

from mlflow_plugins_pack.approvals.api.protection import CSRF_FIELD, new_csrf_token
from mlflow_plugins_pack.approvals.api.review import Review
from mlflow_plugins_pack.approvals.api.visitors import Visitor
from mlflow_plugins_pack.approvals.domain.review_pages import ROOT
from mlflow_plugins_pack.approvals.web import comparison, markdown

CSRF_COOKIE = "mpp_csrf"
ADMIN_SECTION = "Health"


@functools.cache
def environment() -> Environment:
    """Return the templates, which escape every value."""
    found = Environment(
        loader=PackageLoader("mlflow_plugins_pack.approvals.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "time": time,
        "markdown": markdown.render,
        "bytes": comparison.size,
        "short": lambda text: str(text)[:8],
    }
    return found


def time(ms: int | None) -> Markup:
    """Return a moment, in UTC; a script of the page shows it in the reader's zone."""
    if ms is None:
        return Markup("-")
    moment = datetime.fromtimestamp(ms / 1000, timezone.utc)
    return Markup('<time datetime="{}">{}</time>').format(
        moment.isoformat(timespec="seconds"), moment.strftime("%Y-%m-%d %H:%M UTC")
    )


def status_of(exc: MlflowException) -> int:
    """Return the status of a page that shows an error.

    Not 401: a browser would ask a visitor who is signed in for another password.
    """
    status: int = exc.get_http_status_code()
    return 403 if status == 401 else status


class Pages:
    """Renders pages for one request.

    Args:
        request: The request.
        review: The review app's parts.
        visitor: Who asks; None: not known.
    """

    def __init__(self, request: Request, review: Review, visitor: Visitor | None) -> None:
        self._request = request
        self._review = review
        self._visitor = visitor
        self.csrf_token = request.cookies.get(CSRF_COOKIE) or new_csrf_token()

    def url(self, path: str, **query: object) -> str:
        """Return the address of a page of the app."""
        named = {name: value for name, value in query.items() if value not in ("", None)}
        visitor = self._visitor
        if visitor is not None and visitor.workspace != "default":
            named["workspace"] = visitor.workspace
        text = f"?{urlencode(named)}" if named else ""
        return f"{self._request.scope.get('root_path', '')}{ROOT}{path}{text}"

    def mlflow(self, *parts: object) -> str:
        """Return the address of one of MLflow's own pages."""
        base = self._review.site.mlflow_url or str(self._request.scope.get("root_path", ""))
        query = ""
        if self._visitor is not None and self._visitor.workspace != "default":
            query = f"?workspace={quote(self._visitor.workspace, safe='')}"
        return f"{base}/#/{'/'.join(quote(str(part), safe='') for part in parts)}{query}"

    def page(
        self,
        template: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **values: Any,
    ) -> HTMLResponse:
        """Return a page."""
        text = (
            environment()
            .get_template(template)
            .render(
                url=self.url,
                mlflow=self.mlflow,
                user=self._visitor.user if self._visitor is not None else None,
                csrf_field=self._csrf_field(),
                sections=self._sections(),
                **values,
            )
        )
        # Names of files and what JSON holds can have halves of characters.
        answer = HTMLResponse(text.encode("utf-8", "replace"), status, dict(headers or {}))
        if self._request.cookies.get(CSRF_COOKIE) != self.csrf_token:
            answer.set_cookie(
                CSRF_COOKIE,
                self.csrf_token,
                httponly=True,
                samesite="strict",
                secure=self._request.url.scheme == "https",
                path=f"{self._request.scope.get('root_path', '')}{ROOT}",
            )
        return answer

    def _sections(self) -> list[tuple[str, str]]:
        """Return the pages that the visitor may open."""
        is_admin = self._visitor is not None and self._visitor.is_admin
        sections: list[tuple[str, str]] = self._request.app.state.sections
        return [section for section in sections if is_admin or section[0] != ADMIN_SECTION]

    def _csrf_field(self) -> Markup:
        token = escape(self.csrf_token)
        return Markup('<input type="hidden" name="{}" value="{}">').format(CSRF_FIELD, token)
