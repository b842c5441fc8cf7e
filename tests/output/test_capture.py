"""What commands write on its way into files and to our stdout, with real processes, FIFOs, files and deaths."""

import contextlib
import errno
import gc
import json
import os
import pty
import random
import resource
import select
import signal
import subprocess
import sys
import tty
from pathlib import Path

import attrs
import pytest
from output.capturing import NUMBERS, PATCH, Desk, numbers, readable
from processes import PATIENCE, ROOT, descriptors

from reconciler.core.spec import Output
from reconciler.output import Capture
from reconciler.output.places import fifo_of

pytestmark = pytest.mark.os


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "output")
    yield desk
    desk.close()
    for worker in desk.workers:
        worker.kill()
        worker.wait()


def facts(events):
    return [(told.event, told.key, told.reason, told.extra.get("count")) for told in events]


# -------------------------------------------------------------------------------------------------------- into the file


def test_what_a_worker_writes_is_in_its_file(desk):
    """Both streams of a worker go to the file of its key in order, and nothing else is left when it is gone."""
    desk.start("sh", "-c", "echo one; echo two >&2; echo three")
    desk.pump_until_gone()

    assert desk.log() == b"one\ntwo\nthree\n"
    assert desk.names() == ["web-0.log"]
    assert os.stat(f"{desk.directory}/web-0.log").st_mode & 0o777 == 0o600
    assert desk.told == []


def test_nothing_is_changed_on_the_way(desk):
    """NUL, bad UTF-8, escapes and lines of a megabyte are in the file as they were written."""
    data = b"\0\xff\x1b[31m\xc2\x9b\r\n" + b"y" * (1 << 20) + b"\n" + bytes(range(256)) * 100 + b"\n"
    Path(desk.directory, "data").write_bytes(data)
    desk.start("cat", f"{desk.directory}/data")
    desk.pump_until_gone()

    assert desk.log() == data


def test_incarnations_follow_each_other(desk):
    """The next incarnation of a key goes on in the same file, on a line of its own."""
    for text in ("one", "two\n", "three"):
        desk.start("printf", text)
        desk.pump_until_gone()
    desk.start("printf", "other", key="web-1")
    desk.pump_until_gone()

    assert desk.log() == b"one\ntwo\nthree"
    assert desk.log("web-1") == b"other"


def test_a_line_written_in_parts(desk):
    """A line that comes in parts is one line in the file, also when the file is opened anew in between."""
    end = desk.write_end()
    for part in (b"one", b" and", b" two\n"):
        os.write(end, part)
        desk.pump()
        for sink in desk.capture._sinks.values():
            sink._file.close()
    os.close(end)
    desk.pump()

    assert desk.log() == b"one and two\n"


def test_rotation_loses_nothing(desk):
    """Under load files are put aside at the end of a line and kept in number, and together they hold every line."""
    desk.output = attrs.evolve(PATCH, max_size=100_000, max_files=100)
    desk.start_python(NUMBERS, "60000")
    desk.pump_until_gone()
    files = [Path(desk.directory, name).read_bytes() for name in desk.names()]

    assert len(files) > 5
    # The last one may have nothing yet. Each may be too large by what the FIFO holds as it becomes full.
    assert all(file.endswith(b"\n") for file in files if file)
    assert max(map(len, files)) < 1_500_000
    assert desk.log() == numbers(60_000)


def test_rotation_keeps_so_many_files(desk):
    """No more files than asked for are kept, also when fewer are asked for later."""
    for most, kept in ((4, ["web-0.log", "web-0.log.1", "web-0.log.2", "web-0.log.3"]), (1, ["web-0.log"])):
        desk.output = attrs.evolve(PATCH, max_size=4096, max_files=most)
        for _ in range(8):
            desk.start("sh", "-c", f"printf '%05000d\\n' {most}")
            desk.pump_until_gone()
        assert desk.names() == kept
        indices = [name.replace(".log", ".idx") for name in kept]
        assert sorted(set(os.listdir(desk.directory)) - set(kept)) == indices


def test_rotation_does_not_wait_for_a_line_without_end(desk):
    """A line that does not end delays the next file for a while only."""
    desk.output = attrs.evolve(PATCH, max_size=4096)
    desk.start("sh", "-c", "head -c 3000000 /dev/zero")
    desk.pump_until_gone()

    assert desk.log() == bytes(3_000_000)
    assert len(desk.names()) > 1


@pytest.mark.parametrize("change", ["unlink", "rename", "truncate", "rmtree"])
def test_files_that_others_touch(desk, change):
    """When somebody removes, moves or cuts the file, what is written next is found in its place."""
    path = Path(desk.directory, "web-0.log")
    end = desk.write_end()
    os.write(end, b"one\n")
    desk.pump()
    if change == "truncate":
        os.truncate(path, 0)
    elif change == "rename":
        path.rename(path.with_name("moved"))
    else:
        path.unlink()
        if change == "rmtree":
            for name in os.listdir(desk.directory):
                os.unlink(f"{desk.directory}/{name}")
            os.rmdir(desk.directory)
    for sink in desk.capture._sinks.values():
        sink._file._stamped = 0  # as if a moment had passed
    os.write(end, b"three\n")
    desk.pump()
    os.close(end)
    desk.pump()

    assert path.read_bytes() == b"three\n"
    assert desk.told == []


# --------------------------------------------------------------------------------------------------------------- deaths


COPIER = """
import select, sys
from reconciler.core.spec import Output
from reconciler.output import Capture
capture = Capture(sys.argv[1], lambda _: Output(mode="file", max_size=1 << 20, max_files=100), "file", lambda: None)
print("here", flush=True)
while True:
    select.select([capture], [], [])
    capture.pump()
"""


def test_deaths_of_the_controller_lose_nothing(tmp_path):
    """Twenty times the process that takes a worker's output is killed while it does; no line is lost, doubled or cut,
    and the worker notices nothing.
    """
    desk = Desk(tmp_path / "output", attrs.evolve(PATCH, max_size=1 << 20, max_files=100))
    worker = desk.start_python(NUMBERS, "300000")
    desk.pump_until(lambda: desk.log() != b"")
    desk.capture._let_go()  # as a death would
    chance = random.Random(7)
    deaths = 0
    while deaths < 20:
        argv = [sys.executable, "-c", COPIER, desk.directory]
        copier = subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT)
        copier.stdout.readline()
        select.select([], [], [], chance.random() * 0.01)
        copier.kill()
        copier.communicate()
        deaths += 1
    assert worker.poll() is None
    desk.capture = Capture(desk.directory, lambda _: desk.output, "file", lambda: None)
    desk.pump_until_gone()

    assert worker.wait() == 0
    assert desk.log() == numbers(300_000)
    assert desk.names()[0] == "web-0.log"
    desk.close()


def test_fifos_of_the_dead_are_swept(tmp_path):
    """A FIFO whose worker died together with the controller is removed; one whose worker lives is taken over."""
    first = Desk(tmp_path / "output")
    gone, lives = first.write_end(), first.write_end("web-1")
    os.write(gone, b"lost with the worker\n")
    os.write(lives, b"one\n")
    first.capture._let_go()
    os.close(gone)
    second = Desk(tmp_path / "output")
    second.pump()
    assert second.names() == [fifo_of("web-1", "run-2"), "web-1.log"]
    os.write(lives, b"two\n")
    os.close(lives)
    second.pump()

    assert second.log("web-1") == b"one\ntwo\n"
    assert second.names() == ["web-1.log"]
    second.close()


def test_close_leaves_workers_alone(desk):
    """At the end all that was written is in the file, and a worker that goes on has its FIFO for the next controller,
    in which a line may go on too.
    """
    end = desk.write_end()
    os.write(end, b"a line " * 5000)
    desk.close()
    assert desk.capture.close() == ()
    assert desk.capture.pump() == ()
    os.write(end, b"that goes on\n")
    after = Desk(desk.directory)
    after.pump()
    os.close(end)
    after.pump()

    assert after.log() == b"a line " * 5000 + b"that goes on\n"
    after.close()


def test_a_worker_never_gets_an_epipe(desk):
    """A worker that writes while there is no reader waits, and is not killed."""
    end = desk.write_end()
    desk.capture._let_go()
    os.set_blocking(end, False)
    while select.select([], [end], [], 0)[1]:
        os.write(end, b"x" * 4096)
    with pytest.raises(BlockingIOError):
        os.write(end, b"x")
    os.close(end)


# ----------------------------------------------------------------------------------------------------------- full disks


@contextlib.contextmanager
def largest_file(size):
    """Let no file of this process grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def let_time_pass(desk):
    """As if the time between two tries had passed."""
    for sink in desk.capture._sinks.values():
        sink._again = 0.0


def test_a_file_that_cannot_grow(desk):
    """What cannot be written is dropped line by line and counted, told when it begins and when it is over; then the
    file goes on with a whole line.
    """
    end = desk.write_end()
    os.write(end, b"first\n")
    desk.pump()
    with largest_file(200):
        for number in range(100):
            os.write(end, b"line %d\n" % number)
            desk.pump()
        assert desk.capture.degraded() == {"web-0": "FileTooLarge"}
        os.write(end, b"begins")
        desk.pump()
    let_time_pass(desk)
    os.write(end, b" and ends\nlast\n")
    desk.pump()
    os.close(end)
    desk.pump()
    written = desk.log().splitlines()
    count = desk.told[-1].extra["count"]

    assert facts(desk.told) == [
        ("output.degraded", "web-0", "FileTooLarge", None),
        ("output.recovered", "web-0", None, count),
    ]
    assert written[0] == b"first"
    assert written[-1] == b"last"
    whole = [line for line in written[1:-1] if line in {b"line %d" % number for number in range(100)}]
    assert len(whole) >= len(written) - 3
    assert count == 101 - len(whole)
    assert desk.capture.degraded() == {}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 96 kB."""
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", place], check=False).returncode:
        pytest.skip("needs to mount")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk(small_disk):
    """On a full disk a worker writes on without waiting; when there is room again its output is in the file again."""
    desk = Desk(small_disk / "output")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(60_000))
    worker = desk.start_python(NUMBERS, "20000")
    desk.pump_until_gone()
    assert worker.wait() == 0
    end = desk.write_end("web-1")
    os.write(end, b"lost\n")
    desk.pump()
    assert desk.capture.degraded() == {"web-1": "DiskFull"}
    filler.unlink()
    let_time_pass(desk)
    os.write(end, b"one\n")
    desk.pump()
    os.close(end)
    desk.pump()
    first, lost, second, back = facts(desk.told)
    text = desk.log()

    assert numbers(20_000).startswith(text)
    assert first == ("output.degraded", "web-0", "DiskFull", None)
    assert lost == ("output.dropped", "web-0", None, 20_000 - text.count(b"\n"))
    assert second == ("output.degraded", "web-1", "DiskFull", None)
    assert back == ("output.recovered", "web-1", None, 1)
    assert desk.log("web-1") == b"one\n"
    desk.close()


def test_no_room_for_a_fifo(desk, monkeypatch):
    """Where the disk has no room for the name of a FIFO the worker gets a pipe, and runs."""

    def full(path, mode):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "mkfifo", full)
    desk.start("echo", "one")
    desk.pump_until_gone()

    assert desk.log() == b"one\n"


def test_no_directory_to_write_in(desk):
    """Where the file's place is taken by something else that is told, and the worker goes on."""
    os.mkdir(f"{desk.directory}/web-0.log")
    os.symlink("/dev/null", f"{desk.directory}/web-1.log")
    desk.start("echo", "one")
    desk.start("echo", "two", key="web-1")
    desk.pump_until_gone()

    assert sorted(facts(desk.told)) == [
        ("output.degraded", "web-0", "WriteFailed", None),
        ("output.degraded", "web-1", "WriteFailed", None),
        ("output.dropped", "web-0", None, 1),
        ("output.dropped", "web-1", None, 1),
    ]


# ---------------------------------------------------------------------------------------------------------- other modes


@contextlib.contextmanager
def stdout_to(fd):
    """Let our stdout lead there."""
    kept = os.dup(1)
    os.dup2(fd, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def shown(desk, mode, data, terminal=False):
    """What is on our stdout after a worker wrote `data`."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        tty.setraw(theirs)
    desk.output = Output(mode=mode)
    with stdout_to(theirs):
        end = desk.write_end()
        os.write(end, data)
        os.close(end)
        desk.pump()
        desk.close()
    text = b""
    while readable(ours):
        text += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    return text


def test_prefix(desk):
    """With `prefix` each line is on our stdout after the key, as the bytes that it was written in."""
    text = shown(desk, "prefix", b"one\n\x1b[31m\xff\0\n\nlast")

    assert text == b"web-0 | one\nweb-0 | \x1b[31m\xff\0\nweb-0 | \nweb-0 | last\n"
    assert desk.names() == []


def test_prefix_on_a_terminal(desk, monkeypatch):
    """On a terminal the prefix has a colour, and nothing in a line can command the terminal."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    text = shown(desk, "prefix", "a\x1b[2J\r\x9b\u202e\tß\n".encode() + b"\x9b\xff\n", terminal=True)
    first, second, rest = text.split(b"\n")

    assert first.startswith(b"\x1b[")
    assert first.endswith("web-0 |\x1b[0m a\\x1b[2J\\x0d\\x9b\\u202e\tß".encode())
    assert second.endswith(b"\\x9b\\xff")
    assert rest == b""


def test_no_color(desk, monkeypatch):
    """Who wants no colours gets none, and is safe all the same."""
    monkeypatch.setenv("NO_COLOR", "1")

    assert shown(desk, "prefix", b"\x1b[2J\n", terminal=True) == b"web-0 | \\x1b[2J\n"


def test_json(desk):
    """With `json` each line is an object, whatever is in it."""
    text = shown(desk, "json", b'one "two"\n\xff\0\x1b\xe2\x80\xa8\n')
    first, second = map(json.loads, text.splitlines())

    assert (first["key"], first["line"]) == ("web-0", 'one "two"')
    assert second["line"] == "\\xff\0\x1b\u2028"
    assert first["time"].endswith("Z")


def test_null_and_inherit(desk):
    """With `null` output is read and is nowhere; with `inherit` there is no FIFO at all."""
    desk.output = Output(mode="null")
    desk.start_python(NUMBERS, "20000")
    desk.pump_until_gone()
    desk.output = Output(mode="inherit")

    assert desk.write_end() is None
    assert desk.names() == []


def test_auto_and_a_change_of_mode(desk):
    """`auto` means the default, and another mode is in force for workers that run."""
    desk.output = Output()
    end = desk.write_end()
    os.write(end, b"to nowhere\n")
    desk.pump()
    desk.output = PATCH
    os.write(end, b"to the file\n")
    desk.pump()
    os.close(end)

    assert desk.log() == b"to the file\n"


def test_long_lines_are_cut(desk):
    """A line of which no end is seen is shown in pieces of 64 KiB."""
    ours, theirs = os.pipe()
    desk.output = Output(mode="prefix")
    with stdout_to(theirs):
        desk.start("head", "-c", "150000", "/dev/zero")
        text = b""
        while text.count(b"\n") < 3:
            assert select.select([desk.capture, ours], [], [], PATIENCE)[0]
            desk.pump()
            while readable(ours):
                text += os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)

    assert [len(line) for line in text.split(b"\n")] == [8 + 65536, 8 + 65536, 8 + 150000 - 2 * 65536, 0]


# ------------------------------------------------------------------------------------------------- time and descriptors


def test_a_chatterbox_keeps_nobody(desk):
    """One that never stops writing keeps neither a pump nor the end, and others have their turn."""
    desk.output = attrs.evolve(PATCH, max_size=1 << 20, max_files=2)
    worker = desk.start("yes")
    desk.start("echo", "one", key="web-1")
    desk.pump_until(lambda: desk.log("web-1") == b"one\n")
    desk.close()

    assert worker.poll() is None
    assert sum(os.path.getsize(f"{desk.directory}/{name}") for name in desk.names()) < 10 << 20


def test_idle_rests(desk):
    """Nothing is readable where nothing happens, taken over FIFOs included."""
    ends = [desk.write_end(f"web-{index}") for index in range(20)]
    for end in ends:
        os.write(end, b"one\n")
    desk.pump()
    other = Desk(desk.directory)

    assert not readable(desk.capture)
    assert not readable(other.capture)
    other.close()
    for end in ends:
        os.close(end)


def test_no_descriptor_is_left(tmp_path):
    """Hundreds of workers and a death in each way leave no descriptor, and a forked child has none."""
    gc.collect()
    before = descriptors()
    desk = Desk(tmp_path / "output")
    for index in range(200):
        end = desk.write_end(f"web-{index}")
        os.write(end, b"one\n")
        desk.pump()
        assert not any(map(os.get_inheritable, descriptors() - before))
        os.close(end)
        desk.pump()
    assert len(descriptors() - before) == 1
    end = desk.write_end()
    os.write(end, b"one\n")
    desk.pump()
    if not (child := os.fork()):
        os._exit(len(descriptors() - before - {end}))
    assert os.waitpid(child, 0)[1] == 0
    desk.close()
    os.close(end)

    assert descriptors() == before


def test_a_spawn_that_fails(desk):
    """A FIFO that no worker ever had is removed once our end of it is closed."""
    os.close(desk.write_end())
    desk.pump()

    assert desk.names() == []
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN


def test_a_line_begun_before_a_change_of_mode(desk):
    """A line that was begun under `prefix` is shown so, however it ends, and its rest goes to the file."""
    ours, theirs = os.pipe()
    desk.output = Output(mode="prefix")
    with stdout_to(theirs):
        end = desk.write_end()
        os.write(end, b"begun ")
        desk.pump()
        desk.output = PATCH
        os.write(end, b"and ended\n")
        desk.pump()
        os.close(end)
        desk.close()
    os.close(theirs)

    assert os.read(ours, 65536) == b"web-0 | begun \n"
    assert desk.log() == b"and ended\n"
    os.close(ours)


# ----------------------------------------------------------------------------------------------------------- old files


def test_files_of_sets_that_are_no_more(desk):
    """Once it is known which sets there are, the old files of all others are removed, and nothing else is."""
    kept = ["web-0", "young-0", "lives-0"]
    for key in ("web-0", "gone-0", "gone-1", "lives-0", "young-0"):
        for name in (f"{key}.log", f"{key}.log.1", f"{key}.idx", f"{key}.idx.1"):
            path = Path(desk.directory, name)
            path.touch()
            if name != "young-0.log.1":
                os.utime(path, (0, 0))
    Path(desk.directory, "notes.log").touch()
    os.utime(f"{desk.directory}/notes.log", (0, 0))
    lives = desk.write_end("lives-0")
    desk.capture.pump()
    assert f"{desk.directory}/gone-0.log" in map(str, Path(desk.directory).iterdir())
    desk.names_of_sets = {"web"}
    desk.capture.pump()
    os.close(lives)

    found = {path.name for path in Path(desk.directory).iterdir() if not path.name.startswith(".")}
    assert found == {"notes.log", *(f"{key}.{rest}" for key in kept for rest in ("log", "log.1", "idx", "idx.1"))}
