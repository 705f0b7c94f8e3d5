"""Compare the files of the sdist and the wheel with the package's source, both ways."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

PACKAGE = "mlflow_plugins_pack"
NEEDED_IN_SDIST = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")


def main() -> int:
    """Print what differs; return the exit code."""
    source, *distributions = (Path(argument) for argument in sys.argv[1:])
    wanted = {
        path.relative_to(source).as_posix()
        for path in (source / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    faults: list[str] = []
    kinds: set[str] = set()
    for path in distributions:
        if path.suffix == ".whl":
            kinds.add("wheel")
            with zipfile.ZipFile(path) as wheel:
                names = set(wheel.namelist())
            held = {name for name in names if ".dist-info/" not in name}
            faults += [f"{path.name} holds {name}" for name in sorted(held - wanted)]
            faults += [
                f"{path.name} lacks {name}"
                for name in ("entry_points.txt", "licenses/LICENSE")
                if not any(held_name.endswith(f".dist-info/{name}") for held_name in names)
            ]
        else:
            kinds.add("sdist")
            with tarfile.open(path) as sdist:
                held = {name.partition("/")[2] for name in sdist.getnames()}
            faults += [f"{path.name} lacks {name}" for name in NEEDED_IN_SDIST if name not in held]
        faults += [f"{path.name} lacks {name}" for name in sorted(wanted - held)]
        print(f"{path.name}: {len(held)} files")
    faults += [f"no {kind} was built" for kind in sorted({"wheel", "sdist"} - kinds)]
    print(*faults, sep="\n", end="\n" if faults else "")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
