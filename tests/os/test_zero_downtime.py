"""The examples of servers on a shared socket: what a change of them costs, with clients that ask all the while."""

import contextlib
import shutil
import socket

import pytest
from bench.loading import Clients, Loading
from bench.rollout_servers import PATH, SERVERS, Course, free_address
from fleet import Fleet
from processes import PATIENCE, ROOT

pytestmark = [pytest.mark.os, pytest.mark.timeout(120)]

STACK = ROOT / "docs" / "samples" / "stack"


@pytest.fixture
def address():
    """A TCP address that nobody else takes meanwhile."""
    with free_address() as free:
        yield free


def course(name, tmp_path, address):
    """An example that is about to run."""
    server = SERVERS[name]
    if server.missing:
        pytest.skip(f"{server.missing} is not installed")
    return Course(server, tmp_path, address)


def failures(loading, *without):
    """What failed, by kind of client and stretch."""
    return {
        (kind, stretch): tally["failures"]
        for kind, stretches in loading.counts.items()
        for stretch, tally in stretches.items()
        if tally["failures"] and stretch not in ("all", *without)
    }


@pytest.mark.parametrize("name", SERVERS)
def test_change_costs_no_request(name, tmp_path, address):
    """An edit and a restart of a server under load replace all of its workers, and no request fails."""
    with course(name, tmp_path, address) as running:
        with Loading(running.address, Clients(keep_alive=4, fresh=4, rate=100)) as loading:
            running.edit()
            loading.stretch("restart")
            running.restart()

        assert running.replacements == 2 * running.replicas
        assert all(stretches["all"]["requests"] > 0 for stretches in loading.counts.values())
        if SERVERS[name].drains:
            assert failures(loading) == {}
        else:
            kinds = {kind for failed in failures(loading).values() for kind in failed}
            assert kinds <= {"reset"}


def test_other_number_costs_no_request(tmp_path, address):
    """One worker more, one less, and back to the version before: no request fails."""
    with course("http.server", tmp_path, address) as running:
        running.edit()
        with Loading(running.address, Clients(rate=200)) as loading:
            running.scale()
            running.undo()

        assert failures(loading) == {}


def test_bad_version_costs_no_request(tmp_path, address):
    """A version that never serves replaces nobody: the rollout stalls, and no request fails."""
    with course("http.server", tmp_path, address) as running:
        with Loading(running.address, Clients(rate=200)) as loading:
            running.bad()

        assert running.replacements == 0
        assert failures(loading) == {}


def test_killed_worker_costs_what_it_held(tmp_path, address):
    """A worker that is killed loses the requests that it had accepted, and no others are lost while it is replaced."""
    with course("http.server", tmp_path, address) as running:
        clients = Clients(rate=200)
        with Loading(running.address, clients) as loading:
            loading.stretch("kill")
            running.kill()
            loading.stretch("after")
            running.scale()

        assert failures(loading, "kill") == {}
        assert sum(sum(failed.values()) for failed in failures(loading).values()) <= clients.keep_alive + clients.fresh


def visit(path):
    """How often the web server of the stack was visited before."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as client:
        client.settimeout(PATIENCE)
        client.connect(str(path))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        with client.makefile("rb") as answer:
            return int(answer.read().rpartition(b"visit ")[2])


@pytest.fixture
def stack(tmp_path, address):
    """The directory of the stack, with addresses of its own."""
    if shutil.which("redis-server", path=PATH) is None:
        pytest.skip("redis-server is not installed")
    pytest.importorskip("uvicorn")
    specs = shutil.copytree(STACK, tmp_path / "specs", ignore=shutil.ignore_patterns("__pycache__"))
    for path in specs.iterdir():
        text = path.read_text().replace("127.0.0.1:8811", f"unix:{tmp_path}/web.sock")
        path.write_text(text.replace("6399", address.rpartition(":")[2]))
    return specs


def test_stack_comes_up_in_order(stack, tmp_path):
    """The migration starts when the database is ready, and the web servers start when it has ended well."""
    with Fleet(stack, env={"PATH": PATH}) as fleet:
        fleet.wait("worker.ready", name="db")
        fleet.wait("worker.started", name="migrate")
        assert fleet.wait("worker.exited", name="migrate")["exit_code"] == 0
        fleet.wait("worker.started", name="web")
        fleet.ready("web-0", "web-1")

        assert visit(tmp_path / "web.sock") == 1
        started = [told["name"] for told in fleet.all("worker.started")]
        assert sorted(started) == ["db", "migrate", "web", "web"]


def test_stack_keeps_what_did_not_change(stack, tmp_path):
    """An edit of the web servers replaces them; the database keeps running, and the migration is not made again."""
    with Fleet(stack, env={"PATH": PATH}) as fleet:
        fleet.ready("web-0", "web-1")
        fleet.wait("controller.converged")
        first = visit(tmp_path / "web.sock")
        web = (stack / "web.toml").read_text()
        (stack / "web.toml").write_text(web.replace('VERSION = "1"', 'VERSION = "2"'))
        fleet.wait("rollout.started", name="web")
        fleet.wait("rollout.completed", name="web")

        assert visit(tmp_path / "web.sock") == first + 1
        started = [told["name"] for told in fleet.all("worker.started")]
        assert sorted(started) == ["db", "migrate", "web", "web", "web", "web"]
