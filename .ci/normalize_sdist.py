"""Rewrite an sdist with one time and owner for all files: the same commit, the same bytes.

See https://reproducible-builds.org/docs/archives/; wheels are so already.
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import tarfile
from pathlib import Path


def main() -> None:
    """Rewrite the sdists that are named, with the time in SOURCE_DATE_EPOCH."""
    epoch = int(os.environ["SOURCE_DATE_EPOCH"])
    for path in map(Path, sys.argv[1:]):
        out = io.BytesIO()
        with (
            tarfile.open(path) as old,
            tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as new,
        ):
            for member in sorted(old.getmembers(), key=lambda member: member.name):
                member.mtime, member.pax_headers = epoch, {}
                member.uid = member.gid = 0
                member.uname = member.gname = ""
                new.addfile(member, old.extractfile(member) if member.isfile() else None)
        path.write_bytes(gzip.compress(out.getvalue(), mtime=epoch))


if __name__ == "__main__":
    main()
