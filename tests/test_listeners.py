"""The registry of a controller's sockets, with real sockets."""

import contextlib
import errno
import json
import os
import socket
import stat

import attrs
import pytest
from activation import run_activated
from processes import PATIENCE, descriptors, run_script

from reconciler.core.names import names_of
from reconciler.core.serving import Socket
from reconciler.core.spec import Key, SetSpec, WorkerSpec, expand
from reconciler.listeners import Listeners

HTTP = Socket(name="http", address="127.0.0.1:0")
EACH = attrs.evolve(HTTP, per_worker=True)

WEB = names_of("web", Key(0, "web", 0))


@pytest.fixture
def listeners():
    listeners = Listeners({})
    yield listeners
    listeners.close()


def taken(listeners, one, values=WEB):
    (handed,) = listeners.take([one], values)
    return handed


def refused(listeners, one, values=WEB):
    """The error with which a socket is refused."""
    with pytest.raises(OSError) as caught:
        listeners.take([one], values)
    return caught.value


def is_open(fd):
    with contextlib.suppress(OSError):
        return bool(os.fstat(fd))
    return False


def web(*sockets, **fields):
    """A worker set with these sockets."""
    return expand(SetSpec(name=fields.pop("name", "web"), command=("true",), sockets=sockets, **fields))


def free_address():
    """An address on which nobody listens, of a host that no client here has as its own."""
    with socket.create_server(("127.83.17.5", 0)) as server:
        return f"127.83.17.5:{server.getsockname()[1]}"


# ------------------------------------------------------------------------------------------------ identity


def test_made_once(listeners):
    """A socket is opened when it is first asked for, and then stays the same, with the order of the spec kept."""
    admin = Socket(name="admin", address="127.0.0.1:0")
    first = listeners.take([HTTP, admin], WEB)

    assert [one.name for one in first] == ["http", "admin"]
    assert first[0].port != first[1].port
    assert listeners.take([admin, HTTP], names_of("web", Key(0, "web", 1))) == [first[1], first[0]]
    with socket.create_connection(("127.0.0.1", first[0].port), PATIENCE):
        assert not os.get_inheritable(first[0].fd)


def test_known_by_its_address(listeners):
    """Whoever asks for an address has the same socket, in whichever set and by whichever name."""
    one = Socket(name="http", address=free_address())

    assert taken(listeners, one).fd == taken(listeners, attrs.evolve(one, name="web"), names_of("api", "0")).fd


def test_types_are_kept_apart(listeners):
    """A port may be had for connections and for datagrams."""
    one = Socket(name="dns", address=free_address())

    assert taken(listeners, one).fd != taken(listeners, attrs.evolve(one, type="datagram")).fd


def test_one_for_each_worker(listeners, tmp_path):
    """Workers have sockets of their own if the spec says so, at an address each or at port 0, and keep them."""
    numbered = Socket(name="http", address=f"unix:{tmp_path}/{{key}}.sock", per_worker=True)
    for one in (EACH, numbered):
        fds = [taken(listeners, one, names_of("web", Key(0, "web", number))).fd for number in (0, 1, 0)]
        assert fds[0] == fds[2] != fds[1]
    assert sorted(os.listdir(tmp_path)) == ["web-0.sock", "web-1.sock"]


def test_shared_port_for_each_worker(listeners):
    """With reuse_port each worker may have a socket of its own at one port."""
    one = Socket(name="http", address=free_address(), reuse_port=True, per_worker=True)
    first, second = (taken(listeners, one, names_of("web", Key(0, "web", number))) for number in (0, 1))

    assert first.port == second.port
    assert first.fd != second.fd


# ------------------------------------------------------------------------------------------------ ports


def test_ports(listeners):
    """What probes are told: the port of each socket that has one, without opening any."""
    path = Socket(name="path", address="unix:/run/x.sock")
    fixed = Socket(name="fixed", address="[::1]:80{index}", per_worker=True)
    before = descriptors()

    assert listeners.ports([HTTP, path, fixed], names_of("web", Key(0, "web", 7))) == {
        "port:http": "0",
        "port:fixed": "807",
    }
    assert descriptors() == before
    port = str(taken(listeners, HTTP).port)
    assert listeners.ports([HTTP], WEB) == {"port:http": port}


# ------------------------------------------------------------------------------------------------ keeping


def test_kept_while_somebody_names_it(listeners):
    """A socket is closed when neither what is desired nor any worker names it."""
    first = taken(listeners, HTTP)
    wanted, other = web(HTTP), web(name="other")
    outdated = WorkerSpec(Key(0, "web", 0), "d", wanted.template.process)

    listeners.keep([wanted, other], [])
    assert is_open(first.fd)
    listeners.keep([other], [("web", outdated)])
    assert is_open(first.fd)
    listeners.keep([other], [])
    assert not is_open(first.fd)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", first.port), PATIENCE)


@pytest.mark.parametrize("fields", [{"replicas": 0}, {"suspend": True}])
def test_kept_without_workers(listeners, fields):
    """The socket of a set that has no workers just now is kept: its clients wait."""
    first = taken(listeners, HTTP)

    listeners.keep([web(HTTP, **fields)], [])

    assert is_open(first.fd)


def test_a_workers_own_is_closed_with_it(listeners):
    """A socket of one worker is closed when that one is wanted no more, and kept while it is only stopped."""
    fds = [taken(listeners, EACH, names_of("web", Key(0, "web", number))).fd for number in range(3)]
    wanted = web(EACH, replicas=2)
    workers = dict(wanted.workers)
    stopped = Key(0, "web", 1)
    del workers[stopped]

    listeners.keep([attrs.evolve(wanted, workers=workers, down=frozenset([stopped]))], [])
    assert [is_open(fd) for fd in fds] == [True, True, False]


def test_nothing_is_looked_at_for_nothing(listeners):
    """While no socket was asked for, keeping costs nothing, however many workers there are."""
    listeners.keep(None, None)  # nothing that could be looked at


def test_taken_over(listeners):
    """A set that is deployed under another name takes the socket over."""
    one = Socket(name="http", address=free_address())
    first = taken(listeners, one)
    listeners.keep([web(one, name="web2")], [])

    assert taken(listeners, one, names_of("web2", Key(0, "web2", 0))) == first


# ------------------------------------------------------------------------------------------------ following the spec


def test_follows_the_newest_spec(listeners, tmp_path):
    """An open Unix socket gets the mode that the newest spec says."""
    one = Socket(name="http", address=f"unix:{tmp_path}/web.sock", mode="0600")
    first = taken(listeners, one)
    second = taken(listeners, attrs.evolve(one, mode="0666", backlog=1))

    assert first == second == ("http", first.fd, None)
    assert stat.S_IMODE(os.stat(tmp_path / "web.sock").st_mode) == 0o666


def test_backlog_follows(listeners):
    """The backlog of an open socket is what the newest spec says."""
    first = taken(listeners, HTTP)
    taken(listeners, attrs.evolve(HTTP, backlog=1))
    with contextlib.ExitStack() as stack:
        refused = 0
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(("127.0.0.1", first.port))
            refused += client.connect_ex(("127.0.0.1", first.port)) in (errno.EALREADY, errno.EINPROGRESS)

    assert refused


def test_shut_down_by_a_worker(listeners):
    """A socket that a worker shut down, for everybody, listens again for the next one."""
    one = Socket(name="http", address=free_address())
    first = taken(listeners, one)
    with socket.socket(fileno=os.dup(first.fd)) as worker:
        worker.shutdown(socket.SHUT_RDWR)

    assert taken(listeners, one) == first
    socket.create_connection(("127.83.17.5", first.port), PATIENCE).close()


@pytest.mark.parametrize("instead", [False, True])
def test_path_that_was_removed(listeners, tmp_path, instead):
    """A Unix socket whose path was removed, or taken by a dead one, is made anew for the next worker."""
    path = tmp_path / "web.sock"
    one = Socket(name="http", address=f"unix:{path}")
    taken(listeners, one)
    path.unlink()
    if instead:
        with socket.socket(socket.AF_UNIX) as gone:
            gone.bind(str(path))
    before = len(descriptors())
    taken(listeners, one)

    assert len(descriptors()) == before
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


# ------------------------------------------------------------------------------------------------ closing


def test_paths_are_removed(listeners, tmp_path):
    """Unix sockets leave no path behind, neither when nobody names them nor at the end."""
    first, second = (Socket(name=name, address=f"unix:{tmp_path}/{name}") for name in ("one", "two"))
    listeners.take([first, second], WEB)
    assert sorted(os.listdir(tmp_path)) == ["one", "two"]
    listeners.keep([web(first)], [])
    assert os.listdir(tmp_path) == ["one"]
    listeners.close()
    assert os.listdir(tmp_path) == []


def test_paths_are_removed_at_exit(tmp_path):
    """A controller that ends without closing leaves no path behind either, and its forked children remove none."""
    script = """
        import os, sys
        from reconciler.core.serving import Socket
        from reconciler.listeners import Listeners
        listeners = Listeners({})
        listeners.take([Socket(name="http", address=f"unix:{sys.argv[1]}/web.sock")], {"key": ""})
        if not os.fork():
            sys.exit()
        os.wait()
        print(os.listdir(sys.argv[1]))
    """
    assert run_script(script, str(tmp_path)).stdout == "['web.sock']\n"
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------ problems


def test_address_in_use(listeners):
    """An address that another process has is a problem that names it and the remedy, until it can be had."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        one = Socket(name="http", address=f"127.0.0.1:{other.getsockname()[1]}")
        error = refused(listeners, one)

        assert error.errno == errno.EADDRINUSE
        assert one.address in error.strerror
        assert "stop who listens there" in error.strerror
        assert listeners.problems() == {one: error.strerror}
    taken(listeners, one)
    assert listeners.problems() == {}


def test_problem_of_a_socket_that_nobody_names(listeners):
    """A problem is forgotten with the spec that had it."""
    one = Socket(name="http", address="192.0.2.1:80")
    assert refused(listeners, one).errno == errno.EADDRNOTAVAIL
    listeners.keep([web(one)], [])
    assert list(listeners.problems()) == [one]
    listeners.keep([web()], [])
    assert listeners.problems() == {}


def test_the_same_worker_of_a_set_that_was_renamed(listeners, tmp_path):
    """A worker's own socket at a fixed address is taken over by the worker that names the same address."""
    one = Socket(name="http", address=f"unix:{tmp_path}/{{index}}.sock", per_worker=True)
    first = taken(listeners, one)
    (second,) = listeners.take([one], names_of("api", Key(0, "api", 0)))

    assert first.fd == second.fd


def test_a_unix_socket_is_named_by_its_path(listeners, tmp_path):
    """Servers that compare names find that of the path, with its mode from the first moment."""
    handed = taken(listeners, Socket(name="http", address=f"unix:{tmp_path}/web.sock", mode="0600"))

    with socket.socket(fileno=os.dup(handed.fd)) as listener:
        assert listener.getsockname() == f"{tmp_path}/web.sock"
    assert stat.S_IMODE(os.stat(tmp_path / "web.sock").st_mode) == 0o600


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"address": "unix:/no/such/web.sock"}, "make its directory"),
        ({"address": "unix:/dev/null"}, "no socket"),
        ({"address": "unix:{tmp}/web.sock", "user": "no-such-user"}, "no such user"),
        ({"address": "unix:{tmp}/web.sock", "group": "no-such-group"}, "no such group"),
        ({}, "http has no address, and this controller was given none at all"),
    ],
)
def test_sockets_that_cannot_be_had(listeners, fields, told, tmp_path):
    """Whatever is wrong with a socket is told, with a remedy, and leaves nothing behind."""
    fields = {name: value.replace("{tmp}", str(tmp_path)) for name, value in fields.items()}
    before = descriptors()
    error = refused(listeners, Socket(name="http", **fields))

    assert told in error.strerror
    assert descriptors() == before
    assert os.listdir(tmp_path) == []


# ------------------------------------------------------------------------------------------------ activation

_GIVEN = """
    import json, os, socket, sys
    from reconciler.core.serving import Socket
    from reconciler.listeners import Listeners
    if sys.argv[1] == "another":
        os.environ["LISTEN_PID"] = str(os.getppid())
    listeners = Listeners()
    told = []
    for one in (
        Socket(name="http"),
        Socket(name="http", address="127.0.0.1:1"),
        Socket(name="log", type="datagram"),
        Socket(name="log"),
        Socket(name="other"),
    ):
        try:
            (handed,) = listeners.take([one], {"key": ""})
            told.append(handed.port)
        except OSError as error:
            told.append(error.strerror)
    told.append(listeners.ports([Socket(name="http")], {"key": ""}))
    listeners.keep([], [])
    listeners.close()
    again = Listeners()
    told.append([os.get_inheritable(fd) for fd in (3, 4)])
    told.append(again.ports([Socket(name="http")], {"key": ""}))
    print(json.dumps(told))
"""


@pytest.fixture
def given():
    """Sockets as a service manager has them."""
    with socket.create_server(("127.0.0.1", 0)) as http, socket.socket(type=socket.SOCK_DGRAM) as log:
        log.bind(("127.0.0.1", 0))
        yield {"http": http, "log": log}


@pytest.mark.os
def test_socket_activation(given):
    """What a service manager gave this process is used by its name, whatever the address, and stays open."""
    ports = {name: one.getsockname()[1] for name, one in given.items()}
    http, moved, log, wrong, other, told, inheritable, again = json.loads(run_activated(_GIVEN, given, "this"))

    assert (http, moved, log) == (ports["http"], ports["http"], ports["log"])
    assert 'write type = "datagram"' in wrong
    assert "given only http, log" in other
    assert "FileDescriptorName=other" in other
    assert told == again == {"port:http": str(ports["http"])}
    assert inheritable == [False, False]


@pytest.mark.os
def test_activation_of_another_process(given):
    """What was meant for another process is not taken."""
    http, moved, *_ = json.loads(run_activated(_GIVEN, given, "another"))

    assert "given none at all" in http
    assert moved == 1 or "'127.0.0.1:1'" in moved  # root may listen there


@pytest.mark.os
def test_one_name_twice(given):
    """Of several sockets of one name the first is used."""
    script = """
        import os
        from reconciler.core.serving import Socket
        from reconciler.listeners import Listeners
        listeners = Listeners({**os.environ, "LISTEN_FDNAMES": "http:http"})
        print(listeners.take([Socket(name="http")], {})[0].port)
    """
    assert run_activated(script, given) == f"{given['http'].getsockname()[1]}\n"


@pytest.mark.parametrize(
    "environ",
    [
        {"LISTEN_FDS": "1"},
        {"LISTEN_FDS": "x", "LISTEN_PID": str(os.getpid())},
        {"LISTEN_FDS": "999", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": ""},
    ],
)
def test_senseless_activation(environ):
    """What makes no sense in the environment is not used, and hurts nobody."""
    listeners = Listeners(environ)

    assert "given none at all" in refused(listeners, Socket(name="http")).strerror
    listeners.close()
