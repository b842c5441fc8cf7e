"""Waiting for workers and sets of a real controller."""

import subprocess
import sys

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
    assert "job has 1 failed workers" in fleet.told("restart", "job", "--wait")
