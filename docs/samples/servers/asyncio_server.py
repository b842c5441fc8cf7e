"""A preforking server with asyncio.

An answer says who gives it, and sends the request's body back. HUP replaces the workers, with the code as it is then. A
worker asked to stop accepts no more, and finishes its answers. It accepts by itself, since the server that
`asyncio.start_server` makes does not tell, when it is closed, of connections that it accepted just before.
"""

import argparse
import asyncio
import io
import os
import socket
import time
from http.client import parse_headers

import attrs

from reconciler import Controller, Policy, fork_worker_process, listen, worker


@attrs.frozen
class Web:
    """A worker. HUP asks for one of now, which replaces the one of then."""

    key: int
    since: float
    listener: socket.socket


async def serve(web: Web) -> None:
    """Answer until asked to stop."""
    drain, loop, answers = worker.drain(), asyncio.get_running_loop(), set()

    def accept() -> None:
        try:
            connection, _ = web.listener.accept()
        except BlockingIOError:  # another worker was faster
            return
        answers.add(task := loop.create_task(answer(web, connection)))
        task.add_done_callback(answers.discard)

    web.listener.settimeout(0)
    loop.add_reader(web.listener, accept)
    worker.ready()
    await drain.wait_async()
    loop.remove_reader(web.listener)
    await asyncio.gather(*answers, return_exceptions=True)


async def answer(web: Web, connection: socket.socket) -> None:
    """Read one request and answer it."""
    reader, writer = await asyncio.open_connection(sock=connection)
    try:
        async with asyncio.timeout(30):
            await reader.readline()
            headers = parse_headers(io.BytesIO(await reader.readuntil(b"\r\n\r\n")))
            writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            writer.write(f"key={web.key} pid={os.getpid()}\n".encode())
            writer.write(await reader.readexactly(int(headers.get("Content-Length", "0"))))
            await writer.drain()
    finally:
        writer.close()


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
