"""What a worker gets, how it is ended, and what happens when it cannot be started, through the real program."""

import errno
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import alive_in_group, descriptors, everyone

pytestmark = pytest.mark.os


# ------------------------------------------------------------------------------------------------ what a worker gets


def test_placeholders_environment_and_directory(specs, tmp_path):
    """Placeholders are filled in, a worker knows who it is, and a relative `cwd` starts at the spec directory."""
    (tmp_path / "home-web").mkdir()
    script = 'echo "$0 $RECONCILER_NAME $RECONCILER_INDEX $RECONCILER_KEY $GREETING $OUTSIDE $PWD" >&2; exec sleep 1000'
    drop(
        specs,
        "web",
        *sh(script, "{{{index}}}"),
        replicas=2,
        env={"GREETING": "hi {key}"},
        cwd="../home-{name}",
    )
    with Fleet(specs, env={"OUTSIDE": "o"}) as fleet:
        home = tmp_path / "home-web"
        fleet.wait_line(f"{{0}} web 0 web-0 hi web-0 o {home}")
        fleet.wait_line(f"{{1}} web 1 web-1 hi web-1 o {home}")
        for told in fleet.wait_for(2, "worker.started"):
            assert f"RECONCILER_UID={told['uid']}" in environment(told["pid"])


def test_clear_env(specs, tmp_path):
    """With `clear_env` a worker gets nothing of the controller's environment."""
    drop(specs, "web", shutil.which("env"), clear_env=True, env={"A": "1"}, restart={"policy": "never"})
    out = tmp_path / "out"
    with out.open("w") as stdout, Fleet(specs, stdout=stdout) as fleet:
        fleet.wait("worker.succeeded")
        names = {line.partition("=")[0] for line in out.read_text().splitlines()}

        assert names == {"A", "RECONCILER_NAME", "RECONCILER_INDEX", "RECONCILER_KEY", "RECONCILER_UID"}


def test_clean_start(specs):
    """A worker leads its own session, has default signals and three descriptors, whatever the controller inherited."""
    inherited = "trap '' HUP TSTP USR1; exec 7</dev/null; exec \"$@\""
    drop(specs, "web", *sh("grep ^Sig /proc/self/status >&2; echo up >&2; exec sleep 1000"))
    with Fleet(specs, prefix=("sh", "-c", inherited, "sh")) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait_line("up")
        status = dict(line.split(":\t") for line in fleet.lines if ":" in line)

        assert os.getsid(pid) == pid
        assert os.getpgid(pid) == pid
        assert descriptors(pid) == {0, 1, 2}
        assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
        for signals in ("SigBlk", "SigIgn"):
            assert int(status[signals], 16) & ~(0b11 << 31) == 0  # 32 and 33 are the C library's own


def test_output_goes_where_the_controllers_goes(specs, tmp_path):
    """What a worker writes comes out of the controller's own stdout and stderr."""
    drop(specs, "web", *sh("echo out; echo err >&2; exec sleep 1000"))
    out = tmp_path / "out"
    with out.open("w") as stdout, Fleet(specs, stdout=stdout) as fleet:
        fleet.wait_line("err")

        assert out.read_text() == "out\n"


# -------------------------------------------------------------------------------------------------- how a worker ends


def test_killed_worker_is_back_at_once(specs):
    """A worker that is killed is told with its signal's name, and started again without a wait."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        os.kill(fleet.ready("web-0"), signal.SIGKILL)
        exited = fleet.wait("worker.exited")
        assert (exited["signal"], exited["expected"], exited["reason"]) == ("KILL", False, "Signalled")
        starting = fleet.wait("worker.starting")
        assert (starting["reason"], starting["restarts"]) == ("Restarted", 1)
        assert starting["uid"] != exited["uid"]
        fleet.wait("worker.ready")

        assert fleet.all("worker.backoff") == []


def test_leftovers_are_killed_before_the_relaunch(specs):
    """When the leader of a group dies by itself, what is left of its group is killed first, and reported."""
    drop(specs, "web", *sh("sleep 1000 & sleep 1000 & echo ready >&2; wait"))
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait_line("ready")
        assert len(alive_in_group(pid)) == 3
        os.kill(pid, signal.SIGKILL)
        assert fleet.wait("worker.exited")["leftovers"] == 2
        assert alive_in_group(pid) == []
        fleet.wait("worker.ready")


def test_group_killed_from_outside(specs):
    """When somebody kills a whole group, nothing is left over and the worker is back."""
    drop(specs, "web", *sh("sleep 1000 & echo ready >&2; wait"))
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait_line("ready")
        os.killpg(pid, signal.SIGKILL)
        assert fleet.wait("worker.exited")["signal"] == "KILL"
        fleet.wait("worker.ready")


def test_stop_ends_the_whole_group(specs):
    """A stop reaches every process of the group, with the signal that the spec names."""
    script = (
        'trap "echo usr1 >&2; exit 3" USR1; (trap "echo child >&2; exit" USR1; echo up >&2; sleep 1000 & wait) & wait'
    )
    path = drop(specs, "web", *sh(script), stop={"signal": "SIGUSR1"})
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait_line("up")
        path.unlink()
        assert fleet.wait("worker.stopping")["signal"] == "USR1"
        exited = fleet.wait("worker.exited")
        fleet.wait("worker.stopped", reason="Removed")

        assert (exited["exit_code"], exited["expected"], exited["reason"]) == (3, True, "Removed")
        assert {"usr1", "child"} <= set(fleet.lines)
        assert alive_in_group(pid) == []


def test_worker_that_ignores_its_stop_is_killed(specs):
    """A worker that does not end within its stop timeout is killed with its group."""
    path = drop(specs, "web", *sh('trap "" TERM; echo up >&2; sleep 1000 & wait; wait'), stop={"timeout": "50ms"})
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait_line("up")
        path.unlink()
        assert fleet.wait("worker.stopping")["timeout_s"] == 0.05
        assert fleet.wait("worker.killing")["reason"] == "StopTimeout"
        exited = fleet.wait("worker.exited")
        fleet.wait("worker.stopped")

        assert (exited["signal"], exited["expected"]) == ("KILL", True)
        assert alive_in_group(pid) == []


def test_leftovers_of_a_stop_have_the_stop_timeout(specs):
    """A child that goes on after its leader was asked to stop and did is killed when the stop timeout is over."""
    script = '(trap "" TERM; echo up >&2; sleep 1000; sleep 1000) & trap exit TERM; wait'
    path = drop(specs, "web", *sh(script), stop={"timeout": "100ms"})
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait_line("up")
        path.unlink()
        fleet.wait("worker.killing", reason="StopTimeout")
        exited = fleet.wait("worker.exited")

        assert exited["leftovers"] >= 1
        assert alive_in_group(pid) == []


def test_halted_worker_can_be_stopped(specs):
    """A worker that was halted by STOP is woken to take its stop signal."""
    path = drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        os.kill(fleet.ready("web-0"), signal.SIGSTOP)
        path.unlink()
        assert fleet.wait("worker.exited")["signal"] == "TERM"
        fleet.wait("worker.stopped")

        assert fleet.all("worker.killing") == []


# ---------------------------------------------------------------------------------------------- what cannot be started


@pytest.mark.parametrize(
    ("command", "settings", "stage", "number"),
    [
        (["no-such-program"], {}, "exec", errno.ENOENT),
        (["./not-executable"], {}, "exec", errno.EACCES),
        (["sleep", "1"], {"cwd": "no-such-directory"}, "cwd", errno.ENOENT),
    ],
)
def test_what_cannot_be_started_backs_off(specs, command, settings, stage, number):
    """A start that fails is told with its stage and error, and backs off, even where restarts have no delay."""
    (specs / "not-executable").write_text("#!/bin/sh\n")
    drop(specs, "bad", *command, **settings, restart={"backoff": {"initial": "0s"}})
    drop(specs, "good", *SLEEP)
    with Fleet(specs) as fleet:
        failed = fleet.wait("worker.start_failed")
        assert (failed["stage"], failed["errno"], failed["reason"]) == (stage, number, "StartError")
        assert os.strerror(number) in failed["message"]
        backoff = fleet.wait("worker.backoff")
        assert backoff["reason"] == "StartError"
        assert backoff["delay_s"] >= 1
        fleet.ready("good-0")

        assert fleet.all("worker.exited") == []


def test_program_that_comes_into_being(specs):
    """A worker whose program is missing runs when the program is there, without an edit of its spec."""
    drop(specs, "web", "./program")
    with Fleet(specs) as fleet:
        fleet.wait("worker.start_failed")
        draft = specs / "draft"
        draft.write_text("#!/bin/sh\nexec sleep 1000\n")
        draft.chmod(0o755)
        draft.rename(specs / "program")
        fleet.wait("worker.ready", key="web-0")


def test_too_many_files(specs):
    """For want of descriptors some workers fail to start and back off; the others run, and the controller goes on."""
    drop(specs, "web", *SLEEP, replicas=60)
    with Fleet(specs, prefix=("prlimit", "--nofile=40:40")) as fleet:
        failed = fleet.wait("worker.start_failed")
        assert (failed["stage"], failed["errno"]) == ("descriptors", errno.EMFILE)
        fleet.drop("web", *SLEEP, replicas=2)
        fleet.wait("controller.converged", workers=2)

        assert fleet.all("controller.error") == []


# ---------------------------------------------------------------------------------------------------- as the first one


def test_pid_1_reaps_strangers(specs):
    """As PID 1 the controller reaps what is left to it, takes no worker's status by that, and still ends by TERM."""
    private = ("unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no PID namespace may be made here")
    orphan = "(setsid sh -c 'echo orphan >&2; exit 3' &); exec sleep 1000"
    for name in ("api", "web"):
        drop(specs, name, *sh(orphan), restart={"backoff": {"initial": "0s"}})
    with Fleet(specs, prefix=private) as fleet:
        fleet.wait("controller.started")
        (controller,) = children(fleet.pid, "SR")
        unreaped = set()
        for count in (1, 2, 3):
            fleet.until(lambda count=count: fleet.lines.count("orphan") == 2 * count)
            for pid in children(controller, "SR"):
                os.kill(pid, signal.SIGKILL)
            exited = fleet.wait_for(2 * count, "worker.exited")
            assert {told["signal"] for told in exited} == {"KILL"}
            fleet.wait_for(2 * count + 2, "worker.ready")
            assert unreaped.isdisjoint(children(controller, "Z"))
            unreaped = set(children(controller, "Z"))

        os.kill(controller, signal.SIGTERM)
        fleet.over()


def children(parent, states):
    """The children of a process that are in one of these states."""
    return [pid for pid, state, its_parent, _ in everyone() if its_parent == parent and state in states]


def environment(pid):
    """The environment of a process, as a set of NAME=value."""
    return set(filter(None, Path(f"/proc/{pid}/environ").read_text().split("\0")))
