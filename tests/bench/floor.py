"""The floor: the least that a supervisor in plain Python does. It runs as many copies of a program as a file says.

    python floor.py FILE PROGRAM ARGUMENT...

HUP reads the file again, TERM ends everything. There are no specs, no backoff, no rollout, no log and no errors.
"""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

count_file, *command = sys.argv[1:]
alive: dict[int, int] = {}  # pidfd to pid, the oldest first
ending = False


def aim() -> int:
    """How many are wanted."""
    return 0 if ending else int(Path(count_file).read_text())


def adjust(wanted: int) -> None:
    """Start what is missing and end what is too many."""
    for _ in range(wanted - len(alive)):
        child = subprocess.Popen(command)
        child.returncode = 0  # so that it never waits for itself
        pidfd = os.pidfd_open(child.pid)
        alive[pidfd] = child.pid
        bell.register(pidfd, select.EPOLLIN)
    for pidfd in list(alive)[wanted:]:
        signal.pidfd_send_signal(pidfd, signal.SIGTERM)


def bury(pidfd: int) -> None:
    """Take note of a death."""
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    bell.unregister(pidfd)
    os.close(pidfd)
    del alive[pidfd]


wake, ring = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
signal.set_wakeup_fd(ring)
for number in (signal.SIGHUP, signal.SIGTERM):
    signal.signal(number, lambda *_: None)
bell = select.epoll()
bell.register(wake, select.EPOLLIN)
target = aim()
adjust(target)
while alive or not ending:
    told = b""
    for fd, _ in bell.poll():
        if fd == wake:
            told = os.read(wake, 4096)
        else:
            bury(fd)
    ending = ending or signal.SIGTERM in told
    if told:
        target = aim()
    if told or len(alive) < target:
        adjust(target)
