"""Signing in as a person does it: a terminal (tmux) and a browser (Chromium)."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import servers
from tests.support.oidc import OidcProvider
from tests.support.oidc.person import sign_in

Profiles = Callable[[str], Path]


class Terminal:
    """One pane of a tmux server of its own."""

    def __init__(self, program: str, folder: Path) -> None:
        self._tmux = [program, "-S", str(folder / "s"), "-f", os.devnull]

    def run(self, *arguments: str) -> str:
        """Run a tmux command and return what it prints."""
        done = subprocess.run(
            [*self._tmux, *arguments], check=True, capture_output=True, text=True, timeout=30
        )
        return done.stdout

    def screen(self) -> str:
        """Return what the person sees, lines that were wrapped joined again."""
        return self.run("capture-pane", "-p", "-J", "-t", "0")

    def type(self, text: str, *keys: str) -> None:
        self.run("send-keys", "-t", "0", "-l", text)
        self.run("send-keys", "-t", "0", *keys)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait until the pattern is on the screen."""
        found: list[re.Match[str]] = []

        def look() -> bool:
            found.extend(re.finditer(pattern, self.screen()))
            return bool(found)

        try:
            servers.wait_until(look, repr(pattern))
        except pytest.fail.Exception:
            pytest.fail(f"{pattern!r} never came up on\n{self.screen()}")
        return found[-1]


@contextlib.contextmanager
def opened(**environment: str) -> Iterator[Terminal]:
    """A terminal of 80 columns with a plain shell."""
    program = servers.find_program("tmux", "tmux")
    # A socket's path is short, and the shell writes no history.
    folder = Path(tempfile.mkdtemp(prefix="tmux-"))
    terminal = Terminal(program, folder)
    settings = {
        **os.environ,
        "TERM": "xterm-256color",
        "LC_ALL": "C.UTF-8",
        "PS1": "ready> ",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        **environment,
    }
    for name in ("TMUX", "DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "SSH_TTY", "SSH_CONNECTION"):
        if name not in environment:
            settings.pop(name, None)
    command = [*terminal._tmux, "new-session", "-d", "-x", "80", "-y", "40", "sh", "-i"]
    subprocess.run(command, check=True, env=settings, timeout=30)
    try:
        yield terminal
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            terminal.run("kill-server")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def profile(provider: OidcProvider, profiles: Profiles) -> str:
    profiles(
        f'[profile.me]\nhosts = ["https://h.example"]\nsource = "oidc"\n'
        f'issuer = "{provider.issuer}"\nclient_id = "person"\n'
        'scope = "openid offline_access mlflow"\n'
    )
    return "me"


LOGIN = "mlflow-pack auth login"


def test_over_ssh_a_code_is_shown_and_any_device_will_do(profile: str) -> None:
    with opened(SSH_CONNECTION="192.0.2.1 5 192.0.2.2 22") as terminal:
        terminal.type(LOGIN, "Enter")
        code = terminal.wait_for(r"enter the code  ([A-Z]{4}-[A-Z]{4})")
        whole = terminal.wait_for(r"or open (\S+), which has it")
        assert code[1] in whole[1].replace("%2D", "-")
        sign_in(whole[1])
        terminal.wait_for(r"Signed in as alice\.")
        terminal.wait_for(r"is good for \d+ minutes, and is renewed by itself")
        terminal.type("mlflow-pack auth status", "Enter")
        terminal.wait_for(r"me .*there +alice")


def test_giving_up_and_timing_out(profile: str) -> None:
    with opened() as terminal:
        terminal.type(f"{LOGIN} --timeout 3600; echo code $?", "Enter")
        terminal.wait_for("Waiting")
        terminal.run("send-keys", "-t", "0", "C-c")
        assert terminal.wait_for(r"code (\d+)")[1] != "0"
        assert "Traceback" not in terminal.screen()
        terminal.type(f"clear; {LOGIN} --browser --no-open --timeout 2; echo code $?", "Enter")
        terminal.wait_for("was not finished within 2 s; start it again")
        assert terminal.wait_for(r"code (\d+)")[1] == "1"
        assert "Nothing was kept" in terminal.screen()
        assert "Traceback" not in terminal.screen()


def test_with_a_browser(profile: str) -> None:
    """Chromium signs in, consents, and comes back to the loopback page."""
    from playwright.sync_api import sync_playwright

    chromium = servers.find_program("chromium", "chromium", "chromium-browser", "google-chrome")
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    with opened() as terminal, sync_playwright() as playwright:
        terminal.type(f"{LOGIN} --browser", "Enter")
        url = terminal.wait_for(r"(http://\S+code_challenge\S+)")[1]
        browser = playwright.chromium.launch(executable_path=chromium, headless=True, args=flags)
        page = browser.new_page()
        page.set_default_timeout(60_000)
        # The development pages ask for a font elsewhere.
        page.route(re.compile(r"^https?://(?!127\.0\.0\.1)"), lambda route: route.abort())
        page.goto(url)
        page.fill("input[name=login]", "alice")
        page.fill("input[name=password]", "anything")
        page.click("button[type=submit]")
        page.click("button[type=submit]:has-text('Continue')")
        page.get_by_text("The browser's part is done.").wait_for()
        assert "code=" in page.url
        browser.close()
        terminal.wait_for(r"Signed in as alice\.")
        terminal.type("mlflow-pack auth logout", "Enter")
        terminal.wait_for("Signed out of me: its tokens are forgotten")
