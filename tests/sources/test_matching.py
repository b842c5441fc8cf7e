"""Which files patterns match."""

import errno
import os
from collections.abc import Iterable
from pathlib import Path

import pytest

from reconciler.sources import matching
from reconciler.sources.matching import Finder, UnusableError


class Ears:
    """Remembers where it was hung."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.beside: list[str] = []

    def listen(self, path: str) -> None:
        """Inside of a directory."""
        self.inside.append(path)

    def listen_beside(self, path: str) -> None:
        """Beside a link."""
        self.beside.append(path)


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A tree of files as an application has it."""
    for name in (
        "main.py",
        "notes.txt",
        ".hidden.py",
        "app/views.py",
        "app/models/user.py",
        "app/models/user.pyc",
        "app/__pycache__/views.py",
        "app/.git/hook.py",
        "app/static/site.css",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def found(base: Path, *patterns: str) -> list[str]:
    return sorted(Finder().find(str(base), patterns))


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (["*.py"], ["main.py"]),
        (["main.py", "missing.py"], ["main.py"]),
        (["app/**/*.py"], ["app/models/user.py", "app/views.py"]),
        (["**/*.py"], ["app/models/user.py", "app/views.py", "main.py"]),
        (["app/**"], ["app/models/user.py", "app/static/site.css", "app/views.py"]),
        (["**/**/*.css"], ["app/static/site.css"]),
        (["app/*/*"], ["app/models/user.py", "app/static/site.css"]),
        (["app/m[o]dels/u?er.py"], ["app/models/user.py"]),
        ([".*.py", "*.txt"], [".hidden.py", "notes.txt"]),
        (["app/.git/*"], ["app/.git/hook.py"]),
        (["./app/../main.py"], ["./app/../main.py"]),
        (["app", "nowhere/**", "main.py/x"], []),
        (["**/*.pyc"], []),
    ],
)
def test_patterns(app: Path, patterns: Iterable[str], names: Iterable[str]) -> None:
    """A part of a pattern matches one name, ** any number of directories; hidden names only by a dot of their own."""
    assert found(app, *patterns) == names


def test_absolute_patterns(app: Path) -> None:
    """An absolute pattern needs no base, and its files have their paths."""
    assert found(Path("/nowhere"), f"{app}/*.py") == [f"{app}/main.py"]


def test_links(app: Path) -> None:
    """A link to a file counts as the file; one to a directory is followed by name, and not below **."""
    (app / "app" / "link.py").symlink_to("../main.py")
    (app / "app" / "loop").symlink_to(".")
    (app / "dangling.py").symlink_to("nowhere")
    assert found(app, "*.py") == ["main.py"]
    assert found(app, "app/**/*.py") == ["app/link.py", "app/models/user.py", "app/views.py"]
    assert found(app, "app/loop/v*.py") == ["app/loop/views.py"]


def test_no_files(app: Path) -> None:
    """FIFOs and directories are no files, and are not opened."""
    os.mkfifo(app / "fifo.py")
    (app / "directory.py").mkdir()
    assert found(app, "*.py") == ["main.py"]


def test_each_directory_is_listened_to(app: Path) -> None:
    """The bell hangs on every directory in which a file could come or go, and beside links and what is missing."""
    ears = Ears()
    (app.parent / "current").symlink_to(app)
    Finder(ears).find(str(app.parent / "current"), ["app/**/*.py", "*.txt"])
    below = str(app.parent / "current")
    assert set(ears.inside) == {below, f"{below}/app", f"{below}/app/models", f"{below}/app/static"}
    assert set(ears.beside) == {str(app.parent)}
    ears = Ears()
    Finder(ears).find(str(app / "later" / "on"), ["*.py"])
    assert str(app) in ears.beside


def test_bounds(app: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many files, too many bytes and too many names are refused with the remedy."""
    for name, bound, words in (
        ("MOST_FILES", 2, "more than 2 files match; narrow the patterns"),
        ("MOST_BYTES", 5, "have more than 0 MiB; narrow the patterns"),
        ("MOST_ENTRIES", 3, "more than 3 names to look at; narrow the patterns"),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(matching, name, bound)
            with pytest.raises(UnusableError, match=words):
                found(app, "**/*.py")


def test_a_bell_that_has_no_more(app: Path) -> None:
    """Where the kernel has no more watches to give, the search fails; what cannot be listened to by itself is left."""

    class Deaf(Ears):
        number = errno.ENOSPC

        def listen(self, path: str) -> None:
            raise OSError(self.number, path)

    with pytest.raises(OSError, match="28"):
        Finder(Deaf()).find(str(app), ["*.py"])
    deaf = Deaf()
    deaf.number = errno.EACCES
    assert list(Finder(deaf).find(str(app), ["*.py"])) == ["main.py"]
