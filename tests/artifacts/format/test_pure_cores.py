"""The pure cores: paths, scopes, chunking, packs, manifests, views, index, digest."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlflow_plugins_pack.artifacts.format import object_keys, view
from mlflow_plugins_pack.artifacts.format.chunker import (
    Chunker,
    ChunkerParameters,
    CutSizes,
    fast_cutter,
    slow_cutter,
)
from mlflow_plugins_pack.artifacts.format.encryption import PLAIN
from mlflow_plugins_pack.artifacts.format.gear_tables import GEAR, MASKS
from mlflow_plugins_pack.artifacts.format.index_delta import (
    Delta,
    KnownFile,
    decode_delta,
    encode_delta,
    group_deltas,
    split_delta,
)
from mlflow_plugins_pack.artifacts.format.manifest import (
    FileEntry,
    Folder,
    Lock,
    Segment,
    Tombstone,
    Unlock,
    decode_segment,
    encode_segment,
)
from mlflow_plugins_pack.artifacts.format.pack import (
    CODEC_RAW,
    CODEC_ZSTD,
    FOOTER,
    KIND_DATA,
    SELF,
    Chunk,
    Compressor,
    PackBuilder,
    Record,
    decode_chunk,
    decode_records,
    decode_tail,
    encode_records,
    tail_length,
)
from mlflow_plugins_pack.artifacts.format.recipe import decode_recipe_part, encode_recipe_part
from mlflow_plugins_pack.artifacts.format.segment_names import (
    confirmed,
    entry_name,
    is_lock_marker,
    joined_name,
    joins_due,
    lock_markers,
    lock_receipts,
    lost_entries,
    lost_markers,
    outdated_receipts,
    parse_segment_name,
    plan_reading,
    receipt_name,
    superseded,
)
from mlflow_plugins_pack.artifacts.uri.allowed_roots import check_allowed
from mlflow_plugins_pack.artifacts.uri.location import parse_location
from mlflow_plugins_pack.errors import (
    ArtifactCorruptError,
    ArtifactPathError,
    ForbiddenRootError,
    StoreFormatError,
    UnsupportedUriError,
)
from mlflow_plugins_pack.folder_digest import digest_files

RUN = "a" * 32
TINY = ChunkerParameters(CutSizes(64, 256, 1024), CutSizes(256, 1024, 4096), 20_000)

part = st.text(
    st.characters(blacklist_characters="/\\%", blacklist_categories=("Cs", "Cc")), min_size=1
).filter(lambda p: p not in (".", "..") and not (len(p) == 2 and p[1] == ":"))
paths = st.lists(part, min_size=1, max_size=4).map("/".join)


# --- paths ----------------------------------------------------------------------------------------


@given(paths)
def test_plain_path_is_its_own_normal_form(path):
    assert object_keys.normalize_path(path) == path
    assert object_keys.is_stored_path(path)


@given(st.text(max_size=40))
def test_normal_form_never_leaves_its_folder(text):
    try:
        path = object_keys.normalize_path(text)
    except ArtifactPathError:
        return
    assert object_keys.normalize_path(path) == path
    assert not path.startswith("/")
    assert not {"..", "", "."} & set(path.split("/")) or path == ""
    assert not set(path) & {"\\", "\0"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [(None, ""), ("", ""), (".", ""), ("a/", "a"), ("./a", "a"), ("a/./b", "a/b"), ("...", "...")],
)
def test_normal_form(text, expected):
    assert object_keys.normalize_path(text) == expected


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (f"1/{RUN}/artifacts/a/b", f"1/{RUN}/artifacts"),
        (f"1/{RUN}/artifacts", f"1/{RUN}/artifacts"),
        (f"{RUN}/artifacts/artifacts/x", f"{RUN}/artifacts"),
        (f"workspaces/w/1/{RUN}/artifacts/a", f"workspaces/w/1/{RUN}/artifacts"),
        ("1/models/m-0a/artifacts/MLmodel", "1/models/m-0a/artifacts"),
        ("1/traces/tr-0a/artifacts/traces.json", "1/traces/tr-0a/artifacts"),
        (f"1/{RUN}", ""),
        ("artifacts/x", ""),
        ("1/short/artifacts/x", ""),
        (f".cas/{RUN}/artifacts/x", ""),
    ],
)
def test_scope(path, scope):
    found, inner = object_keys.split_scope(path)
    assert found == scope
    assert object_keys.join(found, inner) == path


@pytest.mark.parametrize(
    ("path", "root"),
    [
        (f"bucket/mlflow/1/{RUN}/artifacts", "bucket/mlflow"),
        (f"mlflow/workspaces/team/1/{RUN}/artifacts", "mlflow"),
        ("mlflow/12/models/m-1/artifacts", "mlflow"),
        ("mlflow/12/traces/tr-1/artifacts/x", "mlflow"),
        (f"custom/place/{RUN}/artifacts", "custom/place"),
        ("srv/artifacts", "srv/artifacts"),
        ("", ""),
    ],
)
def test_default_root(path, root):
    assert object_keys.default_root(path) == root


def test_segment_keys_are_told_from_others():
    scope = f"1/{RUN}/artifacts"
    receipt, markers = receipt_name(entry_name(7)), lock_markers(ULIDS[0])
    for name in (entry_name(7), joined_name(1, 7), receipt, *markers):
        key = object_keys.segment_key(scope, name)
        assert object_keys.scope_of_key(key) == scope
        assert object_keys.scope_of_key(f".m/{name}") == ""
        for other in (key + "x", f"1/.m/{name}", f"{scope}/{name}", f"{RUN}/artifacts/.m/x"):
            assert object_keys.scope_of_key(other) is None
    assert all(map(is_lock_marker, markers))
    assert not is_lock_marker(receipt)
    assert parse_segment_name(receipt) is None


@pytest.mark.parametrize("lost", [0, 1])
def test_either_of_two_lock_markers_stands_for_both(lost):
    markers = lock_markers(ULIDS[0])
    assert lost_markers([*markers, entry_name(1)]) == []
    assert lost_markers([markers[1 - lost]]) == [markers[lost]]


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        ([entry_name(1), receipt_name(entry_name(1))], ()),
        ([entry_name(1), receipt_name(entry_name(3))], ((2, 3),)),
        ([receipt_name(entry_name(2))], ((1, 2),)),
        ([joined_name(1, 4), receipt_name(entry_name(3))], ()),
        ([entry_name(1), entry_name(3), receipt_name(entry_name(4))], ((2, 2), (4, 4))),
        ([entry_name(1, "a" * 16), receipt_name(entry_name(1, "b" * 16))], ((1, 1),)),
        ([entry_name(1, "a" * 16), receipt_name(entry_name(1, "a" * 16))], ()),
    ],
)
def test_receipts_tell_that_the_last_call_is_lost(names, missing):
    assert plan_reading(names).missing == missing


def test_lock_that_is_taken_back_releases_no_other():
    held, tried = entry_name(2, "a" * 16), entry_name(2, "b" * 16)
    segments = [
        Segment("s", held, (Lock("f", "approved"),)),
        Segment("s", tried, (Lock("f", "approved"),)),
        Segment("s", entry_name(3, "b" * 16), (Unlock("f", "approved", voids=tried),)),
    ]
    assert view.merge(segments, {held}).locks == {Lock("f", "approved")}
    assert view.merge(segments, {tried}).locks == set()
    assert view.merge(segments).locks == set()


def test_either_of_two_receipts_of_a_lock_counts():
    entry = entry_name(3, "a" * 16)
    for receipt in lock_receipts(entry):
        assert confirmed([receipt]) == {entry}
        assert lost_entries([receipt]) == [parse_segment_name(entry)]


@pytest.mark.parametrize("at", [6, 7])
def test_flipped_bit_in_the_version_of_a_segment_is_damage(at):
    data = bytearray(encode_segment(Segment("s", entry_name(1), (Folder("f"),))))
    data[at] ^= 2
    with pytest.raises(ArtifactCorruptError, match="damaged"):
        decode_segment(bytes(data), "s", entry_name(1))


def test_only_the_last_receipt_is_kept():
    receipts = [receipt_name(entry_name(number)) for number in (3, 5, 4)]
    assert outdated_receipts([entry_name(5), *receipts]) == [receipts[0], receipts[2]]
    assert outdated_receipts([receipt_name(entry_name(n, "a" * 16)) for n in (1, 2)]) == []


@given(st.integers(0, 2**48 - 1), st.integers(0, 2**48 - 1), st.binary(min_size=10, max_size=10))
def test_ulids_sort_by_time(first, second, chance):
    one, two = object_keys.make_ulid(first, chance), object_keys.make_ulid(second, chance)
    assert object_keys.is_ulid(one)
    assert (one < two) == (first < second)


# --- URIs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "container", "path"),
    [
        ("cas-file:///srv/a", "", "srv/a"),
        ("cas-file:/srv/a", "", "srv/a"),
        ("cas-file://localhost/srv/a/", "", "srv/a"),
        ("cas-file:///srv/with%20space", "", "srv/with space"),
        ("CAS-FILE:///srv", "", "srv"),
        ("cas-s3://bucket/a/b", "bucket", "a/b"),
        ("cas-s3://bucket", "bucket", ""),
        ("cas-gs://some.bucket_1/a/b", "some.bucket_1", "a/b"),
        (
            "cas-wasbs://c@acc.blob.core.windows.net/p",
            "c@acc.blob.core.windows.net",
            "p",
        ),
    ],
)
def test_location(uri, container, path):
    location = parse_location(uri)
    assert (location.container, location.path) == (container, path)
    assert parse_location(location.uri) == location


@pytest.mark.parametrize("uri", ["cas-file:./x/y", "cas-file:x/y", "cas-file://./x/y"])
def test_relative_location(uri, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_location(uri).path == f"{tmp_path}/x/y"[1:]


@pytest.mark.parametrize(
    "uri",
    [
        "s3://bucket/a",
        "cas+file:///a",
        "cas-ftp://host/a",
        "cas-s3:/bucket/a",
        "cas-s3:///a",
        "cas-s3://user:secret@bucket/a",
        "cas-s3://host:9000/a",
        "cas-s3://bucket/a?endpoint=http://evil",
        "cas-s3://bucket/a#x",
        "cas-gs://user@bucket/a",
        "cas-wasbs://c@evil.example.com/p",
        "cas-wasbs://c@acc.blob.core.windows.net.evil.com/p",
        "cas-wasbs://c@acc.blob.core.windows.net:8080/p",
        "cas-file://host/a",
        "cas-file:",
    ],
)
def test_wrong_uri(uri):
    with pytest.raises(UnsupportedUriError) as caught:
        parse_location(uri)
    assert "secret" not in caught.value.message
    assert "Nothing was opened" in caught.value.message


@pytest.mark.parametrize(
    "uri", ["cas-file:///a/../../etc", "cas-s3://bucket/a/../b", "cas-s3://bucket/%2e%2e/b"]
)
def test_climbing_uri(uri):
    with pytest.raises(ArtifactPathError):
        parse_location(uri)


# --- roots of a server ----------------------------------------------------------------------------

SERVER = {
    "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
    "_MLFLOW_SERVER_ARTIFACT_DESTINATION": "cas-s3://bucket/mlflow",
}


@pytest.mark.parametrize(
    ("uri", "listed", "allowed"),
    [
        ("cas-s3://bucket/mlflow", (), True),
        ("cas-s3://bucket/mlflow/1/x", (), True),
        ("cas-s3://bucket/mlflow-other", (), False),
        ("cas-s3://bucket", (), False),
        ("cas-s3://other/mlflow", (), False),
        ("cas-file:///bucket/mlflow", (), False),
        ("cas-file:///srv/more/1", ("cas-file:///srv/more",), True),
    ],
)
def test_server_opens_its_own_roots_only(uri, listed, allowed):
    location = parse_location(uri)
    check_allowed(location, {}, ())
    if allowed:
        check_allowed(location, SERVER, listed)
    else:
        with pytest.raises(ForbiddenRootError):
            check_allowed(location, SERVER, listed)


# --- chunking -------------------------------------------------------------------------------------


def cut(data, cutter, parameters=TINY, piece=10_000):
    chunker = Chunker(parameters, cutter)
    chunks = []
    for start in range(0, len(data), piece):
        chunks += [bytes(c) for c in chunker.feed(data[start : start + piece])]
    return chunks + [bytes(c) for c in chunker.finish()]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 60_000), st.integers(0, 2**32), st.integers(1, 20_000), st.sampled_from([2, 256])
)
def test_slow_and_fast_cut_alike_and_pieces_do_not_matter(length, seed, piece, values):
    generator = random.Random(seed)
    data = bytes(generator.randrange(values) for _ in range(min(length, 30_000)))
    slow = cut(data, slow_cutter)
    assert slow == cut(data, fast_cutter, piece=piece)
    assert b"".join(slow) == data
    assert all(64 <= len(chunk) <= 4096 for chunk in slow[:-1])


def test_default_parameters_cut_alike():
    data = random.Random(1).randbytes(1_500_000)
    slow = cut(data, slow_cutter, ChunkerParameters(), 1 << 20)
    assert slow == cut(data, fast_cutter, ChunkerParameters(), 300_001)
    # Fixed for the life of the format: a change here orphans every stored chunk.
    assert [len(chunk) for chunk in slow[:6]] == FROZEN_LENGTHS
    assert hashlib.sha256(b"".join(c[:4] for c in slow)).hexdigest()[:16] == FROZEN_STARTS


FROZEN_LENGTHS = [33258, 78308, 80973, 39403, 28737, 67810]
FROZEN_STARTS = "6745c85933becad6"


def test_tables_are_frozen():
    text = ",".join(map(str, (*GEAR, *MASKS)))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == FROZEN_TABLES


FROZEN_TABLES = "4051014923f145f5"


def test_insertion_changes_few_chunks():
    data = random.Random(2).randbytes(200_000)
    parameters = ChunkerParameters(TINY.small, TINY.large, 1 << 40)
    before = set(cut(data, fast_cutter, parameters))
    after = cut(data[:90_000] + b"inserted" + data[90_000:], fast_cutter, parameters)
    assert sum(chunk not in before for chunk in after) <= 4


# --- packs ----------------------------------------------------------------------------------------


def test_pack_describes_itself():
    builder, compressor = PackBuilder(PLAIN), Compressor()
    datas = [b"a" * 5000, random.Random(3).randbytes(5000)]
    for data in datas:
        codec, stored = compressor.encode(data)
        builder.add(KIND_DATA, codec, PLAIN.chunk_id(data), stored, len(data))
    name, packed, table = builder.finish()
    records = decode_records(table)
    assert [r.codec for r in records[:-1]] == [CODEC_ZSTD, CODEC_RAW]
    length = tail_length(bytes(packed[-FOOTER.size :]), len(packed), "it")
    assert decode_tail(bytes(packed[-length:]), name, "it") == records
    for record, data in zip(records[:-1], datas, strict=True):
        stored = packed[record.offset : record.offset + record.stored]
        assert bytes(decode_chunk(record.at(name), stored)) == data
        stored[7] ^= 1
        assert decode_chunk(record.at(name), stored) is None
    with pytest.raises(ArtifactCorruptError):
        decode_tail(bytes(packed[-length:]), b"\0" * 32, "it")
    with pytest.raises(ArtifactCorruptError):
        tail_length(bytes(packed[-FOOTER.size - 1 : -1]), len(packed) - 1, "it")


def test_bomb_is_not_decompressed():
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(b"\0" * (200 << 20))
    assert len(bomb) < 20_000
    honest = Chunk(b"\0" * 32, b"\1" * 32, 0, len(bomb), 1000, CODEC_ZSTD)
    assert decode_chunk(honest, bomb) is None
    assert decode_chunk(honest._replace(raw=200 << 20), bomb) is None


def test_unknown_codec_is_named():
    with pytest.raises(StoreFormatError, match="Upgrade"):
        decode_chunk(Chunk(b"\0" * 32, b"\0" * 32, 0, 1, 1, 99), b"x")


def test_compressor_gives_up_and_tries_again():
    compressor = Compressor()
    noise = [random.Random(n).randbytes(2000) for n in range(4)]
    assert [compressor.encode(data)[0] for data in noise] == [CODEC_RAW] * 4
    codecs = [compressor.encode(b"text" * 500)[0] for _ in range(40)]
    assert CODEC_RAW in codecs[1:]
    assert codecs[-1] == CODEC_ZSTD


# --- manifests ------------------------------------------------------------------------------------

SCOPE = f"1/{RUN}/artifacts"
NAMES = [entry_name(n) for n in (1, 2)]
ULIDS = [object_keys.make_ulid(n, bytes([n] * 10)) for n in range(1, 9)]

chunks = st.builds(
    Chunk,
    st.binary(min_size=32, max_size=32),
    st.binary(min_size=32, max_size=32),
    st.integers(0, 2**32 - 1),
    st.integers(0, 70_000),
    st.integers(0, 70_000),
    st.sampled_from([0, 1]),
)
entries = st.one_of(
    st.builds(
        lambda path, data: FileEntry(path, len(data), b"\1" * 32, 5, inline=data),
        paths,
        st.binary(max_size=20),
    ),
    st.builds(
        lambda path, found: FileEntry(
            path, sum(c.raw for c in found), b"\2" * 32, 0, chunks=tuple(found)
        ),
        paths,
        st.lists(chunks, max_size=3),
    ),
    st.builds(
        lambda path, found: FileEntry(path, 10**9, b"\3" * 32, 0, recipe=tuple(found)),
        paths,
        st.lists(chunks, min_size=1, max_size=3),
    ),
)
operations = st.one_of(
    entries, st.builds(Folder, paths), st.builds(Tombstone, st.one_of(st.just(""), paths))
)


@given(st.lists(operations, max_size=6))
def test_segment_comes_back(made):
    segment = Segment(SCOPE, NAMES[0], tuple(made))
    assert decode_segment(encode_segment(segment), SCOPE, NAMES[0]) == segment


def test_segment_for_another_place_is_refused():
    data = encode_segment(Segment(SCOPE, NAMES[0], ()))
    for scope, name in ((SCOPE, NAMES[1]), ("", NAMES[0])):
        with pytest.raises(ArtifactCorruptError, match="another place"):
            decode_segment(data, scope, name)


@given(st.data())
def test_flipped_bit_in_a_segment_is_found(data):
    good = bytearray(
        encode_segment(Segment(SCOPE, NAMES[0], (FileEntry("f", 1, b"\1" * 32, 0, b"x"),)))
    )
    at = data.draw(st.integers(0, len(good) - 1))
    good[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = decode_segment(bytes(good), SCOPE, NAMES[0])
    except (ArtifactCorruptError, StoreFormatError):
        return
    # Some bits of a compressed frame carry nothing; then what is read is still what was written.
    assert decoded.operations[0].inline == b"x"


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "a/../../x", "a//b", "a\\b", "a\0b", "", ".", "./a", "a/"]
)
@pytest.mark.parametrize("kind", [Folder, Tombstone, lambda p: FileEntry(p, 0, b"\1" * 32, 0, b"")])
def test_hostile_path_in_a_segment_is_refused(path, kind):
    if kind is Tombstone and path == "":
        return
    data = encode_segment(Segment(SCOPE, NAMES[0], (kind(path),)))
    with pytest.raises(ArtifactCorruptError):
        decode_segment(data, SCOPE, NAMES[0])


@pytest.mark.parametrize(
    "entry",
    [
        FileEntry("f", 2, b"\1" * 32, 0, inline=b"x"),
        FileEntry("f", -1, b"\1" * 32, 0, inline=b"x"),
        FileEntry("f", 1, b"\1" * 31, 0, inline=b"x"),
        FileEntry("f", 5, b"\1" * 32, 0, chunks=(Chunk(b"\1" * 32, b"\2" * 32, 0, 9, 9, 0),)),
        FileEntry(
            "f", 1 << 40, b"\1" * 32, 0, chunks=(Chunk(b"\1" * 32, b"\2" * 32, 0, 9, 1 << 40, 0),)
        ),
        FileEntry("f", 9, b"\1" * 32, 0, chunks=(Chunk(b"\1" * 32, b"\2" * 32, -1, 9, 9, 0),)),
    ],
)
def test_impossible_numbers_in_a_segment_are_refused(entry):
    data = encode_segment(Segment(SCOPE, NAMES[0], (entry,)))
    with pytest.raises(ArtifactCorruptError):
        decode_segment(data, SCOPE, NAMES[0])


@given(st.lists(chunks, max_size=5), st.integers(0, 2))
def test_recipe_comes_back(found, own):
    found = [c._replace(pack=SELF) if n < own else c for n, c in enumerate(found)]
    data = encode_recipe_part(b"\5" * 32, 77, 0, 1, found)
    part = decode_recipe_part(data, b"\6" * 32)
    expected = [c._replace(pack=b"\6" * 32) if c.pack == SELF else c for c in found]
    assert list(part.chunks) == expected
    with pytest.raises(ArtifactCorruptError):
        decode_recipe_part(data[:-1] if found else data[:20], b"\6" * 32)


def test_index_delta_comes_back_and_damage_is_found():
    builder = PackBuilder(PLAIN)
    builder.add(KIND_DATA, 0, b"\1" * 32, b"x" * 10, 10)
    name, _, table = builder.finish()
    place = decode_records(table)[0].at(name)
    delta = Delta({name: table}, [KnownFile(b"\7" * 32, 10, False, (place,))], (ULIDS[3],))
    data = encode_delta(delta)
    assert decode_delta(data, ULIDS[0]) == delta
    for at in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[at] ^= 4
        with pytest.raises((ArtifactCorruptError, StoreFormatError)):
            decode_delta(bytes(damaged), ULIDS[0])
    with pytest.raises(ArtifactCorruptError):
        decode_delta(data[:40], ULIDS[0])


@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 900), st.booleans())
def test_split_index_says_the_same(packs, files, max_bytes, replacing):
    place = Chunk(b"\1" * 32, b"\2" * 32, 8, 9, 9, 0)
    delta = Delta(
        {
            bytes([n]) * 32: encode_records([Record(0, 0, b"\3" * 32, 8, 9, 9)] * n)
            for n in range(packs)
        },
        [KnownFile(bytes([n]) * 32, 9, False, (place,) * n) for n in range(files)],
        (ULIDS[3],) if replacing else (),
    )
    pieces = list(split_delta(delta, max_bytes))
    assert {k: v for piece in pieces for k, v in piece.packs.items()} == delta.packs
    assert [f for piece in pieces for f in piece.files] == delta.files
    assert [piece.replaces for piece in pieces] == [()] * (len(pieces) - 1) + (
        [delta.replaces] if pieces else []
    )
    assert (not pieces) == (delta.is_empty() and not replacing)
    for piece in pieces:
        entries = len(piece.packs) + len(piece.files)
        assert entries <= 1 or len(encode_delta(piece)) <= max_bytes + 8 + 3 * 4 + 26 + 32


@given(st.lists(st.integers(1, 100), max_size=8), st.integers(50, 300))
def test_grouped_deltas_fit_into_one_each(lengths, max_bytes):
    sizes = {f"{n:026}": length for n, length in enumerate(lengths)}
    groups = list(group_deltas(sizes, max_bytes))
    named = [name for group in groups for name in group]
    assert named == sorted(set(named))
    assert all(len(g) > 1 and sum(sizes[n] for n in g) <= max_bytes for g in groups)
    assert sum(lengths) > max_bytes or named == sorted(sizes) or len(sizes) < 2


# --- views ----------------------------------------------------------------------------------------


def file(path: str, content: bytes = b"") -> FileEntry:
    return FileEntry(path, len(content), hashlib.sha256(content).digest(), 0, inline=content)


def segment(number: int, *operations: object, **more: object) -> Segment:
    return Segment(SCOPE, entry_name(number + 1), operations, **more)


def test_later_wins_and_deletes_reach_below():
    segments = [
        segment(0, file("a/x"), file("ab"), Folder("a/empty")),
        segment(1, file("a/x", b"new")),
        segment(2, Tombstone("a")),
        segment(3, file("a/y")),
    ]
    for order in (segments, segments[::-1]):
        merged = view.merge(order)
        assert sorted(merged.files) == ["a/y", "ab"]
        assert set(merged.folders) == set()
    assert view.merge(segments[:2]).files["a/x"].size == 3


small_paths = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)
small_operations = st.one_of(
    st.builds(file, small_paths, st.binary(max_size=2)),
    st.builds(Folder, small_paths),
    st.builds(Tombstone, st.one_of(st.just(""), small_paths)),
)


@given(st.lists(st.lists(small_operations, max_size=4), min_size=3, max_size=6), st.data())
def test_joining_changes_nothing_whichever_segments_are_read(calls, data):
    segments = [segment(n, *made) for n, made in enumerate(calls)]
    expected = view.merge(segments)
    known = {s.name: s for s in segments}
    numbers = st.integers(1, len(calls))
    for _ in range(data.draw(st.integers(0, 5))):
        first, last = sorted((data.draw(numbers), data.draw(numbers)))
        if first < last:
            joined = join(known, first, last)
            known[joined.name] = joined
    standing = [name for name in known if parse_segment_name(name).is_joined]
    for gone in superseded(known, data.draw(st.sampled_from([[], standing]))):
        del known[gone]
    plan = plan_reading(known)
    assert plan.missing == ()
    assert view.merge([known[name] for name in plan.names]) == expected
    # A reader that knows the state after some call goes on from there.
    seen = data.draw(st.integers(0, len(calls)))
    rest = [known[name] for name in plan_reading(known, seen).names]
    assert view.advance(view.merge(segments[:seen]), rest) == expected


def join(known: dict[str, Segment], first: int, last: int) -> Segment:
    inside = [n for n in known if parse_segment_name(n).first >= first]
    pieces = [known[name] for name in plan_reading(inside, first - 1, last).names]
    operations = [operation for piece in pieces for operation in piece.operations]
    name = joined_name(first, last)
    return Segment(SCOPE, name, view.net_effect(operations, whole=first == 1))


def test_a_gap_is_named():
    names = [entry_name(n) for n in (1, 2, 5, 9)] + [joined_name(6, 8)]
    plan = plan_reading(names)
    assert (plan.head, plan.missing) == (9, ((3, 4),))
    assert plan_reading(names[1:]).missing == ((1, 1), (3, 4))
    assert plan_reading([joined_name(1, 4), *names]).missing == ()
    assert plan_reading([joined_name(3, 12), *names]).head == 12
    assert plan_reading([]).head == 0


@pytest.mark.parametrize(
    "name",
    ["", "1", "0" * 12, f"{3:012}-{2:012}", f"{3:012}-{3:012}", f"{3:012}-A", "x", f"{3:012}/.."],
)
def test_names_that_no_segment_has(name):
    assert parse_segment_name(name) is None


def test_names_say_which_calls_a_segment_holds():
    for name in (entry_name(7), entry_name(7, "abcdefghijklmnop"), joined_name(1, 64)):
        assert str(parse_segment_name(name)) == name
    assert list(joins_due(0)) == list(joins_due(31)) == []
    assert list(joins_due(64)) == [(49, 64)]
    assert list(joins_due(256)) == [(241, 256), (1, 256)]


def test_segments_that_joined_ones_hold():
    names = [*map(entry_name, range(1, 6)), joined_name(1, 4), joined_name(1, 2), joined_name(3, 4)]
    assert superseded(names, []) == []
    assert superseded(names, [joined_name(3, 4)]) == [entry_name(3), entry_name(4)]
    larger = [joined_name(1, 4), joined_name(3, 4)]
    gone = [*map(entry_name, range(1, 5)), joined_name(1, 2), joined_name(3, 4)]
    assert superseded(names, larger) == sorted(gone)


@given(st.lists(small_operations, max_size=12), small_paths)
def test_a_view_answers_from_its_files_and_folders(operations, path):
    """What is kept for quick answers is what a walk over all paths gives."""
    found = view.View()
    for operation in operations:
        found.apply([operation])
    known = {*found.files, *found.folders}
    folders = {"", *found.folders}
    folders |= {p.rpartition("/")[0] for p in known} | {p[0] for p in known if p.count("/") == 2}
    assert {p for p in {"", path, *known, *folders} if found.has_folder(p)} == folders
    inside = {p for p in known if p == path or p.startswith(path + "/")}
    assert {e.path for e in found.under(path)} == {p for p in found.files if p in inside}
    assert set(found.folders_under(path)) == {p for p in found.folders if p in inside}
    assert found.holds(path) == bool(inside)
    assert found.has_children(path) == bool(inside - {path})
    below = {p[len(path) + 1 :].split("/")[0] for p in inside - {path}}
    assert {p.rpartition("/")[2] for p, _ in found.children(path)} == below
    assert found == view.View(found.files, found.folders)


def test_children():
    merged = view.merge([segment(0, file("a/b/c"), file("a/d"), Folder("e"), file("f"))])
    assert {k: v is None for k, v in merged.children("")} == {
        "a": True,
        "e": True,
        "f": False,
    }
    assert [path for path, _ in merged.children("a")] == ["a/b", "a/d"]
    assert merged.children("f") == []
    assert [p for p in ("", "a", "a/b", "a/b/c", "e", "f", "g") if merged.has_folder(p)] == [
        *("", "a", "a/b", "e"),
    ]
    assert merged.blocking_file("f/x/y") == "f"


# --- digest ---------------------------------------------------------------------------------------


@given(st.dictionaries(paths, st.binary(max_size=5)))
def test_digest_does_not_depend_on_order(files):
    listed = [(p, len(d), hashlib.sha256(d).hexdigest()) for p, d in files.items()]
    assert digest_files(listed) == digest_files(listed[::-1])
    text = b"".join(
        b"%s\0%d\0%s\n" % (p.encode(), n, h.encode())
        for p, n, h in sorted(listed, key=lambda line: line[0].encode())
    )
    assert digest_files(listed) == f"sha256:{hashlib.sha256(text).hexdigest()}"


def test_a_write_that_did_not_see_the_lock_changes_nothing():
    entry = FileEntry("m/f", 1, b"\1" * 32, 0, inline=b"a")
    changed = FileEntry("m/f", 1, b"\2" * 32, 0, inline=b"b")
    found = view.View()
    found.apply([entry, Folder("m/e"), Lock("m", "r"), Lock("m", "s"), Unlock("m", "s")])
    before = (dict(found.files), set(found.folders))
    found.apply([changed, Folder("m/x"), Tombstone("m/f"), Tombstone("m"), Tombstone("")])
    assert (dict(found.files), set(found.folders)) == before
    found.apply([FileEntry("n", 1, b"\1" * 32, 0, inline=b"a"), Tombstone("n"), Folder("m")])
    assert set(found.files) == {"m/f"}
    found.apply([Unlock("m", "r"), changed, Tombstone("m/e")])
    assert dict(found.files) == {"m/f": changed}
    assert set(found.folders) == {"m"}
