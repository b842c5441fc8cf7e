"""A load on a server: clients that ask at a steady rate, and an exact account of what became of each request.

    python tests/bench/load.py 127.0.0.1:8000 --keep-alive 8 --fresh 8 --rate 300

Rule: each request is counted once, as ok or by what went wrong. A client behaves as browsers and proxies do, no better:
it sees that the server closed an idle connection before it writes, and takes a new one; and when a connection that had
served before is closed without a byte of an answer, it asks once more on a new one, as RFC 9112, 9.3.1 allows for GET.
This last is counted as `retried`. On a connection of its own there is no second try.

A name on stdin, a line, begins a stretch of that name, and is answered by that line. The end of stdin ends the load,
and what was counted is printed as one line of JSON: for each kind of client the stretches, and `all`.
"""

import argparse
import asyncio
import collections
import errno
import json
import os
import random
import socket
import sys
import time
from typing import Any

import attrs

FAILURES = ("refused", "reset", "cut", "timeout", "status", "body")
"""No connection was to be had; closed before any byte of an answer; closed in the middle of one; too late; not 200; not
the answer of this application."""

MOST_TIMES = 200_000
"""Latencies that are kept of a stretch: beyond it, a random choice of them."""


class Failure(Exception):  # noqa: N818  it is what is counted, by the words above
    """A request failed; the kind is its only argument."""

    @property
    def kind(self) -> str:
        """One of FAILURES."""
        return str(self.args[0])


class Tally:
    """What became of some requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.retried = 0
        self.reopened = 0
        self.failed: collections.Counter[str] = collections.Counter()
        self.times: list[float] = []
        self.slowest = 0.0

    def count(self, seconds: float, kind: str | None, *, retried: bool) -> None:
        """One request more: how long it took, how it failed if it did, and whether it needed a second try."""
        self.requests += 1
        self.retried += retried
        self.slowest = max(self.slowest, seconds)
        if kind is not None:
            self.failed[kind] += 1
        if len(self.times) < MOST_TIMES:
            self.times.append(seconds)
        elif (place := random.randrange(self.requests)) < MOST_TIMES:
            self.times[place] = seconds

    def told(self) -> dict[str, Any]:
        """As JSON has it; times in milliseconds."""
        times = sorted(self.times)
        return {
            "requests": self.requests,
            "failed": sum(self.failed.values()),
            "failures": dict(self.failed),
            "retried": self.retried,
            "reopened": self.reopened,
            "p50": _share(times, 0.5),
            "p99": _share(times, 0.99),
            "max": round(self.slowest * 1000, 2),
        }


def _share(times: list[float], share: float) -> float:
    """The latency that this share of requests kept to, in milliseconds."""
    return round(times[min(int(len(times) * share), len(times) - 1)] * 1000, 2) if times else 0.0


@attrs.frozen
class Question:
    """What is asked, where, and what the body of the answer begins with. Times are in seconds."""

    family: int
    where: Any
    request: bytes
    expected: bytes
    timeout: float

    def as_last(self) -> bytes:
        """The request of a client that wants no more of this connection."""
        return self.request.removesuffix(b"\r\n") + b"Connection: close\r\n\r\n"

    @classmethod
    def to(cls, address: str, path: str, expected: str, timeout: float) -> "Question":
        """The question for an address, as `host:port` or `unix:/path`."""
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        if address.startswith("unix:"):
            return cls(socket.AF_UNIX, address.removeprefix("unix:"), request, expected.encode(), timeout)
        host, _, port = address.rpartition(":")
        return cls(socket.AF_INET, (host, int(port)), request, expected.encode(), timeout)


class Client:
    """One client. With `keep_alive` it goes on with the connection that it has, as long as the server keeps it."""

    def __init__(self, question: Question, *, keep_alive: bool) -> None:
        self._question, self._keep_alive = question, keep_alive
        self._request = question.request if keep_alive else question.as_last()
        self._socket: socket.socket | None = None

    async def ask(self, tally: Tally) -> bool:
        """One request; whether it took a second try. Raises Failure."""
        reused = self._socket is not None
        if reused and self._is_closed():
            self._close()
            tally.reopened += 1
            reused = False
        try:
            async with asyncio.timeout(self._question.timeout):
                try:
                    await self._try()
                except Failure as failure:
                    if not reused or failure.kind != "reset":
                        raise
                    await self._try()
                    return True
        except TimeoutError:
            self._close()
            raise Failure("timeout") from None
        return False

    def _is_closed(self) -> bool:
        """Whether the server has closed the idle connection, as far as is known here."""
        assert self._socket is not None
        try:
            self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True  # the end of it, or bytes that nobody asked for

    async def _try(self) -> None:
        loop = asyncio.get_running_loop()
        if self._socket is None:
            self._socket = await self._connect(loop)
        answered = False
        try:
            await loop.sock_sendall(self._socket, self._request)
            answer = b""
            while (rest := _missing(answer)) is None or rest > 0:
                some = await loop.sock_recv(self._socket, 65536)
                if not some:
                    raise ConnectionResetError
                answer, answered = answer + some, True
        except OSError:
            self._close()
            raise Failure("cut" if answered else "reset") from None
        head, _, body = answer.partition(b"\r\n\r\n")
        if not self._keep_alive or b"\r\nconnection: close" in head.lower():
            self._close()
        if head[9:12] != b"200":
            raise Failure("status")
        if self._question.expected not in body:
            raise Failure("body")

    async def _connect(self, loop: asyncio.AbstractEventLoop) -> socket.socket:
        made = socket.socket(self._question.family, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            await loop.sock_connect(made, self._question.where)
        except OSError as error:
            made.close()
            # A Unix socket's full backlog, and a host that has no more ports, are the server's failure to take it, too.
            refused = error.errno in (errno.ECONNREFUSED, errno.ENOENT, errno.EAGAIN, errno.EADDRNOTAVAIL)
            raise Failure("refused" if refused else "reset") from None
        except BaseException:
            made.close()
            raise
        if self._question.family == socket.AF_INET:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return made

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _missing(answer: bytes) -> int | None:
    """How many bytes are missing of an answer; None while nobody can know, and at least 1 while chunks are to come."""
    head, parted, body = answer.partition(b"\r\n\r\n")
    if not parted:
        return None
    lower = head.lower()
    _, sized, rest = lower.partition(b"\r\ncontent-length:")
    if sized:
        return int(rest.partition(b"\r\n")[0]) - len(body)
    if b"\r\ntransfer-encoding: chunked" in lower:
        return 0 if body.endswith(b"0\r\n\r\n") else 1
    return 1  # until the connection's end, which this load takes for a cut: its applications tell their length


class Load:
    """All clients, and what they counted, by kind of client and by stretch."""

    def __init__(self, question: Question) -> None:
        self._question = question
        self._stretch = "start"
        self._ending = asyncio.Event()
        self._tallies: dict[tuple[str, str], Tally] = {}

    def begin(self, stretch: str) -> None:
        """Count what is answered from now on for this stretch."""
        self._stretch = stretch

    def end(self) -> None:
        """Have each client finish the request that it is at."""
        self._ending.set()

    async def run(self, counts: dict[str, int], rate: float) -> dict[str, Any]:
        """Let so many clients of each kind ask, `rate` requests a second altogether. What they counted."""
        pause = sum(counts.values()) / rate
        async with asyncio.TaskGroup() as clients:
            for kind, count in counts.items():
                for _ in range(count):
                    clients.create_task(self._ask_and_ask(kind, pause))
        return {
            kind: {name: tally.told() for (of, name), tally in self._tallies.items() if of == kind} for kind in counts
        }

    async def _ask_and_ask(self, kind: str, pause: float) -> None:
        """One client: it asks every `pause` seconds, and leaves out what it is too late for."""
        client = Client(self._question, keep_alive=kind == "keep-alive")
        due = time.monotonic() + random.random() * pause
        while not await self._ends_before(due):
            begun = time.monotonic()
            failed, retried = None, False
            account = self._tally(kind, "all")
            try:
                retried = await client.ask(account)
            except Failure as failure:
                failed = failure.kind
            took = time.monotonic() - begun
            for stretch in ("all", self._stretch):
                self._tally(kind, stretch).count(took, failed, retried=retried)
            due = max(due + pause, time.monotonic())

    def _tally(self, kind: str, stretch: str) -> Tally:
        return self._tallies.setdefault((kind, stretch), Tally())

    async def _ends_before(self, due: float) -> bool:
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + due - time.monotonic()):
                await self._ending.wait()
        except TimeoutError:
            return False
        return True


async def _follow(load: Load) -> None:
    """Read the names of stretches, and the end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        load.begin(line.decode().strip())
        os.write(1, line)
    load.end()


async def _main(options: argparse.Namespace) -> None:
    load = Load(Question.to(options.address, options.path, options.expect, options.timeout))
    following = asyncio.create_task(_follow(load))
    told = await load.run({"keep-alive": options.keep_alive, "fresh": options.fresh}, options.rate)
    await following
    print(json.dumps(told), flush=True)


def main() -> None:
    """Ask until stdin ends."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="host:port or unix:/path")
    parser.add_argument("--path", default="/")
    parser.add_argument("--expect", default="hello", help="what the body of each answer must hold")
    parser.add_argument("--keep-alive", type=int, default=8, help="clients that keep their connection")
    parser.add_argument("--fresh", type=int, default=8, help="clients with a new connection for each request")
    parser.add_argument("--rate", type=float, default=360, help="requests a second, altogether")
    parser.add_argument("--timeout", type=float, default=10, help="seconds for a request")
    asyncio.run(_main(parser.parse_args()))


if __name__ == "__main__":
    main()
