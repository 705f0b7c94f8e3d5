"""Copy a store's artifacts out of it without mlflow-plugins-pack.

Usage: python read_artifact_store.py STORE_FOLDER TARGET_FOLDER
Reads an unencrypted store on a disk, or a bucket that was copied to one, by what
docs/explanation/artifact-format.md says. Needs the standard library and `zstandard`.
"""

import base64
import hashlib
import json
import struct
import sys
from pathlib import Path

import zstandard


def read_segment(path: Path) -> dict:
    data = path.read_bytes()
    magic, length, digest = struct.unpack_from(">8sI32s", data)
    text = zstandard.ZstdDecompressor().decompress(data[44:], max_output_size=length)
    assert (magic, hashlib.sha256(text).digest()) == (b"MPSEGM01", digest), f"{path} is damaged"
    return json.loads(text)


def read_scope(folder: Path) -> dict[str, dict]:
    """Return the files of a run, model or trace; one segment may hold what many calls changed."""
    ranges = [(int(p.name[-12:]), int(p.name[:12]), p.name) for p in folder.glob("[0-9]*")]
    receipts = [int(p.name[8:20]) for p in folder.glob("receipt-*")]
    files, known = {}, 0
    while known < max([*(r[0] for r in ranges), *receipts, 0]):
        last, first, name = max(r for r in [*ranges, (0, 0, "")] if r[1] <= known + 1)
        assert last > known, f"{folder}/{known + 1:012} is missing"
        known, files, segment = last, {} if first == 1 else files, read_segment(folder / name)
        for operation in segment["operations"]:
            if "put" in operation:
                files[operation["put"]] = {**operation, "folder": folder}
            elif "delete" in operation:
                gone = operation["delete"] and operation["delete"] + "/"
                files = {p: f for p, f in files.items() if not (p + "/").startswith(gone)}
    return files


def read_tables(store: Path) -> dict[bytes, tuple]:
    """Return where each chunk is, from the tables at the ends of all packs."""
    places = {}
    for path in store.glob(".cas/packs/??/*"):
        data = path.read_bytes()
        (count,) = struct.unpack_from(">I", data, len(data) - 44)
        table = data[-44 - 46 * count : -44]
        for _, codec, digest, *place in struct.iter_unpack(">BB32sIII", table):
            places[digest] = (path, codec, *place)
    return places


def read_chunk(tables: dict, digest: bytes) -> bytes:
    """Return a chunk by its hash: the places in manifests only save this reader's tables."""
    path, codec, offset, stored, raw = tables[digest]
    with path.open("rb") as file:
        file.seek(offset)
        data = file.read(stored)
    if codec == 1:
        data = zstandard.ZstdDecompressor().decompress(data, max_output_size=raw)
    return data


def read_file(tables: dict, entry: dict):
    if "entry" in entry:
        held = read_segment(entry["folder"] / entry["entry"])["operations"]
        entry = next(o for o in held if "inline" in o and o["sha256"] == entry["sha256"])
    if "inline" in entry:
        yield base64.b64decode(entry["inline"])
    for _, digest, *_ in entry.get("chunks", ()):
        yield read_chunk(tables, bytes.fromhex(digest))
    for _, digest, *_ in entry.get("recipe", ()):
        recipe = read_chunk(tables, bytes.fromhex(digest))
        (names,) = struct.unpack_from(">H", recipe, 56)
        for _, inner, *_ in struct.iter_unpack(">H32sIIIB", recipe[62 + 32 * names :]):
            yield read_chunk(tables, inner)


def main(store: Path, target: Path) -> None:
    form = json.loads((store / ".cas/format.json").read_text())
    assert form["version"] == 1, "a newer version wrote this store"
    assert not {"encryption", "commits"} & form.keys(), "copy it: mlflow-pack artifacts migrate"
    tables = read_tables(store)
    for folder in sorted(store.rglob(".m")):
        for path, entry in read_scope(folder).items():
            out = target / folder.parent.relative_to(store) / path
            assert target.resolve() in out.resolve().parents, f"{path} leads out of {target}"
            out.parent.mkdir(parents=True, exist_ok=True)
            data = b"".join(read_file(tables, entry))
            assert hashlib.sha256(data).hexdigest() == entry["sha256"], f"{path} is damaged"
            out.write_bytes(data)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
