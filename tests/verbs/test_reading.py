"""`status`, `explain` and `events`: what the controller says of itself and of workers."""

import json

import pytest
from verbs.commanding import command, commanded
from verbs.looking import looking

from reconciler.verbs.printing import Screen
from reconciler.verbs.reading import event_lines, explained

pytestmark = pytest.mark.os


def status(fleet, *options):
    """The exit code of `status`, and what it wrote."""
    done = command("status", "--state-dir", fleet.state_dir, *options)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_status_says_how_it_is(tmp_path):
    """`status` exits 0 if all is ready and 3 if not, and shows the controller's own health."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000", replicas=2)
        fleet.ready("web-0", "web-1")
        fleet.until(lambda: fleet.all("controller.converged", workers=2))
        code, text = status(fleet)

        assert code == 0
        assert "2 of 2 ready, in 1 sets" in text
        assert f"pid {fleet.pid}" in text
        assert str(fleet.state_dir) in text

        fleet.drop("crash", "false", restart={"backoff": {"initial": "600s", "max": "600s"}})
        fleet.wait("worker.backoff", key="crash-0")
        code, text = status(fleet, "-o", "json")

        assert code == 3
        assert json.loads(text)["wanted"] == 3


def test_status_without_a_controller(tmp_path):
    """`status` exits 4 where no controller runs."""
    done = command("status", "--state-dir", tmp_path)

    assert done.returncode == 4
    assert done.stderr.startswith("reconciler: no controller answers in ")


def test_status_names_bad_files(tmp_path):
    """`status` says how many spec files are bad."""
    with commanded(tmp_path) as fleet:
        fleet.drop("bad", "sleep", "1", replcas=1)
        fleet.wait("spec.rejected")

        assert "rejected:   1 of the spec files" in status(fleet)[1]


def test_explain_names_the_rule(tmp_path):
    """`explain` says what would be done with each worker, by which rule, and what that means."""
    with commanded(tmp_path) as fleet:
        fleet.drop("crash", "false", restart={"backoff": {"initial": "600s", "max": "600s"}})
        fleet.drop("web", "sleep", "1000")
        fleet.ready("web-0")
        fleet.wait("worker.backoff", key="crash-0")
        crash, meaning, web, wanted = fleet.ask("explain", "crash-0", "web")
        (as_data,) = json.loads("\n".join(fleet.ask("explain", "-o", "json", "web-0")))

    assert crash == "crash-0  Backoff: nothing, by the rule CrashLoopBackOff"
    assert meaning.strip().startswith("It ended by itself again and again")
    assert " That is in " in meaning
    assert (web, wanted) == ("web-0  Running: nothing, by the rule UpToDate", "  It is as wanted.")
    assert as_data["rule"] == "UpToDate"


def test_events_of_one_worker(tmp_path):
    """`events` shows what happened, the oldest first, and only what is asked for."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000", replicas=2)
        pid, _ = fleet.ready("web-0", "web-1")
        lines = fleet.ask("events", "web-0")
        by_option = fleet.ask("events", "--key", "web-0", "--since", "1h")
        rows = [json.loads(line) for line in fleet.ask("events", "-o", "json", "web")]

    assert [line.split()[2] for line in lines] == ["worker.starting", "worker.started", "worker.ready"]
    assert f"pid={pid}" in lines[1]
    assert "reason=Created" in lines[0]
    assert by_option == lines
    assert {row["name"] for row in rows} == {"web"}
    assert [row["serial"] for row in rows] == sorted(row["serial"] for row in rows)


def test_events_of_a_deleted_set(tmp_path):
    """What is remembered of a set is shown when the set is gone; a name of which nothing is known is refused."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000")
        fleet.ready("web-0")
        fleet.ask("delete", "web")
        names = fleet.ask("events", "web", "-o", "name")

        assert names[0] == "spec.added"
        assert "worker.exited" in names
        assert "there is no set or worker 'wib'" in fleet.told("events", "wib")


def test_each_form(tmp_path):
    """What is told in lines has the same forms as tables: no line is broken with `wide`, and `name` is for shells."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000", replicas=2)
        fleet.drop("bad", "sleep", "1000", replcas=2)
        fleet.ready("web-0", "web-1")
        fleet.until(lambda: fleet.all("spec.rejected"))
        for name in ("web", "web-0"):
            assert fleet.ask("describe", name, "-o", "name") == [name]
        assert fleet.ask("describe", "bad", "-o", "name") == [f"{tmp_path}/specs/bad.toml"]
        assert fleet.ask("explain", "web", "-o", "name") == ["web-0", "web-1"]
        assert fleet.ask("rollout", "history", "web", "-o", "name") == ["1"]
        for verb in (["describe", "web-0"], ["explain", "web"], ["events", "web"]):
            with looking(fleet.state_dir, *verb, "-o", "wide", terminal=True, columns=20, NO_COLOR="1") as output:
                output.ended()
            assert len(output.text.splitlines()) == len(fleet.ask(*verb, "-o", "wide"))


def test_events_since(tmp_path):
    """`--since` leaves out what happened before."""
    with commanded(tmp_path) as fleet:
        fleet.drop("web", "sleep", "1000")
        fleet.ready("web-0")

        assert fleet.ask("events", "--since", "0") == []


def test_events_are_followed(tmp_path):
    """`-f` goes on with each event as it comes, with JSON one object in a line."""
    with commanded(tmp_path) as fleet, looking(fleet.state_dir, "events", "-f", "-o", "json") as output:
        output.until("controller.started")
        fleet.drop("web", "sleep", "1000")
        output.until('"worker.ready", "key": "web-0"')

        assert output.interrupted() == 130
    assert all(json.loads(line)["serial"] for line in output.text.splitlines())


TOLD = {"timestamp": "2026-11-23T12:00:00.5Z", "level": "error", "key": "web-0", "name": "web", "reason": "StartError"}


def test_an_event_for_eyes():
    """An event is shown with its reason and facts, without what its key says already; none can command a terminal."""
    facts = {"event": "worker.start_failed", "message": "no \x1b[31m file", "errno": 2, "pid": None}
    (line,) = event_lines({**TOLD, **facts}, Screen())

    assert line.split(None, 2)[2] == (
        'worker.start_failed  web-0        reason=StartError message="no \\u001b[31m file" errno=2'
    )


def test_an_event_fits_its_terminal():
    """An event that is longer than a line goes on in the next one, indented."""
    first, second = event_lines({**TOLD, "event": "worker.exited", "one": "x" * 20, "two": "y" * 20}, Screen(width=80))

    assert len(first) <= 80
    assert second == " " * 15 + f"one={'x' * 20} two={'y' * 20}"


def test_an_explanation_fits_its_terminal():
    """What a rule means is broken between words."""
    told = {
        "key": "web-0",
        "phase": "Running",
        "does": "stop",
        "rule": "Outdated",
        "meaning": "word " * 30,
        "deadline": 7,
    }
    lines = list(explained([told], Screen(width=80), 5.0))

    assert max(map(len, lines)) <= 80
    assert lines[-1].endswith("That is in 2s.")
