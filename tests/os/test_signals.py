"""What signals mean to the running program."""

import os
import signal

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import alive

pytestmark = pytest.mark.os

STUBBORN = sh('trap "" TERM; echo up >&2; sleep 1000 & wait; wait')


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_graceful_stop(specs, name):
    """TERM and INT stop all workers with their own signal, and the controller ends with 0."""
    drop(specs, "web", *SLEEP, replicas=3, stop={"signal": "QUIT"})
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=3)
        fleet.end(name)

        assert fleet.all("controller.signalled")[0]["signal"] == name
        assert fleet.all("controller.stopping")[0]["workers"] == 3
        assert [told["signal"] for told in fleet.all("worker.exited")] == ["QUIT"] * 3
        assert {told["reason"] for told in fleet.all("worker.stopped")} == {"ControllerStopping"}
        assert fleet.story()[-1] == "controller.stopped"


@pytest.mark.parametrize("names", [("INT", "INT"), ("TERM", "TERM"), ("TERM", "INT")])
def test_second_signal_kills(specs, names):
    """A second TERM or INT does not wait for workers that do not end."""
    drop(specs, "web", *STUBBORN, stop={"timeout": "1h"})
    with Fleet(specs) as fleet:
        fleet.wait_line("up")
        fleet.signal(names[0])
        fleet.wait("worker.stopping")
        fleet.end(names[1])

        assert [told["signal"] for told in fleet.all("worker.exited")] == ["KILL"]


def test_stop_with_nothing_to_stop(specs):
    """A controller without workers ends at once."""
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged")
        fleet.end()


def test_signal_before_the_loop_is_not_lost(specs):
    """A signal that comes as early as from the first worker is acted on."""
    drop(specs, "web", *sh("kill -TERM $PPID; exec sleep 1000"))
    with Fleet(specs) as fleet:
        fleet.over()

        assert fleet.story(key="web-0")[-1] == "worker.stopped"


def test_reload_changes_nothing_by_itself(specs):
    """HUP reads the files again and leaves alone what has not changed."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait("controller.converged")
        for _ in range(100):
            fleet.signal("HUP")
        fleet.drop("api", *SLEEP)
        fleet.signal("HUP")
        fleet.wait("worker.ready", key="api-0")

        assert alive(pid)
        assert fleet.all("worker.exited") == []


def test_reload_while_stopping(specs):
    """HUP does not bring back what is being stopped."""
    drop(specs, "web", *STUBBORN)
    with Fleet(specs) as fleet:
        fleet.wait_line("up")
        fleet.signal("TERM")
        fleet.wait("worker.stopping")
        fleet.drop("api", *SLEEP)
        fleet.signal("HUP")
        fleet.wait("controller.signalled", signal="HUP")
        fleet.end()

        assert len(fleet.all("worker.starting")) == 1


def test_signals_that_mean_nothing(specs):
    """Signals that mean nothing here are told, and neither end the controller nor orphan its workers."""
    drop(specs, "web", *SLEEP)
    drop(specs, "api", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=2)
        for name in ("QUIT", "USR1", "USR2", "TTIN", "TTOU"):
            fleet.signal(name)
            assert fleet.wait("controller.signalled", signal=name)["reason"] == "Ignored"
        os.kill(fleet.ready("web-0"), signal.SIGKILL)
        fleet.wait("worker.ready")


def test_scaling_by_signals(specs):
    """Where there is one file, TTIN and TTOU run one worker more or fewer, whatever the file says, down to none."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=1)
        fleet.signal("TTIN")
        assert fleet.wait("controller.scaled", name="web")["replicas"] == 2
        fleet.wait("controller.converged", workers=2)
        fleet.signal("HUP")
        fleet.wait("controller.signalled", signal="HUP")
        for replicas in (1, 0, 0):
            fleet.signal("TTOU")
            assert fleet.wait("controller.scaled")["replicas"] == replicas
        fleet.wait("controller.converged", workers=0)
        fleet.signal("TTIN")
        fleet.wait("controller.converged", workers=1)


def test_halted_controller(specs):
    """What happened while the controller was halted is made up for."""
    drop(specs, "web", *SLEEP, replicas=2)
    with Fleet(specs) as fleet:
        pids = fleet.ready("web-0", "web-1")
        fleet.wait("controller.converged")
        fleet.signal("STOP")
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        fleet.drop("api", *SLEEP)
        fleet.signal("CONT")
        fleet.wait("controller.converged", workers=3)
