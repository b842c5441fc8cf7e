"""The user's `fork` callable, with real processes."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess

import pytest
from processes import alive, alive_in_group, dead, descriptors, observe, run_script, zombies

from reconciler.core.observation import Exited, Lost, Spawned, SpawnFailed
from reconciler.core.spec import WorkerSpec
from reconciler.drivers.callback import CallbackDriver

pytestmark = pytest.mark.os


@pytest.fixture
def make():
    """Makes drivers of callables, and ends their workers."""
    drivers = []

    def driver_of(fork):
        drivers.append(CallbackDriver(fork))
        return drivers[-1]

    yield driver_of
    for driver in drivers:
        for uid in tuple(driver.live()):
            driver.kill(uid)
        while driver.live():
            observe(driver, 1)
        driver.close()


def start(driver, worker=None, uid="u1"):
    driver.start(uid, "set", WorkerSpec(worker, worker, worker))


def failure(driver):
    """Start what cannot work, and return the answer."""
    start(driver)
    (answer,) = driver.poll()
    assert isinstance(answer, SpawnFailed)
    assert answer.stage == "fork"
    assert list(driver.live()) == []
    return answer


def forking(act):
    """A callable whose children call `act`."""

    def fork(worker):
        pid = os.fork()
        if pid == 0:
            try:
                act()
            finally:
                os._exit(99)
        return pid

    return fork


# ------------------------------------------------------------------------------------------------ what it may return


def test_worker_is_the_users_own_value(make):
    """The callable is given the worker as the user made it."""
    worker, seen = object(), []
    driver = make(lambda given: seen.append(given) or subprocess.Popen(["true"]))

    start(driver, worker)

    assert [worker] == seen


@pytest.mark.parametrize(("script", "code"), [("exit 3", 3), ("kill -KILL $$", -9)])
def test_popen_objects_know_their_status(make, script, code):
    """A Popen object that was returned knows how its process ended, though it did not wait for it."""
    process = subprocess.Popen(["sh", "-c", script])
    driver = make(lambda _: process)
    start(driver)

    seen = observe(driver, 2)

    ended = Exited("u1", exit_code=3) if code == 3 else Exited("u1", signal="KILL")
    assert [Spawned("u1", process.pid), ended] == seen
    assert code == process.wait() == process.poll()


def test_multiprocessing_objects_know_their_status(make):
    """A multiprocessing.Process that was returned can be joined, and knows its exit code."""
    process = multiprocessing.get_context("fork").Process(target=signal.pause)

    def fork(_):
        process.start()
        return process

    driver = make(fork)
    start(driver)
    driver.stop("u1", "TERM")

    assert Exited("u1", signal="TERM") == observe(driver, 2)[-1]
    process.join()
    assert process.exitcode == -signal.SIGTERM
    assert not process.is_alive()


def test_dropped_popen_steals_no_status(make, tmp_path):
    """`lambda worker: Popen(...).pid` works: the next Popen does not take the status of the worker before."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    driver = make(lambda _: subprocess.Popen(["sh", "-c", f"read line < {fifo}; exit 3"]).pid)
    with pytest.warns(ResourceWarning):
        start(driver)
    (spawned,) = driver.poll()
    fifo.write_text("end\n")
    dead(spawned.pid)

    subprocess.run(["true"], check=True)

    assert [Exited("u1", exit_code=3)] == list(driver.poll())


@pytest.mark.parametrize("answer", [lambda process: process, lambda process: process.pid], ids=["object", "pid"])
def test_multiprocessing_steals_no_status(make, answer):
    """Starting a worker by multiprocessing, which waits for those that have ended, loses no status of theirs."""
    context = multiprocessing.get_context("fork")

    processes = {}

    def fork(code):
        processes[code] = context.Process(target=os._exit, args=(code,))
        processes[code].start()
        return answer(processes[code])

    driver = make(fork)
    start(driver, 3, uid="u3")
    dead(processes[3].pid)
    start(driver, 4, uid="u4")

    ends = [seen for seen in observe(driver, 4) if isinstance(seen, Exited)]
    assert {("u3", 3), ("u4", 4)} == {(end.uid, end.exit_code) for end in ends}


def test_status_that_the_user_took_is_asked_of_the_object(make):
    """If the user's code waited for the process itself, the object tells how it ended."""
    process = subprocess.Popen(["sh", "-c", "exit 5"])
    driver = make(lambda _: process)
    start(driver)
    process.wait()

    assert [Spawned("u1", process.pid), Exited("u1", exit_code=5)] == observe(driver, 2)


def test_status_that_nobody_knows_is_lost(make):
    """If the status was taken and nobody knows it, the incarnation is lost."""
    driver = make(forking(signal.pause))
    start(driver)
    (spawned,) = driver.poll()
    os.kill(spawned.pid, signal.SIGKILL)
    os.waitpid(spawned.pid, 0)

    assert [Lost("u1")] == observe(driver, 1)
    assert list(driver.live()) == []


# ------------------------------------------------------------------------------------------------ what it may not


@pytest.mark.parametrize(
    "answer",
    [None, True, "12", 1.5, 0, 1, -1, 2**40, 2**70, os.getpid(), os.getppid(), object()],
    ids=["none", "bool", "text", "float", "0", "1", "-1", "2**40", "2**70", "own", "parent", "object"],
)
def test_what_is_no_pid_of_a_child_is_refused(make, answer):
    """Anything but the pid of a live child of ours is refused, with a message that says what was expected."""
    message = failure(make(lambda _: answer)).message

    assert "fork(worker) must return the pid of a new child" in message


def test_process_that_was_not_started_is_refused(make):
    """A multiprocessing.Process that nobody started has no pid yet."""
    failure(make(lambda _: multiprocessing.get_context("fork").Process(target=os._exit, args=(0,))))


def test_pid_of_another_worker_is_refused(make):
    """The same process cannot be two workers."""
    process = subprocess.Popen(["sleep", "1000"])
    driver = make(lambda _: process)
    start(driver, uid="u1")
    start(driver, uid="u2")

    spawned, failed = driver.poll()

    assert (spawned.uid, failed.uid) == ("u1", "u2")
    assert "another worker" in failed.message
    assert list(driver.live()) == ["u1"]


class HostileError(Exception):
    """An error that cannot be printed."""

    def __str__(self):
        raise ValueError("no")


@pytest.mark.parametrize(
    ("error", "number", "message"),
    [
        (TypeError("boom"), None, "TypeError: boom"),
        (BlockingIOError(errno.EAGAIN, "Try again"), errno.EAGAIN, "BlockingIOError: [Errno 11] Try again"),
        (SystemExit(3), None, "SystemExit: 3"),
        (HostileError(), None, "HostileError: (it has no text)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_callable_that_raises(make, error, number, message):
    """Whatever the callable raises is this worker's failure, and nobody else's."""

    def fork(_):
        raise error

    answer = failure(make(fork))

    assert (number, message) == (answer.errno, answer.message)


def test_keyboard_interrupt_is_let_through(make):
    """An interrupt by the user's keyboard is no failure of the worker."""

    def fork(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        start(make(fork))


def test_object_with_a_hostile_pid(make):
    """An object whose attributes raise is a failure like any other."""

    class Odd:
        @property
        def pid(self):
            raise RuntimeError("odd")

    assert failure(make(lambda _: Odd())).message == "RuntimeError: odd"


def test_long_messages_are_cut(make):
    """A message of any length is bounded."""

    def fork(_):
        raise ValueError("x" * 10_000)

    assert len(failure(make(fork)).message) == 500


# ------------------------------------------------------------------------------------------------ the forked child


def test_child_inherits_nothing_of_the_controller(make):
    """A forked child has none of the driver's descriptors, no wake-up descriptor, and default handlers; the parent goes
    on unharmed.
    """
    read, write = os.pipe()
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    before = descriptors()

    def tell():
        facts = {
            "descriptors": sorted(descriptors()),
            "handler": signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL,
            "interrupt": signal.getsignal(signal.SIGINT) is signal.SIG_DFL,
            "wakeup": signal.set_wakeup_fd(-1),
            "mask": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
        }
        os.write(write, json.dumps(facts).encode())
        signal.pause()

    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    wakeup = signal.set_wakeup_fd(wake_write)
    try:
        driver = make(forking(tell))
        for uid in ("u1", "u2"):
            start(driver, uid=uid)
            facts = json.loads(os.read(read, 65536))
            assert {
                "descriptors": sorted(before),
                "handler": True,
                "interrupt": True,
                "wakeup": -1,
                "mask": [],
            } == facts
        assert signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
        assert set() == signal.pthread_sigmask(signal.SIG_BLOCK, ())
        driver.stop("u1", "USR1")
        assert [Exited("u1", signal="USR1")] == [seen for seen in observe(driver, 3) if isinstance(seen, Exited)]
    finally:
        assert wake_write == signal.set_wakeup_fd(wakeup)
        signal.signal(signal.SIGUSR1, handler)
        for fd in (read, write, wake_read, wake_write):
            os.close(fd)


def test_signals_right_after_the_fork_reach_the_child(make):
    """A stop that follows a start at once is not lost, and does not look to the parent as if it was meant."""
    caught = []
    handler = signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
    try:
        driver = make(forking(signal.pause))
        for number in range(50):
            start(driver, uid=f"u{number}")
            driver.stop(f"u{number}", "USR1")
        ends = {seen for seen in observe(driver, 100) if isinstance(seen, Exited)}
        assert {Exited(f"u{number}", signal="USR1") for number in range(50)} == ends
        assert caught == []
    finally:
        signal.signal(signal.SIGUSR1, handler)


def test_other_forks_keep_their_handlers(make):
    """A child that other code of the process forks loses our descriptors, and no handler of its own."""
    driver = make(forking(signal.pause))
    start(driver)
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        pid = os.fork()
        if pid == 0:
            kept = signal.getsignal(signal.SIGUSR1) is not signal.SIG_DFL
            closed = not [name for name in map(_target, descriptors()) if "eventpoll" in name or "pidfd" in name]
            os._exit(0 if kept and closed else 1)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        signal.signal(signal.SIGUSR1, handler)
    driver.kill("u1")
    assert Exited("u1", signal="KILL") == observe(driver, 2)[-1]


def _target(fd):
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


_WAYS_OUT = """
    import os, sys
    from processes import observe
    from reconciler.core.spec import WorkerSpec
    from reconciler.drivers.callback import CallbackDriver

    def fork(act):
        pid = os.fork()
        return pid if pid else act()

    def leave(code):
        print("worker speaks")
        sys.exit(code)

    print("parent speaks")  # stays in the buffer of a pipe
    driver = CallbackDriver(fork)
    text = "a text"
    acts = [lambda: 0, lambda: None, lambda: leave(5), lambda: leave(None), lambda: leave(text), lambda: 1 / 0]
    for number, act in enumerate(acts):
        driver.start(f"u{number}", "set", WorkerSpec(number, number, act))
    ends = [seen for seen in observe(driver, 12) if hasattr(seen, "exit_code")]
    print([end.exit_code for end in sorted(ends, key=lambda end: end.uid)])
"""


def test_child_never_becomes_a_second_controller():
    """A forked child that comes out of the callable, in whatever way, ends there, and says why."""
    done = run_script(_WAYS_OUT)

    lines = done.stdout.splitlines()
    assert ["[70, 70, 5, 0, 1, 70]", "parent speaks", *["worker speaks"] * 3] == sorted(lines)
    assert done.stderr.count("reconciler: fork(worker) returned in the child") == 2
    assert done.stderr.count("ZeroDivisionError") == 1
    assert done.stderr.count("a text") == 1


# ------------------------------------------------------------------------------------------------ groups


@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_worker_of_our_own_group_is_signalled_alone(make, verb):
    """A worker that shares our process group is stopped and killed alone: neither its children nor we are hit."""
    read, write = os.pipe()

    def act():
        child = os.fork()
        if child:
            os.write(write, b"%d\n" % child)
        signal.pause()

    driver = make(forking(act))
    start(driver)
    child = int(os.read(read, 100))
    try:
        if verb == "stop":
            driver.stop("u1", "TERM")
        else:
            driver.kill("u1")
        end = observe(driver, 2)[-1]

        assert Exited("u1", signal={"stop": "TERM", "kill": "KILL"}[verb]) == end
        assert alive(child)
    finally:
        os.kill(child, signal.SIGKILL)
        os.close(read)
        os.close(write)


def test_worker_of_its_own_session_is_stopped_with_its_group(make):
    """A worker that made a session of its own is stopped with its children."""
    read, write = os.pipe()

    def act():
        os.setsid()
        if os.fork():
            os.write(write, b"x")
        signal.pause()

    driver = make(forking(act))
    start(driver)
    os.read(read, 1)
    (spawned,) = driver.poll()
    assert len(alive_in_group(spawned.pid)) == 2

    driver.stop("u1", "TERM")

    assert [Exited("u1", signal="TERM")] == observe(driver, 1)
    assert alive_in_group(spawned.pid) == []
    os.close(read)
    os.close(write)


def test_process_that_cannot_be_followed_is_ended(make, monkeypatch):
    """A child for which no descriptor is left is killed and reaped, and its start has failed."""
    driver = make(forking(signal.pause))

    def refuse(_):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        start(driver)

    (answer,) = driver.poll()
    assert (answer.stage, answer.errno) == ("descriptors", errno.EMFILE)
    assert zombies() == []
    assert list(driver.live()) == []
