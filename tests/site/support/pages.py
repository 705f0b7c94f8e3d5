"""The pages that are followed, in the order of the site's navigation, and their readers."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support import servers
from tests.support.paths import ROOT

DOCS = ROOT / "docs"


def in_order(folder: str) -> list[Path]:
    """Return a folder's pages in the order of the navigation, without its index."""
    named = re.findall(rf"\b{folder}/[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text())
    return [DOCS / name for name in named if not name.endswith(("README.md", "demo.md"))]


def places(port: int) -> dict[str, str]:
    """Return what stands on pages for a server, and what it is at the port."""
    return {"127.0.0.1:5000": f"127.0.0.1:{port}", "--port 5000": f"--port {port}"}


def terminal(folder: Path, **more: str) -> dict[str, str]:
    """Return the environment of a terminal whose user has the folder for a home."""
    quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD": "false"}
    return servers.clean_environment(HOME=str(folder), **quiet, **more)
