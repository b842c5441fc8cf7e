"""What settings must not say together: each problem is told at its place, with the remedy."""

import pytest

from reconciler.core.address import problem
from reconciler.core.consistency import InconsistentError
from reconciler.core.consistency import problems as problems_of
from reconciler.core.spec import (
    Backoff,
    Dependency,
    Drain,
    HttpCheck,
    Probe,
    Probes,
    Ready,
    Restart,
    SetSpec,
    Socket,
    Stop,
    Watch,
)

HTTP = Socket(name="http", address="127.0.0.1:8000")
UNIX = Socket(name="control", address="unix:/run/web.sock")


def web(**settings):
    """The spec of a set called web."""
    return SetSpec(**{"name": "web", "command": ("true",), **settings})


def asking(**ways):
    """Settings with a readiness probe that asks in this way."""
    return {"probes": Probes(readiness=Probe(**ways))}


BAD = [
    # settings, the path of the problem, words of its message
    ({"sockets": (HTTP, Socket(name="http", address="81"))}, "sockets[1].name", "rename one of them"),
    ({"sockets": (HTTP, Socket(name="b", address="127.0.0.1:8000"))}, "sockets[1].address", "listens there as well"),
    ({"sockets": tuple(Socket(name=f"s{at}", address="0") for at in range(33))}, "sockets", "at most 32"),
    ({"sockets": (HTTP,), "ready": Ready(fd=3)}, "ready.fd", "choose one from 4 on"),
    ({"command": ("x", "--fd={fd:http}")}, "command[1]", "{fd:http} names no socket of this spec; there is none"),
    ({"sockets": (HTTP,), "env": {"FD": "{fd:htp}"}}, "env.FD", "known are http"),
    ({"sockets": (UNIX,), "command": ("{port:control}",)}, "command[0]", "has no port; use {fd:control}, or the path"),
    ({"sockets": (HTTP,), "cwd": "/tmp/{fd:http}"}, "cwd", "inside the worker only"),
    ({"sockets": (HTTP,), **asking(exec=("x", "{fd:http}"))}, "probes.readiness", "inside the worker only"),
    (
        {"sockets": (HTTP,), "stop": Stop(drain=Drain(command=("x", "{fd:http}")))},
        "stop.drain.command[1]",
        "inside the worker only",
    ),
    (asking(tcp="8000"), "probes.readiness.tcp", 'say at which host, like "127.0.0.1:8000"'),
    (asking(http=HttpCheck(address="localhost:0")), "probes.readiness.http.address", "write {port:NAME}"),
    (asking(http=HttpCheck(address="localhost:1", path="/é")), "probes.readiness.http.path", "write %XX"),
    (asking(tcp="127.0.0.1:9999{index}"), "probes.readiness.tcp", "(here '127.0.0.1:99990'): '99990' is no port"),
    (asking(file=""), "probes.readiness.file", "empty"),
    ({"schedule": "* * * * *", "replicas": 1}, "schedule", 'add kind = "job"'),
    ({"schedule": "* * * * *", "kind": "job", "replicas": 2}, "replicas", "and not 2"),
    ({"kind": "job", "ready": Ready(notify=True)}, "ready", "never ready"),
    ({"kind": "job", **asking(tcp="localhost:1")}, "probes.readiness", "never ready"),
    (
        {"depends_on": (Dependency(set="db"), Dependency(set="db", condition="started"))},
        "depends_on[1]",
        "db is named in depends_on[0] already",
    ),
    (
        {"restart": Restart(backoff=Backoff(initial=90.0))},
        "restart.backoff",
        "initial, 90 s, is above max, 60 s; lower it, or raise max",
    ),
    ({"cwd": "/srv/{index}", "watch": Watch(paths=("/a", "b"))}, "watch.paths", "begin them with /"),
]


@pytest.mark.parametrize(("settings", "path", "words"), BAD, ids=lambda value: str(value)[:40])
def test_what_does_not_go_together(settings, path, words):
    """Each of these is refused where it is made, at this path, in these words."""
    with pytest.raises(InconsistentError) as caught:
        web(**settings)
    ((where, message),) = caught.value.problems
    assert where == path
    assert words in message
    assert str(caught.value).startswith(path)


GOOD = [
    {"sockets": (HTTP, UNIX), "command": ("x", "{fd:http}", "{port:http}"), "env": {"FD": "{fd:control}"}},
    {"sockets": (HTTP,), **asking(http=HttpCheck(address="127.0.0.1:{port:http}", path="/{name}"))},
    {"sockets": (Socket(name="a", address="0"), Socket(name="b", address="0"))},
    {"sockets": (Socket(name="a", address="81", reuse_port=True), Socket(name="b", address="81", reuse_port=True))},
    {"sockets": (Socket(name="a", address="localhost:80{index}", per_worker=True),), "replicas": 500},
    {"sockets": (Socket(name="a", address="unix:/run/{key}.sock", per_worker=True),)},
    {"sockets": (Socket(name="given"),)},
    {"sockets": (HTTP,), "ready": Ready(fd=4)},
    {"schedule": "* * * * *", "kind": "job", "replicas": 1},
    {"kind": "job", "probes": Probes(liveness=Probe(exec=("x",)))},
    {"depends_on": (Dependency(set="db"), Dependency(set="migrate"))},
    {"restart": Restart(backoff=Backoff(initial=60.0))},
    {"cwd": "/srv/{index}", "watch": Watch(paths=("/a", "/b"))},
]


@pytest.mark.parametrize("settings", GOOD, ids=lambda value: str(value)[:40])
def test_what_goes_together(settings):
    """Each of these is taken."""
    assert list(problems_of(web(**settings))) == []


def test_all_at_once():
    """Every problem is told, and not the first alone."""
    with pytest.raises(InconsistentError) as caught:
        web(kind="job", ready=Ready(fd=3), sockets=(HTTP, HTTP), restart=Restart(backoff=Backoff(initial=61.0)))
    assert [path for path, _ in caught.value.problems] == [
        "sockets[1].name",
        "sockets[1].address",
        "ready.fd",
        "ready",
        "restart.backoff",
    ]


@pytest.mark.parametrize(
    "text", ["127.0.0.1:8000", "localhost:1", "[::1]:65535", "unix:/a/b", "unix:web.sock", "unix:/run/x:0"]
)
def test_addresses(text):
    """Each of these says whom to ask."""
    assert problem(text) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "the port is missing"),
        ("localhost", 'the port is missing; write "localhost:8000"'),
        ("8000", 'say at which host, like "127.0.0.1:8000"'),
        ("65536", "'65536' is no port"),
        ("[abc]", "brackets"),
        ("[", "brackets"),
        ("[fe80::1%lo]:80", "a probe knows none"),
        ("001.2.3.4:80", "'001.2.3.4' is no address"),
        ("http://localhost:80", "that is a URL"),
        ("/run/web.sock", 'write "unix:/run/web.sock"'),
        ("run/web.sock", 'write "unix:/the/path"'),
        ("unix:", "no path of a file"),
        ("unix:/run/", "no path of a file"),
        ("unix:@web", "no path of a file"),
        ("::1:80", "brackets"),
        ("[::1]", "brackets"),
        ("[localhost]:80", "brackets"),
        ("[::1]:x", "'x' is no port"),
        (":80", "'' is no address"),
        ("*:80", "'*' is no address"),
        ("example.org:80", "names are not looked up"),
        ("300.1.1.1:80", "'300.1.1.1' is no address"),
        ("127.1:80", "'127.1' is no address"),
        ("localhost:", "'' is no port"),
        ("localhost:http", "'http' is no port"),
        ("localhost:65536", "'65536' is no port"),
        ("[::1]:0", "write {port:NAME}"),
    ],
)
def test_bad_addresses(text, words):
    """Each of these is refused with the remedy."""
    assert words in problem(text)
