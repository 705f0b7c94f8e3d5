"""One digest over a set of files, computed from names, sizes and hashes; pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_files(files: Iterable[tuple[str, int, str]]) -> str:
    r"""Digest a folder.

    The text hashed is one line ``{path}\0{size}\0{sha256 hex}\n`` per file in UTF-8, sorted by
    the bytes of the path, so that anybody can recompute it from the files themselves.

    Args:
        files: Path relative to the folder, size in bytes and sha256 as lower-case hex.

    Returns:
        ``sha256:`` and 64 hex digits.
    """
    whole = hashlib.sha256()
    encoded = ((path.encode(), size, sha256) for path, size, sha256 in files)
    for path, size, sha256 in sorted(encoded):
        whole.update(b"%s\0%d\0%s\n" % (path, size, sha256.encode()))
    return f"sha256:{whole.hexdigest()}"
