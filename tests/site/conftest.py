"""The documentation's site, built once, and served as it is published."""

from __future__ import annotations

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built site: what DOCS_SITE names, as in CI, or one that is built here."""
    if built := os.environ.get("DOCS_SITE"):
        return Path(built)
    library = ROOT / ".programs/mermaid/node_modules/mermaid/dist/mermaid.min.js"
    if not (os.environ.get("MERMAID_JS") or library.is_file()):
        pytest.skip(
            "neither DOCS_SITE nor MERMAID_JS is set, and scripts/install --programs not run"
        )
    folder = tmp_path_factory.mktemp("site")
    subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--quiet", "--strict", "--site-dir", str(folder)],
        check=True,
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    return folder


@pytest.fixture(scope="session")
def served_site(site: Path) -> Iterator[str]:
    """The address of the site."""
    handler = functools.partial(_Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()
