"""What workers tell and are asked, what they need, and jobs, through the real program."""

import sys
from pathlib import Path

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import run_script

from reconciler.client import Client

pytestmark = pytest.mark.os

TELL = """
import os, socket, sys, signal
def tell(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line:
        line.connect("\\0" + os.environ["NOTIFY_SOCKET"][1:])
        line.send(text.encode())
"""


def telling(script):
    """The command of a worker that can `tell`."""
    return (sys.executable, "-c", TELL + script)


def status(state):
    """What a controller says of itself."""
    with Client(state) as client:
        return client.call("status")


def stopped(fleet):
    """The workers in the order in which they were asked to end."""
    return [told["key"] for told in fleet.all("worker.stopping")]


def test_ready_is_told(specs, tmp_path):
    """A worker with `notify` is ready when it has said so, and what it says of itself is shown."""
    gate = tmp_path / "gate"
    script = f"""
tell("STATUS=loading")
while not os.path.exists({str(gate)!r}): signal.sigtimedwait([], 0.01)
tell("READY=1\\nSTATUS=serving")
signal.pause()
"""
    drop(specs, "web", *telling(script), ready={"notify": True})
    with Fleet(specs) as fleet:
        fleet.wait("worker.started", key="web-0")
        assert fleet.all("worker.ready") == []
        gate.touch()
        fleet.ready("web-0")


def test_ready_by_a_newline(specs):
    """A worker with `ready.fd` is ready when it has written a newline there."""
    drop(specs, "web", *sh("sleep 0.05; echo >&4; exec sleep 1000"), ready={"fd": 4})
    with Fleet(specs) as fleet:
        fleet.wait("worker.started", key="web-0")
        fleet.ready("web-0")


def test_a_liveness_probe_restarts(specs, tmp_path):
    """A worker whose probe fails is stopped, told to be unhealthy with the reason, and started anew."""
    sick = tmp_path / "sick"
    probe = {"exec": ["test", "!", "-e", str(sick)], "period": "50ms", "failure_threshold": 2}
    drop(specs, "web", *SLEEP, probes={"liveness": probe})
    with Fleet(specs) as fleet:
        fleet.ready("web-0")
        sick.touch()
        assert fleet.wait("worker.unhealthy", key="web-0")["reason"] == "LivenessFailed"
        sick.unlink()
        assert fleet.wait("worker.starting", key="web-0")["reason"] == "Restarted"


def test_a_watchdog_that_is_not_fed(specs):
    """A worker that is silent for longer than its watchdog's interval gets ABRT."""
    drop(specs, "web", *telling('tell("WATCHDOG=1"); signal.pause()'), watchdog="300ms")
    with Fleet(specs) as fleet:
        assert fleet.wait("worker.unhealthy", key="web-0")["reason"] == "WatchdogTimeout"
        assert fleet.wait("worker.exited", key="web-0")["signal"] == "ABRT"


def test_a_drain_comes_before_the_signal(specs, tmp_path):
    """The command before a stop runs in the worker's environment, with its pid, and TERM comes after it."""
    said = tmp_path / "said"
    drain = {"command": ["sh", "-c", f'echo "$RECONCILER_KEY $PID" > {said}'], "delay": "100ms"}
    drop(specs, "web", *SLEEP, stop={"drain": drain})
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        (specs / "web.toml").unlink()
        fleet.wait("worker.draining", key="web-0")
        fleet.wait("worker.stopped", key="web-0")
        assert said.read_text() == f"web-0 {pid}\n"
        story = [name.removeprefix("worker.") for name in fleet.story(key="web-0")]
        assert story[-5:] == ["draining", "drained", "stopping", "exited", "stopped"]


def test_what_is_needed_comes_first_and_goes_last(specs):
    """A set starts when the job and the service that it needs have come so far, and is stopped before them."""
    drop(specs, "db", *telling('tell("READY=1"); signal.pause()'), ready={"notify": True})
    drop(specs, "migrate", "true", kind="job", depends_on=["db"])
    drop(specs, "web", *SLEEP, depends_on=["db", "migrate"])
    with Fleet(specs) as fleet:
        fleet.ready("web-0")
        story = [(told["event"], told["key"]) for told in fleet.events if told.get("key")]
        order = [("worker.ready", "db-0"), ("worker.succeeded", "migrate-0"), ("worker.starting", "web-0")]
        assert [story.index(one) for one in order] == sorted(story.index(one) for one in order)
        fleet.signal("TERM")
        fleet.over()
        assert stopped(fleet) == ["web-0", "db-0"]


def test_a_job_is_done_once(specs, tmp_path):
    """A job that was done is not run by the next controller, however the last one ended, until it is edited."""
    ran, state = tmp_path / "ran", ("--state-dir", str(tmp_path / "state"))
    drop(specs, "job", *sh(f"echo once >> {ran}"), kind="job")
    with Fleet(specs, *state) as fleet:
        fleet.wait("worker.succeeded", key="job-0")
        status(tmp_path / "state")  # it answers when what came before is saved
        fleet.process.kill()
        fleet.process.wait()
    with Fleet(specs, *state) as fleet:
        assert fleet.wait("worker.succeeded", key="job-0")["reason"] == "Remembered"
        fleet.wait("controller.converged")
        assert ran.read_text() == "once\n"
        fleet.drop("job", *sh(f"echo twice >> {ran}"), kind="job")
        fleet.wait("worker.succeeded", key="job-0")
        assert ran.read_text() == "once\ntwice\n"


def test_a_canary_outlives_the_controller(specs, tmp_path):
    """After a kill of the controller the workers below the partition run from what last ran everywhere, as before."""
    state = ("--state-dir", str(tmp_path / "state"))
    drop(specs, "web", "sleep", "1001", replicas=2)
    with Fleet(specs, *state) as fleet:
        fleet.wait("controller.converged")
        fleet.drop("web", "sleep", "1002", replicas=2, rollout={"partition": 1})
        fleet.wait("rollout.completed", name="web")
        fleet.wait("controller.converged")
        status(tmp_path / "state")  # it answers when what came before is saved
        fleet.process.kill()
        fleet.process.wait()
    with Fleet(specs, *state) as fleet:
        pids = [fleet.ready(key) for key in ("web-0", "web-1")]
        assert [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids] == [b"sleep\x001001\0", b"sleep\x001002\0"]


@pytest.mark.parametrize(
    "content",
    [
        '{"version": 1, "done": {"job": 7}}',
        '{"version": 1, "done": {}, "schedules": {"job": 1e308}}',
        "{",
        '{"version": 9}',
    ],
)
def test_a_memory_that_is_broken(specs, tmp_path, content):
    """A file of jobs that cannot be used is put aside and told, and the job runs anew."""
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "memory.json").write_text(content)
    drop(specs, "job", "true", kind="job")
    with Fleet(specs, "--state-dir", str(state)) as fleet:
        assert "put aside" in fleet.wait("state.degraded")["message"]
        assert fleet.wait("worker.succeeded", key="job-0")["reason"] == "Completed"
    assert (state / "memory.json.bad").exists()


def test_a_schedule(specs):
    """A job of every second runs every second, each time as a worker of its own, and keeps a short history."""
    drop(specs, "tick", "true", kind="job", schedule="* * * * * *", successful_history=1)
    with Fleet(specs) as fleet:
        told = fleet.wait_for(3, "worker.succeeded", name="tick")
        times = [one["index"] for one in told[:3]]
        assert times == [times[0], times[0] + 1, times[0] + 2]
        fleet.wait("worker.forgotten", key=told[0]["key"])


def test_probes_of_the_library(tmp_path):
    """Workers that a user's own `fork` starts are probed, too."""
    sick = tmp_path / "sick"
    program = f"""
        import pathlib, subprocess
        from reconciler import Controller, Policy, Probe, Probes

        sick, told = pathlib.Path({str(sick)!r}), []

        def publish(events):
            for one in events:
                told.append(one.event)
                if one.event == "worker.ready" and "worker.unhealthy" not in told:
                    sick.touch()
                elif one.event == "worker.unhealthy":
                    sick.unlink()
                elif one.event == "worker.ready":
                    controller.stop()

        probe = Probe(exec=("test", "!", "-e", str(sick)), period=0.05, failure_threshold=1)
        policy = Policy(probes=Probes(liveness=probe))
        controller = Controller(lambda: ["a"], lambda _: subprocess.Popen(["sleep", "1000"]), policy=policy)
        controller.publish = publish
        controller.run()
        print(told.count("worker.unhealthy"), told.count("worker.started"))
        """
    assert run_script(program).stdout == "1 2\n"
