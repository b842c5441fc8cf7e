"""A server of http.server's making that loses nothing: the descriptor of its socket is the only argument.

On TERM it accepts no more. A connection that is kept has one more second, in which the client may be writing already:
an answer then says that it is the last, and after that second of silence the connection is closed.
"""

import os
import select
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from app import tell_ready, wsgi

LINGER = 1.0  # seconds

ended, end = os.pipe()  # `ended` can be read from once TERM came, by all threads


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Answer the next request, if one comes."""
        select.select([self.connection.fileno(), ended], [], [])
        if select.select([self.connection], [], [], LINGER)[0]:
            super().handle_one_request()
        else:
            self.close_connection = True

    def do_GET(self) -> None:
        """Answer."""
        self.send_response(200)
        if select.select([ended], [], [], 0)[0]:
            self.send_header("Connection", "close")
        for part in wsgi({}, self._begin):
            self.wfile.write(part)

    def _begin(self, _status: str, headers: list[tuple[str, str]]) -> None:
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    """Serve until TERM."""
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.setblocking(False)  # noqa: FBT003  else who loses the race for a connection waits here for the next
    signal.signal(signal.SIGTERM, lambda *_: os.write(end, b"\n"))
    with ThreadingHTTPServer(("", 0), Handler, bind_and_activate=False) as server:
        server.daemon_threads = False  # else its end would not wait for them
        tell_ready()
        while ended not in select.select([listener.fileno(), ended], [], [])[0]:
            try:
                connection, address = listener.accept()
            except BlockingIOError:  # another worker was faster
                continue
            connection.setblocking(True)  # noqa: FBT003
            server.process_request(connection, address)


main()
