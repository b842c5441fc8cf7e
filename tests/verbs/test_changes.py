"""Planning and making changes to the spec files of a real controller."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fleet import SLEEP, drop
from verbs.commanding import command, commanded

from reconciler.state.place import state_directory

pytestmark = pytest.mark.os


@pytest.fixture
def fleet(tmp_path):
    """A controller with two workers of `web` and one of `db`, all ready."""
    (tmp_path / "specs").mkdir()
    drop(tmp_path / "specs", "web", *SLEEP, replicas=2, env={"TOKEN": "hush"})
    drop(tmp_path / "specs", "db", *SLEEP)
    with commanded(tmp_path, "web-0", "web-1", "db-0") as running:
        yield running


@pytest.fixture
def wanted(tmp_path):
    """A directory with another `web`, and a new set, and without `db`."""
    directory = tmp_path / "wanted"
    directory.mkdir()
    drop(directory, "web", *SLEEP, replicas=3, env={"TOKEN": "hush2"}, stop={"timeout": "5s"})
    drop(directory, "job", *SLEEP)
    return directory


def as_json(lines):
    """The document that was printed."""
    return json.loads("\n".join(lines))


def test_plan(fleet, wanted):
    """`plan DIR` shows what each field of each set would do to the workers, and does nothing."""
    lines = [line.split() for line in fleet.ask("plan", wanted, code=1)]
    assert lines[:7] == [
        ["SET", "CHANGE", "FIELD", "EFFECT"],
        ["db", "removed", "stops", "1"],
        ["job", "added", "starts", "1"],
        ["web", "changed", "replicas", "starts", "1"],
        ["web", "changed", "env.TOKEN", "replaces", "2"],
        ["web", "changed", "stop.timeout", "no", "restart"],
        ["3", "sets", "would", "change:", "2", "workers", "started,", "1", "stopped,", "2", "replaced"],
    ]
    assert lines[7][-3:] == ["reconciler", "delete", "db"]
    assert fleet.ask("plan") == fleet.ask("plan", fleet.specs)
    assert len(fleet.all("worker.started")) == 3


def test_plan_of_files(fleet, wanted):
    """`plan FILE` takes what is not given for unchanged."""
    found = as_json(fleet.ask("plan", wanted / "web.toml", "-o", "json", code=1))
    assert [(change["set"], change["change"], change["restart"]) for change in found["changes"]] == [
        ("web", "changed", True)
    ]
    assert {field["field"]: field["restart"] for field in found["changes"][0]["fields"]} == {
        "replicas": False,
        "env.TOKEN": True,
        "stop.timeout": False,
    }


def test_plan_finds_the_controller_of_its_directory(fleet, tmp_path):
    """Where nothing names a controller, the one that watches the planned directory is asked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
        place = Path(state_directory(str(fleet.specs)))
    place.parent.mkdir()
    place.symlink_to(fleet.state_dir)
    done = command("plan", fleet.specs, XDG_RUNTIME_DIR=str(tmp_path))
    assert done.stdout.startswith("no changes\ntoken: ")


def test_plan_of_bad_files(fleet, wanted):
    """A plan cannot be made of bad files: all of them are told, and it exits 2."""
    (wanted / "web.toml").write_text("command = 3\n")
    (wanted / "job.yaml").write_text("command: x\n")
    told = fleet.told("plan", wanted, code=2)
    assert "web.toml.command" in told
    assert "job.toml and job.yaml" in told
    assert "2 files are bad" in told


def test_diff(fleet, wanted):
    """`diff` shows the values before and after, but never those of `env`."""
    lines = fleet.ask("diff", wanted, code=1)
    assert "web changed: starts 1, replaces 2" in lines
    assert lines[lines.index("  - replicas = 2") + 1] == "  + replicas = 3"
    assert not any("hush" in line for line in lines)
    assert fleet.ask("diff") == ["no changes"]
    shown = as_json(fleet.ask("diff", wanted, "-o", "json", code=1))["changes"][2]["fields"]
    assert {"field": "stop.timeout", "restart": False, "before": 30.0, "after": 5.0} in shown


def test_apply(fleet, wanted):
    """`apply` puts files into the watched directory, and leaves the others there; `--wait` waits for its outcome."""
    assert fleet.ask("apply", wanted, "--wait") == ["job created", "web changed"]
    fleet.ready("job-0", "web-2")
    assert sorted(path.name for path in fleet.specs.iterdir()) == ["db.toml", "job.toml", "web.toml"]
    assert fleet.ask("apply", wanted, "--wait") == ["job unchanged", "web unchanged"]
    assert fleet.ask("plan", wanted / "web.toml", wanted / "job.toml")[0] == "no changes"


def test_apply_all_or_nothing(fleet, wanted):
    """Where one file is bad, none is taken."""
    (wanted / "job.toml").write_text("command = 3\n")
    before = {path: path.read_bytes() for path in fleet.specs.iterdir()}
    assert "job.toml.command" in fleet.told("apply", wanted)
    (wanted / "job.toml").rename(wanted / "db.json")
    (wanted / "db.json").write_text('{"command": "true"}')
    assert "db.json and db.toml are for the same worker set" in fleet.told("apply", wanted)
    assert {path: path.read_bytes() for path in fleet.specs.iterdir()} == before


def test_apply_what_was_planned(fleet, wanted):
    """`--if-plan` holds to a plan: it refuses when the files, or what is in force, are others since."""
    token = as_json(fleet.ask("plan", wanted, "-o", "json", code=1))["token"]
    drop(wanted, "job", "sleep", "2000")
    assert "not what was planned" in fleet.told("apply", wanted, "--if-plan", token)
    drop(wanted, "job", *SLEEP)
    fleet.drop("db", "sleep", "2000")
    fleet.wait("spec.changed", name="db")
    assert "not what was planned" in fleet.told("apply", wanted, "--if-plan", token)
    fleet.drop("db", *SLEEP)
    fleet.wait("spec.changed", name="db")
    assert fleet.ask("apply", wanted, "--if-plan", token) == ["job created", "web changed"]


def test_a_plan_with_overrides(fleet, wanted):
    """A plan is of what would really be run: a size that was asked for, and what must stay down, are part of it."""
    fleet.ask("scale", "web=1", "--wait")
    assert fleet.ask("plan")[0] == "no changes"
    (shown,) = as_json(fleet.ask("plan", wanted / "web.toml", "-o", "json", code=1))["changes"]
    assert (shown["starts"], shown["stops"], shown["replaces"]) == (2, 0, 1)
    fleet.ask("stop", "web-0", "--wait")
    found = as_json(fleet.ask("diff", wanted / "web.toml", "-o", "json", code=1))
    (shown,) = found["changes"]
    assert (shown["starts"], shown["stops"], shown["replaces"]) == (2, 0, 0)
    assert {"field": "replicas", "restart": False, "before": 1, "after": 3} in shown["fields"]
    fleet.ask("start", "web-0", "--wait")
    assert "not what was planned" in fleet.told("apply", wanted / "web.toml", "--if-plan", found["token"])
    assert fleet.ask("apply", wanted / "web.toml", "--wait") == ["web changed"]
    assert fleet.ask("get", "-o", "name", "web") == ["web-0", "web-1", "web-2"]


def test_only_one_applies_a_plan(fleet, wanted, tmp_path):
    """Of several that hold to the same plan at the same time, one has it and the others are refused."""
    token = as_json(fleet.ask("plan", wanted, "-o", "json", code=1))["token"]
    line = f"reconciler apply {wanted} --if-plan {token}".split()
    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(lambda _: command(*line[1:], RECONCILER_STATE_DIR=str(fleet.state_dir)), range(4)))
    assert sorted(each.returncode for each in done) == [0, 1, 1, 1]


def test_a_long_spec(fleet, wanted):
    """A spec that no frame has room for is planned and applied by its file, and does not stand in the way of others."""
    long = {"env": {"LONG": "é" * 12000}}
    fleet.drop("long", *SLEEP, **long)
    fleet.ready("long-0")
    assert fleet.ask("plan")[0] == "no changes"
    assert fleet.ask("apply", wanted / "job.toml") == ["job created"]
    drop(wanted, "long", *SLEEP, replicas=2, **long)
    assert fleet.ask("apply", wanted / "long.toml") == ["long changed"]
    assert fleet.ask("rollout", "history", "long")[0].split()[0] == "REVISION"


def test_apply_from_stdin(fleet):
    """`apply -` takes one file from stdin, under the name that is given; its suffix says the format."""
    assert fleet.ask("apply", "-", "--name", "one", "--wait", text='command = "sleep 9999"') == ["one created"]
    assert fleet.ask("apply", "-", "--name", "two.json", text='{"command": "sleep 9999"}') == ["two created"]
    assert {"one.toml", "two.json"} < {path.name for path in fleet.specs.iterdir()}
    assert "--name" in fleet.told("apply", "-", text="")


def test_apply_and_delete_without_a_controller(tmp_path, wanted):
    """Where no controller runs, files are written and removed for the next one."""
    specs = tmp_path / "specs"
    specs.mkdir()
    done = command("apply", wanted, "--specs", specs)
    assert done.stdout.splitlines() == ["job written; no controller runs", "web written; no controller runs"]
    assert (specs / "web.toml").read_bytes() == (wanted / "web.toml").read_bytes()
    assert command("apply", wanted, "--specs", specs, "--wait").returncode == 1
    assert command("delete", "w*", "--specs", specs).returncode == 0
    assert [path.name for path in specs.iterdir()] == ["job.toml"]


def test_delete(fleet):
    """`delete` removes the files of sets, and waits until their workers are gone."""
    assert fleet.ask("delete", "web") == ["web deleted"]
    fleet.wait_for(2, "worker.exited", reason="Removed")
    assert [path.name for path in fleet.specs.iterdir()] == ["db.toml"]
    assert "did you mean 'db'" in fleet.told("delete", "dbb")


def test_dependencies_are_judged_with_all_files(fleet, wanted, tmp_path):
    """`plan` and `apply` refuse a file that depends on what would not be there, and take it beside what it needs."""
    drop(wanted, "web", *SLEEP, replicas=2, env={"TOKEN": "hush"}, depends_on=["db"])
    assert "depends_on names db" in fleet.told("plan", wanted, code=2)
    assert ["web", "changed", "depends_on", "no", "restart"] in [
        line.split() for line in fleet.ask("plan", wanted / "web.toml", code=1)
    ]
    drop(wanted, "db", *SLEEP, depends_on=["web"])
    for paths in ([wanted], [wanted / "web.toml", wanted / "db.toml"]):
        assert "db -> web -> db" in fleet.told("plan", *paths, code=2)
    assert "web -> db -> web" in fleet.told("apply", wanted / "web.toml", wanted / "db.toml")
    assert fleet.ask("apply", wanted / "web.toml") == ["web changed"]


def test_dependencies_without_a_controller(tmp_path):
    """Where no controller runs `plan` shows who waits for whom; it and `check` refuse a circle, with its way."""
    specs = tmp_path / "specs"
    specs.mkdir()
    drop(specs, "web", *SLEEP, depends_on=["db"])
    drop(specs, "db", *SLEEP)
    drop(specs, "tick", *SLEEP, kind="job", schedule="* * * * *")
    environment = {"RECONCILER_STATE_DIR": str(tmp_path / "state")}
    lines = [line.split() for line in command("plan", specs, **environment).stdout.splitlines()]
    assert ["db-0", "start"] in [line[:2] for line in lines]
    assert ["web-0", "wait", "depends", "on", "db"] in lines
    assert ["tick", "wait", "comes", "at", "its", "times"] in lines
    assert command("check", specs).returncode == 0
    drop(specs, "db", *SLEEP, depends_on=["web"])
    checked = command("check", specs)
    assert checked.returncode == 1
    assert "db -> web -> db" in checked.stdout
    assert "web -> db -> web" in checked.stdout
    planned = command("plan", specs, **environment)
    assert planned.returncode == 2
    assert "db -> web -> db" in planned.stderr
