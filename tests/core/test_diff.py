"""The ordered difference of two keyed collections."""

import attrs
import pytest
from core.scene import restart, web
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.diff import Change, diff, fields, ordered
from reconciler.core.spec import Key

KEYED = st.dictionaries(st.integers(-5, 5), st.integers(0, 2))


@given(KEYED, KEYED)
def test_the_difference_leads_from_one_to_the_other(before, after):
    """Carrying out each change on the one gives the other, and nothing is told twice."""
    changes = diff(before, after)
    result = dict(before)
    for change in changes:
        if change.kind == "removed":
            del result[change.key]
        else:
            assert (change.key in result) == (change.kind == "changed")
            assert result.get(change.key) != after[change.key]
            result[change.key] = after[change.key]
    assert result == after
    assert len({change.key for change in changes}) == len(changes)


@given(KEYED, KEYED)
def test_the_difference_is_told_in_key_order(before, after):
    """Whatever order the collections have, their difference has the order of the keys."""
    keys = [change.key for change in diff(before, after)]
    assert keys == sorted(keys)


@given(KEYED)
def test_equal_is_no_change(values):
    """A collection that is written anew with the same content does not differ."""
    assert diff(values, dict(reversed(values.items()))) == []


@given(KEYED, KEYED)
def test_the_way_back(before, after):
    """What is added on the way is removed on the way back."""
    swap = {"added": "removed", "removed": "added", "changed": "changed"}
    assert [Change(one.key, swap[one.kind]) for one in diff(before, after)] == diff(after, before)


def test_keys_without_an_order_are_refused():
    """Keys that cannot be ordered among themselves are an error, not a random order."""
    with pytest.raises(TypeError):
        diff({}, {1: "a", "x": "b"})
    with pytest.raises(TypeError):
        ordered({1: "a", "x": "b"})


def test_the_order_of_workers():
    """Keys of workers are ordered by order, name and number, where 10 comes after 2."""
    keys = [Key(0, "web", 10), Key(0, "web", 2), Key(1, "a", 0), Key(-1, "z", 0), Key(0, "b", 3)]
    assert list(ordered(dict.fromkeys(keys))) == ["z-0", "b-3", "web-2", "web-10", "a-0"]


def test_fields_names_what_differs_down_to_the_innermost():
    """The names lead into values of one class, and stop where the classes differ."""
    before = web(restart=restart(initial=1.0))
    after = attrs.evolve(before, replicas=3, restart=restart(initial=2.0, limit=(5, 10.0)))
    assert list(fields(before, after)) == ["replicas", "restart.backoff.initial", "restart.start_limit"]
    assert list(fields(before, attrs.evolve(before))) == []
