"""Twenty thousand frames that nobody should send, in ways in which nobody should send them."""

import gc
import json
import random
import socket

import pytest
from control.desk import Desk, frame
from processes import descriptors

from reconciler.control.server import MOST_CLIENTS

pytestmark = pytest.mark.os

FRAMES = 20_000

VALID = [
    frame("echo", id=1, args={"a": "ü", "b": [1, 2.5, None, True], "c": {"d": "\n"}}),
    frame("count", id="x", args={"to": 40}),
    frame("count", args={"to": 10**9}),
    frame("follow"),
    frame("raw"),
    frame("big"),
    frame("fail", args={"late": True}),
    frame("odd"),
    frame("nothing"),
]
PIECES = [
    b'{"v":1,',
    b'"verb":',
    b'"args":{',
    b"}",
    b"[",
    b"\\ud800",
    b"\n",
    b"\0",
    b"\xff",
    b"1e999",
    b"NaN",
    b'"',
    b":",
]


class Fuzzer:
    """Clients that behave badly, each in its own way, by a seed."""

    def __init__(self, desk, seed, most):
        self.desk = desk
        self.random = random.Random(seed)
        self.most = most
        self.clients = []
        self.sent = 0

    def data(self):
        """A frame of some kind."""
        kind = self.random.randrange(5)
        if kind == 0:
            return self.random.randbytes(self.random.randrange(300)) + b"\n"
        if kind == 1:
            return b"".join(self.random.choices(PIECES, k=self.random.randrange(20))) + b"\n"
        if kind == 2 and self.random.random() < 0.05:
            return self.random.choice([b"[", b"9", b" ", b'{"a":', b"x"]) * self.random.randrange(70000) + b"\n"
        data = bytearray(self.random.choice(VALID))
        if kind != 3:
            for _ in range(self.random.randrange(1, 4)):
                place = self.random.randrange(len(data))
                data[place : place + self.random.randrange(3)] = self.random.randbytes(self.random.randrange(3))
        return bytes(data)

    def step(self):
        """Let a client, perhaps a new one, send a frame, and do something else to it perhaps."""
        if not self.clients or (len(self.clients) < self.most and self.random.random() < 0.3):
            self.clients.append(self.desk.client())
        client = self.random.choice(self.clients)
        data = self.data()
        cuts = sorted(self.random.randrange(len(data) + 1) for _ in range(self.random.randrange(3)))
        try:
            for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True):
                client.send(data[start:end])
                self.desk.server.pump()
            self.sent += 1
            self.misbehave(client)
        except BlockingIOError:
            pass  # it does not read, and so is not read from
        except OSError:  # it was hung up on
            self.leave(client)

    def leave(self, client):
        """Close a client, whatever it has under way."""
        self.clients.remove(client)
        client.close()

    def misbehave(self, client):
        """Read, or half-close, or go, or do nothing of that."""
        chance = self.random.random()
        if chance < 0.3:
            client.recv(self.random.randrange(1, 1 << 18))
        elif chance < 0.35:
            client.shutdown(self.random.choice([socket.SHUT_WR, socket.SHUT_RD, socket.SHUT_RDWR]))
        elif chance < 0.5:
            self.leave(client)
        elif chance < 0.55:
            self.desk.news.append("news")
            self.desk.server.nudge()


@pytest.mark.parametrize(("seed", "most"), [(1, 50), (2, 50), (3, MOST_CLIENTS + 20), (4, 5)])
def test_nothing_breaks_the_server(tmp_path, seed, most):
    """Whatever clients send and however they do it, a good client is served all the while, and nothing is left over."""
    before = descriptors()
    desk = Desk(tmp_path)
    good = frame("echo", id=1)
    fuzzer = Fuzzer(desk, seed, most)
    while fuzzer.sent < FRAMES // 4:
        fuzzer.step()
        if fuzzer.sent % 50 == 0:
            (told,) = desk.ask(good)
            assert told == {"id": 1, "done": {}} or (most > MOST_CLIENTS and told["error"]["code"] == "Busy")
    for client in fuzzer.clients:
        client.close()
    desk.pump()
    assert desk.ask(good) == [{"id": 1, "done": {}}]
    assert {type(error) for error in desk.errors} <= {RuntimeError, TypeError, OverflowError}
    desk.pump()
    assert desk.server._clients == {}
    desk.close()
    fuzzer.clients.clear()
    gc.collect()
    assert descriptors() == before


def test_every_prefix(desk):
    """Of a good frame each proper prefix, half-closed, is refused, be it with an end of its own."""
    whole = frame("echo", id=1, args={"a": [1, {"b": "ü"}]})
    for length in range(1, len(whole) - 1):
        for end in (b"", b"\n"):
            with desk.client() as client:
                desk.send(client, whole[:length] + end)
                client.shutdown(socket.SHUT_WR)
                (told,) = desk.everything(client)
                assert told["error"]["code"] == "NotJson", json.dumps(told)
