"""Events on their way out: a line is whole or not there, and nobody who reads it is a danger."""

import contextlib
import errno
import fcntl
import gc
import json
import os
import pty
import select
import socket
import tty
from datetime import UTC, datetime
from pathlib import Path

import pytest
from processes import descriptors, run_script

from reconciler.core.event import CATALOGUE, TIME_FORMAT, Event
from reconciler.lines import LONGEST, LineWriter, writer_of
from reconciler.log import EventLog, printable, renderer
from reconciler.recent import Told

READY = Event("worker.ready", "web-0", "web", 0, "run-1", 42, 1)


@pytest.fixture
def pipe():
    """The two ends of a pipe that has room for one page."""
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    yield ours, theirs
    for fd in (ours, theirs):
        if fd in descriptors():
            os.close(fd)


def drained(fd):
    """All that can be read at this moment."""
    data = b""
    while select.select([fd], [], [], 0)[0] and (more := os.read(fd, 65536)):
        data += more
    return data


def fill(writer, line):
    """Write until there is no more room; how many lines were taken."""
    for count in range(10_000):
        if not writer.write(line):
            return count
    pytest.fail("it never fills")


def events(data):
    """The events in what was written, each of which must be a whole line of JSON."""
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


# ----------------------------------------------------------------------------------------------------------- LineWriter


def test_file(tmp_path):
    """Lines in a file follow what others write through the same descriptor."""
    with (tmp_path / "log").open("wb") as file:
        writer = LineWriter(file.fileno())

        assert writer.write(b"one\n")
        os.write(file.fileno(), b"a worker's\n")
        assert writer.write(b"two\n")
    assert (tmp_path / "log").read_text() == "one\na worker's\ntwo\n"


def test_full_pipe(pipe):
    """A full pipe takes no line, not even a part of one, and does not block; with room again it takes the next."""
    ours, theirs = pipe
    writer = LineWriter(theirs)
    line = b"x" * 999 + b"\n"
    count = fill(writer, line)

    assert not writer.write(line)
    assert drained(ours) == line * count
    assert writer.write(b"next\n")
    assert drained(ours) == b"next\n"


def test_longest_line_in_a_pipe(pipe):
    """The longest line goes into a pipe in one piece, or not at all."""
    ours, theirs = pipe
    writer = LineWriter(theirs)
    line = b"x" * (LONGEST - 1) + b"\n"

    assert writer.write(line)
    assert not writer.write(line)
    assert drained(ours) == line
    os.write(theirs, b"a worker's\n")
    assert not writer.write(line)
    assert drained(ours) == b"a worker's\n"


def test_dead_pipe(pipe):
    """A pipe whose reader is gone takes no line."""
    ours, theirs = pipe
    writer = LineWriter(theirs)
    os.close(ours)

    assert not writer.write(b"line\n")
    assert not LineWriter(theirs).write(b"line\n")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET, socket.SOCK_DGRAM])
def test_full_socket(kind):
    """A full socket blocks nobody; what was taken comes out whole and in order."""
    one, other = socket.socketpair(socket.AF_UNIX, kind)
    with one, other:
        writer = LineWriter(one.fileno())
        line = b"x" * 999 + b"\n"
        count = fill(writer, line)
        received = drained(other.fileno())
        assert writer.write(b"next\n")
        received += drained(other.fileno())

        assert received.startswith(line * count)
        assert received.endswith(b"\nnext\n")
        assert one.getblocking()
        assert not fcntl.fcntl(other, fcntl.F_GETFL) & os.O_NONBLOCK


def test_dead_socket():
    """A socket whose reader is gone takes no line, also where the reader left without having read everything."""
    one, other = socket.socketpair()
    with one:
        writer = LineWriter(one.fileno())
        assert writer.write(b"line\n")
        other.close()

        assert not writer.write(b"line\n")
        assert not writer.write(b"line\n")


def test_full_terminal():
    """A terminal that is held (^S) blocks nobody, and a line it took in part is finished before the next one."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    writer = LineWriter(theirs)
    line = b"x" * 999 + b"\n"
    count = fill(writer, line)
    text = drained(ours)
    assert writer.write(b"next\n")
    text += drained(ours)
    flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
    os.close(ours)
    os.close(theirs)

    assert text.startswith(line * count)
    assert text.endswith(b"\nnext\n")
    assert {len(each) for each in text.splitlines()} == {999, 4}
    assert not flags & os.O_NONBLOCK


def test_terminal_that_hung_up():
    """A terminal that is gone takes no line."""
    ours, theirs = pty.openpty()
    writer = LineWriter(theirs)
    os.close(ours)

    assert not writer.write(b"line\n")
    os.close(theirs)


def test_full_disk():
    """A full disk takes no line."""
    with Path("/dev/full").open("wb") as file:
        assert not LineWriter(file.fileno()).write(b"line\n")


def test_file_that_may_not_grow(tmp_path):
    """A file that has reached its size limit takes no line."""
    done = run_script(
        """
        import os, resource, sys
        from reconciler.lines import LineWriter
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, 8))
        writer = LineWriter(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT))
        print(writer.write(b"1234567" + bytes([10])), writer.write(b"1234567" + bytes([10])))
        """,
        str(tmp_path / "log"),
    )

    assert done.stdout == "True False\n"


def test_closed_descriptor(pipe):
    """A descriptor that is closed takes no line."""
    _, theirs = pipe
    os.close(theirs)

    assert not LineWriter(theirs).write(b"line\n")


def test_pipe_that_cannot_be_opened_again(pipe, monkeypatch):
    """Where a pipe cannot be opened a second time, as that of another user, it still blocks nobody."""
    ours, theirs = pipe

    def refuse(*_):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(os, "open", refuse)
    writer = LineWriter(theirs)
    line = b"x" * (LONGEST - 1) + b"\n"

    assert writer.write(line)
    assert not writer.write(line)
    assert drained(ours) == line
    assert writer.write(line)


def test_descriptor_is_given_back(pipe):
    """A writer that is no longer used leaves no descriptor behind."""
    _, theirs = pipe
    gc.collect()  # those of other tests
    before = descriptors()
    writer = LineWriter(theirs)
    writer.write(b"line\n")
    del writer
    gc.collect()

    assert descriptors() == before


def test_many_lines_at_once(pipe):
    """Of many lines as many are taken as stay whole in a pipe; of one that is longer the rest goes first next time."""
    ours, theirs = pipe
    writer = LineWriter(theirs)
    lines = b"x" * 999 + b"\n"

    assert writer.put(lines * 10) == 4000
    with pytest.raises(BlockingIOError):
        writer.put(lines * 10, 4000)
    assert drained(ours) == lines * 4
    assert writer.put(b"y\n" + b"x" * 9999 + b"\n") == 2
    assert writer.put(b"y\n" + b"x" * 9999 + b"\n", 2) == 10_000
    assert writer.unfinished
    text = drained(ours)
    while writer.unfinished:
        with contextlib.suppress(BlockingIOError):
            writer.finish()
        text += drained(ours)
    assert text == b"y\n" + b"x" * 9999 + b"\n"


def test_one_writer_for_each_reader(pipe, tmp_path):
    """Descriptors of one pipe have one writer, also once the first of them is closed; each of a file has its own."""
    ours, theirs = pipe
    again = os.dup(theirs)
    writer = writer_of(theirs)
    with (tmp_path / "one").open("wb") as one, (tmp_path / "one").open("wb") as same:
        assert writer_of(again) is writer
        assert writer_of(one.fileno()) is writer_of(one.fileno())
        kept = writer_of(one.fileno())
        assert kept not in (writer, writer_of(same.fileno()))
    os.close(theirs)
    assert writer.write(b"line\n")
    assert drained(ours) == b"line\n"
    os.close(again)


def test_number_that_leads_elsewhere_by_now(pipe):
    """A descriptor's number that was closed and given again has a writer of what it leads to now."""
    ours, theirs = pipe
    writer = writer_of(theirs)
    fresh, fresh_theirs = os.pipe()
    os.dup2(fresh_theirs, theirs)
    os.close(fresh_theirs)

    assert writer_of(theirs) is not writer
    assert writer_of(theirs).write(b"line\n")
    assert drained(fresh) == b"line\n"
    assert drained(ours) == b""
    os.close(fresh)


# ------------------------------------------------------------------------------------------------------------- EventLog


def test_dropped_events_are_counted(pipe):
    """Events that found no room are counted, and the count stands where they would have stood."""
    ours, theirs = pipe
    log = EventLog(theirs, form="json")
    for _ in range(100):
        log([READY])
    taken = len(events(drained(ours)))
    assert log.dropped == 100 - taken
    log([READY, READY])
    first, *rest = events(drained(ours))

    assert (first["event"], first["level"], first["count"]) == ("events.dropped", "warning", 100 - taken)
    assert [told["event"] for told in rest] == ["worker.ready"] * 2
    assert log.dropped == 0


def test_count_goes_on_while_it_cannot_be_told(pipe):
    """While there is no room for the count either, it grows by each event."""
    ours, theirs = pipe
    log = EventLog(theirs, form="json")
    os.write(theirs, b"x" * 4095)
    log([READY] * 7)
    assert log.dropped == 7
    drained(ours)
    log([READY])

    assert events(drained(ours))[0]["count"] == 7


def test_level(pipe):
    """Events below the level are not written."""
    ours, theirs = pipe
    log = EventLog(theirs, form="json", level="warning")
    log([READY, Event("worker.backoff", "web-0", "web", reason="CrashLoopBackOff", extra={"delay_s": 1.0}), READY])

    assert [told["event"] for told in events(drained(ours))] == ["worker.backoff"]


def test_fields(pipe):
    """A line has the time, level and name of the event and its fields; what is absent is left out, but the reason."""
    ours, theirs = pipe
    log = EventLog(theirs, form="json")
    log([READY, Event("spec.rejected", name="web", reason="InvalidSpec", extra={"file": "f", "problems": ("a", "b")})])
    ready, rejected = events(drained(ours))

    assert ready.pop("timestamp").endswith("Z")
    common = {"key": "web-0", "name": "web", "index": 0, "uid": "run-1", "pid": 42, "generation": 1, "reason": None}
    assert ready == {"level": "info", "event": "worker.ready", **common}
    del rejected["timestamp"]
    assert rejected == {
        "level": "error",
        "event": "spec.rejected",
        "name": "web",
        "reason": "InvalidSpec",
        "file": "f",
        "problems": ["a", "b"],
    }


LONG = "x" * 10_000
ESCAPED = "\U000e0001" * 10_000  # twelve bytes each in JSON
HUGE = {
    "extra": Event("worker.start_failed", "web-0", "web", 0, "run-1", extra={"message": LONG}),
    "list": Event("spec.rejected", name="web", extra={"file": "f", "problems": ("y" * 300,) * 50}),
    "list-of-long": Event("spec.rejected", name="web", extra={"file": LONG, "problems": (LONG,) * 5}),
    "key": Event("worker.ready", LONG, "workers", None, "run-1", 42),
    "escapes": Event("worker.ready", ESCAPED, "workers", None, "run-1", 42),
    "all-escapes": Event("worker.start_failed", *(ESCAPED, ESCAPED, 0, ESCAPED), extra={"message": ESCAPED}),
    "everything": Event("worker.start_failed", LONG, LONG, 0, LONG, extra={"message": LONG, "stage": LONG}),
}


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize("name", HUGE)
def test_longest_line(tmp_path, form, name):
    """However long the values of an event, its line has at most `LONGEST` bytes, and is whole."""
    with (tmp_path / "log").open("wb") as file:
        EventLog(file.fileno(), form=form)([HUGE[name]])
    line = (tmp_path / "log").read_bytes()

    assert len(line) <= LONGEST
    assert line.count(b"\n") == 1
    assert HUGE[name].event.encode() in line
    if form == "json":
        assert events(line)[0]["event"] == HUGE[name].event


HOSTILE = "a\nb\r\x1b[31m\x9b\x07\u202e\u2028\ud800 \udcff\U000e0001 ä"


@pytest.mark.parametrize("field", ["key", "reason", "extra", "list"])
def test_hostile_text_in_json(field):
    """In JSON a value is one value of one line of ASCII, whatever it holds."""
    line = renderer("json", colors=False)("info", "worker.ready", hostile(field))

    assert line.count(b"\n") == 1
    assert line.isascii()
    told = json.loads(line)
    assert HOSTILE in (told.get("key"), told.get("reason"), told.get("message"), *told.get("problems", ()))


@pytest.mark.parametrize("field", ["key", "reason", "extra", "list"])
def test_hostile_text_for_eyes(field):
    """On a console a value is shown without a character that could move the cursor or turn the writing."""
    line = renderer("console", colors=False)("info", "worker.ready", hostile(field)).decode()

    assert line.removesuffix("\n").isprintable()
    assert "ä" in line


def hostile(field):
    """The fields of an event, one of which is hostile."""
    if field == "list":
        return {"problems": ("good", HOSTILE)}
    return {"message" if field == "extra" else field: HOSTILE}


def test_colours_are_for_terminals_only(pipe):
    """What is written to no terminal has no colours."""
    ours, theirs = pipe
    EventLog(theirs, form="console")([READY])

    assert b"\x1b" not in drained(ours)


def test_printable_text_is_shown_as_it_is():
    """What can be printed stays what it is, and what is no text too."""
    assert [printable(value) for value in ("päpst 日本", 3, None, ["a"])] == ["päpst 日本", 3, None, ["a"]]


def test_events_of_the_catalogue_can_be_written(tmp_path):
    """Every event of the catalogue has a level that the log knows."""
    with (tmp_path / "log").open("wb") as file:
        EventLog(file.fileno(), form="json", level="debug")([Event(name) for name in CATALOGUE])

    assert [told["event"] for told in events((tmp_path / "log").read_bytes())] == list(CATALOGUE)


def test_every_timestamp_has_a_fraction():
    """An event at a full second is stamped in the same form as all others."""
    assert Told(1, 1_000_000_000.0, READY).fields()["timestamp"] == "2001-09-09T01:46:40.000000Z"
    line = json.loads(renderer("json", colors=False)("info", READY.event, READY.fields()))
    assert datetime.strptime(line["timestamp"], TIME_FORMAT).replace(tzinfo=UTC).year >= 2026
