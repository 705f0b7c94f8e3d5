"""Capture from the start of Python, for programs that read before they import mlflow; opt-in.

One line in a ``.pth`` file of the environment, which Python runs at its start. The line does
nothing unless ``MLFLOW_PACK_LINEAGE_EARLY`` is set, or a parent process waits for reports.
"""

from __future__ import annotations

import sysconfig
from pathlib import Path

from mlflow_plugins_pack.lineage.capture.child_spool import VARIABLE

NAME = "mlflow_plugins_pack_early.pth"
# One line that begins with `import`, or Python takes it for a folder.
LINE = (
    f"import os; exec('try:\\n    from mlflow_plugins_pack.lineage.session import early_start\\n"
    f"    early_start.start()\\nexcept Exception:\\n    pass')"
    f" if os.environ.get('MLFLOW_PACK_LINEAGE_EARLY') or os.environ.get('{VARIABLE}') else None\n"
)


def start() -> None:
    """Begin to capture, if a setting or a parent process asks for it."""
    import os

    from mlflow_plugins_pack import settings
    from mlflow_plugins_pack.lineage.session import session

    if os.path.isdir(os.environ.get(VARIABLE, "")) or settings.LINEAGE_EARLY.get():  # noqa: PTH112
        session.start()


def path() -> Path:
    """Return where the file belongs in this environment."""
    return Path(sysconfig.get_path("purelib")) / NAME


def install() -> Path:
    """Write the file.

    Raises:
        OSError: If this environment cannot be written.
    """
    path().write_text(LINE, encoding="ascii")
    return path()


def uninstall() -> bool:
    """Remove the file; False if there was none.

    Raises:
        OSError: If this environment cannot be written.
    """
    was_there = path().exists()
    path().unlink(missing_ok=True)
    return was_there
