"""Others who replace workers, under the same load: gunicorn on HUP, uvicorn on HUP, supervisorctl and circusctl.

Rule: each is set up as its own documentation has it for a shared socket, and serves the same application by as many
workers. A reload is over when as many workers as there should be were born since, and all those from before are dead:
births are written by the application into a FIFO, and deaths are seen through pidfds.
"""

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
from bench.loading import Clients, Loading

APP = Path(__file__).parents[2] / "docs" / "samples" / "zero-downtime" / "app.py"
PATIENCE = 120.0
"""Seconds after which a reload has failed."""

BORN = """
import os
from sample import app, wsgi
with open(os.environ["BIRTHS"], "a") as births:
    births.write(f"{os.getpid()}\\n")
"""

SUPERVISORD = """
[supervisord]
nodaemon=true
logfile={place}/supervisord.log
pidfile={place}/supervisord.pid
[unix_http_server]
file={place}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{place}/supervisor.sock
[fcgi-program:web]
socket=tcp://127.0.0.1:{port}
command={python} -m uvicorn app:app --fd 0 --log-level warning --no-access-log
process_name=%(program_name)s_%(process_num)d
numprocs={workers}
directory={place}
stdout_logfile=NONE
stderr_logfile=NONE
"""

CIRCUS = """
[circus]
endpoint=ipc://{place}/control
pubsub_endpoint=ipc://{place}/pubsub
check_delay=5
[socket:web]
host=127.0.0.1
port={port}
backlog=2048
[watcher:web]
cmd={python} -m uvicorn app:app --fd $(circus.sockets.web) --log-level warning --no-access-log
numprocesses={workers}
use_sockets=True
copy_env=True
working_dir={place}
"""


@attrs.frozen
class Peer:
    """One of the others: `server` is its command, and `reload` has it replace all workers.

    The text of `files` is written into its directory before it starts. {place}, {port}, {workers} and {python} stand in
    all of them.
    """

    server: tuple[str, ...]
    reload: Callable[[subprocess.Popen[bytes], dict[str, str]], None]
    files: dict[str, str] = attrs.field(factory=dict)


def _hup(server: subprocess.Popen[bytes], _values: dict[str, str]) -> None:
    server.send_signal(signal.SIGHUP)


def _command(*words: str) -> Callable[[subprocess.Popen[bytes], dict[str, str]], None]:
    """What reloads by a command."""

    def reload(_server: subprocess.Popen[bytes], values: dict[str, str]) -> None:
        subprocess.run(
            [word.format_map(values) for word in words], stdout=subprocess.DEVNULL, timeout=PATIENCE, check=True
        )

    return reload


_QUIET = ("--log-level", "warning")
_UVICORN = ("{python}", "-m", "uvicorn", "app:app", "--port", "{port}", "--workers", "{workers}", "--no-access-log")
_GUNICORN = ("{python}", "-m", "gunicorn", "app:wsgi", "-b", "127.0.0.1:{port}", "-w", "{workers}", "--threads", "8")
_SUPERVISOR = ("-c", "{place}/supervisord.conf")
_RESTART = ("{python}", "-m", "supervisor.supervisorctl", *_SUPERVISOR, "restart", "web:*")
_RELOAD = ("{python}", "-m", "circus.circusctl", "--endpoint", "ipc://{place}/control", "reload", "web")

PEERS = {
    "gunicorn HUP": Peer((*_GUNICORN, *_QUIET), _hup),
    "uvicorn HUP": Peer((*_UVICORN, *_QUIET), _hup),
    "supervisorctl restart": Peer(
        ("{python}", "-m", "supervisor.supervisord", *_SUPERVISOR),
        _command(*_RESTART),
        {"supervisord.conf": SUPERVISORD},
    ),
    "circusctl reload": Peer(
        ("{python}", "-m", "circus.circusd", "{place}/circus.ini", *_QUIET),
        _command(*_RELOAD),
        {"circus.ini": CIRCUS},
    ),
}


class Births:
    """The workers that come into the world, and go out of it, as a FIFO and pidfds tell."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._inlet = os.open(path, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self.alive: dict[int, int] = {}

    def close(self) -> None:
        """Let go of everything."""
        for pidfd in (self._inlet, *self.alive.values()):
            os.close(pidfd)

    def come(self, count: int) -> None:
        """Wait until `count` more workers were born."""
        deadline = time.monotonic() + PATIENCE
        while count > 0:
            if not select.select([self._inlet], [], [], max(0, deadline - time.monotonic()))[0]:
                raise RuntimeError(f"{count} workers are not born")
            *lines, self._rest = (self._rest + os.read(self._inlet, 65536)).split(b"\n")
            for line in lines:
                count -= 1
                with contextlib.suppress(ProcessLookupError):  # it is dead already
                    self.alive[int(line)] = os.pidfd_open(int(line))

    def go(self, pids: list[int]) -> None:
        """Wait until these workers are dead."""
        for pid in pids:
            pidfd = self.alive.pop(pid)
            if not select.select([pidfd], [], [], PATIENCE)[0]:
                raise RuntimeError(f"worker {pid} does not end")
            os.close(pidfd)


@contextlib.contextmanager
def _serving(peer: Peer, place: Path, values: dict[str, str]) -> Iterator[tuple[subprocess.Popen[bytes], Births]]:
    """A peer whose workers all serve."""
    shutil.copy(APP, place / "sample.py")
    (place / "app.py").write_text(BORN)
    for name, text in peer.files.items():
        (place / name).write_text(text.format_map(values))
    births = Births(place / "births")
    server = subprocess.Popen(
        [word.format_map(values) for word in peer.server],
        cwd=place,
        env={**os.environ, "BIRTHS": str(place / "births")},
        stdout=subprocess.DEVNULL,
        stderr=(place / "stderr").open("ab"),
        start_new_session=True,
    )
    try:
        births.come(int(values["workers"]))
        _accepts(int(values["port"]))
        yield server, births
    finally:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        births.close()


def _accepts(port: int) -> None:
    """Wait until somebody listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def run(name: str, place: Path, *, workers: int, replacements: int, clients: Clients) -> dict[str, Any]:
    """Have a peer replace its workers until there were so many replacements: its figures."""
    peer = PEERS[name]
    values = {"place": str(place), "port": str(_free_port()), "workers": str(workers), "python": sys.executable}
    seconds, done = 0.0, 0
    with (
        _serving(peer, place, values) as (server, births),
        Loading(f"127.0.0.1:{values['port']}", clients) as loading,
    ):
        while done < replacements:
            loading.stretch("reload")
            before, begun = list(births.alive), time.monotonic()
            peer.reload(server, values)
            births.come(workers)
            births.go(before)
            seconds += time.monotonic() - begun
            done += workers
            loading.stretch("between")
    return {"replacements": done, "seconds": round(seconds, 1), "clients": loading.counts}
