"""A preforking server with uvicorn and an ASGI application.

An answer says who gives it, and sends the request's body back. HUP replaces the workers, with the code as it is then. A
worker asked to stop accepts no more, gives connections a moment to send their first request, and finishes them.
"""

import argparse
import asyncio
import contextlib
import functools
import os
import socket
import time
from typing import Any

import attrs
import uvicorn

from reconciler import Controller, Policy, fork_worker_process, listen, worker


@attrs.frozen
class Web:
    """A worker. HUP asks for one of now, which replaces the one of then."""

    key: int
    since: float
    listener: socket.socket


async def app(web: Web, scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application."""
    more, body = scope["type"] == "http", f"key={web.key} pid={os.getpid()}\n".encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    while more:
        message = await receive()
        body, more = message.get("body", b""), message.get("more_body", False)
        await send({"type": "http.response.body", "body": body, "more_body": more})


class Server(uvicorn.Server):
    """A uvicorn that is stopped by the worker's drain."""

    capture_signals: Any = contextlib.nullcontext  # TERM is the drain's; uvicorn would raise it again at its end

    async def startup(self, sockets: Any = None) -> None:
        """Begin, and tell the master."""
        await super().startup(sockets)
        worker.ready()

    async def on_tick(self, counter: int) -> bool:
        """Whether to end; asked ten times a second."""
        return worker.drain().is_set() or await super().on_tick(counter)

    async def shutdown(self, sockets: Any = None) -> None:
        """End. uvicorn would at once close the connections that it accepted just before."""
        for listener in sockets:
            asyncio.get_running_loop().remove_reader(listener)
        await asyncio.sleep(0.1)
        await super().shutdown(sockets)


def serve(web: Web) -> None:
    """Answer until asked to stop."""
    worker.drain()
    config = uvicorn.Config(functools.partial(app, web), interface="asgi3", lifespan="off", log_level="warning")
    Server(config).run(sockets=[web.listener])


def main() -> None:
    """Be a worker, or keep the workers running."""
    web = worker.context(Web)
    if web is not None:
        serve(web)
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:8000")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    listener = listen(options.listen)
    Controller(
        lambda: [Web(key, time.time(), listener) for key in range(options.workers)],
        lambda web: fork_worker_process(web, [f"id={web.key}"]),
        policy=Policy(ready="notify"),
    ).run()


if __name__ == "__main__":
    main()
