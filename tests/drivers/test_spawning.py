"""What a worker is handed beyond a clean start: sockets, its own pid, and what it tells by."""

import errno
import json
import os
import socket
import sys

import pytest
from processes import descriptors, observe, run_script

from reconciler.core.observation import Exited, Ready, SpawnFailed
from reconciler.core.serving import Socket
from reconciler.core.spec import Command, Key, WorkerSpec
from reconciler.drivers import spawning
from reconciler.drivers.command import CommandDriver
from reconciler.listeners import Listeners

pytestmark = pytest.mark.os

TELL = """if True:
    import json, os, sys
    names = [name.split() for name in open("/proc/self/status") if name.startswith(("SigBlk", "SigIgn"))]
    places = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")[:-1]}
    told = {"pid": os.getpid(), "env": dict(os.environ), "fds": places, "cwd": os.getcwd(), "args": sys.argv[2:]}
    with open(sys.argv[1] + ".draft", "w") as out:
        json.dump({**told, "masks": names, "sid": os.getsid(0)}, out)
    os.rename(sys.argv[1] + ".draft", sys.argv[1])
"""
TELL = TELL.replace("{", "{{").replace("}", "}}")
"""A program that writes into a file what it was given."""


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


@pytest.fixture(params=[True, False], ids=["shell", "python"])
def any_way(request, monkeypatch):
    """Once with what comes before a program that must know its pid, and once with what does where that is of no use."""
    if not request.param:
        monkeypatch.setattr(spawning, "_SHELL", "/no/such/shell")


def start(driver, *command, uid="u1", key=Key(0, "web", 2), **fields):  # noqa: B008
    driver.start(uid, "web", WorkerSpec(key, "d", Command(command=command, **fields)))


def failure(driver, *command, **fields):
    """Start a command that cannot work, and return the answer."""
    start(driver, *command, **fields)
    (answer,) = driver.poll()
    assert isinstance(answer, SpawnFailed)
    return answer


def told(driver, path, *args, **fields):
    """What a worker was given; it has ended well by then."""
    start(driver, sys.executable, "-c", TELL, str(path), *args, **fields)
    *_, end = observe(driver, 2)
    assert end == Exited("u1", exit_code=0)
    return json.loads(path.read_text())


def inode(fd):
    return f"socket:[{os.fstat(fd).st_ino}]"


def sockets(*names):
    return tuple(Socket(name=name, address="127.0.0.1:0") for name in names)


# ------------------------------------------------------------------------------------------------ sockets


def test_sockets_of_a_worker(driver, tmp_path, any_way):
    """A worker finds its sockets from descriptor 3 on in the order of its spec, by variables and by placeholders."""
    wanted = sockets("http", "admin")

    seen = told(
        driver, tmp_path / "out", "{fd:admin} {fd:http} {port:http}", sockets=wanted, env={"BIND": "fd://{fd:http}"}
    )

    http, admin = driver.sockets.take(wanted, {})
    assert (
        seen["env"].items()
        >= {
            "LISTEN_FDS": "2",
            "LISTEN_FDNAMES": "http:admin",
            "LISTEN_PID": str(seen["pid"]),
            "BIND": "fd://3",
        }.items()
    )
    assert seen["args"] == [f"4 3 {http.port}"]
    assert [seen["fds"].get(fd) for fd in ("3", "4", "5")] == [inode(http.fd), inode(admin.fd), None]
    assert seen["sid"] == seen["pid"]


def test_environment_is_that_of_any_worker(tmp_path, monkeypatch):
    """A worker with sockets has the very environment that it had without, names that no shell passes on included."""
    odd = {"spring.name": "a b", "BASH_FUNC_f%%": "() { :; }", "1x": "=", "IFS": ":", "OPTIND": "7", "PPID": "1"}
    for name, value in odd.items():
        monkeypatch.setenv(name, value)
    driver = CommandDriver()
    driver.sockets = Listeners({})

    plain = told(driver, tmp_path / "plain")
    seen = told(driver, tmp_path / "seen", sockets=sockets("http"))

    driver.close()
    assert odd.items() <= seen["env"].items()
    assert {"LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"} == seen["env"].keys() - plain["env"].keys()
    assert plain["env"].items() <= seen["env"].items()


def test_signals_are_clean(driver, tmp_path, any_way):
    """Whatever comes before the program leaves no signal ignored or blocked."""
    plain = told(driver, tmp_path / "plain")

    assert told(driver, tmp_path / "seen", sockets=sockets("http"))["masks"] == plain["masks"]


def test_directory_of_a_worker_with_sockets(driver, tmp_path, any_way):
    """The working directory and a relative program are those of any worker."""
    program = tmp_path / "-serve"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -c "$TELL" out\n')
    program.chmod(0o755)

    start(driver, "./-serve", cwd=str(tmp_path), env={"TELL": TELL}, sockets=sockets("http"))

    assert observe(driver, 2)[-1] == Exited("u1", exit_code=0)
    assert json.loads((tmp_path / "out").read_text())["cwd"] == str(tmp_path)


def test_descriptors_that_stand_in_each_others_way():
    """Sockets reach a worker under their numbers, whichever numbers they have here, and nothing else does."""
    script = """
        import fcntl, os, socket, sys
        from processes import descriptors, halted, observe
        from reconciler.core.serving import Socket
        from reconciler.core.spec import Command, WorkerSpec
        from reconciler.drivers.command import CommandDriver

        held = [socket.socket() for _ in range(4)]
        class Stub:
            def take(self, sockets, values):
                return [(one.name, fd, None) for one, fd in zip(sockets, order)]
        driver = CommandDriver()
        driver.sockets = Stub()
        assert [one.fileno() for one in held] == [3, 4, 5, 6] and driver._spawner._null < 10
        names = tuple(Socket(name=name, address="0") for name in "abcd")
        before = descriptors()
        for uid, order in (("u1", (4, 3, 6, 5)), ("u2", (3, 4, 5, 6)), ("u3", (6, 6, 3, 3))):
            stray = os.dup(held[0].fileno())
            command = Command(command=("sh", "-c", "kill -STOP $$"), sockets=names, ready_fd=9)
            driver.start(uid, "web", WorkerSpec("k", "d", command))
            os.close(stray)
            (spawned,) = driver.poll()
            halted(spawned.pid)
            assert descriptors(spawned.pid) == {0, 1, 2, 3, 4, 5, 6, 9}, descriptors(spawned.pid)
            for target, source in enumerate(order, 3):
                assert os.path.samestat(os.stat(f"/proc/{spawned.pid}/fd/{target}"), os.fstat(source))
            assert os.readlink(f"/proc/{spawned.pid}/fd/9").startswith("pipe:")
            assert os.readlink(f"/proc/{spawned.pid}/fd/0") == os.devnull
            driver.kill(uid)
            observe(driver, 1)
        print(before == descriptors())
    """
    assert run_script(script).stdout == "True\n"


def test_beside_threads(tmp_path):
    """In a program with threads a worker with sockets is started all the same, in its own directory, which no thread
    sees.
    """
    script = """
        import json, os, sys, threading
        from pathlib import Path
        from processes import observe
        from reconciler.core.serving import Socket
        from reconciler.core.spec import Command, WorkerSpec
        from reconciler.drivers.command import CommandDriver
        from reconciler.listeners import Listeners

        end = threading.Event()
        threading.Thread(target=end.wait, daemon=True).start()
        driver = CommandDriver(file_limit=(77, 99))
        driver.sockets = Listeners({})
        http = (Socket(name="http", address="127.0.0.1:0"),)
        def run(*command, **fields):
            driver.start("u1", "web", WorkerSpec("k", "d", Command(command=command, sockets=http, **fields)))
            first, *more = driver.poll()
            return first if hasattr(first, "stage") else [*more, *observe(driver, 1 - len(more))][-1]
        where = Path(sys.argv[1])
        (where / "sub").mkdir()
        (where / "sub/serve").write_text('#!/bin/sh\\nread line; pwd > "$1"; echo $LISTEN_PID $$ >> "$1"')
        (where / "sub/serve").chmod(0o755)
        os.chdir(where)
        for cwd in (str(where / "sub"), "sub"):
            for env in ({}, {"odd.name": "x"}):
                out = where / "out"
                assert run("./serve", str(out), cwd=cwd, env=env).exit_code == 0
                place, pids = out.read_text().splitlines()
                assert place == str(where / "sub") and len(set(pids.split())) == 1, (place, pids)
                assert run("serve", str(out), cwd=cwd, env=env | {"PATH": "."}).exit_code == 0
        assert run("./serve", cwd=".").stage == "exec"
        assert run("./serve", cwd="missing").stage == "cwd"
        assert run("./serve", cwd="sub/serve").stage == "cwd"
        assert os.getcwd() == str(where)
        end.set()
    """
    run_script(script, str(tmp_path))


@pytest.mark.parametrize("fields", [{"sockets": sockets("http")}, {"watchdog": 2.0}])
@pytest.mark.parametrize(("kind", "number"), [("none", errno.ENOENT), ("file", errno.EACCES), ("dir", errno.EACCES)])
def test_program_that_cannot_be_executed(driver, tmp_path, kind, number, fields):
    """A program that is not there, or is none, is told as for any worker, though another one comes before it."""
    path = tmp_path / "program"
    if kind == "file":
        path.write_text("")
    elif kind == "dir":
        path.mkdir()

    answer = failure(driver, str(path), **fields)

    assert (answer.stage, answer.errno) == ("exec", number)
    assert str(path) in answer.message
    assert failure(driver, "no-such-program", **fields).errno == errno.ENOENT


def test_socket_that_cannot_be_had(driver):
    """A socket that another process has fails the start at stage socket, with address and remedy, until it is free."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        wanted = (Socket(name="http", address=address),)
        answer = failure(driver, "true", sockets=wanted)

        assert (answer.stage, answer.errno) == ("socket", errno.EADDRINUSE)
        assert address in answer.message
        assert "stop who listens there" in answer.message
    start(driver, "true", sockets=wanted)
    assert observe(driver, 2)[-1] == Exited("u1", exit_code=0)


def test_driver_without_sockets(driver):
    """A driver that nobody gave sockets says so where a worker needs one."""
    driver.sockets.close()
    driver.sockets = None

    answer = failure(driver, "true", sockets=sockets("http"))

    assert answer.stage == "socket"
    assert "no sockets to give" in answer.message
    driver.sockets = Listeners({})


def test_port_of_a_socket_that_has_none(driver):
    """The port of a Unix socket, where only the start can tell that it is one, is a failure that names it."""
    first, second = socket.socketpair()

    class Given:
        def take(self, sockets, values):
            return [(one.name, first.fileno(), None) for one in sockets]

    real, driver.sockets = driver.sockets, Given()
    answer = failure(driver, "true", "{port:http}", sockets=(Socket(name="http"),))
    driver.sockets = real
    first.close()
    second.close()

    assert answer.stage == "arguments"
    assert "{port:http}" in answer.message


def test_descriptors_do_not_leak(driver):
    """Starts, well or not, leave no descriptor behind."""
    wanted = sockets("http")
    start(driver, "true", sockets=wanted, ready_fd=7)
    observe(driver, 2)
    before = descriptors()
    for command in ("true", "no-such-program", "true"):
        start(driver, command, sockets=wanted, ready_fd=7)
        observe(driver, 1 if command != "true" else 2)
    driver.poll()

    assert descriptors() == before


# ------------------------------------------------------------------------------------------------ telling


def test_notify(driver):
    """A worker with `notify` is told where to say that it is ready, and is heard."""
    program = (
        "import os, socket; address = os.environ['NOTIFY_SOCKET'].replace('@', chr(0)); "
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', address); input()"
    )
    start(driver, sys.executable, "-c", program, notify=True, sockets=sockets("http"))

    assert Ready("u1") in observe(driver, 2)


def test_ready_fd(driver):
    """A worker with `ready_fd` says that it is ready by a newline there."""
    start(driver, "sh", "-c", "echo >&9; exec sleep 1000", ready_fd=9)

    assert Ready("u1") in observe(driver, 2)


@pytest.mark.parametrize("wanted", [(), sockets("http")])
def test_watchdog(driver, tmp_path, wanted):
    """A worker with a watchdog knows its time, whom it is meant for, and whom to tell."""
    seen = told(driver, tmp_path / "out", watchdog=1.5, sockets=wanted)

    assert seen["env"]["WATCHDOG_USEC"] == "1500000"
    assert seen["env"]["WATCHDOG_PID"] == str(seen["pid"])
    assert seen["env"]["NOTIFY_SOCKET"].startswith("@")


def test_nothing_is_told_unasked(driver, tmp_path):
    """A worker that asked for nothing has none of these variables."""
    seen = told(driver, tmp_path / "out")

    assert not [name for name in seen["env"] if name.startswith(("LISTEN_", "NOTIFY_", "WATCHDOG_"))]


# ------------------------------------------------------------------------------------------------ beside the worker


def test_surroundings(driver, tmp_path, monkeypatch):
    """What runs beside a worker knows its names, ports, directory and environment, and is not spoken to as it is."""
    monkeypatch.chdir(tmp_path)
    wanted = sockets("http")
    ((_, _, port),) = driver.sockets.take(wanted, {"key": ""})
    command = Command(
        command=("true",),
        cwd="{name}/sub",
        env={"URL": "http://127.0.0.1:{port:http}/{index}", "FD": "{fd:http}"},
        sockets=wanted,
        watchdog=1.0,
        notify=True,
    )

    around = driver._surroundings("u1", "web", WorkerSpec(Key(0, "web", 2), "d", command))

    assert around.values.items() >= {"name": "web", "index": "2", "key": "web-2", "port:http": str(port)}.items()
    assert around.cwd == f"{tmp_path}/web/sub"
    assert around.environment[b"URL"] == f"http://127.0.0.1:{port}/2".encode()
    assert around.environment[b"FD"] == b"3"
    assert around.environment[b"RECONCILER_UID"] == b"u1"
    assert not [name for name in around.environment if name.startswith((b"LISTEN_", b"NOTIFY_", b"WATCHDOG_"))]
