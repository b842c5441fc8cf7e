"""The command line: its verbs, its options, and the exit codes that scripts rely on."""

import json
import os
import pty
import re
import select
import subprocess
import sys

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import PATIENCE, ROOT
from spec_files import EXAMPLE_TOML

import reconciler
from reconciler.core.event import CATALOGUE

pytestmark = pytest.mark.os


def run(*arguments, cwd=None, **env):
    """Run the program to its end; what it wrote, and its exit code."""
    return subprocess.run(
        [sys.executable, "-m", "reconciler", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def once(specs, *options):
    """Run `--once` to its end; the process, and its events."""
    done = run("--watch", specs, "--once", "--log-format", "json", *options)
    return done, [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]


# ------------------------------------------------------------------------------------------------------------- usage


def test_help():
    """`--help` shows each verb and option, and begins its examples with the main one."""
    done = run("--help")

    assert done.returncode == 0
    for word in ("--watch", "--once", "--poll", "--log-format", "--log-level", "--version", "check", "plan", "schema"):
        assert word in done.stdout
    assert re.search(r"Examples:\s+python -m reconciler --watch specs\s", done.stdout)


def test_no_arguments():
    """Without arguments the program prints its help, and that is wrong usage."""
    done = run()

    assert done.returncode == 2
    assert done.stdout == run("--help").stdout


def test_version():
    """`--version` prints the version."""
    done = run("--version")

    assert (done.returncode, done.stdout) == (0, f"reconciler, version {reconciler.__version__}\n")


def test_console_script():
    """As a console script the program calls itself by that name."""
    script = "import sys; sys.argv = ['/usr/bin/reconciler', '--help']; from reconciler.__main__ import main; main()"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.startswith("Usage: reconciler [OPTIONS]")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--wach", "specs"),
        ("--watch",),
        ("--watch", "no-such-directory"),
        ("--watch", __file__),
        ("--watch", ".", "--log-format", "xml"),
        ("--watch", ".", "--log-level", "loud"),
        ("--watch", ".", "check", "."),
        ("chek", "."),
        ("check",),
        ("check", "no-such-directory"),
        ("check", "no-such-file.toml"),
        ("plan",),
        ("plan", "no-such-directory"),
        ("plan", ".", "--format", "xml"),
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments, tmp_path):
    """Wrong usage and what does not exist end with 2 and say so on stderr, without a traceback."""
    done = run(*arguments, cwd=tmp_path)

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


def test_missing_directory_is_named(tmp_path):
    """The message on a missing directory is one line that names it and says what to do."""
    done = run("--watch", "spces", cwd=tmp_path)

    assert done.stderr == "reconciler: there is no directory 'spces'; create it, or name another with --watch\n"


def test_relative_directory(tmp_path):
    """The directory may be named relative to where one is."""
    (tmp_path / "specs").mkdir()
    drop(tmp_path / "specs", "job", *sh("pwd; pwd >&2"), restart={"policy": "never"})
    done = run("--watch", "specs", "--once", "--output", "inherit", cwd=tmp_path)

    assert done.returncode == 0
    assert str(tmp_path / "specs") in done.stderr.splitlines()


# -------------------------------------------------------------------------------------------------------------- check


def test_check_of_good_files(specs):
    """`check` accepts good files, given as a directory or one by one."""
    (specs / "web.toml").write_bytes(EXAMPLE_TOML)
    (specs / "api.json").write_text('{"command": "sleep 1"}')

    for arguments in ([specs], [specs / "web.toml", specs / "api.json"]):
        done = run("check", *arguments)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "2 files, 0 bad\n")


def test_check_of_an_empty_directory(specs):
    """An empty directory is fine."""
    assert run("check", specs).returncode == 0


def test_check_of_bad_files(specs):
    """`check` lists every problem of every bad file, with its place in the file, and exits 1."""
    drop(specs, "good", *SLEEP)
    (specs / "web.toml").write_text('replcas = 2\ncommand = []\nrestart.policy = "no"\n')
    (specs / "api.json").write_text('{"command": "a", "command": "b"}')
    (specs / "Bad Name.toml").write_text('command = "a"\n')
    drop(specs, "twin", *SLEEP)
    (specs / "twin.yaml").write_text("command: a\n")
    done = run("check", specs)

    assert done.returncode == 1
    lines = done.stdout.splitlines()
    for expected in (
        r"api\.json: .*'command' stands twice",
        r"web\.toml: unknown key 'replcas' \(did you mean 'replicas'\?\)",
        r"web\.toml: .*@ web\.toml\.command",
        r"web\.toml: .*'no'.*@ web\.toml\.restart\.policy",
        r"Bad Name\.toml: .*did you mean 'bad-name'",
        r"twin\..*: twin\.toml and twin\.yaml",
    ):
        assert [line for line in lines if re.search(expected, line)], expected
    assert len(lines) == 6
    assert done.stderr == "6 files, 4 bad\n"


def test_check_of_a_hostile_name(specs):
    """A file name with line breaks, escape codes and bytes that are no text cannot forge a line."""
    (specs / os.fsdecode(b"a\n0 files, 0 bad\x1b[31m\xff.toml")).write_text("command = 3\n")
    done = run("check", specs)

    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "0 files, 0 bad" not in done.stdout.splitlines()
    assert len(done.stdout.splitlines()) == 1


# --------------------------------------------------------------------------------------------------------------- plan


def test_plan(specs):
    """`plan` shows what would be started from nothing, in order, and starts nothing."""
    drop(specs, "web", *sh("echo ran >&2"), replicas=2)
    drop(specs, "db", *sh("echo ran >&2"), order=-1)
    drop(specs, "off", *sh("echo ran >&2"), suspend=True)
    done = run("plan", specs)

    assert done.returncode == 1
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["KEY", "ACTION", "REASON"],
        ["db-0", "start", "Created"],
        ["web-0", "start", "Created"],
        ["web-1", "start", "Created"],
    ]
    assert done.stderr == ""


def test_plan_as_json(specs):
    """`plan --format json` prints one document."""
    drop(specs, "web", *SLEEP)
    done = run("plan", specs, "--format", "json")

    change = {"key": "web-0", "action": "start", "reason": "Created", "fields": []}
    assert (done.returncode, json.loads(done.stdout)) == (1, {"changes": [change]})


def test_plan_without_changes(specs):
    """Where nothing would be done `plan` exits 0."""
    drop(specs, "web", *SLEEP, replicas=0)

    assert run("plan", specs).returncode == 0
    done = run("plan", specs, "--format", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"changes": []})


def test_plan_of_bad_files(specs):
    """A plan cannot be made of bad files: they are told, and it exits 2."""
    (specs / "web.toml").write_text("command = 3\n")
    done = run("plan", specs)

    assert (done.returncode, done.stdout) == (2, "")
    assert "web.toml.command" in done.stderr


# ------------------------------------------------------------------------------------------------------------- schema


def test_schema():
    """`schema` prints the JSON Schema of spec files."""
    done = run("schema")
    schema = json.loads(done.stdout)

    assert done.returncode == 0
    assert {"command", "replicas", "restart", "rollout", "$schema"} <= schema["properties"].keys()
    assert schema["additionalProperties"] is False


# --------------------------------------------------------------------------------------------------------------- once


def test_once(specs):
    """`--once` waits until all is ready, stops everything, prints a table on stdout and exits 0."""
    drop(specs, "web", *SLEEP, replicas=2, min_ready="100ms")
    drop(specs, "job", "true", restart={"policy": "never"})
    done, events = once(specs)

    assert done.returncode == 0
    assert [line.split()[:3] for line in done.stdout.splitlines()] == [
        ["KEY", "READY", "PHASE"],
        ["job-0", "no", "Succeeded"],
        ["web-0", "yes", "Running"],
        ["web-1", "yes", "Running"],
    ]
    told = [event["event"] for event in events]
    assert told.index("controller.converged") < told.index("worker.stopping") < told.index("controller.stopped")
    assert told.count("worker.exited") == 3


def test_once_with_an_empty_directory(specs):
    """Nothing to run is all that is wanted."""
    assert once(specs)[0].returncode == 0


@pytest.mark.parametrize(
    ("command", "settings", "reason"),
    [
        (["false"], {"restart": {"backoff": {"initial": "0s"}, "start_limit": {"burst": 2}}}, "StartLimitHit"),
        (["false"], {"restart": {"policy": "never"}}, "Error"),
        (["no-such-program"], {"rollout": {"progress_deadline": "100ms"}}, "StartError"),
        (["sleep", "1000"], {"rollout": {"progress_deadline": "100ms"}}, None),
    ],
    ids=["start-limit", "failed", "start-error", "progress-deadline"],
)
def test_once_that_cannot_become_ready(specs, command, settings, reason):
    """`--once` gives up when a limit of a set says so: it stops everything, shows how it stood, and exits 1."""
    drop(specs, "bad", *command, **settings, min_ready="1h")  # without it, whoever has started is ready
    drop(specs, "good", *SLEEP)
    done, events = once(specs)

    assert done.returncode == 1
    bad, good = (line.split() for line in done.stdout.splitlines()[1:])
    assert bad[:2] == ["bad-0", "no"]
    assert reason is None or f"({reason})" in bad
    assert good[:3] == ["good-0", "yes", "Running"]
    assert events[-1]["event"] == "controller.stopped"


def test_once_with_a_bad_file(specs):
    """A rejected file makes `--once` fail, after the others have become ready."""
    drop(specs, "good", *SLEEP)
    (specs / "bad.toml").write_text("command = 3\n")
    done, events = once(specs)

    assert done.returncode == 1
    assert done.stdout.splitlines()[1].startswith("good-0  yes")
    assert [event["name"] for event in events if event["event"] == "spec.rejected"] == ["bad"]


def test_once_that_is_interrupted(specs):
    """`--once` that is asked to stop before all was ready has failed."""
    drop(specs, "web", *SLEEP, min_ready="1h")
    with Fleet(specs, "--once") as fleet:
        fleet.wait("worker.started")
        fleet.end(code=1)


# ---------------------------------------------------------------------------------------------------------------- log


@pytest.mark.parametrize(("level", "least"), [("debug", 0), ("info", 1), ("warning", 2), ("error", 3)])
def test_log_level(specs, level, least):
    """`--log-level` leaves out the events below it, and no others."""
    (specs / "bad.toml").write_text("command = 3\n")
    drop(specs, "web", *SLEEP)
    done = run("--watch", specs, "--once", "--poll", "--log-format", "json", "--log-level", level)
    levels = ["debug", "info", "warning", "error"]
    events = [json.loads(line) for line in done.stderr.splitlines()]

    assert {event["level"] for event in events} == set(levels[least:]) - {"debug"}
    assert {event["level"] == CATALOGUE[event["event"]].level for event in events} == {True}


def test_json_where_there_is_no_terminal(specs):
    """Away from a terminal each event is one line of JSON."""
    drop(specs, "web", *SLEEP)
    done = run("--watch", specs, "--once")

    assert json.loads(done.stderr.splitlines()[0])["event"] == "controller.started"


def test_console_by_request(specs):
    """`--log-format console` writes for people, without colours where there is no terminal."""
    drop(specs, "web", *SLEEP)
    done = run("--watch", specs, "--once", "--log-format", "console")

    assert re.search(r"^\d\d:\d\d:\d\d \[info *\] worker\.ready +key=web-0 pid=\d+", done.stderr, re.MULTILINE)
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("env", [{}, {"NO_COLOR": "1"}], ids=["colours", "no-colours"])
def test_console_on_a_terminal(specs, env):
    """On a terminal events are written for people, in colours unless NO_COLOR says otherwise."""
    drop(specs, "web", *SLEEP)
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-m", "reconciler", "--watch", str(specs), "--once"],
        env={**environment, "PYTHONPATH": str(ROOT), "TERM": "xterm", **env},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    )
    os.close(theirs)
    text = "".join(read_terminal(ours))
    os.close(ours)

    assert process.wait(PATIENCE) == 0
    assert ("\x1b[" in text) == (not env)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert re.search(r"^\d\d:\d\d:\d\d \[info *\] worker\.ready +key=web-0 pid=\d+", plain, re.MULTILINE)


def read_terminal(fd):
    """What is written to a terminal until its other side is closed by everybody."""
    while select.select([fd], [], [], PATIENCE)[0]:
        try:
            yield os.read(fd, 65536).decode()
        except OSError:  # so a terminal says that nobody is left
            return
    pytest.fail("the terminal is still held open")


def test_a_slip_is_answered_by_the_nearest_verb():
    """A verb that does not exist is one line, with the nearest that does."""
    done = run("gte")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "reconciler: there is no verb 'gte'; did you mean 'get'?\n"
