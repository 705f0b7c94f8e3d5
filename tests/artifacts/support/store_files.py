"""The files of a store in a local folder, and how to damage one."""

from __future__ import annotations

from pathlib import Path


def packs(store_folder: Path) -> list[Path]:
    return sorted((store_folder / ".cas" / "packs").glob("*/*"))


def segments(store_folder: Path) -> list[Path]:
    return sorted(path for path in store_folder.rglob(".m/*") if path.name[0].isdigit())


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))
