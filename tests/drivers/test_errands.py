"""Commands beside a worker: probes by a command, and what runs before a stop; with real processes."""

import os
import resource
import select
import signal
import sys
import threading
import time

import pytest
from drivers.probing import answer, answers, ask, refusal, settle, surroundings, turn
from processes import PATIENCE, alive, descriptors, zombies

from reconciler.core.observation import Drained, Probed
from reconciler.core.policies import Drain
from reconciler.drivers import groups
from reconciler.drivers.prober import Prober
from reconciler.drivers.spawning import Spawner

pytestmark = pytest.mark.os


def bad(message):
    return Probed("u1", "readiness", success=False, message=message)


GOOD = Probed("u1", "readiness", success=True)


@pytest.fixture
def prober():
    """A prober that leaves no descriptor open, and no process, and has run a command before."""
    before = descriptors()
    prober = Prober()
    ask(prober, exec=("true",))
    answer(prober)
    yield prober
    prober.close()
    assert descriptors() == before
    assert zombies() == []


@pytest.fixture
def fifo(tmp_path):
    """A FIFO by which a command tells a line."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture(params=["alone", "beside a thread"])
def threads(request):
    """Once as the controller is, and once in a program that has other threads."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    if request.param != "alone":
        thread.start()
    yield
    stop.set()
    if request.param != "alone":
        thread.join()


def sh(script, *arguments):
    return ("sh", "-c", script, *map(str, arguments))


def drain(prober, *command, uid="u1", timeout=PATIENCE, around=None):
    prober.drain(uid, Drain(command=command, timeout=timeout), around or surroundings())


# ---------------------------------------------------------------------------------------------------------- the end


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 0", ""),
        ("echo fine; exit 0", ""),
        ("exit 3", "exit code 3"),
        ("echo first; echo; echo '  last \t'; echo; exit 3", "exit code 3: last"),
        ("echo out; echo err >&2; exit 1", "exit code 1: err"),
        ("printf 'no newline'; exit 1", "exit code 1: no newline"),
        ("printf '\\033[31mred\\377\\n'; exit 1", "exit code 1: \ufffd[31mred\ufffd"),
        ("kill -SEGV $$", "the command was ended by SEGV"),
        ("echo dying; kill -KILL $$", "the command was ended by KILL: dying"),
    ],
)
def test_how_a_command_ends(prober, threads, script, message):
    """Exit code 0 is a success; anything else is none, and its last line says more."""
    ask(prober, exec=sh(script))

    assert answer(prober) == Probed("u1", "readiness", not message, message)


def test_a_long_line(prober):
    """No more than 200 characters of a command's last line are told."""
    ask(prober, exec=sh('printf "%0500d\n" 7; exit 1'))

    assert answer(prober) == bad(f"exit code 1: {'0' * 200}")


def test_much_output(prober):
    """A command may write more than a pipe holds, and only its last line is kept."""
    ask(prober, exec=sh("head -c 3000000 /dev/zero; echo; echo done; exit 1"))

    assert answer(prober) == bad("exit code 1: done")


def test_closed_output(prober):
    """A command that closes its output is waited for, without any noise."""
    before = descriptors()
    ask(prober, exec=sh("exec >&- 2>&-; kill -STOP $$"))
    command = prober._tasks["u1"].check
    os.waitid(os.P_PID, command.pid, os.WSTOPPED | os.WNOWAIT)
    for _ in range(3):  # what had happened before it closed them
        assert prober.poll() == ()

    assert select.select([prober], [], [], 0)[0] == []

    os.kill(command.pid, signal.SIGCONT)
    assert answer(prober) == GOOD
    settle(prober, before)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("no-such-program",), "no-such-program: No such file or directory"),
        (("./here",), "./here: Permission denied"),
        (("a\0b",), refusal(os.access, "a\0b", os.X_OK)),
        (("true", "a\0b"), "embedded null byte"),
        ((), "the command is empty"),
        (("{port:http}",), "KeyError: 'port:http'"),
    ],
)
def test_a_command_that_cannot_be_started(prober, tmp_path, command, message):
    """What cannot be started is a failed probe that says why, and nothing stays open."""
    (tmp_path / "here").touch()
    before = descriptors()

    ask(prober, exec=command, around=surroundings(tmp_path))

    assert answer(prober) == bad(message)
    assert descriptors() == before


def test_a_directory_that_is_not_there(prober, tmp_path, threads):
    """A working directory that is not there is a failed probe too."""
    ask(prober, exec=("true",), around=surroundings(tmp_path / "no"))

    assert answer(prober) == bad(f"{tmp_path}/no: No such file or directory")


# ------------------------------------------------------------------------------------------------ what a command gets


def test_what_a_command_gets(prober, tmp_path, threads):
    """A command runs in the worker's directory and environment, in a session of its own, with nothing to read."""
    source = """
import os, sys
assert os.getcwd() == sys.argv[1], os.getcwd()
assert os.environb == {b"PATH": b"/usr/bin:/bin", b"A": b"1"} | {
    name: value for name, value in os.environb.items() if name == b"LC_CTYPE"
}, os.environb
assert sys.argv[2] == "web-2 {}", sys.argv
assert os.getsid(0) == os.getpgid(0) == os.getpid()
assert os.read(0, 1) == b""
open = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
assert set(open) - {"0", "1", "2"} <= set(sys.argv[3:]), open
"""
    inherited = [str(fd) for fd in descriptors() if os.get_inheritable(fd)]
    around = surroundings(tmp_path, environment={b"A": b"1"})

    ask(prober, exec=(sys.executable, "-c", source, str(tmp_path), "{key} {{}}", *inherited), around=around)

    assert answer(prober) == GOOD
    assert os.getcwd() != str(tmp_path)


def test_the_spawner_of_another():
    """Where there is a spawner for workers, commands are started by it, and it stays open."""
    spawner = Spawner((64, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    prober = Prober(spawner)
    ask(prober, exec=sh("ulimit -Sn; exit 1"))
    assert answer(prober) == bad("exit code 1: 64")
    prober.close()
    os.fstat(spawner._null)
    spawner.close()


def test_descriptors_of_others_are_left_alone(prober):
    """What a program made inheritable stays so when the first command is run."""
    fd = os.open("/", os.O_RDONLY)
    os.set_inheritable(fd, True)
    other = Prober()
    ask(other, exec=("true",))
    assert answer(other) == GOOD
    assert os.get_inheritable(fd)
    other.close()
    os.close(fd)


def test_signals_of_a_command(prober):
    """A command has an empty signal mask and default handlers, whatever the controller has."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        ask(
            prober,
            exec=sh(
                "while read name value; do case $name in SigBlk:|SigIgn:) echo $value;; esac; done "
                "< /proc/self/status | tr -d '\\n0'; echo; exit 1"
            ),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})

    assert answer(prober).message in ("exit code 1", "exit code 1: 18")  # 32 and 33 are the C library's own


def test_a_program_on_the_workers_path(prober, tmp_path):
    """A bare name is looked up on the worker's PATH."""
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\nexit 6\n")
    program.chmod(0o755)

    ask(prober, exec=("only-here",), around=surroundings(environment={b"PATH": b"/nowhere:" + os.fsencode(tmp_path)}))

    assert answer(prober) == bad("exit code 6")


# ------------------------------------------------------------------------------------------------- time and killing


def test_the_timeout(prober, fifo, threads):
    """At the timeout a command is killed with all that it started, and reaped."""
    before = descriptors()
    ask(prober, exec=sh("trap '' TERM; sleep 1000 & echo $! $$ > $0; wait", fifo), timeout=0.5)
    pidfds = [os.pidfd_open(int(word)) for word in fifo.read_text().split()]

    assert answer(prober) == bad("no answer within 0.5 s")

    for pidfd in pidfds:
        assert select.select([pidfd], [], [], PATIENCE)[0]
        os.close(pidfd)
    settle(prober, before)
    assert zombies() == []


def test_what_a_command_leaves_behind(prober, fifo):
    """What a command started and left behind is killed at its end, and does not hold up its answer."""
    ask(prober, exec=sh("sleep 1000 & echo $! > $0", fifo))
    pid = int(fifo.read_text())
    pidfd = os.pidfd_open(pid)

    assert answer(prober) == GOOD

    assert select.select([pidfd], [], [], PATIENCE)[0]
    os.close(pidfd)


@pytest.mark.parametrize("how", ["forget", "ask", "drain", "close"])
def test_a_command_that_is_given_up(fifo, how):
    """A command that is given up is killed and reaped, and nothing is said of it."""
    before = descriptors()
    prober = Prober()
    ask(prober, kind="liveness", exec=sh("echo $$ > $0; exec sleep 1000", fifo))
    pid = int(fifo.read_text())

    if how == "ask":
        ask(prober, exec=("true",))
        assert answer(prober) == GOOD
    elif how == "drain":
        drain(prober, "true")
        assert answer(prober) == Drained("u1")
    elif how == "forget":
        prober.forget("u1")
        assert prober.wake_at() is None
    prober.close()

    assert not alive(pid)
    assert descriptors() == before
    assert zombies() == []


def test_a_flood_delays_nothing(prober):
    """Commands that write without end delay no other, and end at their timeout."""
    for number in range(5):
        ask(prober, f"flood-{number}", exec=("yes",), timeout=1)
    ask(prober, exec=("true",))

    assert answer(prober) == GOOD
    assert {each.message for each in answers(prober, 5)} == {"no answer within 1 s"}


def test_commands_that_do_not_die(prober, monkeypatch):
    """A worker whose commands cannot be killed gets no more of them, but other probes; others get theirs."""
    monkeypatch.setattr(groups, "signal_group", lambda pgid, number: None)
    pids = []
    for _ in range(4):
        ask(prober, exec=("sleep", "1000"))
        pids.append(prober._tasks["u1"].check.pid)
        prober.forget("u1")

    ask(prober, exec=("true",))
    assert answer(prober) == bad("4 earlier commands of this worker were killed, and are not dead yet")
    ask(prober, file="/")
    assert answer(prober) == GOOD
    ask(prober, "u2", exec=("true",))
    assert answer(prober).success

    monkeypatch.undo()
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    while prober._dying:
        assert turn(prober) == []
    ask(prober, exec=("true",))
    assert answer(prober) == GOOD


def test_many_commands(prober):
    """Fifty commands run at the same time, and each is answered once."""
    before = descriptors()
    for number in range(50):
        ask(prober, f"u{number}", exec=sh(f"exit {number}"))
    seen = {each.uid: each.message for each in answers(prober, 50)}

    assert seen == {"u0": ""} | {f"u{number}": f"exit code {number}" for number in range(1, 50)}
    settle(prober, before)


# --------------------------------------------------------------------------------------------- other code that reaps


def test_status_taken_by_other_code(prober, fifo):
    """Where other code took the status, the probe has failed and says so."""
    ask(prober, exec=sh("read line < $0", fifo))
    fifo.write_text("go on\n")
    os.waitpid(prober._tasks["u1"].check.pid, 0)

    assert answer(prober) == bad("how the command ended is unknown: other code in this process took its status")


def test_reaping_by_pid(prober, fifo):
    """Whoever reaps strangers can leave our commands to us, and their answers are not lost."""
    ask(prober, exec=sh("read line < $0; exit 3", fifo))
    pid = prober._tasks["u1"].check.pid
    fifo.write_text("go on\n")
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert prober.reap(pid)
    assert zombies() == []
    assert not prober.reap(pid)
    assert prober.poll() == (bad("exit code 3"),)


def test_closed_in_another_process(monkeypatch):
    """Closing kills commands in the process that started them only, and not in a child of that."""
    before = descriptors()
    prober = Prober()
    ask(prober, exec=("sleep", "1000"))
    pid = prober._tasks["u1"].check.pid
    monkeypatch.setattr(prober, "_process", -1)
    prober.close()

    assert descriptors() == before
    assert os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is None
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# ------------------------------------------------------------------------------------------------------------ drains


@pytest.mark.parametrize(("script", "message"), [("exit 0", ""), ("echo busy; exit 1", "exit code 1: busy")])
def test_drain(prober, script, message):
    """A drain is answered when its command has ended, with how, if it was no success."""
    drain(prober, *sh(script))

    assert answer(prober) == Drained("u1", message)


def test_drain_finds_its_worker(prober):
    """The command before a stop has the worker's environment and placeholders."""
    drain(prober, *sh('test "$0 $PID" = "web-2 42"', "{key}"), around=surroundings(environment={b"PID": b"42"}))

    assert answer(prober) == Drained("u1")


def test_drain_takes_too_long(prober):
    """A drain that takes longer than its timeout is killed, and answered."""
    before = descriptors()
    start = time.monotonic()
    drain(prober, "sleep", "1000", timeout=0.2)

    assert answer(prober) == Drained("u1", "the command did not end within 0.2 s, and was killed")
    assert time.monotonic() - start >= 0.2
    settle(prober, before)


def test_drain_without_time(prober):
    """A drain with no time at all is killed at once."""
    drain(prober, "sleep", "1000", timeout=0)

    assert answer(prober) == Drained("u1", "the command did not end within 0 s, and was killed")


def test_drain_that_cannot_be_started(prober):
    """A drain whose command cannot be started is answered too."""
    drain(prober, "no-such-program")

    assert answer(prober) == Drained("u1", "no-such-program: No such file or directory")
