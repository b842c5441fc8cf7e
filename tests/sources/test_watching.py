"""How changes are noticed: by the bell wherever one can ring, by the relist or by polling elsewhere."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sources.desk import Desk, spec, told

from reconciler.sources import doorbell
from reconciler.sources.directory import SETTLE_S


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


def test_ring_during_a_look(desk: Desk) -> None:
    """What rings while a look is under way does not count as missed, though no ring led to this look."""
    desk.start()

    def meddle(_frame: object, event: str, function: object) -> None:
        if event == "c_call" and function is os.scandir:
            sys.setprofile(None)
            desk.drop("web.toml")

    sys.setprofile(meddle)
    try:
        events = desk.run(21)
    finally:
        sys.setprofile(None)

    assert told(events) == [("spec.added", "web")]
    assert desk.source.missed_total == 0


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


def test_burst(desk: Desk) -> None:
    """Two thousand files in one second lead to few looks, and to every set."""
    desk.start()
    before = desk.readings
    for index in range(2000):
        (desk.directory / f"w{index}.toml").write_text(spec("true"))
        if index % 20 == 19:
            desk.run(0.01)
    desk.run(1)

    looks = 1.2 / (SETTLE_S / 2)
    assert desk.sets is not None
    assert len(desk.sets) == 2000
    assert desk.readings - before <= 3 * looks


def test_storm_of_rings(desk: Desk) -> None:
    """While a look is due anyway the bell is down: a busy writer wakes nobody."""
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
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    monkeypatch.setattr(doorbell, "_REMOTE", {mount.partition(" - ")[2].split()[0] for mount in mounts})

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
