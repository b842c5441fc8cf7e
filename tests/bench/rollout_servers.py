"""Servers as workers of reconciler, replaced in every way that there is while they are under load.

Rule: what is run is the project's own example, docs/samples/zero-downtime; only its address, and how long a rollout may
stand still, are changed. A step is over when the controller says that all is as it should be; nothing is slept for.
"""

import contextlib
import importlib.util
import os
import random
import re
import shutil
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import attrs
from bench.loading import Clients, Loading
from fleet import Fleet

from reconciler.client import Client

EXAMPLES = Path(__file__).parents[2] / "docs" / "samples" / "zero-downtime"
PATH = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath), "/usr/sbin"])
"""Where the servers are found: beside this Python, too, and where Debian has nginx."""

STANDSTILL = "5s"
"""After this long a bad version is given up. A good one starts much faster."""


GRACE = 5
"""Seconds that servers give their last requests, instead of 20: a bad version may need all of them for its end."""


@attrs.frozen
class Server:
    """One example: its spec file, what must be installed for it, and an edit that makes a version which never serves.

    One that does not `drain` loses requests whoever stops it; `unix` has it listen on a Unix socket.
    """

    spec: str
    program: str | None = None
    module: str | None = None
    drains: bool = True
    unix: bool = False
    bad: tuple[str, str] = (r'VERSION = "\d+"', 'VERSION = "bad"')

    @property
    def missing(self) -> str | None:
        """What is not installed here; None if it can be run."""
        if self.program is not None and shutil.which(self.program, path=PATH) is None:
            return self.program
        if self.module is not None and importlib.util.find_spec(self.module) is None:
            return self.module
        return None


SERVERS = {
    "uvicorn": Server("uvicorn.toml", module="uvicorn"),
    "uvicorn (Unix socket)": Server("uvicorn.toml", module="uvicorn", unix=True),
    "hypercorn": Server("hypercorn.toml", module="hypercorn"),
    "gunicorn": Server("gunicorn.toml", module="gunicorn"),
    "granian": Server("granian.toml", module="granian", drains=False),
    "nginx": Server("nginx.toml", program="nginx", bad=("daemon off;", "daemon off; no such thing;")),
    "http.server": Server("http-server.toml"),
}


@contextlib.contextmanager
def free_address() -> Iterator[str]:
    """A TCP address that nobody else takes meanwhile: it is bound here, and free for who listens."""
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{holder.getsockname()[1]}"


class Course:
    """An example that runs in `place` at an address, and all that can be done to it."""

    def __init__(self, server: Server, place: Path, address: str) -> None:
        self.address = f"unix:{place}/web.sock" if server.unix else address
        self._server = server
        self._specs, self._state = place / "specs", place / "state"
        self._version = 1
        self._luck = random.Random(7)
        shutil.copytree(EXAMPLES, self._specs, ignore=shutil.ignore_patterns("*.toml", "__pycache__"))
        was = re.search(r'address = "(.+)"', (EXAMPLES / server.spec).read_text())
        assert was is not None
        for path in self._specs.glob("*.conf"):
            path.write_text(path.read_text().replace(was[1], self.address))
        text = (EXAMPLES / server.spec).read_text().replace(was[1], self.address)
        text = text.replace('"20"', f'"{GRACE}"')
        self._text = text.replace("[rollout]\n", f'[rollout]\nprogress_deadline = "{STANDSTILL}"\n')
        self.replicas = int(re.search(r"replicas = (\d+)", text)[1])  # type: ignore[index]
        self._write(self._text)
        self.fleet = Fleet(self._specs, "--state-dir", str(self._state), env={"PATH": PATH})

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self.fleet)
            self._settled()
            undo.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self.fleet.__exit__(*raised)

    @property
    def replacements(self) -> int:
        """How many workers that had served were ended."""
        ready = {told["uid"] for told in self.fleet.all("worker.ready")}
        return sum(told["uid"] in ready for told in self.fleet.all("worker.exited"))

    # ------------------------------------------------------------------------------------------------ what can be done

    def edit(self) -> None:
        """Change a variable in the file."""
        self._version += 1
        self._text = re.sub(r'VERSION = "\w+"', f'VERSION = "{self._version}"', self._text)
        self._write(self._text)
        self._rolled()

    def restart(self) -> None:
        """Ask for a restart of all."""
        with self._client() as client:
            client.restart("web")
        self._rolled()

    def scale(self) -> None:
        """Have one worker more, and then one less."""
        last = f"web-{self.replicas}"
        with self._client() as client:
            client.scale("web", self.replicas + 1)
            self.fleet.wait("worker.ready", key=last)
            self._settled()
            client.scale("web", self.replicas)
            self.fleet.wait("worker.exited", key=last)
            self._settled()

    def undo(self) -> None:
        """Go back to the version before."""
        with self._client() as client:
            client.undo("web")
        self._rolled()

    def kill(self) -> None:
        """Kill a worker, which loses what it has accepted."""
        key = f"web-{self._luck.randrange(self.replicas)}"
        (pid,) = {told["pid"] for told in self.fleet.all("worker.ready", key=key)} - {
            told["pid"] for told in self.fleet.all("worker.exited", key=key)
        }
        os.kill(pid, signal.SIGKILL)
        self.fleet.wait("worker.exited", key=key, pid=pid)
        self.fleet.wait("worker.ready", key=key)
        self._settled()

    def bad(self) -> None:
        """Roll out a version that never serves, until the rollout stalls; then go back."""
        self._write(re.sub(*self._server.bad, self._text))
        self.fleet.wait("rollout.stalled")
        self._write(self._text)
        self._settled()

    # ----------------------------------------------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        draft = self._specs / ".draft"
        draft.write_text(text)
        draft.rename(self._specs / "web.toml")

    def _client(self) -> Client:
        return Client(str(self._state))

    def _rolled(self) -> None:
        self.fleet.wait("rollout.started")
        self.fleet.wait("rollout.completed")
        self._settled()

    def _settled(self) -> None:
        self.fleet.wait("controller.converged")


STEPS = ("edit", "restart", "scale", "undo", "kill", "bad")


def run(name: str, place: Path, *, replacements: int, clients: Clients) -> dict[str, Any]:
    """Take an example through its steps, again and again, until there were so many replacements: its figures.

    The bad version, which takes its time, comes in every fifth round.
    """
    server = SERVERS[name]
    with free_address() as address, Course(server, place, address) as course:
        begun, rounds = time.monotonic(), 0
        with Loading(course.address, clients) as loading:
            while course.replacements < replacements:
                for step in STEPS if rounds % 5 == 0 else STEPS[:-1]:
                    loading.stretch(step)
                    getattr(course, step)()
                    if course.replacements >= replacements and rounds:
                        break
                rounds += 1
            loading.stretch("end")
        seconds = time.monotonic() - begun
        return {"replacements": course.replacements, "seconds": round(seconds, 1), "clients": loading.counts}
