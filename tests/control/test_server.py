"""Who is served, whose turn it is, and what a bad client costs: nothing."""

import gc
import json
import os
import resource
import select
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

import pytest
from control.desk import Desk, frame
from processes import descriptors

from reconciler.control.address import connect, open_listener
from reconciler.control.connection import FULL
from reconciler.control.server import MOST_CLIENTS

pytestmark = pytest.mark.os


def is_served(desk):
    """Whether a good client gets its answer."""
    return desk.ask(frame("echo", id=1)) == [{"id": 1, "done": {}}]


def is_quiet(desk):
    """Whether the server has nothing to do, now and when looked at again."""
    desk.pump()
    return not select.select([desk.server.fileno()], [], [], 0)[0]


# --------------------------------------------------------------------------------------------------- requests


def test_requests_are_answered_in_order(desk):
    """Requests sent together are answered one after the other, streams as well."""
    with desk.client() as client:
        desk.send(client, b"".join(frame("count", id=n, args={"to": n % 3}) for n in range(50)))
        client.shutdown(socket.SHUT_WR)
        frames = desk.everything(client)
    assert [got["id"] for got in frames] == [n for n in range(50) for _ in range(n % 3 + 1)]


def test_byte_by_byte(desk):
    """A frame that comes byte by byte is a frame, and others are served meanwhile."""
    with desk.client() as client:
        for byte in frame("echo", id=5)[:-1]:
            desk.send(client, bytes([byte]))
            desk.pump()
        assert is_served(desk)
        desk.send(client, b"\n")
        assert desk.answer(client) == [{"id": 5, "done": {}}]


def test_half_closed(desk):
    """Who says that nothing more will come is answered all the same, and then hung up on."""
    with desk.client() as client:
        desk.send(client, frame("count", args={"to": 500}) + frame("echo"))
        client.shutdown(socket.SHUT_WR)
        assert len(desk.everything(client)) == 502


def test_half_closed_while_nothing_happens(desk):
    """A half-closed client that follows costs nothing while there is no news, and gets it when there is."""
    with desk.client() as client:
        desk.send(client, frame("follow"))
        client.shutdown(socket.SHUT_WR)
        assert is_quiet(desk)
        desk.news += ["spring", "end"]
        desk.server.nudge()
        assert [list(got) for got in desk.everything(client)] == [["id", "item"], ["id", "done"]]


def test_closed_in_the_middle_of_a_frame(desk):
    """A frame without its end is not carried out; who half-closed is told so."""
    with desk.client() as client:
        desk.send(client, frame("echo")[:-1])
        client.shutdown(socket.SHUT_WR)
        (refused,) = desk.everything(client)
        assert refused["error"]["code"] == "NotJson"


def test_items_wait_for_a_nudge(desk):
    """An answer that has nothing to say is asked again at the next nudge, and costs nothing until then."""
    with desk.client() as client, desk.client() as other:
        for each in (client, other):
            desk.send(each, frame("follow"))
        assert is_quiet(desk)
        for news in ("one", "two"):
            desk.news.append(news)
            assert is_quiet(desk)
            desk.server.nudge()
            desk.server.nudge()
            assert json.loads(desk.receive(client))["item"] == {"news": news}
            assert json.loads(desk.receive(other))["item"] == {"news": news}
        desk.news.append("end")
        desk.server.nudge()
        assert json.loads(desk.receive(client))["done"] == {"seen": 3}


def test_a_nudge_from_an_answer_reaches_itself(desk):
    """What an answer changed itself before it had nothing to say is not missed."""

    def handle(verb, args):
        if not desk.news:
            desk.news.append("mine")
            desk.server.nudge()
            yield None
        return {"news": desk.news}

    desk.server._handle = handle
    assert desk.ask(frame("any"))[0]["done"] == {"news": ["mine"]}


def test_an_answer_ends_with_its_client(desk):
    """When a client goes, its answer is closed where it stands."""
    with desk.client() as client:
        desk.send(client, frame("follow"))
        desk.pump()
    desk.pump()
    assert desk.closed == ["follow"]


# --------------------------------------------------------------------------------------------------- bad clients


def test_who_never_reads_pauses_its_own_answer(desk):
    """A client that never reads holds up its own answer, costs no work and little memory, and nobody else anything."""
    with desk.client() as client:
        desk.send(client, frame("count", args={"to": 10**9}))
        assert is_quiet(desk)
        asked = desk.made
        assert asked * 1000 < 2 * FULL + socket.socket().getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert is_served(desk)
        desk.server.nudge()
        assert is_quiet(desk)
        assert desk.made == asked
        got = b""
        while len(got) < 1 << 20:
            got += desk.receive(client)
        numbers = [json.loads(line)["item"]["number"] for line in got.splitlines()[:-1]]
        assert numbers == list(range(len(numbers)))
    desk.pump()
    assert desk.closed == ["count"]


def test_who_never_reads_nor_stops_asking(desk):
    """A client that sends without reading is no longer read from; its requests wait with itself."""
    with desk.client() as client:
        sent, data = 0, frame("echo", args={"a": "x" * 1000})
        with suppress(BlockingIOError):
            while sent < 1 << 26:
                sent += client.send(data)
                desk.pump()
        assert sent < 1 << 22
        assert is_quiet(desk)
        assert is_served(desk)
        answered = 0
        while answered < sent // len(data):
            answered += desk.receive(client).count(b"\n")


def test_many_answers_take_turns(desk):
    """An endless answer that is read as fast as it comes does not keep others from theirs."""
    with desk.client() as endless, desk.client() as client:
        desk.send(endless, frame("count", args={"to": 10**9}))
        desk.send(client, frame("echo"))
        for _ in range(20):
            with suppress(BlockingIOError):
                endless.recv(1 << 20)
            desk.server.pump()
        assert json.loads(client.recv(100)) == {"id": None, "done": {}}


def test_the_idle_make_room(desk):
    """At the limit the client that for longest asked nothing has to go; those that are being answered stay."""
    busy, *idle = [desk.client() for _ in range(MOST_CLIENTS)]
    desk.send(busy, frame("follow"))
    desk.pump()
    desk.send(idle[0], frame("echo"))
    assert desk.answer(idle[0])
    assert is_served(desk)
    assert desk.receive(idle[1]) == b""
    for stays in (busy, idle[0], idle[2]):
        with pytest.raises(BlockingIOError):
            stays.recv(1)


def test_who_does_not_read_makes_room(desk):
    """At the limit a client that does not read its answer has to go before one that is waiting for us."""
    clients = [desk.client() for _ in range(MOST_CLIENTS)]
    for client in clients:
        desk.send(client, frame("count", args={"to": 10**6}) if client is clients[7] else frame("follow"))
    desk.pump()
    assert is_served(desk)
    assert desk.closed == ["count"]


def test_too_many_clients(desk):
    """When all clients are being answered, a new one is told to come again."""
    clients = [desk.client() for _ in range(MOST_CLIENTS)]
    for client in clients:
        desk.send(client, frame("follow"))
    desk.pump()
    for _ in range(3):
        with desk.client() as client:
            assert desk.everything(client)[0]["error"]["code"] == "Busy"
    clients[5].close()
    assert is_served(desk)


def test_no_descriptors_left(desk):
    """Without descriptors a new client is told to come again, nothing spins, and all is well when there are some."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with desk.client() as served, desk.client() as client, desk.client() as later:
        desk.send(served, frame("echo"))
        desk.server._epoll.poll(0)
        try:
            most = max(descriptors()) + 1
            held = [os.dup(0) for _ in range(most - len(descriptors()))]
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
            assert [desk.everything(each)[0]["error"]["code"] for each in (served, client, later)] == ["Busy"] * 3
            assert is_quiet(desk)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for fd in held:
                os.close(fd)
    assert is_served(desk)


def test_not_even_one_descriptor(desk):
    """Where nobody can even be turned away nothing spins, and a nudge tries again."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with desk.client() as client:
        desk.send(client, frame("echo"))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            assert is_quiet(desk)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        desk.server.nudge()
        assert desk.answer(client) == [{"id": None, "done": {}}]
    assert is_served(desk)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_is_forbidden(desk, tmp_path):
    """Only the own user and root may ask, even where the socket's mode would let others in."""
    os.chmod(tmp_path, 0o755)
    os.chmod(tmp_path / "control.sock", 0o666)
    with socket.socket(socket.AF_UNIX) as client:
        child = os.fork()
        if child == 0:
            with suppress(OSError):
                os.chdir(tmp_path)
                os.setresuid(65534, 65534, 65534)
                client.connect("control.sock")
                os._exit(0)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        desk.pump()
        assert json.loads(client.recv(1000))["error"]["code"] == "Forbidden"
    assert is_served(desk)


# --------------------------------------------------------------------------------------------------- its life


def test_the_end_is_told(desk):
    """When the server closes, those whose answers go on are told so, and all are hung up on."""
    with desk.client() as follower, desk.client() as idle:
        desk.send(follower, frame("follow", id=3))
        desk.pump()
        desk.server.close()
        desk.server.close()
        desk.server.pump()
        assert json.loads(follower.recv(100)) == {"id": 3, "done": {"closing": True}}
        assert follower.recv(100) == idle.recv(100) == b""
    assert desk.closed == ["follow"]
    with pytest.raises(ConnectionRefusedError):
        desk.client()


def test_nothing_is_left_open(tmp_path):
    """When it has closed, no descriptor is left."""
    before = descriptors()
    desk = Desk(tmp_path)
    clients = [desk.client() for _ in range(10)]
    for client in clients:
        desk.send(client, frame("follow"))
    desk.pump()
    desk.close()
    gc.collect()
    assert descriptors() == before


def test_a_forked_child_keeps_nothing(desk, tmp_path):
    """A forked child has neither the socket nor the clients, and changes nothing for the parent."""
    with desk.client() as client:
        desk.send(client, frame("follow"))
        desk.pump()
        ours = {f"socket:[{os.fstat(fd).st_ino}]" for fd in (desk.server._listener.fileno(), *desk.server._clients)}
        child = os.fork()
        if child == 0:
            try:
                desk.server.pump()
                desk.server.nudge()
                kept = {os.readlink(f"/proc/self/fd/{fd}") for fd in descriptors()} & ours
                desk.server.close()
                os._exit(len(kept))
            finally:
                os._exit(100)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        desk.news.append("after")
        desk.server.nudge()
        assert json.loads(desk.receive(client))["item"] == {"news": "after"}
    assert is_served(desk)


def test_what_a_forked_process_has_still(desk):
    """A process that has a client's socket still neither keeps that client waiting nor wakes us for ever."""
    with desk.client() as client:
        desk.pump()
        (held,) = map(os.dup, desk.server._clients)
        desk.send(client, b"no json\n")
        assert len(desk.everything(client)) == 1
    assert is_quiet(desk)
    os.close(held)


# --------------------------------------------------------------------------------------------------- the address


@pytest.mark.parametrize("mask", [0, 0o777])
def test_only_its_owner_may_connect(tmp_path, mask):
    """The socket has mode 0600, whatever the umask."""
    before = os.umask(mask)
    try:
        open_listener(str(tmp_path)).close()
    finally:
        os.umask(before)
    status = os.lstat(tmp_path / "control.sock")
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


def test_a_stale_socket_is_replaced(tmp_path):
    """What a dead controller left, be it in the midst of its start, is replaced."""
    for name in (".control.sock", "control.sock"):
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(tmp_path / name))
    with open_listener(str(tmp_path)) as listener:
        assert not listener.get_inheritable()
        connect(str(tmp_path)).close()
    assert os.listdir(tmp_path) == ["control.sock"]


def test_no_path_is_too_long(tmp_path):
    """A path of thousands of bytes can be listened at and connected to."""
    deep = tmp_path
    for _ in range(15):
        deep /= "d" * 200
    os.makedirs(deep)
    desk = Desk(deep)
    assert is_served(desk)
    desk.close()


def test_nobody_there(tmp_path):
    """Without a controller connecting fails, and leaves nothing open."""
    before = descriptors()
    with pytest.raises(FileNotFoundError):
        connect(str(tmp_path))
    with pytest.raises(FileNotFoundError):
        connect(str(tmp_path / "none"))
    open_listener(str(tmp_path)).close()
    with pytest.raises(ConnectionRefusedError):
        connect(str(tmp_path))
    with pytest.raises(OSError, match="none"):
        open_listener(str(tmp_path / "none"))
    assert descriptors() == before


def test_a_socket_cannot_appear(tmp_path):
    """Where something else is in its place that is told, and nothing stays open or is left over but a draft."""
    Path(tmp_path / "control.sock").mkdir()
    before = descriptors()
    with pytest.raises(IsADirectoryError):
        open_listener(str(tmp_path))
    assert descriptors() == before


def test_a_pump_is_short(desk):
    """One call does a bounded amount of work, however many clients have however much to be done."""
    clients = [desk.client() for _ in range(MOST_CLIENTS)]
    for client in clients:
        desk.send(client, frame("count", args={"to": 10**9}))
    desk.server.pump()
    assert desk.made < 2000
    started = time.process_time()
    desk.server.pump()
    assert time.process_time() - started < 1
