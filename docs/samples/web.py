"""A preforking web server: the listening socket is made once, and each worker serves it with uvicorn.

python docs/samples/web.py -p 8000 -w 4

`ps` shows each worker's id. Kill one, and the one with its id is back. On HUP the file web.toml, if there is one, is
read again, as in `workers = 2` and `greeting = "Good day"`, and only what differs is replaced, without a lost request.
"""

import argparse
import asyncio
import contextlib
import os
import pathlib
import socket
import tomllib
from typing import Any

import attrs

from reconciler import Backoff, Budget, Controller, Policy, Restart, Rollout, fork_worker_process, listen, worker


@attrs.frozen
class Web:
    """What a worker is told. `key` says which one it is, the rest how it is to serve."""

    key: int
    greeting: str
    listener: socket.socket


def serve(web: Web) -> None:
    """What a worker does: a small ASGI application under uvicorn, until it is asked to end."""
    import uvicorn  # noqa: PLC0415  the master has no use for it

    worker.drain()

    async def app(scope: dict[str, Any], _receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return
        body = f"{web.greeting} from worker {web.key}, process {os.getpid()}\n".encode()
        # A client is told with its answer that this connection ends, so that it never asks again in vain.
        headers = [(b"connection", b"close")] if worker.drain().is_set() else []
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    class Server(uvicorn.Server):
        capture_signals: Any = contextlib.nullcontext  # TERM is the drain's; uvicorn would raise it again at its end

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            worker.ready()

        async def on_tick(self, counter: int) -> bool:
            return worker.drain().is_set() or await super().on_tick(counter)

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            # uvicorn would at once close connections on which the next request is on its way.
            asyncio.get_running_loop().remove_reader(web.listener)
            for _ in range(20):
                await asyncio.sleep(0.1)
                if not self.server_state.connections:
                    break
            await super().shutdown(sockets)

    Server(uvicorn.Config(app, lifespan="off", log_level="warning", access_log=False)).run([web.listener])


def main() -> None:
    """The program, in either of its roles."""
    web = worker.context(Web)
    if web is not None:
        serve(web)
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("-p", "--port", type=int, default=8000)
    parser.add_argument("-w", "--workers", type=int, default=4)
    options = parser.parse_args()
    listener = listen(f"127.0.0.1:{options.port}")

    def update() -> list[Web]:
        path = pathlib.Path("web.toml")
        settings = tomllib.loads(path.read_text()) if path.exists() else {}
        count = settings.get("workers", options.workers)
        return [Web(number, settings.get("greeting", "Hello"), listener) for number in range(count)]

    def scale(step: int) -> None:
        options.workers = max(1, options.workers + step)

    policy = Policy(
        ready="notify",
        restart=Restart(backoff=Backoff(initial=0.1, max=1)),
        rollout=Rollout(max_surge=Budget(1), max_unavailable=Budget(0)),
    )
    controller = Controller(update, lambda web: fork_worker_process(web, [f"id={web.key}"]), policy=policy, scale=scale)
    controller.run()


if __name__ == "__main__":
    main()
