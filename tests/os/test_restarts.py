"""Which ends lead to a restart, and when, through the real program."""

import os
import signal
from itertools import pairwise

import pytest
from fleet import SLEEP, Fleet, drop, sh

pytestmark = pytest.mark.os


def test_crash_loop(specs, tmp_path):
    """The first restart comes at once; from then on each waits longer, as its event says and as it is then done."""
    backoff = {"initial": "100ms", "factor": 2, "max": "300ms", "jitter": 0.5}
    ran = tmp_path / "ran"
    drop(specs, "web", *sh(f"date +%s.%N >> {ran}; exit 3"), restart={"backoff": backoff})
    with Fleet(specs) as fleet:
        waits = fleet.wait_for(4, "worker.backoff", key="web-0")
        fleet.wait_for(6, "worker.exited", key="web-0")

        story = [name for name in fleet.story(key="web-0") if name not in ("worker.started", "worker.ready")]
        assert story[:6] == ["worker.starting", "worker.exited"] * 2 + ["worker.backoff", "worker.starting"]
        for (low, high), told in zip([(0.1, 0.15), (0.2, 0.3), (0.3, 0.3), (0.3, 0.3)], waits, strict=True):
            assert low <= told["delay_s"] <= high
            assert told["reason"] == "CrashLoopBackOff"
        starts = fleet.all("worker.starting")
        assert [told["restarts"] for told in starts[:6]] == [0, 1, 2, 3, 4, 5]
        times = [float(line) for line in ran.read_text().split()[1:6]]  # by the workers: what is told is told late
        for told, (before, after) in zip(waits, pairwise(times), strict=True):
            assert (
                after - before > told["delay_s"] - 0.02
            )  # it is counted from the beginning of the turn that saw the exit
        exited = fleet.all("worker.exited")[0]
        assert (exited["exit_code"], exited["expected"], exited["reason"]) == (3, False, "Error")


def test_long_run_clears_the_history(specs):
    """A worker that ran for `reset_after` before it ended is restarted at once, every time."""
    backoff = {"initial": "1h", "max": "1h", "reset_after": "50ms"}
    drop(specs, "web", *sh("sleep 0.1; exit 1"), restart={"backoff": backoff})
    with Fleet(specs) as fleet:
        fleet.wait_for(4, "worker.starting")

        assert fleet.all("worker.backoff") == []


def test_no_delay_at_all(specs):
    """With `initial = "0s"` a worker that ends is restarted at once however often."""
    drop(specs, "web", "true", restart={"backoff": {"initial": "0s"}})
    with Fleet(specs) as fleet:
        fleet.wait_for(30, "worker.starting")

        assert fleet.all("worker.backoff") == []


POLICIES = {
    "always-well": ("always", "exit 0", None),
    "always-badly": ("always", "exit 1", None),
    "on-failure-well": ("on_failure", "exit 0", ("worker.succeeded", "Completed")),
    "on-failure-badly": ("on_failure", "exit 1", None),
    "on-failure-well-by-7": ("on_failure", "exit 7", ("worker.succeeded", "Completed")),
    "on-failure-by-signal": ("on_failure", "kill -KILL $$", None),
    "never-well": ("never", "exit 0", ("worker.succeeded", "Completed")),
    "never-badly": ("never", "exit 1", ("worker.failed", "Error")),
    "never-by-signal": ("never", "kill -KILL $$", ("worker.failed", "Error")),
}


def test_policies(specs):
    """Policy and exit code say whether a worker is restarted, has succeeded or has failed."""
    for name, (policy, script, _) in POLICIES.items():
        backoff = {"initial": "1h", "max": "1h"}
        restart = {"policy": policy, "success_exit_codes": [0, 7], "backoff": backoff}
        drop(specs, name, *sh(script), restart=restart)
    with Fleet(specs) as fleet:
        for name, (_, _, end) in POLICIES.items():
            fleet.wait_for(1, end[0] if end else "worker.backoff", name=name)

        for name, (_, _, end) in POLICIES.items():
            starts = 1 if end else 2
            assert len(fleet.all("worker.started", name=name)) == starts, name
            last = fleet.all(name=name)[-1]
            assert (last["event"], last["reason"]) == (end or ("worker.backoff", "CrashLoopBackOff"))
        for told in fleet.all("worker.exited", name="never-by-signal"):
            assert told["signal"] == "KILL"


def test_finished_work_is_not_done_again(specs):
    """What has succeeded counts as ready, is not started anew by HUP or a change elsewhere, and goes with its file."""
    job = drop(specs, "job", "true", restart={"policy": "never"})
    with Fleet(specs) as fleet:
        fleet.wait("worker.succeeded")
        fleet.signal("HUP")
        fleet.drop("web", *SLEEP)
        fleet.wait("controller.converged", workers=2)
        job.unlink()
        fleet.wait("worker.forgotten", key="job-0", reason="Removed")

        assert len(fleet.all("worker.starting", name="job")) == 1


def test_start_limit(specs):
    """After `burst` starts within the interval a worker has failed for good, until its spec is edited."""
    limit = {"burst": 3, "interval": "1h"}
    restart = {"backoff": {"initial": "0s"}, "start_limit": limit}
    drop(specs, "web", "false", restart=restart)
    with Fleet(specs) as fleet:
        assert fleet.wait("worker.failed")["reason"] == "StartLimitHit"
        assert len(fleet.all("worker.starting")) == 3
        fleet.drop("web", "false", restart={**restart, "start_limit": {**limit, "interval": "2h"}})
        assert fleet.wait("worker.starting")["reason"] == "Retried"
        fleet.wait("worker.failed")
        fleet.drop("web", *SLEEP, restart=restart)
        assert fleet.wait("worker.starting")["reason"] == "Updated"
        fleet.wait("controller.converged", workers=1)


def test_starts_of_long_ago_do_not_count(specs):
    """The start limit counts the starts within its interval, and no earlier ones."""
    limit = {"burst": 2, "interval": "50ms"}
    drop(specs, "web", *sh("sleep 0.1; exit 1"), restart={"backoff": {"initial": "0s"}, "start_limit": limit})
    with Fleet(specs) as fleet:
        fleet.wait_for(5, "worker.starting")

        assert fleet.all("worker.failed") == []


def test_waiting_worker_starts_at_once_when_it_is_edited(specs):
    """An edit of a worker that waits for its next start does not wait with it."""
    drop(specs, "web", "false", restart={"backoff": {"initial": "1h", "max": "1h"}})
    with Fleet(specs) as fleet:
        fleet.wait("worker.backoff")
        fleet.drop("web", *SLEEP)
        fleet.wait("worker.ready")


def test_waiting_worker_that_is_removed_is_told_to_be_stopped(specs):
    """A worker that waits for its next start and is no longer wanted is stopped without a process."""
    path = drop(specs, "web", "false", restart={"backoff": {"initial": "1h", "max": "1h"}})
    with Fleet(specs) as fleet:
        fleet.wait("worker.backoff")
        path.unlink()
        fleet.wait("worker.stopped", reason="Removed")
        fleet.wait("controller.converged", workers=0)


def test_mass_crash(specs):
    """When all workers are killed at once, each is told once and all are back."""
    drop(specs, "web", *SLEEP, replicas=40)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=40)
        for told in fleet.all("worker.started"):
            os.kill(told["pid"], signal.SIGKILL)
        fleet.wait_for(80, "worker.ready")

        assert len(fleet.all("worker.exited")) == 40
