"""uvicorn's HTTP, but for its end: `uvicorn --http lingering:Http`.

By itself uvicorn closes at once, on TERM, all connections on which nothing is asked, also when a request is on its way:
about one stop in fifty costs a request. Here each has one more second, and its next answer is its last.
"""

from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

LINGER = 1.0  # seconds


class Http(H11Protocol):
    """One connection."""

    is_leaving = False

    def shutdown(self) -> None:
        """End with the next answer, or else in a second."""
        self.is_leaving = True
        self.loop.call_later(LINGER, self._leave)
        if self.cycle is not None:
            self.cycle.keep_alive = False

    def data_received(self, data: bytes) -> Any:
        """Read."""
        super().data_received(data)
        if self.is_leaving and self.cycle is not None:
            self.cycle.keep_alive = False

    def _leave(self) -> None:
        if not self.transport.is_closing():
            super().shutdown()
