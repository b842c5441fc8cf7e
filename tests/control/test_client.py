"""The client, sync and async, against a server in a process of its own."""

import asyncio
import os
import select
import signal
import subprocess
import sys
import threading

import pytest
from processes import PATIENCE, ROOT, descriptors, run_script

from reconciler.client import AsyncClient, Client, ClientError, NoAnswer, NoController, Refused
from reconciler.control.address import open_listener
from reconciler.control.server import MOST_CLIENTS

pytestmark = pytest.mark.os

SERVE = """
import os, select, sys
from control.desk import Desk
desk = Desk(sys.argv[1])
print("there", flush=True)
while True:
    select.select([desk.server.fileno(), 0], [], [])
    desk.server.pump()
    if select.select([0], [], [], 0)[0]:
        if not (lines := os.read(0, 65536)):
            break
        desk.news += lines.decode().split()
        desk.server.nudge()
desk.close()
"""


@pytest.fixture
def controller(tmp_path):
    """A process that serves tmp_path; words written to it are news."""
    environment = os.environ | {"PYTHONPATH": f"{ROOT}:{ROOT}/tests"}
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, tmp_path], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout.readline() == b"there\n"
    yield process
    process.kill()
    process.communicate()


def tell(controller, line):
    """Make news."""
    controller.stdin.write(line.encode() + b"\n")
    controller.stdin.flush()


@pytest.mark.usefixtures("controller")
def test_calls_and_streams(tmp_path):
    """A call returns what ended the answer, a stream the items; one connection serves them all."""
    with Client(str(tmp_path)) as client:
        assert client.call("echo", verb="x", self="y", a=[1]) == {"verb": "x", "self": "y", "a": [1]}
        before = descriptors()
        assert [item["number"] for item in client.stream("count", to=1000)] == list(range(1000))
        assert client.call("count", to=5) == {}
        assert descriptors() == before


@pytest.mark.usefixtures("controller")
def test_a_refusal(tmp_path):
    """A refusal has the code, the message and the hint, and the connection goes on."""
    with Client(str(tmp_path)) as client:
        with pytest.raises(Refused, match="there is no verb 'dance'") as refused:
            client.call("dance")
        assert (refused.value.code, refused.value.hint) == ("UnknownVerb", "try echo")
        with pytest.raises(Refused):
            list(client.stream("dance"))
        assert client.call("echo") == {}


@pytest.mark.usefixtures("controller")
def test_what_cannot_be_sent(tmp_path):
    """Arguments that are no JSON or too long are refused before anything is sent."""
    with Client(str(tmp_path)) as client:
        for args, error in (
            ({"a": b""}, TypeError),
            ({"a": float("nan")}, ValueError),
            ({"a": "x" * 70000}, ValueError),
        ):
            with pytest.raises(error):
                client.call("echo", **args)
        assert client.call("echo") == {}


def test_a_stream_follows(tmp_path, controller):
    """A stream yields what comes when it comes; other requests may be made meanwhile, and it may be left."""
    with Client(str(tmp_path), timeout=None) as client:
        following = client.stream("follow")
        tell(controller, "one")
        assert next(following) == {"news": "one"}
        assert client.call("echo", a=1) == {"a": 1}
        tell(controller, "two")
        assert next(following) == {"news": "two"}
        following.close()
        assert [item["news"] for item in client.stream("count", to=0)] == []
        tell(controller, "end")
        assert client.call("follow") == {"seen": 3}


def test_a_stream_that_tells_of_silence(tmp_path, controller):
    """Whoever follows with a pause is given None when nothing came for so long, and loses nothing by it."""
    with Client(str(tmp_path)) as client:
        following = client.follow("follow", 0.01)
        assert next(following) is None
        assert next(following) is None
        for news in ("one", "end"):
            tell(controller, news)
        assert [item for item in following if item] == [{"news": "one"}]
        assert client.call("echo") == {}


def test_no_controller(tmp_path):
    """Where nobody listens the error names the directory."""
    for directory in (tmp_path, tmp_path / "none"):
        with pytest.raises(NoController, match=f"{directory}: ") as error, Client(str(directory)) as client:
            client.call("echo")
        assert error.value.directory == str(directory)
        assert isinstance(error.value, ClientError)


def test_the_controller_goes_away(tmp_path, controller):
    """When the controller dies during a request, nobody knows what became of it, and the error says so."""
    with Client(str(tmp_path)) as client:
        following = client.stream("follow")
        tell(controller, "one")
        assert next(following) == {"news": "one"}
        controller.kill()
        with pytest.raises(NoAnswer, match="unknown"):
            next(following)
        controller.wait()
        with pytest.raises(NoController):
            client.call("echo")


def test_a_stopped_controller(tmp_path, controller):
    """A controller that says nothing for the timeout is an error; later it is asked anew, and answers."""
    with Client(str(tmp_path), timeout=0.05) as client:
        controller.send_signal(signal.SIGSTOP)
        with pytest.raises(NoAnswer, match=r"silent for 0\.05 s"):
            client.call("echo")
        with pytest.raises(NoAnswer, match="silent"):
            asyncio.run(AsyncClient(str(tmp_path), timeout=0.05).call("echo"))
        controller.send_signal(signal.SIGCONT)
    with Client(str(tmp_path), timeout=PATIENCE) as client:
        assert client.call("echo", a=2) == {"a": 2}


@pytest.mark.usefixtures("controller")
def test_a_client_that_had_to_make_room(tmp_path):
    """A client whose idle connection was closed to make room connects again by itself."""
    with Client(str(tmp_path)) as client:
        assert client.call("echo") == {}
        others = [Client(str(tmp_path)) for _ in range(MOST_CLIENTS)]
        for other in others:
            assert other.call("echo") == {}
        kept = client._keeper._kept.socket
        assert select.select([kept], [], [], PATIENCE)[0]
        assert client.call("echo", a=3) == {"a": 3}
        for other in others:
            other.close()


@pytest.mark.usefixtures("controller")
def test_who_is_turned_away_is_told_why(tmp_path):
    """A client that is turned away before it could ask gets the reason, not a broken pipe."""

    async def ask():
        async with AsyncClient(str(tmp_path)) as client:
            await client.call("echo")

    held = [Client(str(tmp_path)) for _ in range(MOST_CLIENTS)]
    links = [client._asked("follow", {}) for client in held]
    for link in links:
        link.__enter__()
    with pytest.raises(Refused, match="ask") as refused, Client(str(tmp_path)) as client:
        client.call("echo")
    assert refused.value.code == "Busy"
    with pytest.raises(Refused) as refused:
        asyncio.run(ask())
    assert refused.value.code == "Busy"
    for link in links:
        link.__exit__(None, None, None)


@pytest.mark.parametrize("said", [b"+OK\n", b"[]\n", b'{"id":null}\n', b'{"id":null,"error":1}\n', b"x" * 70000])
def test_somebody_else_listens(tmp_path, said):
    """What does not speak the protocol is told to be so."""
    with open_listener(str(tmp_path)) as listener:

        def speak():
            with listener.accept()[0] as peer:
                peer.sendall(said)
                peer.recv(100)

        speaker = threading.Thread(target=speak)
        speaker.start()
        with pytest.raises(NoAnswer, match="another protocol"), Client(str(tmp_path)) as client:
            client.call("echo")
        speaker.join()


@pytest.mark.usefixtures("controller")
def test_async(tmp_path):
    """The async client does what the other does, and tasks may share it."""

    async def main():
        async with AsyncClient(str(tmp_path)) as client:
            assert await client.call("echo", a=1) == {"a": 1}
            assert [item["number"] async for item in client.stream("count", to=100)] == list(range(100))
            with pytest.raises(Refused):
                await client.call("dance")
            answers = await asyncio.gather(*(client.call("echo", n=n) for n in range(20)))
            assert answers == [{"n": n} for n in range(20)]

    before = descriptors()
    asyncio.run(main())
    assert descriptors() == before


def test_async_cancelled(tmp_path, controller):
    """A cancelled request closes its connection, and the next one has its own."""

    async def main():
        async with AsyncClient(str(tmp_path), timeout=None) as client:
            news = client.stream("follow")
            tell(controller, "one")
            assert await anext(news) == {"news": "one"}
            waiting = asyncio.ensure_future(anext(news))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            assert await client.call("echo") == {}

    before = descriptors()
    asyncio.run(main())
    assert descriptors() == before


def test_importing_it_is_cheap():
    """The client loads none of the libraries, nor asyncio."""
    done = run_script("import sys, reconciler.client; print(*sorted({n.split('.')[0] for n in sys.modules}))")
    assert not set(done.stdout.split()) & {"attr", "attrs", "asyncio", "cattrs", "click", "structlog", "watchdog"}


def test_connecting_does_not_block(tmp_path):
    """Where nobody lets anybody in, that is told at once."""
    with open_listener(str(tmp_path)) as listener:
        listener.listen(0)
        waiting = [Client(str(tmp_path), timeout=0.01) for _ in range(3)]
        with pytest.raises(NoController, match="does not let anybody in"):
            [client._asked("echo", {}).__enter__() for client in waiting]
