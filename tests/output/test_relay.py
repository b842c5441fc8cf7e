"""Workers' output on its way through the controller, with real processes, pipes, terminals and files."""

import errno
import fcntl
import gc
import os
import pty
import random
import re
import resource
import select
import signal
import socket
import subprocess
import sys
import time
import tty
from collections import Counter
from pathlib import Path

import pytest
from processes import PATIENCE, descriptors

from reconciler.core.event import Event
from reconciler.lines import writer_of
from reconciler.log import EventLog
from reconciler.output import Relay
from reconciler.output.streams import LARGEST_QUEUE, LONGEST_LINE

pytestmark = pytest.mark.os


class Desk:
    """A relay, its two readers as pipes, and the workers whose output goes through it."""

    def __init__(self):
        self.out, self._to_out = os.pipe()
        self.err, self._to_err = os.pipe()
        self.relay = Relay(self._to_out, self._to_err)
        self.workers = []
        self.told = []

    def write_end(self, stream=1):
        """Make a pipe; it is to be closed."""
        return self.relay.pipe(stream)

    def start(self, *argv, **options):
        """Start a worker."""
        out, err = self.relay.pipe(1), self.relay.pipe(2)
        worker = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, **options)
        os.close(out)
        os.close(err)
        self.workers.append(worker)
        return worker

    def start_python(self, source, *argv):
        """Start a worker in Python."""
        return self.start(sys.executable, "-c", source, *argv)

    def pump(self):
        """Pump once."""
        self.told += self.relay.pump()

    def pump_until(self, done):
        """Pump whenever there is something to do, until `done()`."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert select.select([self.relay], [], [], max(0, deadline - time.monotonic()))[0], "nothing comes any more"
            self.pump()

    def pump_until_idle(self):
        """Pump until all workers have ended and nothing is left to do."""
        pidfds = [os.pidfd_open(worker.pid) for worker in self.workers]
        waiting = set(pidfds)
        while waiting:
            ready, _, _ = select.select([self.relay, *waiting], [], [], PATIENCE)
            assert ready, "a worker is stuck"
            self.pump()
            waiting -= set(ready)
        while readable(self.relay):
            self.pump()
        for pidfd in pidfds:
            os.close(pidfd)

    def lost(self):
        """How many lines were told to be lost, by stream."""
        count = Counter()
        for told in self.told:
            assert told.event == "output.dropped"
            count[told.extra["stream"]] += told.extra["count"]
        return dict(count)

    def close(self):
        """Close the relay."""
        self.told += self.relay.close()

    def clear(self):
        """Leave nothing behind."""
        self.close()
        for worker in self.workers:
            worker.kill()
            worker.wait()
        for fd in {self.out, self.err, self._to_out, self._to_err} & descriptors():
            os.close(fd)


@pytest.fixture
def desk():
    desk = Desk()
    yield desk
    desk.clear()


def readable(what):
    return bool(select.select([what], [], [], 0)[0])


def drained(fd):
    """All that can be read at this moment."""
    data = b""
    while readable(fd) and (more := os.read(fd, 65536)):
        data += more
    return data


def is_idle(relay):
    """Whether nothing is readable any more after a few pumps: else a loop would be busy."""
    for _ in range(5):
        relay.pump()
    return not readable(relay)


def wait_for(worker):
    assert worker.wait(PATIENCE) == 0


# ------------------------------------------------------------------------------------------------------ what arrives


def test_each_stream_goes_its_way(desk):
    """What a worker writes to stdout comes out of our stdout, and likewise for stderr."""
    desk.start("sh", "-c", "echo one; echo two >&2; echo three")
    desk.pump_until_idle()

    assert drained(desk.out) == b"one\nthree\n"
    assert drained(desk.err) == b"two\n"
    assert desk.told == []


CHATTER = """
import os, random, sys
name, seed = sys.argv[1], int(sys.argv[2])
chance = random.Random(seed)
for number in range(400):
    text = name * chance.randrange(400)
    line = f"{name} {number} {len(text)} {text}" + chr(10)
    cut = chance.randrange(len(line))
    os.write(1, line[:cut].encode())
    os.write(1, line[cut:].encode())
"""


@pytest.mark.parametrize("size", [4096, 65536])
def test_lines_of_many_workers_do_not_mix(desk, size):
    """Lines of eight workers that write all at once, and in pieces, come out whole and in each one's order."""
    fcntl.fcntl(desk.out, fcntl.F_SETPIPE_SZ, size)
    for seed, name in enumerate("abcdefgh"):
        desk.start_python(CHATTER, name, str(seed))
    text = b""
    expected = 8 * 400
    deadline = time.monotonic() + PATIENCE
    while text.count(b"\n") < expected:
        ready, _, _ = select.select([desk.relay, desk.out], [], [], deadline - time.monotonic())
        assert ready
        desk.pump()
        text += drained(desk.out)

    numbers = {name: iter(range(400)) for name in "abcdefgh"}
    for line in text.decode().splitlines():
        found = re.fullmatch(r"([a-h]) (\d+) (\d+) (\1*)", line)
        assert found, line
        assert len(found[4]) == int(found[3])
        assert int(found[2]) == next(numbers[found[1]])
    assert [next(left, None) for left in numbers.values()] == [None] * 8
    assert desk.told == []


@pytest.mark.parametrize("length", [4095, 4096, 65535, LONGEST_LINE, LONGEST_LINE + 1, 3 * LONGEST_LINE, 200_000])
@pytest.mark.parametrize("before", [0, 1, 5000])
def test_long_line(desk, length, before):
    """A line longer than 64 KiB goes on in the next one; one that is just so long stays one line."""
    line = bytes(random.Random(length).choices(range(32, 127), k=length))
    sent = b"x" * before + b"\n" + line + b"\nafter\n"
    end = desk.write_end()
    os.set_blocking(end, False)
    received = b""
    while sent or readable(desk.relay):
        if sent:
            sent = sent[os.write(end, sent[:60_000]) :]
        desk.pump()
        received += drained(desk.out)
    os.close(end)

    first, *pieces, last, nothing = received.split(b"\n")
    assert (first, last, nothing) == (b"x" * before, b"after", b"")
    assert b"".join(pieces) == line
    assert [len(piece) for piece in pieces] == [
        min(LONGEST_LINE, length - start) for start in range(0, length, LONGEST_LINE)
    ]


def test_any_bytes(desk):
    """NUL, bytes that are no UTF-8, carriage returns and empty lines come out as they went in."""
    sent = b"\0\xff\xfe\n\n\r\n\xc3\n\x80\0\n\n"
    end = desk.write_end()
    os.write(end, sent)
    desk.pump()
    os.close(end)

    assert drained(desk.out) == sent


def test_last_line_without_newline(desk):
    """The last line of a worker gets its newline if it had none, so that nobody's next line is appended to it."""
    desk.start("printf", "one\ntwo")
    desk.start("printf", "")
    desk.pump_until_idle()

    assert drained(desk.out) == b"one\ntwo\n"


def test_unfinished_line_waits(desk):
    """The beginning of a line is kept until its end comes."""
    end = desk.write_end()
    os.write(end, b"one\ntw")
    desk.pump()
    assert drained(desk.out) == b"one\n"
    os.write(end, b"o")
    desk.pump()
    assert drained(desk.out) == b""
    os.write(end, b"\n")
    desk.pump()
    os.close(end)

    assert drained(desk.out) == b"two\n"


def test_worker_survived_by_its_child(desk, tmp_path):
    """What a process left over by a worker writes later still arrives; at its end its last line does too."""
    os.mkfifo(tmp_path / "go")
    worker = desk.start("sh", "-c", '(read go; echo late; printf later) < "$0" & echo soon', str(tmp_path / "go"))
    wait_for(worker)
    desk.pump()
    assert drained(desk.out) == b"soon\n"
    (tmp_path / "go").write_text("go\n")
    text = b""

    def arrived():
        nonlocal text
        text += drained(desk.out)
        return text == b"late\nlater\n"

    desk.pump_until(arrived)


# -------------------------------------------------------------------------------------------- readers that are a danger

TEN_MEGABYTES = 'for n in range(100_000): print(f"{n:<99}")'


def test_reader_that_never_reads(desk):
    """A reader that never reads holds up no worker; each line is either there for it to read or counted as lost."""
    wait = desk.start_python(TEN_MEGABYTES)
    desk.pump_until_idle()
    wait_for(wait)
    desk.close()
    lines = drained(desk.out).decode().splitlines()

    assert {len(line) for line in lines} == {99}
    assert len(lines) + desk.lost()["stdout"] == 100_000
    assert [int(line) for line in lines] == list(range(len(lines)))
    assert len(desk.told) < 20
    assert os.get_blocking(desk._to_out)


def test_slow_reader(desk):
    """A reader that begins late gets all that the queue holds, in order, and is waited for without being busy."""
    end = desk.write_end()
    lines = [b"%07d\n" % number for number in range(LARGEST_QUEUE // 16)]
    for start in range(0, len(lines), 1000):
        os.write(end, b"".join(lines[start : start + 1000]))
        desk.pump()
    os.close(end)
    assert is_idle(desk.relay)
    received = drained(desk.out)
    while readable(desk.relay):
        desk.pump()
        received += drained(desk.out)

    assert received == b"".join(lines)
    assert is_idle(desk.relay)
    assert desk.told == []


def test_room_that_came_meanwhile(desk):
    """Nothing is lost where the reader made room since the queue was filled to the brim."""
    end = desk.write_end()
    block = (b"x" * 63 + b"\n") * 1024
    for _ in range(1 + LARGEST_QUEUE // len(block)):
        os.write(end, block)
        desk.pump()
    assert drained(desk.out) == block
    os.write(end, block)
    desk.pump()
    os.close(end)

    assert desk.told == []


def test_loss_begins_and_ends(desk):
    """The first lost lines are told at once, a few more are not, and all when the reader reads again."""
    end = desk.write_end()
    line = b"x" * 99 + b"\n"
    sent = 0
    while not desk.told:
        os.write(end, line * 500)
        sent += 500
        desk.pump()
    first = desk.lost()["stdout"]
    os.write(end, line * (first // 2))
    sent += first // 2
    desk.pump()
    assert desk.lost() == {"stdout": first}
    received = drained(desk.out)
    while readable(desk.relay):
        desk.pump()
        received += drained(desk.out)
    assert received == line * (sent - desk.lost()["stdout"])
    assert desk.lost()["stdout"] > first
    assert len(desk.told) == 2
    while len(desk.told) == 2:
        os.write(end, line * 500)
        desk.pump()
    os.close(end)
    assert desk.told[-1].extra["count"] <= 500


def test_dead_reader(desk):
    """Where nobody reads any more, workers go on, and every line is counted in few events."""
    os.close(desk.out)
    worker = desk.start_python(TEN_MEGABYTES)
    desk.pump_until_idle()
    wait_for(worker)
    assert is_idle(desk.relay)
    desk.close()

    assert desk.lost() == {"stdout": 100_000}
    assert len(desk.told) < 20


def test_loss_of_a_quiet_worker(desk):
    """Where nobody reads, lines that come one by one are told when their number has doubled, pauses or not."""
    os.close(desk.out)
    end = desk.write_end()
    for _ in range(15):
        os.write(end, b"line\n")
        desk.pump()
        desk.pump()
    os.close(end)

    assert [told.extra["count"] for told in desk.told] == [1, 1, 2, 4]
    desk.close()
    assert desk.lost() == {"stdout": 15}


def test_reader_dies_while_lines_wait(desk):
    """When the reader goes, the lines that wait for it are told as lost, and nothing is busy with its pipe."""
    end = desk.write_end()
    os.write(end, b"x\n" * 30_000)
    desk.pump()
    os.write(end, b"x\n" * 30_000)
    desk.pump()
    assert is_idle(desk.relay)
    os.close(desk.out)
    desk.pump_until(lambda: desk.told)
    os.close(end)

    assert 60_000 - 65536 // 2 <= desk.lost()["stdout"] < 30_000
    assert is_idle(desk.relay)


def test_reader_comes_back(tmp_path):
    """A named pipe that got a new reader is written to again, and the loss is told when that one reads."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    fifo = os.open(tmp_path / "pipe", os.O_WRONLY)
    relay = Relay(fifo, fifo)
    os.close(reader)
    end = relay.pipe(1)
    os.write(end, b"one\ntwo\n")
    (told,) = relay.pump()
    os.write(end, b"three\n")
    assert relay.pump() == []
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    os.write(end, b"four\n")
    (told_later,) = relay.pump()

    assert (told.extra["count"], told_later.extra["count"]) == (2, 1)
    assert drained(reader) == b"four\n"
    relay.close()
    for fd in (reader, fifo, end):
        os.close(fd)


def test_closed_stdout(tmp_path):
    """Where our own stdout is closed, output is lost, and never ends up in what got its number since."""
    ours, theirs = os.pipe()
    os.close(ours)
    os.close(theirs)
    relay = Relay(theirs, theirs)
    file = os.open(tmp_path / "mine", os.O_WRONLY | os.O_CREAT)
    end = relay.pipe(1)
    os.write(end, b"one\n")
    (told,) = relay.pump()
    relay.close()
    os.close(end)
    os.close(file)

    assert file == theirs
    assert (tmp_path / "mine").read_bytes() == b""
    assert told.extra == {"count": 1, "stream": "stdout"}


def test_full_disk():
    """What a full disk does not take waits, as far as the queue goes, and what is left at the end is counted."""
    with Path("/dev/full").open("wb") as full:
        relay = Relay(full.fileno(), full.fileno())
        end = relay.pipe(1)
        os.write(end, b"one\ntwo\n")

        assert relay.pump() == []
        assert is_idle(relay)
        os.close(end)
        (told,) = relay.close()
        assert told.extra == {"count": 2, "stream": "stdout"}


def test_file_reached_its_limit(tmp_path):
    """A file that takes a line only in part gets the rest of that line first when it may grow again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with (tmp_path / "log").open("wb") as file:
        relay = Relay(file.fileno(), file.fileno())
        end = relay.pipe(1)
        os.write(end, b"1234567\n" * 4)
        resource.setrlimit(resource.RLIMIT_FSIZE, (12, hard))
        try:
            told = relay.pump()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        os.write(end, b"abcdefg\n")
        told += relay.pump()
        os.close(end)
        relay.close()

    assert sum(each.extra["count"] for each in told) == 2
    assert (tmp_path / "log").read_bytes() == b"1234567\n1234567\nabcdefg\n"


# ----------------------------------------------------------------------------------------------- other kinds of readers


def test_terminal():
    """On a terminal lines arrive; one that is held (^S) holds up nobody, and is waited for without being busy."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    relay = Relay(theirs, theirs)
    end = relay.pipe(2)
    lines = [b"%d " % number + b"x" * (number % 997) + b"\n" for number in range(300)]
    for line in lines:
        os.write(end, line)
        relay.pump()
    os.close(end)
    assert is_idle(relay)
    text = drained(ours)
    while readable(relay):
        relay.pump()
        text += drained(ours)
    flags = fcntl.fcntl(theirs, fcntl.F_GETFL)

    assert text == b"".join(lines)
    assert is_idle(relay)
    assert not flags & os.O_NONBLOCK
    relay.close()
    os.close(ours)
    os.close(theirs)


def test_terminal_hangs_up():
    """When a terminal goes while lines wait for it they are lost, and nothing is busy."""
    ours, theirs = pty.openpty()
    relay = Relay(theirs, theirs)
    end = relay.pipe(1)
    os.write(end, b"line\n" * 10_000)
    assert relay.pump() == []
    assert is_idle(relay)
    os.close(ours)
    assert readable(relay)
    (told,) = relay.pump()

    assert 0 < told.extra["count"] < 10_000
    assert is_idle(relay)
    relay.close()
    os.close(end)
    os.close(theirs)


def test_file(tmp_path):
    """In a file the lines follow what we write ourselves through the same descriptor, or others at its end."""
    with (tmp_path / "log").open("ab", buffering=0) as file, (tmp_path / "log").open("ab", buffering=0) as other:
        relay = Relay(file.fileno(), file.fileno())
        out, err = relay.pipe(1), relay.pipe(2)
        file.write(b"ours\n")
        os.write(out, b"one\n" * 10_000)
        relay.pump()
        other.write(b"theirs\n")
        os.write(err, b"two\n")
        relay.pump()
        os.close(out)
        os.close(err)
        assert relay.close() == []

    assert (tmp_path / "log").read_bytes() == b"ours\n" + b"one\n" * 10_000 + b"theirs\ntwo\n"


def test_socket():
    """A socket that is full, such as that of a journal, is waited for as a pipe is."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        relay = Relay(theirs.fileno(), theirs.fileno())
        end = relay.pipe(1)
        for _ in range(10):
            os.write(end, b"line\n" * 10_000)
            assert relay.pump() == []
        assert is_idle(relay)
        text = drained(ours.fileno())
        while readable(relay):
            relay.pump()
            text += drained(ours.fileno())
        os.close(end)

        assert text == b"line\n" * 100_000
        assert relay.close() == []
        assert theirs.getblocking()


def test_one_reader_of_both_streams():
    """Where stdout and stderr lead to one pipe, a full one is waited for once, and each stream gets its turn."""
    ours, theirs = os.pipe()
    again = os.dup(theirs)
    relay = Relay(theirs, again)
    out, err = relay.pipe(1), relay.pipe(2)
    for end, line in ((out, b"one\n"), (err, b"two\n")) * 8:
        os.write(end, line * 5000)
        relay.pump()
    assert is_idle(relay)
    text = drained(ours)
    while readable(relay):
        relay.pump()
        text += drained(ours)

    assert Counter(text.split(b"\n")) == {b"one": 40_000, b"two": 40_000, b"": 1}
    assert relay.close() == []
    for fd in (ours, theirs, again, out, err):
        os.close(fd)


def test_events_do_not_break_a_line():
    """An event that is told while a worker's line is only half written comes after that line."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    relay = Relay(theirs, theirs)
    log = EventLog(theirs, form="json")
    assert writer_of(theirs) is log._writer
    end = relay.pipe(2)
    line = b"x" * 2999 + b"\n"
    while not writer_of(theirs).unfinished:
        os.write(end, line)
        relay.pump()
    text = os.read(ours, 1500)  # room, of which the relay does not know yet
    log([Event("worker.ready")] * 3)
    while readable(ours) or readable(relay):
        relay.pump()
        text += drained(ours)
    relay.close()
    for fd in (ours, theirs, end):
        os.close(fd)

    assert len(text.split(b"\n")) > 5
    assert [each for each in text.split(b"\n") if each not in (line[:-1], b"") and b"worker.ready" not in each] == []
    assert all(each.startswith(b"{") for each in text.split(b"\n") if b"worker.ready" in each)


WHOLE = """
import os, sys
name = sys.argv[1]
for number in range(300):
    os.write(1, (f"{name} {number} {number * 9} {name * (number * 9)}" + chr(10)).encode())
"""


def test_pipe_shared_with_others(desk):
    """Lines stay whole also among those that other processes write to our reader's pipe by themselves."""
    fcntl.fcntl(desk.out, fcntl.F_SETPIPE_SZ, 8192)
    others = [subprocess.Popen([sys.executable, "-c", WHOLE, name], stdout=desk._to_out) for name in "ab"]
    for name in "cd":
        desk.start_python(WHOLE, name)
    text = b""
    while text.count(b"\n") < 4 * 300:
        assert select.select([desk.relay, desk.out], [], [], PATIENCE)[0]
        desk.pump()
        text += drained(desk.out)
    for other in others:
        wait_for(other)

    lines = [re.fullmatch(r"([a-d]) (\d+) (\d+) (\1*)", line) for line in text.decode().splitlines()]
    assert all(line and len(line[4]) == int(line[3]) for line in lines)
    assert Counter(line[1] for line in lines) == dict.fromkeys("abcd", 300)


# ------------------------------------------------------------------------------------------------- time and descriptors


def test_close_takes_what_is_left(desk):
    """At the end what is still in the pipes is written, with the beginning of a line that is not finished."""
    ends = [desk.write_end() for _ in range(3)]
    for end in ends:
        os.write(end, b"one\n" * 10 + b"two")
    desk.close()
    for end in ends:
        with pytest.raises(BrokenPipeError):
            os.write(end, b"x")
        os.close(end)

    assert drained(desk.out) == (b"one\n" * 10 + b"two\n") * 3
    assert desk.relay.close() == ()
    assert desk.relay.pump() == ()
    before = descriptors()
    with pytest.raises(ValueError, match="closed"):
        desk.write_end()
    assert descriptors() == before


def test_close_does_not_wait_for_a_chatterbox(desk):
    """One that goes on writing neither keeps a pump nor the end, and the relay is closed to it then."""
    worker = desk.start("yes")
    desk.pump_until(lambda: readable(desk.out))
    for _ in range(20):
        desk.pump()
    desk.close()

    assert worker.wait(PATIENCE) == -signal.SIGPIPE


def test_idle_relay_rests(desk):
    """Nothing is readable where nothing happens, not even with many open pipes and after a lot went through."""
    assert is_idle(desk.relay)
    ends = [desk.write_end() for _ in range(50)]
    assert not readable(desk.relay)
    for end in ends:
        os.write(end, b"line\n" * 100)
    assert readable(desk.relay)
    while readable(desk.relay):
        desk.pump()
        drained(desk.out)
    for end in ends:
        os.close(end)
    assert readable(desk.relay)

    assert is_idle(desk.relay)


def test_no_descriptor_is_left():
    """Thousands of pipes, ended by their workers or by us, leave no descriptor."""
    ours, theirs = os.pipe()
    gc.collect()
    before = descriptors()
    relay = Relay(theirs, theirs)
    for _ in range(60):
        ends = [relay.pipe(stream) for stream in (1, 2) * 20]
        for end in ends:
            os.close(end)
        while readable(relay):
            relay.pump()
    kept = descriptors()
    ends = [relay.pipe(1) for _ in range(20)]
    relay.close()
    for end in ends:
        os.close(end)
    del relay
    gc.collect()

    assert len(kept) <= len(before) + 2
    assert descriptors() == before
    os.close(ours)
    os.close(theirs)


def test_pipes_are_not_inherited():
    """What the relay opens is closed in programs that are started."""
    before = descriptors()
    relay = Relay()
    ends = [relay.pipe(stream) for stream in (1, 2)]
    ours = descriptors() - before

    assert len(ours) >= 5
    assert [fd for fd in ours if os.get_inheritable(fd)] == []
    relay.close()
    for end in ends:
        os.close(end)


def take_all_descriptors(desk):
    """Make pipes until it fails."""
    for _ in range(1000):
        os.close(desk.write_end())


def how_many_open(limit):
    """How many descriptors are open, found out without opening one."""
    poller = select.poll()
    for fd in range(limit):
        poller.register(fd, 0)
    return limit - sum(event == select.POLLNVAL for _, event in poller.poll(0))


def test_no_descriptor_to_be_had(desk):
    """For want of descriptors there is a clear error and no half of a pipe; what is open goes on."""
    end = desk.write_end()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = max(descriptors()) + 1
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        with pytest.raises(OSError) as raised:
            take_all_descriptors(desk)
        before = how_many_open(limit)
        with pytest.raises(OSError):
            desk.write_end()
        assert how_many_open(limit) == before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    os.write(end, b"one\n")
    os.close(end)
    desk.pump_until(lambda: readable(desk.out))

    assert raised.value.errno == errno.EMFILE
    assert drained(desk.out) == b"one\n"
