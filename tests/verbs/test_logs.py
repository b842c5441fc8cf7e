"""`logs`: what workers wrote into files."""

import os
import time
from pathlib import Path

import pytest
from fleet import sh
from processes import PATIENCE
from verbs.commanding import command, commanded
from verbs.looking import looking

from reconciler.output.reading import Line
from reconciler.verbs.tailing import followed

pytestmark = pytest.mark.os

THREE = "for i in 1 2 3; do echo line $i; done; exec sleep 1000"


@pytest.fixture
def fleet(tmp_path):
    """A controller that keeps the output of its workers."""
    with commanded(tmp_path, output="file") as fleet:
        yield fleet


def wrote(fleet, *keys, count=3):
    """Wait until workers wrote so many lines."""
    end = time.monotonic() + PATIENCE
    for key in keys:
        log = fleet.state_dir / "output" / f"{key}.log"
        while not (log.exists() and log.read_bytes().count(b"\n") >= count):
            fleet.quiet(0.01)
            assert time.monotonic() < end, fleet.tail()


def opened(directory):
    """The names of the files of a directory that this process has open, be they removed."""
    links = map(os.path.realpath, Path("/proc/self/fd").iterdir())
    return [os.path.basename(link) for link in links if os.path.dirname(link) == str(directory)]


def test_one_worker(fleet):
    """Of one worker its lines are shown as they are; `--tail` shows the last ones."""
    fleet.drop("web", *sh(THREE))
    wrote(fleet, "web-0")

    assert fleet.ask("logs", "web-0") == ["line 1", "line 2", "line 3"]
    assert fleet.ask("logs", "web", "--tail", "2") == ["line 2", "line 3"]
    assert fleet.ask("logs", "web", "--since", "1h") == ["line 1", "line 2", "line 3"]
    assert fleet.ask("logs", "web", "--since", "0") == []


def test_several_workers(fleet):
    """Of several workers each line comes after its key."""
    fleet.drop("web", *sh(THREE), replicas=2)
    wrote(fleet, "web-0", "web-1")
    lines = fleet.ask("logs", "web")

    assert sorted(lines) == [f"web-{n} | line {i}" for n in (0, 1) for i in (1, 2, 3)]


def test_the_incarnation_before(fleet):
    """`--previous` shows what was said before the last start."""
    fleet.drop("web", *sh('echo "$RECONCILER_UID"; exec sleep 1000'))
    wrote(fleet, "web-0", count=1)
    fleet.ask("restart", "web-0")
    wrote(fleet, "web-0", count=2)
    first, _ = fleet.ask("logs", "web-0")

    assert fleet.ask("logs", "--previous", "web-0") == [first]


def test_escapes_reach_pipes_only(fleet):
    """A pipe gets the bytes that the worker wrote; a terminal is shown escapes in place of what could command it."""
    fleet.drop("web", *sh(r"printf 'a\033[31mb\n'; exec sleep 1000"))
    wrote(fleet, "web-0", count=1)
    with looking(fleet.state_dir, "logs", "web-0", terminal=True) as output:
        output.until("b")

    assert fleet.ask("logs", "web-0") == ["a\x1b[31mb"]
    assert output.text.startswith(r"a\x1b[31mb")


def test_lines_are_followed(fleet):
    """`-f` goes on with each line as it comes."""
    fleet.drop("web", *sh("trap 'echo again' USR1; echo once; while :; do sleep 0.05; done"))
    wrote(fleet, "web-0", count=1)
    with looking(fleet.state_dir, "logs", "-f", "web-0") as output:
        output.until("once\n")
        fleet.ask("signal", "web-0", "USR1")
        output.until("again\n")

        assert output.interrupted() == 130
    assert output.text == "once\nagain\n"


def test_new_workers_are_followed(fleet):
    """`-f` takes up workers of the set that come later, and no others."""
    fleet.drop("web", *sh(f"echo here; {THREE}"))
    wrote(fleet, "web-0", count=4)
    with looking(fleet.state_dir, "logs", "-f", "web", "--tail", "1") as output:
        output.until("line 3\n")
        fleet.drop("api", *sh(THREE))
        wrote(fleet, "api-0")
        fleet.ask("scale", "web=2")
        output.until("web-1 | line 3\n")

        assert output.interrupted() == 130
    assert output.text.splitlines() == ["line 3", "web-1 | here", *(f"web-1 | line {i}" for i in (1, 2, 3))]


def test_workers_that_go_are_let_go(tmp_path):
    """Of a worker whose files are gone nothing is kept open; when it comes back it is followed again."""
    log = tmp_path / "web-0.log"
    log.write_text("one\n")
    lines = followed(str(tmp_path), ["web-0"], lambda key: key.startswith("web-"), since=None, tail=None)
    assert next(lines).data == b"one"
    log.unlink()
    (tmp_path / "web-1.log").write_text("two\n")
    assert next(lines).data == b"two"
    (tmp_path / "api-0.log").write_text("nobody asked\n")
    (tmp_path / "web-2.log").write_text("three\n")
    assert next(lines).data == b"three"
    assert sorted(opened(tmp_path)) == ["web-1.log", "web-2.log"]
    log.write_text("again\n")
    assert next(lines) == Line(pytest.approx(log.stat().st_mtime), "web-0", "", b"again")
    lines.close()


def test_logs_need_no_controller(tmp_path):
    """What workers wrote can be read when no controller runs any more, also that of a set which is gone."""
    with commanded(tmp_path, output="file") as fleet:
        fleet.drop("web", *sh(THREE))
        wrote(fleet, "web-0")
        state_dir = fleet.state_dir

    assert command("logs", "web", "--state-dir", state_dir).stdout.splitlines() == ["line 1", "line 2", "line 3"]
    assert command("logs", "nobody", "--state-dir", state_dir).returncode == 1


def test_nothing_was_written(fleet):
    """Of a worker that wrote nothing into a file nothing is shown, and stderr says so; a wrong name is refused."""
    fleet.drop("web", "sleep", "1000")
    fleet.ready("web-0")
    done = command("logs", "web", "--state-dir", fleet.state_dir)

    assert (done.returncode, done.stdout) == (0, "")
    assert "web wrote nothing into files in" in done.stderr
    assert "did you mean 'web'?" in fleet.told("logs", "wbe")
