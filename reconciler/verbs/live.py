"""What changes while one looks: lines redrawn in place, and how far something is.

Rule: only a terminal is redrawn. Elsewhere `Live` must not be used, and `Progress` is silent or tells a line for each
change, so that a pipe gets lines and nothing else.

What is waited for comes by `Client.follow`, which has a pause in between for what changes with time alone.
"""

import sys
from collections.abc import Sequence
from typing import Self, TextIO

from reconciler.verbs.printing import cut, painted, screen

PAUSE = 1.0
"""Seconds after which ages and waits are shown anew."""

_BAR = 24  # characters


class Live:
    """Some lines on a terminal, the next ones over the last ones; what is shown at the end stays."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._height = 0

    def show(self, lines: Sequence[str]) -> None:
        """Show these in the place of what was shown before, as far as the terminal has room for them."""
        here = screen(self._stream.fileno())
        fitting = list(lines)
        if len(fitting) >= here.height:
            fitting[here.height - 2 :] = [f"… and {len(fitting) - here.height + 2} more"]
        up = f"\x1b[{self._height}A" if self._height else ""
        drawn = "".join(f"{cut(line, here.width)}\x1b[K\n" for line in fitting)
        self._stream.write(f"\r{up}{drawn}\x1b[J")
        self._stream.flush()
        self._height = len(fitting)


class Progress:
    """How far something is: a bar that is redrawn on a terminal; elsewhere nothing, or with `lines` a line for each
    change. By default it goes to stderr, so that stdout has the answer alone. In a `with`; at its end the bar of a
    wait is gone, while that of `lines` stays.
    """

    def __init__(self, label: str, *, lines: bool = False, stream: TextIO | None = None) -> None:
        self._label, self._lines = label, lines
        self._stream = sys.stderr if stream is None else stream
        self._live = Live(self._stream) if screen(self._stream.fileno()).terminal else None
        self._last = ""

    def update(self, done: int, total: int, note: str = "") -> None:
        """So many of so many are done."""
        text = f"{self._label} {done}/{total}{f'  {note}' if note else ''}"
        if self._live is not None:
            colours = screen(self._stream.fileno()).colours
            full = _BAR * min(done, total) // total if total else _BAR
            bar = painted("━" * full, "green", colours) + painted("─" * (_BAR - full), "grey", colours)
            self._live.show([f"{bar} {text}"])
        elif self._lines and text != self._last:
            self._stream.write(f"{text}\n")
            self._stream.flush()
        self._last = text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None and not self._lines:
            self._live.show([])  # what comes of it is told by who waited
