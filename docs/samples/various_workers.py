"""Two kinds of worker under one master. Kill one, and it comes back; HUP changes what differs, here the greeting.

python docs/samples/various_workers.py
"""

import os
import pathlib

import attrs

from reconciler import worker
from reconciler.prefork import (
    PreforkResource,
    WorkerContext,
    default_main,
    empty_prefork_resource,
    fork_worker_process,
    relaunch_settings,
    update_worker_set,
)


@attrs.frozen
class Config:
    """What every worker is to say."""

    greeting: str


@attrs.frozen(order=True)
class Greeter(WorkerContext):
    """A worker that greets, and waits to be asked to end."""

    key: str
    greeting: str


@attrs.frozen(order=True)
class Counter(WorkerContext):
    """A worker that counts to a number, and waits."""

    key: str
    limit: int

    def interpreter_options(self) -> list[str]:
        """Each kind may have an interpreter of its own: this one runs without assertions."""
        return ["-O"]


def update(resource: PreforkResource[Greeter | Counter]) -> Config:
    """Called at the start and on HUP: read the configuration, and say which workers should exist."""
    path = pathlib.Path(os.environ.get("GREETING_FILE", "greeting.txt"))
    config = Config(path.read_text().strip() if path.exists() else "Hello")
    update_worker_set(resource, [Greeter("greeter", config.greeting), Counter("counter", 3)])
    return config


def fork(context: Greeter | Counter) -> int:
    """Start one of them."""
    return fork_worker_process(context, [f"key={context.key}"])


def action(context: Greeter | Counter) -> None:
    """What a worker does."""
    drain = worker.drain()
    match context:
        case Greeter(greeting=greeting):
            print(f"{greeting} from {os.getpid()}")
        case Counter(limit=limit):
            print("I count:", *range(1, limit + 1))
    drain.wait()


if __name__ == "__main__":
    default_main(relaunch_settings(empty_prefork_resource(), update, fork), action)
