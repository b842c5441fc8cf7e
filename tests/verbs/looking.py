"""Commands that go on, read as they write: from a pipe, or as a terminal of 80 columns would show it."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager

from processes import PATIENCE, ROOT


class Output:
    """What a command writes. `text` is all of it so far."""

    def __init__(self, process, fd):
        self.process, self._fd, self.text = process, fd, ""

    def until(self, wanted):
        """Read until this stands in the text, or until it is so of the text."""
        end = time.monotonic() + PATIENCE
        while not (wanted(self.text) if callable(wanted) else wanted in self.text):
            ready, _, _ = select.select([self._fd], [], [], max(0, end - time.monotonic()))
            assert ready, f"{wanted} did not come: {self.text!r}"
            data = self._read()
            assert data, f"it ended before {wanted}: {self.text!r}"
        return self.text

    def interrupted(self):
        """Press ^C; the exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.ended()

    def ended(self):
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE)

    def _read(self):
        try:
            data = os.read(self._fd, 65536).decode()
        except OSError:  # a terminal whose last user has gone
            return ""
        self.text += data
        return data


@contextmanager
def looking(state_dir, *arguments, terminal=False, columns=80, **env):
    """A command that runs. Its stdout and stderr are one pipe, or one terminal."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    if terminal:
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = {"TERM": "xterm", "RECONCILER_STATE_DIR": str(state_dir), "PYTHONPATH": str(ROOT), **env}
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", *map(str, arguments)],
        env={**{name: value for name, value in os.environ.items() if name != "NO_COLOR"}, **env},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    try:
        yield Output(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)
