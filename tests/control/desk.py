"""A control socket with a few verbs, and clients that speak to it byte by byte."""

import json
import select
from contextlib import suppress

from processes import PATIENCE

from reconciler.control.address import connect, open_listener
from reconciler.control.server import Server
from reconciler.control.wire import Refusal


def frame(verb, /, **members):
    """The bytes of a request; `args`, `id` and whatever else by name."""
    return json.dumps({"v": 1, "verb": verb} | members).encode() + b"\n"


class Desk:
    """A server in this process, which runs only while somebody here waits for something."""

    def __init__(self, directory):
        self.directory = str(directory)
        self.errors = []
        self.closed = []
        self.made = 0
        self.news = []
        self.server = Server(open_listener(self.directory), self.handle, self.errors.append)
        self._poller = select.poll()
        self._poller.register(self.server.fileno(), select.POLLIN)
        self._clients = []

    def handle(self, verb, args):
        """The closed table of verbs."""
        verbs = {
            "echo": self.echo,
            "count": self.count,
            "raw": self.raw,
            "follow": self.follow,
            "fail": self.fail,
            "big": self.big,
            "odd": self.odd,
        }
        if verb not in verbs:
            raise Refusal("UnknownVerb", f"there is no verb {verb[:50]!r}", "try echo")
        return verbs[verb](**args)

    def echo(self, /, **args):
        """End with the arguments."""
        return args
        yield

    def count(self, to=3):
        """Yield so many items, and count how many were asked for."""
        if type(to) is not int:
            raise Refusal("BadArgument", "to is no number")
        try:
            for number in range(to):
                self.made += 1
                yield {"number": number, "padding": "x" * 1000}
        finally:
            self.closed.append("count")

    def raw(self):
        """Yield JSON that is made already."""
        yield b'{"made":"already"}'

    def follow(self):
        """Yield what becomes news, until "end"."""
        seen = 0
        try:
            while True:
                while seen < len(self.news):
                    seen += 1
                    if self.news[seen - 1] == "end":
                        return {"seen": seen}
                    yield {"news": self.news[seen - 1]}
                yield None
        finally:
            self.closed.append("follow")

    def fail(self, late=False):
        """Fail at once, or after an item."""
        if late:
            yield {"good": "so far"}
        raise RuntimeError("a fault of ours")

    def big(self, size=70000, last=False):
        """Yield, or end with, more than a frame holds."""
        if last:
            return {"big": "x" * size}
        yield {"big": "x" * size}

    def odd(self):
        """Yield what is no JSON."""
        yield {"odd": object()}

    def client(self):
        """A connected socket."""
        connection = connect(self.directory)
        self._clients.append(connection)
        return connection

    def pump(self):
        """Serve until nothing is left to do."""
        while self._poller.poll(0):
            self.server.pump()

    def receive(self, client):
        """What a client gets next, b"" when it was hung up on; the server runs meanwhile."""
        while True:
            try:
                return client.recv(1 << 16)
            except BlockingIOError:
                poller = select.poll()
                poller.register(client, select.POLLIN)
                poller.register(self.server.fileno(), select.POLLIN)
                assert poller.poll(PATIENCE * 1000), "nothing comes"
                self.server.pump()
            except ConnectionResetError:
                return b""

    def send(self, client, data):
        """Send all of it; the server runs meanwhile."""
        while data:
            try:
                data = data[client.send(data) :]
            except BlockingIOError:
                self.pump()

    def answer(self, client):
        """The frames of one answer."""
        frames, data = [], b""
        while not frames or "item" in frames[-1]:
            while b"\n" not in data:
                more = self.receive(client)
                assert more, f"hung up after {frames}, {data!r}"
                data += more
            line, _, data = data.partition(b"\n")
            frames.append(json.loads(line))
        assert data == b""
        return frames

    def ask(self, data):
        """What a new client is answered."""
        with self.client() as client:
            self.send(client, data)
            return self.answer(client)

    def code(self, data):
        """The code by which a new client is refused."""
        return self.ask(data)[-1]["error"]["code"]

    def everything(self, client):
        """All frames until it is hung up on."""
        data = b""
        while more := self.receive(client):
            data += more
        return [json.loads(line) for line in data.splitlines()]

    def close(self):
        """End it all."""
        self.server.close()
        for client in self._clients:
            with suppress(OSError):
                client.close()
