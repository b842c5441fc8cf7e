"""A controller with a state directory: the only one there, with a memory, and open to questions and orders."""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import PATIENCE, ROOT, alive

from reconciler import Controller
from reconciler.client import Client, NoController, Refused
from reconciler.core.override import Scale
from reconciler.core.spec import SetSpec
from reconciler.drivers.command import CommandDriver
from reconciler.state.store import Store

pytestmark = pytest.mark.os


class Served(Fleet):
    """A controller whose state directory is `home/state`, with what it is asked through its socket."""

    def __init__(self, home, *options):
        self.state = home / "state"
        (home / "specs").mkdir(exist_ok=True)
        super().__init__(home / "specs", "--state-dir", str(self.state), *options)

    def open(self):
        """A client, once the socket is there."""
        self.wait("controller.converged")
        return Client(str(self.state), timeout=PATIENCE)


def phases(client, *names):
    """The phase of each worker by key."""
    rows = [row for item in client.stream("get", names=list(names)) for row in item["workers"]]
    return {row["key"]: row["phase"] for row in rows}


def try_to_start(specs, *options):
    """Start a controller that cannot run; its exit code and what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "--watch", str(specs), *options],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode, done.stderr


# ------------------------------------------------------------------------------------------------------- one of them


@pytest.mark.parametrize("same", ["specs", "state", "both"])
def test_there_is_one_controller(tmp_path, same):
    """A second controller for a spec directory, or for a state directory, names the first one and exits 75."""
    other = tmp_path / "other"
    other.mkdir()
    with Served(tmp_path) as fleet:
        drop(tmp_path / "specs", "web", *SLEEP)
        fleet.ready("web-0")
        specs = tmp_path / "specs" if same != "state" else other
        state = fleet.state if same != "specs" else other
        code, said = try_to_start(specs, "--state-dir", str(state))
        assert code == 75
        assert f"pid {fleet.pid}" in said
        assert len(said.splitlines()) == 1


def test_the_lock_goes_with_its_holder(tmp_path):
    """After a controller was killed, the next one has the directory at once."""
    with Served(tmp_path) as fleet:
        fleet.wait("controller.converged")
        fleet.signal("KILL")
        fleet.process.wait()
        with Served(tmp_path) as again, again.open() as client:
            assert client.call("status")["pid"] == again.pid


def test_workers_do_not_hold_the_lock(tmp_path):
    """Workers that outlived a killed controller do not keep the next one out."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *SLEEP)
    with Served(tmp_path) as fleet:
        orphan = fleet.ready("web-0")
        fleet.signal("KILL")
        fleet.process.wait()
        with Served(tmp_path) as again:
            again.ready("web-0")
        os.kill(orphan, signal.SIGKILL)


def test_a_long_path_is_no_trouble(tmp_path):
    """The socket works in a directory whose path is longer than a socket's address may be."""
    home = tmp_path / ("x" * 120) / ("y" * 120)
    home.mkdir(parents=True)
    with Served(home) as fleet, fleet.open() as client:
        assert client.call("status")["pid"] == fleet.pid


def test_the_directory_is_for_its_owner(tmp_path):
    """State directory and socket are for their owner alone, also where the directory was there before."""
    (tmp_path / "state").mkdir(mode=0o755)
    with Served(tmp_path) as fleet, fleet.open():
        assert fleet.state.stat().st_mode & 0o777 == 0o700
        assert (fleet.state / "control.sock").stat().st_mode & 0o777 == 0o600


def test_a_file_is_no_state_directory(tmp_path):
    """What is no directory cannot be the state directory, and that is one line."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "state").touch()
    code, said = try_to_start(tmp_path / "specs", "--state-dir", str(tmp_path / "state"))
    assert (code, len(said.splitlines())) == (2, 1)


# ------------------------------------------------------------------------------------------------------------- memory


def test_what_was_asked_for_outlives_the_controller(tmp_path):
    """What must stay down does so, and a scale and a pause hold, after the controller was killed and started anew."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *SLEEP, replicas=2)
    drop(tmp_path / "specs", "db", *SLEEP)
    with Served(tmp_path) as fleet, fleet.open() as client:
        client.call("stop", names=["web-0", "db"])
        client.call("scale", set="web", replicas=3)
        client.call("pause", set="web")
        fleet.signal("KILL")
        fleet.process.wait()
        orphans = fleet.marked()
        with Served(tmp_path) as again, again.open() as newcomer:
            shown = phases(newcomer)
            assert shown == {"db-0": "Stopped", "web-0": "Stopped", "web-1": "Running", "web-2": "Running"}
            assert next(newcomer.stream("sets", names=["web"]))["paused"]
            newcomer.call("start", names=["*"])
            again.ready("web-0", "db-0")
        for pid in filter(alive, orphans):
            os.kill(pid, signal.SIGKILL)


def test_one_worker_of_a_stopped_set_can_be_started(tmp_path):
    """When a set was stopped as a whole, one worker of it can be started alone."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *SLEEP, replicas=3)
    with Served(tmp_path) as fleet, fleet.open() as client:
        client.call("stop", names=["web"])
        fleet.wait_for(3, "worker.stopped")
        client.call("start", names=["web-1"])
        assert phases(client)["web-0"] == phases(client)["web-2"] == "Stopped"
        fleet.wait("worker.ready", key="web-1")


def test_a_memory_that_cannot_be_read_is_put_aside(tmp_path):
    """A file of overrides that is broken keeps nothing from running, is told, and is kept under another name."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *SLEEP)
    (tmp_path / "state").mkdir()
    for text in ("{", '{"version": 99, "overrides": []}', '{"version": 1, "overrides": [{"kind": "Nonsense"}]}'):
        (tmp_path / "state" / "overrides.json").write_text(text)
        with Served(tmp_path) as fleet, fleet.open() as client:
            assert fleet.all("state.degraded")[0]["reason"] == "Unreadable"
            assert phases(client) == {"web-0": "Running"}
            assert (fleet.state / "overrides.json.bad").read_text() == text
            assert client.call("status")["problems"]


def test_an_order_that_cannot_be_saved_holds_all_the_same(tmp_path):
    """Where the disk refuses, the order is carried out, its answer warns, and it is saved as soon as that works."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *SLEEP)
    with Served(tmp_path) as fleet, fleet.open() as client:
        obstacle = fleet.state / ".overrides.json"
        obstacle.mkdir()
        told = list(client.stream("stop", names=["web"]))
        assert told[0] == {"key": "web-0"}
        assert "could not be saved" in told[1]["warning"]
        assert fleet.all("state.degraded", reason="NotSaved") or fleet.wait("state.degraded")
        fleet.until(lambda: fleet.all("worker.stopped"))
        assert phases(client) == {"web-0": "Stopped"}
        obstacle.rmdir()
        client.call("reload")
        fleet.wait("state.recovered")
        assert json.loads((fleet.state / "overrides.json").read_text())["overrides"][0]["kind"] == "StayDown"


def test_revisions_are_kept(tmp_path):
    """The last ten revisions of a set are kept over restarts, and any of them can be run again until the next edit."""
    specs = tmp_path / "specs"
    specs.mkdir()
    drop(specs, "web", *sh("exec sleep 1000", "v0"), min_ready="0s")
    with Served(tmp_path) as fleet, fleet.open() as client:
        for version in range(1, 12):
            drop(specs, "web", *sh("exec sleep 1000", f"v{version}"), min_ready="0s")
            fleet.wait("rollout.completed")
        with pytest.raises(Refused, match="no such earlier revision"):
            client.call("undo", set="web", revision=1)
    with Served(tmp_path) as fleet, fleet.open() as client:
        kept = list(client.stream("history", set="web"))
        assert [one["revision"] for one in kept] == list(range(3, 13))
        assert [one["revision"] for one in kept if one["current"]] == [12]
        assert client.call("undo", set="web")["revision"] == 11
        fleet.wait("rollout.completed")
        assert client.call("describe", name="web")["spec"]["command"][-1] == "v10"
        assert client.call("undo", set="web", revision=3)["revision"] == 3
        fleet.wait("rollout.completed")
        (row,) = client.stream("sets")
        assert row["drift"] == ["rolled back to revision 3"]
        drop(specs, "web", *sh("exec sleep 1000", "v12"), min_ready="0s")
        fleet.wait("rollout.completed")
        assert client.call("describe", name="web")["spec"]["command"][-1] == "v12"
        assert next(client.stream("sets"))["drift"] == []


def test_a_torn_journal_is_read(tmp_path):
    """A journal of revisions that ends in the middle of a line, or has a foreign one, loses nothing else."""
    specs = tmp_path / "specs"
    specs.mkdir()
    drop(specs, "web", *SLEEP)
    with Served(tmp_path) as fleet, fleet.open() as client:
        assert len(list(client.stream("history", set="web"))) == 1
    with (tmp_path / "state" / "revisions.jsonl").open("ab") as journal:
        journal.write(b"nonsense\n" + b'{"set": "web", "revision": 2')
    drop(specs, "web", "sleep", "999")
    with Served(tmp_path) as fleet, fleet.open() as client:
        assert [one["revision"] for one in client.stream("history", set="web")] == [1, 2]


# ------------------------------------------------------------------------------------------------- questions and orders


def test_followers_are_told_each_change(tmp_path):
    """Who watches is told all there is, and then each worker that changes, as it is then."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *SLEEP, replicas=2)
    with Served(tmp_path) as fleet, fleet.open() as client, Client(str(fleet.state), timeout=PATIENCE) as other:
        news = client.stream("get", names=["web"], watch=True)
        assert [next(news)["key"], next(news)["key"], next(news)] == ["web-0", "web-1", {"synced": True}]
        other.call("stop", names=["web-1"])
        assert next(item for item in news if item["workers"] and item["workers"][0]["phase"] == "Stopped")
        other.call("scale", set="web", replicas=1)
        assert next(item for item in news if item["key"] == "web-1" and not item["workers"])


def test_orders_are_carried_out(tmp_path):
    """Restarts, resets and signals reach workers, and what makes no sense is refused with a hint."""
    specs = tmp_path / "specs"
    specs.mkdir()
    drop(specs, "web", *SLEEP, replicas=2)
    drop(specs, "bad", "false", restart={"start_limit": {"burst": 1, "interval": "1h"}})
    with Served(tmp_path) as fleet:
        fleet.wait("worker.failed")
        pid = fleet.ready("web-0", "web-1")[0]
        with Client(str(fleet.state), timeout=PATIENCE) as client:
            assert list(client.stream("restart", names=["web-0"])) == [{"key": "web-0"}]
            fleet.wait("worker.ready", key="web-0")
            assert not alive(pid)
            client.call("reset", names=["bad"])
            assert fleet.wait("worker.starting", key="bad-0")["reason"] == "Restarted"
            client.call("signal", names=["web-1"], signal="SIGKILL")
            fleet.wait("worker.exited", key="web-1", signal="KILL")
            for verb, args, code in (
                ("stop", {"names": ["wbe"]}, "NotFound"),
                ("scale", {"set": "web-0", "replicas": 1}, "BadRequest"),
                ("scale", {"set": "web", "replicas": -1}, "BadRequest"),
                ("scale", {"set": "web", "replicas": "2"}, "BadRequest"),
                ("scale", {"set": "web"}, "BadRequest"),
                ("signal", {"names": ["web"], "signal": "NOPE"}, "BadRequest"),
                ("commit", {"changes": [["../x", "web.toml"]]}, "Conflict"),
                ("commit", {"changes": 7}, "Conflict"),
                ("commit", {}, "BadRequest"),
                ("commit", {"changes": [], "serial": 99}, "Conflict"),
                ("gte", {}, "UnknownVerb"),
            ):
                with pytest.raises(Refused) as refused:
                    client.call(verb, **args)
                assert refused.value.code == code, (verb, args, refused.value)
                assert refused.value.hint


def test_more_than_a_frame_can_hold(tmp_path):
    """Orders for thousands of workers, and specs that are as long as a file may be, break no verb."""
    specs = tmp_path / "specs"
    specs.mkdir()
    drop(specs, "many", *SLEEP, replicas=3000, suspend=True)
    drop(specs, "long", *SLEEP, env={"TEXT": "é" * 12_000})
    quotes = '"' * 40_000  # each is two characters in JSON
    (specs / "longest.toml").write_text(f"command = ['sleep', '1000']\nenv.TEXT = '{quotes}'\n")
    with Served(tmp_path) as fleet, fleet.open() as client:
        assert {item["name"]: item["spec"] is None for item in client.stream("specs")} == {
            "many": False,
            "long": False,
            "longest": True,
        }
        assert client.call("describe", name="long")["spec"]["env"] == {"TEXT": "***"}
        with pytest.raises(Refused, match="suspend"):
            client.call("start", names=["many"])
        names = [f"many-{number}" for number in range(3000)]
        with pytest.raises(Refused) as refused:
            client.call("stop", names=names)
        assert refused.value.code == "NotFound"


def test_done_work_is_run_again(tmp_path):
    """`start` runs a worker again that has done its work; `reset` does not."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "job", "true", restart={"policy": "on_failure"})
    with Served(tmp_path) as fleet:
        fleet.wait("worker.succeeded")
        with Client(str(fleet.state), timeout=PATIENCE) as client:
            client.call("reset", names=["job"])
            client.call("start", names=["job"])
            fleet.wait_for(2, "worker.succeeded")
            assert len(fleet.all("worker.starting")) == 2


def test_shutdown_is_answered(tmp_path):
    """Who asks for the end gets his answer, and the socket goes with the controller."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *sh("trap '' TERM; sleep 1000 & wait; wait"))
    with Served(tmp_path) as fleet, fleet.open() as client:
        client.call("shutdown", now=True)
        fleet.over()
        with pytest.raises(NoController):
            Client(str(fleet.state)).call("status")
        assert not (fleet.state / "control.sock").exists()


def test_a_directory_that_was_deleted_is_made_again(tmp_path):
    """When the state directory is deleted under a controller, nothing stops, and soon it can be asked again."""
    drop((tmp_path / "specs").mkdir() or tmp_path / "specs", "web", *SLEEP, replicas=2)
    with Served(tmp_path) as fleet, fleet.open() as client:
        client.call("stop", names=["web-0"])
        fleet.state.rename(tmp_path / "away")
        os.kill(fleet.ready("web-1"), signal.SIGKILL)
        fleet.wait("state.degraded", reason="DirectoryGone")
        fleet.wait("state.recovered")
        assert fleet.state.stat().st_mode & 0o777 == 0o700
        assert phases(Client(str(fleet.state)))["web-0"] == "Stopped"
        assert "web-0" in (fleet.state / "overrides.json").read_text()
        assert try_to_start(tmp_path, "--state-dir", str(fleet.state))[0] == 75


# ------------------------------------------------------------------------------------------------------------ library


def test_events_and_overrides_in_a_program(tmp_path):
    """A program follows its controller's events, and lays overrides over what `update` returns."""
    web = SetSpec(name="web", command=SLEEP, replicas=1)
    controller = Controller(lambda: [web])
    controller.publish = lambda events: None
    controller.state_dir = str(tmp_path / "state")

    async def main():
        serving = asyncio.create_task(controller.serve())
        await controller.settled()
        events = controller.events()
        controller.override([Scale("web", 2)])
        told = []
        async for event in events:
            told.append(event.event)
            if event.event == "worker.ready":
                controller.stop()
        await serving
        return told

    told = asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert told[0] == "worker.starting"
    assert told[-1] == "controller.stopped"


def test_a_job_done_in_the_first_turn_is_remembered(tmp_path):
    """A job that is over before the controller can be asked is remembered as any other."""

    class Busy(CommandDriver):
        """Comes back from a start when the worker has ended, as on a machine that has too much to do."""

        def start(self, uid, set_name, spec):
            super().start(uid, set_name, spec)
            select.select([self.fileno()], [], [], PATIENCE)

    state = str(tmp_path / "state")
    controller = Controller(lambda: [SetSpec(name="job", command=("true",), kind="job")], Busy())
    controller.publish = lambda events: None
    controller.state_dir = state

    async def main():
        serving = asyncio.create_task(controller.serve())
        await controller.settled()
        controller.stop()
        await serving

    asyncio.run(asyncio.wait_for(main(), PATIENCE))
    assert list(Store(state).load_memory()[0].done) == ["job"]
