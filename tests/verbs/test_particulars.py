"""What `describe` shows of sockets, probes, dependencies and schedules, and what `get` says of them."""

import json
import re
import socket
import sys
import textwrap

import pytest
from activation import run_activated
from fleet import SLEEP, sh
from verbs.commanding import commanded

from reconciler.core.names import names_of
from reconciler.core.serving import Socket
from reconciler.listeners import Listening, is_shared

pytestmark = pytest.mark.os

TELLS = """
import os, socket, time
notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notices.connect(os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))
notices.send(b"READY=1\\nSTATUS=three clients")
while True:
    notices.send(b"WATCHDOG=1")
    time.sleep(1)
"""


def cells(lines, title):
    """The lines of a section, each as its words, by their first one."""
    start = lines.index(f"{title}:") + 2
    end = next((at for at in range(start, len(lines)) if not lines[at].startswith("  ")), len(lines))
    return {line.split()[0]: line.split()[1:] for line in lines[start:end]}


def facts(lines):
    """What is said in a line each."""
    return dict(re.split(r": +", line, maxsplit=1) for line in lines if re.match(r"[A-Z][a-z ]+: +\S", line))


def data(fleet, name):
    """All that is told of something, for programs."""
    return json.loads("\n".join(fleet.ask("describe", "-o", "json", name)))


def test_sockets_of_a_set(tmp_path):
    """Each socket is shown with the address that it really has, and who shares it; one of each worker by its worker."""
    path = f"unix:{tmp_path}/web.sock"
    common = {"name": "http", "address": "127.0.0.1:0"}
    own = {"name": "own", "address": "127.0.0.1:0", "per_worker": True}
    with commanded(tmp_path) as fleet:
        fleet.drop("web", *SLEEP, replicas=2, sockets=[common, {"name": "ctl", "address": path}, own])
        fleet.drop("api", *SLEEP, sockets=[common])
        fleet.ready("web-0", "web-1", "api-0")
        lines, told = fleet.ask("describe", "web"), data(fleet, "web")["sockets"]
        worker = data(fleet, "web-1")["sockets"]

    shown = cells(lines, "Sockets")
    assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", shown["http"][1])
    assert shown["http"][2:] == ["listens,", "shared", "with", "api"]
    assert shown["ctl"] == ["all", path, "listens"]
    assert [one["key"] for one in told] == [None, None, "web-0", "web-1"]
    assert len({one["address"] for one in told}) == 4
    assert [one["address"] for one in worker] == [told[at]["address"] for at in (0, 1, 3)]


def test_a_socket_that_cannot_be_had(tmp_path):
    """A set whose socket is taken by another program says so, and why."""
    with socket.create_server(("127.0.0.1", 0)) as taken, commanded(tmp_path) as fleet:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        fleet.drop("web", *SLEEP, sockets=[{"name": "http", "address": address}])
        fleet.wait("worker.start_failed", key="web-0")
        lines = fleet.ask("describe", "web")
        (row,) = json.loads("\n".join(fleet.ask("get", "--sets", "-o", "json")))

    assert facts(lines)["State"] == f"cannot listen on '{address}': Address already in use"
    assert cells(lines, "Sockets")["http"][1:5] == [address, "cannot", "listen", "on"]
    assert row["unbound"][0].startswith("cannot listen on")


def test_sockets_that_a_service_manager_gave():
    """A socket of the controller's own is told as given, with the address that it has."""
    program = """
        from reconciler.core.names import names_of
        from reconciler.core.serving import Socket
        from reconciler.listeners import Listeners

        found = Listeners().bound([Socket(name="http"), Socket(name="own", address="127.0.0.1:0")], names_of("web", 0))
        print({name: tuple(one) for name, one in found.items()})
    """
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as given:
        address = f"[::1]:{given.getsockname()[1]}"
        told = run_activated(textwrap.dedent(program), {"http": given})

    assert told.strip() == str({"http": tuple(Listening(address, given=True))})


def test_what_is_one_socket():
    """Sets share a socket by its address, one at port 0 by its name too, and never one that each worker has."""
    web, other = Socket(name="http", address="127.0.0.1:80"), Socket(name="web", address="127.0.0.1:80")
    free = Socket(name="http", address="127.0.0.1:0")
    assert is_shared(web, other)
    assert is_shared(free, Socket(name="http", address="127.0.0.1:0", backlog=5))
    assert not is_shared(free, Socket(name="web", address="127.0.0.1:0"))
    own = Socket(name="http", address="127.0.0.1:0", per_worker=True)
    assert not is_shared(own, own)
    assert names_of("web", "x")["key"] == "x"


def test_how_a_worker_answers(tmp_path):
    """Of a worker it is shown what it told, when it must be heard of, and the last answer to each probe."""
    up = tmp_path / "up"
    probes = {
        "startup": {"exec": ["true"], "period": "50ms"},
        "readiness": {"file": str(up), "period": "50ms", "failure_threshold": 2},
        "liveness": {"tcp": "127.0.0.1:{port:http}", "initial_delay": "1h"},
    }
    with commanded(tmp_path) as fleet:
        sockets = [{"name": "http", "address": "127.0.0.1:0"}]
        told_by = {"ready": {"notify": True}, "watchdog": "60s"}
        fleet.drop("web", sys.executable, "-c", TELLS, probes=probes, sockets=sockets, **told_by)
        fleet.wait("worker.started", key="web-0")
        asked = data(fleet, "web-0")
        while not (asked["health"] and asked["health"][0]["probes"][1]["good"] is False):
            asked = data(fleet, "web-0")
        lines = fleet.ask("describe", "web-0")
        up.touch()
        fleet.ready("web-0")
        ready = fleet.ask("describe", "web-0")

    said, shown = facts(lines), cells(lines, "Probes")
    port = cells(lines, "Sockets")["http"][1]
    assert said["Says"] == "three clients"
    assert said["Tells"] == "that it is ready"
    assert re.fullmatch(r"heard of \ds ago, due in \S+ \(every 60 s\)", said["Watchdog"])
    assert shown["startup"][:2] == ["good", "-"]
    assert shown["readiness"][0] == "bad"
    assert shown["liveness"][:3] == ["not", "asked", "yet"]
    assert shown["liveness"][-2:] == ["tcp", port]
    assert cells(ready, "Probes")["readiness"][0] == "good"


def test_what_a_set_depends_on(tmp_path):
    """It is shown what a set depends on, whether that is so, and who depends on a set; `get` and `explain` name it."""
    up = tmp_path / "up"
    with commanded(tmp_path) as fleet:
        fleet.drop("db", *SLEEP, probes={"readiness": {"file": str(up), "period": "50ms"}})
        fleet.drop("web", *SLEEP, depends_on=[{"set": "db", "restart_with": True}])
        fleet.wait("worker.started", key="db-0")
        web, db = fleet.ask("describe", "web"), fleet.ask("describe", "db")
        (line,) = [line for line in fleet.ask("get") if line.startswith("web-0")]
        explained = fleet.ask("explain", "web-0")
        up.touch()
        fleet.ready("web-0")
        met = fleet.ask("describe", "web")

    assert facts(web)["State"] == "waits for db"
    assert cells(web, "Depends on")["db"] == ["ready", "no", "restarts", "when", "it", "comes", "back"]
    assert facts(db)["Needed by"] == "web"
    assert "Pending (waits for db)" in line
    assert explained[1].strip().endswith("depends on is there: db must be ready.")
    assert cells(met, "Depends on")["db"][:2] == ["ready", "yes"]
    assert facts(met)["State"] == "ok"


def test_who_stops_last_says_for_whom(tmp_path):
    """A set that is kept for those that depend on it names them."""
    go = tmp_path / "go"
    with commanded(tmp_path) as fleet:
        fleet.drop("db", *SLEEP)
        fleet.drop("web", *sh(f"trap : TERM; until test -e {go}; do sleep 0.05; done"), depends_on=["db"])
        fleet.ready("db-0", "web-0")
        fleet.ask("delete", "web", "db", "--no-wait")
        fleet.wait("worker.stopping", key="web-0")
        lines = fleet.ask("explain", "db-0")
        go.touch()

    assert lines[0].endswith("by the rule WaitsForNeeders")
    assert lines[1].endswith("depend on it are gone: web.")


def test_a_schedule(tmp_path):
    """Of a schedule its time zone, the last and the next run are shown; what it is waited for has no end."""
    with commanded(tmp_path) as fleet:
        plan = {"schedule": "0 0 1 1 *", "time_zone": "Asia/Tokyo"}
        fleet.drop("yearly", *sh("exit 0"), kind="job", **plan)
        fleet.wait("spec.added", name="yearly")
        before = facts(fleet.ask("describe", "yearly"))
        fleet.ask("restart", "yearly", "--wait")
        after = facts(fleet.ask("describe", "yearly"))
        head, line = fleet.ask("get", "--sets", "-o", "wide")
        fleet.drop("yearly", *sh("exit 0"), kind="job", suspend=True, **plan)
        fleet.wait("spec.changed", name="yearly")
        fleet.ask("reload")
        rests = facts(fleet.ask("describe", "yearly"))

    assert before["Schedule"] == "0 0 1 1 * (time zone Asia/Tokyo)"
    assert re.fullmatch(r"\d{4}-01-01 00:00:00 JST, in \d+d\d*h?", before["Next run"])
    assert "Last run" not in before
    assert re.fullmatch(r"[-\d]{10} [:\d]{8} JST, \ds ago: Succeeded", after["Last run"])
    assert after["Workers"] == "1 runs kept, 0 active, 1 completed, 0 failed"
    assert head.split()[5:10] == ["STATE", "COMPLETED", "SCHEDULE", "LAST", "NEXT"]
    assert "next run in" in line
    assert (rests["State"], rests["Next run"]) == ("suspended", "none")


def test_there_is_nothing_to_explain(tmp_path):
    """`explain` says so where a set has no workers now."""
    with commanded(tmp_path) as fleet:
        fleet.drop("yearly", "true", kind="job", schedule="0 0 1 1 *")
        fleet.wait("spec.added", name="yearly")
        assert fleet.ask("explain", "yearly") == [
            "there are no workers now; `reconciler describe` shows when there will be"
        ]
