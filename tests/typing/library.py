"""Code as users would write it, for the type checker: it must be accepted in strict mode, and it is never run."""

import asyncio
import subprocess
from collections.abc import Callable, Collection, Iterable, Sequence

import attrs

from reconciler import (
    Backoff,
    Budget,
    Controller,
    Dependency,
    Drain,
    Driver,
    Event,
    HttpCheck,
    Phase,
    Policy,
    Probe,
    Probes,
    Reading,
    Ready,
    Restart,
    Rollout,
    SetSpec,
    SetStatus,
    Snapshot,
    Socket,
    Source,
    StartLimit,
    Stop,
    WorkerSet,
    WorkerSpec,
    WorkerStatus,
    __version__,
)


@attrs.frozen
class Consumer:
    """A worker of the user's own type."""

    key: str
    queue: str


def update() -> Iterable[Consumer] | None:
    """What should run."""
    return [Consumer("mail-0", "mail"), Consumer("mail-1", "mail")]


def fork(consumer: Consumer) -> subprocess.Popen[bytes]:
    """Start one of them."""
    return subprocess.Popen(["consume", consumer.queue])


def fork_bare(consumer: Consumer) -> int:
    """Start one of them, and say only its pid."""
    return fork(consumer).pid


def by_hand() -> Snapshot:
    """A program that has nothing else to do, with everything that can be said."""
    policy = Policy(
        min_ready=1,
        restart=Restart(
            policy="on_failure",
            success_exit_codes=(0, 3),
            backoff=Backoff(initial=0.5, max=30),
            start_limit=StartLimit(burst=5, interval=60),
        ),
        stop=Stop(signal="INT", timeout=5),
        rollout=Rollout(strategy="rolling", max_surge=Budget(25, percent=True), max_unavailable=Budget(0)),
    )
    wanted = 2

    def scale(step: int) -> None:
        nonlocal wanted
        wanted += step

    controller = Controller(
        update, fork_bare, key=lambda consumer: consumer.key, policy=policy, interval=10, scale=scale
    )
    controller.publish = publish
    return controller.run(once=True)


def publish(events: Sequence[Event]) -> None:
    """Events where the user wants them."""
    for event in events:
        name: str = event.event
        reason: str | None = event.reason
        print(__version__, name, reason, event.fields())


def rows(snapshot: Snapshot) -> list[str]:
    """What can be seen of the state."""
    sets: tuple[SetStatus, ...] = snapshot.sets
    workers: tuple[WorkerStatus, ...] = snapshot.workers
    running = [worker.key for worker in workers if worker.phase == Phase.RUNNING and worker.ready]
    return [*running, *(one.name for one in sets if not one.converged)]


def served() -> SetSpec:
    """A set that serves without a gap."""
    asked = HttpCheck(address="127.0.0.1:{port:admin}", path="/healthz")
    return SetSpec(
        name="web",
        command=("serve", "--fd", "{fd:http}"),
        sockets=(
            Socket(name="http", address="127.0.0.1:8000"),
            Socket(name="admin", address="127.0.0.1:0", per_worker=True),
        ),
        ready=Ready(notify=True),
        probes=Probes(liveness=Probe(http=asked)),
        depends_on=(Dependency(set="db"),),
        stop=Stop(drain=Drain(delay=1.0)),
    )


async def inside_asyncio() -> None:
    """A program with a loop of its own."""
    specs = [SetSpec(name="web", command=("python3", "-m", "http.server"), replicas=2)]
    controller = Controller(lambda: specs)
    serving = asyncio.create_task(controller.serve())
    snapshot = await controller.settled()
    print(rows(snapshot), rows(controller.status()))
    controller.reload()
    controller.stop()
    await serving


class Queues:
    """A source of the user's own."""

    def read(self, now: float, *, urgent: bool = False) -> Reading:
        """Say what is wanted, and ask to be asked again."""
        worker = WorkerSpec(key="mail-0", digest="v1", payload=Consumer("mail-0", "mail"))
        wanted = WorkerSet("consumers", {worker.key: worker})
        return Reading({wanted.name: wanted}, wake_at=None if urgent else now + 10)

    def fileno(self) -> int | None:
        """There is no bell."""
        return None

    def close(self) -> None:
        """Nothing is held."""


def with_parts(driver: Driver) -> None:
    """Sources and drivers may stand where the callables do."""
    source: Source = Queues()
    live: Callable[[], Collection[str]] = driver.live
    print(live())
    Controller(source, driver).run()
    Controller(source, fork=fork).run()
