"""Specs as plain data, there and back."""

import json
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spec_files import EXAMPLE_TOML, FORMATS, written

from reconciler.core.spec import Budget, Duration, Restart, SetSpec, SignalName, Size, StartLimit
from reconciler.sources.dumping import dump, origins, restore
from reconciler.sources.loading import load
from reconciler.sources.parsing import parse
from reconciler.sources.refusal import InputError
from reconciler.sources.structuring import LARGEST, LONGEST

PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="\0{}"))
TEXT = st.lists(st.sampled_from(["{{", "}}", "{name}", "{index}", "{key}"]) | PLAIN, max_size=3).map("".join)

LEAVES = {
    bool: st.booleans(),
    str: TEXT,
    Budget: st.builds(Budget, st.integers(1, 10_000)) | st.builds(Budget, st.integers(1, 100), st.just(True)),
    SignalName: st.sampled_from(["TERM", "KILL", "USR1", "RTMIN"]),
    tuple[int, ...]: st.lists(st.integers(0, 255)).map(tuple),
    tuple[str, ...]: st.lists(TEXT, min_size=1).filter(lambda words: words[0] != "").map(tuple),
    Mapping[str, str]: st.dictionaries(PLAIN.map(lambda name: name.replace("=", "")).filter(bool), TEXT),
}


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
        return st.none() | values(get_args(type_)[0], low, high)
    assert get_origin(type_) is Literal, type_
    return st.sampled_from(get_args(type_))


def tables(cls: Any) -> st.SearchStrategy[Any]:
    """Tables of a class with any of its settings given and the others left out."""
    fields = [field for field in attrs.fields(cls) if "doc" in field.metadata]
    strategies = {
        field.name: values(field.type, field.metadata.get("minimum"), field.metadata.get("maximum")) for field in fields
    }
    required = {field.name: strategies.pop(field.name) for field in fields if field.default is attrs.NOTHING}
    name = {"name": st.just("web")} if cls is SetSpec else {}
    return st.fixed_dictionaries(required | name, optional=strategies).map(lambda settings: cls(**settings))


@given(tables(SetSpec))
def test_there_and_back(spec: SetSpec) -> None:
    """Any spec comes back the same from what was dumped of it, by way of JSON."""
    assert restore("web", json.loads(json.dumps(dump(spec)))) == spec


def test_only_what_differs_is_dumped() -> None:
    """A default is not said, in no table, and what is said is what the file could say."""
    loaded = load("web", "web.toml", EXAMPLE_TOML, "/srv/specs")
    assert isinstance(loaded, SetSpec)
    assert dump(loaded) == {
        "command": ["python3", "-m", "http.server", "80{index}0"],
        "replicas": 3,
        "cwd": "/srv/specs",
        "env": {"GREETING": "hello {name} {index} {key}"},
        "restart": {"start_limit": {}},
    }
    assert dump(SetSpec(name="web", command=("true",))) == {"command": ["true"]}


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_dump_is_a_spec_file(suffix: str) -> None:
    """What was dumped can be written as a file of any format, and that file asks for the same."""
    loaded = load("web", "web.toml", EXAMPLE_TOML, "/srv/specs")
    assert isinstance(loaded, SetSpec)
    assert load("web", f"web.{suffix}", written(dump(loaded), suffix), "/elsewhere") == loaded


@pytest.mark.parametrize("directory", ["/srv/{a}", "/srv/\udce9t\udce9", "/srv/été"])
def test_any_directory(directory: str) -> None:
    """A spec directory with braces in its name, or with bytes that are no UTF-8, comes back as it was."""
    loaded = load("web", "web.toml", b'command = "true"\ncwd = "{key}"', directory)
    assert isinstance(loaded, SetSpec)
    assert restore("web", json.loads(json.dumps(dump(loaded)))) == loaded


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("web", {}),
        ("web", {"command": ["true"], "cwd": 5}),
        ("web", {"command": ["true"], "cwd": "{x}"}),
        ("web", {"command": ["true"], "replicas": "3"}),
        ("web", {"command": ["true"], "name": "web"}),
        ("../web", {"command": ["true"]}),
    ],
    ids=str,
)
def test_bad_data_is_refused(name: str, data: dict[str, Any]) -> None:
    """Data that no file could hold is refused, and so is a name that no file could have."""
    with pytest.raises(InputError):
        restore(name, data)


def test_what_stands_in_the_file() -> None:
    """Each setting that a file gives is known by its path, and nothing that it leaves to the defaults."""
    text = b"""
    "$schema" = "x"
    command = "true"
    env = { PATH = "/bin", "a b" = "" }
    restart.backoff.max = "9s"
    [restart.start_limit]
    """
    assert origins(parse("web.toml", text)) == {
        "command",
        "env",
        "env.PATH",
        "env['a b']",
        "restart",
        "restart.backoff",
        "restart.backoff.max",
        "restart.start_limit",
    }


def test_a_table_of_the_defaults_is_the_default() -> None:
    """A table that spells out defaults is dumped as nothing, and one whose absence means something else is kept."""
    spec = SetSpec(name="web", command=("true",), restart=Restart(start_limit=StartLimit(burst=5)))
    assert dump(spec)["restart"] == {"start_limit": {}}
    assert "restart" not in dump(attrs.evolve(spec, restart=Restart(policy="always")))
