"""`get`: what runs, once and as it changes."""

import json

import pytest
from fleet import sh
from ruamel.yaml import YAML
from verbs.commanding import commanded
from verbs.looking import looking

from reconciler.verbs.getting import phase_of, state_of

pytestmark = pytest.mark.os


@pytest.fixture
def fleet(tmp_path):
    """A controller with two workers that run and one that crashes, and a file that is bad."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000", replicas=2)
        fleet.drop("bad", "sleep", "1000", replcas=2)
        fleet.drop("crash", "false", restart={"backoff": {"initial": "600s", "max": "600s"}})
        fleet.ready("web-0", "web-1")
        fleet.wait("worker.backoff", key="crash-0")
        fleet.until(lambda: fleet.all("spec.rejected"))
        yield fleet


def test_a_line_for_each_worker(fleet):
    """Each worker has a line: ready, phase with its reason and wait, restarts, age, pid, processor and memory."""
    head, crash, first, second = fleet.ask("get")
    pid = fleet.all("worker.started", key="web-1")[-1]["pid"]

    assert head.split() == ["KEY", "READY", "PHASE", "RESTARTS", "AGE", "PID", "CPU", "MEM"]
    assert crash.split()[:5] == ["crash-0", "no", "CrashLoopBackOff", "(next", "try"]
    assert crash.split()[-5:] == ["1", "-", "-", "-", "-"]
    assert first.split()[:4] == ["web-0", "yes", "Running", "0"]
    assert second.split()[5] == str(pid)
    assert second.split()[7][-1] in "KM"


def test_names_choose(fleet):
    """A key, a set or a pattern chooses workers."""
    assert fleet.ask("get", "-o", "name", "web-1", "crash") == ["crash-0", "web-1"]
    assert fleet.ask("get", "-o", "name", "w*") == ["web-0", "web-1"]


def test_wide_shows_more(fleet):
    """With `-o wide` there are the set, its generation, whether it is up to date, and the uid besides."""
    head, *_, line = fleet.ask("get", "-o", "wide")

    assert head.split()[8:] == ["SET", "GENERATION", "UP-TO-DATE", "UID"]
    assert line.split()[8:11] == ["web", "1", "yes"]


def test_programs_get_data(fleet):
    """JSON and YAML have the same workers, with all that is known of them."""
    by_json = json.loads("\n".join(fleet.ask("get", "-o", "json", "web")))
    by_yaml = YAML(typ="safe", pure=True).load("\n".join(fleet.ask("get", "-o", "yaml", "web")))

    assert [row["key"] for row in by_json] == [row["key"] for row in by_yaml] == ["web-0", "web-1"]
    assert by_json[0].keys() == by_yaml[0].keys() >= {"uid", "pid", "phase", "memory", "cpu_percent", "age_s"}
    assert by_json[0]["memory"] > 4096


def test_a_line_for_each_set(fleet):
    """With `--sets` each set has a line, and a bad file says what is wrong with it."""
    fleet.ask("scale", "web=1")
    head, bad, crash, web = fleet.ask("get", "--sets")

    assert head.split() == ["NAME", "DESIRED", "READY", "UPDATED", "AVAILABLE", "STATE"]
    assert bad.split()[:6] == ["bad", "0", "0", "0", "0", "rejected:"]
    assert crash.split() == ["crash", "1", "0", "0", "0", "progressing"]
    assert web.split()[:2] == ["web", "1"]
    assert web.endswith("replicas 1 instead of 2")


def test_a_pipe_gets_a_line_for_each_change(fleet):
    """`-w` into a pipe writes the table, and then a line for each change, also for one that is gone."""
    with looking(fleet.state_dir, "get", "-w", "web") as output:
        output.until("web-1")
        fleet.ask("scale", "web=3")
        output.until("web-2  yes")
        (fleet.specs / "web.toml").unlink()
        output.until(lambda text: text.count("Gone") == 3)

    assert "\x1b" not in output.text
    assert output.text.count("KEY") == 1


def test_a_pipe_gets_json_for_each_change(fleet):
    """`-w -o json` writes an object in each line."""
    with looking(fleet.state_dir, "get", "-w", "-o", "json", "web-0") as output:
        output.until("\n")
        fleet.ask("restart", "web-0")
        output.until(lambda text: text.count('"phase": "Running"') > 1)

    rows = [json.loads(line) for line in output.text.splitlines()]
    assert {row["key"] for row in rows} == {"web-0"}
    assert rows[0]["uid"] != rows[-1]["uid"]


def test_a_terminal_is_redrawn(fleet):
    """`-w` on a terminal draws the table anew in its place, in 80 columns and in colour."""
    with looking(fleet.state_dir, "get", "-w", terminal=True) as output:
        output.until("web-1")
        fleet.ask("scale", "web=3")
        output.until("web-2")

    assert "\x1b[4A" in output.text  # the head and three workers, up again
    assert "\x1b[32mRunning" in output.text
    assert "(next try in 10m)" in output.text


@pytest.mark.parametrize("options", [(), ("-w",)])
def test_no_colour_is_no_colour(fleet, options):
    """NO_COLOR is honoured on a terminal."""
    with looking(fleet.state_dir, "get", *options, terminal=True, NO_COLOR="1") as output:
        output.until("web-1")

    assert "\x1b[3" not in output.text
    assert "\x1b[1m" not in output.text


def test_sets_are_followed(fleet):
    """`-w --sets` follows sets, and says which are gone."""
    with looking(fleet.state_dir, "get", "-w", "--sets") as output:
        output.until("web ")
        (fleet.specs / "bad.toml").write_text('command = ["sleep", "1000"]')
        output.until(lambda text: "bad    1" in text)
        (fleet.specs / "bad.toml").unlink()
        output.until("gone")


def test_the_end_of_the_controller_ends_what_follows_it(tmp_path):
    """When the controller stops, `-w` ends too, and is no failure."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", *sh("exec sleep 1000"))
        fleet.ready("web-0")
        with looking(fleet.state_dir, "get", "-w") as output:
            output.until("web-0")
            fleet.end()

            assert output.ended() == 0
    assert "Traceback" not in output.text


WORKER = {"phase": "Running", "reason": None, "retry_at": None, "ready": True}
WORKER |= {"job": False, "waits_for": [], "in_vain": False}
SET = {"rejected": [], "stalled": False, "failed": 0, "drift": [], "converged": True, "suspended": False, "kept": 0}
SET |= {"unbound": [], "waits_for": [], "in_vain": False, "schedule": None, "job": False, "undone": False}
JOB = {"job": True, "replicas": 3, "completed": 0, "active": 0}
PLAN = {"expression": "0 3 * * *", "time_zone": "UTC", "last": 100.0, "last_phase": "Succeeded", "next": 800.0}
PLAN |= {"due": None}


@pytest.mark.parametrize(
    ("changed", "text", "colour"),
    [
        ({}, "Running", "green"),
        ({"ready": False, "reason": "NotNotified"}, "Running (NotNotified)", "yellow"),
        ({"phase": "Stopping", "reason": "Outdated"}, "Stopping (Outdated)", "yellow"),
        ({"phase": "Failed", "reason": "StartLimitHit"}, "Failed (StartLimitHit)", "red"),
        (
            {"phase": "Backoff", "reason": "CrashLoopBackOff", "retry_at": 112.0},
            "CrashLoopBackOff (next try in 12s)",
            "red",
        ),
        ({"phase": "Backoff", "reason": "StartError", "retry_at": 99.0}, "StartError (next try in 0s)", "red"),
        ({"ready": False, "job": True}, "Running", "green"),
        (
            {"phase": "Pending", "reason": "WaitsForDependency", "ready": False, "waits_for": ["db", "cache"]},
            "Pending (waits for db, cache)",
            "yellow",
        ),
        ({"phase": "Pending", "waits_for": ["db"], "in_vain": True}, "Pending (waits for db in vain)", "red"),
    ],
)
def test_a_phase_has_its_reason(changed, text, colour):
    """A phase is shown with its reason, a wait with what is left of it, and both in a colour that fits."""
    assert phase_of({**WORKER, **changed}, 100.0) == (text, colour)


@pytest.mark.parametrize(
    ("changed", "text", "colour"),
    [
        ({}, "ok", "green"),
        ({"converged": False}, "progressing", "yellow"),
        ({"drift": ["stopped"]}, "stopped", "yellow"),
        (
            {"stalled": True, "failed": 2, "drift": ["rolled back to revision 3"]},
            "stalled; 2 failed; rolled back to revision 3",
            "red",
        ),
        ({"rejected": ["no command @ web.toml", "more"]}, "rejected: no command @ web.toml", "red"),
        (
            {"unbound": ["cannot listen on '80': Address already in use; stop who"]},
            "cannot listen on '80': Address already in use",
            "red",
        ),
        ({"converged": False, "waits_for": ["db"]}, "waits for db", "yellow"),
        ({"converged": False, "waits_for": ["db"], "in_vain": True}, "waits for db in vain", "red"),
        ({"suspended": True}, "suspended", "grey"),
        ({"kept": 2}, "ok (2 kept by the partition)", "green"),
        ({"undone": True, "drift": ["rolled back"]}, "rolled back", "red"),
        ({**JOB, "completed": 3}, "completed", "green"),
        ({**JOB, "completed": 1, "active": 2, "converged": False}, "running, 1 of 3 completed", "green"),
        ({**JOB, "converged": False}, "0 of 3 completed", "yellow"),
        ({**JOB, "schedule": PLAN}, "next run in 10m", "green"),
        ({**JOB, "schedule": PLAN, "active": 1, "converged": False}, "1 running; next run in 10m", "green"),
        ({**JOB, "schedule": {**PLAN, "last_phase": "Failed"}, "failed": 1}, "last run failed; next run in 10m", "red"),
        ({**JOB, "schedule": {**PLAN, "due": 150.0}}, "a run is due; next run in 10m", "green"),
        ({**JOB, "schedule": {**PLAN, "next": None}, "drift": ["stopped"]}, "stopped", "yellow"),
    ],
)
def test_the_state_of_a_set(changed, text, colour):
    """What is wrong with a set comes first, and drift after it; of jobs it is said how far they are."""
    assert state_of({**SET, **changed}, 200.0) == (text, colour)
