"""Listening sockets, as the kernel and other processes see them."""

import errno
import fcntl
import os
import select
import socket
import stat
import subprocess
import sys
import textwrap

import pytest
from processes import PATIENCE, ROOT, run_script

from reconciler.sockets import Options, bind, listen


def answers(path):
    """Whether somebody listens on a Unix socket, however long its path is."""
    found = os.open(path, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(f"/proc/self/fd/{found}") == 0
    finally:
        os.close(found)


def leave_behind(path):
    """A Unix socket on which nobody listens any more."""
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()


def start(source, *args):
    """Python source in a process of its own, whose stdin and stdout are pipes to us."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(source), *map(str, args)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def told(process):
    """The next line that a process writes."""
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
    assert ready, "nothing came"
    return process.stdout.readline().strip()


# --------------------------------------------------------------------------------------------------------------- TCP


def test_tcp_socket_listens():
    """A TCP address gives a socket that clients reach, that no program inherits and that may be bound again."""
    with listen("127.0.0.1:0") as listener:
        with socket.create_connection(listener.getsockname(), PATIENCE) as client:
            peer, address = listener.accept()
            peer.close()

            assert address == client.getsockname()
        assert listener.getsockname()[0] == "127.0.0.1"
        assert not listener.get_inheritable()
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


@pytest.mark.parametrize("address", ["0", ":0"])
def test_port_alone(address):
    """A port without a host means all interfaces of IPv4."""
    with listen(address) as listener:
        assert listener.family == socket.AF_INET
        assert listener.getsockname()[0] == "0.0.0.0"


def test_ipv6():
    """An address in brackets is one of IPv6, and leaves the same port of IPv4 free."""
    with listen("[::]:0") as listener:
        port = listener.getsockname()[1]

        assert listener.family == socket.AF_INET6
        with listen(f"0.0.0.0:{port}") as other, socket.create_connection(("::1", port), PATIENCE):
            assert other.family == socket.AF_INET


def test_made_once():
    """The same place asked again, however it is written, gives the same socket, until that is closed."""
    with listen("0") as listener:
        assert listen(":0") is listener
        assert listen("0.0.0.0:0") is listener
    with listen("0") as another:
        assert another is not listener
        assert another.fileno() >= 0


def test_tcp_port_in_use():
    """A port on which somebody listens is refused by an error that names the address."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(OSError, match=address) as caught:
            listen(address)

        assert caught.value.errno == errno.EADDRINUSE


BAD_ADDRESSES = (
    "|:|127.0.0.1|127.0.0.1:|127.0.0.1:http|127.0.0.1:-1|127.0.0.1:65536|127.0.0.1: 80|127.0.0.1:٨٠|"
    "::1:8000|[::1]|[::1]8000|[127.0.0.1]:8000|[]:8000|a..b:8000|http://127.0.0.1:8000|8000\n|unix:|"
    "unix:/|unix:@name|unix:/tmp/a\0b|/run/web.sock"
)
"""Texts that are no address, with bars between them."""


@pytest.mark.parametrize("address", BAD_ADDRESSES.split("|"))
def test_bad_address(address):
    """What is no address is refused by an error that shows it and says what to write."""
    with pytest.raises(ValueError, match="; write ") as caught:
        listen(address)

    assert repr(address) in str(caught.value)


@pytest.mark.parametrize(("address", "mode"), [("127.0.0.1:0", 0o600), ("unix:x.sock", -1), ("unix:x.sock", 0o10000)])
def test_bad_mode(address, mode, tmp_path, monkeypatch):
    """A mode that is none, or that a TCP socket cannot have, is refused, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="mode="):
        listen(address, mode=mode)

    assert os.listdir() == []


# -------------------------------------------------------------------------------------------------------------- Unix


def test_unix_socket_listens(tmp_path):
    """A path gives a socket that clients reach by it, and nothing else in its directory."""
    path = tmp_path / "web.sock"
    with listen(f"unix:{path}") as listener:
        assert answers(path)
        assert os.listdir(tmp_path) == ["web.sock"]
        assert not listener.get_inheritable()


def test_unix_made_once(tmp_path, monkeypatch):
    """One path, however it is written, is one socket; closed, it is made anew in the place of the old one."""
    monkeypatch.chdir(tmp_path)
    os.symlink(tmp_path, "link")
    with listen(f"unix:{tmp_path}/web.sock") as listener:
        assert listen("unix:web.sock") is listener
        assert listen("unix:link/web.sock") is listener
    assert not answers("web.sock")
    with listen("unix:web.sock") as another:
        assert another is not listener
        assert answers("web.sock")


def test_stale_socket_is_replaced(tmp_path):
    """A socket on which nobody listens any more gives way to the new one."""
    path = tmp_path / "web.sock"
    leave_behind(path)
    left = os.stat(path).st_ino
    with listen(f"unix:{path}"):
        assert answers(path)
        assert os.stat(path).st_ino != left
        assert os.listdir(tmp_path) == ["web.sock"]


def test_live_socket_is_refused(tmp_path):
    """A socket on which somebody listens stays as it is, and the error names it."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(OSError, match=str(path)) as caught:
            listen(f"unix:{path}")

        assert caught.value.errno == errno.EADDRINUSE
        assert answers(path)
        assert os.listdir(tmp_path) == ["web.sock"]


def test_socket_with_a_full_backlog_is_live(tmp_path):
    """A socket whose backlog is full belongs to somebody; looking at it does not wait until there is room."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(path))
        other.listen(0)
        client.connect(str(path))
        with pytest.raises(OSError, match="in use"):
            listen(f"unix:{path}")


def test_socket_of_another_type_is_live(tmp_path):
    """A datagram socket that somebody has open is not taken away."""
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(OSError, match="in use"):
            listen(f"unix:{path}")

        assert path.is_socket()


@pytest.mark.parametrize("kind", ["file", "directory", "pipe", "link to a stale socket", "link to nothing"])
def test_what_is_no_socket_is_left_alone(kind, tmp_path):
    """Anything that is no socket is refused, and stays as it is."""
    path = tmp_path / "web.sock"
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        if kind == "link to a stale socket":
            leave_behind(tmp_path / "other")
        path.symlink_to(tmp_path / "other")
    before = os.lstat(path)
    with pytest.raises(FileExistsError, match=str(path)):
        listen(f"unix:{path}")

    assert os.lstat(path).st_ino == before.st_ino
    assert os.lstat(path).st_mode == before.st_mode


def test_directory_that_is_missing(tmp_path):
    """A path in a directory that does not exist is refused by an error that names it."""
    with pytest.raises(FileNotFoundError, match=r"missing/web\.sock"):
        listen(f"unix:{tmp_path}/missing/web.sock")


@pytest.mark.parametrize("name", ["web.sock", "n" * 255])
def test_long_path(name, tmp_path):
    """A path far longer than a socket's address can hold works, the replacement of a stale one too."""
    directory = tmp_path / ("d" * 120)
    directory.mkdir()
    path = directory / name
    listen(f"unix:{path}").close()
    assert not answers(path)
    with listen(f"unix:{path}"):
        assert answers(path)


@pytest.mark.parametrize(("mode", "umask", "seen"), [(None, 0o077, 0o700), (0o666, 0o077, 0o666), (0o600, 0, 0o600)])
def test_mode(mode, umask, seen, tmp_path):
    """A mode is exact whatever the umask is; without one the umask decides."""
    path = tmp_path / "web.sock"
    before = os.umask(umask)
    try:
        with listen(f"unix:{path}", mode=mode):
            assert stat.S_IMODE(os.stat(path).st_mode) == seen
    finally:
        os.umask(before)


# ------------------------------------------------------------------------------------------------- several processes

RACER = """
import sys
from reconciler.sockets import listen
print("here", flush=True)
sys.stdin.readline()
try:
    listener = listen(f"unix:{sys.argv[1]}")
    print("mine", flush=True)
except OSError as error:
    print(error.errno, flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("stale", [True, False])
def test_race(stale, tmp_path):
    """Of several who start at once on one path exactly one gets it, and it answers; the others are told who has it."""
    path = tmp_path / "web.sock"
    for _ in range(5):
        if stale:
            leave_behind(path)
        racers = [start(RACER, path) for _ in range(3)]
        try:
            assert [told(racer) for racer in racers] == ["here"] * 3
            for racer in racers:
                racer.stdin.write("go\n")
                racer.stdin.flush()

            assert sorted(told(racer) for racer in racers) == [str(errno.EADDRINUSE)] * 2 + ["mine"]
            assert answers(path)
            assert os.listdir(tmp_path) == ["web.sock"]
        finally:
            for racer in racers:
                racer.communicate("end\n", PATIENCE)
        assert not path.exists()


def test_path_is_removed_at_exit(tmp_path):
    """The process that made a path removes it at its exit."""
    path = tmp_path / "web.sock"
    source = """
    import os, sys
    from reconciler.sockets import listen
    listen(f"unix:{sys.argv[1]}")
    print(os.path.exists(sys.argv[1]))
    """
    assert run_script(source, str(path)).stdout == "True\n"
    assert not path.exists()


def test_path_is_not_removed_by_a_forked_child(tmp_path):
    """A forked child that ends as programs do leaves the path to its maker, and was given the maker's socket."""
    path = tmp_path / "web.sock"
    source = """
    import os, sys
    from reconciler.sockets import listen
    listener = listen(f"unix:{sys.argv[1]}")
    pid = os.fork()
    if not pid:
        sys.exit(0 if listen(f"unix:{sys.argv[1]}") is listener else 3)
    print(os.waitpid(pid, 0)[1], os.path.exists(sys.argv[1]))
    """
    assert run_script(source, str(path)).stdout == "0 True\n"


@pytest.mark.parametrize("closed", [False, True])
def test_path_of_another_is_not_removed(closed, tmp_path):
    """Whoever took a path over keeps it when its first maker exits."""
    path = tmp_path / "web.sock"
    source = """
    import sys
    from reconciler.sockets import listen
    listener = listen(f"unix:{sys.argv[1]}")
    if sys.argv[2] == "True":
        listener.close()
    print("here", flush=True)
    sys.stdin.readline()
    """
    first = start(source, path, closed)
    try:
        assert told(first) == "here"
        path.unlink()
        with listen(f"unix:{path}"):
            first.communicate("end\n", PATIENCE)

            assert first.returncode == 0
            assert answers(path)
    finally:
        first.kill()
        first.communicate()


def test_path_of_a_killed_process(tmp_path):
    """What a killed process left behind is taken over, as long as none of its children listens there."""
    path = tmp_path / "web.sock"
    source = """
    import os, sys
    from reconciler.sockets import listen
    listener = listen(f"unix:{sys.argv[1]}")
    if not os.fork():
        sys.stdin.readline()
        os._exit(0)
    print("here", flush=True)
    os.kill(os.getpid(), 9)
    """
    first = start(source, path)
    assert told(first) == "here"
    assert first.wait(PATIENCE) == -9
    with pytest.raises(OSError, match="in use"):
        listen(f"unix:{path}")
    first.stdin.close()
    assert first.stdout.read() == ""  # its child has ended
    first.stdout.close()
    with listen(f"unix:{path}"):
        assert answers(path)


def test_exit_does_not_wait_for_the_directory(tmp_path):
    """A process exits at once while another has locked the directory, and leaves a stale path that is replaced."""
    path = tmp_path / "web.sock"
    first = start(RACER, path)
    assert told(first) == "here"
    first.stdin.write("go\n")
    first.stdin.flush()
    assert told(first) == "mine"
    lock = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        first.communicate("end\n", PATIENCE)
    finally:
        os.close(lock)

    assert first.returncode == 0
    assert path.is_socket()
    with listen(f"unix:{path}"):
        assert answers(path)


# ----------------------------------------------------------------------------------------------------------- options


def test_datagrams():
    """A datagram socket receives, and its port is not shared by accident."""
    bound = bind("127.0.0.1:0", Options(kind=socket.SOCK_DGRAM))
    with bound.listener as listener, socket.socket(type=socket.SOCK_DGRAM) as client:
        listener.settimeout(PATIENCE)
        client.sendto(b"hello", listener.getsockname())

        assert listener.recv(10) == b"hello"
        with pytest.raises(OSError, match="already in use") as caught:
            bind("127.0.0.1:{}".format(*listener.getsockname()[1:]), Options(kind=socket.SOCK_DGRAM))
        assert caught.value.errno == errno.EADDRINUSE


def test_datagrams_by_path(tmp_path):
    """A Unix socket for datagrams appears with its mode, takes the place of a stale one, and is removed."""
    path = tmp_path / "log.sock"
    leave_behind(path)
    bound = bind(f"unix:{path}", Options(kind=socket.SOCK_DGRAM, mode=0o620))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(b"hello", str(path))

        assert bound.listener.recv(10) == b"hello"
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o620
    bound.close()
    assert not path.exists()


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_reuse_port(kind):
    """A port is shared by those who all asked for that."""
    options = Options(kind=kind, reuse_port=True)
    with bind("127.0.0.1:0", options).listener as first:
        address = f"127.0.0.1:{first.getsockname()[1]}"
        with bind(address, options).listener as second:
            assert first.getsockname() == second.getsockname()
            with pytest.raises(OSError, match=address):
                bind(address, Options(kind=kind))


def test_dual_stack():
    """An IPv6 socket takes IPv4 connections too if it may."""
    with bind("[::]:0", Options(ipv6_only=False)).listener as listener:
        with socket.create_connection(("127.0.0.1", listener.getsockname()[1]), PATIENCE):
            peer, address = listener.accept()
            peer.close()
        assert address[0] == "::ffff:127.0.0.1"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a file away")
def test_owner(tmp_path):
    """A Unix socket gets the user and the group that it shall have, beside its mode."""
    path = tmp_path / "web.sock"
    bound = bind(f"unix:{path}", Options(mode=0o660, owner=(65534, 12)))
    now = os.stat(path)
    bound.close()

    assert (now.st_uid, now.st_gid, stat.S_IMODE(now.st_mode)) == (65534, 12, 0o660)


def test_impatience(tmp_path):
    """One that is not patient does not wait for others who look into the same directory."""
    lock = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(OSError, match="locked by another") as caught:
            bind(f"unix:{tmp_path}/web.sock", Options(patient=False))
    finally:
        os.close(lock)

    assert caught.value.errno == errno.EBUSY
    assert os.listdir(tmp_path) == []
