"""Whether the user's code opens a file, or a library for itself, according to the call stack.

The same function opens a user's data and MLflow's own files; only the callers differ. From the
innermost frame outwards, the first that decides counts: a frame of the user's code means data, one
of a library that opens files for itself means noise, and other libraries decide nothing.
"""

from __future__ import annotations

import os
import re
import sysconfig
from types import FrameType

_NEUTRAL, _USER, _NOISE = 0, 1, 2

_NOISY_NAMES = """
mlflow git gitdb pip pkg_resources setuptools IPython ipykernel jupyter_client
jupyter_core traitlets debugpy pydevd certifi alembic dotenv numba coverage uvicorn gunicorn
starlette flask jinja2 werkzeug rich tqdm huey huggingface_hub
posthog sentry_sdk wandb opentelemetry _distutils_hack
"""
_NOISY_PACKAGES = frozenset(_NOISY_NAMES.split())
_NOISY_MODULES = re.compile(
    r"""
    (linecache|inspect|tokenize|traceback|tempfile|subprocess|mimetypes|netrc|gettext|platform
      |sysconfig|site|pydoc|uuid|ssl|webbrowser|getpass|zipimport|pstats|cProfile)\.py
    | (logging|importlib/metadata|distutils|ensurepip|venv|zoneinfo)/.*
    """,
    re.VERBOSE,
)
_NOISY_PACKAGE_MODULES = re.compile(
    r"""
    matplotlib/font_manager\.py
    | joblib/(memory|_store_backends|_memmapping_reducer)\.py
    | datasets/(arrow_reader|info|table)\.py   # its cache of what it made of data
    """,
    re.VERBOSE,
)
_SITE = re.compile(r".*/(?:site|dist)-packages/(?P<rest>(?P<package>[^/]+?)(?:\.py|/.*))")
# Autologging calls the user's function from here; what that opens is theirs, not MLflow's.
_ORIGINAL_CALLED = "/mlflow/utils/autologging_utils/safety.py"
_OWN = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120
_STDLIB = tuple(
    f"{path}/" for name in ("stdlib", "platstdlib") if (path := sysconfig.get_path(name))
)
_verdicts: dict[str, int] = {}


def is_users(frame: FrameType | None) -> bool:
    """Return whether a call stack opens something for the user rather than for a library."""
    while frame is not None:
        filename = frame.f_code.co_filename
        verdict = _verdicts.get(filename)
        if verdict is None:
            verdict = _verdicts[filename] = _judge(filename)
        if verdict:
            return verdict == _USER
        frame = frame.f_back
    return True


def is_users_code(filename: str) -> bool:
    """Return whether a file of code is the user's, rather than that of a library."""
    verdict = _verdicts.get(filename)
    if verdict is None:
        verdict = _verdicts[filename] = _judge(filename)
    return verdict == _USER


def passes_through(frame: FrameType | None, parts: tuple[str, ...]) -> bool:
    """Return whether a call stack goes through a file whose path holds one of the texts."""
    while frame is not None:
        if any(part in frame.f_code.co_filename for part in parts):
            return True
        frame = frame.f_back
    return False


def _judge(filename: str) -> int:
    if filename.startswith("<"):
        # Libraries generate code under such names too; only these are typed by a user.
        return _USER if filename.startswith(("<stdin>", "<console>", "<ipython")) else _NEUTRAL
    filename = filename.replace("\\", "/")
    if filename.startswith(f"{_OWN}/"):
        # Observers run between the user's code and the library.
        return _NEUTRAL if filename.startswith(f"{_OWN}/lineage/capture/") else _NOISE
    if filename.endswith(_ORIGINAL_CALLED):
        return _USER
    if site := _SITE.fullmatch(filename):
        noisy = site["package"] in _NOISY_PACKAGES or _NOISY_PACKAGE_MODULES.match(site["rest"])
        return _NOISE if noisy else _NEUTRAL
    for prefix in _STDLIB:
        if filename.startswith(prefix):
            rest = filename[len(prefix) :]
            return _NOISE if _NOISY_MODULES.fullmatch(rest) else _NEUTRAL
    return _USER
