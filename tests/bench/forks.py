"""What each way to fork costs for a program that preloads 50 MB: start-up time and memory per worker, as a table.

    python tests/bench/forks.py --rounds 5

Each way starts four workers under a controller. The time is from the call to the worker's own code, which for those
that start an interpreter includes loading it all again; the memory is each worker's proportional share (PSS), when all
four have been collecting garbage for a moment.
"""

import argparse
import gc
import json
import multiprocessing
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import attrs

from reconciler import Controller, fork_worker, fork_worker_process, worker

WORKERS = 4
WAYS = ("fork_worker", "fork_worker_process", "multiprocessing (fork)", "multiprocessing (spawn)")


@attrs.frozen
class Place:
    """Where a worker says that it runs."""

    key: int
    path: str
    asked: float


def preload() -> list[dict[str, int]]:
    """Some 50 MB of objects."""
    return [{"number": number} for number in range(210_000)]


DATA = preload() if __name__ in ("__main__", "__mp_main__") else []


def work(place: Place) -> None:
    """A worker: collect what there is no need to collect, say so, and wait."""
    took = time.monotonic() - place.asked
    gc.collect()
    drain = worker.drain()
    draft = pathlib.Path(place.path, f".{place.key}")
    draft.write_text(json.dumps([os.getpid(), took, len(DATA)]))
    draft.rename(pathlib.Path(place.path, str(place.key)))
    drain.wait()


def start(way: str, place: Place) -> object:
    """Start a worker in one of the ways."""
    place = attrs.evolve(place, asked=time.monotonic())
    if way == "fork_worker":
        return fork_worker(work, place)
    if way == "fork_worker_process":
        return fork_worker_process(place)
    process = multiprocessing.get_context(way.split("(")[1].rstrip(")")).Process(target=work, args=(place,))
    process.start()
    return process


def pss(pid: int) -> float:
    """A process's proportional share of memory, in MiB."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def one_round(way: str) -> tuple[float, float]:
    """The medians of four workers: ms to its own code, and MiB."""
    with tempfile.TemporaryDirectory() as path:
        program = [sys.executable, __file__, "--way", way, "--path", path]
        with subprocess.Popen(program, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as master:
            while len(told := [file for file in os.listdir(path) if not file.startswith(".")]) < WORKERS:
                time.sleep(0.01)
            facts = [json.loads(pathlib.Path(path, name).read_text()) for name in told]
            memory = statistics.median(pss(pid) for pid, _, _ in facts)
            master.send_signal(signal.SIGTERM)
        return statistics.median(took for _, took, _ in facts) * 1000, memory


def main() -> None:
    """Measure and print; or be the program that is measured."""
    place = worker.context(Place)
    if place is not None:
        work(place)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        places = [Place(key, options.path, 0.0) for key in range(WORKERS)]
        Controller(lambda: places, lambda place: start(options.way, place)).run()
        return
    print("| way | start-up, ms | PSS per worker, MiB |\n| --- | --- | --- |")
    measured: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for way in WAYS:
            measured[way].append(one_round(way))
    for way, figures in measured.items():
        took, memory = map(statistics.median, zip(*figures, strict=True))
        print(f"| `{way}` | {took:.1f} | {memory:.1f} |", flush=True)


if __name__ == "__main__":
    main()
