"""hypercorn on a socket that is open, and with an end that loses nothing: its descriptor is the only argument.

By itself hypercorn closes at once, on TERM, all connections on which nothing is asked, even if a request is coming.
Here it goes on for a second with the connections that it has, and says with each answer that it is the last.
"""

import asyncio
import signal
import sys
from typing import Any

from app import app
from hypercorn.asyncio import serve
from hypercorn.config import Config

LINGER = 1.0  # seconds


async def main() -> None:
    """Serve until TERM."""
    descriptor, loop, asked = int(sys.argv[1]), asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, asked.set)

    async def drain() -> None:
        await asked.wait()
        loop.remove_reader(descriptor)  # it accepts no more
        await asyncio.sleep(LINGER)

    async def with_last_answers(scope: Any, receive: Any, send: Any) -> None:
        async def send_more(event: Any) -> None:
            if asked.is_set() and event["type"] == "http.response.start":
                event["headers"] = [*event["headers"], (b"connection", b"close")]
            await send(event)

        await app(scope, receive, send_more)

    config = Config.from_mapping(bind=[f"fd://{descriptor}"], graceful_timeout=20, loglevel="WARNING")
    await serve(with_last_answers, config, shutdown_trigger=drain)


asyncio.run(main())
