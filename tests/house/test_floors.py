"""The rooms of the house: who may import whom, and what is done in one room only.

A module imports from lower floors and from its own room. Rooms on one floor do not know each other.
"""

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

from house.tree import PACKAGE, files, imports, module_of, shown, tree, yields

FLOORS = {
    "core": 0,
    "context": 0,
    "hygiene": 0,
    "worker": 1,
    "lines": 1,
    "schedules": 1,
    "sources": 2,
    "drivers": 2,
    "log": 2,
    "output": 2,
    "signals": 2,
    "sockets": 2,
    "bells": 2,
    "control": 2,
    "recent": 2,
    "timetable": 2,
    "engine": 3,
    "listeners": 3,
    "publishing": 3,
    "state": 3,
    "client": 3,
    "parts": 4,
    "steering": 4,
    "service": 5,
    "controller": 6,
    "watching": 7,
    "prefork": 7,
    "testing": 7,
    "verbs": 7,
    "cli": 8,
    "__main__": 9,
}
"""Each room with its floor. A new module belongs to a room, or is one that is listed here."""

PURE = {
    "attrs",
    "collections.abc",
    "enum",
    "heapq",
    "ipaddress",
    "json",
    "math",
    "operator",
    "re",
    "types",
    "typing",
    "zlib",
}
"""What `core` may import beside itself: nothing that knows a clock, a file, a process, a thread or chance."""

MODULES = [path for path in files("reconciler") if path != PACKAGE / "__init__.py"]


def room(module: str) -> str:
    """The room of a module of ours; "" for the package itself, where only the version and the public names are."""
    return [*module.split("."), ""][1]


def ours(path: Path) -> list[tuple[str, ast.stmt]]:
    """What a file imports from this package."""
    return [(name, node) for name, node in imports(path) if name.split(".")[0] == "reconciler"]


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """What a file calls, by the text of the code."""
    return [(ast.unparse(node.func), node) for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def test_each_module_has_its_room() -> None:
    """Every module belongs to a room of the house plan."""
    assert {room(module_of(path)) for path in MODULES} == FLOORS.keys()


def test_imports_lead_down() -> None:
    """A module imports from lower floors and from its own room, never from above or from beside it."""
    wrong = [
        f"{shown(path, node)} imports {name}"
        for path in MODULES
        for name, node in ours(path)
        if room(name) not in ("", here := room(module_of(path))) and FLOORS[room(name)] >= FLOORS[here]
    ]
    assert wrong == []


def test_no_imports_in_a_circle() -> None:
    """The modules can be put in an order in which each imports only earlier ones, late imports included."""
    graph = {module_of(path): {name for name, _ in ours(path)} - {"reconciler", module_of(path)} for path in MODULES}
    order = list(TopologicalSorter(graph).static_order())
    assert order.index("reconciler.core.spec") < order.index("reconciler.controller") < order.index("reconciler.cli")


def test_core_is_pure() -> None:
    """The core imports attrs and the standard library's data modules, and calls nothing by which it could act."""
    acting = {"open", "print", "input", "exec", "eval", "__import__"}
    core = files("reconciler/core")
    foreign = [(shown(p, node), name) for p in core for name, node in imports(p) if room(name) != "core"]
    assert [(where, name) for where, name in foreign if name not in PURE] == []
    assert [shown(path, node) for path in core for called, node in calls(path) if called in acting] == []


PROCESSES = re.compile(r"(os|signal|subprocess)\.(fork\w*|kill\w*|pidfd\w+|posix_spawn\w*|wait\w*|Popen|run|system)")


def test_only_drivers_touch_processes() -> None:
    """Outside of drivers nothing starts, signals or waits for a process."""
    others = [path for path in MODULES if room(module_of(path)) != "drivers"]
    assert [shown(path, node) for path in others for called, node in calls(path) if PROCESSES.fullmatch(called)] == []
    assert [shown(path, node) for path in others for name, node in imports(path) if name == "subprocess"] == []
    driving = [called for path in files("reconciler/drivers") for called, _ in calls(path)]
    assert any(map(PROCESSES.fullmatch, driving))


def test_nothing_sleeps_and_no_thread_is_started() -> None:
    """The product never sleeps, and has no thread, so that it may fork."""
    threads = {"threading", "_thread", "concurrent.futures", "multiprocessing"}
    assert [shown(path, node) for path in MODULES for name, node in imports(path) if name in threads] == []
    sleeping = [(shown(path, node), node) for path in MODULES for called, node in calls(path) if "sleep" in called]
    assert [where for where, node in sleeping if not yields(node)] == []


def test_decisions_are_taken_in_core() -> None:
    """Above the core nobody looks at a worker's phase: what follows from it is decided below."""
    above = [PACKAGE / f"{name}.py" for name in ("engine", "controller", "cli")]
    wrong = [shown(p, node) for p in above for name, node in imports(p) if name == "reconciler.core.worker"]
    assert wrong == []


def test_wall_clock_is_not_asked() -> None:
    """Time is monotonic everywhere; the time of day is only stamped on what people read: events, output, revisions."""
    wall = re.compile(r"time\.time(_ns)?|(datetime\.)?datetime\.(now|today|utcnow)")
    stamping = {"recent", "output", "state", "timetable", "verbs"}
    others = [path for path in MODULES if room(module_of(path)) not in stamping]
    assert [shown(path, node) for path in others for called, node in calls(path) if wall.fullmatch(called)] == []
