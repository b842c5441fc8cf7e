"""Where the state directory is, and to whom it belongs."""

import os
import shutil
import stat
import tempfile
from pathlib import Path

import pytest

from reconciler.state.place import UnsafeError, prepare, state_directory

NOBODY = 65534


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def nobody():
    """The user that others are; only root can be another one."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    return NOBODY


@pytest.fixture
def temporary():
    """A directory for temporary files that every user can reach."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def default_for_nobody(temporary):
    """What becomes of the default state directory of a user without a session: its path, or why it is refused."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.environ.pop("XDG_RUNTIME_DIR", None)
            tempfile.tempdir = str(temporary)
            directory = state_directory("/")
            prepare(directory)
            os.write(theirs, directory.encode())
        except (OSError, UnsafeError) as error:
            os.write(theirs, str(error).encode())
        finally:
            os._exit(0)
    os.close(theirs)
    os.waitpid(child, 0)
    with open(ours, "rb") as told:
        return told.read().decode()


def test_it_is_made_for_its_owner_alone(tmp_path):
    """Every directory that is made on the way is closed to others, and doing it again changes nothing."""
    path = tmp_path / "a" / "b" / "state"
    for _ in range(2):
        prepare(str(path))

    assert [mode_of(each) for each in (path, path.parent, path.parent.parent)] == [0o700] * 3


def test_an_empty_directory_is_closed(tmp_path):
    """A directory that its user made for it is closed to others."""
    tmp_path.chmod(0o777)
    prepare(str(tmp_path))

    assert mode_of(tmp_path) == 0o700


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o770, 0o702])
def test_a_directory_that_others_use(tmp_path, mode):
    """A directory with something in it, to which others may write, is refused and stays as it is."""
    (tmp_path / "something").touch()
    tmp_path.chmod(mode)
    with pytest.raises(UnsafeError, match="chmod go-w"):
        prepare(str(tmp_path))

    assert mode_of(tmp_path) == mode


def test_a_directory_that_others_read(tmp_path):
    """A directory with something in it, which others may only read, is taken and stays as it is."""
    (tmp_path / "something").touch()
    tmp_path.chmod(0o755)
    prepare(str(tmp_path))

    assert mode_of(tmp_path) == 0o755


def test_what_is_no_directory(tmp_path):
    """A file is refused."""
    (tmp_path / "state").touch()
    with pytest.raises(UnsafeError, match="is not a directory"):
        prepare(str(tmp_path / "state"))


def test_a_directory_of_another_user(tmp_path, nobody):
    """A directory of another user is refused, and so is one that another user made where all may write."""
    (tmp_path / "state").mkdir()
    os.chown(tmp_path / "state", nobody, nobody)
    with pytest.raises(UnsafeError, match="belongs to another user"):
        prepare(str(tmp_path / "state"))
    tmp_path.chmod(0o777)
    with pytest.raises(UnsafeError, match="state belongs to another user"):
        prepare(str(tmp_path / "state" / "ours"))


def test_a_link_in_a_place_of_others(tmp_path, nobody):
    """A link that another user may turn elsewhere is refused, wherever it leads now."""
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "ours").mkdir()
    (tmp_path / "open" / "link").symlink_to(tmp_path / "ours")
    os.chown(tmp_path / "open" / "link", nobody, nobody, follow_symlinks=False)
    with pytest.raises(UnsafeError, match="link belongs to another user"):
        prepare(str(tmp_path / "open" / "link" / "state"))


@pytest.mark.usefixtures("nobody")
def test_the_default_without_a_session(temporary):
    """Without a runtime directory it is below a directory for temporary files, in one that is this user's alone."""
    path = Path(default_for_nobody(temporary))

    assert path.parent.parent == temporary / f"run-{NOBODY}"
    assert [mode_of(each) for each in (path, path.parent, path.parent.parent)] == [0o700] * 3
    assert path.parent.parent.stat().st_uid == NOBODY


@pytest.mark.usefixtures("nobody")
def test_the_default_where_others_could_replace_it(temporary):
    """A directory for temporary files that is not sticky, or in which another user was first, is no default."""
    temporary.chmod(0o777)
    assert "`chmod +t`" in default_for_nobody(temporary)
    temporary.chmod(0o1777)
    first = temporary / f"run-{NOBODY}"
    first.mkdir(exist_ok=True)
    os.chown(first, 1234, 1234)
    first.chmod(0o777)
    assert "belongs to another user" in default_for_nobody(temporary)
    assert os.listdir(first) == []
