"""The last events, for those who ask what happened and for those who follow it.

Rule: a ring of bounded size. Who reads too slowly to keep up is told how many events he missed, and costs nothing.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import attrs

from reconciler.core.event import CATALOGUE, CONTROLLER_STOPPED, TIME_FORMAT, Event

MOST = 10_000
"""How many events are kept."""


@attrs.frozen
class Told:
    """An event, its place in the order of all events of this controller, and when it was told (seconds, Unix time)."""

    serial: int
    time: float
    event: Event

    def fields(self) -> dict[str, Any]:
        """The event as a line of the JSON log has it, with its serial number."""
        from datetime import UTC, datetime  # noqa: PLC0415  for those who ask

        when = datetime.fromtimestamp(self.time, UTC).strftime(TIME_FORMAT)
        level = CATALOGUE[self.event.event].level
        return {
            "serial": self.serial,
            "timestamp": when,
            "level": level,
            "event": self.event.event,
        } | self.event.fields()


class Recent:
    """The ring. Functions in `listeners` are called with the events that were added."""

    def __init__(self, most: int = MOST) -> None:
        self._ring: deque[Told] = deque(maxlen=most)
        self._serial = 0
        self.listeners: list[Callable[[Sequence[Event]], object]] = []

    @property
    def serial(self) -> int:
        """That of the last event; the first one has 1."""
        return self._serial

    def add(self, events: Sequence[Event]) -> None:
        """Remember these, just told."""
        now = time.time()
        for told in events:
            self._serial += 1
            self._ring.append(Told(self._serial, now, told))
        for listener in tuple(self.listeners):
            listener(events)

    def follow(self) -> AsyncIterator[Event]:
        """The events from now on, until the controller has stopped."""
        return self._follow(self._serial)

    async def _follow(self, serial: int) -> AsyncIterator[Event]:
        import asyncio  # noqa: PLC0415  not for a controller that nobody follows

        news = asyncio.Event()
        if self._ring and self._ring[-1].event.event == CONTROLLER_STOPPED:
            return

        def listener(_: Sequence[Event]) -> None:
            news.set()

        self.listeners.append(listener)
        try:
            while True:
                news.clear()
                for told in self.some(serial, MOST):
                    serial = told.serial
                    yield told.event
                    if told.event.event == CONTROLLER_STOPPED:
                        return
                if serial == self._serial:
                    await news.wait()
        finally:
            self.listeners.remove(listener)

    def some(self, serial: int, most: int) -> list[Told]:
        """The next ones after this one, at most so many, of those that are still known."""
        first = self._ring[0].serial if self._ring else 1
        start = max(0, serial + 1 - first)
        return list(islice(self._ring, start, start + most))

    def backwards(self) -> Iterator[Told]:
        """All that are known, the last one first."""
        return reversed(self._ring)

    def since(self, when: float) -> int:
        """The serial number of the last event before this time (seconds, Unix time)."""
        return next((told.serial for told in reversed(self._ring) if told.time < when), 0)

    def missed(self, serial: int) -> int:
        """How many events that came after this one are not known any more."""
        first = self._ring[0].serial if self._ring else self._serial + 1
        return max(0, first - serial - 1)
