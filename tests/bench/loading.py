"""The load generator as a process of its own, from the side of who started it.

Rule: a stretch has begun when `stretch` returns, so that what is done after it counts for it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

import attrs

PATIENCE = 60.0
"""Seconds after which the load is taken to hang."""


@attrs.frozen
class Clients:
    """How many clients ask, of each kind, and how often altogether: requests a second."""

    keep_alive: int = 8
    fresh: int = 8
    rate: float = 360.0


class Loading:
    """A load on an address, from the start of the block to its end. Then `counts` is what it counted."""

    def __init__(self, address: str, clients: Clients, expect: str = "hello") -> None:
        self.counts: dict[str, dict[str, Any]] = {}
        numbers = {"--keep-alive": clients.keep_alive, "--fresh": clients.fresh, "--rate": clients.rate}
        options = [word for name, number in numbers.items() for word in (name, str(number))]
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("load.py")), address, "--expect", expect, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.stretch("begin")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            told = self._process.communicate(timeout=PATIENCE)[0]
            self.counts = json.loads(told.splitlines()[-1])
        else:
            self._process.kill()
            self._process.communicate()

    def stretch(self, name: str) -> None:
        """Begin a stretch of this name; what is answered from now on counts for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(name, file=self._process.stdin, flush=True)
        told = self._process.stdout.readline().strip()
        if told != name:
            raise RuntimeError(f"the load has ended, instead of going on with {name}: {told}")
