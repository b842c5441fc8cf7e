"""A web application on a Redis: it counts visits. Redis understands lines of text, so that no library is needed."""

import asyncio
import os
import socket
from typing import Any

PORT = 6399


async def ask_redis(*words: str) -> bytes:
    """What Redis answers to a command: a line."""
    reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
    try:
        writer.write(" ".join(words).encode() + b"\r\n")
        line = await reader.readline()
        if line.startswith(b"$"):  # the length of what follows
            line = await reader.readline()
        return line.strip().lstrip(b":+")
    finally:
        writer.close()


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The ASGI application."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    visits = await ask_redis("INCR", "visits")
    body = b"visit " + visits + b"\n"
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Any, send: Any) -> None:
    """The application's own start and end."""
    await receive()
    if await ask_redis("GET", "schema") != b"1":
        await send({"type": "lifespan.startup.failed", "message": "the migration was not made"})
        return
    await send({"type": "lifespan.startup.complete"})
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
            notices.sendto(b"READY=1", "\0" + address[1:] if address[0] == "@" else address)
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
