"""A controller as its users run it: a real process whose events are read as they come.

Rule: a test waits for an event and never for time to pass. However a run goes, nothing of it is left at its end; one
that ends well has told a whole story besides: known events with their own fields, one exit for each process, and a
replay that leads to the state in which nothing runs.
"""

import fcntl
import itertools
import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from processes import PATIENCE, ROOT, stat
from spec_files import written

from reconciler.core.event import CATALOGUE, Event
from reconciler.testing.replay import replay

SLEEP = ("sleep", "1000")
"""A worker that does nothing, and ends at once when it is asked to."""

COMMON = {"timestamp", "level", "event", "key", "name", "index", "uid", "pid", "generation", "reason"}

_runs = itertools.count()


def drop(directory, name, *command, **settings):
    """Write a TOML spec beside its place and rename it into it, as careful programs do. `name` is the file's stem."""
    draft = Path(directory, ".draft")
    draft.write_bytes(written({"command": list(command), **settings}, "toml"))
    return draft.rename(Path(directory, f"{name}.toml"))


def sh(script, *arguments):
    """The command of a worker that runs a shell script."""
    return ("sh", "-c", script, *arguments)


class Fleet:
    """A running controller. `events` are those that were read so far, `lines` what else was on its stderr.

    `program` are the interpreter's arguments where it is not the command line that watches `directory`; `prefix` is a
    command to run it by.
    """

    def __init__(self, directory, *options, program=None, prefix=(), env=None, stdout=subprocess.DEVNULL):
        self.directory = directory
        self.events = []
        self.lines = []
        self.mark = f"FLEET={os.getpid()}-{next(_runs)}"
        self._complete = "--log-level" not in options
        self._seen = 0
        self._rest = b""
        self._stderr, theirs = os.pipe()
        fcntl.fcntl(self._stderr, fcntl.F_SETPIPE_SZ, 1 << 20)  # nothing is dropped while a test looks elsewhere
        self.runtime = tempfile.TemporaryDirectory(prefix="fleet-")
        arguments = program or ("-m", "reconciler", "--watch", str(directory), "--log-format", "json")
        if program is None and "--output" not in options:
            arguments += ("--output", "inherit")
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [*prefix, sys.executable, *arguments, *options],
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "XDG_RUNTIME_DIR": self.runtime.name,
                name: value,
                **(env or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=theirs,
        )
        os.close(theirs)
        self._pidfd = os.pidfd_open(self.process.pid)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None and self.process.returncode is None:
                self.end()
        finally:
            self.process.kill()
            self.process.wait()
            for pid in self.marked():  # not before: a controller would bring them back
                os.kill(pid, signal.SIGKILL)
            os.close(self._pidfd)
            os.close(self._stderr)
            self.runtime.cleanup()

    @property
    def pid(self):
        """The controller's."""
        return self.process.pid

    # ------------------------------------------------------------------------------------------- what is asked of it

    def drop(self, name, *command, **settings):
        """See `drop`."""
        return drop(self.directory, name, *command, **settings)

    def signal(self, name):
        """Send the controller a signal."""
        self.process.send_signal(signal.Signals[f"SIG{name}"])

    # --------------------------------------------------------------------------------------------------- what it tells

    def wait(self, name, /, **fields):
        """The next event of this name and with these fields, after the one that was waited for before."""
        while True:
            while self._seen < len(self.events):
                told = self.events[self._seen]
                self._seen += 1
                if _matches(told, name, fields):
                    return told
            self._read(f"{name} {fields}")

    def until(self, condition):
        """Read until a condition on the fleet holds; what it gave."""
        while not (answer := condition()):
            self._read("a condition")
        return answer

    def wait_for(self, count, name, /, **fields):
        """Read until there are so many of these events since the start; all of them."""
        return self.until(lambda: len(found := self.all(name, **fields)) >= count and found)

    def wait_line(self, line):
        """Read until something other than an event wrote this line."""
        self.until(lambda: line in self.lines)

    def ready(self, *keys):
        """Wait until these workers are ready; their pids (one, or a list)."""
        pids = [self.until(lambda key=key: self.all("worker.ready", key=key))[-1]["pid"] for key in keys]
        return pids[0] if len(pids) == 1 else pids

    def quiet(self, seconds):
        """Read for so long; what was told in that time."""
        before, end = len(self.events), time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._take(left)
        return self.events[before:]

    def all(self, name=None, /, **fields):
        """The events so far, or those of a name and with these fields."""
        return [told for told in self.events if _matches(told, name, fields)]

    def story(self, **fields):
        """The names of all events so far with these fields."""
        return [told["event"] for told in self.all(**fields)]

    # ------------------------------------------------------------------------------------------------------- its end

    def end(self, name="TERM", code=0):
        """Ask it to stop by a signal, and wait for its end; see `over`."""
        self.signal(name)
        self.over(code)

    def over(self, code=0):
        """Wait until it has ended, with this exit code, and look at what is left."""
        while self._take(PATIENCE):
            pass
        assert self.process.wait(PATIENCE) == code, self.tail()
        assert self.marked() == [], self.tail()
        left = {told["pid"]: stat(told["pid"]) for told in self.all("worker.started")}
        unreaped = [pid for pid, facts in left.items() if facts and facts[:2] == ("Z", 1)]  # other numbers are reused
        assert unreaped == [], self.tail()
        check(self.events)
        if self._complete and not self.all("events.dropped"):
            check_whole(self.events)

    def marked(self):
        """The pids of the living that were started by this controller, or by one whom it started, and so on."""
        runs = {told["uid"].partition("-")[0] for told in self.events if told["event"] == "worker.starting"}
        marks = [f"{self.mark}\0", *(f"RECONCILER_UID={run}-" for run in runs)]
        return [pid for pid in with_environment(marks) if pid != self.pid]

    def tail(self):
        """The end of what it wrote."""
        return "\n".join([*map(str, self.events[-30:]), *self.lines[-30:]])

    def _read(self, wanted):
        assert self._take(PATIENCE), f"it ended; {wanted} did not come:\n{self.tail()}"

    def _take(self, seconds):
        """Read what there is, or will be within some seconds. False at the end, or when there is nothing and nobody is
        left to write, but orphans perhaps.
        """
        ready, _, _ = select.select([self._stderr, self._pidfd], [], [], seconds)
        if self._stderr not in ready:
            assert ready or seconds < PATIENCE, f"nothing came any more:\n{self.tail()}"
            return not ready
        data = os.read(self._stderr, 1 << 20)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._sort(line.decode("utf-8", "surrogateescape"))
        return bool(data)

    def _sort(self, line):
        try:
            told = json.loads(line)
        except ValueError:
            told = None
        if isinstance(told, dict) and told.get("event") in CATALOGUE:
            self.events.append(told)
        else:
            self.lines.append(line)


def _matches(told, name, fields):
    return name in (None, told["event"]) and all(told.get(field) == value for field, value in fields.items())


def with_environment(marks):
    """The pids of the living whose environment has one of these texts at the beginning of an entry."""
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            environment = "\0" + Path(f"/proc/{name}/environ").read_bytes().decode("utf-8", "replace")
        except OSError:
            continue
        if any("\0" + mark in environment for mark in marks):
            found.append(int(name))
    return found


def as_event(told):
    """A line of the log as the event that it was made from."""
    common = {name: told.get(name) for name in ("key", "name", "index", "uid", "pid", "generation", "reason")}
    return Event(told["event"], **common, extra={name: told[name] for name in told.keys() - COMMON})


def check(events):
    """Each event has the fields of its kind and no others, each with a value of the right sort."""
    for told in events:
        kind = CATALOGUE[told["event"]]
        assert told.keys() <= COMMON | set(kind.fields) | {"truncated"}, told
        assert told["level"] == kind.level, told
        assert told["reason"] is None or re.fullmatch("[A-Z][A-Za-z0-9]+", told["reason"]), told
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", told["timestamp"]), told
        if told["event"].startswith("worker."):
            assert {"key", "name", "uid", "generation"} <= told.keys(), told
        if told["event"] in ("worker.starting", "worker.start_failed"):
            assert "pid" not in told, told
        if told["event"] == "worker.exited":
            assert told.get("exit_code", 0) >= 0, told
            assert ("exit_code" in told) + ("signal" in told) == (told["reason"] != "Lost"), told
            assert isinstance(told["expected"], bool), told


def check_whole(events):
    """Each incarnation that had a process was said to have ended once, and a replay of it all leaves nobody."""
    started = Counter(told["uid"] for told in events if told["event"] == "worker.started")
    exited = Counter(told["uid"] for told in events if told["event"] == "worker.exited")
    assert started == exited
    assert not started or set(started.values()) == {1}
    assert replay(map(as_event, events)) == {}
