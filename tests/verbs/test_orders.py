"""Orders to the workers of a real controller."""

import pytest
from fleet import SLEEP, drop, sh
from verbs.commanding import command, commanded

pytestmark = pytest.mark.os


@pytest.fixture
def fleet(tmp_path):
    """A controller with three workers of `web`, all ready."""
    (tmp_path / "specs").mkdir()
    drop(tmp_path / "specs", "web", *SLEEP, replicas=3)
    with commanded(tmp_path, "web-0", "web-1", "web-2") as running:
        yield running


def test_scale(fleet):
    """`scale` runs another number of workers than the file says, and leaves the file alone."""
    before = (fleet.specs / "web.toml").read_bytes()
    assert fleet.ask("scale", "web=4", "--wait") == ["web scaled to 4"]
    fleet.ready("web-3")
    assert fleet.ask("scale", "w*", "--replicas", 1, "--wait") == ["web scaled to 1"]
    fleet.wait_for(3, "worker.exited", reason="ScaledDown")
    assert (fleet.specs / "web.toml").read_bytes() == before


def test_scale_and_write(fleet):
    """`scale --write` puts the number into the file, keeps its comments, and is no drift."""
    (fleet.specs / "web.toml").write_text('command = "sleep 1000"  # all day\nreplicas = 3  # of them\n')
    assert fleet.ask("scale", "web=2", "--write", "--wait") == ["web scaled to 2, in its file"]
    written = '"sleep 1000"  # all day\nreplicas = 2  # of them\n'
    assert (fleet.specs / "web.toml").read_text() == f"command = {written}"
    assert fleet.ask("plan")[0] == "no changes"
    fleet.ask("scale", "web=5")
    fleet.ask("scale", "web=2", "--write", "--wait")
    assert not any("instead of" in line for line in fleet.ask("get", "--sets"))
    fleet.ask("scale", "web=5")
    assert fleet.ask("scale", "web=5", "--write", "--wait") == ["web scaled to 5, in its file"]


def test_scale_asks_for_numbers(fleet):
    """A size that is missing, or none, is wrong usage; a set that is not there names the nearest that is."""
    for wrong in (["web"], ["web=x"], ["web=-1"], ["web=1", "--replicas", "-2"]):
        assert command("scale", *wrong, RECONCILER_STATE_DIR=str(fleet.state_dir)).returncode == 2
    assert "did you mean 'web'?" in fleet.told("scale", "wep=2")
    assert "is a worker, not a set" in fleet.told("scale", "web-1=2")


def test_stop_and_start(fleet):
    """`stop` keeps a worker down until `start`."""
    assert fleet.ask("stop", "web-1", "--wait") == ["web-1 will be kept down"]
    fleet.wait("worker.exited", key="web-1", reason="StopAsked")
    fleet.ask("wait", "web-1", "--for", "stopped", "--timeout", "0s")
    assert fleet.ask("start", "web-1", "--wait") == ["web-1 will be run"]
    fleet.wait("worker.ready", key="web-1")


def test_what_an_order_does(fleet):
    """What is said of each worker is what is done with it."""
    fleet.drop("job", "true", restart={"policy": "never"})
    fleet.wait("worker.exited", key="job-0")
    fleet.ask("stop", "web-0", "--wait")
    assert fleet.ask("reset", "web-0", "web-1", "job") == [
        "web-0 is kept down; `start` ends that",
        "web-1 runs; its failures are forgotten",
        "job-0 has succeeded; `start` runs it again",
    ]
    assert fleet.ask("start", "web-0", "web-1", "job") == [
        "web-0 will be run",
        "web-1 runs already",
        "job-0 will be run",
    ]
    fleet.wait_for(2, "worker.exited", key="job-0")


def test_restart(fleet):
    """`restart` replaces each process of a set, one at a time, or with `--now` all at once."""
    keys = ["web-0", "web-1", "web-2"]
    assert fleet.ask("restart", "web", "--wait") == [f"{key} will be restarted" for key in keys]
    fleet.wait_for(6, "worker.ready")
    fleet.ask("restart", "web", "--now", "--wait")
    fleet.wait_for(9, "worker.ready")
    ends = [told["event"] for told in fleet.events if told["event"] in ("worker.started", "worker.exited")]
    assert ends[3:9] == ["worker.exited", "worker.started"] * 3
    assert ends[9:12] == ["worker.started"] * 3


def test_reset(tmp_path):
    """`reset` tries a worker that waits after it failed, at once."""
    (tmp_path / "specs").mkdir()
    backoff = {"initial": "1h", "max": "1h"}
    drop(tmp_path / "specs", "job", *sh("test -e ok && exec sleep 1000; exit 3"), restart={"backoff": backoff})
    with commanded(tmp_path) as fleet:
        fleet.wait_for(2, "worker.exited", key="job-0")
        (fleet.specs / "ok").touch()
        assert fleet.ask("reset", "job", "--wait") == ["job-0 will be tried now"]
        fleet.ready("job-0")


def test_signal(fleet):
    """`signal` sends a signal to the processes that are named, and to no others."""
    assert fleet.ask("signal", "web-[12]", "usr1") == ["web-1 was sent USR1", "web-2 was sent USR1"]
    fleet.wait_for(2, "worker.exited", signal="USR1")
    assert "there is no signal 'NOPE'" in fleet.told("signal", "web", "NOPE")


def test_reload(fleet):
    """`reload` has the files read again."""
    fleet.drop("web", *SLEEP, replicas=1)
    assert fleet.ask("reload") == ["the spec files are read again"]
    fleet.wait_for(2, "worker.exited", reason="ScaledDown")


@pytest.mark.parametrize("options", [[], ["--now"]], ids=str)
def test_shutdown(tmp_path, options):
    """`shutdown` stops the workers and the controller; with `--now` it kills those that do not want to end."""
    (tmp_path / "specs").mkdir()
    stubborn = "trap '' TERM; echo x >> ready; while :; do sleep 1; done"
    drop(tmp_path / "specs", "web", *(sh(stubborn) if options else SLEEP))
    with commanded(tmp_path, "web-0") as fleet:
        assert fleet.ask("shutdown", "--wait", *options) == ["the controller stops"]
        fleet.over()
        assert "no controller answers" in fleet.told("stop", "web")


def test_nobody_there(tmp_path):
    """An order for a controller that does not run is refused with a line and a hint."""
    for order in (["stop", "web"], ["scale", "web=1"], ["reload"], ["shutdown"], ["signal", "web", "HUP"]):
        done = command(*order, "--state-dir", tmp_path)
        assert done.returncode == 1
        assert [line.partition(": ")[0] for line in done.stderr.splitlines()] == ["reconciler", "hint"]
