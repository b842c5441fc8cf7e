"""A capture and its workers, for the tests of workers' output."""

import os
import select
import subprocess
import sys
import time
from pathlib import Path

from processes import PATIENCE

from reconciler.core.spec import Output
from reconciler.output import Capture

NUMBERS = """
import os, sys
for number in range(int(sys.argv[1])):
    os.write(1, b"%d %s\\n" % (number, b"x" * (number % 89)))
"""

PATCH = Output(mode="file", max_size=64 << 20)


class Desk:
    """A capture, and the workers whose output it takes."""

    def __init__(self, directory, output=PATCH):
        self.directory = str(directory)
        self.output = output
        self.names_of_sets = None
        self.capture = Capture(self.directory, lambda _: self.output, "null", lambda: self.names_of_sets)
        self.told = []
        self.workers = []
        self.serial = 0

    def write_end(self, key="web-0", uid=None):
        """A worker's end; it is to be closed."""
        self.serial += 1
        return self.capture.open(uid or f"run-{self.serial}", key.rpartition("-")[0], key)

    def start(self, *argv, key="web-0", **options):
        """Start a worker."""
        end = self.write_end(key)
        worker = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=end, stderr=end, **options)
        os.close(end)
        self.workers.append(worker)
        return worker

    def start_python(self, source, *argv, key="web-0"):
        """Start a worker in Python."""
        return self.start(sys.executable, "-c", source, *argv, key=key)

    def pump(self):
        """Pump as long as there is something to do at this moment."""
        while readable(self.capture):
            self.told += self.capture.pump()

    def pump_until(self, done):
        """Pump whenever there is something to do, until `done()`."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            assert select.select([self.capture], [], [], max(0, deadline - time.monotonic()))[0], "nothing comes"
            self.told += self.capture.pump()

    def pump_until_gone(self):
        """Pump until all workers are gone."""
        self.pump_until(lambda: not self.capture._fifos)

    def log(self, key="web-0"):
        """All that is in the files of a key, the oldest first."""
        files = sorted(Path(self.directory).glob(f"{key}.log*"), key=number_of, reverse=True)
        return b"".join(file.read_bytes() for file in files)

    def names(self):
        """The names of the files that are there, without indices."""
        return sorted(name for name in os.listdir(self.directory) if ".idx" not in name)

    def close(self):
        """Close the capture."""
        self.told += self.capture.close()


def number_of(file):
    return int(file.suffix[1:]) if file.suffix != ".log" else 0


def readable(what):
    return bool(select.select([what], [], [], 0)[0])


def numbers(count):
    """What a worker that runs `NUMBERS` writes."""
    return b"".join(b"%d %s\n" % (number, b"x" * (number % 89)) for number in range(count))
