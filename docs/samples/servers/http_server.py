"""A preforking server with http.server of the standard library: a thread for each connection.

An answer says who gives it, and sends the request's body back. HUP replaces the workers, with the code as it is then. A
worker asked to stop accepts no more, and waits for its threads.
"""

import argparse
import os
import socket
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import attrs

from reconciler import Controller, Policy, fork_worker_process, listen, worker


@attrs.frozen
class Web:
    """A worker. HUP asks for one of now, which replaces the one of then."""

    key: int
    since: float
    listener: socket.socket


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    web: Web
    timeout = 30  # seconds for which a silent client can hold up a stop

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"key={self.web.key} pid={os.getpid()}\n".encode())
        self.wfile.write(self.rfile.read(int(self.headers.get("Content-Length", "0"))))

    do_POST = do_GET  # noqa: N815

    def address_string(self) -> str:
        """Name the client in the log; one on a Unix socket has no name."""
        return str(self.client_address and self.client_address[0])


def serve(web: Web) -> None:
    """Answer until asked to stop."""
    Handler.web = web
    with ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False) as server:
        server.daemon_threads = False  # else its end would not wait for them
        connections = worker.connections(web.listener)
        worker.ready()
        for connection, address in connections:
            server.process_request(connection, address)


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
