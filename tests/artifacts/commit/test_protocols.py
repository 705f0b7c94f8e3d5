"""Every order of events of the commit protocol is one that a single sequential store could give."""

from __future__ import annotations

import random

import pytest

from mlflow_plugins_pack.artifacts.commit import numbered, reading, requests, set_back
from mlflow_plugins_pack.artifacts.format.segment_names import entry_name
from tests.artifacts.support import commit_model as model


@pytest.mark.parametrize("number", range(len(model.SMALL)))
def test_every_order_of_events_in_a_small_scope(number):
    assert model.explore(model.Model(), model.SMALL[number]) > 100


@pytest.mark.parametrize(
    "check", [model.check_numbered, model.check_listed, model.check_listed_locks]
)
def test_random_schedules(check):
    for seed in range(200 if check is model.check_listed_locks else 500):
        check(seed)


def fails(start: model.Start, world: model.World, **options: object) -> bool:
    try:
        model.explore(model.Model(start, **options), world)
    except model.NotLinearizableError:
        return True
    return False


def test_the_rule_of_earlier_versions_fails():
    assert fails(model.as_of, model.AS_OF)


def test_a_service_that_replaces_needs_the_other_way_of_committing():
    world = model.World((model.Actor((model.put(1), model.READ)), model.Actor((model.TOUCH,))))
    assert fails(model.numbered, world, replaces=True)
    assert not fails(model.listed, world, replaces=True)


def test_what_is_remembered_grows_old_before_segments_are_removed(monkeypatch):
    world = model.World(
        (
            model.Actor((model.put(1), model.put(2))),
            model.Actor((model.READ, model.READ)),
            model.Actor((model.JOIN_2, model.REMOVE)),
        ),
        hours=1,
    )
    monkeypatch.setattr(reading, "HEAD_SECONDS", 10 * model.HOUR)
    model.advance_call.cache_clear()
    try:
        assert fails(model.numbered, world)
    finally:
        model.advance_call.cache_clear()


def test_a_lock_without_its_marker_does_not_bind(monkeypatch):
    world = model.World(
        (model.Actor((model.put(1), model.LOCK)), model.Actor((model.put(2), model.READ)))
    )
    assert not fails(model.numbered, world)
    monkeypatch.setattr(numbered, "is_lock_marker", lambda name: False)
    monkeypatch.setattr(reading, "is_lock_marker", lambda name: False)
    model.advance_call.cache_clear()
    try:
        assert fails(model.numbered, world)
    finally:
        model.advance_call.cache_clear()


def test_schedules_differ():
    worlds = {model.random_world(random.Random(seed)) for seed in range(50)}
    assert len(worlds) == 50


def test_a_gap_is_filled_after_a_lock_marker():
    """An entry after it counts then too. It may hold a lock whose marker is gone."""
    names = [entry_name(n) for n in (1, 3, 4)]
    head = requests.Head(3, 0.0, False, seen=((entry_name(3), b"mine"),))
    settling, made = set_back.settle("1/x/artifacts", head), []
    answer = None
    while not made or made[-1] is not requests.CreateSegment:
        request = settling.send(answer)
        made.append(type(request))
        answers = {requests.Clock: 0.0, requests.ListNames: names, requests.Identify: b"mine"}
        answer = answers.get(type(request))
    assert request.name == entry_name(2)
    assert requests.MarkLocked in made
