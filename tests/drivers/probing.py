"""What the tests of probes share: a prober that is driven as the controller does it, and servers driven by hand."""

import select
import socket
import time

from processes import PATIENCE, descriptors

from reconciler.core.serving import HttpCheck, Probe
from reconciler.drivers.surroundings import Surroundings

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def surroundings(cwd="/", values=(), environment=()):
    """What a worker gives its probes."""
    names = {"name": "web", "index": "2", "key": "web-2"} | dict(values)
    return Surroundings(names, str(cwd), {b"PATH": b"/usr/bin:/bin"} | dict(environment))


def ask(prober, uid="u1", kind="readiness", around=None, **fields):
    """Ask a probe; `http` may be an address."""
    if isinstance(fields.get("http"), str):
        fields["http"] = HttpCheck(address=fields["http"])
    fields.setdefault("timeout", PATIENCE)
    prober.ask(uid, kind, Probe(**fields), around or surroundings())


def turn(prober, *others):
    """Wait as the controller does, until the prober is to be called or another descriptor is ready, and call it."""
    poll = select.poll()
    for each in (prober, *others):
        poll.register(each, select.POLLIN)
    wake_at = prober.wake_at()
    left = PATIENCE if wake_at is None else min(PATIENCE, max(0.0, wake_at - time.monotonic()))
    ready = poll.poll(left * 1000 + 1)
    assert ready or wake_at is not None, "nothing happens any more"
    return list(prober.poll())


def answers(prober, count=1):
    """The next `count` answers (and what came with the last of them)."""
    seen, until = [], time.monotonic() + PATIENCE
    while len(seen) < count:
        assert time.monotonic() < until, f"only saw {seen}"
        seen += turn(prober)
    return seen


def answer(prober):
    """The one answer that comes."""
    (only,) = answers(prober)
    return only


def settle(prober, before):
    """Go on until nothing is in flight and all descriptors but those from `before` are closed; nothing is told."""
    until = time.monotonic() + PATIENCE
    while descriptors() != before:
        assert time.monotonic() < until, f"open: {descriptors() - before}"
        assert turn(prober) == []
    assert prober.wake_at() is None


def listening(address=("127.0.0.1", 0), family=socket.AF_INET, backlog=16):
    """A listener, and what a probe calls its address."""
    listener = socket.socket(family)
    listener.bind(address)
    listener.listen(backlog)
    listener.settimeout(PATIENCE)
    name = listener.getsockname()
    if family == socket.AF_UNIX:
        return listener, f"unix:{name}"
    return listener, f"[{name[0]}]:{name[1]}" if family == socket.AF_INET6 else f"{name[0]}:{name[1]}"


def taken(prober, listener):
    """The server's end of the probe's connection, once the whole request came; and that request."""
    connection, _ = listener.accept()
    connection.settimeout(PATIENCE)
    request = b""
    while not request.endswith(b"\r\n\r\n"):
        while not select.select([connection], [], [], 0)[0]:
            assert turn(prober, connection) == []
        data = connection.recv(65536)
        assert data, "closed by the probe"
        request += data
    return connection, request


def refusal(call, *arguments):
    """What Python itself says of arguments that it cannot use, which differs between its versions."""
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{call} took {arguments}")
