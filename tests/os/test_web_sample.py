"""The sample web server, as its page tells of it: a pool that stays full, whatever is done to it.

RECONCILER_KILLS says how many workers are killed under load (20 unless set).
"""

import contextlib
import http.client
import os
import random
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fleet import Fleet
from processes import ROOT

pytestmark = pytest.mark.os

KILLS = int(os.environ.get("RECONCILER_KILLS", "20"))

LOAD = """
import http.client, sys, threading
def ask():
    while True:
        try:
            client = http.client.HTTPConnection("127.0.0.1", int(sys.argv[1]), timeout=10)
            while True:
                client.request("GET", "/")
                client.getresponse().read()
        except OSError:  # its worker was killed
            client.close()
        except http.client.HTTPException:
            client.close()
for _ in range(4):
    threading.Thread(target=ask).start()
"""


@pytest.fixture
def port():
    """A port that nobody else takes meanwhile."""
    pytest.importorskip("uvicorn")
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


def web(tmp_path, port, workers):
    """The sample, in a directory of its own."""
    sample = str(ROOT / "docs" / "samples" / "web.py")
    return Fleet(None, "-p", str(port), "-w", str(workers), program=(sample,), prefix=("env", "-C", str(tmp_path)))


def answer(port):
    """What the server says."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as client:
        client.request("GET", "/")
        return client.getresponse().read().decode()


def test_killed_worker_is_back_with_its_id(tmp_path, port):
    """`ps` shows the id of each worker, and the one that replaces a killed worker has its id."""
    with web(tmp_path, port, 3) as fleet:
        pids = fleet.ready("0", "1", "2")
        assert all(f"id={key}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes() for key, pid in enumerate(pids))
        os.kill(pids[2], signal.SIGKILL)
        fleet.wait("worker.exited", key="2", pid=pids[2])
        again = fleet.wait("worker.ready", key="2")["pid"]
        assert again != pids[2]
        assert b"id=2" in Path(f"/proc/{again}/cmdline").read_bytes()
        assert "from worker" in answer(port)


def test_hup_replaces_what_differs(tmp_path, port):
    """On HUP a changed count starts or stops workers, a changed parameter replaces them, and else nothing happens."""
    with web(tmp_path, port, 2) as fleet:
        before = fleet.ready("0", "1")
        Path(tmp_path, "web.toml").write_text("workers = 3")
        fleet.signal("HUP")
        fleet.wait("worker.ready", key="2")
        assert fleet.ready("0", "1") == before
        Path(tmp_path, "web.toml").write_text('workers = 1\ngreeting = "Good day"')
        fleet.signal("HUP")
        fleet.wait("rollout.completed")
        assert answer(port).startswith("Good day from worker 0")


def test_scaling_by_signals(tmp_path, port):
    """TTIN starts one worker more, TTOU stops one, and the others stay."""
    with web(tmp_path, port, 1) as fleet:
        before = fleet.ready("0")
        fleet.signal("TTIN")
        fleet.wait("worker.ready", key="1")
        fleet.signal("TTOU")
        fleet.wait("worker.stopped", key="1")
        assert fleet.ready("0") == before


def test_storm_of_hups_loses_no_worker(tmp_path, port):
    """A thousand HUPs, one after the other, change nothing about workers that do not differ."""
    with web(tmp_path, port, 2) as fleet:
        before = fleet.ready("0", "1")
        for _ in range(1000):
            fleet.signal("HUP")
        fleet.wait("controller.signalled", signal="HUP")
        fleet.signal("TTIN")
        fleet.wait("worker.ready", key="2")
        assert fleet.ready("0", "1") == before
        assert not fleet.all("worker.exited")


@pytest.mark.timeout(60 + 3 * KILLS)
def test_pool_is_full_again_after_each_kill_under_load(tmp_path, port):
    """Workers are killed at random under load, and after each kill all are ready again."""
    luck = random.Random(7)
    with web(tmp_path, port, 4) as fleet:
        pids = dict(enumerate(fleet.ready("0", "1", "2", "3")))
        load = subprocess.Popen([sys.executable, "-c", LOAD, str(port)])
        try:
            for _ in range(KILLS):
                key = luck.randrange(4)
                os.kill(pids[key], signal.SIGKILL)
                fleet.wait("worker.exited", key=str(key), pid=pids[key])
                pids[key] = fleet.wait("worker.ready", key=str(key))["pid"]
                assert "from worker" in answer(port)
        finally:
            load.kill()
            load.wait()
        assert len(fleet.all("worker.exited")) == KILLS
