"""MkDocs hook: pages outside docs/ and the scripts of others become part of the site.

The README is the first page. Links are written for readers of the repository; here, each is
rewritten for the place that its target has in the site. The examples' files can be downloaded, and
a comment ``<!-- docs: file PATH -->`` shows one. Of a link to another file, the text stays.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files, InclusionLevel

CHECKOUT = Path(__file__).resolve().parent.parent
OTHER_PAGES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "benchmarks/README.md",
    *(str(path.relative_to(CHECKOUT)) for path in sorted(CHECKOUT.glob("examples/**/README.md"))),
)
EXAMPLE_FILES = tuple(
    str(path.relative_to(CHECKOUT))
    for path in sorted(CHECKOUT.glob("examples/**/*"))
    if path.is_file()
    and path.suffix in (".conf", ".ini", ".py", ".service", ".sh", ".timer", ".toml", ".yaml")
)
_LANGUAGES = {".py": "python", ".conf": "nginx"}
_FILE = re.compile(r"^<!-- docs: file (\S+) -->$", re.MULTILINE)
# How much a page's words count in the site's search: who asks wants to do something.
_WEIGHTS = {
    "how-to/": 2.0,
    "tutorials/": 1.5,
    "roles/": 0.5,
    "explanation/bypass": 0.2,
    "explanation/decisions": 0.3,
    "benchmarks/": 0.3,
    "CHANGELOG": 0.2,
}
_MERMAID = ".programs/mermaid/node_modules/mermaid/dist/mermaid.min.js"
_LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#:]+)((?:#[^)\s]*)?\))")
_NAMES = {
    'data-md-component="search" role="dialog"': (
        'data-md-component="search" role="dialog" aria-label="Search"'
    ),
    '<nav class="md-path" aria-label="Navigation"': '<nav class="md-path" aria-label="Path"',
}
_CELL = re.compile(r"(?<=<td><code>)[^<]{16,}(?=</code>)")
_WORD_END = re.compile(r"([_./:,])(?=\w)")
_FETCHED = re.compile(
    r"""<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)=["']?(https?:[^"' >]+)"""
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, the other pages and the drawing library."""
    for source in ("README.md", *OTHER_PAGES, *EXAMPLE_FILES):
        site = _in_site(source)
        _add(files, config, site, content=(CHECKOUT / source).read_text(encoding="utf-8"))
    library = Path(os.environ.get("MERMAID_JS") or CHECKOUT / _MERMAID)
    if not library.is_file():
        raise PluginError(f"{library} is missing; run: scripts/install --programs")
    _add(files, config, "javascripts/mermaid.min.js", content=library.read_text(encoding="utf-8"))
    return files


def on_page_markdown(markdown: str, *, page: Any, files: Files, **_: Any) -> str:
    """Rewrite the links of a page for the site, and weigh it for the search."""
    site = page.file.src_uri
    if site == "index.md":  # it is alone in its part of the navigation
        page.meta["hide"] = ["navigation"]
    for place, weight in _WEIGHTS.items():
        if site.startswith(place):
            page.meta["search"] = {"boost": weight}
    source = _in_repository(site)

    def rewritten(found: re.Match[str]) -> str:
        before, link, after = found.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
        if (CHECKOUT / target).is_dir() and (CHECKOUT / target / "README.md").exists():
            target += "/README.md"
        place = _in_site(target)
        if files.get_file_from_path(place) is None:
            return _code(found) if not before.startswith("!") else found[0]
        return f"{before}{posixpath.relpath(place, posixpath.dirname(site) or '.')}{after}"

    def shown(found: re.Match[str]) -> str:
        path = CHECKOUT / posixpath.dirname(source) / found[1]
        language = _LANGUAGES.get(path.suffix, path.suffix[1:])
        text = path.read_text(encoding="utf-8")
        return f'```{language} title="{path.name}"\n{text}```'

    markdown = _FILE.sub(shown, markdown)
    return _outside_code(markdown, lambda text: _LINK.sub(rewritten, text))


def on_post_page(output: str, **_: Any) -> str:
    """Name what the theme leaves without a name; let long names in tables break between words."""
    for unnamed, named in _NAMES.items():
        output = output.replace(unnamed, named)
    return _CELL.sub(lambda cell: _WORD_END.sub(r"\1<wbr>", cell[0]), output)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that fetches anything from elsewhere when it is read."""
    for page in Path(config.site_dir).rglob("*.html"):
        if found := _FETCHED.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page} would fetch {found[1]}")


def _code(link: re.Match[str]) -> str:
    """Return a link to a source file as its text: the site holds pages only."""
    return link[1].lstrip("[").removesuffix("](")


def _in_site(source: str) -> str:
    if source == "README.md":
        return "index.md"
    return source.removeprefix("docs/")


def _in_repository(site: str) -> str:
    if site == "index.md":
        return "README.md"
    return site if site in (*OTHER_PAGES, *EXAMPLE_FILES) else f"docs/{site}"


def _add(files: Files, config: MkDocsConfig, site: str, content: str) -> None:
    added = File.generated(config, site, content=content, inclusion=InclusionLevel.INCLUDED)
    if (known := files.get_file_from_path(site)) is not None:
        files.remove(known)
    files.append(added)


def _outside_code(text: str, change: Any) -> str:
    """Return a text with a change made outside its code blocks."""
    parts = re.split(r"(^```.*?^```)", text, flags=re.DOTALL | re.MULTILINE)
    return "".join(part if part.startswith("```") else change(part) for part in parts)
