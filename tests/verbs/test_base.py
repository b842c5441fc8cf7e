"""Which controller a verb asks, and how it fails."""

import os
import subprocess
import sys

import pytest
from processes import ROOT
from verbs.commanding import command, commanded
from verbs.looking import looking

from reconciler.state.place import state_directory
from reconciler.verbs.base import Place, place_of


def test_without_a_controller_there_is_a_line_and_a_hint(tmp_path):
    """A verb that finds nobody says so in one line, adds what to do in another, and exits 1."""
    done = command("get", "--state-dir", tmp_path / "none")
    first, second = done.stderr.splitlines()

    assert (done.returncode, done.stdout) == (1, "")
    assert first.startswith(f"reconciler: no controller answers in {tmp_path}/none")
    assert second.startswith("hint: start one with")


def test_debug_shows_a_traceback(tmp_path):
    """With `--debug` a failure comes with its traceback."""
    done = command("get", "--debug", "--state-dir", tmp_path)

    assert "Traceback" in done.stderr
    assert "NoController" in done.stderr


def test_an_option_is_nearer_than_the_environment(monkeypatch):
    """The place is that of --state-dir, else of --specs, else of the environment, else of ./specs."""
    monkeypatch.setenv("RECONCILER_STATE_DIR", "/named")
    both = place_of({"specs": "/s", "state_dir": "/given"})
    specs = place_of({"specs": "/s", "state_dir": None})
    named = place_of({})
    monkeypatch.delenv("RECONCILER_STATE_DIR")

    assert both == Place("/s", "/given")
    assert specs == Place("/s", state_directory("/s"))
    assert named == Place(None, "/named")
    assert place_of({}) == Place("specs", state_directory("specs"))


@pytest.mark.os
def test_a_reader_who_went_away_is_no_failure(tmp_path):
    """Where nobody reads any more the verb ends without a word."""
    with commanded(tmp_path) as fleet:
        reader, writer = os.pipe()
        os.close(reader)
        done = subprocess.run(
            [sys.executable, "-m", "reconciler", "status", "--state-dir", str(fleet.state_dir)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
        os.close(writer)

    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.os
def test_an_interrupt_is_no_failure(tmp_path):
    """^C ends a verb without a word, with the exit code that a shell expects."""
    with commanded(tmp_path) as fleet, looking(fleet.state_dir, "get", "-w") as output:
        output.until("KEY")

        assert output.interrupted() == 130
        assert "Abort" not in output.text
        assert "Traceback" not in output.text


@pytest.mark.os
def test_a_wrong_name_suggests_the_nearest(tmp_path):
    """A name that means nothing is refused, with the name that was probably meant."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000")
        fleet.ready("web-0")

        assert "did you mean 'web'?" in fleet.told("get", "wbe")
        assert "did you mean 'web'?" in fleet.told("explain", "wbe")
        assert "did you mean 'web'?" in fleet.told("events", "wbe")
