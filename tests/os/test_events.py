"""What the log promises whoever reads it, or does not read it, or writes what is read into it."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import SLEEP, Fleet, as_event, drop, sh, with_environment
from processes import PATIENCE, ROOT

from reconciler.core.status import WorkerStatus
from reconciler.testing.replay import recorded, replay

pytestmark = pytest.mark.os


class Unread:
    """A controller whose stderr is not read here; what runs is seen through a FIFO that its workers write to."""

    def __init__(self, specs, fd, *options):
        self.specs = specs
        self.fifo = specs.with_name("fifo")
        os.mkfifo(self.fifo)
        self._fifo = os.open(self.fifo, os.O_RDWR)
        self._mark = f"UNREAD={specs}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "reconciler", "--watch", str(specs), "--output", "inherit", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT), "UNREAD": str(specs)},
            stdout=subprocess.DEVNULL,
            stderr=fd,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        for pid in with_environment([self._mark]):
            os.kill(pid, signal.SIGKILL)
        os.close(self._fifo)

    def drop(self, name, **settings):
        """A worker that says in the FIFO that it runs, with its pid."""
        script = f'echo "{name} $$" > {self.fifo}; exec sleep 1000'
        drop(self.specs, name, *sh(script), stop={"timeout": "1s"}, **settings)

    def started(self):
        """Wait until one more worker runs; its name and pid."""
        assert select.select([self._fifo], [], [], PATIENCE)[0], "no worker has started"
        line = b""
        while not line.endswith(b"\n"):
            line += os.read(self._fifo, 1)
        name, pid = line.split()
        return name.decode(), int(pid)

    def end(self):
        """Stop it, and wait for its end."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(PATIENCE) == 0
        assert with_environment([self._mark]) == []


def make_noise(specs):
    """More events than a small pipe takes."""
    for index in range(50):
        drop(specs, f"noise-{index}", "true", suspend=True)


# ------------------------------------------------------------------------------------------ who reads, and who does not


def test_full_reader(specs):
    """A reader that does not read holds nothing up; when it reads on, it is told how many events it missed."""
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    make_noise(specs)
    with Unread(specs, theirs) as unread:
        os.close(theirs)
        unread.drop("web")
        name, pid = unread.started()
        os.kill(pid, signal.SIGKILL)
        assert unread.started()[0] == name == "web"
        unread.drop("api")
        assert unread.started()[0] == "api"  # by now all that came before has been told, or not
        data = b""
        while select.select([ours], [], [], 0)[0]:
            data += os.read(ours, 4096)
        unread.process.send_signal(signal.SIGHUP)
        while b"events.dropped" not in data:
            data += os.read(ours, 4096)
        unread.process.send_signal(signal.SIGTERM)
        data += b"".join(iter(lambda: os.read(ours, 4096), b""))
        unread.end()
    os.close(ours)
    events = [json.loads(line) for line in data.splitlines()]

    dropped = [told["count"] for told in events if told["event"] == "events.dropped"]
    assert dropped
    # There was a start, 52 files, and three lives of which one has ended.
    assert len(events) - len(dropped) + sum(dropped) > 1 + 52 + 3 * 3 + 1


def test_dead_reader(specs):
    """A reader that is gone does not end the controller."""
    ours, theirs = os.pipe()
    os.close(ours)
    with Unread(specs, theirs) as unread:
        os.close(theirs)
        unread.drop("web")
        os.kill(unread.started()[1], signal.SIGKILL)
        unread.started()
        unread.end()


def test_reader_that_dies(specs):
    """A reader that dies in the middle does not end the controller."""
    ours, theirs = os.pipe()
    with Unread(specs, theirs) as unread:
        os.close(theirs)
        unread.drop("web")
        _, pid = unread.started()
        os.close(ours)
        os.kill(pid, signal.SIGKILL)
        unread.started()
        unread.end()


@pytest.mark.parametrize("path", ["/dev/full", "/dev/null"])
def test_devices(specs, path):
    """A full disk does not end the controller."""
    with Path(path).open("wb") as file, Unread(specs, file) as unread:
        unread.drop("web")
        os.kill(unread.started()[1], signal.SIGKILL)
        unread.started()
        unread.end()


def test_closed_stderr(specs):
    """Without any stderr the controller runs."""
    closed = ("sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-m", "reconciler", "--watch", str(specs), "--once")
    drop(specs, "web", *SLEEP)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(closed, env=environment, stdout=subprocess.PIPE, timeout=PATIENCE, check=False)

    assert done.returncode == 0
    assert done.stdout.splitlines()[1].startswith(b"web-0  yes")


def shared(kind):
    """A descriptor to give away as stderr, and where to read what is written to it."""
    if kind == "pipe":
        return os.pipe()
    if kind == "terminal":
        return pty.openpty()
    one, other = socket.socketpair()
    return one.detach(), other.detach()


@pytest.mark.parametrize("kind", ["pipe", "terminal", "socket"])
def test_descriptor_is_left_as_it_is(specs, kind):
    """The stderr that everybody shares never becomes non-blocking."""
    ours, theirs = shared(kind)
    with Unread(specs, theirs) as unread:
        unread.drop("web")
        unread.started()
        flags = fcntl.fcntl(theirs, fcntl.F_GETFL)
        unread.end()
    os.close(ours)

    assert not flags & os.O_NONBLOCK
    assert not fcntl.fcntl(theirs, fcntl.F_GETFL) & os.O_NONBLOCK
    os.close(theirs)


def test_slow_reader_loses_no_line_of_a_worker(specs):
    """What a worker writes to the shared stderr comes out whole and complete, however slowly it is read."""
    ours, theirs = os.pipe()
    fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
    lines = 'i=0; while [ $i -lt 2000 ]; do echo "line $i of the worker" >&2; i=$((i+1)); done; '
    with Unread(specs, theirs) as unread:
        os.close(theirs)
        drop(specs, "web", *sh(f"{lines} echo done 1 > {unread.fifo}; exec sleep 1000"))
        text = b""
        while not select.select([unread._fifo], [], [], 0)[0]:
            assert select.select([ours, unread._fifo], [], [], PATIENCE)[0]
            if select.select([ours], [], [], 0)[0]:
                text += os.read(ours, 700)
        unread.end()
        text += b"".join(iter(lambda: os.read(ours, 4096), b""))
    os.close(ours)

    own = [line for line in text.decode().splitlines() if not line.startswith("{")]
    assert own == [f"line {index} of the worker" for index in range(2000)]


# ------------------------------------------------------------------------------------------------------- hostile text

FORGED = '{"event": "worker.ready", "key": "forged"}'
HOSTILE = f"x\n{FORGED}\r\x1b[31m\x9b31m\u202e\u2028\udcff"


def hostile(specs, form):
    """The lines of a run in which all that can be hostile is: file names, keys, commands, directories, messages."""
    text = HOSTILE.replace("{", "{{").replace("}", "}}").removesuffix("\udcff")
    quick = {"rollout": {"progress_deadline": "50ms"}}
    drop(specs, "command", f"no-such-{text}", **quick)
    drop(specs, "cwd", "true", cwd=f"no-such-{text}", **quick)
    (specs / "content.json").write_text(json.dumps({"command": ["true"], text: 1, "replicas": text}))
    Path(specs, os.fsdecode(HOSTILE.encode("utf-8", "surrogateescape")) + ".toml").write_text("command = 1\n")
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "--watch", str(specs), "--once", "--log-format", form],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.removesuffix(b"\n").split(b"\n")


def test_hostile_text_in_json(specs):
    """Line breaks, escape codes and bad UTF-8 in whatever users name or write neither forge nor break a line."""
    lines = hostile(specs, "json")
    events = [json.loads(line) for line in lines]

    told = {(event["event"], event.get("name")) for event in events}
    assert {("worker.start_failed", "command"), ("worker.start_failed", "cwd")} <= told
    assert {("spec.rejected", "content"), ("spec.rejected", None)} <= told
    assert all(event.get("key") != "forged" for event in events)
    assert all(line.isascii() and line.decode().isprintable() for line in lines)


def test_hostile_text_for_eyes(specs):
    """On a console no text reaches the terminal as anything but printable characters of its line."""
    lines = [line.decode() for line in hostile(specs, "console")]

    assert all(line.isprintable() for line in lines)
    assert all(re.match(r"\d\d:\d\d:\d\d \[", line) for line in lines)
    assert len([line for line in lines if "start_failed" in line]) == 2


def test_hostile_directory(tmp_path):
    """Nor does the name of the directory."""
    directory = tmp_path / os.fsdecode(b"specs\n{}\x1b[31m\xff")
    directory.mkdir()
    drop(directory, "web", *SLEEP)
    with Fleet(directory) as fleet:
        fleet.wait("controller.converged", workers=1)
        directory.rename(tmp_path / "elsewhere")
        fleet.wait("source.held")
        fleet.end()

        assert fleet.lines == []
        assert fleet.all("worker.start_failed") == []


def test_long_texts(specs):
    """However long what is told, a line has at most 4096 bytes, and is whole."""
    drop(specs, "web", "x" * 10_000, rollout={"progress_deadline": "50ms"})
    (specs / "bad.json").write_text(json.dumps({f"key-{'y' * 300}-{number}": 1 for number in range(100)}))
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "--watch", str(specs), "--once", "--log-format", "json"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    events = [json.loads(line) for line in done.stderr.splitlines()]

    assert max(len(line) for line in done.stderr.splitlines()) < 4096
    assert {"spec.rejected", "worker.start_failed"} <= {told["event"] for told in events}


def test_secrets_stay_out_of_the_log(specs):
    """The values of `env` are in no event, whatever is wrong with them or changes in them."""
    drop(specs, "web", *SLEEP, env={"PASSWORD": "hunter2-a"})
    bad = '{ PASSWORD = "hunter2-{b}", "A=B" = "hunter2-c", C = ["hunter2-d"] }'
    (specs / "bad.toml").write_text(f'command = "a"\nenv = {bad}\n')
    (specs / "worse.toml").write_text('command = "a"\nenv = { PASSWORD = "hunter2-e\n')
    with Fleet(specs) as fleet:
        fleet.ready("web-0")
        fleet.drop("web", *SLEEP, env={"PASSWORD": "hunter2-f"})
        assert fleet.wait("spec.changed")["fields"] == ["env"]
        fleet.wait("worker.ready")
        fleet.end()

        assert len(fleet.all("spec.rejected")) == 2
        assert "hunter2" not in fleet.tail()
        assert "hunter2" not in json.dumps(fleet.events)


# -------------------------------------------------------------------------------------------------------------- replay

REPLAYED = """
import asyncio, json, os, sys
import attrs
from reconciler import Controller
from reconciler.drivers.command import CommandDriver
from reconciler.sources.directory import DirectorySource

def say(word, *rows):
    os.write(2, (word + " " + json.dumps([attrs.asdict(row) for row in rows]) + chr(10)).encode())

async def main():
    controller = Controller(DirectorySource(sys.argv[1]), CommandDriver())
    serving = asyncio.create_task(controller.serve())
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(10, lambda: say("status", *controller.status().workers))
    loop.add_signal_handler(15, controller.stop)
    await serving
asyncio.run(main())
"""


def test_replay_rebuilds_the_status(specs):
    """The events of a run, read anew, give the very status that the controller shows."""
    never = {"restart": {"policy": "never"}}
    drop(specs, "calm", *SLEEP, replicas=2)
    drop(specs, "slow", *SLEEP, min_ready="1h")
    drop(specs, "loop", "false", restart={"backoff": {"initial": "1h", "max": "1h"}})
    drop(specs, "missing", "no-such-program", restart={"backoff": {"initial": "1h", "max": "1h"}})
    drop(specs, "job", "true", **never)
    drop(specs, "broken", "false", **never)
    drop(specs, "stubborn", *sh('trap "" TERM; echo up >&2; sleep 1000 & wait; wait'), stop={"timeout": "1h"})
    gone = drop(specs, "gone", *SLEEP)
    with Fleet(None, program=("-c", REPLAYED, str(specs))) as fleet:
        fleet.wait_line("up")
        fleet.wait_for(1, "worker.backoff", name="loop")
        fleet.wait_for(1, "worker.backoff", name="missing")
        fleet.wait_for(1, "worker.succeeded")
        fleet.wait_for(1, "worker.failed")
        os.kill(fleet.ready("calm-1"), signal.SIGKILL)
        fleet.wait_for(1, "worker.started", name="calm", index=1, reason=None)
        fleet.until(lambda: len(fleet.all("worker.ready", key="calm-1")) == 2)
        gone.unlink()
        fleet.wait_for(1, "worker.stopped", name="gone")
        Path(specs, "stubborn.toml").unlink()
        fleet.wait_for(1, "worker.stopping", name="stubborn")
        fleet.signal("USR1")
        fleet.until(lambda: fleet.lines[-1].startswith("status "))
        rows = [WorkerStatus(**row) for row in json.loads(fleet.lines[-1].partition(" ")[2])]

        assert len({row.phase for row in rows}) == 5
        assert {row.key for row in rows} == {
            *("calm-0", "calm-1", "slow-0", "loop-0", "missing-0", "job-0", "broken-0", "stubborn-0")
        }
        assert replay(map(as_event, fleet.events)) == recorded(rows)
        fleet.signal("TERM")
        fleet.wait_for(5, "worker.stopping")
        fleet.signal("TERM")
        fleet.over()
