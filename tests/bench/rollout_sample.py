"""The library's own sample of a web server, docs/samples/web.py, replaced under load: by HUP, by signals, by kill -9.

Rule: as in `rollout_servers`; what a spec file and the verbs do there, the sample's own file and signals do here.
"""

import contextlib
import os
import random
import signal
import time
from pathlib import Path
from typing import Any, Self

from bench.loading import Clients, Loading
from bench.rollout_servers import free_address
from fleet import Fleet
from processes import ROOT

NAME = "docs/samples/web.py"
WORKERS = 3


class Sample:
    """The sample, in a directory of its own."""

    def __init__(self, place: Path, address: str) -> None:
        self._file = place / "web.toml"
        self._version = 0
        self._luck = random.Random(7)
        _, _, port = address.rpartition(":")
        program = (str(ROOT / "docs" / "samples" / "web.py"), "-p", port, "-w", str(WORKERS))
        self.fleet = Fleet(None, program=program, prefix=("env", "-C", str(place)))

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as undo:
            undo.enter_context(self.fleet)
            self.fleet.wait("controller.converged")
            undo.pop_all()
        return self

    def __exit__(self, *raised: object) -> None:
        self.fleet.__exit__(*raised)

    def edit(self) -> None:
        """Change a parameter of all workers."""
        self._version += 1
        self._file.write_text(f'greeting = "Version {self._version}"')
        self.fleet.signal("HUP")
        self.fleet.wait("rollout.completed")
        self.fleet.wait("controller.converged")

    def scale(self) -> None:
        """Have one worker more, and then one less."""
        self.fleet.signal("TTIN")
        self.fleet.wait("worker.ready", key=str(WORKERS))
        self.fleet.wait("controller.converged")
        self.fleet.signal("TTOU")
        self.fleet.wait("worker.exited", key=str(WORKERS))
        self.fleet.wait("controller.converged")

    def kill(self) -> None:
        """Kill a worker."""
        key = str(self._luck.randrange(WORKERS))
        pid = self.fleet.all("worker.ready", key=key)[-1]["pid"]
        os.kill(pid, signal.SIGKILL)
        self.fleet.wait("worker.exited", key=key, pid=pid)
        self.fleet.wait("worker.ready", key=key)
        self.fleet.wait("controller.converged")


def run(place: Path, *, replacements: int, clients: Clients) -> dict[str, Any]:
    """Take the sample through its steps until there were so many replacements: its figures."""
    with free_address() as address, Sample(place, address) as sample:
        begun = time.monotonic()
        exited = sample.fleet.all
        with Loading(address, clients, expect="from worker") as loading:
            while len(exited("worker.exited")) < replacements:
                for step in ("edit", "scale", "kill"):
                    loading.stretch(step)
                    getattr(sample, step)()
            loading.stretch("end")
        seconds = round(time.monotonic() - begun, 1)
        return {"replacements": len(exited("worker.exited")), "seconds": seconds, "clients": loading.counts}
