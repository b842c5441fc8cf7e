"""Probes over sockets and of files, with real servers; those by commands are in test_errands."""

import errno
import os
import resource
import select
import socket
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from types import SimpleNamespace

import pytest
from drivers.probing import OK, answer, answers, ask, listening, refusal, settle, surroundings, taken, turn
from processes import PATIENCE, descriptors

from reconciler.core.observation import Probed
from reconciler.core.serving import HttpCheck
from reconciler.drivers import reach
from reconciler.drivers.prober import Prober
from reconciler.drivers.spawning import Spawner

pytestmark = pytest.mark.os

GOOD = Probed("u1", "readiness", success=True)


def bad(message):
    return Probed("u1", "readiness", success=False, message=message)


@pytest.fixture
def prober():
    """A prober that leaves nothing open behind."""
    before = descriptors()
    prober = Prober()
    yield prober
    prober.close()
    assert descriptors() == before


@pytest.fixture
def server():
    """A listener on a port of its own, and its address."""
    listener, address = listening()
    with listener:
        yield listener, address


@pytest.fixture
def many_files():
    """Room for a thousand descriptors and more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limits[1], 4096), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


# ------------------------------------------------------------------------------------------------------ connections


@pytest.mark.parametrize("way", ["tcp", "http"])
@pytest.mark.parametrize("family", ["v4", "v6", "unix", "long unix", "localhost", "localhost on v6"])
def test_where_can_be_asked(prober, tmp_path, monkeypatch, way, family):
    """A probe reaches TCP over IPv4 and IPv6, Unix sockets however long their path, and localhost, whichever it is."""
    if "unix" in family:
        place = tmp_path / ("x" * 150 if family == "long unix" else "s")
        place.mkdir()
        monkeypatch.chdir(place)
        listener, _ = listening("web.sock", socket.AF_UNIX)
        address = f"unix:{place}/web.sock"
    elif family.endswith("v6"):
        listener, address = listening(("::1", 0), socket.AF_INET6)
    else:
        listener, address = listening()
    if family.startswith("localhost"):
        address = f"localhost:{listener.getsockname()[1]}"

    with listener:
        ask(prober, **{way: address})
        while family == "localhost on v6" and not select.select([listener], [], [], 0)[0]:
            prober.poll()
        if way == "http":
            connection, _ = taken(prober, listener)
            with connection:
                connection.sendall(OK)
        assert answer(prober) == GOOD


def test_nobody_listens(prober, server):
    """Where nobody listens, the probe fails at once and says so."""
    listener, address = server
    listener.close()

    ask(prober, tcp=address)

    assert answer(prober) == bad(f"no connection to {address}: Connection refused")


def test_nobody_listens_on_localhost(prober, server):
    """For localhost to be refused, both of its addresses must."""
    listener, address = server
    listener.close()
    port = address.rpartition(":")[2]

    ask(prober, tcp=f"localhost:{port}")

    assert answer(prober) == bad(f"no connection to localhost:{port}: Connection refused")


def test_a_unix_socket_that_is_not_there(prober, tmp_path):
    """A Unix socket without a file, or without a directory, or with nobody behind it, is a failure that says so."""
    listening(str(tmp_path / "stale"), socket.AF_UNIX)[0].close()

    for path, reason in [("no", "No such file or directory"), ("stale", "Connection refused")]:
        ask(prober, tcp=f"unix:{tmp_path}/{path}")
        assert answer(prober) == bad(f"no connection to unix:{tmp_path}/{path}: {reason}")
    ask(prober, tcp=f"unix:{tmp_path}/no/where")
    assert answer(prober) == bad(f"{tmp_path}/no: No such file or directory")
    ask(prober, tcp=f"unix:{tmp_path}/{'x' * 120}")
    assert answer(prober) == bad("AF_UNIX path too long")


def test_a_relative_unix_socket(prober, tmp_path):
    """A relative path of a Unix socket is taken from the worker's directory."""
    with listening(str(tmp_path / "web.sock"), socket.AF_UNIX)[0]:
        ask(prober, tcp="unix:{name}.sock", around=surroundings(tmp_path))

        assert answer(prober) == GOOD


def test_a_full_unix_socket(prober, tmp_path):
    """A Unix socket whose queue is full fails at once, as there is nothing to wait for."""
    listener, address = listening(str(tmp_path / "s"), socket.AF_UNIX, backlog=0)
    with listener, ExitStack() as clients:
        full = False
        while not full:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            full = client.connect_ex(str(tmp_path / "s")) == errno.EAGAIN

        ask(prober, tcp=address)

        assert answer(prober) == bad(f"no connection to {address}: its queue of connections is full")


def test_a_full_tcp_socket(prober):
    """A TCP port that takes no connection, and refuses none, fails at the timeout."""
    listener, address = listening(backlog=0)
    with listener, ExitStack() as clients:
        for _ in range(4):
            client = clients.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())

        ask(prober, tcp=address, timeout=0.1)

        assert answer(prober) == bad("no answer within 0.1 s")


@pytest.mark.parametrize(
    "address", ["8000", ":8000", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", "::1:80", "/x", ""]
)
def test_what_is_no_address(prober, address):
    """What is no address fails with what an address is."""
    ask(prober, http=address)

    assert answer(prober) == bad(f"{address!r} is no address to ask; write host:port, [v6]:port or unix:/path")


@pytest.mark.parametrize("address", ["unix:", "unix:/", "unix:@abstract", "unix:a\0b"])
def test_what_is_no_unix_socket(prober, address):
    """What is no path of a Unix socket fails likewise."""
    ask(prober, tcp=address)

    assert answer(prober) == bad(f"{address!r} has no path of a file; write unix:/run/name.sock")


@pytest.mark.parametrize("host", ["example.org", "web-2", "[web]", "127.1", "[127.0.0.1]"])
def test_names_are_not_looked_up(prober, host):
    """A name that would have to be looked up fails, and says what to write instead."""
    ask(prober, tcp=f"{host}:80")

    assert "names are not looked up for a probe; write a numeric address, or localhost" in answer(prober).message


def test_a_connection_to_itself_is_none():
    """A client that the kernel connected to itself, since nobody listens there, is recognised."""
    with socket.socket() as client, listening()[0] as listener, socket.socket() as other:
        client.bind(("127.0.0.1", 0))
        client.connect(client.getsockname())
        other.connect(listener.getsockname())
        assert reach.is_connected_to_itself(client)
        assert not reach.is_connected_to_itself(other)


def test_placeholders(prober, server):
    """Placeholders stand in addresses, paths and headers, also the ports of sockets."""
    listener, address = server
    host, _, port = address.partition(":")
    check = HttpCheck(address=f"{host}:{{port:http}}", path="/{key}", headers={"X-Index": "{index}"})

    ask(prober, http=check, around=surroundings(values={"port:http": port}))
    connection, request = taken(prober, listener)

    with connection:
        assert request.startswith(b"GET /web-2 HTTP/1.1\r\nHost: " + address.encode())
        assert b"\r\nX-Index: 2\r\n" in request


def test_a_placeholder_without_a_value(prober):
    """A text that cannot be filled in is a failed probe, and no error."""
    ask(prober, tcp="127.0.0.1:{port:http}")

    assert answer(prober) == bad("KeyError: 'port:http'")


# ---------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (OK, ""),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", ""),
        (b"HTTP/1.1 500 Oh\r\n\r\n", "HTTP status 500"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 No\r\n\r\n", "HTTP status 404"),
        (b"220 mail ESMTP\r\n", "the answer is not HTTP/1: it begins with '220 mail ESMTP'"),
        (b"HTTP/1.1 200", "the connection was closed after 12 bytes, without an HTTP status"),
        (b"", "the connection was closed without an answer"),
    ],
)
def test_answers_of_a_server(prober, server, response, message):
    """A status from 200 to 399 is a success, anything else is none and says what came. Redirects are not followed."""
    listener, address = server
    ask(prober, http=address)
    connection, _ = taken(prober, listener)
    with connection:
        connection.sendall(response)

    assert answer(prober) == Probed("u1", "readiness", not message, message)


def test_a_reset_connection(prober, server):
    """A connection that is reset is a failure."""
    listener, address = server
    ask(prober, http=address)
    connection, _ = taken(prober, listener)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()

    assert answer(prober) == bad("no answer: Connection reset by peer")


def test_an_answer_byte_by_byte(prober, server):
    """An answer may come one byte at a time."""
    listener, address = server
    ask(prober, http=address)
    connection, _ = taken(prober, listener)
    seen = []
    with connection:
        for at in range(len(OK)):
            connection.sendall(OK[at : at + 1])
            while not seen and select.select([prober], [], [], 0)[0]:
                seen += prober.poll()
    seen = seen or answers(prober)

    assert seen == [GOOD]


def test_a_large_request(prober, server):
    """A request that is larger than what the socket takes at once goes out in pieces."""
    listener, address = server
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    ask(prober, http=HttpCheck(address=address, headers={"X-Large": "x" * 4_000_000}))
    connection, request = taken(prober, listener)
    with connection:
        connection.sendall(OK)

    assert len(request) > 4_000_000
    assert answer(prober) == GOOD


@pytest.mark.parametrize("unit", [b"X-Header: x\r\n" * 50, b"x" * 1000], ids=["headers", "body"])
def test_an_endless_answer(prober, server, unit):
    """An answer that does not end is good as soon as its status is, and is cut off after 64 KiB."""
    listener, address = server
    before = descriptors()
    ask(prober, http=address)
    connection, _ = taken(prober, listener)
    with connection:
        connection.sendall(b"HTTP/1.1 200 OK\r\n" + unit)
        assert answer(prober) == GOOD
        with suppress(ConnectionResetError, BrokenPipeError):
            for _ in range(100_000):
                connection.sendall(unit)
                assert prober.poll() == ()
            pytest.fail("it is still read")
    settle(prober, before)


def test_a_server_that_does_not_close(prober, server):
    """A server that keeps the connection open, though asked to close it, has it closed at the timeout."""
    listener, address = server
    before = descriptors()
    ask(prober, http=address, timeout=0.5)
    connection, _ = taken(prober, listener)
    with connection:
        connection.sendall(OK)
        assert answer(prober) == GOOD
        assert prober.wake_at() is not None
        while prober.wake_at() is not None:
            assert turn(prober) == []
        assert connection.recv(1) == b""
    assert descriptors() == before


def test_a_real_server(prober):
    """Python's own server is asked well, and has no reason to complain, though nobody wants what it sends."""
    source = """
        import http.server
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200 if self.path == "/good" else 503)
                self.end_headers()
                for _ in range(20):
                    self.wfile.write(b"x" * 1000)
            def log_message(self, *args):
                pass
        server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        print(server.server_port, flush=True)
        server.serve_forever()
    """
    program = [sys.executable, "-c", "import textwrap, sys; exec(textwrap.dedent(sys.argv[1]))", source]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        try:
            address = f"127.0.0.1:{int(server.stdout.readline())}"
            before = descriptors()
            for path, message in [("/good", ""), ("/bad", "HTTP status 503")] * 20:
                ask(prober, http=HttpCheck(address=address, path=path))
                assert answer(prober) == Probed("u1", "readiness", not message, message)
                settle(prober, before)
        finally:
            server.terminate()
        assert server.stderr.read() == ""


# -------------------------------------------------------------------------------------------------- time and numbers


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 2", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_a_hanging_server(prober, server, sent):
    """A server that takes the connection and does not answer fails at the timeout, and once."""
    listener, address = server
    before = descriptors()
    start = time.monotonic()
    ask(prober, http=address, timeout=0.5)
    connection, _ = taken(prober, listener)
    with connection:
        connection.sendall(sent)

        assert answer(prober) == bad("no answer within 0.5 s")
        assert time.monotonic() - start >= 0.5

        connection.settimeout(PATIENCE)
        assert connection.recv(1) == b""
    assert descriptors() == before
    assert prober.wake_at() is None
    assert prober.poll() == ()


def test_a_late_look_finds_an_answer_that_came(prober, server, monkeypatch):
    """An answer that is there when the prober is called too late counts: the worker was not slow."""
    listener, address = server
    ask(prober, http=address)
    connection, _ = taken(prober, listener)
    late = time.monotonic() + 2 * PATIENCE
    monkeypatch.setattr(prober, "_epoll", NothingReady(prober._epoll))
    monkeypatch.setattr("reconciler.drivers.prober.time", SimpleNamespace(monotonic=lambda: late))
    with connection:
        connection.sendall(OK)

        assert prober.poll() == (GOOD,)


class NothingReady:
    """An epoll that others keep so busy that nothing is told of what we look for."""

    def __init__(self, epoll):
        self._epoll = epoll

    def __getattr__(self, name):
        return getattr(self._epoll, name)

    def poll(self, *args):
        """Nothing."""
        return []


def test_a_slow_one_delays_nothing(prober):
    """While one hangs, others are answered."""
    listener, address = listening(backlog=100)
    ask(prober, "slow", http=address)
    for number in range(20):
        ask(prober, f"quick-{number}", tcp=address)
    seen = answers(prober, 20)

    assert [each.uid for each in seen] == [f"quick-{number}" for number in range(20)]
    assert prober.wake_at() is not None
    prober.forget("slow")
    listener.close()


def test_one_at_a_time(prober, server):
    """A new probe takes the place of the one before, whose connection is closed and whose answer never comes."""
    listener, address = server
    ask(prober, kind="liveness", http=address)
    first, _ = taken(prober, listener)
    ask(prober, kind="readiness", http=address)
    second, _ = taken(prober, listener)
    with first, second:
        assert first.recv(1) == b""
        second.sendall(OK)
        assert answer(prober) == GOOD


def test_one_answer_at_a_time(prober):
    """The answer of a probe that was replaced before anybody asked for it is dropped too."""
    ask(prober, kind="startup", file="/")
    ask(prober, file="/")

    assert prober.poll() == (GOOD,)


def test_forget(prober, server):
    """What is forgotten is given up, and nothing is said of it; what is unknown is no error."""
    _, address = server
    before = descriptors()
    ask(prober, http=address)
    ask(prober, "u2", file="/")
    for uid in ("u1", "u2", "u3"):
        prober.forget(uid)

    assert prober.wake_at() is None
    assert prober.poll() == ()
    assert descriptors() == before


def test_the_next_timeout(prober, server):
    """It asks to be called at the earliest timeout of what is in flight, and at once if it has something to tell."""
    _, address = server
    assert prober.wake_at() is None
    now = time.monotonic()
    ask(prober, "u1", http=address, timeout=20)
    ask(prober, "u2", http=address, timeout=10)
    assert now + 10 <= prober.wake_at() <= time.monotonic() + 10
    prober.forget("u2")
    assert now + 20 <= prober.wake_at() <= time.monotonic() + 20
    ask(prober, "u3", file="/")
    assert prober.wake_at() <= now


def test_timeouts_of_the_past_do_not_pile_up(prober, server):
    """However often a probe is replaced, what is kept of those before is bounded."""
    _, address = server
    for _ in range(2000):
        ask(prober, http=address, timeout=1000)
        prober.wake_at()

    assert len(prober._deadlines) < 200


def test_a_thousand_at_once(prober, many_files):
    """A thousand hang, and a thousand are answered; each is told once, and nothing stays open."""
    listener, address = listening(backlog=4096)
    before = descriptors()
    with listener:
        for number in range(1000):
            ask(prober, f"u{number}", http=address, timeout=0.5)
        assert len(descriptors()) > len(before) + 990
        hung = answers(prober, 1000)
        for number in range(1000):
            ask(prober, f"u{number}", tcp=address)
        good = answers(prober, 1000)

    assert {each.message for each in hung} == {"no answer within 0.5 s"}
    assert {each.uid for each in hung} == {each.uid for each in good} == {f"u{number}" for number in range(1000)}
    assert len(hung) == len(good) == 1000
    assert all(each.success for each in good)
    assert descriptors() - before <= {listener.fileno()}


# ---------------------------------------------------------------------------------------------------------- failures


def at_limit(limit, action):
    """Do something while this process may have descriptors below `limit` only."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limits[1]))
    try:
        return action()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def lowest_free():
    """The number of the next descriptor."""
    fd = os.dup(0)
    os.close(fd)
    return fd


@pytest.mark.parametrize("way", ["tcp", "exec"])
def test_no_descriptors_are_left(server, way):
    """Where there are too few descriptors for it, a probe has failed, and nothing stays open."""
    spawner = Spawner(resource.getrlimit(resource.RLIMIT_NOFILE))  # so that the command itself has enough
    prober = Prober(spawner)
    fields = {"tcp": server[1]} if way == "tcp" else {"exec": ("true",)}
    before = descriptors()
    messages = set()
    for room in range(12):
        at_limit(lowest_free() + room, lambda: ask(prober, **fields))
        messages.add(answer(prober).message)
        settle(prober, before)
    prober.close()
    spawner.close()

    assert len(messages) > 1
    assert "" in messages
    assert all("Too many open files" in message for message in messages - {""})


def test_some_descriptors_are_left_to_others(server):
    """Probes do not take the last descriptors of the process, and say what to do about it."""
    prober = at_limit(lowest_free() + 20, Prober)
    for number in range(20):
        ask(prober, f"u{number}", http=server[1], timeout=0.1)
    refused = [each for each in answers(prober, 20) if "open files" in each.message]
    prober.close()

    assert 12 <= len(refused) < 20
    assert refused[0].message == "Too many open files; raise the limit of open files (ulimit -n)"


def test_in_a_forked_child(prober, server):
    """A child forked beside probes has none of their descriptors, and closing does the parent no harm."""
    listener, address = server
    ask(prober, http=address)
    ask(prober, "u2", exec=("sleep", "1000"))
    connection, _ = taken(prober, listener)
    theirs = {*prober._watched, prober.fileno()}
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            status = 10 + bool(descriptors() & theirs)
            prober.close()
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 10
    with connection:
        connection.sendall(OK)

    assert answer(prober) == GOOD
    assert prober.wake_at() is not None


def test_closed(server):
    """Once closed it holds nothing, tells nothing, and may be closed again."""
    before = descriptors()
    prober = Prober()
    ask(prober, http=server[1])
    ask(prober, "u2", file="/")
    prober.close()
    prober.close()

    assert prober.poll() == ()
    assert prober.wake_at() is None
    assert descriptors() == before


# ------------------------------------------------------------------------------------------------------------- files


def test_a_file(prober, tmp_path):
    """A file that is there is a success, one that is not, or whose link leads nowhere, is none."""
    (tmp_path / "web-2.ready").touch()
    (tmp_path / "link").symlink_to("nowhere")

    for path, message in [
        ("{key}.ready", ""),
        (f"{tmp_path}/{{key}}.ready", ""),
        (".", ""),
        ("none", "none: No such file or directory"),
        ("link", "link: No such file or directory"),
        ("web-2.ready/x", "web-2.ready/x: Not a directory"),
        ("a\0b", refusal(os.stat, "a\0b")),
    ]:
        ask(prober, file=path, around=surroundings(tmp_path))
        assert answer(prober) == Probed("u1", "readiness", not message, message)
