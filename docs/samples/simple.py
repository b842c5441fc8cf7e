"""The smallest program on the low-level interface: one worker says hello and exits; HUP runs another.

python docs/samples/simple.py
"""

import os

import attrs

from reconciler.prefork import Settings, WorkerContext, default_main, fork_worker_process


@attrs.frozen
class ServerConfig:
    """There is nothing to configure."""


@attrs.frozen
class Worker(WorkerContext):
    """What a worker is told."""

    message: str


def update_config() -> ServerConfig:
    """Called at the start and on HUP."""
    return ServerConfig()


def update_server(_config: ServerConfig) -> list[int]:
    """Called on HUP, the first of which is the start."""
    return [fork_worker_process(Worker("Hello. I'm a worker."))]


def on_start(_config: ServerConfig) -> None:
    """Called once."""
    print(f"Please send SIGHUP to {os.getpid()} to relaunch a worker", flush=True)


def action(worker: Worker) -> None:
    """What a worker does."""
    print(worker.message)


if __name__ == "__main__":
    default_main(Settings(update_config=update_config, update_server=update_server, on_start=on_start), action)
