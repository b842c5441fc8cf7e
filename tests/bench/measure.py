"""Measures the reconciler beside a bare Python loop, and prints the medians as tables in Markdown.

    python tests/bench/measure.py --rounds 3 --sizes 1,100,1000 --idle 25

Both run in turn, round by round, so that what else the machine does meets both. Absolute times differ from machine to
machine by a lot, and from run to run by some; the ratios hold better. Needs Linux and, for small workers, a C compiler.
"""

import argparse
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from supervised import FLOOR, RECONCILER, Fleet

CRASHES = 10
"""How many single crashes and reloads are measured in one round."""

MIDDLE = 100
"""The number of workers at which everything is measured that is not measured at each size."""

Results = dict[str, dict[str, list[float]]]
"""For each measure, and for each subject, all that was measured."""

TABLES = {
    "Start-up, ms from the start of the supervisor to the birth of the last worker": "start",
    "One crash, ms from the death to the birth of the successor": "crash",
    "All crash at once, ms to the birth of the last successor": "mass crash",
    "Changes, ms": "change",
    "Stop, ms until supervisor and workers are gone": "stop",
    f"At rest with {MIDDLE} workers": "rest",
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", type=lambda text: [int(size) for size in text.split(",")], default=[1, 100, 1000])
    parser.add_argument("--idle", type=float, default=25.0, help="seconds for which the idle supervisors are watched")
    options = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    results: Results = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as place:
        worker, kind = make_worker(Path(place))
        for number in range(options.rounds):
            for size in options.sizes:
                for subject in (FLOOR, RECONCILER):
                    print(f"round {number + 1} of {options.rounds}: {subject.name}, {size}", file=sys.stderr)
                    home = Path(place, f"{number}-{size}-{subject.name[0]}")
                    with Fleet(subject, home, worker, size) as fleet:
                        for measure, value in measured(fleet, options.idle if number == 0 else 0.0):
                            results[measure][subject.name].append(value)
    print(f"Python {platform.python_version()}, Linux {platform.release()}, {os.cpu_count()} processors, {kind};")
    print(f"medians of {options.rounds} rounds.")
    for title, first in TABLES.items():
        print_table(title, {name: values for name, values in results.items() if name.startswith(f"{first}:")})


def make_worker(place: Path) -> tuple[list[str], str]:
    """The command of the smallest worker that can be had here, and what it is."""
    compiler = shutil.which("cc")
    if compiler is None:
        script = 'echo "$$ 0" > "$0"; exec sleep 2147483647'
        return ["sh", "-c", script], "workers: a shell that becomes sleep, for want of a C compiler"
    program = str(place / "worker")
    source = str(Path(__file__).parent / "worker.c")
    static = subprocess.run([compiler, "-O2", "-static", "-o", program, source], stderr=subprocess.DEVNULL, check=False)
    if static.returncode:
        subprocess.run([compiler, "-O2", "-o", program, source], check=True)
    return [program], "workers: a small program in C"


def measured(fleet: Fleet, idle: float) -> Iterator[tuple[str, float]]:
    """Everything that is measured in one life of a supervisor, by name."""
    size = fleet.count
    yield f"start: {size}", fleet.start_ms()
    for _ in range(CRASHES):
        fleet.rest()
        yield f"crash: 1 of {size}", fleet.crash_ms()
    if size >= MIDDLE:
        fleet.rest()
        yield f"mass crash: {size}", fleet.mass_crash_ms()
    if size == MIDDLE:
        yield from changes(fleet)
        yield from at_rest(fleet, idle)
    fleet.rest()
    yield f"stop: {size}", fleet.stop_ms()


def changes(fleet: Fleet) -> Iterator[tuple[str, float]]:
    """Reloads and another number of workers."""
    size = fleet.count
    for _ in range(CRASHES):
        fleet.rest()
        yield f"change: reload of {size}, nothing changed", fleet.reload_ms()
    fleet.rest()
    yield f"change: grow from {size} to {2 * size}", fleet.grow_ms(2 * size)
    fleet.rest()
    yield f"change: shrink from {2 * size} to {size}", fleet.shrink_ms(size)


def at_rest(fleet: Fleet, idle: float) -> Iterator[tuple[str, float]]:
    """What a supervisor costs that has nothing to do."""
    fleet.rest()
    yield "rest: memory (PSS), MiB", fleet.pss_mib()
    if idle:
        switches, cpu = fleet.switches(), fleet.cpu_us()
        time.sleep(idle)
        yield f"rest: wake-ups in {idle:g} s", fleet.switches() - switches
        yield "rest: processor time, µs per s", (fleet.cpu_us() - cpu) / idle


def print_table(title: str, rows: Results) -> None:
    """One table: the medians of both subjects, and how many times the floor's the reconciler's is."""
    if not rows:
        return
    print(f"\n{title}:\n\n| | {FLOOR.name} | {RECONCILER.name} | ratio |\n| --- | --- | --- | --- |")
    for name, values in rows.items():
        floor, ours = (statistics.median(values[subject.name]) for subject in (FLOOR, RECONCILER))
        ratio = f"{ours / floor:.1f}" if floor else ""
        print(f"| {name.partition(': ')[2]} | {shown(floor)} | {shown(ours)} | {ratio} |")


def shown(value: float) -> str:
    """A number with three digits that count."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


if __name__ == "__main__":
    main()
