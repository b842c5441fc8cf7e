"""The library: a program of the user's with a `Controller` of its own, as a real process."""

import os
import signal

import pytest
from fleet import Fleet
from processes import alive, stat

pytestmark = pytest.mark.os

FILE = """
import json, os, signal, subprocess, sys
import attrs
from reconciler import Controller, Policy, Stop, Restart, Backoff

@attrs.frozen
class Worker:
    key: str
    seconds: int = 1000

def update():
    with open(sys.argv[1]) as file:
        text = file.read()
    return eval(text)

def fork(worker):
    script = 'echo "sleep $0" >&2; exec sleep $0'
    return os.posix_spawnp("sh", ["sh", "-c", script, str(worker.seconds)], os.environ)

def fork_and_exec(worker):
    pid = os.fork()
    if pid == 0:
        os.execvp("sleep", ["sleep", str(worker.seconds)])
    return pid

def say(*words):
    os.write(2, (" ".join(map(str, words)) + chr(10)).encode())
"""
"""The beginning of a program whose `update` reads what it is given from a file, as an expression."""


class Desired:
    """The file that such a program reads."""

    def __init__(self, path, text):
        self.path = path
        self.write(text)

    def write(self, text):
        """Let it hold this expression."""
        draft = self.path.with_suffix(".draft")
        draft.write_text(text)
        draft.rename(self.path)


@pytest.fixture
def desired(tmp_path):
    """What the program's `update` is to return, at first nothing."""
    return Desired(tmp_path / "desired", "[]")


def running(desired, rest="Controller(update=update, fork=fork).run()", **options):
    """A running program of the user's."""
    return Fleet(None, program=("-c", FILE + rest, str(desired.path)), **options)


# ------------------------------------------------------------------------------------------------- what `update` gives


def test_attrs_workers(desired):
    """Workers of the user's own class are started, replaced when they differ, and stopped when they are gone."""
    desired.write("[Worker('a'), Worker('b'), Worker('c')]")
    with running(desired) as fleet:
        a, b, _ = fleet.ready("a", "b", "c")
        fleet.wait("controller.converged", workers=3)
        desired.write("[Worker('d'), Worker('b', 2000), Worker('a')]")
        fleet.signal("HUP")
        assert fleet.wait("spec.changed", key="b")["fields"] == ["seconds"]
        fleet.wait("controller.converged", workers=3)
        fleet.wait_line("sleep 2000")

        assert alive(a)
        assert not alive(b)
        assert [told["key"] for told in fleet.all("spec.added")] == ["a", "b", "c", "d"]
        assert [told["key"] for told in fleet.all("spec.removed")] == ["c"]
        assert [told["reason"] for told in fleet.all("worker.stopped", key="c")] == ["ScaledDown"]
        assert {told["name"] for told in fleet.all("worker.started")} == {"workers"}
        assert fleet.all("worker.starting", key="a")[0]["reason"] == "Created"


def test_values_are_their_own_keys(desired):
    """Where a worker has no attribute `key`, it is its own key."""
    desired.write("[1000, 2000]")
    rest = "Controller(update=update, fork=lambda number: subprocess.Popen(['sleep', str(number)])).run()"
    with running(desired, rest) as fleet:
        first, second = fleet.ready("1000", "2000")
        fleet.wait("controller.converged")
        desired.write("[3000, 2000]")
        fleet.signal("HUP")
        fleet.wait("worker.ready", key="3000")
        fleet.wait("controller.converged", workers=2)

        assert not alive(first)
        assert alive(second)


def test_key_is_asked_of_the_callable(desired):
    """`key=` says what a worker's key is, for workers of any type."""
    desired.write("[{'name': 'a', 'for': 1000}, {'name': 'b', 'for': 1000}]")
    rest = """
start = lambda worker: subprocess.Popen(["sleep", str(worker["for"])]).pid
Controller(update=update, fork=start, key=lambda worker: worker["name"]).run()
"""
    with running(desired, rest) as fleet:
        a, b = fleet.ready("a", "b")
        fleet.wait("controller.converged")
        desired.write("[{'name': 'b', 'for': 2000}, {'name': 'a', 'for': 1000}]")
        fleet.signal("HUP")
        fleet.wait("worker.ready", key="b")
        fleet.wait("controller.converged")

        assert alive(a)
        assert not alive(b)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("[Worker('a'), Worker('b'), Worker('b')]", "ValueError: two workers have the key 'b'"),
        ("[Worker('a'), Worker(1)]", "TypeError"),
        ("(Worker(k) for k in (1, 1 / 0))", "ZeroDivisionError"),
        ("sys.exit(3)", "SystemExit"),
    ],
)
def test_update_that_fails(desired, answer, message):
    """An `update` that raises or gives what cannot be used is one event, and what runs goes on."""
    desired.write("[Worker('a')]")
    with running(desired) as fleet:
        pid = fleet.ready("a")
        desired.write(answer)
        fleet.signal("HUP")
        failed = fleet.wait("source.failed")
        assert failed["reason"] == "UpdateFailed"
        assert failed["message"].startswith(message)
        desired.write("[Worker('a'), Worker('b')]")
        fleet.signal("HUP")
        fleet.wait("source.released")
        fleet.wait("worker.ready", key="b")

        assert alive(pid)
        assert fleet.all("worker.exited") == []


def test_update_that_fails_at_the_start(desired):
    """A controller whose first `update` fails runs on, and starts what a later one gives."""
    desired.write("1 / 0")
    with running(desired) as fleet:
        fleet.wait("source.failed")
        desired.write("[Worker('a')]")
        fleet.signal("HUP")
        fleet.wait("worker.ready", key="a")


def test_update_that_has_nothing_new(desired):
    """None means that nothing changed; an empty list means that nothing is wanted."""
    desired.write("[Worker('a')]")
    with running(desired) as fleet:
        pid = fleet.ready("a")
        fleet.wait("controller.converged")
        desired.write("None")
        fleet.signal("HUP")
        fleet.wait("controller.signalled")
        assert fleet.quiet(0.1) == []
        assert alive(pid)
        desired.write("[]")
        fleet.signal("HUP")
        fleet.wait("controller.converged", workers=0)


def test_interval(desired):
    """With `interval=` the callable is asked that often without a signal."""
    with running(desired, "Controller(update=update, fork=fork, interval=0.05).run()") as fleet:
        fleet.wait("controller.converged")
        desired.write("[Worker('a')]")
        fleet.wait("worker.ready", key="a")


def test_spec_sets(desired):
    """Without `fork`, `update` returns worker sets that are started as commands, as if each were a spec file."""
    desired.write("[web, SetSpec(name='api', command=('sleep', '1000'))]")
    rest = """
from reconciler import SetSpec
web = SetSpec(name="web", command=("sleep", "1000"), replicas=2)
Controller(update=update).run()
"""
    with running(desired, rest) as fleet:
        web = fleet.ready("web-0", "web-1")
        fleet.ready("api-0")
        desired.write("[attrs.evolve(web, replicas=3)]")
        fleet.signal("HUP")
        fleet.wait("spec.changed", name="web")
        fleet.wait("controller.converged", workers=3)

        assert all(map(alive, web))


def test_policy(desired):
    """`policy=` says how the workers are kept."""
    desired.write("[Worker('a', 0)]")
    rest = "Controller(update=update, fork=fork, policy=Policy(restart=Restart(policy='never'))).run()"
    with running(desired, rest) as fleet:
        fleet.wait("worker.succeeded", key="a")


# ------------------------------------------------------------------------------------------------- what `fork` may do


@pytest.mark.parametrize(
    "start",
    [
        "fork_and_exec(worker)",
        "os.posix_spawnp('sleep', ['sleep', '1000'], os.environ)",
        "subprocess.Popen(['sleep', '1000'])",
        "subprocess.Popen(['sleep', '1000'], start_new_session=True)",
        "subprocess.Popen(['sleep', '1000']).pid",
    ],
)
def test_what_fork_returns(desired, start):
    """`fork` may return a pid, or an object with one; the worker is followed and stopped all the same."""
    desired.write("[Worker('a')]")
    with running(desired, f"Controller(update=update, fork=lambda worker: {start}).run()") as fleet:
        pid = fleet.ready("a")
        os.kill(pid, signal.SIGKILL)
        assert fleet.wait("worker.exited")["signal"] == "KILL"
        fleet.wait("worker.ready")


def test_worker_of_the_controllers_own_group_is_stopped_alone(desired):
    """Stopping a worker that shares the controller's process group signals that worker only."""
    desired.write("[Worker('a'), Worker('b')]")
    with running(desired) as fleet:
        a, b = fleet.ready("a", "b")
        assert stat(a)[2] == stat(fleet.pid)[2]
        desired.write("[Worker('b')]")
        fleet.signal("HUP")
        fleet.wait("worker.stopped", key="a")

        assert alive(b)
        assert [told["key"] for told in fleet.all("worker.exited")] == ["a"]


def test_python_workers(desired):
    """A worker may be a function that runs in the forked child, with default signals, even an asyncio program."""
    rest = """
import asyncio
def child(worker):
    pid = os.fork()
    if pid == 0:
        handlers = {signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
        say("child", handlers == {signal.SIG_DFL}, signal.set_wakeup_fd(-1))
        asyncio.run(serve(worker))
        os._exit(0)
    return pid
async def serve(worker):
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, say, "usr2", worker.key)
    await asyncio.sleep(0.01)
    say("serving", worker.key)
    await asyncio.sleep(1000)
Controller(update=update, fork=child).run()
"""
    with running(desired, rest) as fleet:
        fleet.wait("controller.converged")
        desired.write("[Worker('a')]")
        fleet.signal("HUP")
        pid = fleet.ready("a")
        fleet.wait_line("serving a")
        os.kill(pid, signal.SIGUSR2)
        fleet.wait_line("usr2 a")
        desired.write("[]")
        fleet.signal("HUP")
        assert fleet.wait("worker.exited")["signal"] == "TERM"

        assert fleet.lines == ["child True -1", "serving a", "usr2 a"]


def test_fork_that_raises(desired):
    """A `fork` that raises is that worker's failed start, which backs off; the others run."""
    desired.write("[Worker('a'), Worker('b')]")
    rest = """
def start(worker):
    if worker.key == "a":
        raise OSError(11, "no more")
    return fork(worker)
Controller(update=update, fork=start).run()
"""
    with running(desired, rest) as fleet:
        failed = fleet.wait("worker.start_failed", key="a")
        assert (failed["stage"], failed["errno"]) == ("fork", 11)
        assert fleet.wait("worker.backoff", key="a")["delay_s"] >= 1
        fleet.ready("b")


@pytest.mark.parametrize("way", ["return", "raise ValueError", "sys.exit(5)"])
def test_fork_that_returns_in_the_child(desired, way):
    """A child that comes out of `fork` ends there, and never becomes a second controller."""
    desired.write("[Worker('a')]")
    rest = f"""
def careless(worker):
    pid = os.fork()
    if pid == 0:
        {way}
    return pid
Controller(update=update, fork=careless, policy=Policy(restart=Restart(policy="never"))).run()
"""
    with running(desired, rest) as fleet:
        exited = fleet.wait("worker.exited", key="a")
        fleet.wait("worker.failed")
        fleet.end()

        assert exited["exit_code"] == (5 if "exit" in way else 70)
        assert fleet.story().count("controller.started") == 1
        assert fleet.story().count("controller.stopped") == 1


def test_fork_that_returns_nonsense(desired):
    """A `fork` that returns no pid of a child is a failed start that says so."""
    desired.write("[Worker('a')]")
    with running(desired, "Controller(update=update, fork=lambda worker: 'done').run()") as fleet:
        assert "must return the pid of a new child" in fleet.wait("worker.start_failed")["message"]


# ------------------------------------------------------------------------------------------------------------- signals


def test_second_interrupt_kills(desired):
    """A second INT does not wait for workers that do not end; `run` returns, and the program goes on."""
    desired.write("[Worker('a')]")
    rest = """
script = 'trap "" INT TERM; echo up >&2; sleep 1000; sleep 1000'
start = lambda worker: subprocess.Popen(["sh", "-c", script], start_new_session=True)
Controller(update=update, fork=start).run()
say("after", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    with running(desired, rest) as fleet:
        fleet.wait_line("up")
        fleet.signal("INT")
        fleet.wait("worker.stopping")
        fleet.end("INT")

        assert [told["signal"] for told in fleet.all("worker.exited")] == ["KILL"]
        assert "after True" in fleet.lines


def test_scale(desired):
    """TTIN and TTOU call `scale` with 1 and -1, and ask `update` again."""
    rest = """
wanted = [1]
def scale(step):
    wanted[0] += step
Controller(update=lambda: [Worker(str(n)) for n in range(wanted[0])], fork=fork, scale=scale).run()
"""
    with running(desired, rest) as fleet:
        fleet.wait("controller.converged", workers=1)
        fleet.signal("TTIN")
        assert fleet.wait("controller.signalled")["reason"] is None
        fleet.wait("controller.converged", workers=2)
        for _ in "ab":
            fleet.signal("TTOU")
            fleet.wait("controller.signalled")
        fleet.wait("controller.converged", workers=0)


def test_scale_that_raises(desired):
    """A `scale` that raises is an event, and the controller goes on."""
    desired.write("[Worker('a')]")
    with running(desired, "Controller(update=update, fork=fork, scale=lambda step: 1 / 0).run()") as fleet:
        fleet.wait("controller.converged")
        fleet.signal("TTIN")
        assert "ZeroDivisionError" in fleet.wait("controller.error")["message"]
        desired.write("[Worker('a'), Worker('b')]")
        fleet.signal("HUP")
        fleet.wait("worker.ready", key="b")


def test_nothing_to_scale(desired):
    """Without `scale` TTIN and TTOU mean nothing to a library's workers."""
    with running(desired) as fleet:
        fleet.wait("controller.converged")
        fleet.signal("TTIN")
        assert fleet.wait("controller.signalled")["reason"] == "Ignored"


# ------------------------------------------------------------------------------------------- inside an asyncio program

SERVE = """
import asyncio
async def main():
    controller = Controller(update=update, fork=fork)
    before = signal.getsignal(signal.SIGTERM)
    serving = asyncio.create_task(controller.serve())
    await controller.settled()
    say("ready", len(controller.status().workers), signal.getsignal(signal.SIGTERM) is before)
    {way}
    try:
        await serving
    except asyncio.CancelledError:
        say("cancelled")
    say("left", len(controller.status().workers))
    await asyncio.sleep(0.01)
    say("program goes on")
asyncio.run(main())
"""


@pytest.mark.parametrize(("way", "cancelled"), [("controller.stop()", False), ("serving.cancel()", True)])
def test_serve(desired, way, cancelled):
    """`serve` runs inside an asyncio program, leaves it its signals, and has ended all workers when it returns."""
    desired.write("[Worker('a'), Worker('b')]")
    with running(desired, SERVE.format(way=way)) as fleet:
        fleet.over()

        said = ["ready 2 True", *(["cancelled"] if cancelled else []), "left 0", "program goes on"]
        assert [line for line in fleet.lines if not line.startswith("sleep ")] == said
        assert len(fleet.all("worker.stopped")) == 2
        assert fleet.all("controller.stopped")


def test_serve_goes_on_with_the_programs_other_tasks(desired):
    """While it serves, other tasks run; `reload` asks `update` again, and `status` shows what runs."""
    rest = """
import asyncio
wanted = [Worker("a")]
async def main():
    controller = Controller(update=lambda: list(wanted), fork=fork)
    serving = asyncio.create_task(controller.serve())
    await controller.settled()
    say([worker.key for worker in controller.status().workers])
    wanted.append(Worker("b"))
    controller.reload()
    while len(controller.status().workers) < 2:
        await asyncio.sleep(0)
    snapshot = controller.status()
    for worker in snapshot.workers:
        say(worker.key, worker.phase, worker.ready, worker.up_to_date, worker.pid > 1, worker.restarts)
    try:
        snapshot.workers[0].phase = "Broken"
    except AttributeError:
        say("immutable")
    say(snapshot.sets[0].name, snapshot.sets[0].replicas, snapshot.sets[0].available, snapshot.converged)
    controller.stop()
    await serving
asyncio.run(main())
"""
    with running(desired, rest) as fleet:
        fleet.over()

        assert [line for line in fleet.lines if not line.startswith("sleep ")] == [
            "['a']",
            "a Running True True True 0",
            "b Running True True True 0",
            "immutable",
            "workers 2 2 True",
        ]


def test_second_cancellation_kills(desired):
    """A second cancellation does not wait for workers that do not end."""
    desired.write("[Worker('a')]")
    rest = """
import asyncio
def start(worker):
    return subprocess.Popen(["sh", "-c", 'trap "" TERM; echo up >&2; sleep 1000; sleep 1000'], start_new_session=True)
async def main():
    controller = Controller(update=update, fork=start)
    serving = asyncio.create_task(controller.serve())
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, serving.cancel)
    try:
        await serving
    except asyncio.CancelledError:
        say("cancelled")
asyncio.run(main())
"""
    with running(desired, rest) as fleet:
        fleet.wait_line("up")
        fleet.signal("USR1")
        fleet.wait("worker.stopping")
        fleet.signal("USR1")
        fleet.over()

        assert [told["signal"] for told in fleet.all("worker.exited")] == ["KILL"]
        assert fleet.lines[-1] == "cancelled"


def test_users_own_structlog(desired):
    """Where the user has configured structlog, events go there."""
    desired.write("[Worker('a')]")
    rest = """
import structlog
structlog.configure(processors=[lambda _, level, told: say("mine", level, told["event"]) or "-"])
Controller(update=update, fork=fork).run()
"""
    with running(desired, rest) as fleet:
        fleet.wait_line("mine info worker.ready")
        fleet.signal("TERM")
        fleet.over()

        assert fleet.events == []


def test_receiver_of_events_that_fails(desired):
    """A receiver of events that raises does not end the controller; its events go to stderr from then on."""
    desired.write("[Worker('a')]")
    rest = """
import structlog
structlog.configure(processors=[lambda *_: 1 / 0])
Controller(update=update, fork=fork).run()
"""
    with running(desired, rest) as fleet:
        fleet.wait("controller.error")
        os.kill(fleet.until(lambda: fleet.all("worker.started"))[0]["pid"], signal.SIGKILL)
        fleet.wait("worker.exited")


def test_one_controller_after_the_other(desired):
    """A program may run one controller after the other; none of them leaves a descriptor behind."""
    desired.write("[Worker('a')]")
    rest = """
import asyncio, gc
async def main():
    controller = Controller(update=update, fork=fork)
    serving = asyncio.create_task(controller.serve())
    await controller.settled()
    controller.stop()
    await serving
for _ in range(5):
    asyncio.run(main())
    gc.collect()
    say("open", sorted(map(int, os.listdir("/proc/self/fd"))))
"""
    with running(desired, rest) as fleet:
        fleet.over()

        said = [line for line in fleet.lines if line.startswith("open ")]
        assert said == [said[0]] * 5
        assert fleet.story().count("controller.stopped") == 5
