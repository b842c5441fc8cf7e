"""What is refused in a watched directory, how it is told, and how it is made good."""

import contextlib
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sources.desk import Desk, spec, told

from reconciler.sources import listing

NOBODY = 65534


@contextlib.contextmanager
def opened() -> Iterator[list[str]]:
    """The names that are opened meanwhile."""
    names: list[str] = []
    _listeners.append(names)
    try:
        yield names
    finally:
        _listeners.remove(names)


_listeners: list[list[str]] = []


def _note(event: str, args: tuple[Any, ...]) -> None:
    if event == "open":
        for names in _listeners:
            names.append(str(args[0]))


sys.addaudithook(_note)


@contextlib.contextmanager
def unprivileged() -> Iterator[None]:
    """Without the rights of root, if we have them."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(before)


def test_what_is_no_file_is_ignored(desk: Desk) -> None:
    """A sub-directory, a FIFO, a socket and a device are neither opened nor told of."""
    (desk.directory / "directory.toml").mkdir()
    os.mkfifo(desk.directory / "fifo.toml")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(desk.directory / "socket.toml"))
        if os.geteuid() == 0:
            os.mknod(desk.directory / "device.toml", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        with opened() as names:
            assert desk.start() == []

    assert [name for name in names if name.endswith(".toml")] == []
    assert desk.sets == {}


@pytest.mark.parametrize(
    ("target", "word"),
    [("/dev/null", "a device"), ("fifo", "a FIFO"), ("web.toml", "itself"), (".", "a directory")],
)
def test_links_to_no_file_are_refused(desk: Desk, target: str, word: str) -> None:
    """A link to a device, a FIFO, a directory or itself is refused, and never opened."""
    os.mkfifo(desk.directory / "fifo")
    (desk.directory / "web.toml").symlink_to(target)
    with opened() as names:
        (event,) = desk.start()

    assert (event.event, event.name, event.reason) == ("spec.rejected", "web", "NotAFile")
    assert word in event.extra["problems"][0]
    assert "web.toml" not in names


def test_link_to_a_file_is_followed(desk: Desk, tmp_path: Path) -> None:
    """A link to a regular file anywhere is a spec like any other."""
    (tmp_path / "elsewhere").write_text(spec("true"))
    (desk.directory / "web.toml").symlink_to(tmp_path / "elsewhere")

    assert told(desk.start()) == [("spec.added", "web")]


def test_dangling_link_keeps_the_last_good(desk: Desk, tmp_path: Path) -> None:
    """When a link loses its target the last good spec goes on, until it is back."""
    target = tmp_path / "elsewhere"
    target.write_text(spec("true"))
    (desk.directory / "web.toml").symlink_to(target)
    desk.start()
    away = target.rename(tmp_path / "away")
    (missed, event) = desk.run(21)

    assert missed.event == "source.missed"
    assert (event.event, event.reason) == ("spec.rejected", "Unreadable")
    assert "nowhere" in event.extra["problems"][0]
    away.rename(target)
    assert told(desk.run(21)) == [("source.missed", None), ("spec.recovered", "web")]
    assert len(desk.history) == 1


def test_unreadable_file_keeps_the_last_good(open_to_all: Path) -> None:
    """After chmod 000 the last good spec goes on; what can be read is not affected; chmod back recovers."""
    desk = Desk(open_to_all)
    path = desk.write("web.toml", more="replicas = 2")
    with unprivileged():
        desk.start()
    path.chmod(0)
    desk.drop("api.toml")
    with unprivileged():
        rejected, added = desk.run(30)[::-1]

    assert (added.event, added.name) == ("spec.added", "api")
    assert (rejected.event, rejected.name, rejected.reason) == ("spec.rejected", "web", "Unreadable")
    assert rejected.extra["file"] == str(path)
    assert "give the controller's user the right" in rejected.extra["problems"][0]
    path.chmod(0o644)
    with unprivileged():
        assert told(desk.run(1)) == [("spec.recovered", "web")]
    assert desk.programs() == {"api": "true", "web": "true"}
    desk.source.close()


def test_unreadable_directory_holds(open_to_all: Path) -> None:
    """A directory that may not be listed, or not be searched, holds everything until it may be again."""
    desk = Desk(open_to_all)
    desk.write("web.toml", more="replicas = 2")
    with unprivileged():
        desk.start()
        for mode in (0o000, 0o444):
            with privileged(open_to_all, mode):
                pass
            events = desk.run(10)
            with privileged(open_to_all, 0o755):
                pass
            events += desk.run(5)

            reason = "DirectoryUnreadable"
            assert told(events) == [("source.held", reason), ("source.released", reason)]
    assert len(desk.history) == 1
    desk.source.close()


@contextlib.contextmanager
def privileged(path: Path, mode: int) -> Iterator[None]:
    """Change a mode as its owner."""
    effective = os.geteuid()
    os.seteuid(os.getuid())
    path.chmod(mode)
    os.seteuid(effective)
    yield


def test_failing_disk_is_tried_again(desk: Desk) -> None:
    """A file that fails with an I/O error is rejected, and tried again at each look even if it looks the same."""
    (desk.directory / "web.toml").symlink_to("/proc/self/mem")  # the first page of a process is never mapped
    (event,) = desk.start()

    assert (event.event, event.reason) == ("spec.rejected", "Unreadable")
    assert "Input/output error" in event.extra["problems"][0]
    with opened() as names:
        assert desk.run(21) == []
    assert "web.toml" in names


def test_accepted_file_is_not_opened_again(desk: Desk) -> None:
    """What has not changed is not opened by later looks, however urgent."""
    desk.write("web.toml")
    desk.write("bad.toml", "x", "nonsense = 1")
    desk.start()
    with opened() as names:
        desk.read(urgent=True)
        desk.run(41)

    assert [name for name in names if name.endswith(".toml")] == []


def test_content_counts_only_in_the_state_it_was_found_in(desk: Desk) -> None:
    """A file that changed between the look and the reading is not read."""
    path = desk.write("web.toml")
    directory = listing.open_directory(str(desk.directory))
    stamp = listing.scan(directory)["web.toml"]

    assert listing.read(directory, "web.toml", stamp, 100) == spec("true").encode()
    assert listing.read(directory, "web.toml", stamp, 4) == b"comm"
    path.write_text(spec("false"))
    assert listing.read(directory, "web.toml", stamp, 100) is None
    os.close(directory)


def test_file_that_changes_while_it_is_read(desk: Desk) -> None:
    """A content that is replaced between the two looks around the reading does not count."""
    path = desk.write("web.toml")
    directory = listing.open_directory(str(desk.directory))
    stamp = listing.scan(directory)["web.toml"]

    def meddle(_frame: object, event: str, function: object) -> None:
        if event == "c_call" and function is os.read:
            sys.setprofile(None)
            path.write_text(spec("false", "# and more"))

    sys.setprofile(meddle)
    try:
        assert listing.read(directory, "web.toml", stamp, 100) is None
    finally:
        sys.setprofile(None)
        os.close(directory)
    assert "false" in path.read_text()


def test_fifo_that_takes_the_place_of_a_file(desk: Desk) -> None:
    """Nothing is read from what was put in a file's place after the look, and it blocks nobody."""
    path = desk.write("web.toml")
    directory = listing.open_directory(str(desk.directory))
    stamp = listing.scan(directory)["web.toml"]
    path.unlink()
    os.mkfifo(path)
    assert listing.read(directory, "web.toml", stamp, 100) is None

    fifo = os.open(path, os.O_RDWR)
    os.write(fifo, b"precious")
    assert listing.read(directory, "web.toml", stamp, 100) is None
    assert os.read(fifo, 100) == b"precious"
    os.close(fifo)
    os.close(directory)


def test_rejected_once(desk: Desk) -> None:
    """A bad edit is told once with file, problem and remedy; other problems are told anew, the same ones are not."""
    path = desk.write("web.toml")
    desk.start()
    desk.write("web.toml", more="replcas = 2")
    (event,) = desk.run(1)

    assert (event.event, event.name, event.reason) == ("spec.rejected", "web", "InvalidSpec")
    assert event.extra["file"] == str(path)
    assert "did you mean 'replicas'?" in event.extra["problems"][0]
    desk.write("web.toml", "other", more="replcas = 2")
    assert desk.run(30) == []
    desk.write("web.toml", more="replcas = 2\nordr = 1")
    (event,) = desk.run(1)
    assert len(event.extra["problems"]) == 2
    assert desk.programs() == {"web": "true"}


def test_recovered(desk: Desk) -> None:
    """Good, bad, good again is `spec.recovered`; if it differs from the last good one it is `spec.changed` as well."""
    desk.write("web.toml")
    desk.start()
    desk.write("web.toml", "half", more="[")
    desk.run(1)
    desk.write("web.toml")
    assert told(desk.run(1)) == [("spec.recovered", "web")]
    desk.write("web.toml", "half", more="[")
    desk.run(1)
    desk.write("web.toml", "false")

    assert told(desk.run(1)) == [("spec.recovered", "web"), ("spec.changed", "web")]


def test_bad_from_the_start(desk: Desk) -> None:
    """A file that was bad from the start runs nothing, stops nobody, and is `spec.added` once mended."""
    desk.write("api.toml")
    desk.write("web.toml", more="[")

    assert told(desk.start()) == [("spec.added", "api"), ("spec.rejected", "web")]
    assert desk.programs() == {"api": "true"}
    desk.write("web.toml")
    assert told(desk.run(1)) == [("spec.added", "web")]


def test_rejected_file_deleted(desk: Desk) -> None:
    """Deleting a rejected file ends what it last stood for, and is no event if it never stood for anything."""
    never = desk.write("never.toml", more="[")
    path = desk.write("web.toml")
    desk.start()
    path.write_text("[")
    desk.run(1)
    never.unlink()
    path.unlink()

    assert told(desk.run(1)) == [("spec.removed", "web")]
    desk.write("web.toml")
    assert told(desk.run(1)) == [("spec.added", "web")]


def test_conflict(desk: Desk) -> None:
    """Two files of one stem are refused, both named, while the last good one goes on."""
    desk.write("web.toml")
    desk.start()
    second = desk.directory / "web.json"
    second.write_text('{"command": ["other"]}')
    (event,) = desk.run(1)

    assert (event.event, event.name, event.reason) == ("spec.rejected", "web", "Conflict")
    assert "web.toml and web.json" in event.extra["problems"][0]
    desk.write("web.toml", "edited")
    second.write_text('{"command": ["edited"]}')
    assert desk.run(30) == []
    assert desk.programs() == {"web": "true"}
    second.unlink()
    assert told(desk.run(1)) == [("spec.recovered", "web"), ("spec.changed", "web")]
    assert desk.programs() == {"web": "edited"}


def test_conflict_won_by_the_newcomer(desk: Desk) -> None:
    """If it is the older of two files that goes, the other takes over without a removal."""
    path = desk.write("web.toml", more="replicas = 3")
    desk.start()
    (desk.directory / "web.json").write_text('{"command": ["other"], "replicas": 3}')
    desk.run(1)
    path.unlink()

    assert told(desk.run(30)) == [("spec.recovered", "web"), ("spec.changed", "web")]
    assert desk.programs() == {"web": "other"}


def test_newcomer_has_to_settle_as_well(desk: Desk) -> None:
    """A file that takes over from another of its stem is not taken half, though the other is gone already."""
    path = desk.write("web.toml", more="replicas = 3")
    desk.start()
    desk.run(1)
    with (desk.directory / "web.yaml").open("w") as file:
        file.write("command: [half]\n")
        file.flush()
        events = desk.run(0)
        path.unlink()
        events += desk.run(0.08)
        file.write("replicas: 2\n")
    events += desk.run(5)

    assert told(events) == [("spec.changed", "web")]
    assert events[0].extra["fields"] == ("command", "replicas")


def test_conflict_from_the_start(desk: Desk) -> None:
    """If there are two files of one stem from the start none is taken, until one of them goes."""
    desk.write("web.toml")
    (desk.directory / "web.yaml").write_text("command: [other]\n")

    assert told(desk.start()) == [("spec.rejected", "web")]
    assert desk.sets == {}
    (desk.directory / "web.toml").unlink()
    assert told(desk.run(1)) == [("spec.added", "web")]
    assert desk.programs() == {"web": "other"}


@pytest.mark.parametrize("name", ["Web", "-web", "web_", "w" * 64, "we b", "w\x1b[31m\nb"])
def test_bad_name(desk: Desk, name: str) -> None:
    """A file whose stem cannot be a name is refused without being opened."""
    desk.write(f"{name}.toml")
    with opened() as names:
        (event,) = desk.start()

    assert (event.event, event.name, event.reason) == ("spec.rejected", None, "BadName")
    assert all(problem.isprintable() for problem in event.extra["problems"])
    assert f"{name}.toml" not in names


def test_name_that_is_not_utf8(desk: Desk) -> None:
    """A file name that is not UTF-8 is refused with text that can be written."""
    path = os.fsencode(desk.directory) + b"/\xffweb.toml"
    Path(os.fsdecode(path)).write_text(spec("true"))
    (event,) = desk.start()

    assert event.reason == "BadName"
    assert event.extra["file"].encode().endswith(b"/\\xffweb.toml")
    "".join(event.extra["problems"]).encode()


def test_too_large(desk: Desk) -> None:
    """A file of more than 64 KiB is refused, and no more than that is read of it."""
    desk.write("web.toml", more="#" * 70_000)
    (event,) = desk.start()

    assert (event.event, event.reason) == ("spec.rejected", "TooLarge")
