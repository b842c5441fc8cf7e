"""For programs that ask a running controller, or give it orders: its control socket, from the other side.

Rule: what is answered are the very values that a `Controller` gives to its own program.

    with Client("/run/user/1000/reconciler/specs-1a2b3c") as client:
        client.restart("web")
        for worker in client.workers():
            print(worker.key, worker.phase)
"""

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

from reconciler.client import typed
from reconciler.client.calls import AsyncCalls, Calls, ClientError, NoAnswer, NoController, Refused

if TYPE_CHECKING:
    from reconciler.core.event import Event
    from reconciler.core.explain import Explanation
    from reconciler.core.status import SetStatus, WorkerStatus

__all__ = ["AsyncClient", "Client", "ClientError", "NoAnswer", "NoController", "Refused"]


class Client(Calls):
    """Asks the controller of a state directory. Names are keys, sets (and so all of their workers), or patterns for
    both; none at all means everything.

    What it returns are values of `core`: times are seconds on the monotonic clock. See `Calls` for timeouts and errors,
    and for `call` and `stream`, by which each verb of the protocol can be used.
    """

    def workers(self, *names: str) -> "list[WorkerStatus]":
        """The workers by these names, in key order."""
        return [row for item in self.stream("get", names=names) for row in typed.workers(item)]

    def sets(self, *names: str) -> "list[SetStatus]":
        """The worker sets by these names."""
        return [typed.set_(item) for item in self.stream("sets", names=names)]

    def explain(self, *names: str) -> "list[Explanation]":
        """What the plan would do now with each of these workers, and why."""
        return [typed.explanation(item) for item in self.stream("explain", names=names)]

    def events(self, *names: str, since: float | None = None, follow: bool = False) -> "Iterator[Event]":
        """The events that are remembered, since a time (seconds, Unix time), of these names; with `follow` also each
        new one. Where some were missed, that is an event: `events.dropped`.
        """
        return map(typed.event, self.stream("events", names=names, since=since, follow=follow))

    def health(self) -> dict[str, Any]:
        """What the controller says of itself: `pid`, `ready`, `wanted`, `converged` and so on."""
        return self.call("status")

    def scale(self, name: str, replicas: int) -> None:
        """Run so many workers of a set, until its file says another number itself."""
        self.call("scale", set=name, replicas=replicas)

    def stop(self, *names: str) -> list[str]:
        """Keep workers down until `start`, over restarts of the controller too; the keys that are meant."""
        return [item["key"] for item in self.stream("stop", names=names) if "key" in item]

    def start(self, *names: str) -> list[str]:
        """Take back `stop`, and try what failed now; the keys that are meant."""
        return [item["key"] for item in self.stream("start", names=names) if "key" in item]

    def restart(self, *names: str, now: bool = False) -> list[str]:
        """Replace workers by new ones, by the rollout budget, or `now` all at once; the keys that are meant."""
        return [item["key"] for item in self.stream("restart", names=names, now=now) if "key" in item]

    def reset(self, *names: str) -> list[str]:
        """Forget the failures of workers, and try them now; the keys that are meant."""
        return [item["key"] for item in self.stream("reset", names=names) if "key" in item]

    def signal(self, signal: str, *names: str) -> list[str]:
        """Send a signal, such as "HUP", to the processes of workers; the keys that were reached."""
        return [item["key"] for item in self.stream("signal", names=names, signal=signal) if "key" in item]

    def pause(self, name: str) -> None:
        """Replace no worker of a set until `resume`."""
        self.call("pause", set=name)

    def resume(self, name: str) -> None:
        """Take back `pause`."""
        self.call("resume", set=name)

    def undo(self, name: str, revision: int | None = None) -> int:
        """Run an earlier revision of a set, by default the one before, until its file is edited; its number."""
        return int((self.call("undo", set=name, revision=revision))["revision"])

    def reload(self) -> None:
        """Read the spec files, or call `update`, again."""
        self.call("reload")

    def shutdown(self, *, now: bool = False) -> None:
        """Stop, or `now` kill, all workers, and then the controller."""
        self.call("shutdown", now=now)


class AsyncClient(AsyncCalls):
    """What `Client` is, for asyncio. Several tasks may share it."""

    async def workers(self, *names: str) -> "list[WorkerStatus]":
        """See `Client.workers`."""
        return [row async for item in self.stream("get", names=names) for row in typed.workers(item)]

    async def sets(self, *names: str) -> "list[SetStatus]":
        """See `Client.sets`."""
        return [typed.set_(item) async for item in self.stream("sets", names=names)]

    async def explain(self, *names: str) -> "list[Explanation]":
        """See `Client.explain`."""
        return [typed.explanation(item) async for item in self.stream("explain", names=names)]

    async def events(self, *names: str, since: float | None = None, follow: bool = False) -> "AsyncIterator[Event]":
        """See `Client.events`."""
        async for item in self.stream("events", names=names, since=since, follow=follow):
            yield typed.event(item)

    async def health(self) -> dict[str, Any]:
        """See `Client.health`."""
        return await self.call("status")

    async def scale(self, name: str, replicas: int) -> None:
        """See `Client.scale`."""
        await self.call("scale", set=name, replicas=replicas)

    async def stop(self, *names: str) -> list[str]:
        """See `Client.stop`."""
        return [item["key"] async for item in self.stream("stop", names=names) if "key" in item]

    async def start(self, *names: str) -> list[str]:
        """See `Client.start`."""
        return [item["key"] async for item in self.stream("start", names=names) if "key" in item]

    async def restart(self, *names: str, now: bool = False) -> list[str]:
        """See `Client.restart`."""
        return [item["key"] async for item in self.stream("restart", names=names, now=now) if "key" in item]

    async def reset(self, *names: str) -> list[str]:
        """See `Client.reset`."""
        return [item["key"] async for item in self.stream("reset", names=names) if "key" in item]

    async def signal(self, signal: str, *names: str) -> list[str]:
        """See `Client.signal`."""
        return [item["key"] async for item in self.stream("signal", names=names, signal=signal) if "key" in item]

    async def pause(self, name: str) -> None:
        """See `Client.pause`."""
        await self.call("pause", set=name)

    async def resume(self, name: str) -> None:
        """See `Client.resume`."""
        await self.call("resume", set=name)

    async def undo(self, name: str, revision: int | None = None) -> int:
        """See `Client.undo`."""
        return int((await self.call("undo", set=name, revision=revision))["revision"])

    async def reload(self) -> None:
        """See `Client.reload`."""
        await self.call("reload")

    async def shutdown(self, *, now: bool = False) -> None:
        """See `Client.shutdown`."""
        await self.call("shutdown", now=now)
