"""Keys, budgets, templates, and what needs a new process."""

import attrs
import pytest
from core.scene import web
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core import template
from reconciler.core.spec import (
    Budget,
    Dependency,
    Drain,
    Key,
    Output,
    Probe,
    Probes,
    Ready,
    Restart,
    Rollout,
    SetSpec,
    Socket,
    StartLimit,
    Stop,
    Watch,
    expand,
)

PROCESS = {
    "command": ("v2",),
    "cwd": "/tmp",
    "env": {"A": "b"},
    "clear_env": True,
    "sockets": (Socket(name="http", address="8000"),),
    "ready": Ready(notify=True),
    "watchdog": 30.0,
    "content": "abc",
}
OTHER = {
    "name": "db",
    "replicas": 5,
    "order": 3,
    "kind": "job",
    "min_ready": 9.0,
    "suspend": False,
    "probes": Probes(readiness=Probe(file="up")),
    "depends_on": (Dependency(set="db"),),
    "time_zone": "local",
    "concurrency": "forbid",
    "starting_deadline": 5.0,
    "successful_history": 1,
    "failed_history": 3,
    "restart": Restart(policy="never"),
    "stop": Stop(drain=Drain(delay=1.0)),
    "rollout": Rollout(partition=Budget(1)),
    "output": Output(mode="null"),
    "watch": Watch(debounce=1.0),
}


def test_a_key_is_its_text():
    """A key is equal to its text whatever its order, and goes by order, name and number in the row."""
    assert Key(0, "web", 3) == "web-3" == Key(7, "web", 3)
    assert len({Key(0, "web", 3), Key(7, "web", 3)}) == 1
    assert Key(0, "web", 2) < Key(0, "web", 10) < Key(1, "a", 0)
    assert Key(1, "a", 0) >= Key(0, "web", 10) > Key(-1, "web", 11)
    assert Key(0, "a", 0) <= Key(0, "a", 0)


@pytest.mark.parametrize(
    ("budget", "total", "up", "down"),
    [
        (Budget(3), 10, 3, 3),
        (Budget(25, percent=True), 10, 3, 2),
        (Budget(25, percent=True), 4, 1, 1),
        (Budget(1, percent=True), 0, 0, 0),
        (Budget(100, percent=True), 7, 7, 7),
    ],
)
def test_a_budget(budget, total, up, down):
    """A number is a number; a share is rounded the way that is asked for."""
    assert (budget.of(total, round_up=True), budget.of(total, round_up=False)) == (up, down)


def test_no_budget_at_all_is_refused():
    """Without surge and without a missing worker nothing could ever be replaced."""
    with pytest.raises(ValueError, match="both 0"):
        Rollout(max_surge=Budget(0), max_unavailable=Budget(0, percent=True))


@pytest.mark.parametrize(
    "make", [lambda: web(replicas=-1), lambda: StartLimit(burst=0), lambda: StartLimit(interval=-1)]
)
def test_bounds_hold_in_the_class_itself(make):
    """A value out of bounds cannot be made, whoever makes it."""
    with pytest.raises(ValueError, match="must be"):
        make()


@pytest.mark.parametrize("field", [field.name for field in attrs.fields(SetSpec) if field.name != "schedule"])
def test_what_needs_a_new_process(field):
    """A change of what a process is started from changes the digest of a worker, and nothing else does."""
    before = expand(web(replicas=1)).workers["web-0"].digest
    changed = attrs.evolve(web(replicas=1), **{field: {**OTHER, **PROCESS}[field]})
    (after, *_) = expand(changed).workers.values()
    assert (after.digest != before) is (field in PROCESS)


def test_the_workers_of_a_set():
    """A set of n has the workers 0 to n-1, in order; a suspended one has none and keeps its file."""
    assert list(expand(web(replicas=3)).workers) == ["web-0", "web-1", "web-2"]
    suspended = expand(web(replicas=3, suspend=True))
    assert (dict(suspended.workers), suspended.template) == ({}, web(replicas=3, suspend=True))


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("plain", "plain"),
        ("80{index}0", "8020"),
        ("{name}/{key}", "web/web-2"),
        ("{{name}} {{{index}}}", "{name} {2}"),
        ("a}}b", "a}b"),
        ("--fd={fd:http} {port:b-1.x}", "--fd=3 8000"),
    ],
)
def test_placeholders(text, rendered):
    """Name, index and key are filled in; doubled braces are literal ones."""
    assert template.problem(text) is None
    values = {"name": "web", "index": "2", "key": "web-2", "fd:http": "3", "port:b-1.x": "8000"}
    assert template.render(text, values) == rendered


@pytest.mark.parametrize(
    "text", ["{", "}", "{nmae}", "{ name }", "{}", "{0}", "a{{}b", "{fd}", "{fd:}", "{name:x}", "{fd:A}"]
)
def test_bad_placeholders(text):
    """A lone brace and an unknown placeholder are refused, and the message names what is known."""
    assert "{index}" in template.problem(text)


@given(st.text("{}abname", max_size=20))
def test_what_is_accepted_can_be_rendered(text):
    """Whatever `problem` accepts, `render` renders."""
    if template.problem(text) is None:
        assert isinstance(template.render(text, {"name": "n", "index": "1", "key": "k"}), str)
