"""One client of the control socket: what it asked, what answers it, and what it has not read yet.

Rule: a client is answered as fast as it reads. While what waits for it is more than `FULL` its answer stands still,
and so do its next requests; what it sends beyond that waits in the kernel, and then with itself.
"""

import select
import socket
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress
from typing import Any

from reconciler.control import wire
from reconciler.control.wire import BrokenFrame, Lines, Refusal

Answer = Generator[Mapping[str, Any] | bytes | None, None, Mapping[str, Any] | None]

Handler = Callable[[str, Mapping[str, Any]], Answer]
"""Carries out a verb with its arguments: a generator. It may `yield` an item, or the JSON of one as bytes; `yield None`
where it has nothing to say until the next nudge, and `yield b""` where it has nothing to say yet but others should
have their turn; `return` what ends the answer; or raise a Refusal, at any time. It is
closed where it stands when its client goes. It must not close the server itself.
"""

FULL = 65536
"""Bytes. An answer is not asked for more while so much of it was not read."""

_STEPS = 32  # at a time; then the other clients have their turn


class Connection:
    """A client, and the one request of it that is being answered."""

    def __init__(self, peer: socket.socket, handle: Handler, report: Callable[[Exception], None]) -> None:
        self.peer = peer
        self.watched = 0  # the events that the server's epoll has for it
        self.waits = False  # its answer has nothing to say until the next nudge
        self.over = False  # nothing more comes of it
        self._handle = handle
        self._report = report
        self._lines = Lines()
        self._idle = True  # no request is there as a whole
        self._ended = False  # nothing more is read
        self._id = b"null"
        self._answer: Answer | None = None
        self._out = bytearray()

    @property
    def events(self) -> int:
        """What its epoll should look out for. Writable means "go on" as well."""
        reads = not self._ended and self._lines.room > 0
        writes = self._out or not (self._idle or self.waits)
        return (select.EPOLLIN if reads else 0) | (select.EPOLLOUT if writes else 0)

    @property
    def dispensable(self) -> bool:
        """Whether it waits for nothing from us: it asked nothing, or does not read what there is for it."""
        poller = select.poll()
        poller.register(self.peer, select.POLLOUT)
        return self._idle or not poller.poll(0)

    def receive(self) -> None:
        """Read what it sent, as far as there is room."""
        try:
            data = self.peer.recv(self._lines.room, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            self.over = True
            return
        self._lines.feed(data)
        self._ended = not data
        self._idle = False

    def work(self) -> None:
        """Go on with its requests, a bounded amount at a time, and send what came of them."""
        for _ in range(_STEPS):
            if self._idle or self.waits or len(self._out) >= FULL:
                break
            if self._answer is None:
                self._begin()
            else:
                self._advance(self._answer)
        self._send()

    def close(self) -> None:
        """End its answer where it stands, and hang up. A forked process that still has the socket keeps nobody."""
        self._end()
        with suppress(OSError):  # it was quicker
            self.peer.shutdown(socket.SHUT_RDWR)
        self.peer.close()

    def farewell(self) -> None:
        """Tell it that its answer ends here, because the server does."""
        if self._answer is not None:
            self._end()
            self._out += wire.reply(self._id, "done", {"closing": True})
        self._send()

    def _begin(self) -> None:
        """Begin to answer the next request."""
        line = self._lines.pop()
        self._id = b"null"
        try:
            if line is None:
                self._idle = True
                self._check_rest()
                return
            frame = wire.parse(line)
            self._id = wire.id_of(frame)
            asked = wire.request_of(frame)
            self._answer = self._handle(asked.verb, asked.args)
        except BrokenFrame as refusal:
            self._ended = True
            self._lines.clear()
            self._refuse(refusal)
        except Refusal as refusal:
            self._refuse(refusal)
        except Exception as error:  # noqa: BLE001  a fault of ours is told to us, and harms no other client
            self._fail(error)

    def _check_rest(self) -> None:
        if not self._lines.room:
            raise BrokenFrame("TooLong", f"a frame has at most {wire.LONGEST_FRAME} bytes", "send several requests")
        if self._ended and self._lines:
            raise BrokenFrame("NotJson", "the frame has no end", "end each with a newline")

    def _advance(self, answer: Answer) -> None:
        try:
            self._out += self._next_frame(answer)
        except Refusal as refusal:
            self._end()
            self._refuse(refusal)
        except Exception as error:  # noqa: BLE001  likewise
            self._end()
            self._fail(error)

    def _next_frame(self, answer: Answer) -> bytes:
        try:
            value = next(answer)
        except StopIteration as end:
            self._answer = None
            return wire.reply(self._id, "done", end.value or {})
        if value is None:
            self.waits = True
        if not value:
            return b""
        return wire.reply(self._id, "item", value)

    def _end(self) -> None:
        answer, self._answer = self._answer, None
        self.waits = False
        if answer is not None:
            try:
                answer.close()
            except Exception as error:  # noqa: BLE001  likewise
                self._report(error)

    def _fail(self, error: Exception) -> None:
        self._report(error)
        self._refuse(Refusal("Internal", "the controller failed at this request", "see its log"))

    def _refuse(self, refusal: Refusal) -> None:
        self._out += wire.error(self._id, refusal)

    def _send(self) -> None:
        try:
            while self._out:
                del self._out[: self.peer.send(self._out, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            return
        except OSError:
            self.over = True
            return
        self.over = self.over or (self._ended and self._idle)
