"""Native functions that are observed see no frame of ours, and neither does anything else."""

from __future__ import annotations

import cProfile
import inspect
import pickle
import pstats
import sys
import traceback
import types
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from mlflow_plugins_pack.lineage.capture.observing.native_calls import hides_frames, observing

pytestmark = pytest.mark.skipif(not hides_frames(), reason="this interpreter hides no frames")


def looking(*args: Any, fails: bool = False, **named: Any) -> Any:
    """Stand for a native function: what it can find out is all that one can."""
    warnings.warn("old", stacklevel=2)
    if fails:
        raise KeyError(args)
    frame = sys._getframe(1)
    caller = inspect.currentframe().f_back  # type: ignore[union-attr]
    return frame.f_code.co_name, caller.f_code.co_name, args, named  # type: ignore[union-attr]


@pytest.fixture
def seen() -> list[Any]:
    return []


@pytest.fixture
def observed(seen: list[Any]) -> Callable[..., Any]:
    def at_start(arguments: Any) -> str:
        seen.append((dict(arguments), sys._getframe(2).f_code.co_name))
        return "noted"

    return observing(looking, ("path", "mode"), at_start, seen.append)


def test_arguments_are_seen_and_the_frame_is_not(
    observed: Callable[..., Any], seen: list[Any]
) -> None:
    name = "test_arguments_are_seen_and_the_frame_is_not"
    for _ in range(100):  # until the interpreter has specialized the code
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            assert observed("a", "r", key=1) == (name, name, ("a", "r"), {"key": 1})
        assert [one.filename for one in caught] == [__file__]
    assert seen[:2] == [({"path": "a", "mode": "r", "key": 1}, name), "noted"]


def _fails_while_handling(observed: Callable[..., Any]) -> None:
    try:
        raise ValueError
    except ValueError:
        observed(fails=True)


def test_failures_have_no_frame_of_ours(observed: Callable[..., Any], seen: list[Any]) -> None:
    for _ in range(100):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(KeyError) as raised:
                observed("a", fails=True)
            names = [frame.name for frame in traceback.extract_tb(raised.tb)]
            assert names == ["test_failures_have_no_frame_of_ours", "looking"]
            assert raised.value.__context__ is None
            with pytest.raises(KeyError) as raised:
                _fails_while_handling(observed)
            assert isinstance(raised.value.__context__, ValueError)
    assert "noted" not in seen


@pytest.mark.filterwarnings("ignore:old")
def test_tracers_and_profilers_see_whole_calls(observed: Callable[..., Any]) -> None:
    def work() -> None:
        observed("a")
        with pytest.raises(KeyError):
            observed(fails=True)

    depth, lowest = 0, 0

    def profile(_frame: types.FrameType, event: str, _argument: Any) -> None:
        nonlocal depth, lowest
        depth += {"call": 1, "return": -1}.get(event, 0)
        lowest = min(lowest, depth)

    sys.setprofile(profile)
    work()
    sys.setprofile(None)
    assert (depth, lowest) == (0, 0)
    profiler = cProfile.Profile()
    profiler.runcall(work)
    stats = pstats.Stats(profiler).get_stats_profile().func_profiles
    assert stats["looking"].ncalls == "2"
    assert stats["work"].ncalls == "1"


def test_a_native_function_keeps_its_name_and_its_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    import zlib

    native, pickled = zlib.crc32, pickle.dumps(zlib.crc32)
    monkeypatch.setattr(zlib, "crc32", observing(native, ("data",), dict, None))
    assert zlib.crc32(b"x") == native(b"x")
    assert zlib.crc32.__doc__ == native.__doc__
    assert repr(zlib.crc32).startswith("<function crc32")
    assert pickle.dumps(zlib.crc32) == pickled
    assert pickle.loads(pickled) is zlib.crc32


def test_an_observer_that_fails_disturbs_nothing() -> None:
    def broken(_: Any) -> None:
        raise RuntimeError("ours")

    assert observing(len, ("object",), broken, broken)([1]) == 1
