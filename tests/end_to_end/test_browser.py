"""What a person sees: the stock UI over the pack's stores, in a real browser.

Screenshots are written to the folder that MLFLOW_PACK_SCREENSHOTS names, if it does.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.support.data import write_breast_cancer
from tests.end_to_end.support.sites import Deployment, run_main_job, started
from tests.support.servers import PASSWORD, find_program

# Read before the fixtures clean the environment.
SCREENSHOTS = os.environ.get("MLFLOW_PACK_SCREENSHOTS")
PATIENCE_MS = 40_000


@pytest.fixture(scope="module")
def made(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[str, Any]]:
    """Do the main job on a server that stays up; give what was made and where."""
    find_program("chromium", "chromium", "chromium-browser", "google-chrome")
    folder = tmp_path_factory.mktemp("deployment")
    data = write_breast_cancer(tmp_path_factory.mktemp("data"))
    with started(Deployment(workers=2), folder, request) as (server, environment):
        yield {"url": server.url, **run_main_job(folder, data, environment)}


@pytest.fixture(scope="module")
def page(made: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Open an empty browser, signed in as alice."""
    from playwright.sync_api import sync_playwright

    chromium = find_program("chromium", "chromium", "chromium-browser", "google-chrome")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
        context = browser.new_context(
            viewport={"width": 1800, "height": 1100},
            http_credentials={"username": "alice", "password": PASSWORD},
        )
        # The UI's own telemetry and fonts stay at home.
        context.route(
            re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort("blockedbyclient")
        )
        opened = context.new_page()
        opened.set_default_timeout(PATIENCE_MS)
        yield opened
        browser.close()


def show(page: Any, made: dict[str, Any], fragment: str) -> None:
    """Open a page of the single-page application."""
    # A changed fragment alone does not always reload it.
    page.goto("about:blank")
    page.goto(f"{made['url']}/#{fragment}")


def see(page: Any, text: str) -> None:
    """Wait until the text shows."""
    from playwright.sync_api import TimeoutError as PlaywrightTimeoutError

    try:
        page.get_by_text(text).filter(visible=True).first.wait_for()
    except PlaywrightTimeoutError:
        keep(page, "failed")
        pytest.fail(f"{text!r} does not show; the page says:\n{page.inner_text('body')[:3000]}")


def keep(page: Any, name: str) -> None:
    """Save a screenshot where the person wants it."""
    if SCREENSHOTS:
        folder = Path(SCREENSHOTS)
        folder.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(folder / f"{name}.png"), full_page=True)


def test_run_page_shows_lineage(page: Any, made: dict[str, Any]) -> None:
    show(page, made, f"/experiments/{made['experiment_id']}/runs/{made['run_id']}")
    see(page, "Datasets")
    see(page, "measurements.csv")
    see(page, "diagnoses.parquet")
    see(page, "lineage.inputs")
    see(page, "lineage.coverage")
    see(page, "best accuracy")
    keep(page, "run")


def test_runs_table_shows_datasets(page: Any, made: dict[str, Any]) -> None:
    show(page, made, f"/experiments/{made['experiment_id']}/runs")
    see(page, "search")
    see(page, "measurements.csv")
    keep(page, "runs")


def test_artifact_viewer_shows_content(page: Any, made: dict[str, Any]) -> None:
    base = f"/experiments/{made['experiment_id']}/runs/{made['run_id']}/artifacts"
    show(page, made, f"{base}/notes/read me, 100 %25 ümlaut.txt")
    see(page, "notes")
    see(page, "lineage")
    keep(page, "artifacts")
    page.get_by_text("notes", exact=True).first.click()
    page.get_by_text(re.compile("read me, 100 % ümlaut")).first.click()
    see(page, "0 bytes follow")
    keep(page, "artifact-text")
    show(page, made, f"{base}/lineage/lineage.json")
    see(page, "diagnoses.parquet")
    keep(page, "artifact-lineage")


def test_model_page_shows_versions_and_alias(page: Any, made: dict[str, Any]) -> None:
    show(page, made, f"/models/{made['model']}")
    see(page, "Version 1")
    see(page, "Version 2")
    see(page, "prod")
    keep(page, "model")


def test_model_version_page_shows_the_approval(page: Any, made: dict[str, Any]) -> None:
    show(page, made, f"/models/{made['model']}/versions/1")
    see(page, "mlflow_approvals.prod")
    see(page, "APPLIED")
    keep(page, "model-version")
