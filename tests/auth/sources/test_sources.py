"""Each source with its real part: variables, files as they are rotated, programs."""

from __future__ import annotations

import base64
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mlflow_plugins_pack.auth.manager import Manager
from mlflow_plugins_pack.auth.sources.command import parse_output
from mlflow_plugins_pack.errors import AmbiguousAddressError, AuthConfigError, CredentialError
from tests.auth.support.parts import write_profiles

Profiles = Callable[[str], Path]
HOST = 'hosts = ["https://h.example"]\n'
ENV = f'[profile.p]\n{HOST}source = "env"\nenv = "T"\n'
BASIC = f'[profile.p]\n{HOST}source = "basic"\n'


def sent(manager: Manager, name: str = "p") -> dict[str, str]:
    return {key: value.reveal() for key, value in manager.credential(name).headers}


def test_a_variable_is_read_again_when_it_changes(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles(f'[profile.p]\n{HOST}source = "env"\nenv = "TOKEN"\nheader = "X-Key"\nscheme = ""\n')
    manager = Manager()
    with pytest.raises(CredentialError, match="TOKEN is not set"):
        manager.credential("p")
    for value in ("one", "two"):
        monkeypatch.setenv("TOKEN", value)
        assert sent(manager) == {"X-Key": value}


def test_a_token_with_its_word_in_front_is_explained(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    profiles(f'[profile.p]\n{HOST}source = "env"\nenv = "TOKEN"\n')
    monkeypatch.setenv("TOKEN", "Bearer abc")
    with pytest.raises(CredentialError, match='set scheme = ""'):
        Manager().credential("p")


@pytest.mark.parametrize("way", ["in place", "replaced", "symlink"])
def test_a_rotated_file_is_read_again(profiles: Profiles, tmp_path: Path, way: str) -> None:
    path = tmp_path / "token"
    if way == "symlink":  # as Kubernetes does
        (tmp_path / "1").write_text("one\n")
        path.symlink_to(tmp_path / "1")
    else:
        path.write_text("one\n")
    profiles(f'[profile.p]\n{HOST}source = "file"\nfile = "{path}"\n')
    manager = Manager()
    assert sent(manager) == {"Authorization": "Bearer one"}
    if way == "in place":
        path.write_text("second\n")
    else:
        (tmp_path / "2").write_text("second\n")
        if way == "symlink":
            (tmp_path / "link").symlink_to(tmp_path / "2")
            os.replace(tmp_path / "link", path)
        else:
            os.replace(tmp_path / "2", path)
    assert sent(manager) == {"Authorization": "Bearer second"}
    path.unlink()
    with pytest.raises(CredentialError, match="does not exist"):
        manager.credential("p")


def test_files_that_are_no_tokens(profiles: Profiles, tmp_path: Path) -> None:
    path = tmp_path / "token"
    profiles(f'[profile.p]\n{HOST}source = "file"\nfile = "{path}"\n')
    for content, said in ((b"", "is empty"), (b"\xff\xfe", "not UTF-8"), (b"x" * 70000, "larger")):
        path.write_bytes(content)
        with pytest.raises(CredentialError, match=said):
            Manager().credential("p")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CredentialError, match="not a regular file"):
        Manager().credential("p")


def test_basic_keeps_blanks_and_umlauts_of_a_password(profiles: Profiles, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text(" pä:ss \n")
    profiles(
        f'[profile.p]\n{HOST}source = "basic"\nusername = "alice"\n'
        f'password = {{ file = "{path}" }}\n'
    )
    word, value = sent(Manager())["Authorization"].split()
    assert word == "Basic"
    assert base64.b64decode(value).decode() == "alice: pä:ss "


def test_headers_from_three_places(
    profiles: Profiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "b").write_text("from-file\n")
    monkeypatch.setenv("A", "from-env")
    profiles(
        f'[profile.p]\n{HOST}source = "headers"\n[profile.p.headers]\nX-A = {{ env = "A" }}\n'
        f'X-B = {{ file = "{tmp_path}/b" }}\nX-C = {{ command = ["echo", "from-command"] }}\n'
    )
    assert sent(Manager()) == {"X-A": "from-env", "X-B": "from-file", "X-C": "from-command"}
    monkeypatch.delenv("A")
    with pytest.raises(CredentialError, match="for the header X-A"):
        Manager().credential("p")


def test_a_command_runs_without_a_shell_and_outside_the_current_directory(
    profiles: Profiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    profiles(f'[profile.p]\n{HOST}source = "command"\ncommand = ["echo", "$HOME;`id`"]\n')
    assert sent(Manager()) == {"Authorization": "Bearer $HOME;`id`"}
    profiles(f'[profile.p]\n{HOST}source = "command"\ncommand = ["pwd"]\n')
    assert sent(Manager()) == {"Authorization": "Bearer /"}
    profiles(f'[profile.p]\n{HOST}source = "command"\ncommand = ["./helper"]\n')
    with pytest.raises(AuthConfigError, match="current directory"):
        Manager().credential("p")


def test_a_command_that_leaves_a_child_behind_is_not_waited_for(profiles: Profiles) -> None:
    profiles(
        f'[profile.p]\n{HOST}source = "command"\ncommand = ["sh", "-c", "sleep 20 & echo token"]\n'
    )
    start = time.monotonic()
    assert sent(Manager()) == {"Authorization": "Bearer token"}
    assert time.monotonic() - start < 8


def test_a_short_token_is_fetched_again_before_it_ends(profiles: Profiles, tmp_path: Path) -> None:
    program = (
        f"import json,pathlib; p=pathlib.Path({str(tmp_path / 'n')!r}); "
        "n=len(p.read_text()) if p.exists() else 0; p.write_text('x'*(n+1)); "
        "print(json.dumps({'access_token': f't{n}', 'expires_in': 2}))"
    )
    command = json.dumps([sys.executable, "-S", "-c", program])
    profiles(f'[profile.p]\n{HOST}source = "command"\ncommand = {command}\n')
    manager = Manager()
    first = manager.credential("p")
    assert manager.credential("p") is first
    deadline = time.monotonic() + 10
    while manager.credential("p") is first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert sent(manager) == {"Authorization": "Bearer t1"}


def exec_credential(**status: object) -> str:
    return json.dumps(
        {
            "apiVersion": "client.authentication.k8s.io/v1",
            "kind": "ExecCredential",
            "status": status,
        }
    )


@pytest.mark.parametrize(
    ("text", "token", "life"),
    [
        ("abc", "abc", None),
        ('{"access_token": "abc"}', "abc", None),
        ('{"access_token": "abc", "expires_in": 60, "token_type": "Bearer"}', "abc", 60),
        (exec_credential(token="abc"), "abc", None),
        (exec_credential(token="abc", expirationTimestamp="1970-01-01T00:02:00Z"), "abc", 20),
        (exec_credential(token="abc", expirationTimestamp="1970-01-01T01:02:00+01:00"), "abc", 20),
    ],
)
def test_outputs_of_a_command(text: str, token: str, life: float | None) -> None:
    reading = parse_output(text, now=100)
    assert (reading.secret.reveal(), reading.lifetime_seconds) == (token, life)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ('{"token": "planted"}', "no access_token"),
        ('{"access_token": 5}', "no access_token"),
        ('{"kind": "ExecCredential", "status": {"token": "planted"}}', "apiVersion"),
        (exec_credential(), "no status.token"),
        (exec_credential(token="planted", expirationTimestamp="1970-01-01T00:00:01Z"), "expired"),
        (exec_credential(token="planted", expirationTimestamp="soon"), "RFC 3339"),
    ],
)
def test_outputs_that_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        parse_output(text, now=100)
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f'{ENV}envv = "x"\n', "p.envv: this key is unknown"),
        (f'[profile.p]\n{HOST}env = "T"\n', "source is missing"),
        ('[profile.p]\nsource = "env"\nenv = "T"\n', "p.hosts"),
        (f'{BASIC}username = "a"\npassword = "planted"\n', "must not be written"),
        (f'{BASIC}username = "a"\npassword = {{}}\n', "exactly one"),
        (f'{BASIC}username = "a:b"\npassword = {{ env = "P" }}\n', "username"),
        (f'[profile.p]\n{HOST}source = "file"\nfile = "token"\n', "absolute"),
        (f'{ENV}header = "Host"\n', "belongs to the request"),
        (f'{ENV}header = "a b"\n', "not a header name"),
        (f'{ENV}extra_headers = {{ authorization = {{ env = "U" }} }}\n', "set twice"),
        (f'{ENV}[profile.q]\n{HOST}source = "env"\nenv = "U"\n', "named twice"),
        (ENV.replace("h.example", "me:planted@h.example"), "user name"),
        ('[profiles.p]\nsource = "env"\n', "profile"),
        (f'[profile.p]\n{HOST}source = "ldap"\n', "env, file, command, keyring, basic"),
    ],
)
def test_mistakes_in_the_file_are_named(profiles: Profiles, text: str, said: str) -> None:
    profiles(text)
    with pytest.raises(AuthConfigError, match=said) as caught:
        Manager().profiles()
    assert "Nothing was sent" in caught.value.message
    assert "planted" not in caught.value.message
    assert caught.value.__context__ is None


def found(manager: Manager, url: str) -> str | None:
    current = manager.match(url)
    return None if current is None else current.name


def test_the_deepest_prefix_wins(profiles: Profiles) -> None:
    profiles(
        '[profile.all]\nhosts = ["https://h.example"]\nsource = "env"\nenv = "T"\n'
        '[profile.deep]\nhosts = ["https://h.example/a/b"]\nsource = "env"\nenv = "U"\n'
    )
    manager = Manager()
    assert found(manager, "https://h.example/a/b/c") == "deep"
    assert found(manager, "https://h.example/a") == "all"


@pytest.mark.parametrize(
    "path",
    [
        "/%74eam/x",
        "/team%2fx",
        "/team%252fx",
        "//team/x",
        "/x//..//team",
        "/team%5cx",
        "/team;x/y",
        "/;/team",
        "/x/..;a/team",
        "/team/../x",
        "/%2e/team/x",
    ],
)
def test_a_path_that_may_be_another_profiles_is_not_asked(profiles: Profiles, path: str) -> None:
    """Some servers and proxies take it for ``/team``, where another party may listen."""
    profiles(
        '[profile.all]\nhosts = ["https://h.example"]\nsource = "env"\nenv = "T"\n'
        '[profile.team]\nhosts = ["https://h.example/team"]\nsource = "env"\nenv = "U"\n'
    )
    manager = Manager()
    with pytest.raises(AmbiguousAddressError):
        found(manager, f"https://h.example{path}")
    assert found(manager, "https://h.example/teams/x%20y") == "all"


def test_a_changed_file_is_in_force_at_once_and_a_broken_one_too(profiles: Profiles) -> None:
    path = profiles(f'[profile.p]\n{HOST}source = "env"\nenv = "T"\n')
    manager = Manager()
    assert found(manager, "https://h.example/") == "p"
    write_profiles(path, f'[profile.q]\n{HOST}source = "env"\nenv = "T"\n')
    assert found(manager, "https://h.example/") == "q"
    write_profiles(path, "broken")
    with pytest.raises(AuthConfigError):
        found(manager, "https://h.example/")


def test_a_child_forked_while_a_source_is_asked_can_ask_too(
    profiles: Profiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow_plugins_pack.auth.manager import get_manager

    monkeypatch.setenv("T", "token")
    profiles(f'[profile.p]\n{HOST}source = "env"\nenv = "T"\n')
    manager = get_manager()
    found = manager.current("p")
    with found._lock:  # as a thread that does not exist in the child would hold it
        child = os.fork()
        if child == 0:
            good = sent(manager) == {"Authorization": "Bearer token"}
            os._exit(0 if good else 1)
        deadline = time.monotonic() + 10
        while (done := os.waitpid(child, os.WNOHANG))[0] == 0:
            if time.monotonic() > deadline:
                os.kill(child, 9)
                pytest.fail("the child waits for a lock that no thread holds")
            time.sleep(0.02)
    assert os.waitstatus_to_exitcode(done[1]) == 0
