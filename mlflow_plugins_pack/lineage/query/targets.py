"""What a question is about, as people write it.

Every id that an answer prints can be asked about: a run id, ``runs:/...``, ``models:/NAME/3``,
``models:/NAME@ALIAS``, ``NAME@ALIAS``, ``models:/m-...``, ``m-...``, ``prompts:/NAME/1``, a file or
folder, a URI, a digest (``sha256:`` and at least 8 digits), and a URI with ``#`` and a digest.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from mlflow_plugins_pack.lineage.document.graph import file_uri, path_of, shown_uri

_RUN = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{8,64})")
_BARE_DIGEST = re.compile(r"w?([0-9a-f]{12,64})")
_WITH_DIGEST = re.compile(r"(.+)#(?:sha256:)?([0-9a-f]{8,64})")
_LOGGED_MODEL = re.compile(r"m-[0-9a-f]{32}")
_ALIAS = re.compile(r"[^/\\:]+@[^/\\:@]+")
_NAMED = ("models:/", "runs:/", "prompts:/")


@dataclass(frozen=True)
class Named:
    """A run, model, version, alias or prompt.

    Attributes:
        uri: A run id, or a URI that begins with ``models:/`` or ``prompts:/``.
    """

    uri: str


@dataclass(frozen=True)
class Place:
    """Data: a content, the places where it is, or both.

    Attributes:
        digest: ``sha256:`` and at least 8 digits of the content that is asked about, or that the
            file has now; None if it is not known.
        uris: The same place in the spellings that a record may have.
        is_local: Whether it is a file or folder of this machine.
        exists: Whether that file or folder exists.
    """

    digest: str | None = None
    uris: tuple[str, ...] = ()
    is_local: bool = False
    exists: bool = True

    @property
    def is_folder(self) -> bool:
        """Whether it stands for all files below a place."""
        return bool(self.uris) and self.uris[0].endswith("/")

    @property
    def is_exact(self) -> bool:
        """Whether only this content at this place is meant, as an answer's key names it."""
        return self.digest is not None and bool(self.uris) and not self.is_local

    @property
    def shown(self) -> str:
        """The place or content, for people."""
        return shown_uri(self.uris[0]) if self.uris else (self.digest or "")


def parse(target: str, *, looks_here: bool = True) -> Named | Place:
    """Return what a text names.

    A text of 32 hexadecimal digits is taken for a run id.

    Args:
        target: The text.
        looks_here: Whether it may name a file of this machine. That is hashed, so that every run
            that read these bytes is found, wherever they were.
    """
    if target.startswith(_NAMED):
        return Named(
            target.removeprefix("runs:/").partition("/")[0]
            if target.startswith("runs:/")
            else target
        )
    if _RUN.fullmatch(target):
        return Named(target)
    if _LOGGED_MODEL.fullmatch(target):
        return Named(f"models:/{target}")
    if found := _DIGEST.fullmatch(target):
        return Place(f"sha256:{found[1]}")
    is_uri = "://" in target and not target.startswith("file://")
    if looks_here and not is_uri and os.path.lexists(_path(target)):
        return _local(_path(target))
    if found := _BARE_DIGEST.fullmatch(target):
        return Place(f"sha256:{found[1]}")
    if "://" in target and (found := _WITH_DIGEST.fullmatch(target)):
        return Place(f"sha256:{found[2]}", (found[1],))
    if is_uri:
        return Place(None, (target,))
    if _ALIAS.fullmatch(target):
        return Named(f"models:/{target}")
    return _local(_path(target)) if looks_here else Place(None, (target,))


def _path(target: str) -> str:
    """Return the absolute path of a local target, keeping whether it ends in a slash."""
    if not target.startswith("file://"):
        path = os.path.expanduser(target)  # noqa: PTH111
        return os.path.abspath(path) + ("/" if path.endswith("/") else "")  # noqa: PTH100
    return path_of(target, os.path.expanduser("~"))  # noqa: PTH111


def _local(path: str) -> Place:
    from mlflow_plugins_pack import settings
    from mlflow_plugins_pack.lineage.files import file_state
    from mlflow_plugins_pack.lineage.fingerprints.hashing import Fingerprinter, cache_folder

    is_folder = os.path.isdir(path) or path.endswith("/")  # noqa: PTH112
    stem, end = path.rstrip("/"), "/" if is_folder else ""
    home = os.path.expanduser("~")  # noqa: PTH111
    paths = dict.fromkeys([stem, os.path.realpath(stem)])
    uris = tuple(
        dict.fromkeys(file_uri(one, redacted) + end for one in paths for redacted in ("", home))
    )
    state = None if is_folder else file_state(stem)
    if state is None:
        return Place(None, uris, is_local=True, exists=os.path.isdir(path))  # noqa: PTH112
    full = state.size <= settings.LINEAGE_HASH_MAX_BYTES.get()
    made = Fingerprinter(cache_folder()).fingerprint(stem, state, full=full)
    return Place(made.digest if made else None, uris, is_local=True)
