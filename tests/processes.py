"""What the tests ask of real processes: who is alive, what is open, and what a driver has to tell."""

import os
import select
import subprocess
import sys
import textwrap
from pathlib import Path

PATIENCE = 30.0
"""Seconds after which what should have happened is taken to be missing. Nothing waits that long in a good run."""

ROOT = Path(__file__).parents[1]


def observe(driver, count):
    """The next `count` observations of a driver (and what came with the last of them)."""
    seen = list(driver.poll())
    while len(seen) < count:
        ready, _, _ = select.select([driver.fileno()], [], [], PATIENCE)
        assert ready, f"only saw {seen}"
        seen += driver.poll()
    return seen


def dead(pid):
    """Wait until a process has ended, without reaping it."""
    pidfd = os.pidfd_open(pid)
    try:
        ready, _, _ = select.select([pidfd], [], [], PATIENCE)
        assert ready, f"{pid} lives on"
    finally:
        os.close(pidfd)


def halted(pid):
    """Wait until a child is stopped by STOP."""
    os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)


def stat(pid):
    """State, parent and process group of a process; None if there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    state, parent, group = text.rpartition(")")[2].split()[:3]
    return state, int(parent), int(group)


def everyone():
    """(pid, state, parent, group) of all processes."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return [(pid, *facts) for pid in pids if (facts := stat(pid))]


def alive(pid):
    """Whether a process runs, dead ones that nobody reaped left out."""
    facts = stat(pid)
    return facts is not None and facts[0] not in "ZX"


def alive_in_group(pgid):
    """The pids of a group's living members."""
    return [pid for pid, state, _, group in everyone() if group == pgid and state not in "ZX"]


def zombies():
    """Our children that nobody reaped."""
    return [pid for pid, state, parent, _ in everyone() if parent == os.getpid() and state == "Z"]


def descriptors(pid="self"):
    """The numbers of a process's open descriptors."""
    numbers = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return {number for number in numbers if os.path.lexists(f"/proc/{pid}/fd/{number}")}


def run_script(source, *args, prefix=()):
    """Run Python source in a process of its own; what it wrote, as a CompletedProcess. It must succeed."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    environment["PYTHONPATH"] = os.pathsep.join([f"{ROOT}/tests", os.environ.get("PYTHONPATH", str(ROOT))])
    done = subprocess.run(
        [*prefix, sys.executable, "-c", textwrap.dedent(source), *args],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done
