"""Python programs of the project, run from its root; none is left behind by a test that fails."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from house.tree import ROOT
from processes import PATIENCE


@contextmanager
def running(*arguments: str, **options: Any) -> Iterator[Any]:
    """A program that runs, as a Popen that reads text. At the end of the block it is asked to stop if it has not."""
    program = subprocess.Popen([sys.executable, *arguments], cwd=ROOT, text=True, **options)
    try:
        yield program
    finally:
        program.terminate()
        try:
            program.communicate(timeout=PATIENCE)
        finally:
            program.kill()
