"""Write the pictures of docs/images from the running product: the demo's server, in Chromium.

    python scripts/make_pictures.py [FOLDER]

Takes a minute, and needs what the tests of the review app need. Look at the pictures before you
commit them: no test can. With FOLDER it writes every page of the review app there instead, as wide
as a screen and as a phone, light and dark.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from rich.console import Console

from mlflow_plugins_pack.cli.demo.site import Site
from mlflow_plugins_pack.cli.demo.story import MODEL, run_story

IMAGES = Path(__file__).resolve().parent.parent / "docs" / "images"


def main() -> int:
    """Run the demo, and photograph its pages as Bob sees them."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory(prefix="pictures-") as name:
        site = Site(Path(name).resolve())
        try:
            run_story(site, Console(quiet=True))
            request = site.file_request(MODEL, 2, "prod")
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=shutil.which("chromium"),
                    args=["--no-sandbox", "--disable-gpu"],
                )
                if sys.argv[1:]:
                    _all_pages(browser, site, request, Path(sys.argv[1]))
                    return 0
                context = browser.new_context(
                    http_credentials={"username": "bob", "password": site.password_of("bob")},
                    viewport={"width": 1100, "height": 900},
                    color_scheme="light",
                )
                page = context.new_page()
                page.goto(request)
                page.screenshot(path=IMAGES / "review-request.png")
                target = quote(f"models:/{MODEL}@prod", safe="")
                page.goto(f"{site.url}/approvals/lineage?target={target}")
                page.screenshot(path=IMAGES / "lineage-graph.png")
                run_id = _run_of(site)
                page.set_viewport_size({"width": 1100, "height": 1000})
                page.goto(f"{site.url}/#/experiments/{run_id[0]}/runs/{run_id[1]}")
                page.get_by_text("lineage.inputs").first.wait_for()
                # Without MLflow's menu and assistant.
                middle = {"x": 198, "y": 8, "width": 612, "height": 840}
                page.screenshot(path=IMAGES / "lineage-ui.png", clip=middle)
                browser.close()
        finally:
            site.stop()
    for path in IMAGES.glob("*.png"):
        Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
    return 0


def _all_pages(browser: Any, site: Site, request: str, folder: Path) -> None:
    """Write every page of the review app, in each form."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "inbox": ("bob", "/"),
        "inbox-empty": ("alice", "/?view=waiting"),
        "history": ("bob", "/?view=history"),
        "request": ("bob", request.partition("/approvals")[2]),
        "models": ("bob", "/models"),
        "model": ("alice", f"/models/model?name={MODEL}"),
        "lineage": ("bob", f"/lineage?target=models:/{MODEL}/2"),
        "audit": ("bob", "/audit?verify=1"),
        "policy": ("bob", "/policy"),
        "policy-explained": ("bob", f"/policy?model={MODEL}"),
        "health": ("admin", "/health"),
        "not-found": ("bob", "/requests/" + "0" * 32),
    }
    for width, height in ((1280, 900), (390, 844)):
        for scheme in ("light", "dark"):
            for name, (user, path) in pages.items():
                context = browser.new_context(
                    http_credentials={"username": user, "password": site.password_of(user)},
                    viewport={"width": width, "height": height},
                    color_scheme=scheme,
                )
                page = context.new_page()
                page.goto(f"{site.url}/approvals{path}")
                page.screenshot(path=folder / f"{name}-{width}-{scheme}.png", full_page=True)
                context.close()


def _run_of(site: Site) -> tuple[str, str]:
    """Return the experiment and the run of the version in production."""
    import os

    from mlflow import MlflowClient

    os.environ.update(site.environment_of("bob"))
    client = MlflowClient(site.url)
    run_id = client.get_model_version_by_alias(MODEL, "prod").run_id
    return client.get_run(run_id).info.experiment_id, run_id


if __name__ == "__main__":
    sys.exit(main())
