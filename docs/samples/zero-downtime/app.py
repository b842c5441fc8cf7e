"""One small application for all the servers here: `app` for ASGI, `wsgi` for WSGI.

It takes 20 ms for an answer, in two parts, as one does that asks a database: so that there is always something to lose.
"""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from typing import Any

VERSION = os.environ.get("VERSION", "1")
BODY = f"hello from {os.environ.get('RECONCILER_KEY', 'nobody')}, version {VERSION}, process {os.getpid()}\n".encode()
HALF = len(BODY) // 2

if VERSION == "bad":
    time.sleep(3600)  # a version that comes up, and never so far that it could serve


def tell_ready() -> None:
    """Tell that this worker can serve, by systemd's protocol, as `[ready] notify = true` has it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.sendto(b"READY=1", "\0" + address[1:] if address[0] == "@" else address)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    await asyncio.sleep(0.01)
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(BODY)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": BODY[:HALF], "more_body": True})
    await asyncio.sleep(0.01)
    await send({"type": "http.response.body", "body": BODY[HALF:]})


async def _live(receive: Any, send: Any) -> None:
    """The application's own start and end. A server that has a socket given to it can serve as soon as it has started:
    what comes before it accepts waits in the socket.
    """
    while True:
        event = (await receive())["type"]
        await send({"type": f"{event}.complete"})
        if event == "lifespan.shutdown":
            return
        tell_ready()


def wsgi(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """The WSGI application."""
    time.sleep(0.01)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))])
    yield BODY[:HALF]
    time.sleep(0.01)
    yield BODY[HALF:]
