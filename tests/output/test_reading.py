"""The lines that workers wrote, as they are read again: in order, whole, and as they come."""

import os
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

import attrs
import pytest
from output.capturing import NUMBERS, PATCH, Desk, numbers
from processes import ROOT, descriptors

from reconciler.output.places import keys_in
from reconciler.output.reading import LONGEST, lines_of, previous_of

pytestmark = pytest.mark.os


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path / "output")
    yield desk
    desk.close()


def write(desk, data, key="web-0", uid=None):
    """One incarnation that writes this, and ends."""
    end = desk.write_end(key, uid)
    os.write(end, data)
    os.close(end)
    desk.pump()


def set_time(desk, ms, key="web-0", number=None):
    """Let everything in an index have been written at this time."""
    path = Path(desk.directory, f"{key}.idx{f'.{number}' if number else ''}")
    head, *entries = path.read_text().splitlines()
    changed = [f"{offset} {ms} {uid}" for offset, _, uid in map(str.split, entries)]
    path.write_text("\n".join([head, *changed, ""]))


def texts(lines):
    return [line.data.decode() for line in lines]


def test_lines_of_one_key(desk):
    """Each line comes with its key, its incarnation and its time; a last one without a newline too."""
    before = time.time()
    write(desk, b"one\n\ntwo")
    write(desk, b"three\nfour")
    lines = list(lines_of(desk.directory, ["web-0"]))

    assert [(line.uid, line.data) for line in lines] == [
        ("run-1", b"one"),
        ("run-1", b""),
        ("run-1", b"two"),
        ("run-2", b"three"),
        ("run-2", b"four"),
    ]
    assert {line.key for line in lines} == {"web-0"}
    assert all(before - 0.01 <= line.time <= time.time() for line in lines)
    assert keys_in(desk.directory) == ["web-0"]


def test_nothing_there(tmp_path, desk):
    """A key that never wrote anything has no lines."""
    assert list(lines_of(desk.directory, ["web-0"], tail=5)) == []
    assert previous_of(desk.directory, "web-0") is None


def test_keys_are_merged_by_time(desk):
    """The lines of many keys come in the order in which they were written."""
    for number in range(6):
        write(desk, b"%d\n" % number, key=f"web-{number % 2}")
    for key in ("web-0", "web-1"):
        path = Path(desk.directory, f"{key}.idx")
        head, *entries = path.read_text().splitlines(keepends=True)
        offsets = [int(entry.split()[0]) for entry in entries]
        path.write_text(head + "".join(f"{offset} {offset * 1000 + int(key[-1])} u\n" for offset in offsets))

    assert texts(lines_of(desk.directory, ["web-1", "web-0"])) == list("012345")


def test_lines_go_on_in_the_next_file(desk):
    """Lines are whole across files that were put aside, also when one was put aside in the middle of a line."""
    desk.output = attrs.evolve(PATCH, max_size=4096, max_files=100)
    data = b"a" * 3_000_000 + b"\n" + b"".join(b"%d\n" % number for number in range(50_000))
    desk.start_python("import os, sys; data = b'a' * 3_000_000 + b'\\n'; sys.stdout.buffer.write(data)")
    desk.pump_until_gone()
    desk.start_python("for number in range(50_000): print(number)")
    desk.pump_until_gone()
    lines = list(lines_of(desk.directory, ["web-0"]))

    assert len(desk.names()) > 2
    assert b"".join(line.data for line in lines[:3]) == data[:3_000_000]
    assert len(lines[0].data) == LONGEST + 1
    assert texts(lines[3:]) == [str(number) for number in range(50_000)]


@pytest.mark.parametrize("tail", [0, 1, 2, 999, 5000, 10**6])
def test_tail(desk, tail):
    """The last lines are found from the end, in older files too."""
    desk.output = attrs.evolve(PATCH, max_size=4096, max_files=100)
    for part in range(5):
        write(desk, b"".join(b"%d\n" % number for number in range(part * 2000, part * 2000 + 2000)))
    lines = [str(number) for number in range(10_000)]

    assert texts(lines_of(desk.directory, ["web-0"], tail=tail)) == (lines[-tail:] if tail else [])
    assert len(desk.names()) == 5


def test_tail_of_a_line_without_end(desk):
    """A last line without a newline is one of the last lines."""
    write(desk, b"one\ntwo\nthree")

    assert texts(lines_of(desk.directory, ["web-0"], tail=2)) == ["two", "three"]


def test_since(desk):
    """Only what was written since then, by the index."""
    write(desk, b"old\n")
    set_time(desk, 1_000_000)
    write(desk, b"new\n")

    assert texts(lines_of(desk.directory, ["web-0"], since=2000.0)) == ["new"]
    assert texts(lines_of(desk.directory, ["web-0"], since=1000.0)) == ["old", "new"]
    assert texts(lines_of(desk.directory, ["web-0"], since=time.time() + 60)) == []


def test_previous(desk):
    """The incarnation before the last one, in older files too; for what has none, nothing."""
    desk.output = attrs.evolve(PATCH, max_size=4096, max_files=100)
    for uid in ("run-1", "run-2", "run-3"):
        write(desk, b"".join(b"%s %d\n" % (uid.encode(), number) for number in range(1000)), uid=uid)
    write(desk, b"only\n", key="web-1")

    expected = [f"run-2 {number}" for number in range(1000)]
    assert texts(lines_of(desk.directory, ["web-0", "web-1"], previous=True)) == expected
    assert texts(lines_of(desk.directory, ["web-0"], previous=True, tail=3)) == expected[-3:]


def test_files_without_an_index(desk):
    """Without an index, or with one that is broken or of another file, the lines are there all the same."""
    write(desk, b"one\ntwo\n")
    path = Path(desk.directory, "web-0.idx")
    head, _, rest = path.read_bytes().partition(b"\n")
    for index in (None, b"", b"inode 1\n0 1 x\n", head + b"\n\xff\0 garbage\n5\n-1 2 3\n" + rest, head + b"\n0 12"):
        path.unlink(missing_ok=True)
        if index is not None:
            path.write_bytes(index)
        assert texts(lines_of(desk.directory, ["web-0"])) == ["one", "two"]


def test_follow(desk):
    """What is written later comes when its line is whole, over files put aside and new keys, and nothing is lost."""
    desk.output = attrs.evolve(PATCH, max_size=300_000, max_files=100)
    write(desk, b"before\nearlier\n")
    followed = lines_of(desk.directory, ["web-0", "web-1"], tail=1, follow=True)
    assert next(followed).data == b"earlier"
    write(desk, b"another\n", key="web-1")
    assert next(followed).data == b"another"
    desk.start_python(NUMBERS, "60000")
    desk.pump_until_gone()
    lines = list(islice(followed, 60_000))
    followed.close()

    assert b"".join(line.data + b"\n" for line in lines) == numbers(60_000)
    assert len(desk.names()) > 5


FOLLOWER = """
import sys
from reconciler.output.reading import lines_of
for line in lines_of(sys.argv[1], ["web-0"], follow=True):
    print(line.data.decode(), flush=True)
    if line.data == b"last":
        break
"""


def test_follow_in_another_process(desk):
    """A follower in another process sees a line without being asked, the file's first one too."""
    argv = [sys.executable, "-c", FOLLOWER, desk.directory]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=ROOT) as follower:
        end = desk.write_end()
        for text in (b"one\n", b"two\n", b"la", b"st\n"):
            os.write(end, text)
            desk.pump()
            if text.endswith(b"\n") and text != b"st\n":
                assert follower.stdout.readline() == text
        assert follower.stdout.read() == b"last\n"
    os.close(end)


def test_reading_is_cheap():
    """Reading imports nothing that takes time."""
    program = "import sys, reconciler.output.reading; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert not set(done.stdout.split()) & {"attr", "attrs", "watchdog", "structlog", "click", "json", "ctypes"}


def test_reading_leaves_no_descriptor(desk):
    """After the last line nothing is open, and a follower that is closed leaves nothing either."""
    write(desk, b"one\n")
    before = descriptors()
    list(lines_of(desk.directory, ["web-0", "web-1"]))
    followed = lines_of(desk.directory, ["web-0"], follow=True)
    next(followed)
    followed.close()
    del followed

    assert descriptors() == before
