"""Signals as counts: how often each came since they were last taken, and one descriptor that tells of any.

Rule: a handler only counts and rings. A thousand of one signal are one ring and one number, so that a storm of one kind
can neither be lost count of nor crowd out another; what a signal means is for whoever takes it. A forked child has its
signals back before its own code runs, and never rings in its parent.
"""

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

from reconciler.hygiene import let_go_in_children

_MOST = 1000  # beyond that nobody needs to know


class SignalCounter:
    """Takes over the signals of these names, without SIG, until `close`. To be made in the main thread."""

    def __init__(self, names: Iterable[str]) -> None:
        self._counts: dict[str, int] = {}
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._before: dict[int, Any] = {}
        # The byte is written where the signal strikes: a handler in Python runs only when whatever waits has returned.
        self._bell_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        let_go_in_children(self, SignalCounter._let_go)
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Take over one more."""
        number = signal.Signals[f"SIG{name}"]
        self._before[number] = signal.signal(number, self._count)

    def fileno(self) -> int:
        """Readable when there is something to take."""
        return self._read

    def take(self) -> dict[str, int]:
        """How often each signal came since the last time, in the order of their first coming."""
        with suppress(BlockingIOError):
            os.read(self._read, 1 << 16)  # all that a pipe holds
        counts, self._counts = self._counts, {}
        return counts

    def close(self) -> None:
        """Give the signals back to whoever had them. Asked again, or in a forked child, it does nothing."""
        if self._read < 0:
            return
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        signal.set_wakeup_fd(self._bell_before)
        self._close()

    def _let_go(self) -> None:
        if self._read < 0:
            return
        # Whosever bell it is, it rings in the parent; and the number of ours will soon be that of something else.
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._count:
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._close()

    def _close(self) -> None:
        read, self._read = self._read, -1
        os.close(read)
        os.close(self._write)

    def _count(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name.removeprefix("SIG")
        self._counts[name] = min(self._counts.get(name, 0) + 1, _MOST)
