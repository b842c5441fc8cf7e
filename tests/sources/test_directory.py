"""The watched directory: what is taken, when, and what it takes to let go of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sources.desk import Desk, spec, told

from reconciler.core.event import CATALOGUE

LEFTOVERS = [
    "web.toml~",
    ".web.toml.swp",
    "4913",
    "#web.toml#",
    "web.toml.bak",
    "web.toml.tmp",
    ".hidden.toml",
    "README",
]


def test_first_reading(desk: Desk) -> None:
    """The first reading takes every spec file as it is, and asks to be called again at once."""
    desk.write("web.toml", more="replicas = 2")
    (desk.directory / "api.json").write_text('{"command": ["a"]}')
    (desk.directory / "db.yml").write_text("command: [d]\n")
    (desk.directory / "log.yaml").write_text("command: [l]\n")

    events = desk.read(urgent=True)

    assert told(events) == [("spec.added", name) for name in ("api", "db", "log", "web")]
    assert events[3].extra == {"file": str(desk.directory / "web.toml"), "replicas": 2}
    assert desk.programs() == {"api": "a", "db": "d", "log": "l", "web": "true"}
    assert desk.wake_at == desk.now


def test_first_reading_is_light() -> None:
    """One reading does not import watchdog, and no number of them starts a thread."""
    program = (
        "import sys, threading; from reconciler.sources.directory import DirectorySource; s = DirectorySource('.');"
        "s.read(0.0, urgent=True); assert 'watchdog' not in sys.modules;"
        "s.read(0.0); assert 'watchdog' in sys.modules; assert s.fileno() is not None;"
        "assert threading.active_count() == 1"
    )

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_nothing_changed(desk: Desk) -> None:
    """Without a change a reading gives neither sets nor events, and only the relist is left to wait for."""
    desk.write("web.toml")
    desk.start()

    assert desk.run(100) == []
    assert len(desk.history) == 1
    assert desk.readings <= 2 + 100 / 20


def test_empty_directory(desk: Desk) -> None:
    """An empty directory is an answer: nothing is wanted."""
    assert desk.start() == []
    assert desk.sets == {}


@pytest.mark.parametrize("name", LEFTOVERS)
def test_leftovers_are_ignored(desk: Desk, name: str) -> None:
    """What editors leave behind is no spec, and neither is it told of."""
    (desk.directory / name).write_text(spec("bad"))

    assert desk.start() == []
    assert desk.sets == {}


def test_dropped_file_is_taken_soon(desk: Desk) -> None:
    """A file that is renamed into the directory is taken at the second look, in well under 300 ms."""
    desk.start()
    desk.run(1)
    before = desk.readings
    desk.drop("web.toml")

    assert desk.readable()
    assert desk.run(0.1) == []
    assert told(desk.run(0.05)) == [("spec.added", "web")]
    assert desk.readings == before + 2


def test_dropped_right_after_a_look(desk: Desk) -> None:
    """Even a file that comes when the bell is down is taken in well under 300 ms."""
    desk.start()
    (desk.directory / "noise").touch()
    desk.run(0)
    desk.drop("web.toml")

    assert not desk.readable()
    assert told(desk.run(0.2)) == [("spec.added", "web")]


def test_file_in_two_parts(desk: Desk) -> None:
    """A file that is written in two parts 80 ms apart is never taken half."""
    desk.start()
    with (desk.directory / "web.toml").open("w") as file:
        file.write(spec("half"))
        file.flush()
        assert desk.run(0.08) == []
        file.write("replicas = 3\n")
    events = desk.run(1)

    assert [event.extra["replicas"] for event in events] == [3]


def test_restless_file_starves_no_other(desk: Desk) -> None:
    """A file that is written without end is not taken, and keeps no other from being taken."""
    desk.start()
    with (desk.directory / "restless.toml").open("w") as file:
        desk.drop("web.toml")
        events = []
        for _ in range(50):
            file.write("# more\n")
            file.flush()
            events += desk.run(0.02)

        assert told(events) == [("spec.added", "web")]


def test_urgent_does_not_wait(desk: Desk) -> None:
    """An urgent reading takes a file that has not settled yet."""
    desk.start()
    desk.write("web.toml")

    assert told(desk.read(urgent=True)) == [("spec.added", "web")]


def test_same_content_changes_nothing(desk: Desk) -> None:
    """A file that is touched, copied over or replaced by an equal one changes nothing."""
    path = desk.write("web.toml")
    desk.start()
    os.utime(path)
    events = desk.run(1)
    copy = shutil.copy(path, desk.directory / ".copy")
    events += desk.run(1)
    os.replace(copy, path)
    events += desk.run(1)
    desk.write("web.toml")
    events += desk.run(1)

    assert events == []
    assert len(desk.history) == 1


def test_changed_file(desk: Desk) -> None:
    """A changed file gives one event with the fields that changed, and every other set stays the same object."""
    desk.write("api.toml")
    desk.write("web.toml")
    desk.start()
    before = desk.sets
    desk.drop("web.toml", "false", "stop.signal = 'INT'")
    (event,) = desk.run(1)

    assert before is not None
    assert desk.sets is not None
    assert (event.event, event.name, event.extra["fields"]) == ("spec.changed", "web", ("command", "stop"))
    assert desk.sets["api"] is before["api"]
    assert desk.programs()["web"] == "false"


def vim(path: Path, content: str) -> None:
    """What vim does with backupcopy=no: try a name, rename the old file away, write a new one, delete the old."""
    probe = path.with_name("4913")
    probe.touch()
    probe.unlink()
    backup = path.rename(path.with_name(path.name + "~"))
    with path.open("w") as file:
        file.write(content)
        os.fsync(file.fileno())
    backup.unlink()


def emacs(path: Path, content: str) -> None:
    """What emacs does: a lock that is a link to nowhere, a backup, an autosave, and a write in place."""
    lock = path.with_name(".#" + path.name)
    lock.symlink_to("someone@somewhere.1")
    autosave = path.with_name(f"#{path.name}#")
    autosave.write_text(content)
    shutil.copy2(path, path.with_name(path.name + "~"))
    path.write_text(content)
    autosave.unlink()
    lock.unlink()


def replace(path: Path, content: str) -> None:
    """What most programs do: write beside it, and rename."""
    draft = path.with_name(path.name + ".tmp")
    draft.write_text(content)
    os.replace(draft, path)


def sed(path: Path, content: str) -> None:
    program = content.split('"')[1]
    subprocess.run(["sed", "-i", f"s/true/{program}/", str(path)], check=True)


def real_vim(path: Path, content: str) -> None:
    if shutil.which("vim") is None:
        pytest.skip("vim is not installed")
    program = content.split('"')[1]
    command = [
        "vim",
        "-u",
        "NONE",
        "-es",
        "-c",
        "set backupcopy=no",
        "-c",
        f"%s/true/{program}/",
        "-c",
        "wq",
        str(path),
    ]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


@pytest.mark.parametrize("save", [vim, emacs, replace, sed, real_vim])
def test_editors(desk: Desk, save: object) -> None:
    """However an editor saves a file, the outcome is one change."""
    path = desk.write("web.toml")
    desk.start()
    assert callable(save)
    save(path, spec("false"))

    assert told(desk.run(5)) == [("spec.changed", "web")]
    assert desk.programs() == {"web": "false"}
    assert desk.source.missed_total == 0


def test_copied_and_linked_files(desk: Desk) -> None:
    """Copies and hard links are files like any other."""
    path = desk.write("web.toml")
    desk.start()
    shutil.copy(path, desk.directory / "copied.toml")
    os.link(path, desk.directory / "linked.toml")

    assert told(desk.run(1)) == [("spec.added", "copied"), ("spec.added", "linked")]


def test_events_are_those_of_the_catalogue(desk: Desk) -> None:
    """Every event adds just the fields that the catalogue lists."""
    desk.write("a.toml", "bad", "replicas = 'x'")
    desk.write("web.toml", more="replicas = 2")
    events = desk.start()
    desk.drop("web.toml", "false")
    events += desk.run(1)
    (desk.directory / "web.toml").unlink()
    events += desk.run(5)

    assert {event.event for event in events} >= {"spec.added", "spec.rejected", "spec.changed", "spec.removed"}
    assert all(set(event.extra) == set(CATALOGUE[event.event].fields) for event in events)
