"""Rollouts of a real controller."""

import json

import pytest
from fleet import SLEEP, drop, sh
from verbs.commanding import commanded

pytestmark = pytest.mark.os


@pytest.fixture
def fleet(tmp_path):
    """A controller with two workers of `web`, all ready."""
    (tmp_path / "specs").mkdir()
    drop(tmp_path / "specs", "web", *SLEEP, replicas=2)
    with commanded(tmp_path, "web-0", "web-1") as running:
        yield running


def edit(fleet, *command, **settings):
    """Edit the file of `web`, and wait until the controller has seen it."""
    fleet.drop("web", *command, **settings)
    fleet.wait("spec.changed", name="web")


def test_status(fleet):
    """`rollout status` tells in a pipe how far it is, a line for each change, until it is done."""
    edit(fleet, "sleep", "2000", replicas=2)
    lines = fleet.ask("rollout", "status", "web")
    assert lines[-2:] == ["web 2/2  updated, 2 available", "web is rolled out"]
    assert len(lines) == len(set(lines))


def test_status_of_one_that_waits(fleet):
    """`rollout status` says so where workers are replaced only when they end."""
    edit(fleet, "sleep", "2000", replicas=2, rollout={"strategy": "on_delete"})
    lines = fleet.ask("rollout", "status", "web")
    assert lines[-1] == "web is rolled out as its workers end"


def test_status_of_a_stalled_one(fleet):
    """`rollout status` exits 1 when the rollout stalls."""
    edit(fleet, *sh("exit 3"), replicas=2, rollout={"progress_deadline": "100ms"})
    assert "web stalled: it came no further" in fleet.told("rollout", "status", "web")


def test_pause_and_resume(fleet):
    """`rollout pause` holds the replacement of workers, and `rollout resume` lets it go on."""
    assert fleet.ask("rollout", "pause", "web") == ["web paused"]
    edit(fleet, "sleep", "2000", replicas=2)
    fleet.ask("reload")
    assert "is paused before all" in fleet.told("rollout", "status", "web")
    assert fleet.all("worker.exited") == []
    assert fleet.ask("rollout", "resume", "web", "--wait") == ["web resumed"]
    fleet.wait_for(2, "worker.exited", reason="Outdated")


def test_history_and_undo(fleet):
    """`rollout history` shows the revisions with what each changed; `rollout undo` goes back to one of them."""
    edit(fleet, "sleep", "2000", replicas=2, env={"SECRET": "hush"})
    fleet.ask("rollout", "status", "web")
    rows = [line.split() for line in fleet.ask("rollout", "history", "web")]
    assert [row[0] for row in rows] == ["REVISION", "1", "2"]
    assert rows[2][2:] == ["yes", "command,", "env.SECRET"]
    assert fleet.ask("rollout", "undo", "web", "--wait") == ["web rolled back to revision 1"]
    history = json.loads("\n".join(fleet.ask("rollout", "history", "web", "-o", "json")))
    assert [row["current"] for row in history] == [True, False]
    assert fleet.ask("rollout", "undo", "web", "--to-revision", 2) == ["web rolled back to revision 2"]
    assert "no such earlier revision" in fleet.told("rollout", "undo", "web", "--to-revision", 9)
