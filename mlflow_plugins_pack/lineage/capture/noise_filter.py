"""Which paths can be a user's data, and which are noise; pure.

The verdict on a folder is kept, so that a filtered open costs one split and one look-up.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterable

# What the operating system keeps for itself. Whether anything else is data depends on who reads it.
_SYSTEM = (
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/boot",
    "/run",
    "/var/lib/dpkg",
    "/var/lib/apt",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/include",
    "/usr/share",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/usr/local/lib",
    "/usr/local/include",
    "/usr/local/share",
    "/System",
    "/Library",
)
_IN_SYSTEM = ("/dev/shm/", "/run/media/", "/run/user/")  # noqa: S108  # read, never written
"""Folders of the system in which users have data: memory, and mounted disks and shares."""
_OF_INTERPRETER = ("bin", "conda-meta", "DLLs", "etc", "include", "lib", "lib64", "Lib", "share")
# Settings, secrets and caches of programs below the home folder.
_OF_HOME = (
    ".aws",
    ".azure",
    ".bash_sessions",
    ".cargo",
    ".conda",
    ".config",
    ".cursor",
    ".databricks",
    ".docker",
    ".dvc",
    ".gcloud",
    ".gem",
    ".gnupg",
    ".java",
    ".kaggle",
    ".kube",
    ".local/bin",
    ".local/lib",
    ".local/state",
    ".mamba",
    ".matplotlib",
    ".mlflow",
    ".mozilla",
    ".npm",
    ".nv",
    ".oh-my-zsh",
    ".pixi",
    ".pki",
    ".pyenv",
    ".rustup",
    ".snowflake",
    ".ssh",
    ".streamlit",
    ".triton",
    ".vscode",
    ".vscode-server",
    ".cache/fontconfig",
    ".cache/matplotlib",
    ".cache/mesa_shader_cache",
    ".cache/mlflow-pack",
    ".cache/pip",
    ".cache/pre-commit",
    ".cache/pypoetry",
    ".cache/uv",
)
_FOLDERS = frozenset(
    {
        "site-packages",
        "dist-packages",
        "__pycache__",
        "node_modules",
        ".git",
        ".hg",
        ".svn",
        ".venv",
        ".tox",
        ".nox",
        ".mypy_cache",
        ".pytest_cache",
        ".ruff_cache",
        ".hypothesis",
        ".ipynb_checkpoints",
        ".ipython",
        ".jupyter",
        "mlruns",
        "mlartifacts",
    }
)
_FOLDER_PATTERN = re.compile(
    r"""
    .*\.(dist-info|egg-info|egg)      # package metadata
    | joblib_memmapping_folder_.*     # joblib's arrays for its workers
    | torchinductor_.* | ipykernel_\d+
    | pymp-.*                         # multiprocessing's listeners
    """,
    re.VERBOSE,
)
_CODE_SUFFIXES = (".py", ".pyc", ".pyo", ".pyi", ".pyx", ".pyd", ".so", ".dylib", ".dll")
_SUFFIXES = (
    *_CODE_SUFFIXES,
    ".ipynb",
    ".pth.lock",
    ".egg-link",
    ".ttf",
    ".otf",
    ".woff",
    ".woff2",
    ".afm",
    ".pfb",
    ".mplstyle",
    ".lock",
    ".pid",
    ".sock",
    ".swp",
    "-journal",
    "-wal",
    "-shm",
    ".pem",
    ".crt",
    ".key",
)
_HIDDEN = frozenset({"", "."})
_NAMES = frozenset({"mlflow.db", "matplotlibrc", "pyvenv.cfg", "MLproject", "requirements.txt"}) | {
    "kaggle.json",
    "token",
    "stored_tokens",
}
_NAME_PATTERN = re.compile(r"cache-[0-9a-f]{16}\.arrow")  # Hugging Face's own
# Asked first: most names end in none of them.
_ENDS = frozenset(text[-3:] for text in (*_SUFFIXES, *_NAMES, ".arrow"))
_CACHE_LIMIT = 20_000


class NoiseFilter:
    """Judges absolute paths.

    Args:
        interpreter: Prefixes of the interpreter, such as ``/usr/local``.
        home: The user's home folder: settings, secrets and caches of programs in it are noise.
        include: Patterns that make a path data whatever else is said; a pattern without wildcards
            names a file or a whole folder.
        exclude: Patterns that make a path noise whatever else is said.
    """

    def __init__(
        self,
        interpreter: Iterable[str] = (),
        home: str = "",
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
    ) -> None:
        roots = {prefix.rstrip("/") for prefix in interpreter}
        home = home.rstrip("/")
        self._prefixes = tuple(
            sorted(
                {
                    *(f"{folder}/" for folder in _SYSTEM),
                    *(f"{root}/{name}/" for root in roots for name in _OF_INTERPRETER),
                    *(f"{home}/{name}/" for name in _OF_HOME if home),
                }
            )
        )
        self._include = _compile(include)
        self._exclude = _compile(exclude)
        self._folders: dict[str, bool] = {}

    def is_data(self, path: str) -> bool:
        """Return whether the absolute path may be a user's data."""
        if self._include and self._include.match(path):
            # Who includes a package's folder wants its data, not its compiled modules.
            return not path.endswith(_CODE_SUFFIXES) and not self.is_excluded(path)
        folder, _, name = path.rpartition("/")
        kept = self._folders.get(folder)
        if kept is None:
            kept = self._judge_folder(folder)
        if not kept or name[:1] in _HIDDEN:
            return False
        if name[-3:] in _ENDS and (
            name.endswith(_SUFFIXES) or name in _NAMES or _NAME_PATTERN.fullmatch(name)
        ):
            return False
        return not (self._exclude and self._exclude.match(path))

    def data_of(self, paths: list[str]) -> list[str]:
        """Return the paths that may be a user's data, of files in folders that hold such.

        Args:
            paths: Absolute; of many at once most need no closer look.
        """
        is_data = self.is_data
        if self._include or self._exclude:
            return [path for path in paths if is_data(path)]
        return [p for p in paths if (p[-3:] not in _ENDS and "/." not in p) or is_data(p)]

    def is_excluded(self, uri: str) -> bool:
        """Return whether a user's pattern forbids a URI."""
        return bool(self._exclude and self._exclude.match(uri))

    def _judge_folder(self, folder: str) -> bool:
        slashed = f"{folder}/"
        kept = not (
            (slashed.startswith(self._prefixes) and not slashed.startswith(_IN_SYSTEM))
            or any(
                part in _FOLDERS or _FOLDER_PATTERN.fullmatch(part) for part in folder.split("/")
            )
        )
        if len(self._folders) < _CACHE_LIMIT:
            self._folders[folder] = kept
        return kept


def _compile(patterns: Iterable[str]) -> re.Pattern[str] | None:
    sources = []
    for pattern in patterns:
        stripped = pattern.rstrip("/") or pattern
        sources.append(fnmatch.translate(stripped))
        sources.append(fnmatch.translate(posixpath.join(stripped, "*")))
    return re.compile("|".join(sources)) if sources else None
