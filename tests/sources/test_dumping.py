"""Specs as plain data, there and back."""

import json
from typing import Any

import attrs
import pytest
from hypothesis import given
from sources.drawn import specs
from spec_files import EXAMPLE_TOML, FORMATS, written

from reconciler.core.spec import (
    Dependency,
    HttpCheck,
    Probe,
    Probes,
    Restart,
    SetSpec,
    Socket,
    StartLimit,
)
from reconciler.sources.dumping import dump, origins, restore
from reconciler.sources.loading import load
from reconciler.sources.parsing import parse
from reconciler.sources.refusal import InputError


@given(specs())
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
        "min_ready": 0.0,
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


def test_what_a_set_depends_on() -> None:
    """A set that is depended on in the usual way is dumped as its name, and any other as a table."""
    first, second = Dependency(set="db"), Dependency(set="migrate", condition="completed")
    spec = SetSpec(name="web", command=("true",), depends_on=(first, second))
    assert dump(spec)["depends_on"] == ["db", {"set": "migrate", "condition": "completed"}]
    assert restore("web", dump(spec)) == spec


def test_tables_in_lists_and_tables() -> None:
    """Sockets and probes are dumped as a file would say them, without their defaults."""
    probe = Probe(http=HttpCheck(address="127.0.0.1:{port:http}", status=(200, 204)), timeout=2.0)
    spec = SetSpec(
        name="web",
        command=("true",),
        sockets=(Socket(name="http", address="8000"),),
        probes=Probes(readiness=probe, liveness=Probe(exec=("check", "{key}"))),
    )
    assert dump(spec) == {
        "command": ["true"],
        "sockets": [{"name": "http", "address": "8000"}],
        "probes": {
            "readiness": {"http": {"address": "127.0.0.1:{port:http}", "status": [200, 204]}, "timeout": 2.0},
            "liveness": {"exec": ["check", "{key}"]},
        },
    }


def test_the_content_of_files_is_not_dumped() -> None:
    """What is known of watched files only while they are looked at is no setting."""
    assert dump(SetSpec(name="web", command=("true",), content="abc")) == {"command": ["true"]}
