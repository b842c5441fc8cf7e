"""The README keeps its word, and CI runs what it says."""

import os
import re
import signal
import subprocess
import sys

import pytest
from house.program import running
from house.tree import ROOT
from processes import PATIENCE

README = (ROOT / "README.md").read_text("utf-8")
RUN = "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/python -m reconciler --watch specs"


def blocks(language: str) -> list[str]:
    """The fenced blocks of the README in this language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def test_two_commands_and_no_more() -> None:
    """There is one command to run the main job and one to run the tests, each on one line."""
    run, test = (block.strip() for block in blocks("sh"))
    assert run == RUN
    assert test.startswith("python3 -m venv .venv && ")
    assert test.endswith(" && .venv/bin/pytest")
    assert "\n" not in test


def test_ci_runs_the_command_of_the_readme() -> None:
    """`.ci/run` has the README's test command, letter by letter, as a line of its own."""
    script = ROOT / ".ci" / "run"
    lines = script.read_text("utf-8").splitlines()
    assert blocks("sh")[1].strip() in lines
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert os.access(script, os.X_OK)


def test_the_library_example_is_short() -> None:
    """The example has ten lines or fewer, blank ones not counted."""
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line]) <= 10


@pytest.mark.os
def test_the_library_example_runs() -> None:
    """The example runs as it stands: both workers come up, and TERM ends everything well."""
    (example,) = blocks("python")
    with running("-c", example, stderr=subprocess.PIPE) as program:
        converged = next(line for line in program.stderr if '"controller.converged"' in line)
        assert '"workers": 2' in converged
        program.send_signal(signal.SIGTERM)
        told = program.stderr.read()
        assert program.wait(PATIENCE) == 0
    assert '"controller.stopped"' in told


def test_the_changelog_has_a_place_for_what_comes() -> None:
    """The first entry of the changelog is Unreleased."""
    headings = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert headings[0] == "[Unreleased]"


@pytest.mark.os
def test_the_bench_measures() -> None:
    """The bench runs through for one worker, and prints its tables; what it measures is not asserted."""
    command = [sys.executable, "tests/bench/measure.py", "--rounds", "1", "--sizes", "1", "--idle", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert "| 1 of 1 | " in done.stdout
    assert done.stdout.count("| bare loop | reconciler | ratio |") == 3
