"""`describe`: all that is known of a set, a worker or a file."""

import json
import re

import pytest
from verbs.commanding import commanded

pytestmark = pytest.mark.os


def settings(lines):
    """The settings that are shown: by name where they are from, and their value."""
    found = [re.fullmatch(r"  (\S+) +(file|default|override(?: of \S+)?) +(.*)", line) for line in lines]
    return {match[1]: (match[2], match[3]) for match in found if match}


def test_a_set(tmp_path):
    """Of a set its state, the origin of each setting, its conditions and its last events are shown."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000", replicas=2, env={"TOKEN": "hush"}, stop={"timeout": 30}, order=7)
        fleet.ready("web-0", "web-1")
        fleet.ask("scale", "web=3")
        fleet.ready("web-2")
        lines = fleet.ask("describe", "web")

    shown = settings(lines)
    assert lines[0] == "Set:         web"
    assert lines[1] == "State:       replicas 3 instead of 2"
    assert shown["command"] == ("file", '["sleep", "1000"]')
    assert shown["replicas"] == ("override of 2", "3")
    assert shown["order"] == ("file", "7")
    assert shown["stop.timeout"] == ("file", "30")
    assert shown["stop.signal"] == ("default", "TERM")
    assert shown["cwd"] == ("default", str(tmp_path / "specs"))
    assert shown["env.TOKEN"] == ("file", "(hidden)")
    assert "hush" not in "\n".join(lines)
    assert any(line.split()[:3] == ["SpecAccepted", "yes", "Accepted"] for line in lines)
    assert any("worker.ready" in line and "web-2" in line for line in lines)


def test_a_worker(tmp_path):
    """Of a worker its phase, what the plan would do, its conditions, exits and events are shown."""
    with commanded(tmp_path) as fleet:
        fleet.drop("crash", "sh", "-c", "exit 3", restart={"backoff": {"initial": "600s", "max": "600s"}})
        fleet.wait("worker.backoff", key="crash-0")
        lines = fleet.ask("describe", "crash-0")
        data = json.loads("\n".join(fleet.ask("describe", "-o", "json", "crash-0")))

    assert lines[0] == "Worker:      crash-0, of the set crash"
    assert lines[1].startswith("Phase:       CrashLoopBackOff (next try in ")
    assert lines[3].startswith("Deadline:    in ")
    assert "  crash-0  Backoff: nothing, by the rule CrashLoopBackOff" in lines
    exits = lines[lines.index("Last exits:") + 1 : lines.index("Events:")]
    assert ["exit_code=3" in line for line in exits] == [True, True]
    assert data["kind"] == "worker"
    assert len(data["exits"]) == 2


def test_a_file_that_was_refused(tmp_path):
    """Of a file that never was good all that is wrong with it is shown."""
    with commanded(tmp_path) as fleet:
        fleet.drop("bad", "sleep", "1", replcas=1, stop={"signal": "NOPE"})
        fleet.wait("spec.rejected")
        lines = fleet.ask("describe", "bad")

    assert lines[0] == f"File:        {tmp_path}/specs/bad.toml"
    assert "unknown key 'replcas'" in "\n".join(lines)
    assert "NOPE" in "\n".join(lines)


def test_a_set_whose_file_is_bad_now(tmp_path):
    """Of a set that runs by the last good version of its file, what is wrong with the file is shown too."""
    with commanded(tmp_path) as fleet:
        path = fleet.drop("web", "sleep", "1000")
        fleet.ready("web-0")
        path.write_text("command = [")
        fleet.wait("spec.rejected")
        lines = fleet.ask("describe", "web")

    assert lines[1].startswith("State:       rejected: ")
    assert "Problems of the file:" in lines
    assert settings(lines)["command"] == ("file", '["sleep", "1000"]')
    assert any(line.split()[:3] == ["SpecAccepted", "no", "Rejected"] for line in lines)
