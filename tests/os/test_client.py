"""The typed clients, against a real controller: they give what the controller itself has."""

import asyncio
import os
import signal

import pytest
from fleet import SLEEP, Fleet, drop
from processes import PATIENCE, alive

from reconciler.client import AsyncClient, Client, Refused
from reconciler.core.event import Event
from reconciler.core.explain import Explanation
from reconciler.core.status import SetStatus, WorkerStatus

pytestmark = pytest.mark.os


@pytest.fixture
def fleet(tmp_path):
    """A controller of two workers, with a state directory."""
    specs = tmp_path / "specs"
    specs.mkdir()
    drop(specs, "web", *SLEEP, replicas=2)
    with Fleet(specs, "--state-dir", str(tmp_path / "state")) as fleet:
        fleet.state = str(tmp_path / "state")
        fleet.wait("controller.converged")
        fleet.ready("web-0", "web-1")
        yield fleet


def test_what_is_asked_has_types(fleet):
    """Workers, sets, explanations and events are values of the core, with what the controller says."""
    with Client(fleet.state, PATIENCE) as client:
        workers = client.workers()
        assert [type(one) for one in workers] == [WorkerStatus] * 2
        assert [(one.key, one.phase, one.pid) for one in workers] == [
            (key, "Running", fleet.ready(key)) for key in ("web-0", "web-1")
        ]
        (web,) = client.sets("w*")
        assert isinstance(web, SetStatus)
        assert (web.name, web.replicas, web.available, web.drift) == ("web", 2, 2, ())
        (why,) = client.explain("web-0")
        assert isinstance(why, Explanation)
        assert (why.does, why.meaning) == ("nothing", "It is as wanted.")
        told = list(client.events("web-0"))
        assert {type(one) for one in told} == {Event}
        assert [one.event for one in told] == fleet.story(key="web-0")
        assert client.health()["pid"] == fleet.pid


def test_orders_have_methods(fleet):
    """Each order has a method, which says whom it reached."""
    with Client(fleet.state, PATIENCE) as client:
        client.scale("web", 3)
        fleet.wait("worker.ready", key="web-2")
        assert client.sets()[0].drift == ("replicas 3 instead of 2",)
        assert client.stop("web-2") == ["web-2"]
        assert client.start("web-2") == ["web-2"]
        assert client.restart("web", now=True) == ["web-0", "web-1", "web-2"]
        fleet.wait("rollout.completed")
        assert client.reset("web-1") == ["web-1"]
        assert client.signal("CONT", "web-1") == ["web-1"]
        client.pause("web")
        assert client.sets()[0].paused
        client.resume("web")
        drop(fleet.directory, "web", "sleep", "999", replicas=3)
        fleet.wait("rollout.completed")
        assert client.undo("web") == 1
        client.reload()
        with pytest.raises(Refused, match="no set or worker"):
            client.stop("wbe")
        client.shutdown()
    fleet.over()


def test_the_same_in_asyncio(fleet):
    """The asynchronous client does the same, and follows events while it gives orders."""

    async def main():
        async with AsyncClient(fleet.state, PATIENCE) as client:
            first, _ = await client.workers("web")
            assert (await client.sets())[0].available == 2
            assert [one.rule for one in await client.explain("web-1")] == ["UpToDate"]
            events = client.events("web-0", follow=True)
            told = [(await anext(events)).event for _ in fleet.story(key="web-0")]
            assert told == fleet.story(key="web-0")
            assert await client.stop("web-0") == ["web-0"]
            async for event in events:
                if event.event == "worker.stopped":
                    break
            assert not alive(first.pid)
            assert await client.start("web-0") == ["web-0"]
            await client.scale("web", 1)
            await client.pause("web")
            await client.resume("web")
            assert await client.restart("web-0") == ["web-0"]
            await client.reload()
            assert (await client.health())["pid"] == fleet.pid
            await client.shutdown(now=True)

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    fleet.over()


def test_a_crash_is_followed(fleet):
    """Who follows is told of a crash and of the restart, in order."""
    with Client(fleet.state, PATIENCE) as client:
        events = client.events("web-1", follow=True)
        for _ in fleet.story(key="web-1"):
            next(events)
        os.kill(fleet.ready("web-1"), signal.SIGKILL)
        assert [next(events).event for _ in range(4)] == [
            "worker.exited",
            "worker.starting",
            "worker.started",
            "worker.ready",
        ]
