"""The code and the packages that a process runs, gathered once."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import sys
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.lineage.document.graph import file_uri, without_secrets
from mlflow_plugins_pack.lineage.fingerprints import git

_PYTHON = re.compile(r"-py\d+\.\d+$")
_TEXT_BYTES = 256 * 1024
"""Longest text of a script, or of changes, that is kept."""


def code(home: str = "", *, with_text: bool = False) -> dict[str, Any]:
    """Return the entry script, its digest, and the commit and changes of its repository.

    Args:
        home: Home folder to write as ``~``, or empty.
        with_text: Return the script and the changes themselves, too.
    """
    facts: dict[str, Any] = {}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = Path(main).absolute() if main else None
    folder = Path.cwd()
    if script is not None and script.is_file():
        facts["entry"] = file_uri(str(script), home)
        content = script.read_bytes()
        facts["h"] = "sha256:" + hashlib.sha256(content).hexdigest()
        if with_text:
            facts["text"] = _text(content)
        folder = script.parent
    commit = git.run(str(folder), "rev-parse", "HEAD")
    if commit:
        facts["commit"] = commit.decode("ascii", "replace").strip()
        if remote := git.run(str(folder), "config", "--get", "remote.origin.url"):
            facts["repository"] = _without_user(remote.decode("utf-8", "replace").strip())
        changes = git.run(str(folder), "diff", "HEAD", "--no-ext-diff")
        facts["dirty"] = bool(changes)
        if changes:
            facts["diff"] = "sha256:" + hashlib.sha256(changes).hexdigest()
            if with_text:
                facts["changes"] = _text(changes)
    return facts


def _without_user(remote: str) -> str:
    """Return a repository's address as a URL without user information and query."""
    if "://" not in remote and ":" in remote:
        host, _, path = remote.partition(":")
        return f"ssh://{host.rpartition('@')[2]}/{path}"
    return without_secrets(remote)


def _text(content: bytes) -> str:
    return content[:_TEXT_BYTES].decode("utf-8", "replace")


def environment() -> dict[str, Any]:
    """Return the interpreter, the platform, and all packages with one digest over them."""
    names: set[str] = set()
    for folder in sys.path:
        try:
            # Folder names hold name and version; opening each METADATA would take seconds.
            names.update(
                _PYTHON.sub("", entry.name.removesuffix(".dist-info").removesuffix(".egg-info"))
                for entry in os.scandir(folder or ".")
                if entry.name.endswith((".dist-info", ".egg-info"))
            )
        except OSError:  # one unreadable folder hides no other
            continue
    listed = sorted({name.lower() for name in names})
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "packages": len(listed),
        "h": "sha256:" + hashlib.sha256("\n".join(listed).encode()).hexdigest(),
        "list": listed,
    }
