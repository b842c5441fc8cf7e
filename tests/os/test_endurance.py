"""What must not grow and what must not move, through the real program."""

from pathlib import Path

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import descriptors, everyone

pytestmark = pytest.mark.os


def switches(pid):
    """How often a process has gone to sleep."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def test_idle_controller_does_not_wake(specs):
    """While nothing happens the controller sleeps: in 3 s it wakes for the relist at most."""
    drop(specs, "web", *SLEEP, replicas=20)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=20)
        fleet.quiet(0.5)  # while it starts to watch
        before = switches(fleet.pid)
        assert fleet.quiet(3) == []

        assert switches(fleet.pid) - before <= 1


def test_thousand_workers_leave_nothing(specs):
    """A thousand workers that came and went leave no descriptor, zombie or orphan behind."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=1)
        fleet.drop("api", *SLEEP)
        fleet.wait("controller.converged", workers=2)
        before = descriptors(fleet.pid)
        fleet.drop("churn", "true", replicas=25, restart={"backoff": {"initial": "0s"}})
        fleet.wait_for(1000, "worker.exited", name="churn")
        (specs / "churn.toml").unlink()
        fleet.wait("spec.removed", name="churn")
        fleet.wait("controller.converged", workers=2)

        assert descriptors(fleet.pid) == before
        assert [pid for pid, state, parent, _ in everyone() if parent == fleet.pid and state == "Z"] == []
        assert len(fleet.marked()) == 2


def test_fifty_edits_leave_nothing(specs):
    """A file that is edited over and over has, in the end, the workers of its last version and no others."""
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=0)
        for count in range(50):
            fleet.drop("web", *sh(f"echo {{key}} {count} >&2; exec sleep 1000"), replicas=1 + count % 3)
            fleet.signal("HUP")
            fleet.wait("controller.signalled")
        fleet.wait_line("web-0 49")
        fleet.wait_line("web-1 49")
        fleet.drop("fence", *SLEEP)
        fleet.wait("controller.converged", workers=3)

        exited = {told["uid"] for told in fleet.all("worker.exited")}
        assert len([told for told in fleet.all("worker.started") if told["uid"] not in exited]) == 3
        assert len(fleet.marked()) == 3


def test_a_fast_crash_loop_leaves_no_fifos(tmp_path):
    """However fast workers come and go, the descriptors for their output are few, and other sets are served."""
    specs = tmp_path / "specs"
    specs.mkdir()
    state = tmp_path / "state"
    loop = {"replicas": 10, "restart": {"backoff": {"initial": "0s"}}}
    drop(specs, "web", *sh("echo here; exec sleep 1000"))
    with Fleet(specs, "--state-dir", str(state), "--output", "file") as fleet:
        fleet.ready("web-0")
        drop(specs, "loop", "true", **loop)
        fleet.wait_for(3000, "worker.exited")
        assert len(descriptors(fleet.pid)) < 200
        assert (state / "output" / "web-0.log").read_text() == "here\n"
    left = sorted(path.name for path in (state / "output").iterdir())
    assert left == ["web-0.idx", "web-0.log"]  # none of one that wrote nothing, nor a FIFO
