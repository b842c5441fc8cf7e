"""The public names: what users build on."""

import ast
import re
import subprocess
import sys

import pytest
from house.tree import PACKAGE, ROOT, files, shown, tree

import reconciler
from reconciler.core import event
from reconciler.core.event import CATALOGUE


def test_the_public_names() -> None:
    """These names are public, and no others: taking one away breaks users, and adding one is a promise."""
    assert reconciler.__all__ == [
        "Backoff",
        "Budget",
        "Controller",
        "Dependency",
        "Drain",
        "Driver",
        "Event",
        "HttpCheck",
        "Output",
        "Paused",
        "Phase",
        "Policy",
        "Probe",
        "Probes",
        "Reading",
        "Ready",
        "Restart",
        "RestartAsked",
        "RolledBack",
        "Rollout",
        "Scale",
        "SetSpec",
        "SetStatus",
        "Snapshot",
        "Socket",
        "Source",
        "StartLimit",
        "StayDown",
        "Stop",
        "Watch",
        "WorkerSet",
        "WorkerSpec",
        "WorkerStatus",
        "fork_worker",
        "fork_worker_process",
        "listen",
    ]


def test_type_checkers_see_the_same_names() -> None:
    """What the package imports for type checkers only are its public names."""
    block = next(node for node in tree(PACKAGE / "__init__.py").body if isinstance(node, ast.If))
    told = [alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names]
    assert sorted(told) == reconciler.__all__


@pytest.mark.parametrize("name", reconciler.__all__)
def test_a_public_name_can_be_had(name: str) -> None:
    """Each public name is found, is a thing of that name, and has a docstring or is a type of another name."""
    value = getattr(reconciler, name)
    assert value.__name__ == name
    assert name in dir(reconciler)


def test_a_wrong_name_is_told() -> None:
    """A name that is not public is an AttributeError, as with any module."""
    with pytest.raises(AttributeError, match="has no attribute 'Kontroller'"):
        _ = reconciler.Kontroller  # type: ignore[attr-defined]


def test_importing_the_package_costs_nothing() -> None:
    """`import reconciler` loads none of the libraries that it stands on, nor asyncio."""
    program = "import sys, reconciler; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "reconciler" in loaded
    assert not loaded & {"attr", "attrs", "asyncio", "cattrs", "click", "ruamel", "structlog", "watchdog"}


def test_the_package_is_typed() -> None:
    """The marker that lets type checkers use the package's annotations is there."""
    assert (PACKAGE / "py.typed").is_file()


EVENTS = {name: value for name, value in vars(event).items() if value in tuple(CATALOGUE)}
"""The constants by which the code names events."""


def test_each_event_has_one_constant() -> None:
    """Every event of the catalogue has one constant, named after it."""
    assert {name: name.lower().replace("_", ".", 1) for name in EVENTS} == EVENTS
    assert sorted(EVENTS.values()) == sorted(CATALOGUE)


def test_each_event_is_told_somewhere() -> None:
    """Every event of the catalogue is made by some code: the docs promise nothing that never comes."""
    elsewhere = [path for path in files("reconciler") if path != PACKAGE / "core" / "event.py"]
    used = {node.attr for path in elsewhere for node in ast.walk(tree(path)) if isinstance(node, ast.Attribute)}
    assert EVENTS.keys() - used == set()


def test_no_event_is_misspelt() -> None:
    """A text in the code that looks like an event's name is one."""
    looks = re.compile(rf"({'|'.join({name.split('.')[0] for name in CATALOGUE})})\.[a-z_]+")
    texts = [
        (node.value, shown(path, node))
        for path in files("reconciler")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and looks.fullmatch(node.value)
    ]
    assert [(text, where) for text, where in texts if text not in CATALOGUE] == []
