"""Specs of every kind, drawn by hypothesis: whatever a spec file may say, by the classes of `core.spec`."""

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import attrs
from hypothesis import strategies as st

from reconciler.core.spec import (
    Backoff,
    Budget,
    Dependency,
    Duration,
    FileMode,
    HttpCheck,
    Name,
    Patterns,
    Probe,
    Probes,
    Ready,
    SetSpec,
    SignalName,
    Size,
    Socket,
)
from reconciler.sources.scalars import LARGEST, LONGEST, OURS

PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0{}"))
TEXT = st.lists(st.sampled_from(["{{", "}}", "{name}", "{index}", "{key}"]) | PLAIN, max_size=3).map("".join)
ASCII = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="{}"))
VARIABLES = PLAIN.map(lambda name: name.replace("=", "")).filter(lambda name: name and name not in OURS)
NAMES = st.sampled_from(["a", "db", "http", "web-2", "x.y_z"])
PEERS = st.sampled_from(["localhost:80", "[::1]:8000", "unix:/run/{name}.sock", "127.0.0.1:80{index}"])
PATTERNS = st.sampled_from(["*.py", "app/**/*.py", "/etc/app/*", "**"])

LEAVES: Mapping[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    str: TEXT,
    Budget: st.builds(Budget, st.integers(1, 10_000)) | st.builds(Budget, st.integers(1, 100), st.just(True)),
    SignalName: st.sampled_from(["TERM", "KILL", "USR1", "RTMIN"]),
    Name: NAMES,
    FileMode: st.sampled_from(["0660", "644"]),
    Patterns: st.lists(PATTERNS).map(tuple),
    tuple[int, ...]: st.lists(st.integers(100, 255)).map(tuple),
    tuple[str, ...]: st.lists(TEXT, min_size=1).filter(lambda words: words[0] != "").map(tuple),
    Mapping[str, str]: st.dictionaries(VARIABLES, TEXT),
}
"""What has one of these types; exit codes and statuses are drawn from what both may be."""


def values(type_: Any, low: float | None, high: float | None) -> st.SearchStrategy[Any]:
    """Whatever a field of a spec file of this type and within these bounds may hold."""
    if type_ in LEAVES:
        return LEAVES[type_]
    if type_ in (Duration, float):
        return st.floats(low or 0, LONGEST if high is None else high)
    if type_ in (Size, int):
        return st.integers(low, LARGEST if high is None else high)
    if attrs.has(type_):
        return tables(type_)
    if type(None) in get_args(type_):
        return st.none() | values(next(kind for kind in get_args(type_) if kind is not type(None)), low, high)
    if get_origin(type_) is tuple:
        identity = "set" if get_args(type_)[0] is Dependency else "name"
        items = st.lists(tables(get_args(type_)[0]), max_size=3, unique_by=lambda item: getattr(item, identity))
        return items.map(tuple)
    assert get_origin(type_) is Literal, type_
    return st.sampled_from(get_args(type_))


def settings(cls: Any, **own: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """The settings of a class, any of them given and the others left out; some of them drawn in a way of their own."""
    fields = [field for field in attrs.fields(cls) if "doc" in field.metadata]
    strategies = own | {
        field.name: values(field.type, field.metadata.get("minimum"), field.metadata.get("maximum"))
        for field in fields
        if field.name not in own
    }
    required = {field.name: strategies.pop(field.name) for field in fields if field.default is attrs.NOTHING}
    return st.fixed_dictionaries(required, optional=strategies)


def tables(cls: Any) -> st.SearchStrategy[Any]:
    """Tables of a class."""
    if cls in _SPECIAL:
        return _SPECIAL[cls]()
    return settings(cls).map(lambda given: cls(**given))


def specs() -> st.SearchStrategy[SetSpec]:
    """Spec files of a set called web."""
    schedules = st.none() | st.sampled_from(["*/5 * * * *", "0 3 * * MON"])
    return settings(SetSpec, schedule=schedules, time_zone=st.sampled_from(["UTC", "local"])).map(_spec)


def _spec(given: dict[str, Any]) -> SetSpec:
    """A spec of these settings, less those that do not go with the others."""
    sockets = given.get("sockets", ())
    if len({socket.address for socket in sockets}) < len(sockets):
        given["sockets"] = sockets[:1]
    if given.get("schedule") is not None:
        given |= {"kind": "job", "replicas": 1}
    if given.get("kind") == "job":
        given.pop("ready", None)
        given["probes"] = attrs.evolve(given.get("probes", Probes()), readiness=None)
    if "{" in given.get("cwd", "").replace("{{", ""):
        given.pop("watch", None)
    return SetSpec(name="web", **given)


def _sockets() -> st.SearchStrategy[Socket]:
    plain = st.fixed_dictionaries(
        {"name": NAMES, "address": st.sampled_from(["8000", "[::1]:0", "localhost:81", ""])},
        optional={"backlog": st.integers(1, 65535), "reuse_port": st.booleans(), "type": st.just("datagram")},
    )
    unix = st.fixed_dictionaries(
        {"name": NAMES, "address": st.just("unix:/run/{key}.sock"), "per_worker": st.just(True)},
        optional={"mode": LEAVES[FileMode], "user": TEXT, "group": TEXT},
    )
    return (plain | unix).map(lambda given: Socket(**given))


def _backoffs() -> st.SearchStrategy[Backoff]:
    return settings(Backoff, initial=st.floats(0, 60), max=st.floats(60, LONGEST)).map(lambda given: Backoff(**given))


def _readies() -> st.SearchStrategy[Ready]:
    return settings(Ready, fd=st.none() | st.integers(10, 255), notify=st.just(False)).map(
        lambda given: Ready(**given)
    ) | st.just(Ready(notify=True))


def _checks() -> st.SearchStrategy[HttpCheck]:
    headers = st.dictionaries(st.sampled_from(["Accept", "Host", "X-Test"]), ASCII)
    return settings(HttpCheck, address=PEERS, path=ASCII.map("/".__add__), headers=headers).map(
        lambda given: HttpCheck(**given)
    )


def _probes(success: int = 1000) -> st.SearchStrategy[Probe]:
    way = st.one_of(
        st.fixed_dictionaries({"http": _checks()}),
        st.fixed_dictionaries({"tcp": PEERS}),
        st.fixed_dictionaries({"exec": LEAVES[tuple[str, ...]]}),
        st.fixed_dictionaries({"file": TEXT.filter(bool)}),
    )
    nothing = dict.fromkeys(("http", "tcp", "exec", "file"), st.none())
    more = settings(Probe, success_threshold=st.integers(1, success), **nothing)
    return st.builds(lambda given, chosen: Probe(**{**given, **chosen}), more, way)


def _all_probes() -> st.SearchStrategy[Probes]:
    strict = _probes(success=1)
    return st.builds(Probes, startup=st.none() | strict, readiness=st.none() | _probes(), liveness=st.none() | strict)


_SPECIAL = {
    SetSpec: specs,
    Socket: _sockets,
    Backoff: _backoffs,
    Ready: _readies,
    HttpCheck: _checks,
    Probe: _probes,
    Probes: _all_probes,
}
"""The classes whose settings have to go together."""
