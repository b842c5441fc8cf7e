"""What a forked child has left of its parent's controller: nothing, and nothing that it does is felt by the parent."""

import gc
import json
import os
import pty
import select
import signal
import socket
import tty
import weakref

import pytest
from processes import descriptors, run_script

from reconciler.hygiene import let_go_in_children
from reconciler.lines import LineWriter, writer_of
from reconciler.output import Relay
from reconciler.signals import SignalCounter
from reconciler.sources.doorbell import Doorbell

pytestmark = pytest.mark.os


def in_child(act):
    """What `act()` returns in a forked child, as JSON carries it."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            os.write(theirs, json.dumps(act()).encode())
        except BaseException as error:  # noqa: BLE001  the child must not go on with the tests
            os.write(theirs, json.dumps(repr(error)).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    with os.fdopen(ours, "rb") as answer:
        text = answer.read()
    os.waitpid(pid, 0)
    return json.loads(text)


def drained(fd):
    """All that can be read at this moment."""
    data = b""
    while select.select([fd], [], [], 0)[0] and (more := os.read(fd, 65536)):
        data += more
    return data


class Owner:
    """Something to let go of."""

    def __init__(self):
        self.let_go_of = 0

    def let_go(self):
        """Count."""
        self.let_go_of += 1

    def fail(self):
        """Fail as a close may."""
        self.let_go_of += 1
        raise OSError(9, "closed already")


# -------------------------------------------------------------------------------------------------------- the mechanism


def test_called_in_the_child_only():
    """What was registered is called once in a child, never in the parent, and not again in the child's children."""
    owner = Owner()
    let_go_in_children(owner, Owner.let_go)

    assert in_child(lambda: [owner.let_go_of, in_child(lambda: owner.let_go_of), owner.let_go_of]) == [1, 1, 1]
    assert owner.let_go_of == 0


def test_registered_anew_in_the_child():
    """What the child registers itself is called in its own children."""
    owner = Owner()
    let_go_in_children(owner, Owner.let_go)

    def child():
        let_go_in_children(owner, Owner.let_go)
        return in_child(lambda: owner.let_go_of)

    assert in_child(child) == 2


def test_one_failure_keeps_nobody_else():
    """What fails to close, since it was closed behind our back, keeps nothing else from being let go of."""
    owners = [Owner() for _ in range(3)]
    for owner in owners:
        let_go_in_children(owner, Owner.fail)

    assert in_child(lambda: [owner.let_go_of for owner in owners]) == [1, 1, 1]


def test_owner_is_not_kept():
    """Being registered keeps nothing alive."""
    owner = Owner()
    let_go_in_children(owner, Owner.let_go)
    alive = weakref.ref(owner)
    del owner
    gc.collect()

    assert alive() is None


# --------------------------------------------------------------------------------------------------------- all together


def test_nothing_is_left_and_nothing_of_others_is_closed(tmp_path):
    """A child has none of our descriptors, and closing what it inherited closes nothing that got their numbers."""
    gc.collect()
    out, to_out = os.pipe()
    one, other = socket.socketpair()
    directory = os.open(tmp_path, os.O_RDONLY)
    before = descriptors()
    things = [SignalCounter(["HUP"]), Doorbell(), LineWriter(to_out), LineWriter(one.fileno()), Relay(to_out, to_out)]
    signals, bell, *writers, relay = things
    bell.hang(directory, str(tmp_path))
    ends = [relay.pipe(stream) for stream in (1, 2)]

    def child():
        left = descriptors()
        for _ in range(40):
            os.dup(0)
        taken = descriptors()
        signals.close()
        bell.close()
        relay.close()
        things.clear()
        writers.clear()
        globals().update(signals=None)
        release()
        return [sorted(left), descriptors() == taken]

    def release():
        nonlocal signals, bell, relay
        del signals, bell, relay
        gc.collect()

    left, nothing_closed = in_child(child)
    assert len(set(left) - before - set(ends)) == 1  # the pipe through which the child answers
    assert nothing_closed is True

    (tmp_path / "new.toml").touch()
    assert bell.rung()
    os.write(ends[0], b"line\n")
    relay.pump()
    assert drained(out) == b"line\n"
    assert writers[1].write(b"line\n")
    signals.close()
    bell.close()
    relay.close()
    for fd in (out, to_out, directory, *ends):
        os.close(fd)
    one.close()
    other.close()


# ----------------------------------------------------------------------------------------------------------- one by one


def test_signals_of_a_child_ring_nobody():
    """A child has its signals back; one that strikes it rings neither in the parent nor in what got the bell's fd."""
    counter = SignalCounter(["HUP", "USR1"])

    def child():
        inherited = signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
        ours, theirs = os.pipe2(os.O_NONBLOCK)
        for _ in range(10):
            os.dup(theirs)  # one of them has the number of the bell
        signal.signal(signal.SIGUSR1, lambda *_: None)
        signal.raise_signal(signal.SIGUSR1)
        counter.close()
        restored = signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        return [inherited, drained(ours).decode(), restored, signal.set_wakeup_fd(-1)]

    assert in_child(child) == [True, "", False, -1]
    assert not select.select([counter], [], [], 0)[0]
    signal.raise_signal(signal.SIGHUP)
    assert counter.take() == {"HUP": 1}
    counter.close()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL


def test_closed_counter_takes_nothing_from_a_child():
    """A counter that was closed before the fork lets go of nothing: the child has the bell of whoever came after."""
    told = run_script(
        """
        import os, signal
        from reconciler.signals import SignalCounter

        counter = SignalCounter(["HUP"])
        counter.close()
        counter.close()
        ours, theirs = os.pipe2(os.O_NONBLOCK)
        signal.set_wakeup_fd(theirs)
        pid = os.fork()
        if pid == 0:  # without asyncio, which takes the bell from each child by itself, from Python 3.12 on
            os._exit(signal.set_wakeup_fd(-1) != theirs)
        print(os.waitpid(pid, 0)[1])
        """
    )
    assert told.stdout == "0\n"


def test_bell_hangs_on(tmp_path):
    """A child that ends, or closes what it inherited, takes the parent's bell off no directory."""
    bell = Doorbell()
    directory = os.open(tmp_path, os.O_RDONLY)
    bell.hang(directory, str(tmp_path))
    assert in_child(bell.close) is None

    assert bell.hangs_on(directory)
    assert not bell.rung()
    (tmp_path / "new.toml").touch()
    assert bell.rung()
    bell.close()
    bell.close()
    os.close(directory)


def test_half_a_line_is_finished_by_the_parent():
    """What the parent wrote of a line it finishes itself; the child writes to what its own descriptor leads to."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    writer = writer_of(theirs)
    line = b"x" * 999 + b"\n"
    while not writer.unfinished:
        writer.put(line * 4)
    fresh, fresh_theirs = os.pipe()

    def child():
        text = drained(ours)  # there would be room
        terminal = os.dup(theirs)
        os.dup2(fresh_theirs, theirs)
        written = [writer.write(b"child\n"), writer_of(theirs).write(b"child\n")]
        in_child(lambda: writer.write(b"grandchild\n"))
        written.append(writer_of(terminal).write(b"x" * 999 + b"\n"))
        return [text.decode(), *written, drained(ours).decode()]

    text, *written, own = in_child(child)
    assert written == [True, True, True]
    assert own == "x" * 999 + "\n"
    assert drained(fresh) == b"child\nchild\ngrandchild\n"
    while writer.unfinished:
        text += drained(ours).decode()
        writer.write(b"")
    text += drained(ours).decode()
    assert set(text.split("\n")) == {"x" * 999, ""}
    for fd in (ours, theirs, fresh, fresh_theirs):
        os.close(fd)


def test_output_is_relayed_once():
    """Lines that wait for a slow reader are written by the parent only, and a child's copy of the relay is closed."""
    ours, theirs = os.pipe()
    relay = Relay(theirs, theirs)
    end = relay.pipe(1)
    for _ in range(3):
        os.write(end, b"line\n" * 10_000)
        relay.pump()

    def child():
        drained(ours)
        os.write(end, b"child\n")
        return [list(relay.pump()), list(relay.close())]

    assert in_child(child) == [[], []]
    assert drained(ours) == b""
    relay.pump()
    text = drained(ours)
    while select.select([relay], [], [], 0)[0]:
        relay.pump()
        text += drained(ours)
    assert text.endswith(b"line\nchild\n")
    relay.close()
    for fd in (ours, theirs, end):
        os.close(fd)
