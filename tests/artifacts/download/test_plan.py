"""Which reads bring what a download wants."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from mlflow_plugins_pack.artifacts.download import plan
from mlflow_plugins_pack.artifacts.download.plan import Held, Inline, Wanted, group_reads, windows
from mlflow_plugins_pack.artifacts.format.manifest import FileEntry
from mlflow_plugins_pack.artifacts.format.pack import Chunk

KIB = 1024


def wanted(pack: int, offset: int, length: int = 64 * KIB, file: int = 0, at: int = 0) -> Wanted:
    return Wanted(file, at, Chunk(bytes([pack]) * 32, b"", offset, length, length, 0))


def test_versions_that_take_turns_are_read_pack_by_pack():
    """The chunks of a changed table come from its first upload and from a later one in turns."""
    length = 64 * KIB
    window = []
    for number in range(40):
        # Of the first pack every fourth chunk is no longer needed.
        window.append(wanted(1, number * length) if number % 4 else wanted(2, number // 4 * length))
    groups = group_reads(window, is_remote=True)
    assert [(g.wanted[0].chunk.pack[0], g.start, g.end) for g in groups] == [
        (2, 0, 10 * length),
        (1, length, 40 * length),
    ]
    near = group_reads([wanted(1, 0), wanted(1, 129 * KIB)], is_remote=False)
    far = group_reads([wanted(1, 0), wanted(1, 64 * KIB + 513 * KIB)], is_remote=True)
    assert len(near) == len(far) == 2


def test_files_of_one_entry_are_read_together():
    entry = FileEntry("f", 1000, b"\1" * 32, 0, holder="a/.m/000000000001")
    other = FileEntry("f", 1000, b"\1" * 32, 0, holder="a/.m/000000000002")
    window = [Held(0, entry), Inline(1, b"x"), Held(2, other), Held(3, entry)]
    assert [group.places for group in group_reads(window, is_remote=True)] == [[0, 3], [2]]


places = st.builds(
    wanted, st.integers(1, 3), st.integers(0, 100).map(lambda n: n * 50_000), st.just(50_000)
)


@given(st.lists(places, max_size=60), st.booleans())
def test_each_chunk_is_in_one_read_that_covers_it(window, is_remote):
    groups = group_reads(window, is_remote=is_remote)
    assert sorted(place for group in groups for place in group.places) == list(range(len(window)))
    assert [min(g.places) for g in groups] == sorted(min(g.places) for g in groups)
    for group in groups:
        assert group.end - group.start <= plan._READ_BYTES
        assert {w.chunk.pack for w in group.wanted} == {group.wanted[0].chunk.pack}
        for item in group.wanted:
            assert group.start <= item.chunk.offset
            assert item.chunk.offset + item.chunk.stored <= group.end


def test_windows_hold_everything_once(monkeypatch):
    monkeypatch.setattr(plan, "_WINDOW_BYTES", 100 * KIB)
    items = [wanted(1, 0) for _ in range(7)]
    parts = list(windows(iter(items)))
    assert [len(part) for part in parts] == [2, 2, 2, 1]
    assert [item for part in parts for item in part] == items


def version_plans(edits: int) -> Iterator[list[Wanted]]:
    """Yield what versions of a file are made of, of which a few stretches change each time."""
    length, chunks, stretches, stretch = 64 * KIB, 800, 8, 3
    random = Random(7)
    where = [(1, number * length) for number in range(chunks)]
    for version in range(1, edits + 2):
        yield [
            wanted(pack, offset, length, at=number * length)
            for number, (pack, offset) in enumerate(where)
        ]
        written = 0
        for start in random.sample(range(chunks - stretch), stretches):
            for number in range(start, start + stretch):
                where[number] = (version + 1, written * length)
                written += 1


def test_versions_of_a_file_take_at_most_a_request_for_2_mib():
    """6 versions of 50 MiB, with 3 % changed each time, and nothing kept on this host."""
    for plan_of_version in version_plans(5):
        bytes_wanted = sum(item.length for item in plan_of_version)
        groups = group_reads(plan_of_version, is_remote=True)
        assert len(groups) <= bytes_wanted / (2 * 1024 * KIB)
        # Nor is much read that nothing wants.
        assert sum(group.end - group.start for group in groups) <= 1.3 * bytes_wanted
