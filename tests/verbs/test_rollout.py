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


def test_a_partition(fleet):
    """A rollout with a partition is done when that is reached, and says how many workers are kept as they were."""
    edit(fleet, "sleep", "2000", replicas=2, rollout={"partition": 1})
    lines = fleet.ask("rollout", "status", "web")
    assert lines[-2:] == [
        "web 1/1  updated, 2 available",
        "web is rolled out but for 1 that its partition keeps as they were",
    ]
    described = "\n".join(fleet.ask("describe", "web"))
    assert "Partition:   1 of the workers keep what they have; 1 do now" in described
    assert "1 of 2 run the wanted spec; the rollout's partition keeps 1 as they were" in described
    assert fleet.ask("get", "--sets", "web")[1].split(maxsplit=5)[3:] == ["1", "2", "ok (1 kept by the partition)"]
    assert fleet.ask("explain", "web-0")[0].endswith("by the rule Partition")


def test_a_rollout_that_undid_itself(fleet):
    """A rollout that went back by itself is a failure with the reason; the revision that runs now is known."""
    rules = {"auto_rollback": True, "progress_deadline": "100ms"}
    edit(fleet, *sh("exit 3"), replicas=2, rollout=rules)
    assert "web went back by itself to what last ran everywhere: its" in fleet.told("rollout", "status", "web")
    history = json.loads("\n".join(fleet.ask("rollout", "history", "web", "-o", "json")))
    assert [row["current"] for row in history] == [True, False]
    assert "no such earlier revision" in fleet.told("rollout", "undo", "web")
    described = fleet.ask("describe", "web")
    assert described[3].endswith("revision 1")
    assert any(line.split()[:3] == ["Progressing", "no", "RolledBack"] for line in described)
    fleet.ask("scale", "web=3", "--wait")
    assert "went back by itself" in fleet.told("rollout", "undo", "web", "--to-revision", 2, "--wait")


def test_the_revision_that_a_rollout_went_back_to(fleet):
    """It is known as the current one though it has a partition, which the way back leaves out."""
    rules = {"auto_rollback": True, "progress_deadline": "100ms"}
    edit(fleet, *SLEEP, replicas=2, rollout={"partition": 1})
    edit(fleet, *sh("exit 3"), replicas=2, rollout=rules)
    assert "web went back by itself to what last ran everywhere: its" in fleet.told("rollout", "status", "web")
    history = json.loads("\n".join(fleet.ask("rollout", "history", "web", "-o", "json")))
    assert [row["current"] for row in history] == [False, True, False]


def test_apply_waits_for_the_way_back(fleet):
    """`apply --wait` fails with the reason when the rollout went back by itself, and not for an earlier one."""
    bad = (
        'command = ["sh", "-c", "exit 3"]\nreplicas = 2\n[rollout]\nauto_rollback = true\nprogress_deadline = "100ms"\n'
    )
    assert "went back by itself" in fleet.told("apply", "-", "--name", "web", "--wait", text=bad)
    assert fleet.ask("restart", "web", "--wait") == [f"web-{n} will be restarted" for n in range(2)]
    good = bad.replace("exit 3", "exec sleep 3000").replace("100ms", "60s")
    assert fleet.ask("apply", "-", "--name", "web", "--wait", text=good) == ["web changed"]
    assert "web is rolled out" in fleet.ask("rollout", "status", "web")
