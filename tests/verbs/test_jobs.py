"""Jobs and schedules of a real controller: what is waited for, and what an order means for them."""

import json
import re

import pytest
from fleet import SLEEP, sh
from verbs.commanding import commanded
from verbs.looking import looking

pytestmark = pytest.mark.os

NEVER = {"restart": {"policy": "never"}}
YEARLY = {"kind": "job", "schedule": "0 0 1 1 *"}


@pytest.fixture
def fleet(tmp_path):
    """A controller without sets."""
    with commanded(tmp_path) as running:
        yield running


def rows(fleet, *names):
    """The sets, for programs."""
    return {row["name"]: row for row in json.loads("\n".join(fleet.ask("get", "--sets", "-o", "json", *names)))}


def added(fleet, name, *command, **settings):
    """Add a set, and wait until the controller knows it."""
    fleet.drop(name, *command, **settings)
    fleet.wait("spec.added", name=name)


def test_a_job_that_is_done_is_well(fleet, tmp_path):
    """A job is waited for until it has completed, and says how far it is; done, it is neither unready nor a problem."""
    go = tmp_path / "go"
    added(fleet, "job", *sh(f"while ! test -e {go}; do sleep 0.05; done"), kind="job", replicas=2)
    fleet.wait_for(2, "worker.started", name="job")
    running = fleet.ask("get", "--sets", "job")[1].split(maxsplit=5)
    worker = fleet.ask("get", "job-0")[1].split()[:3]
    go.touch()
    assert fleet.ask("wait", "job") == []
    assert fleet.ask("wait", "job", "--for", "condition=completed", "--timeout", "0s") == []
    assert fleet.ask("rollout", "status", "job") == ["job 2/2  completed", "job has completed"]
    assert running == ["job", "2", "-", "0", "-", "running, 0 of 2 completed"]
    assert worker == ["job-0", "-", "Running"]
    assert fleet.ask("get", "--sets", "job")[1].split(maxsplit=5)[5] == "completed"
    fleet.ask("status")


def test_services_do_not_complete(fleet):
    """A service that runs is ready, and not completed."""
    added(fleet, "web", *SLEEP)
    fleet.ready("web-0")
    assert "gave up on web" in fleet.told("wait", "web", "--for", "condition=Completed", "--timeout", "100ms")


def test_a_job_that_failed(fleet):
    """Whoever waits for a job that failed for good, or for what waits for it, is told so, and waits no longer."""
    added(fleet, "broken", "false", kind="job", **NEVER)
    fleet.wait("worker.failed", key="broken-0")
    added(fleet, "web", *SLEEP, depends_on=["broken"])
    assert "broken-0 failed for good" in fleet.told("wait", "broken")
    assert "1 of its workers failed for good" in fleet.told("rollout", "status", "broken")
    assert "web-0 waits for broken in vain" in fleet.told("wait", "web")
    assert "web waits for broken in vain" in fleet.told("rollout", "status", "web")
    assert "web waits for broken in vain" in fleet.told("restart", "web", "--wait")
    assert rows(fleet)["web"]["in_vain"] is True
    assert fleet.ask("explain", "web-0")[1].endswith("broken must be completed (which will not come by itself).")


def test_a_dependency_that_fails_meanwhile_ends_a_wait(fleet, tmp_path):
    """A wait goes on as long as what is waited for may come, and ends when it will not."""
    go = tmp_path / "go"
    added(fleet, "slow", *sh(f"while ! test -e {go}; do sleep 0.05; done; exit 3"), kind="job", **NEVER)
    fleet.wait("worker.started", key="slow-0")
    added(fleet, "web", *SLEEP, depends_on=["slow"])
    assert "gave up on web" in fleet.told("wait", "web", "--timeout", "200ms")
    assert "gave up on web" in fleet.told("rollout", "status", "web", "--timeout", "200ms")
    go.touch()
    assert "web-0 waits for slow in vain" in fleet.told("wait", "web")


def test_what_it_waits_for_is_told(fleet, tmp_path):
    """`rollout status` says for whom a set waits, and goes on when they are there."""
    go = tmp_path / "go"
    added(fleet, "db", *SLEEP, probes={"readiness": {"file": str(go), "period": "50ms"}})
    added(fleet, "web", *SLEEP, depends_on=["db"])
    with looking(fleet.state_dir, "rollout", "status", "web") as output:
        output.until("web 0/1  updated, 0 available, waits for db")
        go.touch()
        assert output.ended() == 0
    assert output.text.splitlines()[-1] == "web is rolled out"


def test_a_schedule_cannot_be_scaled(fleet):
    """`scale` refuses a set with a schedule, with `--write` too, and its file stays as it is."""
    added(fleet, "yearly", "true", **YEARLY)
    before = (fleet.specs / "yearly.toml").read_bytes()
    for options in ((), ("--write",)):
        assert "has a schedule, and each run is one worker" in fleet.told("scale", "yearly=3", *options)
    assert (fleet.specs / "yearly.toml").read_bytes() == before


def test_restart_runs_it_now(fleet):
    """`restart` of a schedule is a run now, says so, and is waited for until that is over, well or not."""
    added(fleet, "yearly", *sh("exit 0"), successful_history=0, **YEARLY)
    (line,) = fleet.ask("restart", "yearly", "--wait")
    assert re.fullmatch(r"yearly-\d+ runs now, whatever the schedule says", line)
    fleet.wait("worker.succeeded", name="yearly")
    added(fleet, "bad", *sh("exit 3"), failed_history=0, **NEVER, **YEARLY)
    assert "did not end well" in fleet.told("restart", "bad", "--wait")


def test_one_run_in_a_second(fleet):
    """Who asks for runs in quick succession is told which of them had begun already; all are waited for."""
    added(fleet, "yearly", *sh("exit 0"), **YEARLY)
    told = [fleet.ask("restart", "yearly", "yearly", "--wait")[0] for _ in range(6)]
    keys = {line.split()[0] for line in told}
    begun = [line for line in told if line.endswith("runs now, whatever the schedule says")]
    assert len(begun) == len(keys)
    fleet.wait_for(len(keys), "worker.succeeded", name="yearly")
    assert all(line in begun or line.endswith("was begun in this very second") for line in told)


def test_a_failed_run_is_history(fleet):
    """The runs of a schedule that are over are not waited for, and make nobody unready; one that is named is."""
    added(fleet, "bad", *sh("exit 3"), **NEVER, **YEARLY)
    fleet.told("restart", "bad", "--wait")
    key = fleet.wait("worker.failed", name="bad")["key"]
    fleet.ask("wait", "bad", "--timeout", "0s")
    fleet.ask("status")
    assert fleet.ask("rollout", "status", "bad")[-1] == "bad is rolled out; its next run is from the new spec"
    assert fleet.ask("get", "--sets", "bad")[1].split(maxsplit=5)[5].startswith("last run failed; next run in ")
    assert f"{key} failed for good" in fleet.told("wait", key)


def test_stop_and_start_of_a_schedule(fleet):
    """`stop` ends its run and lets a schedule rest; `start` lets it go on, and runs nothing that was done."""
    added(fleet, "yearly", *SLEEP, **YEARLY)
    fleet.ask("restart", "yearly")
    key = fleet.wait("worker.started", name="yearly")["key"]
    stopped = fleet.ask("stop", "yearly", "--wait")
    assert stopped == [f"{key} will be kept down", "yearly rests; its schedule starts nothing until `start`"]
    row = rows(fleet)["yearly"]
    assert (row["drift"], row["schedule"]["next"]) == (["stopped"], None)
    assert fleet.ask("start", "yearly") == ["yearly goes by its schedule"]
    assert rows(fleet)["yearly"]["schedule"]["next"] is not None
    fleet.drop("yearly", *sh("exit 0"), **YEARLY)
    fleet.wait("spec.changed", name="yearly")
    fleet.ask("restart", "yearly", "--wait")
    assert fleet.ask("stop", "yearly") == ["yearly rests; its schedule starts nothing until `start`"]
    fleet.ask("start", "yearly", "--wait")
    fleet.wait("controller.overridden", reason="Start")
    assert len(fleet.all("worker.started", name="yearly")) == 2
