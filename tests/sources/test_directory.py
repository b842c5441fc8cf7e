"""The watched directory: what is taken, when, and what it takes to let go of it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reconciler.core.event import CATALOGUE
from reconciler.sources import directory as module
from sources.desk import Desk, spec, told

LEFTOVERS = ["web.toml~", ".web.toml.swp", "4913", "#web.toml#", "web.toml.bak", "web.toml.tmp", ".hidden.toml", "README"]


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
    """A file that is renamed into the directory is taken once it has settled, in well under 300 ms."""
    desk.start()
    desk.run(1)
    desk.drop("web.toml")

    assert desk.readable()
    assert desk.run(0.1) == []
    assert told(desk.run(0.05)) == [("spec.added", "web")]


def test_dropped_right_after_a_look(desk: Desk) -> None:
    """Even a file that comes when the bell is muffled is taken in well under 300 ms."""
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
    command = ["vim", "-u", "NONE", "-es", "-c", "set backupcopy=no", "-c", f"%s/true/{program}/", "-c", "wq", str(path)]
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


def test_look_into_the_gap_of_an_editor(desk: Desk) -> None:
    """A look between vim's renaming the old file away and writing the new one does not count as a removal."""
    path = desk.write("web.toml", more="replicas = 2")
    desk.start()
    path.rename(path.with_name("web.toml~"))
    events = desk.run(0.3)
    desk.write("web.toml", "false")
    events += desk.run(5)

    assert told(events) == [("spec.changed", "web")]


def test_removed_file(desk: Desk) -> None:
    """A deleted file ends its set when it has stayed away for a moment."""
    desk.write("api.toml")
    path = desk.write("web.toml")
    desk.start()
    path.unlink()

    assert desk.run(0.4) == []
    (event,) = desk.run(0.2)
    assert (event.event, event.name, event.extra["file"]) == ("spec.removed", "web", str(path))
    assert desk.programs() == {"api": "true"}


def test_file_renamed_to_another_format(desk: Desk) -> None:
    """A spec that moves from one format to another is the same set: nothing is removed."""
    path = desk.write("web.toml", more="replicas = 3")
    desk.start()
    (desk.directory / ".new").write_text('{"command": ["true"], "replicas": 3}')
    path.unlink()
    (desk.directory / ".new").rename(desk.directory / "web.json")

    assert desk.run(30) == []
    assert desk.programs() == {"web": "true"}


def test_renamed_set(desk: Desk) -> None:
    """A file under a new name is a new set, and the old one ends."""
    path = desk.write("web.toml", more="replicas = 3")
    desk.start()
    path.rename(desk.directory / "api.toml")

    assert told(desk.run(1)) == [("spec.added", "api"), ("spec.removed", "web")]


def test_copied_and_linked_files(desk: Desk) -> None:
    """Copies and hard links are files like any other."""
    path = desk.write("web.toml")
    desk.start()
    shutil.copy(path, desk.directory / "copied.toml")
    os.link(path, desk.directory / "linked.toml")

    assert told(desk.run(1)) == [("spec.added", "copied"), ("spec.added", "linked")]


def test_change_without_a_ring(desk: Desk, tmp_path: Path) -> None:
    """What is changed through a hard link or at the target of a link is found by the relist, and counted."""
    outside = tmp_path / "outside.toml"
    outside.write_text(spec("true"))
    os.link(outside, desk.directory / "hard.toml")
    other = tmp_path / "other.toml"
    other.write_text(spec("true"))
    (desk.directory / "soft.toml").symlink_to(other)
    desk.start()
    outside.write_text(spec("false"))
    other.write_text(spec("false"))

    assert not desk.readable()
    events = desk.run(21)
    assert told(events) == [("source.missed", None), ("spec.changed", "hard"), ("spec.changed", "soft")]
    assert events[0].extra["missed"] == 2
    assert desk.source.missed_total == 2


def test_config_map(desk: Desk) -> None:
    """A ConfigMap as Kubernetes mounts it: the `..data` link is swapped, and all its files change at once."""
    directory = desk.directory
    for version, program in (("..1", "one"), ("..2", "two")):
        (directory / version).mkdir()
        for name in ("api.toml", "web.toml"):
            (directory / version / name).write_text(spec(program, "replicas = 2"))
    (directory / "..data").symlink_to("..1")
    for name in ("api.toml", "web.toml"):
        (directory / name).symlink_to(Path("..data") / name)
    desk.start()
    assert desk.programs() == {"api": "one", "web": "one"}

    (directory / "..data_tmp").symlink_to("..2")
    (directory / "..data_tmp").rename(directory / "..data")
    shutil.rmtree(directory / "..1")

    assert told(desk.run(1)) == [("spec.changed", "api"), ("spec.changed", "web")]
    assert desk.programs() == {"api": "two", "web": "two"}


def test_retargeted_directory(tmp_path: Path) -> None:
    """The directory may be a link: its files ring, and so does a new target, whose files ring in turn."""
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "web.toml").write_text(spec(f"v{release}"))
    (tmp_path / "specs").symlink_to("1")
    desk = Desk(tmp_path / "specs")
    desk.start()
    (tmp_path / "new").symlink_to("2")
    (tmp_path / "new").rename(tmp_path / "specs")

    assert told(desk.run(1)) == [("spec.changed", "web")]
    assert desk.programs() == {"web": "v2"}
    desk.write("web.toml", "v3")
    assert told(desk.run(1)) == [("spec.changed", "web")]
    desk.source.close()


@pytest.mark.parametrize("how", ["move", "delete"])
def test_directory_made_again(desk: Desk, how: str) -> None:
    """A directory that is moved away or deleted and made again is watched again, and nothing is restarted."""
    desk.write("web.toml", more="replicas = 2")
    desk.start()
    if how == "move":
        desk.directory.rename(desk.directory.with_name("old"))
    else:
        shutil.rmtree(desk.directory)
    desk.directory.mkdir()
    desk.write("web.toml", more="replicas = 2")
    desk.run(0.5)
    desk.drop("api.toml")

    assert told(desk.run(0.5)) == [("spec.added", "api")]
    assert len(desk.history) == 2


def test_missing_directory(desk: Desk) -> None:
    """A directory that is gone holds everything, is told once, and is seen within 5 s of coming back."""
    desk.write("web.toml", more="replicas = 2")
    desk.start()
    away = desk.directory.rename(desk.directory.with_name("away"))
    events = desk.run(60)

    assert told(events) == [("source.held", "DirectoryMissing")]
    assert events[0].extra == {"file": str(desk.directory), "held": 2}
    (away / "noise").touch()
    assert not desk.readable()
    away.rename(desk.directory)
    desk.drop("api.toml")
    assert told(desk.run(5)) == [("source.released", "DirectoryMissing"), ("spec.added", "api")]
    desk.drop("db.toml")
    assert told(desk.run(0.2)) == [("spec.added", "db")]
    assert desk.source.missed_total == 0


def test_missing_from_the_start(tmp_path: Path) -> None:
    """A directory that is not there at the start says nothing about what is wanted, until it comes."""
    desk = Desk(tmp_path / "later")

    assert told(desk.start()) == [("source.held", "DirectoryMissing")]
    assert desk.sets is None
    desk.directory.mkdir()
    assert told(desk.run(5)) == [("source.released", "DirectoryMissing")]
    assert desk.sets == {}
    desk.source.close()


def test_file_in_the_place_of_the_directory(desk: Desk) -> None:
    """A file where the directory was holds everything as well."""
    desk.write("web.toml")
    desk.start()
    shutil.rmtree(desk.directory)
    desk.directory.touch()

    assert told(desk.run(10)) == [("source.held", "DirectoryMissing")]
    assert len(desk.history) == 1


def test_deleted_while_the_directory_is_away(desk: Desk) -> None:
    """A file that is gone when the directory comes back must stay gone from then on to count as removed."""
    desk.write("api.toml")
    path = desk.write("web.toml")
    desk.start()
    path.unlink()
    desk.read(urgent=True)
    away = desk.directory.rename(desk.directory.with_name("away"))
    desk.run(30)
    away.rename(desk.directory)

    assert told(desk.run(0.4)) == [("source.released", "DirectoryMissing")]
    assert told(desk.run(1)) == [("spec.removed", "web")]


def test_mass_removal(desk: Desk) -> None:
    """Files with more than half of the workers that go at once are held, and let go only if they stay away."""
    for name in ("api.toml", "db.toml", "web.toml"):
        desk.write(name)
    desk.start()
    (desk.directory / "api.toml").unlink()
    (desk.directory / "web.toml").unlink()

    events = desk.run(1.9)
    assert told(events) == [("source.held", "MassRemoval")]
    assert events[0].extra == {"file": str(desk.directory), "held": 2}
    assert told(desk.run(0.2)) == [("spec.removed", "api"), ("spec.removed", "web"), ("source.released", "MassRemoval")]
    assert desk.programs() == {"db": "true"}


def test_mass_removal_undone(desk: Desk) -> None:
    """When what was held comes back, nothing was removed."""
    desk.write("web.toml", more="replicas = 2")
    desk.start()
    (desk.directory / "web.toml").unlink()
    events = desk.run(1)
    desk.write("web.toml", more="replicas = 2")
    events += desk.run(10)

    assert told(events) == [("source.held", "MassRemoval"), ("source.released", "MassRemoval")]
    assert len(desk.history) == 1


def test_half_is_not_a_mass(desk: Desk) -> None:
    """Half of the workers, or the only one there is, are let go without a hold."""
    desk.write("api.toml")
    desk.write("web.toml")
    desk.start()
    (desk.directory / "web.toml").unlink()
    events = desk.run(1)
    (desk.directory / "api.toml").unlink()
    events += desk.run(1)

    assert told(events) == [("spec.removed", "web"), ("spec.removed", "api")]
    assert desk.sets == {}


def test_emptied_directory_counts_as_mass_removal(desk: Desk) -> None:
    """An empty directory in the place of a full one is held like any mass removal."""
    desk.write("web.toml", more="replicas = 4")
    desk.start()
    desk.directory.rename(desk.directory.with_name("old"))
    desk.directory.mkdir()

    assert told(desk.run(1.5)) == [("source.held", "MassRemoval")]
    assert desk.programs() == {"web": "true"}


def test_burst(desk: Desk) -> None:
    """Two thousand files in one second lead to few looks, and to every set."""
    desk.start()
    before = desk.readings
    for index in range(2000):
        (desk.directory / f"w{index}.toml").write_text(spec("true"))
        if index % 20 == 19:
            desk.run(0.01)
    desk.run(1)

    looks = 1.2 / (module.SETTLE_S / 2)
    assert desk.sets is not None
    assert len(desk.sets) == 2000
    assert desk.readings - before <= 3 * looks


def test_storm_of_rings(desk: Desk) -> None:
    """While a look is due anyway the bell is muffled: a busy writer wakes nobody."""
    desk.start()
    with (desk.directory / "noise.log").open("w") as file:
        before = desk.readings
        for _ in range(1000):
            file.write("x")
            file.flush()
            os.utime(file.fileno())
            desk.run(0.0001)

        assert desk.readings - before <= 8


def test_overflow(desk: Desk) -> None:
    """When the kernel's queue overflows, what happened is found at once and the bell rings on."""
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip("the queue is too long to fill in a test")
    path = desk.write("web.toml")
    desk.start()
    noise = desk.directory / "noise"
    for _ in range(limit // 3 + 1):
        noise.touch()
        noise.unlink()
    desk.write("web.toml", "false")

    assert told(desk.run(5)) == [("spec.changed", "web")]
    path.unlink()
    assert told(desk.run(1)) == [("spec.removed", "web")]
    assert desk.source.missed_total == 0


def test_polling_on_request(tmp_path: Path) -> None:
    """Asked to poll, it says so once, has no bell, and sees a change within 2 s."""
    desk = Desk(tmp_path, poll=True)

    assert told(desk.start()) == [("source.polling", "Asked")]
    assert desk.source.fileno() is None
    desk.write("web.toml")
    assert told(desk.run(2)) == [("spec.added", "web")]
    assert desk.run(100) == []


def test_network_file_system(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system that others change it polls, and says so."""
    from reconciler.sources import doorbell

    kind = subprocess.run(["stat", "-f", "-c", "%T", desk.directory], check=True, capture_output=True, text=True).stdout
    kinds = {kind.strip(), kind.strip().removesuffix("/ext3").replace("ext2", "ext4")}
    monkeypatch.setattr(doorbell, "_REMOTE", frozenset(kinds | {"overlay", "xfs", "tmpfs", "btrfs"}))

    assert told(desk.start()) == [("source.polling", "NetworkFileSystem")]
    desk.write("web.toml")
    assert told(desk.run(2)) == [("spec.added", "web")]


LIMITED = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sources.desk import Desk, told
limit = Path("/proc/sys/user/max_inotify_instances")
limit.write_text("0")
desk = Desk(Path({directory!r}))
assert told(desk.start()) == [("source.polling", "LimitReached")], "start"
desk.write("web.toml")
assert told(desk.run(2)) == [("spec.added", "web")], "poll"
limit.write_text("10")
assert told(desk.run(21)) == [("source.watching", None)], "watch"
assert desk.wake_at > desk.now + 1, "still polling"
desk.drop("web.toml", "false")
assert desk.readable(), "bell"
assert desk.source.missed_total == 0
"""


def test_inotify_limit(tmp_path: Path) -> None:
    """When no inotify instance is to be had it polls, and watches again once there is one."""
    private = ["unshare", "--user", "--map-root-user"]
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no user namespace may be made here")
    program = LIMITED.format(tests=str(Path(__file__).parents[1]), directory=str(tmp_path))

    assert subprocess.run([*private, sys.executable, "-c", program], check=False).returncode == 0


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
