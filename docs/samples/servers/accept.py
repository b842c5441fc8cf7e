"""A preforking server with a plain accept loop: each worker is a true fork, and answers one connection at a time.

An answer says who gives it, and sends the request's body back. HUP replaces the workers, one after the other. A worker
asked to stop finishes the connection that it holds; those that it did not accept wait for the others.
"""

import argparse
import contextlib
import os
import socket
import time
from http.client import HTTPException, parse_headers

import attrs

from reconciler import Controller, Policy, fork_worker, listen, worker


@attrs.frozen
class Web:
    """A worker. HUP asks for one of now, which replaces the one of then."""

    key: int
    since: float
    listener: socket.socket


def serve(web: Web) -> None:
    """Answer until asked to stop."""
    connections = worker.connections(web.listener)
    worker.ready()
    for connection, _ in connections:
        connection.settimeout(30)
        with connection, contextlib.suppress(OSError, ValueError, HTTPException):  # the client's faults
            answer(web, connection)


def answer(web: Web, connection: socket.socket) -> None:
    """Read one request and answer it."""
    with connection.makefile("rwb") as stream:
        stream.readline(1 << 16)
        length = parse_headers(stream).get("Content-Length", "0")
        stream.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
        stream.write(f"key={web.key} pid={os.getpid()}\n".encode())
        stream.flush()
        stream.write(stream.read(int(length)))


def main() -> None:
    """Keep the workers running."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:8000")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    listener = listen(options.listen)
    Controller(
        lambda: [Web(key, time.time(), listener) for key in range(options.workers)],
        lambda web: fork_worker(serve, web),
        policy=Policy(ready="notify"),
    ).run()


if __name__ == "__main__":
    main()
