"""Sockets that workers are handed, with real servers and real clients."""

import contextlib
import http.client
import os
import signal
import socket
import stat
import sys

import attrs
import pytest
from activation import run_activated
from processes import PATIENCE, observe

from reconciler.core.observation import Exited, Ready, SpawnFailed
from reconciler.core.serving import Socket
from reconciler.core.spec import Command, Key, SetSpec, WorkerSpec, expand
from reconciler.drivers.command import CommandDriver
from reconciler.listeners import Listeners

pytestmark = pytest.mark.os

HTTP = Socket(name="http", address="127.0.0.1:0")

SERVER = """if True:
    import os, socket, sys
    assert os.environ["LISTEN_PID"] == str(os.getpid())
    server = socket.socket(fileno=3)
    while True:
        peer, _ = server.accept()
        peer.sendall(sys.argv[1].encode())
        peer.close()
"""
"""A server that finds its socket as those for systemd do, and greets."""


@pytest.fixture
def driver():
    driver = CommandDriver()
    driver.sockets = Listeners({})
    yield driver
    for uid in tuple(driver.live()):
        driver.kill(uid)
    while driver.live():
        observe(driver, 1)
    driver.close()
    driver.sockets.close()


def start(driver, uid, key, command):
    """Start a worker; its process id."""
    driver.start(uid, key.name, WorkerSpec(key, "d", command))
    (answer,) = driver.poll()
    return answer.pid


def serve(*sockets, greeting="{key}", **fields):
    return Command(command=(sys.executable, "-c", SERVER, greeting), sockets=sockets, **fields)


def port(driver, one, key=Key(0, "web", 0)):  # noqa: B008
    values = {"name": key.name, "index": str(key.number), "key": str(key)}
    return int(driver.sockets.ports([one], values)[f"port:{one.name}"])


def greeting(number):
    with socket.create_connection(("127.0.0.1", number), PATIENCE) as client:
        client.settimeout(PATIENCE)
        return client.makefile().read()


APP = """
async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})
"""


def test_uvicorn(driver, tmp_path):
    """A server that takes a descriptor as an option needs no code of ours, and tells by its port where it is."""
    pytest.importorskip("uvicorn")
    (tmp_path / "hello.py").write_text(APP)
    command = Command(
        command=(sys.executable, "-m", "uvicorn", "--fd", "{fd:http}", "--lifespan", "off", "hello:app"),
        cwd=str(tmp_path),
        sockets=(HTTP,),
    )
    start(driver, "u1", Key(0, "web", 0), command)

    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port(driver, HTTP), PATIENCE)) as client:
        client.request("GET", "/")
        assert client.getresponse().read() == b"hello"


def test_connections_wait_for_the_next_worker(driver):
    """Connections that are made while no worker runs are answered by the next one, and none is refused."""
    start(driver, "u1", Key(0, "web", 0), serve(HTTP, greeting="first"))
    where = port(driver, HTTP)
    assert greeting(where) == "first"
    driver.kill("u1")
    observe(driver, 1)
    with socket.create_connection(("127.0.0.1", where), PATIENCE) as client:
        start(driver, "u2", Key(0, "web", 0), serve(HTTP, greeting="second"))
        client.settimeout(PATIENCE)

        assert client.makefile().read() == "second"


def test_two_sets_share(driver):
    """Two sets that name the same address have one socket, and a connection is answered by whichever runs."""
    one = HTTP
    start(driver, "u1", Key(0, "old", 0), serve(one))
    where = port(driver, one)
    assert greeting(where) == "old-0"
    start(driver, "u2", Key(0, "new", 0), serve(one))
    driver.kill("u1")
    observe(driver, 1)
    driver.sockets.keep([expand(SetSpec(name="new", command=("true",), sockets=(one,)))], [])

    assert greeting(where) == "new-0"


def test_one_for_each_worker(driver):
    """With a socket of its own each worker is asked by itself, at a port that it keeps over a restart."""
    each = attrs.evolve(HTTP, per_worker=True)
    keys = [Key(0, "web", number) for number in range(2)]
    for number, key in enumerate(keys):
        start(driver, f"u{number}", key, serve(each))
    ports = [port(driver, each, key) for key in keys]
    assert [greeting(where) for where in ports] == ["web-0", "web-1"]
    driver.kill("u0")
    observe(driver, 1)
    start(driver, "u2", keys[0], serve(each, greeting="again"))

    assert [greeting(where) for where in ports] == ["again", "web-1"]


def test_unix_socket(driver, tmp_path):
    """A worker answers at a path whose mode is the spec's."""
    path = tmp_path / "web.sock"
    start(driver, "u1", Key(0, "web", 0), serve(Socket(name="http", address=f"unix:{path}", mode="0620")))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))

        assert client.makefile().read() == "web-0"
    assert stat.S_IMODE(path.stat().st_mode) == 0o620


def test_datagrams(driver):
    """Datagrams that come while no worker runs wait for one, too."""
    one = Socket(name="dns", address="127.0.0.1:0", type="datagram")
    echo = "import socket; s = socket.socket(fileno=3); m, who = s.recvfrom(99); s.sendto(m.upper(), who)"
    command = Command(command=(sys.executable, "-c", echo), sockets=(one,))
    driver.sockets.take([one], {"key": ""})  # as for a worker that has ended
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.sendto(b"hello", ("127.0.0.1", port(driver, one)))
        driver.start("u1", "dns", WorkerSpec(Key(0, "dns", 0), "d", command))

        assert client.recv(99) == b"HELLO"


def test_address_in_use(driver):
    """While another process has the address, starts fail and say so; once it is free they succeed."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        where = other.getsockname()[1]
        command = serve(Socket(name="http", address=f"127.0.0.1:{where}"))
        driver.start("u1", "web", WorkerSpec(Key(0, "web", 0), "d", command))
        (answer,) = driver.poll()
        assert isinstance(answer, SpawnFailed)
        assert answer.stage == "socket"
        assert f"127.0.0.1:{where}" in answer.message
        start(driver, "u2", Key(0, "api", 0), serve(HTTP))
        assert greeting(port(driver, HTTP)) == "api-0"  # others go on
    start(driver, "u3", Key(0, "web", 0), command)

    assert greeting(where) == "web-0"


def test_activation(tmp_path):
    """What the controller itself was given reaches its workers by name, at their own descriptor."""
    script = """
        import os, socket, sys
        from processes import observe
        from reconciler.core.serving import Socket
        from reconciler.core.spec import Command, Key, WorkerSpec
        from reconciler.drivers.command import CommandDriver
        from reconciler.listeners import Listeners

        driver = CommandDriver()
        driver.sockets = Listeners()
        program = (
            "import os, socket; assert os.environ['LISTEN_FDNAMES'] == 'http'; "
            "socket.socket(fileno=3).accept()[0].sendall(os.environ['LISTEN_PID'].encode() + b' %d' % os.getpid())"
        )
        command = Command(command=(sys.executable, "-c", program), sockets=(Socket(name="http"),))
        driver.start("u1", "web", WorkerSpec(Key(0, "web", 0), "d", command))
        with socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10) as client:
            claimed, actual = client.makefile().read().split()
        print(claimed == actual, observe(driver, 2)[-1].exit_code)
    """
    with socket.create_server(("127.0.0.1", 0)) as log, socket.create_server(("127.0.0.1", 0)) as server:
        told = run_activated(script, {"log": log, "http": server}, server.getsockname()[1])

    assert told == "True 0\n"


def test_ready_beside_sockets(driver):
    """A worker that says by a descriptor that it can serve is heard, and its sockets are where they were promised."""
    program = SERVER.replace("while True", "os.write(7, b'ready' + bytes([10]))\n    while True")
    command = Command(command=(sys.executable, "-c", program, "hello"), sockets=(HTTP,), ready_fd=7)
    start(driver, "u1", Key(0, "web", 0), command)

    assert observe(driver, 1) == [Ready("u1")]
    assert greeting(port(driver, HTTP)) == "hello"


def test_a_stop_during_the_start(driver):
    """A worker that is stopped at once, perhaps before its own program runs, ends by the signal."""
    pid = start(driver, "u1", Key(0, "web", 0), serve(HTTP))
    driver.stop("u1", "TERM")

    assert observe(driver, 1) == [Exited("u1", signal="TERM")]
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
