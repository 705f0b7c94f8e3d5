"""Says which version of a file DVC or git has, where the bytes that were read are that version."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from mlflow_plugins_pack.lineage.document.graph import FULL
from mlflow_plugins_pack.lineage.fingerprints.dvc import Records, Tracked
from mlflow_plugins_pack.lineage.fingerprints.git import Repositories
from mlflow_plugins_pack.lineage.fingerprints.hashing import BLOB, MD5, NOTHING, Fingerprint


class Tracking:
    """Knows what DVC's files and git's indexes say; one per process."""

    def __init__(self) -> None:
        self._dvc, self._git = Records(), Repositories()
        self._expected: dict[str, Tracked] = {}

    def learn(self, paths: Sequence[str]) -> None:
        """Look files up ahead of `digests` and `version`, which know nothing of others."""
        for path in paths:
            if found := self._dvc.find(path):
                self._expected[path] = found
            else:
                self._expected.pop(path, None)
        self._git.learn(paths)

    def digests(self, path: str, size: int) -> frozenset[str]:
        """Return which digests next to the sha256 have to be made, to compare a file."""
        expected = self._expected.get(path)
        if expected is not None:
            same_size = expected.md5 is not None and expected.size in (None, size)
            return _MD5_ONLY if same_size else NOTHING
        return _BLOB_ONLY if self._git.blob_of(path) else NOTHING

    def version(self, path: str, size: int, made: Fingerprint | None) -> str | None:
        """Return a tracked file's version.

        Args:
            path: Absolute.
            size: In bytes, as it was read.
            made: Its fingerprint, with the `digests`.

        Returns:
            ``dvc:md5:<hex>``, with ``.dir`` for a file of a tracked folder; the same with
            ``dvc-modified`` where DVC has another content; ``git:<blob id>``; None if the file is
            not tracked, is not as git has it, or was not hashed in full.
        """
        if made is None:
            return None
        expected = self._expected.get(path)
        if expected is not None:
            modified = f"dvc-modified:{expected.name}"
            if expected.md5 is None or expected.size not in (None, size):
                return modified if expected.exact else None
            if made.md5 is None:
                return None
            if made.md5 == expected.md5:
                return f"dvc:{expected.name}"
            return modified if expected.exact else None
        blob = self._git.blob_of(path)
        if blob is None or made.coverage != FULL:
            return None
        return f"git:{blob}" if blob in (made.blob, _lfs_pointer(made.digest, size)) else None


_MD5_ONLY, _BLOB_ONLY = frozenset({MD5}), frozenset({BLOB})


def _lfs_pointer(digest: str, size: int) -> str:
    """Return the blob id of the text that Git LFS has in a file's place (its specification, v1)."""
    text = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest.removeprefix('sha256:')}\n"
        f"size {size}\n"
    ).encode()
    return hashlib.sha1(b"blob %d\0%s" % (len(text), text), usedforsecurity=False).hexdigest()
