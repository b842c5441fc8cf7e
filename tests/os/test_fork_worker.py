"""`fork_worker`: workers that are true forks of a program which a controller keeps running."""

import os
import signal

import pytest
from fleet import Fleet
from processes import alive

pytestmark = pytest.mark.os

BEGINNING = """
import asyncio, json, os, signal, subprocess, sys, threading, time
from reconciler import Backoff, Controller, Policy, Restart, fork_worker, fork_worker_process, worker

NEVER = Policy(restart=Restart(policy="never"))

def say(*words):
    print(*words, file=sys.stderr, flush=True)

def rest(*_):
    worker.drain().wait()
"""


def running(program, **options):
    """A program of the user's."""
    return Fleet(None, program=("-c", BEGINNING + program), **options)


@pytest.mark.parametrize(
    ("act", "code"),
    [
        ("lambda: None", 0),
        ("lambda: 7", 7),
        ("lambda: sys.exit(9)", 9),
        ("lambda: sys.exit('a text')", 1),
        ("lambda: 1 / 0", 1),
    ],
)
def test_exit_status(act, code):
    """The status is what `sys.exit` would make of what the target returns; an error is a traceback on stderr."""
    with running(f"Controller(lambda: ['a'], lambda key: fork_worker({act}), policy=NEVER).run()") as fleet:
        assert fleet.wait("worker.exited")["exit_code"] == code
        if "/" in act:
            fleet.wait_line("ZeroDivisionError: division by zero")
        if "text" in act:
            fleet.wait_line("a text")


def test_refused_beside_threads():
    """Beside another thread it is a failed start that names the thread, and no process."""
    program = """
threading.Thread(target=threading.Event().wait, name="busybody", daemon=True).start()
Controller(lambda: ['a'], lambda key: fork_worker(rest)).run()
"""
    with running(program) as fleet:
        message = fleet.wait("worker.start_failed")["message"]
        assert "busybody" in message
        assert "fork_worker_process" in message


LOOK = """
def look(*_):
    kinds = sorted({os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd not in "012"
                    and os.path.exists(f"/proc/self/fd/{fd}")})
    say(json.dumps({
        "kinds": [kind for kind in kinds if "/proc/" not in kind],
        "stdin": os.readlink("/proc/self/fd/0"),
        "leads": os.getsid(0) == os.getpid(),
        "handlers": [signal.getsignal(name) == signal.SIG_DFL for name in (signal.SIGTERM, signal.SIGHUP)],
        "loop": asyncio.run(asyncio.sleep(0, "ran")),
    }))
    rest()
"""


@pytest.mark.parametrize("way", ["run", "serve", "again"])
def test_nothing_is_inherited(way):
    """A worker has none of the controller's descriptors, handlers or loops, also one that is started late."""
    start = {
        "run": "Controller(lambda: ['a'], lambda key: fork_worker(look)).run()",
        "serve": "asyncio.run(Controller(lambda: ['a'], lambda key: fork_worker(look)).serve())",
        "again": "Controller(lambda: ['a'], lambda key: fork_worker(look)).run()",
    }[way]
    expected = '{"kinds": [], "stdin": "/dev/null", "leads": true, "handlers": [true, true], "loop": "ran"}'
    with running(LOOK + start) as fleet:
        fleet.wait_line(expected)
        if way == "again":
            os.kill(fleet.ready("a"), signal.SIGKILL)
            fleet.until(lambda: fleet.lines.count(expected) == 2)
        if way == "serve":
            fleet.signal("KILL")  # a loop of the user's leaves signals to them
            fleet.process.wait()


def test_worker_hears_of_its_parents_death(tmp_path):
    """A worker drains and ends when the controller is killed, and knows why."""
    program = f"""
def mourn(*_):
    drain = worker.drain()
    say("draining")
    drain.wait()
    open({str(tmp_path / "reason")!r}, "w").write(drain.reason)
Controller(lambda: ['a'], lambda key: fork_worker(mourn)).run()
"""
    with running(program) as fleet:
        pid = fleet.ready("a")
        fleet.wait_line("draining")
        fleet.signal("KILL")
        fleet.process.wait()
        while alive(pid):
            os.sched_yield()
        assert (tmp_path / "reason").read_text() == "ParentDied"


@pytest.mark.parametrize("function", ["fork_worker(rest)", "fork_worker_process('context')"])
@pytest.mark.parametrize("way", ["return None", "raise OSError(11, 'no')", "return True", "return os.getpid()"])
def test_no_process_is_lost(function, way):
    """What was started and not returned is ended, and the start has failed."""
    program = f"""
if worker.context(str):
    rest()
    sys.exit()
def fork(key):
    say("started", {function})
    {way}
Controller(lambda: ['a'], fork, policy=NEVER).run()
"""
    with running(program) as fleet:
        fleet.wait("worker.start_failed")
        line = fleet.until(lambda: next((line for line in fleet.lines if line.startswith("started ")), None))
        assert not alive(int(line.split()[1]))


@pytest.mark.parametrize("function", ["fork_worker(late)", "fork_worker_process('context')"])
def test_readiness_that_is_notified(function):
    """With `ready="notify"` a worker is ready when it has said so, and not before."""
    program = f"""
def late(*_):
    signal.sigwait({{signal.SIGUSR1}})
    assert worker.ready()
    rest()
signal.pthread_sigmask(signal.SIG_BLOCK, ())
if worker.context(str):
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
    say("waiting")
    late()
    sys.exit()
def first(*_):
    signal.pthread_sigmask(signal.SIG_BLOCK, {{signal.SIGUSR1}})
    say("waiting")
    late()
Controller(lambda: ['a'], lambda key: {function.replace("late", "first")}, policy=Policy(ready="notify")).run()
"""
    with running(program) as fleet:
        pid = fleet.wait("worker.started")["pid"]
        fleet.wait_line("waiting")
        assert not fleet.all("worker.ready")
        os.kill(pid, signal.SIGUSR1)
        assert fleet.wait("worker.ready")["pid"] == pid
