"""Fixtures for the tests of a watched directory."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sources.desk import Desk


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    """A desk before an empty directory, not started yet."""
    directory = tmp_path / "specs"
    directory.mkdir()
    made = Desk(directory)
    yield made
    made.source.close()


@pytest.fixture
def open_to_all() -> Iterator[Path]:
    """A new directory that every user of the machine can reach, unlike `tmp_path`."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)
