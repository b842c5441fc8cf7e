"""The JSON Schema says what the loader takes."""

import json
from importlib import resources
from typing import Any

import jsonschema
import pytest
from spec_files import EXAMPLE, written

from reconciler.core.spec import SetSpec
from reconciler.sources.loading import load
from reconciler.sources.schema import render, schema

VALIDATOR = jsonschema.Draft7Validator(schema())


def test_schema_is_one() -> None:
    """The schema is itself valid."""
    jsonschema.Draft7Validator.check_schema(schema())


def test_shipped_schema_is_current() -> None:
    """The shipped file is what the generator gives now (`python -m reconciler schema` writes it anew)."""
    shipped = resources.files("reconciler").joinpath("spec.schema.json").read_text(encoding="utf-8")
    assert shipped == render()
    assert json.loads(shipped) == schema()


def test_every_setting_is_described() -> None:
    """Each setting of each table has its meaning beside it, for editors to show."""
    tables = [schema(), *schema()["definitions"].values()]
    settings = [entry for table in tables for entry in table.get("properties", {}).values()]
    assert len(settings) > 20
    assert all(entry["description"] for entry in settings)


def test_defaults_are_those_of_the_loader() -> None:
    """A file that spells out every default of the schema means the same as one that says nothing."""

    def defaults(table: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for name, entry in table["properties"].items():
            if "default" in entry:
                found[name] = entry["default"]
            elif "$ref" in entry:
                found[name] = defaults(schema()["definitions"][entry["$ref"].rpartition("/")[2]])
        return found

    spelled = {"command": ["true"], **defaults(schema())}
    assert {"replicas", "env", "restart", "stop", "rollout"} <= spelled.keys()
    assert load("a", "a.json", written(spelled, "json"), "/") == load("a", "a.json", b'{"command": "true"}', "/")


GOOD: list[dict[str, Any]] = [
    {},
    EXAMPLE,
    {"$schema": "x"},
    {"command": "sleep 60"},
    {"command": ["echo", "{{}}", "{name}{index}{key}", ""]},
    {"command": ["echo", "{{{name}}}"]},
    {"env": {"A": "{{", "B b": "x\ny"}},
    {"replicas": 0, "order": -1_000_000},
    {"min_ready": 3},
    {"min_ready": 3_153_600_000},
    {"min_ready": "1d2h3m4.5s6ms"},
    {"restart": {"success_exit_codes": [], "start_limit": None}},
    {"restart": {"backoff": {}, "start_limit": {"burst": 1, "interval": 1e-9}}},
    {"stop": {"signal": "SIGKILL"}},
    {"stop": {"signal": "WINCH", "timeout": 0}},
    {"rollout": {"max_surge": "100%", "max_unavailable": "0%"}},
    {"rollout": {"max_surge": 10_000, "max_unavailable": 0}},
    {"rollout": {"partition": "50%", "auto_rollback": True}},
    {"sockets": [{"name": "http", "address": "8000"}], "command": ["x", "{fd:http}", "{port:http}"]},
    {"sockets": [{"name": "a", "address": "unix:/run/{key}", "per_worker": True, "mode": "0660", "user": None}]},
    {"sockets": [{"name": "given"}, {"name": "b", "address": "[::1]:0", "type": "datagram", "backlog": 1}]},
    {"ready": {"notify": True}},
    {"ready": {"fd": 3, "timeout": "5m"}},
    {"ready": {"fd": None}},
    {"probes": {"readiness": {"http": {"address": "localhost:80", "status": [200], "headers": {"Accept": "x"}}}}},
    {"probes": {"startup": {"tcp": "[::1]:80"}, "liveness": {"exec": "check it", "period": 0.5}, "readiness": None}},
    {"probes": {"readiness": {"file": "up", "success_threshold": 3}}},
    {"watchdog": "30s", "min_ready": None},
    {"watchdog": None},
    {"depends_on": ["db", {"set": "migrate", "condition": "completed", "restart_with": True}, {"set": "c"}]},
    {"depends_on": [{"set": "db", "condition": None}]},
    {"kind": "job", "schedule": "*/5 * * * *", "time_zone": "local", "concurrency": "forbid", "starting_deadline": 9},
    {"stop": {"drain": {"command": "sleep 1", "delay": "1s"}}},
    {"stop": {"drain": {}}},
    {"stop": {"drain": None}},
    {"watch": {"paths": ["*.py", "app/**/[a-z]?.py", "/etc/x"], "debounce": 0}},
]


@pytest.mark.parametrize("settings", GOOD, ids=str)
def test_what_the_loader_takes_is_valid(settings: dict[str, Any]) -> None:
    """The schema accepts whatever the loader accepts."""
    data = {"command": ["true"], **settings}
    assert isinstance(load("a", "a.json", written(data, "json"), "/"), SetSpec)
    VALIDATOR.validate(data)


BAD: list[dict[str, Any]] = [
    {"command": []},
    {"command": ""},
    {"command": 5},
    {"command": ["x", 5]},
    {"command": ["x", "{nme}"]},
    {"command": ["x", "{"]},
    {"command": ["x", "{{name}"]},
    {"cwd": "}"},
    {"env": {"A": "{x}"}},
    {"env": {"A": 1}},
    {"env": {"": "x"}},
    {"env": {"A=B": "x"}},
    {"env": ["A"]},
    {"replcas": 3},
    {"name": "x"},
    {"replicas": -1},
    {"replicas": 10_001},
    {"replicas": "3"},
    {"replicas": 1.5},
    {"order": 1_000_001},
    {"clear_env": "false"},
    {"suspend": 0},
    {"min_ready": "30"},
    {"min_ready": "1 h"},
    {"min_ready": -1},
    {"min_ready": True},
    {"restart": "always"},
    {"restart": {"policy": "on-failure"}},
    {"restart": {"success_exit_codes": [256]}},
    {"restart": {"success_exit_codes": 0}},
    {"restart": {"backoff": {"factor": 0.5}}},
    {"restart": {"backoff": {"jitter": 2}}},
    {"restart": {"backoff": {"x": 1}}},
    {"restart": {"start_limit": {"burst": 0}}},
    {"stop": {"signal": "term"}},
    {"stop": {"signal": 15}},
    {"stop": None},
    {"rollout": {"max_surge": "101%"}},
    {"rollout": {"max_surge": "25"}},
    {"rollout": {"max_surge": 0.5}},
    {"rollout": {"strategy": "roling"}},
    {"rollout": {"partition": -1}},
    {"sockets": {"name": "http"}},
    {"sockets": [{"address": "8000"}]},
    {"sockets": [{"name": "Http", "address": "8000"}]},
    {"sockets": [{"name": "a", "address": "8000", "type": "raw"}]},
    {"sockets": [{"name": "a", "address": "unix:/x", "mode": "0990"}]},
    {"sockets": [{"name": "a", "address": "unix:/x", "mode": 660}]},
    {"sockets": [{"name": "a", "address": "8000", "backlog": 0}]},
    {"command": ["x", "{fd}"]},
    {"command": ["x", "{fd:Http}"]},
    {"ready": {"fd": 2}},
    {"ready": True},
    {"probes": {"ready": {"tcp": "a:1"}}},
    {"probes": {"readiness": {"http": {"path": "/"}}}},
    {"probes": {"readiness": {"http": {"address": "localhost:1", "status": [99]}}}},
    {"probes": {"readiness": {"tcp": "localhost:1", "failure_threshold": 0}}},
    {"depends_on": "db"},
    {"depends_on": [5]},
    {"depends_on": ["Db"]},
    {"depends_on": [{"condition": "ready"}]},
    {"depends_on": [{"set": "db", "condition": "up"}]},
    {"kind": "cron"},
    {"schedule": 5},
    {"concurrency": "maybe"},
    {"starting_deadline": -1},
    {"failed_history": 101},
    {"stop": {"drain": {"command": []}}},
    {"watch": {"paths": "*.py"}},
    {"watch": {"paths": [""]}},
    {"watch": {"paths": ["*.{py,js}"]}},
    {"watch": {"paths": ["app/"]}},
    {"watch": ["*.py"]},
    {"content": "abc"},
]


@pytest.mark.parametrize("settings", BAD, ids=str)
def test_what_is_invalid_is_refused(settings: dict[str, Any]) -> None:
    """The schema refuses these, as the loader does."""
    data = {"command": ["true"], **settings}
    assert not VALIDATOR.is_valid(data)
    assert isinstance(load("a", "a.json", written(data, "json"), "/"), tuple)


def test_command_is_required() -> None:
    """Without a command a file is invalid."""
    assert not VALIDATOR.is_valid({})
