"""The pages that are followed, in the order of the site's navigation, and their readers."""

from __future__ import annotations

import re
from pathlib import Path

from tests.site.support.blocks import blocks_of
from tests.support import servers
from tests.support.paths import ROOT

DOCS = ROOT / "docs"


def in_order(folder: str) -> list[Path]:
    """Return a folder's pages in the order of the navigation, without its index."""
    named = re.findall(rf"\b{folder}/[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text())
    return [DOCS / name for name in named if not name.endswith(("README.md", "demo.md"))]


def all_pages() -> list[Path]:
    """Return every page of the site, as it stands in the repository."""
    folders = ("docs", "examples", "benchmarks")
    inner = (path for folder in folders for path in (ROOT / folder).glob("**/*.md"))
    return sorted([*ROOT.glob("*.md"), *inner])


def has_blocks_to_run(page: Path) -> bool:
    """Return whether a page has a command or Python that a reader runs, and a test can."""
    return any(block.is_run for block in blocks_of(page.read_text()))


def examples() -> list[Path]:
    """Return the pages that tests/examples follow."""
    pages = sorted((ROOT / "examples").glob("**/*.md"))
    return [page for page in pages if has_blocks_to_run(page)]


def at_the_team_server() -> list[Path]:
    """Return the pages that are followed at a team's server: all with something to run but these.

    Each tutorial and each example starts with a server of its own.
    """
    others = {*in_order("tutorials"), *examples(), *in_order("how-to")}
    further = [page for page in all_pages() if page not in others and has_blocks_to_run(page)]
    return in_order("how-to") + further


def places(port: int) -> dict[str, str]:
    """Return what stands on pages for a server, and what it is at the port."""
    return {"127.0.0.1:5000": f"127.0.0.1:{port}", "--port 5000": f"--port {port}"}


def terminal(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a terminal whose user has the folder for a home."""
    quiet = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # Bars that only slow machines show come between the lines that pages show.
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false",
    }
    return servers.clean_environment(HOME=str(folder), **quiet, **more)
