"""A running controller, and the commands that are given to it as its users give them."""

import os
import subprocess
import sys
from contextlib import contextmanager

from fleet import Fleet
from processes import PATIENCE, ROOT


def command(*arguments, text="", **env):
    """Run the program to its end; what it wrote, and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "reconciler", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        input=text,
        timeout=PATIENCE,
        check=False,
    )


class Commanded(Fleet):
    """A controller with a state directory beside its spec directory."""

    def __init__(self, home, output="inherit"):
        self.specs, self.state_dir = home / "specs", home / "state"
        self.specs.mkdir(exist_ok=True)
        super().__init__(self.specs, "--state-dir", str(self.state_dir), "--output", output)

    def ask(self, *arguments, code=0, **more):
        """Give a command, which exits with this code; its lines on stdout."""
        done = command(*arguments, RECONCILER_STATE_DIR=str(self.state_dir), **more)
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert done.stderr == ""
        return done.stdout.splitlines()

    def told(self, *arguments, code=1, **more):
        """Give a command that fails with this code; what it says to that, of which the last line is the hint."""
        done = command(*arguments, RECONCILER_STATE_DIR=str(self.state_dir), **more)
        lines = done.stderr.splitlines()
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        assert lines[-2].startswith("reconciler: "), lines
        assert lines[-1].startswith("hint: "), lines
        return "\n".join(lines)


@contextmanager
def commanded(home, *keys, output="inherit"):
    """A controller, once these workers are ready and its socket is open."""
    with Commanded(home, output) as fleet:
        if keys:
            fleet.ready(*keys)
        for _ in range(int(PATIENCE / 0.01)):
            if (fleet.state_dir / "control.sock").exists():
                break
            fleet.quiet(0.01)
        yield fleet
