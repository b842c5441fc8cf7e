"""What it costs to ask: how long a verb takes, and whether a thousand questions a second delay a restart, as tables.

    python tests/bench/asking.py --workers 100 --rounds 20

The controller's own start is timed to the first event on its stderr, by which its first workers run. A restart is
timed from the kill of a worker to the start of the next one, as the client sees them.
"""

import argparse
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from reconciler.client import Client

ASKER = """
import sys, time
from reconciler.client import Client
asked = 0
with Client(sys.argv[1]) as client:
    begin = time.monotonic()
    while True:
        for _ in client.stream("get"):
            pass
        asked += 1
        ahead = begin + asked / float(sys.argv[2]) - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        if asked % 100 == 0:
            print(asked / (time.monotonic() - begin), flush=True)
"""


@contextmanager
def controller(workers: int) -> Iterator[tuple[str, float]]:
    """A controller of so many workers: its state directory, and how long it took to start (s)."""
    with tempfile.TemporaryDirectory() as place:
        specs = pathlib.Path(place, "specs")
        specs.mkdir()
        backoff = 'restart.backoff.initial = "0s"'
        specs.joinpath("web.toml").write_text(f'command = ["sleep", "1000"]\nreplicas = {workers}\n{backoff}\n')
        program = [sys.executable, "-m", "reconciler", "--watch", str(specs), "--state-dir", f"{place}/state"]
        begin = time.monotonic()
        with subprocess.Popen(program, stderr=subprocess.PIPE) as process:
            assert process.stderr is not None
            process.stderr.readline()
            took = time.monotonic() - begin
            drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
            time.sleep(0.5)
            yield f"{place}/state", took
            process.send_signal(signal.SIGTERM)
            process.wait()
            drain.wait()


def verb(state: str, *words: str) -> float:
    """How long a verb takes, in ms."""
    begin = time.monotonic()
    program = [sys.executable, "-m", "reconciler", *words, "--state-dir", state]
    subprocess.run(program, stdout=subprocess.DEVNULL, check=False)
    return (time.monotonic() - begin) * 1000


def restart(client: Client) -> float:
    """How long a killed worker is away, in ms."""
    watching = client.stream("get", watch=True)
    first: dict[str, Any] = next(watching)
    pid = first["workers"][0]["pid"]
    begin = time.monotonic()
    os.kill(pid, signal.SIGKILL)
    for item in watching:
        if item.get("key") == first["key"] and item["workers"] and item["workers"][0]["pid"] not in (pid, None):
            break
    return (time.monotonic() - begin) * 1000


def median(times: list[float]) -> str:
    """A median, and the longest."""
    return f"{statistics.median(times):.1f} ({max(times):.1f})"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000)
    options = parser.parse_args()
    starts = []
    for _ in range(5):
        with controller(1) as (_, took):
            starts.append(took * 1000)
    with controller(options.workers) as (state, _):
        print("| what | ms, median (most) |\n| --- | --- |")
        print(f"| start of a controller | {median(starts)} |")
        for words in (("get",), ("status",), ("explain", "web-0"), ("describe", "web")):
            print(f"| {' '.join(words)} | {median([verb(state, *words) for _ in range(options.rounds)])} |")
        with Client(state, timeout=30) as client:
            print(f"| a restart | {median([restart(client) for _ in range(options.rounds)])} |")
            asker = [sys.executable, "-c", ASKER, state, str(options.rate)]
            with subprocess.Popen(asker, stdout=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None
                process.stdout.readline()
                times = [restart(client) for _ in range(options.rounds)]
                reached = float(process.stdout.readline())
                process.kill()
            print(f"| a restart while {reached:.0f} `get` a second are answered | {median(times)} |")


if __name__ == "__main__":
    main()
