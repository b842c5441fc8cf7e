"""Waiting for workers and sets of a real controller."""

import subprocess
import sys
import time

import pytest
from fleet import SLEEP, drop, sh
from processes import PATIENCE, ROOT
from verbs.commanding import commanded

pytestmark = pytest.mark.os


@pytest.fixture
def fleet(tmp_path):
    """A controller with two workers of `web`, all ready."""
    (tmp_path / "specs").mkdir()
    drop(tmp_path / "specs", "web", *SLEEP, replicas=2)
    with commanded(tmp_path, "web-0", "web-1") as running:
        yield running


def waiting(fleet, *arguments):
    """A `wait` in the background."""
    return subprocess.Popen(
        [sys.executable, "-m", "reconciler", "wait", *arguments, "--state-dir", str(fleet.state_dir)],
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_ready(fleet):
    """What is ready is not waited for, and nothing is printed in a pipe."""
    assert fleet.ask("wait", "web", "web-0", "--timeout", "0s") == []


def test_becoming_ready(fleet):
    """A worker that becomes ready ends the wait."""
    fleet.ask("stop", "web-0", "--wait")
    with waiting(fleet, "web") as waiter:
        fleet.ask("start", "web-0")
        assert waiter.wait(PATIENCE) == 0
        assert waiter.stdout.read() == b""


def test_in_vain(fleet):
    """When the time is over the exit code is 1."""
    assert "gave up on web after 0.2 s" in fleet.told("wait", "web", "--for", "stopped", "--timeout", "200ms")
    assert "gave up" in fleet.told("wait", "web", "--for", "deleted", "--timeout", "0s")


def test_stopped(fleet):
    """Workers without a process end a wait for `stopped`."""
    with waiting(fleet, "web", "--for", "stopped") as waiter:
        fleet.ask("stop", "web")
        assert waiter.wait(PATIENCE) == 0


def test_deleted(fleet):
    """Sets that go end a wait for `deleted`, as do those that were never there."""
    fleet.ask("wait", "nope", "--for", "deleted", "--timeout", "0s")
    with waiting(fleet, "web", "web-1", "--for", "deleted") as waiter:
        fleet.ask("delete", "web")
        assert waiter.wait(PATIENCE) == 0


def test_unknown(fleet):
    """What is not there cannot become ready, and the nearest name is told."""
    assert "did you mean 'web-0'?" in fleet.told("wait", "webb-0")


def test_the_controller_ends(fleet):
    """A wait ends with a failure when the controller does."""
    with waiting(fleet, "web", "--for", "deleted") as waiter:
        fleet.end()
        assert waiter.wait(PATIENCE) == 1
        assert waiter.stdout.read().startswith(b"reconciler: ")


def test_orders_that_fail(fleet):
    """`--wait` ends with exit code 1 as soon as what was asked for cannot come about."""
    drop(fleet.specs, "job", *sh("exit 3"), restart={"policy": "never"}, min_ready="1h")
    fleet.wait("worker.exited", key="job-0")
    assert "1 of its workers failed for good" in fleet.told("restart", "job", "--wait")


def test_nobody_is_wanted(fleet):
    """A set without workers is ready and stopped at once; one that is deleted meanwhile is not ready."""
    fleet.drop("none", *SLEEP, replicas=0)
    fleet.wait("spec.added", name="none")
    fleet.ask("reload")
    fleet.ask("wait", "none", "--timeout", "0s")
    fleet.ask("wait", "none", "--for", "stopped", "--timeout", "0s")
    fleet.drop("slow", *SLEEP, min_ready="1h")
    fleet.wait("worker.started", key="slow-0")
    with waiting(fleet, "slow") as waiter:
        fleet.ask("delete", "slow")
        assert waiter.wait(PATIENCE) == 1
        assert waiter.stdout.read().startswith(b"reconciler: there is no set or worker")


def test_one_patience_for_all(fleet):
    """The time is that of the whole wait, however many names there are."""
    begun = time.monotonic()
    assert "after 1 s" in fleet.told("wait", "web-0", "nope", "web-1", "--for", "deleted", "--timeout", "1s")
    fleet.ask("delete", "web", "--no-wait")
    assert time.monotonic() - begun < PATIENCE


def test_nothing_more_comes(fleet):
    """A set whose workers are replaced only when they end is waited for no longer than it goes on by itself."""
    new = 'command = "sleep 2000"\nreplicas = 2\nrollout.strategy = "on_delete"'
    assert fleet.ask("apply", "-", "--name", "web", "--wait", text=new) == ["web changed"]
    assert fleet.all("worker.exited") == []


def test_what_is_ready_for_a_moment_is_not_as_wanted(tmp_path):
    """Who waits for a set whose workers start and crash is not told that all is well in between."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sh", "-c", "sleep 0.2; exit 1", restart={"start_limit": {"burst": 2, "interval": "1h"}})
        fleet.until(lambda: fleet.all("spec.added"))
        assert "failed for good" in fleet.told("rollout", "status", "web")
