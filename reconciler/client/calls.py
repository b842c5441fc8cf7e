"""Requests and answers over the control socket, as plain data: what `Client` and `AsyncClient` are made from.

Rule: nothing is sent twice. Where the controller goes away after a request was sent, whether that was carried out is
unknown, and the caller is told so.
"""

import json
import select
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple, Self

from reconciler.control import wire
from reconciler.control.address import connect
from reconciler.control.wire import Lines

_TIMEOUT = 10.0


class ClientError(Exception):
    """No answer, or not the one that was hoped for."""


class NoController(ClientError):  # noqa: N818  a state of the world
    """Nobody listens in this state directory, or nobody who can be reached."""

    def __init__(self, directory: str, reason: str) -> None:
        super().__init__(f"no controller answers in {directory}: {reason}")
        self.directory = directory


class NoAnswer(ClientError):  # noqa: N818  likewise
    """The controller went away or kept silent after it was asked. Whether the request was carried out is unknown."""


class Refused(ClientError):  # noqa: N818  likewise
    """The controller will not carry out the request: a code for programs, a message and perhaps a hint for people."""

    def __init__(self, code: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint


class Calls:
    """Asks the controller of a state directory. Not to be shared by threads.

    `timeout` is how many seconds it may keep silent while we wait for it; None waits for ever, as a stream that follows
    changes should. A connection is made at the first request and kept for the next ones; one whose answer was not read
    to its end is closed.

    Each request may raise NoController, NoAnswer or Refused; and ValueError or TypeError where the arguments cannot be
    sent.
    """

    def __init__(self, state_dir: str, timeout: float | None = _TIMEOUT) -> None:
        self._keeper = _Keeper(state_dir)
        self._timeout = timeout

    def call(self, verb: str, /, **args: Any) -> dict[str, Any]:
        """Have a verb carried out, and return what ended its answer. Items that came before are left out."""
        with self._asked(verb, args) as link:
            while not (frame := self._next(link)).last:
                pass
            return frame.value

    def stream(self, verb: str, /, **args: Any) -> Iterator[dict[str, Any]]:
        """Have a verb carried out, and yield the items of its answer as they come. Other requests may be made
        meanwhile.
        """
        with self._asked(verb, args) as link:
            while not (frame := self._next(link)).last:
                yield frame.value

    def follow(self, verb: str, pause: float, /, **args: Any) -> Iterator[dict[str, Any] | None]:
        """As `stream`, but whenever nothing came for `pause` seconds, None. It waits for ever."""
        with self._asked(verb, args) as link:
            link.socket.settimeout(pause)
            while True:
                try:
                    frame = self._received(link)
                except TimeoutError:
                    yield None
                    continue
                if frame.last:
                    return
                yield frame.value

    def close(self) -> None:
        """Hang up. The next request connects again."""
        self._keeper.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _asked(self, verb: str, args: dict[str, Any]) -> Iterator["_Link"]:
        request = wire.request(verb, args)
        with self._keeper.lent() as link:
            link.socket.settimeout(self._timeout)
            try:
                link.socket.sendall(request)
            except TimeoutError:
                raise link.silent(self._timeout) from None
            except OSError:
                pass  # turned away; it may have been told why
            yield link

    def _next(self, link: "_Link") -> "_Frame":
        try:
            return self._received(link)
        except TimeoutError:
            raise link.silent(self._timeout) from None

    def _received(self, link: "_Link") -> "_Frame":
        while (frame := link.next()) is None:
            try:
                data = link.socket.recv(link.room)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            link.take(data)
        return frame


class AsyncCalls:
    """What `Calls` is, for asyncio. Several tasks may share it."""

    def __init__(self, state_dir: str, timeout: float | None = _TIMEOUT) -> None:
        self._keeper = _Keeper(state_dir)
        self._timeout = timeout

    async def call(self, verb: str, /, **args: Any) -> dict[str, Any]:
        """As with `Calls`."""
        async with self._asked(verb, args) as link:
            while not (frame := await self._next(link)).last:
                pass
            return frame.value

    async def stream(self, verb: str, /, **args: Any) -> AsyncIterator[dict[str, Any]]:
        """As with `Calls`."""
        async with self._asked(verb, args) as link:
            while not (frame := await self._next(link)).last:
                yield frame.value

    async def close(self) -> None:
        """As with `Calls`."""
        self._keeper.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @asynccontextmanager
    async def _asked(self, verb: str, args: dict[str, Any]) -> AsyncIterator["_Link"]:
        import asyncio  # noqa: PLC0415  the other client does without it

        request = wire.request(verb, args)
        with self._keeper.lent() as link:
            try:
                async with asyncio.timeout(self._timeout):
                    await asyncio.get_running_loop().sock_sendall(link.socket, request)
            except TimeoutError:
                raise link.silent(self._timeout) from None
            except OSError:
                pass  # likewise
            yield link

    async def _next(self, link: "_Link") -> "_Frame":
        import asyncio  # noqa: PLC0415  likewise

        while (frame := link.next()) is None:
            try:
                async with asyncio.timeout(self._timeout):
                    data = await asyncio.get_running_loop().sock_recv(link.socket, link.room)
            except TimeoutError:
                raise link.silent(self._timeout) from None
            except OSError:
                data = b""
            link.take(data)
        return frame


class _Frame(NamedTuple):
    value: dict[str, Any]
    last: bool


class _Link:
    """A connection to the controller, and what came over it. What is waited for, and how, is left to the clients."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lines = Lines()
        self.answered = False
        try:
            self.socket = connect(directory)
        except BlockingIOError:
            raise NoController(directory, "it does not let anybody in; is it stopped?") from None
        except OSError as error:
            raise NoController(directory, error.strerror or str(error)) from error

    @property
    def room(self) -> int:
        """Bytes to be received at most."""
        return self._lines.room

    @property
    def usable(self) -> bool:
        """Whether it can be used for another request. What is readable by now is the end of it."""
        poller = select.poll()
        poller.register(self.socket, select.POLLIN)
        return not poller.poll(0)

    def take(self, data: bytes) -> None:
        """Take what was received; nothing is the end."""
        if not data:
            raise NoAnswer(f"the controller in {self._directory} hung up; whether it did as told is unknown")
        self._lines.feed(data)

    def next(self) -> _Frame | None:
        """The next frame of the answer, if it is there."""
        line = self._lines.pop()
        if line is None and self._lines.room:
            return None
        try:
            frame = json.loads(line or b"")
            if error := frame.get("error"):
                self.answered = True
                raise Refused(error["code"], error["message"], error.get("hint", ""))
            self.answered = "done" in frame
            return _Frame(frame["done" if self.answered else "item"], self.answered)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise NoAnswer(f"what listens in {self._directory} speaks another protocol") from None

    def silent(self, timeout: float | None) -> NoAnswer:
        """The error to be raised when it kept silent for so long."""
        return NoAnswer(f"the controller in {self._directory} kept silent for {timeout:g} s; what it did is unknown")


class _Keeper:
    """Lends connections, and keeps one that came back for the next request."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._kept: _Link | None = None

    @contextmanager
    def lent(self) -> Iterator[_Link]:
        """A connection for one request. Where that was not answered to the end, it is closed after it."""
        link, self._kept = self._kept, None
        if link is not None and not link.usable:
            link.socket.close()
            link = None
        link = link or _Link(self._directory)
        link.answered = False
        try:
            yield link
        finally:
            if link.answered and self._kept is None:
                self._kept = link
            else:
                link.socket.close()

    def close(self) -> None:
        """Close what is kept."""
        kept, self._kept = self._kept, None
        if kept is not None:
            kept.socket.close()
