"""Time in the hand of a test.

Rule: it stands still until it is moved, and what was arranged for later happens on the way, in order.
"""

import heapq
from collections.abc import Callable


class ManualClock:
    """Monotonic time in seconds."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now
        self._arranged: list[tuple[float, int, Callable[[], object]]] = []
        self._count = 0

    def later(self, seconds: float, action: Callable[[], object]) -> None:
        """Arrange for `action` to be called when this much time has passed."""
        self._count += 1
        heapq.heappush(self._arranged, (self.now + seconds, self._count, action))

    @property
    def next_at(self) -> float:
        """When the next thing was arranged for; infinity if nothing was."""
        return self._arranged[0][0] if self._arranged else float("inf")

    def move_to(self, when: float) -> None:
        """Let it be `when`, and do what was arranged until then."""
        while self._arranged and self._arranged[0][0] <= when:
            self.now, _, action = heapq.heappop(self._arranged)
            action()
        self.now = when
