"""The code and the packages that a process runs, gathered once."""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from pathlib import Path
from typing import Any

from mlflow_plugins_pack.lineage.document.graph import file_uri
from mlflow_plugins_pack.lineage.fingerprints import git


def code(home: str = "") -> dict[str, Any]:
    """Return the entry script, its digest, and the commit and changes of its repository."""
    facts: dict[str, Any] = {}
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    script = Path(main).absolute() if main else None
    folder = Path.cwd()
    if script is not None and script.is_file():
        facts["entry"] = file_uri(str(script), home)
        facts["h"] = "sha256:" + hashlib.sha256(script.read_bytes()).hexdigest()
        folder = script.parent
    commit = git.run(str(folder), "rev-parse", "HEAD")
    if commit:
        facts["commit"] = commit.decode("ascii", "replace").strip()
        changes = git.run(str(folder), "diff", "HEAD", "--no-ext-diff")
        facts["dirty"] = bool(changes)
        if changes:
            facts["diff"] = "sha256:" + hashlib.sha256(changes).hexdigest()
    return facts


def environment() -> dict[str, Any]:
    """Return the interpreter, the platform, and one digest over all installed packages."""
    names: set[str] = set()
    for folder in sys.path:
        try:
            # Folder names hold name and version; opening each METADATA would take seconds.
            names.update(
                entry.name.removesuffix(".dist-info").removesuffix(".egg-info").lower()
                for entry in os.scandir(folder or ".")
                if entry.name.endswith((".dist-info", ".egg-info"))
            )
        except OSError:  # one unreadable folder hides no other
            continue
    return {
        "python": platform.python_version(),
        "platform": f"{sys.platform}-{platform.machine()}",
        "packages": len(names),
        "h": "sha256:" + hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest(),
    }
