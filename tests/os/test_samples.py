"""The samples of the low-level interface, run as their users run them."""

import os
import signal

import pytest
from fleet import Fleet
from processes import ROOT, alive

pytestmark = pytest.mark.os

TO_STDERR = ("sh", "-c", 'exec "$@" >&2', "sh")
"""A prefix for a program whose output is to be read with its events."""


def sample(name, **options):
    """A running sample, with what it and its workers print among its lines."""
    return Fleet(None, program=(str(ROOT / "docs/samples" / name),), prefix=TO_STDERR, **options)


def test_simple():
    """One worker says hello and exits; each HUP runs another."""
    hello = "Hello. I'm a worker."
    with sample("simple.py") as fleet:
        fleet.wait_line(f"Please send SIGHUP to {fleet.pid} to relaunch a worker")
        for count in (1, 2):
            fleet.wait_line(hello)
            assert fleet.wait("worker.exited")["exit_code"] == 0
            fleet.until(lambda count=count: fleet.lines.count(hello) == count)
            assert len(fleet.all("worker.started")) == count
            if count == 1:
                fleet.signal("HUP")
        fleet.end()
        assert fleet.lines.count(hello) == 2


def test_various_workers(tmp_path):
    """Two kinds of worker run; one that is killed is back; HUP replaces only the one whose parameter changed."""
    greeting = tmp_path / "greeting"
    greeting.write_text("Good morning\n")
    with sample("various_workers.py", env={"GREETING_FILE": str(greeting)}) as fleet:
        first, counter = fleet.ready("greeter", "counter")
        fleet.wait_line("I count: 1 2 3")
        fleet.wait_line(f"Good morning from {first}")

        os.kill(counter, signal.SIGKILL)
        fleet.wait("worker.exited", key="counter")
        counter = fleet.wait("worker.ready", key="counter")["pid"]
        fleet.until(lambda: fleet.lines.count("I count: 1 2 3") == 2)
        assert alive(first)

        greeting.write_text("Good evening\n")
        fleet.signal("HUP")
        assert fleet.wait("spec.changed", key="greeter")["fields"] == ["greeting"]
        second = fleet.wait("worker.ready", key="greeter")["pid"]
        fleet.wait_line(f"Good evening from {second}")

        assert not alive(first)
        assert alive(counter)
        assert [told["key"] for told in fleet.all("worker.exited")] == ["counter", "greeter"]
