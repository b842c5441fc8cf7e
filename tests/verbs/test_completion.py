"""What a shell completes, verbs and names."""

import subprocess
import sys

import pytest
from processes import PATIENCE, ROOT
from verbs.commanding import command, commanded

PROGRAM = "from reconciler.cli import command_line; command_line(prog_name='reconciler')"


def completed(state_dir, *words):
    """What is completed for the last word."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={
            "PYTHONPATH": str(ROOT),
            "RECONCILER_STATE_DIR": str(state_dir),
            "_RECONCILER_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("reconciler", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.split("\n") if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell):
    """The script calls back the program that it completes."""
    done = command("completion", shell)

    assert done.returncode == 0
    assert "_RECONCILER_COMPLETE" in done.stdout
    assert "reconciler" in done.stdout


def test_the_script_is_one_for_bash():
    """Bash takes its script."""
    script = command("completion", "bash").stdout
    done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.os
def test_names_of_the_running_controller(tmp_path):
    """Sets and keys that there are at the moment are completed, and only sets where only those can be."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000", replicas=2)
        fleet.drop("job", "sleep", "1000")
        fleet.ready("web-0", "web-1", "job-0")

        assert completed(fleet.state_dir, "get", "w") == ["web", "web-0", "web-1"]
        assert completed(fleet.state_dir, "rollout", "status", "w") == ["web"]


def test_nothing_without_a_controller(tmp_path):
    """Where no controller runs no name is completed, and nothing is said; verbs are completed all the same."""
    assert completed(tmp_path, "get", "w") == []
    assert completed(tmp_path, "desc") == ["describe"]
