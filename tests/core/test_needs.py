"""What sets need of each other: names that are not there, and circles."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.needs import Dependency, unmet_names


def needs(**names):
    """The dependencies of sets, given as the names of the others."""
    return {name: tuple(Dependency(set=other) for other in others.split()) for name, others in names.items()}


@pytest.mark.parametrize(
    "good", [{}, {"db": ""}, {"web": "db", "db": ""}, {"web": "db migrate", "migrate": "db", "db": ""}], ids=str
)
def test_what_can_be_met(good):
    """Sets that depend on others which are there, and not back on themselves, have no problem."""
    assert unmet_names(needs(**good)) == {}


def test_unknown_names():
    """Each name that is not there is told once, with what to do; a set that depends on such a one is fine itself."""
    found = unmet_names(needs(web="db cache db", api="web"))
    assert found == {"web": "depends_on names cache, db, and there is no such set; add its file, or mend the name"}


def test_the_path_of_a_circle():
    """Each set of a circle is told the shortest way back to itself; who only depends on the circle is not."""
    found = unmet_names(needs(a="b", b="c", c="a b", d="a"))
    assert set(found) == {"a", "b", "c"}
    assert "a -> b -> c -> a" in found["a"]
    assert "b -> c -> b" in found["b"]
    assert all(text.endswith("take one of these out") for text in found.values())


def test_a_set_that_needs_itself():
    """The smallest circle is one set."""
    assert "web -> web" in unmet_names(needs(web="web"))["web"]


@given(st.dictionaries(st.sampled_from("abcdef"), st.lists(st.sampled_from("abcdef"), max_size=3).map(" ".join)))
def test_what_is_left_can_be_started(wanted):
    """Without the sets that have a problem, and those that wait for them, there is an order to start the others in."""
    found = unmet_names(needs(**wanted))
    started = set()
    waiting = {name: others.split() for name, others in wanted.items() if name not in found}
    while ready := [name for name, others in waiting.items() if set(others) <= started]:
        started.update(ready)
        for name in ready:
            del waiting[name]
    stuck = set(found) | set(waiting)
    assert all(set(others) & stuck for others in waiting.values())
    assert not found or all(name in wanted for name in found)
    assert bool(waiting) <= bool(found)
