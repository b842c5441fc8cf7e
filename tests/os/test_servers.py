"""The examples of servers, as their users run them: asked over HTTP while their workers die and are replaced."""

import contextlib
import http.client
import importlib.util
import os
import re
import signal
import socket
from pathlib import Path

import pytest
from fleet import Fleet
from processes import PATIENCE, ROOT, alive, dead

pytestmark = pytest.mark.os

EXAMPLES = ROOT / "docs/samples/servers"

NEEDS = {"granian_server": "granian", "gunicorn_server": "gunicorn", "uvicorn_server": "uvicorn"}
"""What an example needs that the project itself does not."""

FORGETFUL = ("granian_server",)
"""Servers that at a stop close connections which they have accepted and not read; their clients must ask again."""

KEYS = ("0", "1")


class Client(http.client.HTTPConnection):
    """One connection to an address as `--listen` takes it."""

    def __init__(self, address):
        super().__init__("localhost", timeout=PATIENCE)
        self.address = address

    def connect(self):
        """Connect, to a Unix socket too."""
        if self.address.startswith("unix:"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(PATIENCE)
            self.sock.connect(self.address.removeprefix("unix:"))
        else:
            host, _, port = self.address.rpartition(":")
            self.sock = socket.create_connection((host, int(port)), PATIENCE)


def who(line):
    """Key and pid of who gave an answer."""
    return re.fullmatch(r"key=(\d+) pid=(\d+)\n", line.decode()).groups()


def ask(address, body=None):
    """The key and the pid of who answers a request of its own connection."""
    with contextlib.closing(Client(address)) as client:
        client.request("GET" if body is None else "POST", "/", body)
        response = client.getresponse()
        key, pid = who(response.readline())

        assert response.status == 200
        assert response.read() == (body or b"")
        return key, int(pid)


def ask_at_a_stop(example, address):
    """`ask` while workers end."""
    while True:
        try:
            return ask(address)
        except (http.client.RemoteDisconnected, ConnectionResetError):
            if example not in FORGETFUL:
                raise


class Slow:
    """A request that is answered so far that it is known by whom; the rest waits for the rest of the request."""

    REST = b"the rest"

    def __init__(self, address):
        client = Client(address)
        client.putrequest("POST", "/")
        client.putheader("Content-Length", str(len(self.REST)))
        client.endheaders()
        self._socket = client.sock.dup()  # the client lets go of it once it has the head of the answer
        self._response = client.getresponse()
        key, pid = who(self._response.readline())
        self.key, self.pid = key, int(pid)

    def finish(self):
        """Send the rest of the request; the rest of its answer."""
        self._socket.sendall(self.REST)
        self._socket.close()
        with self._response:
            return self._response.read()


def stopped(pid):
    """Whether all threads of a process have stopped, which they do one after the other."""
    threads = [Path(f"/proc/{pid}/task/{thread}/stat").read_text() for thread in os.listdir(f"/proc/{pid}/task")]
    return all(text.rpartition(")")[2].split()[0] == "T" for text in threads)


@contextlib.contextmanager
def paused(pid):
    """Have a worker do nothing for a while, so that only the others can answer."""
    os.kill(pid, signal.SIGSTOP)
    while not stopped(pid):
        os.sched_yield()  # a few µs; nobody but its parent could wait for it
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture(
    params=["accept", "asyncio_server", "granian_server", "gunicorn_server", "http_server", "uvicorn_server"]
)
def example(request):
    """The name of an example whose packages are installed."""
    needed = NEEDS.get(request.param)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed")
    return request.param


@pytest.fixture
def address():
    """A TCP address that nobody else takes meanwhile: it is bound here, and free for who listens."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


def running(example, address):
    """An example that runs with two workers."""
    return Fleet(None, "--listen", address, "--workers", "2", program=(str(EXAMPLES / f"{example}.py"),))


def ready(fleet):
    """Wait until both workers serve; the pid of each by its key."""
    return dict(zip(KEYS, fleet.ready(*KEYS), strict=True))


def test_each_worker_answers(example, address):
    """Both workers answer on the one socket, a killed one comes back with its key, and in the end the port is free."""
    with running(example, address) as fleet:
        pids = ready(fleet)
        key, pid = ask(address, b"x" * 100_000)
        assert pids[key] == pid
        with paused(pid):
            other, its_pid = ask(address)
            assert (other, its_pid) == next(item for item in pids.items() if item[0] != key)

        os.kill(pid, signal.SIGKILL)
        assert fleet.wait("worker.exited", key=key)["signal"] == "KILL"
        back = fleet.wait("worker.ready", key=key)["pid"]
        with paused(its_pid):
            assert ask(address) == (key, back)
        fleet.end()

        assert back != pid
        assert not alive(its_pid)
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        pass


def test_unix_socket(example, tmp_path):
    """Both workers answer on a Unix socket too, which stays while they are replaced, and is removed in the end."""
    path = tmp_path / "web.sock"
    with running(example, f"unix:{path}") as fleet:
        pids = ready(fleet)
        key, pid = ask(f"unix:{path}")
        assert pids[key] == pid
        with paused(pid):
            assert ask(f"unix:{path}")[0] != key
        fleet.wait("controller.converged")
        fleet.signal("HUP")
        fleet.wait("controller.converged")
        assert ask(f"unix:{path}")[1] not in pids.values()
        fleet.end()

    assert os.listdir(tmp_path) == []


def test_term_to_a_worker(example, address):
    """A worker that is asked to end answers the request that it holds, and then ends well; others answer meanwhile."""
    with running(example, address) as fleet:
        pids = ready(fleet)
        slow = Slow(address)
        os.kill(slow.pid, signal.SIGTERM)
        answered = [ask_at_a_stop(example, address) for _ in range(20)]

        assert slow.finish() == Slow.REST
        assert set(answered) <= set(pids.items())
        exited = fleet.wait("worker.exited", key=slow.key)
        assert exited["pid"] == slow.pid
        assert exited["exit_code"] == 0
        assert fleet.wait("worker.ready", key=slow.key)["pid"] != slow.pid


def test_replacement(example, address):
    """HUP replaces both workers without a request that fails; what one of them holds it answers before it ends."""
    with running(example, address) as fleet:
        pids = ready(fleet)
        fleet.wait("controller.converged")
        slow = Slow(address)
        fleet.signal("HUP")
        fleet.wait("worker.stopping", key=slow.key, pid=slow.pid)
        for _ in range(20):
            ask_at_a_stop(example, address)

        assert slow.finish() == Slow.REST
        while not fleet.all("controller.converged")[1:]:
            ask_at_a_stop(example, address)
            fleet.quiet(0.001)
        assert ask(address)[1] not in pids.values()
        assert {told["exit_code"] for told in fleet.all("worker.exited")} == {0}
        assert {told["expected"] for told in fleet.all("worker.exited")} == {True}


def test_master_stops(example, address):
    """A master that is asked to stop lets its workers answer what they hold, and ends after them."""
    with running(example, address) as fleet:
        ready(fleet)
        slow = Slow(address)
        fleet.signal("TERM")
        fleet.wait("worker.stopping", pid=slow.pid)

        assert slow.finish() == Slow.REST
        fleet.over()
        assert [told["exit_code"] for told in fleet.all("worker.exited")] == [0, 0]


def test_master_dies(example, address):
    """Workers whose master was killed answer what they hold and end by themselves, so that the port is free."""
    with running(example, address) as fleet:
        pids = ready(fleet)
        slow = Slow(address)
        fleet.process.kill()

        assert slow.finish() == Slow.REST
        fleet.process.wait(PATIENCE)
        for pid in pids.values():
            with contextlib.suppress(ProcessLookupError):  # it is gone, and nobody waits for it
                dead(pid)
    host, _, port = address.rpartition(":")
    with socket.create_server((host, int(port))):
        pass
