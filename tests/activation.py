"""Programs that are started as by a service manager that listens for them."""

import os
import subprocess
import sys
import textwrap

from processes import PATIENCE, ROOT

_MANAGER = """
import os, sys

count = int(sys.argv[1])
high = [os.dup2(int(fd), 100 + at) for at, fd in enumerate(sys.argv[2:2 + count])]
os.closerange(3, 100)
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
    os.close(fd)
os.environ["LISTEN_FDS"] = str(count)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, "-c", *sys.argv[2 + count:]])
"""


def run_activated(source, given, *args):
    """Run Python source that is given these sockets, a mapping by name, from descriptor 3 on; what it wrote."""
    fds = [one.fileno() for one in given.values()]
    done = subprocess.run(
        [sys.executable, "-c", _MANAGER, str(len(fds)), *map(str, fds), textwrap.dedent(source), *map(str, args)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/tests:{ROOT}", "LISTEN_FDNAMES": ":".join(given)},
        pass_fds=fds,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
