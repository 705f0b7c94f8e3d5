"""The digest of a folder, computed from its files' names, sizes and hashes; pure.

An approval is bound to this digest, and the artifact repository answers it from its manifest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def digest_files(files: Iterable[tuple[str, int, str]]) -> str:
    r"""Return the digest of a folder.

    The text hashed has one line ``{path}\0{size}\0{sha256 hex}\n`` per file, in UTF-8 and sorted
    by the bytes of the path, so that anyone can compute it from the files.

    Args:
        files: Path relative to the folder, size in bytes and SHA-256 in lower-case hex.

    Returns:
        ``sha256:`` and 64 hex digits.

    Raises:
        UnicodeEncodeError: If a path is not valid Unicode.
    """
    whole = hashlib.sha256()
    encoded = ((path.encode(), size, sha256) for path, size, sha256 in files)
    for path, size, sha256 in sorted(encoded):
        whole.update(b"%s\0%d\0%s\n" % (path, size, sha256.encode()))
    return f"sha256:{whole.hexdigest()}"
