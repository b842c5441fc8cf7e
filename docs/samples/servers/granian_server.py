"""A preforking server with granian, embedded, and an ASGI application.

An answer says who gives it, and sends the request's body back. HUP replaces the workers, with the code as it is then. A
worker asked to stop finishes its requests. By itself granian binds a socket in each process (SO_REUSEPORT), and what
waits there is lost when it closes. It has no setting for an open socket, so that the master's is given to it by the
internals `_init_shared_socket` and `SocketHolder` of granian 2.8. What remains: when it stops, it closes connections
that it accepted and has not read from, and a client that got no answer at all must ask again.
"""

import argparse
import asyncio
import functools
import os
import socket
import time
from typing import Any

import attrs
from granian.constants import Interfaces
from granian.net import SocketHolder
from granian.server.embed import Server

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


class SharedServer(Server):
    """A granian on the master's socket."""

    listener: socket.socket

    def _init_shared_socket(self) -> None:
        unix = self.listener.family == socket.AF_UNIX
        self._shd = SocketHolder(self.listener.detach(), unix, self.backlog)  # which closes it


async def serve(web: Web) -> None:
    """Answer until asked to stop."""
    drain = worker.drain()
    web.listener.settimeout(0)
    server = SharedServer(functools.partial(app, web), interface=Interfaces.ASGINL, log_enabled=False)
    server.listener = web.listener
    server.on_startup(worker.ready)
    serving = asyncio.create_task(server.serve())
    await drain.wait_async()
    server.stop()
    await serving
    os._exit(0)  # its threads live on, and would crash as the interpreter ends


def main() -> None:
    """Be a worker, or keep the workers running."""
    web = worker.context(Web)
    if web is not None:
        asyncio.run(serve(web))
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
