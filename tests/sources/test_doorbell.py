"""The bell by itself: what rings, what does not, and what it leaves behind."""

import os
import select
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.sources.doorbell import Doorbell, is_remote


@pytest.fixture
def hung(tmp_path: Path) -> Iterator[tuple[Doorbell, Path]]:
    """A bell that hangs on a directory with one file."""
    directory = tmp_path / "specs"
    directory.mkdir()
    (directory / "web.toml").write_text("x")
    bell = Doorbell()
    hang(bell, directory)
    yield bell, directory
    bell.close()


def hang(bell: Doorbell, path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    bell.hang(directory, str(path))
    os.close(directory)


def hangs_on(bell: Doorbell, path: Path) -> bool:
    directory = os.open(path, os.O_RDONLY)
    try:
        return bell.hangs_on(directory)
    finally:
        os.close(directory)


def readable(bell: Doorbell) -> bool:
    return bool(select.select([bell.fileno()], [], [], 0)[0])


RINGING: dict[str, Callable[[Path], object]] = {
    "create": lambda specs: (specs / "new.toml").touch(),
    "write": lambda specs: (specs / "web.toml").write_text("y"),
    "chmod": lambda specs: (specs / "web.toml").chmod(0),
    "touch": lambda specs: os.utime(specs / "web.toml"),
    "delete": lambda specs: (specs / "web.toml").unlink(),
    "rename in": lambda specs: shutil.move(specs.with_name("outside"), specs / "in.toml"),
    "rename out": lambda specs: (specs / "web.toml").rename(specs.with_name("out")),
    "link in": lambda specs: os.link(specs / "web.toml", specs / "linked.toml"),
    "move the directory": lambda specs: specs.rename(specs.with_name("moved")),
    "delete the directory": shutil.rmtree,
}


@pytest.mark.parametrize("what", RINGING)
def test_rings(hung: tuple[Doorbell, Path], what: str) -> None:
    """Whatever may change a spec makes the descriptor readable at once, until the bell is taken down."""
    bell, directory = hung
    directory.with_name("outside").touch()
    assert not readable(bell)
    RINGING[what](directory)

    assert readable(bell)
    assert bell.rung()
    bell.take_down()
    assert not readable(bell)
    assert not bell.rung()


def test_own_looks_do_not_ring(hung: tuple[Doorbell, Path]) -> None:
    """Listing, opening and reading do not ring, or each look would lead to the next."""
    bell, directory = hung
    os.listdir(directory)
    (directory / "web.toml").read_text()

    assert not readable(bell)


def test_taken_down(hung: tuple[Doorbell, Path]) -> None:
    """A bell that is taken down does not ring until it is hung up again."""
    bell, directory = hung
    bell.take_down()
    (directory / "new.toml").touch()

    assert not readable(bell)
    assert not hangs_on(bell, directory)
    hang(bell, directory)
    (directory / "newer.toml").touch()
    assert readable(bell)


def test_moves_to_another_directory(hung: tuple[Doorbell, Path]) -> None:
    """Hung on another directory it keeps its descriptor, and the first directory rings no more."""
    bell, directory = hung
    other = directory.with_name("other")
    other.mkdir()
    fd = bell.fileno()
    hang(bell, other)
    (directory / "new.toml").touch()

    assert not readable(bell)
    (other / "new.toml").touch()
    assert readable(bell)
    assert bell.fileno() == fd


def test_knows_which_directory_it_hangs_on(hung: tuple[Doorbell, Path]) -> None:
    """It hangs on a directory by identity, not by name; and when that one is deleted it rings before its number can
    come again in another.
    """
    bell, directory = hung
    moved = directory.rename(directory.with_name("moved"))
    directory.mkdir()

    assert hangs_on(bell, moved)
    assert not hangs_on(bell, directory)
    hang(bell, directory)
    number = directory.stat().st_ino
    shutil.rmtree(directory)
    directory.mkdir()
    assert bell.rung() or directory.stat().st_ino != number


def test_link_to_the_directory(tmp_path: Path) -> None:
    """Where the path is a link, a new link in its place rings."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    (tmp_path / "specs").symlink_to("one")
    bell = Doorbell()
    hang(bell, tmp_path / "specs")
    (tmp_path / "new").symlink_to("two")
    (tmp_path / "new").rename(tmp_path / "specs")

    assert bell.rung()
    bell.close()


def test_link_to_the_directory_it_lies_in(tmp_path: Path) -> None:
    """A link to its own directory takes nothing from what rings."""
    (tmp_path / "specs").symlink_to(".")
    (tmp_path / "web.toml").touch()
    bell = Doorbell()
    hang(bell, tmp_path / "specs")
    (tmp_path / "web.toml").write_text("x")

    assert bell.rung()
    bell.close()


def test_overflow(hung: tuple[Doorbell, Path]) -> None:
    """An overflow of the queue is a ring like any other, after which the bell can be hung up anew."""
    bell, directory = hung
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 50_000:
        pytest.skip("the queue is too long to fill in a test")
    noise = directory / "noise"
    for _ in range(limit // 3 + 1):
        noise.touch()
        noise.unlink()

    assert bell.rung()
    hang(bell, directory)
    assert not bell.rung()
    (directory / "new.toml").touch()
    assert bell.rung()


def test_no_thread_and_nothing_left_behind(tmp_path: Path) -> None:
    """It starts no thread, its descriptors are closed in programs we start, and none is left when it is closed."""
    threads = threading.active_count()
    before = set(os.listdir("/proc/self/fd"))
    bell = Doorbell()
    hang(bell, tmp_path)

    assert threading.active_count() == threads
    assert not os.get_inheritable(bell.fileno())
    assert not os.get_blocking(bell.fileno())
    bell.close()
    assert set(os.listdir("/proc/self/fd")) <= before


def test_closed_without_ever_ringing() -> None:
    """A bell that was never hung up leaves nothing behind either."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        Doorbell().close()

    assert len(os.listdir("/proc/self/fd")) == before


def test_own_file_system_is_not_remote() -> None:
    """A file system of this machine is one that rings; so is one without a mount of its own."""
    for path in ("/", "/proc"):
        directory = os.open(path, os.O_RDONLY)
        assert not is_remote(directory)
        os.close(directory)


UNMOUNTED = """
import subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from sources.desk import Desk, told
path = {directory!r}
subprocess.run(["mount", "-t", "tmpfs", "none", path], check=True)
desk = Desk(Path(path))
desk.write("web.toml", more="replicas = 2")
desk.start()
subprocess.run(["umount", path], check=True)
assert desk.readable(), "bell"
assert told(desk.run(1.5)) == [("source.held", "MassRemoval")], "held"
desk.drop("web.toml", more="replicas = 2")
assert desk.readable(), "bell on what lies below"
assert told(desk.run(1)) == [("source.released", "MassRemoval")], "released"
"""


def test_unmounted(tmp_path: Path) -> None:
    """The directory's file system can be unmounted while it is watched, which rings; what it held is held."""
    private = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no mount namespace may be made here")
    program = UNMOUNTED.format(tests=str(Path(__file__).parents[1]), directory=str(tmp_path))

    assert subprocess.run([*private, sys.executable, "-c", program], check=False).returncode == 0
