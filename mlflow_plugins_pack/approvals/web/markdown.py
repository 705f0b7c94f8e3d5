"""Renders comments: Markdown without HTML, images or links to anything but web pages."""

from __future__ import annotations

import functools

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

_SCHEMES = ("http://", "https://", "mailto:", "#")


@functools.cache
def _parser() -> MarkdownIt:
    # An image would tell its host who reads the comment, and when.
    parser = MarkdownIt("commonmark", {"html": False, "maxNesting": 20})
    parser.enable(["table", "strikethrough"]).disable(["image", "html_block", "html_inline"])
    parser.validateLink = _is_web  # type: ignore[method-assign]
    parser.core.ruler.push("mark_links", _mark_links)
    return parser


def _is_web(url: str) -> bool:
    return url.strip().lower().startswith(_SCHEMES)


def _mark_links(state: object) -> None:
    tokens: list[Token] = getattr(state, "tokens", [])
    for block in tokens:
        for token in block.children or ():
            if token.type == "link_open":
                token.attrSet("rel", "nofollow noopener noreferrer ugc")


def render(text: str) -> Markup:
    """Return the HTML of a text that any user may have written."""
    return Markup(_parser().render(text))  # noqa: S704 - HTML in it is escaped, links are checked
