"""Methods of native types are replaced and put back; what cannot be replaced is left alone."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from mlflow_plugins_pack.lineage.capture.observing.immutable_types import replace_method


class Derived(datetime.timedelta):
    """Inherits the method."""


def _seconds(value: Any) -> float:
    return float(value.total_seconds())


def test_a_method_is_replaced_in_the_type_and_in_those_derived_from_it() -> None:
    owner, one, other = datetime.timedelta, datetime.timedelta(seconds=2), Derived(seconds=3)
    native = owner.total_seconds
    assert [[_seconds(value) for value in (one, other)] for _ in range(50)][-1] == [2.0, 3.0]
    replace_method(owner, "total_seconds", lambda self: -native(self))
    try:
        assert (_seconds(one), _seconds(other)) == (-2.0, -3.0)
        assert type(one) is datetime.timedelta
    finally:
        replace_method(owner, "total_seconds", native)
    assert (_seconds(one), _seconds(other)) == (2.0, 3.0)
    assert owner.total_seconds is native


@pytest.mark.parametrize("name", ["__add__", "nothing_of_that_name"])
def test_what_is_called_through_a_pointer_or_missing_is_refused(name: str) -> None:
    before = dict(vars(datetime.timedelta))
    with pytest.raises(TypeError):
        replace_method(datetime.timedelta, name, len)
    with pytest.raises(TypeError):
        replace_method(Derived, "total_seconds", len)  # it has only an inherited one
    assert dict(vars(datetime.timedelta)) == before
