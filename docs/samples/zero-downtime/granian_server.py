"""granian on a socket that is open: its descriptor is the only argument."""

import asyncio
import os
import signal
import sys

from app import app, tell_ready
from granian.constants import Interfaces
from granian.net import SocketHolder
from granian.server.embed import Server


class OpenServer(Server):
    """A granian that makes no socket. `_init_shared_socket` and `SocketHolder` are internals of granian 2.8."""

    def _init_shared_socket(self) -> None:
        descriptor = int(sys.argv[1])
        os.set_blocking(descriptor, False)
        self._shd = SocketHolder(descriptor, False, self.backlog)  # noqa: FBT003  it is no Unix socket


async def main() -> None:
    """Serve until TERM."""
    server, asked = OpenServer(app, interface=Interfaces.ASGINL, log_enabled=False), asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
    server.on_startup(tell_ready)
    serving = asyncio.create_task(server.serve())
    await asked.wait()
    server.stop()
    await serving
    os._exit(0)  # its threads live on, and would crash as the interpreter ends


asyncio.run(main())
