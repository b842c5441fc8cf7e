"""From the files of a watched directory to processes and back, through the real program."""

import os
import shutil
import socket
import statistics
import subprocess
import time

import pytest
from fleet import SLEEP, Fleet, drop, sh
from processes import alive

pytestmark = pytest.mark.os

LATEST_START = 0.3
"""Seconds from the rename of a spec file to its running process: the bound that users are promised."""


def test_dropped_file_runs_within_300_ms(specs):
    """A spec file that is renamed into the directory is a running process within 300 ms."""
    delays = []
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=0)
        for name in ("a", "b", "c", "d", "e"):
            began = time.monotonic()
            fleet.drop(name, *SLEEP)
            fleet.wait("worker.started", key=f"{name}-0")
            delays.append(time.monotonic() - began)

    assert statistics.median(delays) < LATEST_START, delays


def test_life_of_a_file(specs):
    """A file is added, edited, broken, mended, renamed and deleted, and what runs follows each step but the break."""
    with Fleet(specs) as fleet:
        path = fleet.drop("web", *SLEEP)
        assert fleet.wait("spec.added", name="web")["replicas"] == 1
        first = fleet.wait("worker.ready", key="web-0")["pid"]
        fleet.wait("controller.converged", workers=1)

        fleet.drop("web", "sleep", "2000")
        assert fleet.wait("spec.changed", name="web")["fields"] == ["command"]
        fleet.wait("worker.exited", pid=first, expected=True)
        second = fleet.wait("worker.ready", key="web-0")["pid"]
        fleet.wait("controller.converged", workers=1)

        path.write_text('comand = ["sleep", "3000"]\n')
        rejected = fleet.wait("spec.rejected", name="web")
        assert rejected["file"] == str(path)
        assert rejected["reason"] == "InvalidSpec"
        assert "unknown key 'comand' (did you mean 'command'?)" in rejected["problems"][0]

        fleet.drop("web", "sleep", "2000")
        fleet.wait("spec.recovered", name="web")
        assert alive(second)

        path.rename(specs / "api.toml")
        fleet.wait("spec.added", name="api")
        fleet.wait("spec.removed", name="web")
        fleet.wait("worker.exited", pid=second, expected=True)
        fleet.wait("controller.converged", workers=1)

        (specs / "api.toml").unlink()
        fleet.wait("spec.removed", name="api")
        fleet.wait("controller.converged", workers=0)
        assert fleet.story(key="api-0")[-3:] == ["worker.stopping", "worker.exited", "worker.stopped"]
        assert {told["reason"] for told in fleet.all("worker.stopped", key="api-0")} == {"Removed"}


def test_edit_changes_what_it_says_and_no_more(specs):
    """An edit of one file leaves the workers of the others alone, and one that changes no process restarts nobody."""
    drop(specs, "web", *SLEEP, replicas=2)
    drop(specs, "api", *SLEEP)
    with Fleet(specs) as fleet:
        pids = fleet.ready("web-0", "web-1", "api-0")
        fleet.drop("web", *SLEEP, replicas=2, stop={"timeout": "5s"}, min_ready="1ms")
        assert fleet.wait("spec.changed", name="web")["fields"] == ["min_ready", "stop"]
        fleet.drop("api", "sleep", "2000")
        fleet.wait("worker.ready", key="api-0")

        assert [alive(pid) for pid in pids] == [True, True, False]
        assert fleet.all("worker.exited", name="web") == []


def test_file_touched_or_written_anew_with_the_same_content(specs):
    """A file that is written again with the same content changes nothing."""
    path = drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        os.utime(path)
        path.write_bytes(path.read_bytes())
        fleet.drop("web", *SLEEP)
        fleet.drop("fence", *SLEEP)
        fleet.wait("controller.converged", workers=2)

        assert alive(pid)
        assert fleet.all("spec.changed") == []


def test_file_that_was_bad_from_the_start(specs):
    """A file that is bad from the start runs nothing, harms nobody else, and is a new one once it is mended."""
    (specs / "bad.toml").write_text("command = []\nreplicas = -1\nrestart = 'no'\n")
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        assert len(fleet.wait("spec.rejected", name="bad")["problems"]) == 3
        fleet.ready("web-0")
        fleet.drop("bad", *SLEEP)
        fleet.wait("spec.added", name="bad")
        fleet.wait("worker.ready", key="bad-0")

        assert fleet.all("spec.recovered") == []


def test_all_files_bad_at_the_start(specs):
    """A controller all of whose files are bad runs on, says so, and starts them when they are mended."""
    (specs / "web.toml").write_text("command = 3\n")
    with Fleet(specs) as fleet:
        fleet.wait("spec.rejected", name="web")
        fleet.drop("web", *SLEEP)
        fleet.wait("worker.ready", key="web-0")


def test_unreadable_file(specs, common_rights):
    """A file that cannot be read any more is told, and its workers go on."""
    path = drop(specs, "web", *SLEEP)
    with Fleet(specs, prefix=common_rights) as fleet:
        pid = fleet.ready("web-0")
        path.chmod(0)
        assert fleet.wait("spec.rejected", name="web")["reason"] == "Unreadable"
        path.chmod(0o600)
        fleet.wait("spec.recovered", name="web")

        assert alive(pid)
        assert fleet.all("worker.exited") == []


def test_two_files_of_one_stem(specs):
    """Two files of one stem are refused, both are named, and the last good one goes on."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        twin = specs / "web.json"
        twin.write_text('{"command": ["sleep", "2000"]}')
        rejected = fleet.wait("spec.rejected", name="web")
        assert rejected["reason"] == "Conflict"
        assert "web.json" in rejected["problems"][0]
        assert "web.toml" in rejected["problems"][0]
        twin.unlink()
        fleet.wait("spec.recovered", name="web")

        assert alive(pid)
        assert fleet.all("worker.exited") == []


def test_three_formats(specs):
    """TOML, YAML and JSON are read side by side; in YAML `no` is a text."""
    drop(specs, "a", *SLEEP)
    (specs / "b.yaml").write_text("command: [sh, -c, 'echo said $ANSWER >&2; exec sleep 1000']\nenv: {ANSWER: no}\n")
    (specs / "c.yml").write_text("command: sleep 1000\n")
    (specs / "d.json").write_text('{"command": ["sleep", "1000"], "$schema": "./.schema.json"}')
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=4)
        fleet.wait_line("said no")


def test_what_is_no_spec_file(specs):
    """Leftovers of editors, dotfiles, directories, FIFOs, sockets and devices are ignored and never opened."""
    for name in (".web.toml.swp", ".hidden.toml", "web.toml~", "web.toml.bak", "web.toml.tmp", "#web.toml#", "4913"):
        (specs / name).write_text("command = 3\n")
    (specs / "directory.toml").mkdir()
    os.mkfifo(specs / "fifo.toml")
    (specs / "loop.toml").symlink_to("loop.toml")
    (specs / "null.toml").symlink_to("/dev/null")
    (specs / "tube.toml").symlink_to("fifo.toml")
    with socket.socket(socket.AF_UNIX) as server, Fleet(specs) as fleet:
        server.bind(os.path.relpath(specs / "socket.toml"))
        fleet.drop("web", *SLEEP)
        fleet.wait("controller.converged", workers=1)

        assert [told["name"] for told in fleet.all("spec.added")] == ["web"]
        # A link to such a thing, or to itself, is somebody's mistake, which is told.
        rejected = [(told["name"], told["reason"]) for told in fleet.all("spec.rejected")]
        assert rejected == [(name, "NotAFile") for name in ("loop", "null", "tube")]


VIM = 'mv web.toml web.toml~; printf "%s" "$0" > web.toml; rm web.toml~'
EMACS = 'printf "%s" "$0" > "#web.toml#"; cp web.toml web.toml~; printf "%s" "$0" > web.toml; rm "#web.toml#"'
SED = 'sed -i "s/1000/2000/" web.toml'


@pytest.mark.parametrize("editor", [VIM, EMACS, SED], ids=["vim", "emacs", "sed"])
def test_editors(specs, editor):
    """However an editor saves a file, its workers are replaced once."""
    path = drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.ready("web-0")
        edited = path.read_text().replace("1000", "2000")
        subprocess.run(["sh", "-c", editor, edited], cwd=specs, check=True)
        fleet.wait("spec.changed", name="web")
        fleet.wait("worker.ready", key="web-0")
        fleet.wait("controller.converged")

        assert [told["expected"] for told in fleet.all("worker.exited")] == [True]
        assert {"spec.rejected", "spec.removed"}.isdisjoint(fleet.story())


def test_half_written_file(specs):
    """A file that is written in two parts 80 ms apart never runs half, even where the half is a spec by itself."""
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged")
        with (specs / "web.toml").open("w") as file:
            file.write('command = ["sleep", "1000"]\n')
            file.flush()
            fleet.quiet(0.08)
            file.write("replicas = 3\n")
        fleet.wait("controller.converged", workers=3)

        assert [told["replicas"] for told in fleet.all("spec.added")] == [3]
        assert fleet.all("spec.changed") == []


def test_copied_and_hard_linked_files(specs):
    """A copy and a hard link of a spec file are files of their own."""
    path = drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.ready("web-0")
        shutil.copy(path, specs / "api.toml")
        os.link(path, specs / "db.toml")
        fleet.wait("controller.converged", workers=3)


def test_burst_of_two_thousand_files(specs):
    """Two thousand files at once are all taken, and the next one runs as ever."""
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=0)
        for index in range(2000):
            body = f"command = ['sleep', '{index}']\n"
            (specs / f"w{index}.toml").write_text(body + ("replicas = 0\n" if index % 2 else "suspend = true\n"))
        fleet.wait_for(2000, "spec.added")
        fleet.drop("web", *SLEEP)
        fleet.wait("worker.ready", key="web-0")

        assert fleet.story().count("spec.added") == 2001
        assert {"spec.rejected", "source.missed", "controller.error"}.isdisjoint(fleet.story())


def test_config_map(specs):
    """A ConfigMap as Kubernetes mounts it: when `..data` is swapped, the workers of its files are replaced."""
    for version in ("..1", "..2"):
        (specs / version).mkdir()
        drop(specs / version, "web", *sh(f"echo {version} >&2; exec sleep 1000"))
    (specs / "..data").symlink_to("..1")
    (specs / "web.toml").symlink_to("..data/web.toml")
    with Fleet(specs) as fleet:
        first = fleet.ready("web-0")
        (specs / "..data_tmp").symlink_to("..2")
        (specs / "..data_tmp").rename(specs / "..data")
        shutil.rmtree(specs / "..1")
        fleet.wait("spec.changed", name="web")
        fleet.wait("worker.exited", pid=first)
        fleet.wait("worker.ready", key="web-0")
        fleet.wait_line("..2")


def test_directory_that_is_a_link(tmp_path):
    """The directory may be a link, and its retargeting is a change of its files."""
    for release, seconds in (("1", "1000"), ("2", "2000")):
        (tmp_path / release).mkdir()
        drop(tmp_path / release, "web", "sleep", seconds)
    (tmp_path / "specs").symlink_to("1")
    with Fleet(tmp_path / "specs") as fleet:
        fleet.ready("web-0")
        (tmp_path / "new").symlink_to("2")
        (tmp_path / "new").rename(tmp_path / "specs")
        fleet.wait("spec.changed", name="web")
        fleet.wait("worker.ready", key="web-0")
        drop(tmp_path / "2", "api", *SLEEP)
        fleet.wait("worker.ready", key="api-0")


def test_directory_that_goes_and_comes_back(specs):
    """While the directory is gone its workers go on; what lies in the one that comes back runs within 5 s."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        specs.rename(specs.with_name("old"))
        held = fleet.wait("source.held")
        assert (held["reason"], held["held"]) == ("DirectoryMissing", 1)
        specs.mkdir()
        began = time.monotonic()
        drop(specs, "web", *SLEEP)
        drop(specs, "api", *SLEEP)
        fleet.wait("worker.ready", key="api-0")

        assert time.monotonic() - began < 5
        assert fleet.all("source.released")
        assert alive(pid)
        assert fleet.all("worker.exited") == []


def test_swapped_directory(specs):
    """A directory that is moved away and made again in one go, as by a deployment, is seen within 5 s, and watched."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        pid = fleet.ready("web-0")
        fresh = specs.with_name("fresh")
        fresh.mkdir()
        drop(fresh, "web", *SLEEP)
        drop(fresh, "api", *SLEEP)
        began = time.monotonic()
        specs.rename(specs.with_name("old"))
        fresh.rename(specs)
        fleet.wait("worker.ready", key="api-0")
        assert time.monotonic() - began < 5
        fleet.drop("db", *SLEEP)
        fleet.wait("worker.ready", key="db-0")

        assert alive(pid)


def test_unreadable_directory(specs, common_rights):
    """A directory that cannot be read holds everything, and says so."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs, prefix=common_rights) as fleet:
        pid = fleet.ready("web-0")
        fleet.wait("controller.converged")
        specs.chmod(0)
        assert fleet.wait("source.held")["reason"] == "DirectoryUnreadable"
        specs.chmod(0o700)
        fleet.wait("source.released")

        assert alive(pid)


def test_most_files_deleted_at_once(specs):
    """Removing more than half of all workers at once is held first, and done when it is seen to last."""
    for name in ("a", "b", "c"):
        drop(specs, name, *SLEEP)
    with Fleet(specs) as fleet:
        fleet.wait("controller.converged", workers=3)
        (specs / "a.toml").unlink()
        (specs / "b.toml").unlink()
        held = fleet.wait("source.held", reason="MassRemoval")
        assert held["held"] == 2
        assert fleet.all("worker.stopping") == []
        fleet.wait("spec.removed", name="a")
        fleet.wait("controller.converged", workers=1)


def test_polling(specs):
    """Asked to poll, it says so, and a change shows within 2 s."""
    with Fleet(specs, "--poll") as fleet:
        assert fleet.wait("source.polling")["reason"] == "Asked"
        began = time.monotonic()
        fleet.drop("web", *SLEEP)
        fleet.wait("worker.started", key="web-0")

        assert time.monotonic() - began < 2


def test_polling_for_want_of_inotify(specs, no_inotify):
    """Where the kernel has no more inotify instances to give it polls, says so, and a change shows within 2 s."""
    with Fleet(specs, prefix=no_inotify) as fleet:
        assert fleet.wait("source.polling")["reason"] == "LimitReached"
        began = time.monotonic()
        fleet.drop("web", *SLEEP)
        fleet.wait("worker.started", key="web-0")

        assert time.monotonic() - began < 2


def test_change_that_rings_no_bell(specs, tmp_path):
    """A change at the far end of a hard link rings no bell; HUP finds it at once."""
    outside = tmp_path / "outside.toml"
    outside.write_text('command = ["sleep", "1000"]\n')
    os.link(outside, specs / "web.toml")
    with Fleet(specs) as fleet:
        fleet.ready("web-0")
        fleet.wait("controller.converged")
        outside.write_text('command = ["sleep", "2000"]\n')
        fleet.signal("HUP")
        fleet.wait("spec.changed", name="web")
        fleet.wait("worker.ready", key="web-0")


def test_controller_has_one_thread(specs):
    """The process that forks has no thread but its own, watching included."""
    drop(specs, "web", *SLEEP)
    with Fleet(specs) as fleet:
        fleet.ready("web-0")
        fleet.drop("api", *SLEEP)
        fleet.ready("api-0")

        assert len(os.listdir(f"/proc/{fleet.pid}/task")) == 1
