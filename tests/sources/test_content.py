"""Files that a spec watches: a change of their content is a change of what is wanted."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from sources.desk import Desk, told
from sources.test_verdict import unprivileged

from reconciler.core.event import Event
from reconciler.core.spec import expand
from reconciler.sources import content, doorbell, matching

WATCH = 'cwd = "{cwd}"\n[watch]\npaths = ["*.py", "lib/**/*.py"]'


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The files of an application."""
    directory = tmp_path / "app"
    (directory / "lib" / "deep").mkdir(parents=True)
    (directory / "main.py").write_text("one")
    (directory / "lib" / "deep" / "util.py").write_text("one")
    return directory


@pytest.fixture
def watching(desk: Desk, app: Path) -> Desk:
    """A desk with a set that watches the application, and another that watches nothing."""
    desk.write("db.toml")
    desk.write("web.toml", more=WATCH.format(cwd=app))
    assert told(desk.start()) == [("spec.added", "db"), ("spec.added", "web")]
    desk.run(1)
    return desk


CHANGED = [("spec.changed", "web")]


def digest(desk: Desk) -> str:
    assert desk.sets is not None
    command = desk.sets["web"].workers["web-0"].digest
    assert desk.sets["web"].template is not None
    assert command.content == desk.sets["web"].template.content
    return str(command.content)


def move(app: Path, name: str, text: str) -> None:
    """Write a file as many editors do: beside, and then in its place."""
    draft = app / "4913~"
    draft.write_text(text)
    draft.rename(app / name)


def make(app: Path) -> None:
    """A new directory with a new directory with a file."""
    (app / "lib" / "new" / "er").mkdir(parents=True)
    (app / "lib" / "new" / "er" / "x.py").write_text("x")


def replace(app: Path) -> None:
    """The whole directory made anew, as a deployment does."""
    shutil.copytree(app, app.with_name("next"))
    (app.with_name("next") / "main.py").write_text("two")
    app.rename(app.with_name("old"))
    app.with_name("next").rename(app)


CHANGES: dict[str, Callable[[Path], object]] = {
    "write": lambda app: (app / "main.py").write_text("two"),
    "write below": lambda app: (app / "lib" / "deep" / "util.py").write_text("two"),
    "rename into place": lambda app: move(app, "main.py", "two"),
    "new file": lambda app: (app / "new.py").write_text(""),
    "new directories": make,
    "delete": lambda app: (app / "main.py").unlink(),
    "rename": lambda app: (app / "main.py").rename(app / "other.py"),
    "remove a directory": lambda app: shutil.rmtree(app / "lib"),
    "replace all": replace,
}


@pytest.mark.parametrize("what", CHANGES)
def test_changes(watching: Desk, app: Path, what: str) -> None:
    """Whatever changes the content rings, and is one change of the set when it has kept still; no relist is needed."""
    before = digest(watching)
    CHANGES[what](app)
    assert watching.readable()
    assert watching.run(0.45) == []
    (event,) = watching.run(0.5)

    assert (event.event, event.name, event.extra["fields"]) == ("spec.changed", "web", ("content",))
    assert digest(watching) != before
    assert watching.source.missed_total == 0
    assert watching.run(60) == []


NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "touch": lambda app: os.utime(app / "main.py", (0, 0)),
    "mode": lambda app: (app / "main.py").chmod(0o700),
    "same again": lambda app: (app / "main.py").write_text("one"),
    "same, renamed into place": lambda app: move(app, "main.py", "one"),
    "other files": lambda app: (app / "main.pyc").write_text("x"),
    "a file that comes and goes": lambda app: (move(app, "x.py", "x"), (app / "x.py").unlink()),
    "compiled": lambda app: ((app / "__pycache__").mkdir(), (app / "__pycache__" / "x.py").write_text("")),
    "a hidden directory": lambda app: ((app / "lib" / ".git").mkdir(), (app / "lib" / ".git" / "x.py").write_text("")),
}


@pytest.mark.parametrize("what", NO_CHANGES)
def test_no_change(watching: Desk, app: Path, what: str) -> None:
    """What leaves the content as it was changes nothing."""
    before = digest(watching)
    NO_CHANGES[what](app)

    assert watching.run(60) == []
    assert digest(watching) == before
    assert len(watching.history) == 1


def test_back_again(watching: Desk, app: Path) -> None:
    """The digest is of the content alone: going back to what was gives the digest that was."""
    before = digest(watching)
    (app / "main.py").write_text("two")
    watching.run(1)
    (app / "main.py").write_text("one")
    assert told(watching.run(1)) == CHANGED
    assert digest(watching) == before


def test_debounced(watching: Desk, app: Path) -> None:
    """While files go on changing nothing is taken; then all is one change."""
    events: list[Event] = []
    for count in range(20):
        (app / "main.py").write_text(str(count))
        events += watching.run(0.3)
    assert events == []
    assert told(watching.run(1)) == CHANGED
    assert len(watching.history) == 2


def test_quiet_while_nothing_changes(watching: Desk, app: Path) -> None:
    """Without a change there are only the relists, and looking does not ring."""
    before = watching.readings
    watching.run(100)
    assert watching.readings - before <= 6
    (app / "notes.txt").write_text("x")
    watching.run(1)
    assert not watching.readable()


def test_storm(watching: Desk, app: Path) -> None:
    """A log that is written without end beside the files leads to few looks."""
    before = watching.readings
    with (app / "noise.log").open("w") as file:
        for _ in range(1000):
            file.write("x")
            file.flush()
            watching.run(0.0005)
    assert watching.readings - before <= 2 * 0.5 / 0.06 + 2


def test_only_what_differs_is_read(watching: Desk, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only files whose stamp differs are read again."""
    read: list[str] = []

    def noting(path: str, stamp: object, digest: Callable[..., bytes] = content._digest) -> bytes:
        read.append(Path(path).name)
        return digest(path, stamp)

    monkeypatch.setattr(content, "_digest", noting)
    watching.run(100)
    assert read == []
    (app / "main.py").write_text("two")
    watching.run(1)
    assert read == ["main.py"]


def test_edit_and_content_in_one(watching: Desk, app: Path) -> None:
    """An edit of the file and a change of the content at one time are one change."""
    (app / "main.py").write_text("two")
    watching.write("web.toml", "edited", more=WATCH.format(cwd=app))
    (event,) = watching.run(5)
    assert event.extra["fields"] == ("command", "content")
    assert len(watching.history) == 2


def test_edit_while_files_are_restless(watching: Desk, app: Path) -> None:
    """An edit of the file waits for files that change, but not for ever."""
    events: list[Event] = []
    watching.write("web.toml", "edited", more=WATCH.format(cwd=app))
    for count in range(60):
        (app / "main.py").write_text(str(count))
        events += watching.run(0.3)
        if count == 20:
            assert events == []
    assert [event.extra["fields"] for event in events] == [("command",)]
    assert [event.extra["fields"] for event in watching.run(1)] == [("content",)]


def test_urgent(watching: Desk, app: Path) -> None:
    """HUP takes files as they are."""
    (app / "main.py").write_text("two")
    assert told(watching.read(urgent=True)) == CHANGED


def test_files_come_back(watching: Desk, app: Path) -> None:
    """While nothing matches any more the last content stays; when files are back they count."""
    before = digest(watching)
    app.rename(app.with_name("away"))
    assert watching.run(5) == []
    app.mkdir()
    assert watching.run(5) == []
    assert digest(watching) == before
    (app / "main.py").write_text("two")
    assert told(watching.run(1)) == CHANGED


def test_directory_that_comes_later(desk: Desk, tmp_path: Path) -> None:
    """A directory that is not there yet is watched as it appears."""
    desk.write("web.toml", more=WATCH.format(cwd=tmp_path / "later" / "on"))
    assert told(desk.start()) == [("spec.added", "web")]
    (tmp_path / "later" / "on").mkdir(parents=True)
    desk.run(0.2)
    (tmp_path / "later" / "on" / "main.py").write_text("x")
    assert told(desk.run(1)) == CHANGED
    assert desk.source.missed_total == 0


def test_link_that_leads_elsewhere(desk: Desk, app: Path) -> None:
    """A working directory that is a link is watched through the link: another target is another content."""
    link = app.with_name("current")
    link.symlink_to(app.name)
    shutil.copytree(app, app.with_name("app2"))
    (app.with_name("app2") / "main.py").write_text("two")
    desk.write("web.toml", more=WATCH.format(cwd=link))
    desk.start()
    app.with_name("new").symlink_to("app2")
    app.with_name("new").rename(link)
    assert told(desk.run(1)) == CHANGED
    (app.with_name("app2") / "main.py").write_text("three")
    assert told(desk.run(1)) == CHANGED
    assert desk.source.missed_total == 0


def test_found_by_the_relist(watching: Desk, app: Path) -> None:
    """What no bell can tell of, such as the target of a linked file, is found by the relist, and counted."""
    (app / "outside").mkdir()
    (app / "outside" / "x").write_text("one")
    (app / "link.py").symlink_to("outside/x")
    watching.run(1)
    (app / "outside" / "x").write_text("two")
    assert told(watching.run(30)) == [("source.missed", None), ("spec.changed", "web")]
    assert watching.source.missed_total == 1


def test_watch_added_and_taken_out(desk: Desk, app: Path) -> None:
    """Files are watched from the edit on that says so, until the one that does no more."""
    desk.write("web.toml")
    desk.start()
    assert digest(desk) == ""
    desk.write("web.toml", more=WATCH.format(cwd=app))
    (event,) = desk.run(1)
    assert event.extra["fields"] == ("cwd", "watch", "content")
    (app / "main.py").write_text("two")
    assert told(desk.run(1)) == CHANGED
    desk.write("web.toml")
    desk.run(1)
    assert digest(desk) == ""
    (app / "main.py").write_text("three")
    assert not desk.readable()
    assert desk.run(60) == []


def test_too_many(watching: Desk, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than the bounds allow is refused with the remedy; the last good version goes on until it is mended."""
    before = digest(watching)
    monkeypatch.setattr(matching, "MOST_FILES", 3)
    for name in ("a.py", "b.py"):
        (app / name).write_text("x")
    (event,) = watching.run(1)
    assert (event.event, event.name, event.reason) == ("spec.rejected", "web", "BadContent")
    assert event.extra["problems"] == ("more than 3 files match; narrow the patterns @ web.toml.watch.paths",)
    assert digest(watching) == before
    (app / "a.py").unlink()
    assert told(watching.run(1)) == [("spec.recovered", "web"), ("spec.changed", "web")]


def test_too_many_from_the_start(desk: Desk, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file whose patterns match too much is refused when it is read, and taken when they are narrower."""
    monkeypatch.setattr(matching, "MOST_BYTES", 3)
    desk.write("web.toml", more=WATCH.format(cwd=app))
    assert told(desk.start()) == [("spec.rejected", "web")]
    desk.write("web.toml", more=WATCH.format(cwd=app).replace(', "lib/**/*.py"', ""))
    assert told(desk.run(1)) == [("spec.added", "web")]


def test_polling(tmp_path: Path, app: Path) -> None:
    """Asked to poll there is no bell, and a change is seen at one of the next looks."""
    specs = tmp_path / "specs"
    specs.mkdir()
    desk = Desk(specs, poll=True)
    desk.write("web.toml", more=WATCH.format(cwd=app))
    assert told(desk.start()) == [("spec.added", "web"), ("source.polling", "Asked")]
    assert desk.source.fileno() is None
    (app / "main.py").write_text("two")
    assert told(desk.run(3)) == CHANGED
    assert desk.run(30) == []


def test_network_file_system(desk: Desk, app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the files lie on a file system that others change they are looked at each second, and that is said."""
    remote = doorbell.is_remote

    def is_remote(directory: int) -> bool:
        return os.path.realpath(f"/proc/self/fd/{directory}") == str(app) or remote(directory)

    monkeypatch.setattr(doorbell, "is_remote", is_remote)
    desk.write("web.toml", more=WATCH.format(cwd=app))
    assert told(desk.start()) == [("spec.added", "web"), ("source.polling", "NetworkFileSystem")]
    (app / "main.py").write_text("two")
    assert not desk.readable()
    assert told(desk.run(3)) == CHANGED


def test_two_sets(desk: Desk, app: Path) -> None:
    """Sets that watch the same files change together, and those that watch others do not."""
    for name in ("api", "web"):
        desk.write(f"{name}.toml", more=WATCH.format(cwd=app))
    desk.write("lib.toml", more=f'cwd = "{app}/lib"\nwatch.paths = ["**"]')
    desk.start()
    (app / "main.py").write_text("two")
    assert told(desk.run(1)) == [("spec.changed", "api"), ("spec.changed", "web")]


def test_nothing_is_used_where_nothing_is_watched(desk: Desk) -> None:
    """Without a spec that watches files neither the module nor a descriptor is used."""
    program = (
        "import sys; from reconciler.sources.directory import DirectorySource; s = DirectorySource(sys.argv[1]);"
        "s.read(0.0, urgent=True); s.read(0.0); assert 'reconciler.sources.content' not in sys.modules"
    )
    desk.write("web.toml")
    assert subprocess.run([sys.executable, "-c", program, desk.directory], check=False).returncode == 0


def test_nothing_is_left_behind(tmp_path: Path, app: Path) -> None:
    """When the source is closed its descriptors are."""
    specs = tmp_path / "specs"
    specs.mkdir()
    before = set(os.listdir("/proc/self/fd"))
    desk = Desk(specs)
    desk.write("web.toml", more=WATCH.format(cwd=app))
    desk.start()
    assert not os.get_inheritable(desk.source.fileno() or 0)
    desk.source.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_descriptor_covers_both(watching: Desk, app: Path) -> None:
    """The one descriptor of the source tells of spec files and of what they watch, and stays what it is."""
    fd = watching.source.fileno()
    (app / "main.py").write_text("two")
    assert watching.readable()
    watching.run(1)
    assert not watching.readable()
    watching.drop("new.toml")
    assert watching.readable()
    watching.run(1)
    assert watching.source.fileno() == fd


def test_the_workers_are_those_of_the_template(watching: Desk) -> None:
    """What is wanted is the expansion of the template, content included, so that an override expands the same."""
    assert watching.sets is not None
    wanted = watching.sets["web"]
    assert wanted.template is not None
    assert expand(wanted.template) == wanted


LIMITED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sources.desk import Desk, told
from sources.test_verdict import unprivileged
limit = Path("/proc/sys/user/max_inotify_watches")
limit.write_text("2")
desk = Desk(Path({specs!r}))
desk.write("web.toml", more={more!r})
assert told(desk.start()) == [("spec.added", "web"), ("source.polling", "LimitReached")], "start"
main = Path({app!r}) / "main.py"
main.write_text("two")
assert told(desk.run(3)) == [("spec.changed", "web")], "poll"
limit.write_text("100")
assert told(desk.run(30)) == [("source.watching", None)], "watch"
main.write_text("three")
assert desk.readable(), "bell"
assert told(desk.run(1)) == [("spec.changed", "web")], "change"
assert desk.source.missed_total == 0
"""


def test_watch_limit(tmp_path: Path, app: Path) -> None:
    """When the kernel has no more watches to give the files are looked at each second, until it has."""
    private = ["unshare", "--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no user namespace may be made here")
    (tmp_path / "specs").mkdir()
    program = LIMITED.format(
        tests=str(Path(__file__).parents[1]), specs=str(tmp_path / "specs"), app=str(app), more=WATCH.format(cwd=app)
    )
    assert subprocess.run([*private, sys.executable, "-c", program], check=False).returncode == 0


def test_a_file_that_cannot_be_read(open_to_all: Path) -> None:
    """A file that matches and cannot be read refuses the spec, with the remedy, until it can."""
    specs, app = open_to_all / "specs", open_to_all / "app"
    specs.mkdir()
    app.mkdir()
    (app / "main.py").write_text("one")
    desk = Desk(specs)
    desk.write("web.toml", more=WATCH.format(cwd=app))
    with unprivileged():
        desk.start()
    (app / "main.py").chmod(0)
    with unprivileged():
        (event,) = desk.run(1)
        assert "'main.py' cannot be read (Permission denied); give the controller's user" in event.extra["problems"][0]
    (app / "main.py").chmod(0o644)
    with unprivileged():
        assert told(desk.run(1)) == [("spec.recovered", "web")]
    desk.source.close()
