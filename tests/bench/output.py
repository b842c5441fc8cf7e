"""What it costs to take a worker's output into files of 10 MB each, and what is lost when the process that does so is
killed: ours beside supervisord, as a table.

    python tests/bench/output.py --rounds 3 --megabytes 400

One worker writes lines of 100 bytes, 80 at a time, as fast as they are taken. It counts what it wrote. For the losses
the process that takes them is killed ten times in mid-stream, and started again (supervisord only once, as its worker
dies of that). Needs supervisord; without it there are only our figures.
"""

import argparse
import importlib.util
import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import attrs

MEGABYTE = 1_000_000
DEATHS = 10
PATIENCE = 300  # seconds
SUBJECTS = ("reconciler", "supervisord")

WORKER = """
import os, pathlib, sys, time
count, wrote, begin, end = int(sys.argv[1]), 0, time.monotonic(), "well"
try:
    for start in range(0, count, 80):
        data = b"".join(b"%099d\\n" % number for number in range(start, start + 80))
        while data:
            done = os.write(1, data)
            data, wrote = data[done:], wrote + done
except OSError as error:
    end = error.strerror
draft = pathlib.Path(sys.argv[2] + ".draft")
draft.write_text(f"{wrote // 100} {time.monotonic() - begin} {end}")
draft.rename(sys.argv[2])
"""

CONFIGURATION = """
[supervisord]
nodaemon=true
logfile={place}/supervisord.log
pidfile={place}/supervisord.pid
childlogdir={place}
[program:worker]
command={command}
autorestart=false
startsecs=0
redirect_stderr=true
stdout_logfile={place}/output/web-0.log
stdout_logfile_maxbytes=10MB
stdout_logfile_backups={files}
"""


@attrs.frozen
class Report:
    """What a worker says at its end, and what the process that took its output used of the CPU."""

    lines: int
    took: float
    end: str
    cpu: float


def start(subject: str, place: str, files: int, arguments: list[str]) -> subprocess.Popen[bytes]:
    """Start the process that takes the output of a worker with these arguments, or goes on taking it without any."""
    script = pathlib.Path(place, "worker.py")  # in a spec file its braces would be placeholders
    script.write_text(WORKER)
    command = [sys.executable, str(script), *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if subject == "reconciler":
        limits = f"[output]\nmax_size = {10 * MEGABYTE}\nmax_files = {files}\n"
        once = f'command = {json.dumps(command)}\nreplicas = {int(bool(arguments))}\nrestart.policy = "never"\n'
        specs = pathlib.Path(place, "specs")
        specs.mkdir(exist_ok=True)
        specs.joinpath("web.toml").write_text(once + limits)
        options = ["--watch", str(specs), "--state-dir", place, "--output", "file"]
        return subprocess.Popen([sys.executable, "-m", "reconciler", *options], **quiet)
    configuration = pathlib.Path(place, "supervisord.conf")
    configuration.write_text(CONFIGURATION.format(place=place, files=files, command=" ".join(command)))
    program = [sys.executable, "-m", "supervisor.supervisord", "-c", str(configuration)]
    return subprocess.Popen(program, **quiet)


def cpu(pid: int) -> float:
    """The seconds of CPU that a process has used."""
    words = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def run(subject: str, lines: int, files: int, meanwhile: Callable[..., subprocess.Popen[bytes]]) -> tuple[Report, int]:
    """Let a worker write so many lines. What it reports, and how many of them are in the files."""
    with tempfile.TemporaryDirectory() as place:
        os.mkdir(f"{place}/output")
        told = pathlib.Path(place, "told")
        taker = start(subject, place, files, [str(lines), str(told)])
        taker = meanwhile(taker, subject, place, files, told)
        wait(told.exists)
        used = cpu(taker.pid)
        wrote, took, end = told.read_text().split(maxsplit=2)
        if subject == "reconciler":
            # What is still in the FIFO is taken before it is removed.
            wait(lambda: not any(pathlib.Path(place, "output").glob(".*.fifo")))
        taker.send_signal(signal.SIGTERM)
        taker.wait()
        found = sum(file.read_bytes().count(b"\n") for file in pathlib.Path(place, "output").glob("web-0.log*"))
        return Report(int(wrote), float(took), end, used), found


def wait(done: Callable[[], bool]) -> None:
    """Wait for something that comes about soon, unless the worker was never started."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the worker does not come to its end")
        time.sleep(0.01)


def leave_alone(taker: subprocess.Popen[bytes], *_: object) -> subprocess.Popen[bytes]:
    """Let the worker write to its end."""
    return taker


def kill(
    taker: subprocess.Popen[bytes], subject: str, place: str, files: int, told: pathlib.Path
) -> subprocess.Popen[bytes]:
    """Kill who takes the output again and again while the worker writes."""
    for _ in range(DEATHS):
        log = pathlib.Path(place, "output", "web-0.log")
        before = log.stat().st_size if log.exists() else 0
        while not told.exists() and (not log.exists() or log.stat().st_size == before):
            time.sleep(0.001)
        time.sleep(0.005)
        taker.kill()
        taker.wait()
        if subject != "reconciler":
            return taker_of_nothing()
        taker = start(subject, place, files, [])
    return taker


def taker_of_nothing() -> subprocess.Popen[bytes]:
    """A process to stand for one that is dead and not started again."""
    return subprocess.Popen(["sleep", "60"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--megabytes", type=int, default=400)
    options = parser.parse_args()
    lines = options.megabytes * MEGABYTE // 100
    print("| taker | MB/s | CPU s per GB | lines lost when killed, median (most) | the worker then |")
    print("| --- | --- | --- | --- | --- |")
    for subject in SUBJECTS:
        if subject == "supervisord" and importlib.util.find_spec("supervisor") is None:
            continue
        free = [run(subject, lines, 5, leave_alone)[0] for _ in range(options.rounds)]
        killed = [run(subject, lines, 100, kill) for _ in range(options.rounds)]
        speed = statistics.median(report.lines / report.took for report in free) * 100 / MEGABYTE
        used = statistics.median(report.cpu / report.lines for report in free) * 10 * MEGABYTE
        lost = [report.lines - found for report, found in killed]
        ends = ", ".join(sorted({report.end for report, _ in killed}))
        losses = f"{statistics.median(lost):.0f} ({max(lost)})"
        print(f"| {subject} | {speed:.0f} | {used:.2f} | {losses} | ended: {ends} |", flush=True)


if __name__ == "__main__":
    main()
