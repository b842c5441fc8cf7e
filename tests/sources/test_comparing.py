"""How two sets of specs differ."""

from typing import Any

import attrs
import pytest
from hypothesis import given
from sources.drawn import specs

from reconciler.core.override import Override, Paused, RestartAsked, Scale, StayDown, apply
from reconciler.core.spec import (
    Budget,
    Dependency,
    Drain,
    HttpCheck,
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
    WorkerSet,
    expand,
)
from reconciler.sources.comparing import HIDDEN, FieldChange, SetChange, compare, token

WEB = SetSpec(name="web", command=("sleep", "1"), replicas=3, cwd="/srv", env={"TOKEN": "secret"})


def wanted(*specs: SetSpec) -> dict[str, WorkerSet]:
    """What these files ask for, by set."""
    return {spec.name: expand(spec) for spec in specs}


def change(*overrides: Override, **fields: Any) -> SetChange:
    """What an edit of these fields of WEB comes to, with overrides in force all the while."""
    sides = (apply(wanted(spec), overrides) for spec in (WEB, attrs.evolve(WEB, **fields)))
    (found,) = compare(*sides)
    return found


def effect(found: SetChange) -> tuple[int, int, int]:
    """How many workers it starts, stops and replaces."""
    return found.starts, found.stops, found.replaces


@given(specs(), specs())
def test_a_change_is_what_differs(one: SetSpec, other: SetSpec) -> None:
    """Two specs have changes just where they are not equal, and the same the other way round."""
    before, after = {"web": expand(one)}, {"web": expand(other)}
    there, back = compare(before, after), compare(after, before)
    assert bool(there) == bool(back) == (one != other)
    assert compare(before, before) == ()
    for found in there:
        assert found.fields
        turned = [attrs.evolve(field, before=field.after, after=field.before) for field in found.fields]
        assert sorted(turned, key=str) == sorted(back[0].fields, key=str)


def test_paths_and_values() -> None:
    """Each setting is told by its path and its values as a file could say them, be they defaults."""
    found = change(
        stop=Stop(timeout=5.0),
        restart=Restart(success_exit_codes=(0, 3), start_limit=StartLimit()),
        rollout=Rollout(max_surge=Budget(25, percent=True)),
    )
    assert found.kind == "changed"
    assert found.fields == (
        FieldChange("restart.success_exit_codes", [0], [0, 3], restarts=False),
        FieldChange("stop.timeout", 30.0, 5.0, restarts=False),
        FieldChange("rollout.max_surge", 0, "25%", restarts=False),
        FieldChange("restart.start_limit.burst", None, 5, restarts=False),
        FieldChange("restart.start_limit.interval", None, 10.0, restarts=False),
    )


RESTARTING: dict[str, Any] = {
    "command": ("true",),
    "cwd": "/",
    "env": {},
    "clear_env": True,
    "sockets": (Socket(name="http", address="8000"),),
    "ready": Ready(notify=True),
    "watchdog": 30.0,
    "watch": Watch(paths=("*.py",)),
}
KEEPING: dict[str, Any] = {
    "order": 5,
    "min_ready": 1.0,
    "ready": Ready(timeout=5.0),
    "probes": Probes(liveness=Probe(tcp="localhost:80")),
    "depends_on": (Dependency(set="db"),),
    "restart": Restart(policy="on_failure"),
    "stop": Stop(signal="INT", drain=Drain(delay=1.0)),
    "rollout": Rollout(partition=Budget(1), auto_rollback=True),
    "output": Output(mode="null"),
    "watch": Watch(debounce=3.0),
    "kind": "job",
    "time_zone": "local",
    "concurrency": "forbid",
    "starting_deadline": 9.0,
    "successful_history": 9,
    "failed_history": 9,
}


def test_each_setting_is_judged() -> None:
    """Whether a change restarts workers is known of each setting there is."""
    in_file = {field.name for field in attrs.fields(SetSpec) if "doc" in field.metadata}
    assert RESTARTING.keys() | KEEPING.keys() | {"replicas", "suspend", "schedule"} == in_file


@pytest.mark.parametrize("name", RESTARTING)
def test_what_needs_a_new_process(name: str) -> None:
    """A change of what a process is started from, or of what it is to watch, replaces the workers that stay."""
    found = change(**{name: RESTARTING[name]})
    assert [field.restarts for field in found.fields] == [True]
    assert effect(found) == (0, 0, 3)


@pytest.mark.parametrize("name", KEEPING)
def test_what_needs_none(name: str) -> None:
    """A change of any other setting replaces nobody."""
    found = change(**{name: KEEPING[name]})
    assert found.fields
    assert not any(field.restarts for field in found.fields)
    assert effect(found) == (0, 0, 0)


def test_a_ready_table_in_parts() -> None:
    """Of one table a setting may need a new process, and another none."""
    found = change(ready=Ready(fd=9, timeout=5.0))
    assert [(field.path, field.restarts) for field in found.fields] == [("ready.fd", True), ("ready.timeout", False)]


def test_lists_of_tables() -> None:
    """Sockets and dependencies are shown as a file says them."""
    found = change(sockets=(Socket(name="http", address="8000"),), depends_on=(Dependency(set="db"),))
    assert [(field.path, field.before, field.after) for field in found.fields] == [
        ("sockets", [], [{"name": "http", "address": "8000"}]),
        ("depends_on", [], ["db"]),
    ]


def test_headers_are_hidden() -> None:
    """A header of a probe may be a secret, and is shown as one."""
    check = HttpCheck(address="localhost:80", headers={"Authorization": "secret"})
    found = change(probes=Probes(readiness=Probe(http=check)))
    assert FieldChange("probes.readiness.http.headers.Authorization", None, HIDDEN, restarts=False) in found.fields
    assert "secret" not in str(found.fields)


def test_how_many_workers() -> None:
    """Workers are started, stopped and replaced as the size and the process of their set say."""
    assert effect(change(replicas=5)) == (2, 0, 0)
    assert effect(change(replicas=1, cwd="/")) == (0, 2, 1)
    assert effect(change(suspend=True)) == (0, 3, 0)
    assert effect(compare({}, wanted(WEB))[0]) == (3, 0, 0)
    assert effect(compare(wanted(WEB), {})[0]) == (0, 3, 0)


def test_what_is_laid_over() -> None:
    """Only workers that are wanted are counted, and none is replaced while the rollout waits."""
    assert effect(change(Scale("web", 2), cwd="/")) == (0, 0, 2)
    assert effect(change(StayDown("web", "web-1"), cwd="/")) == (0, 0, 2)
    assert effect(change(StayDown("web"), cwd="/", replicas=5)) == (0, 0, 0)
    assert effect(change(RestartAsked("web", 1), cwd="/")) == (0, 0, 3)
    assert effect(change(RestartAsked("web", 1), min_ready=1.0)) == (0, 0, 0)
    assert effect(change(Paused("web"), cwd="/", replicas=4)) == (1, 0, 0)
    assert effect(change(cwd="/", rollout=Rollout(strategy="on_delete"))) == (0, 0, 0)


def test_the_environment_is_hidden() -> None:
    """Names of the environment are told, and values never, in no kind of change."""
    found = change(env={"TOKEN": "secret2", "a b": "secret3"})
    assert found.fields == (
        FieldChange("env.TOKEN", HIDDEN, HIDDEN, restarts=True),
        FieldChange("env['a b']", None, HIDDEN, restarts=True),
    )
    (gone,) = compare(wanted(WEB), {})
    assert FieldChange("env.TOKEN", HIDDEN, None, restarts=False) in gone.fields
    assert "secret" not in str([gone.fields, found.fields])


def test_new_and_gone_sets() -> None:
    """A set that is new, or goes, is told by what is not the default; sets come in the order of their starts."""
    first = SetSpec(name="zoo", command=("true",), order=-1)
    found = compare(wanted(WEB), wanted(first, attrs.evolve(WEB, name="api")))
    assert [(each.name, each.kind) for each in found] == [("zoo", "added"), ("api", "added"), ("web", "removed")]
    assert [(field.path, field.before, field.after) for field in found[0].fields] == [
        ("command", None, ["true"]),
        ("order", None, -1),
    ]


@given(specs(), specs())
def test_a_token_is_of_one_plan(one: SetSpec, other: SetSpec) -> None:
    """Equal sides have equal tokens, whatever the order; where a side is another, so is the token."""
    live, planned = {"web": one, "db": WEB}, {"web": other}
    assert token(live, planned) == token(dict(reversed(live.items())), dict(planned))
    assert (token(live, planned) == token(live, {"web": one})) == (one == other)
    assert token(live, planned) != token({"db": WEB}, planned)
    assert token(live, planned) != token(live, planned, [{"kind": "Paused", "set_name": "web"}])
