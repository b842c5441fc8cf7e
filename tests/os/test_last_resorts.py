"""Storms, and faults of our own: whatever happens, no signal is lost and no worker is left behind."""

import subprocess
import sys

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import PATIENCE

pytestmark = pytest.mark.os


def test_term_in_a_storm(specs):
    """A TERM after a thousand HUPs is acted on, and the HUPs are few readings."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=1)
        for _ in range(1000):
            fleet.signal("HUP")
        fleet.end("TERM")

        assert fleet.story(key="web-0")[-1] == "worker.stopped"
        assert len([told for told in fleet.all("controller.signalled") if told["signal"] == "HUP"]) <= 1000
        assert fleet.lines == []


def test_renderer_that_cannot_be_loaded(specs, tmp_path):
    """Where the log cannot be written at all, the workers are kept all the same, and end with the controller."""
    broken = tmp_path / "broken" / "structlog"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise RuntimeError('broken')")
    drop(specs, "web", *sh("echo up >&2; exec sleep 1000"), replicas=3)
    code = f"import sys; sys.path.insert(0, {str(broken.parent)!r}); from reconciler.cli import command_line; "
    code += f"command_line(['--watch', {str(specs)!r}, '--output', 'inherit'])"
    with Fleet(None, program=("-c", code)) as fleet:
        for _ in range(3):
            fleet.wait_line("up")
        fleet.signal("TERM")

        assert fleet.process.wait(PATIENCE) == 0
        assert not fleet.marked()


def test_fork_bomb_in_a_group(specs):
    """What forks faster than it can be looked up is ended with its dead leader, before the relaunch."""
    bomb = "import os, time\nend = time.monotonic() + 20\nwhile time.monotonic() < end:\n  if os.fork(): os._exit(0)"
    drop(specs, "web", *sh(f'{sys.executable} -c "$0" & sleep 0.3; exit 3', bomb), restart={"policy": "never"})
    with Fleet(specs) as fleet:
        fleet.wait("worker.failed")
        fleet.until(lambda: not fleet.marked())


def test_closed_standard_descriptors(specs):
    """Without stdin, stdout and stderr it runs, its workers have all three, and it ends with 0."""
    out = specs / "descriptors"
    script = f"ls -l /proc/self/fd/0 /proc/self/fd/1 /proc/self/fd/2 > {out} 2>&1; kill -TERM $PPID; exec sleep 1000"
    drop(specs, "web", *sh(script))
    command = f"exec {sys.executable} -m reconciler --watch {specs} <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", command], timeout=PATIENCE, check=False)

    assert done.returncode == 0
    assert "eventpoll" not in out.read_text()
    assert "pidfd" not in out.read_text()


def test_full_standard_output(specs):
    """A table that cannot be written is no failure."""
    drop(specs, "web", *SLEEP)
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "reconciler", "--watch", str(specs), "--once"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False)

    assert done.returncode == 0
