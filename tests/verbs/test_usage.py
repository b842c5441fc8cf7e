"""What processes use, as /proc has it."""

import os
import subprocess
import time

import pytest

from reconciler.verbs.usage import Meter


def test_the_first_look_is_at_the_whole_life():
    """The first share is that since the process was started, and its memory is what it has now."""
    usage = Meter().read(os.getpid(), time.monotonic())

    assert 0 < usage.cpu < 6400
    assert 1 << 20 < usage.memory < 1 << 34


@pytest.mark.os
def test_the_next_look_is_at_the_time_between():
    """A later share is that since the last look: a process that is stopped used nothing."""
    with subprocess.Popen(["sh", "-c", "while :; do :; done"]) as process:
        meter, began = Meter(), time.monotonic()
        while (meter.read(process.pid, time.monotonic()) or (0, 0))[0] == 0:
            assert time.monotonic() - began < 30
        process.send_signal(19)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
        now = time.monotonic()
        meter.read(process.pid, now)

        assert meter.read(process.pid, now + 1).cpu == 0
        process.kill()


def test_who_is_gone_uses_nothing():
    """Of a process that is no more nothing is told."""
    process = subprocess.Popen(["true"])
    process.wait()

    assert Meter().read(process.pid, time.monotonic()) is None
