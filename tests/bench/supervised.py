"""A supervisor under measurement, with its workers.

Rule: nothing is polled that could be waited for. Each worker stamps its own birth (nanoseconds, monotonic) into a FIFO,
and deaths are seen through pidfds. Only when a supervisor has gone back to sleep must be watched for.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path
from typing import NamedTuple, Self

PATIENCE = 120.0
"""Seconds after which a measurement has failed."""

QUIET = 20_000_000
"""Nanoseconds without a wake-up after which a supervisor has gone to sleep."""

HERE = Path(__file__).parent


class Subject(NamedTuple):
    """A kind of supervisor: how to write down, in its directory, how many of which worker are wanted; its command."""

    name: str
    write: Callable[[Path, list[str], int], None]
    command: Callable[[Path, list[str]], list[str]]


def _write_count(place: Path, _worker: list[str], count: int) -> None:
    (place / "count").write_text(str(count))


def _write_spec(place: Path, worker: list[str], count: int) -> None:
    """As close to the floor as a spec comes: no delay between restarts, everything replaced at once."""
    command = ", ".join(f"'{word.replace('{', '{{').replace('}', '}}')}'" for word in worker)
    text = f'command = [{command}]\nreplicas = {count}\n[restart]\nbackoff = {{ initial = "0s" }}\n'
    (place / "worker.new").write_text(text)
    (place / "worker.new").rename(place / "worker.toml")


FLOOR = Subject(
    "bare loop",
    _write_count,
    lambda place, worker: [sys.executable, "-I", "-S", f"{HERE}/floor.py", f"{place}/count", *worker],
)
RECONCILER = Subject(
    "reconciler",
    _write_spec,
    lambda place, _worker: [sys.executable, "-m", "reconciler", "--watch", str(place)],
)


class Fleet:
    """One life of a supervisor with `count` workers, from `start_ms` to `stop_ms`."""

    def __init__(self, subject: Subject, place: Path, worker: list[str], count: int) -> None:
        self.subject, self.place, self.count = subject, place, count
        self.alive: dict[int, int] = {}
        place.mkdir()
        fifo = place / "births"
        os.mkfifo(fifo)
        self._inlet = os.open(fifo, os.O_RDWR | os.O_NONBLOCK)
        self._rest = b""
        self._worker = [*worker, str(fifo)]
        subject.write(place, self._worker, count)
        self._begun = time.monotonic_ns()
        self._process = subprocess.Popen(
            subject.command(place, self._worker),
            env={**os.environ, "PYTHONPATH": str(HERE.parents[1])},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.pid = self._process.pid
        self._end = os.pidfd_open(self.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind, whatever went wrong."""
        os.close(self._inlet)
        os.close(self._end)
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait()

    def start_ms(self) -> float:
        """From the start of the supervisor to the birth of the last worker."""
        self.alive, last = self._births(self.count)
        return _ms(last - self._begun)

    def crash_ms(self) -> float:
        """From the death of one worker to the birth of its successor."""
        return self.mass_crash_ms([next(iter(self.alive))])

    def mass_crash_ms(self, pids: Collection[int] = ()) -> float:
        """From the first death of these workers, or of all, to the birth of the last successor."""
        chosen = list(pids or self.alive)
        begun = time.monotonic_ns()
        for pid in chosen:
            os.kill(pid, signal.SIGKILL)
        born, last = self._births(len(chosen))
        self.alive = {**{pid: at for pid, at in self.alive.items() if pid not in chosen}, **born}
        return _ms(last - begun)

    def reload_ms(self) -> float:
        """From HUP, nothing having changed, until the supervisor sleeps again."""
        asleep = self.switches()
        begun = time.monotonic_ns()
        os.kill(self.pid, signal.SIGHUP)
        last = begun
        while time.monotonic_ns() - last < QUIET or last == begun:
            if (now := self.switches()) != asleep:
                asleep, last = now, time.monotonic_ns()
        return _ms(last - begun)

    def grow_ms(self, count: int) -> float:
        """From the wish for more workers to the birth of the last of them."""
        begun = self._ask(count)
        born, last = self._births(count - len(self.alive))
        self.alive |= born
        return _ms(last - begun)

    def shrink_ms(self, count: int) -> float:
        """From the wish for fewer workers to the death of the last of those that are too many."""
        with _Deaths(self.alive) as deaths:
            begun = self._ask(count)
            gone = deaths.wait(len(self.alive) - count)
        last = time.monotonic_ns()
        self.alive = {pid: at for pid, at in self.alive.items() if pid not in gone}
        return _ms(last - begun)

    def stop_ms(self) -> float:
        """From TERM until all workers and the supervisor are gone."""
        with _Deaths([*self.alive, self.pid]) as deaths:
            begun = time.monotonic_ns()
            os.kill(self.pid, signal.SIGTERM)
            deaths.wait(len(self.alive) + 1)
        ended = time.monotonic_ns()
        if self._process.wait() != 0:
            raise RuntimeError(f"{self.subject.name} ended with {self._process.returncode}")
        return _ms(ended - begun)

    def rest(self) -> None:
        """Wait until the supervisor sleeps."""
        asleep, last = self.switches(), time.monotonic_ns()
        while time.monotonic_ns() - last < 5 * QUIET:
            time.sleep(QUIET / 4e9)
            if (now := self.switches()) != asleep:
                asleep, last = now, time.monotonic_ns()

    def switches(self) -> int:
        """How often the supervisor has gone to sleep so far, all of its threads together."""
        return sum(
            int(line.split()[1])
            for status in Path(f"/proc/{self.pid}/task").glob("*/status")
            for line in status.read_text().splitlines()
            if line.startswith("voluntary_ctxt_switches")
        )

    def cpu_us(self) -> float:
        """The processor time of the supervisor so far."""
        return (
            sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{self.pid}/task").glob("*/schedstat")) / 1e3
        )

    def pss_mib(self) -> float:
        """The memory of the supervisor, shared pages divided among those who share them."""
        lines = Path(f"/proc/{self.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def _ask(self, count: int) -> int:
        self.subject.write(self.place, self._worker, count)
        begun = time.monotonic_ns()
        os.kill(self.pid, signal.SIGHUP)
        return begun

    def _births(self, count: int) -> tuple[dict[int, int], int]:
        """The next workers that are born: the moment by pid, and the latest of them."""
        born: dict[int, int] = {}
        while len(born) < count:
            if self._inlet not in select.select([self._inlet, self._end], [], [], PATIENCE)[0]:
                raise RuntimeError(f"{self.subject.name}: {len(born)} of {count} workers were born, and then no more")
            now = time.monotonic_ns()
            *lines, self._rest = (self._rest + os.read(self._inlet, 65536)).split(b"\n")
            for line in lines:
                pid, at = map(int, line.split())
                born[pid] = at or now
        return born, max(born.values())


class _Deaths:
    """Waits for processes of other parents to end."""

    def __init__(self, pids: Collection[int]) -> None:
        self._pids = {os.pidfd_open(pid): pid for pid in pids}
        self._bell = select.epoll()
        for pidfd in self._pids:
            self._bell.register(pidfd, select.EPOLLIN)

    def wait(self, count: int) -> set[int]:
        """Return the first `count` of them to end."""
        gone: set[int] = set()
        while len(gone) < count:
            ended = self._bell.poll(PATIENCE)
            if not ended:
                raise RuntimeError(f"only {len(gone)} of {count} processes ended")
            for pidfd, _ in ended:
                self._bell.unregister(pidfd)
                gone.add(self._pids[pidfd])
        return gone

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bell.close()
        for pidfd in self._pids:
            os.close(pidfd)


def _ms(nanoseconds: int) -> float:
    return nanoseconds / 1e6
