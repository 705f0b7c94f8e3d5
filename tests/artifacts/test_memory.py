"""Bounded memory: whatever is logged and downloaded at once, one process takes 150 MiB for it."""

from __future__ import annotations

import gc
import os
import threading
from concurrent.futures import Future
from pathlib import Path

import pytest

from mlflow_plugins_pack.artifacts import thread_pools
from mlflow_plugins_pack.artifacts.thread_pools import MIB, Memory, Share, Uploads
from tests.artifacts.support import memory
from tests.support import servers

AT_MOST_MIB = 150


def test_eight_threads_stay_within_their_memory(moto, tmp_path):
    """`python -m tests.artifacts.support.memory` does it with 1 GiB each; the peak is the same."""
    environment = servers.clean_environment(
        MLFLOW_PACK_ARTIFACT_CACHE_DIR=str(tmp_path / "cache"),
        PYTHONPATH=str(Path(__file__).parents[2]),
        **moto.environment,
    )
    peaks = memory.run("cas-" + moto.new_root(), tmp_path, 8, 32, environment)
    assert max(peaks.values()) <= AT_MOST_MIB, peaks


def test_memory_is_shared_evenly_and_given_back():
    whole = Memory(48 * MIB, 3 * MIB, 40 * MIB)
    shares = [Share(whole) for _ in range(30)]
    assert shares[0].bytes == 40 * MIB
    assert shares[1].bytes == shares[0].bytes == 24 * MIB
    assert [share.bytes for share in shares][-1] == 3 * MIB
    for share in shares[4:]:
        share.close()
        share.close()
    assert shares[0].bytes == 12 * MIB
    # A call that was given up without a word takes part no more either.
    del shares[1:], share
    gc.collect()
    assert shares[0].bytes == 40 * MIB


def test_forked_child_does_not_inherit_its_parents_part():
    whole = Memory(48 * MIB, 3 * MIB, 40 * MIB)
    shares = [Share(whole) for _ in range(12)]
    assert [share.bytes for share in shares][-1] == 4 * MIB
    child = os.fork()
    if child == 0:
        os._exit(Share(whole).bytes // MIB)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 40


def test_writes_wait_for_room_and_not_for_others(monkeypatch):
    """One call's bytes under way are bounded by its own share; another call goes on meanwhile."""
    started: list[Future[None]] = []

    def hold(*_: object) -> Future[None]:
        started.append(Future())
        return started[-1]

    monkeypatch.setattr(thread_pools, "submit", hold)
    whole = Memory(16 * MIB, MIB, 16 * MIB)
    shares = [Share(whole) for _ in range(2)]
    slow, other = map(Uploads, shares)
    for _ in range(3):
        slow.submit(4 * MIB, print)
    waiting = threading.Thread(target=slow.submit, args=(4 * MIB, print))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    assert len(started) == 3
    assert shares[1].bytes == 8 * MIB
    other.submit(4 * MIB, print)
    assert len(started) == 4
    # There are two now, so that half as much may be under way: two of three must end first.
    started[0].set_result(None)
    waiting.join(0.1)
    assert waiting.is_alive()
    for running in started[1:3]:
        running.set_result(None)
    waiting.join(60)
    assert not waiting.is_alive()
    started[4].set_exception(OSError("the disk is full"))
    with pytest.raises(OSError, match="the disk is full"):
        slow.finish()
    started[3].set_result(None)
    other.finish()
