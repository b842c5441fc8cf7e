"""The low-level interface, as a program on prefork's names uses it: a real master with real workers.

The first part has a counterpart of each test that the Haskell library has of itself; the second shows each of its
faults cured.
"""

import json
import os
import signal

import pytest
from fleet import Fleet
from processes import PATIENCE, alive, dead

from reconciler.prefork import (
    RelaunchSettings,
    Settings,
    WorkerContext,
    default_main,
    default_settings,
    empty_prefork_resource,
    interrupt_children,
    make_prefork_resource,
    relaunch_settings,
    terminate_children,
    update_worker_set,
)

pytestmark = pytest.mark.os

FILE = """
import json, os, signal, subprocess, sys
import attrs
from reconciler import Backoff, Policy, Restart, Stop, prefork, worker
from reconciler.prefork import (
    Settings, WorkerContext, default_main, empty_prefork_resource, fork_worker_process, interrupt_children,
    make_prefork_resource, relaunch_settings, terminate_children, update_worker_set,
)

@attrs.frozen
class Worker(WorkerContext):
    key: str
    number: int = 1

def desired():
    with open(sys.argv[1]) as file:
        return eval(file.read())

def say(*words):
    os.write(2, (" ".join(map(str, words)) + chr(10)).encode())

def action(context: Worker) -> None:
    drain = worker.drain()
    say("up", context.key, context.number)
    drain.wait()
    say("down", context.key, drain.reason)

def stubborn(context: Worker) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    say("up", context.key, context.number)
    while True:
        signal.pause()

def slow(context: Worker) -> None:
    drain = worker.drain()
    say("up", context.key, context.number)
    drain.wait()
    say("draining", context.key)
    with open(os.environ["GATE"]) as gate:
        gate.read()
"""
"""The beginning of a program. What is wanted is an expression in the file that is its argument."""

HANDLERS = """
def start_all(config):
    say("update_server", len(config))
    return [fork_worker_process(one) for one in config]

def update_config():
    say("update_config")
    return desired()

settings = Settings(
    update_config=update_config,
    update_server=start_all,
    on_start=lambda config: say("on_start", len(config)),
    on_finish=lambda config: say("on_finish", len(config)),
    on_terminate=lambda config, pids: (say("on_terminate", *sorted(pids)), terminate_children(config, pids)),
    on_interrupt=lambda config, pids: (say("on_interrupt", *sorted(pids)), interrupt_children(config, pids)),
    on_quit=lambda config, pids: say("on_quit", *sorted(pids)),
    on_child_finished=lambda config: say("on_child_finished"),
    cleanup_child=lambda config, pid: say("cleanup_child", pid),
)
"""
"""All nine handlers, each of which says that it was called."""

RELAUNCH = """
def update(resource):
    wanted = desired()
    if wanted is not None:
        update_worker_set(resource, wanted)
    return wanted

resource = empty_prefork_resource()
"""

START = ["update_config", "on_start 1", "update_config", "update_server 1"]
"""What is called before the first worker is up, with one worker wanted."""


class Program(Fleet):
    """A running master, and the file of what it wants."""

    def __init__(self, path, rest, wanted, **options):
        self.path = path / "desired"
        self.want(wanted)
        super().__init__(None, program=("-c", FILE + rest, str(self.path)), **options)

    def want(self, wanted):
        """What it is to find there; to be followed by HUP."""
        self.path.write_text(wanted)

    def hang_up(self, wanted):
        """Let it find this."""
        self.want(wanted)
        self.signal("HUP")

    def said(self):
        """What handlers said, without what workers said."""
        return [line for line in self.lines if line.partition(" ")[0] not in ("up", "down", "draining")]

    def line(self, word):
        """The first line that begins with this word."""
        return self.until(lambda: next((line for line in self.lines if line.partition(" ")[0] == word), None))


def handlers(path, wanted="[Worker('a')]", rest="default_main(settings, action)"):
    """A master that tells of its handlers."""
    return Program(path, HANDLERS + rest, wanted)


def relaunching(path, wanted, arguments="", fork="fork_worker_process", act="action", **options):
    """A master of `relaunch_settings`, with further arguments for that, which tells on QUIT of the resource."""
    rest = f"""
settings = relaunch_settings(resource, update, {fork}{arguments and ", "}{arguments})
def on_quit(config, pids):
    say("table", json.dumps([sorted(pids), {{pid: one.key for pid, one in resource.processes.items()}}]))
default_main(attrs.evolve(settings, on_quit=on_quit), {act})
"""
    return Program(path, RELAUNCH + rest, wanted, **options)


def keys(fleet, name, **fields):
    """Whose events of a name there were."""
    return [told["key"] for told in fleet.all(name, **fields)]


# ------------------------------------------------------------------------------------------- the seed's own tests


def test_make_resource():
    """A new resource wants the workers that it was made of, and none of them lives."""
    resource = make_prefork_resource(iter(["a", "b"]))
    assert (resource.workers, resource.processes) == (["a", "b"], {})


def test_empty_resource():
    """An empty resource wants nothing, and shares nothing with another one."""
    resource = empty_prefork_resource()
    resource.workers.append("a")
    assert (empty_prefork_resource().workers, empty_prefork_resource().processes) == ([], {})


def test_update_set():
    """`update_worker_set` puts other workers in the place of those that were wanted, and leaves those that live."""
    resource = make_prefork_resource(["a", "b"])
    resource.processes[7] = "a"
    update_worker_set(resource, iter(["c"]))
    assert (resource.workers, resource.processes) == (["c"], {7: "a"})


def test_encode_and_decode(tmp_path):
    """A context becomes text and is equal again after it; a worker is given one that is equal to what was sent."""
    rest = """
odd = Worker("a \\N{SNOWMAN} \\"b\\"" + chr(10) + chr(0), -(10 ** 30))
def act(context: Worker) -> None:
    say("equal", context == odd, Worker.decode_from_string(context.encode_to_string()) == odd)
    action(context)
default_main(Settings(update_config=lambda: 1, update_server=lambda _: [fork_worker_process(odd)]), act)
"""
    with Program(tmp_path, rest, "") as fleet:
        assert fleet.line("equal") == "equal True True"


def test_own_encoding(tmp_path):
    """A context may bring its own way to be text, as the seed's instances do."""
    rest = """
class Own(WorkerContext):
    def __init__(self, word):
        self.word = word
    def encode_to_string(self):
        return self.word
    @classmethod
    def decode_from_string(cls, text):
        return cls(text)
def act(context: Own) -> None:
    say("word", context.word)
    worker.drain().wait()
default_main(Settings(update_config=lambda: 1, update_server=lambda _: [fork_worker_process(Own("two words"))]), act)
"""
    with Program(tmp_path, rest, "") as fleet:
        assert fleet.line("word") == "word two words"


def test_start_up(tmp_path):
    """First `update_config`, then `on_start`, then what HUP does."""
    with handlers(tmp_path) as fleet:
        fleet.wait_line("up a 1")
        assert fleet.said() == START


def test_hup(tmp_path):
    """HUP calls `update_config` and then `update_server`, with the new configuration; what runs is left alone."""
    with handlers(tmp_path) as fleet:
        fleet.wait_line("up a 1")
        fleet.hang_up("[Worker('b'), Worker('c')]")
        fleet.wait_line("up b 1")
        fleet.wait_line("up c 1")

        assert fleet.said() == [*START, "update_config", "update_server 2"]
        assert fleet.all("worker.exited") == []


@pytest.mark.parametrize(("name", "handler"), [("TERM", "on_terminate"), ("INT", "on_interrupt")])
def test_term_and_int(tmp_path, name, handler):
    """TERM and INT call their handler with the workers' pids; after the last worker `on_finish` is called."""
    with handlers(tmp_path, "[Worker('a'), Worker('b')]") as fleet:
        fleet.wait_line("up a 1")
        fleet.wait_line("up b 1")
        before = len(fleet.said())
        fleet.end(name)
        pids = sorted(told["pid"] for told in fleet.all("worker.started"))
        first, *cleanups, last = fleet.said()[before:]

        assert first.split() == [handler, *map(str, pids)]
        assert sorted(cleanups) == sorted(f"cleanup_child {pid}" for pid in pids)
        assert last == "on_finish 2"
        assert {f"down a {name}", f"down b {name}"} <= set(fleet.lines)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_default_handlers(tmp_path, name):
    """Unless they are replaced, the handlers of TERM and INT pass the signal on, and the others do nothing."""
    assert (default_settings.on_terminate, default_settings.on_interrupt) == (terminate_children, interrupt_children)
    assert default_settings == Settings()
    rest = """
settings = Settings(update_config=desired, update_server=lambda config: [fork_worker_process(one) for one in config])
default_main(settings, action)
"""
    with Program(tmp_path, rest, "[Worker('a')]") as fleet:
        fleet.wait_line("up a 1")
        fleet.end(name)
        assert fleet.lines == ["up a 1", f"down a {name}"]


def test_quit(tmp_path):
    """QUIT calls its handler with the workers' pids, and the master goes on."""
    with handlers(tmp_path) as fleet:
        fleet.wait_line("up a 1")
        pid = fleet.wait("worker.ready")["pid"]
        fleet.signal("QUIT")
        fleet.wait_line(f"on_quit {pid}")
        fleet.hang_up("[Worker('b')]")
        fleet.wait_line("up b 1")
        assert alive(pid)


def test_child_finished(tmp_path):
    """After a worker's end `cleanup_child` is called with its pid, then `on_child_finished`, which may start one."""
    rest = """
def again(config):
    say("on_child_finished")
    return [fork_worker_process(Worker("again"))]
default_main(attrs.evolve(settings, on_child_finished=again), action)
"""
    with handlers(tmp_path, rest=rest) as fleet:
        fleet.wait_line("up a 1")
        pid = fleet.wait("worker.ready")["pid"]
        os.kill(pid, signal.SIGKILL)
        fleet.wait_line("up again 1")
        assert fleet.said() == [*START, f"cleanup_child {pid}", "on_child_finished"]


def test_relaunch_of_one(tmp_path):
    """A worker that was killed comes back under its key, and no other is touched."""
    with relaunching(tmp_path, "[Worker('a'), Worker('b')]") as fleet:
        a, b = fleet.ready("a", "b")
        os.kill(a, signal.SIGKILL)
        assert fleet.wait("worker.exited", key="a")["signal"] == "KILL"
        assert fleet.wait("worker.ready", key="a")["pid"] != a

        assert alive(b)
        assert keys(fleet, "worker.started") == ["a", "b", "a"]


def test_relaunch_of_all(tmp_path):
    """With `replace_all` HUP starts all workers anew, and then ends all old ones, though none differs."""
    with relaunching(tmp_path, "[Worker('a'), Worker('b')]", "replace_all=True") as fleet:
        old = fleet.ready("a", "b")
        fleet.wait("controller.converged", workers=2)
        fleet.signal("HUP")
        fleet.wait_for(2, "worker.exited")
        fleet.wait("controller.converged", workers=2)
        story = [told["event"] for told in fleet.events if told["event"] in ("worker.started", "worker.stopping")]

        assert story == ["worker.started"] * 4 + ["worker.stopping"] * 2
        assert not any(map(alive, old))


# ------------------------------------------------------------------------------------------- configuration and roles


def test_no_configuration_yet(tmp_path):
    """Until there is a configuration no handler is called; None later keeps what runs."""
    with handlers(tmp_path, "None") as fleet:
        fleet.until(lambda: fleet.lines.count("update_config") == 2)
        fleet.signal("QUIT")
        fleet.wait("controller.signalled", signal="QUIT")
        assert set(fleet.said()) == {"update_config"}
        fleet.hang_up("[Worker('a')]")
        fleet.wait_line("up a 1")
        fleet.hang_up("None")
        fleet.wait("controller.signalled", signal="HUP")
        fleet.wait("controller.signalled", signal="HUP")
        fleet.signal("QUIT")
        fleet.line("on_quit")

        assert [line for line in fleet.said() if line.startswith("update_server")] == ["update_server 1"]
        assert fleet.all("worker.exited") == []


def test_unannotated_action():
    """An action that does not say what its worker is needs a `context_type`."""
    with pytest.raises(TypeError, match="annotate the parameter"):
        default_main(Settings(), lambda worker: None)


def test_relaunch_settings_are_settings():
    """What `relaunch_settings` gives can be evolved like any settings."""
    resource = empty_prefork_resource()
    settings = relaunch_settings(resource, lambda _: 5, print)
    assert isinstance(settings, RelaunchSettings)
    assert settings.update_config() == 5
    assert not settings.replace_all
    assert WorkerContext().interpreter_options() == ()


# ------------------------------------------------------------------------------------------- the seed's faults, cured


def test_changed_parameter_is_seen(tmp_path):
    """A worker whose parameter has changed under the same key is replaced by one that knows it."""
    with relaunching(tmp_path, "[Worker('a', 1)]") as fleet:
        fleet.wait_line("up a 1")
        fleet.hang_up("[Worker('a', 2)]")
        assert fleet.wait("spec.changed", key="a")["fields"] == ["number"]
        fleet.wait_line("up a 2")
        assert "down a TERM" in fleet.lines


def test_hup_changes_only_what_differs(tmp_path):
    """HUP adds, replaces and ends only those that differ; the others keep their processes."""
    with relaunching(tmp_path, "[Worker('a'), Worker('b'), Worker('c')]") as fleet:
        a, b, c = fleet.ready("a", "b", "c")
        fleet.wait("controller.converged", workers=3)
        fleet.hang_up("[Worker('a'), Worker('b', 2), Worker('d')]")
        fleet.wait_line("up b 2")
        fleet.wait_line("up d 1")
        fleet.wait("controller.converged", workers=3)

        assert [alive(pid) for pid in (a, b, c)] == [True, False, False]
        assert sorted(keys(fleet, "worker.exited")) == ["b", "c"]


@pytest.mark.parametrize("order", ["raise OSError('no')", "fork_worker_process(one); raise OSError('no')"])
def test_fork_that_raises_loses_nothing(tmp_path, order):
    """A `fork` that raises is one worker's failed start; the others run, and nothing that it started is left behind."""
    fork = f"""
def fork(one):
    if one.number < 0:
        {order}
    return fork_worker_process(one)
"""
    with Program(
        tmp_path,
        RELAUNCH + fork + "default_main(relaunch_settings(resource, update, fork), action)",
        "[Worker('a'), Worker('b', -1), Worker('c')]",
    ) as fleet:
        a, c = fleet.ready("a", "c")
        assert fleet.wait("worker.start_failed", key="b")["message"] == "OSError: no"
        fleet.hang_up("[Worker('a'), Worker('b', 2), Worker('c')]")
        fleet.wait_line("up b 2")

        assert alive(a)
        assert alive(c)


def test_update_server_that_raises_loses_nothing(tmp_path):
    """What an `update_server` started before it raised is followed, and the master goes on."""
    rest = """
def half(config):
    pids = [fork_worker_process(one) for one in config]
    if len(config) == 2:
        raise OSError("half-way")
    return pids
default_main(attrs.evolve(settings, update_server=half), action)
"""
    with handlers(tmp_path, "[Worker('a'), Worker('b')]", rest) as fleet:
        assert "half-way" in fleet.wait("controller.error")["message"]
        fleet.wait_line("up a 1")
        fleet.wait_line("up b 1")
        fleet.hang_up("[Worker('c')]")
        fleet.wait_line("up c 1")
        fleet.end()

        assert len(fleet.all("worker.exited")) == 3
        assert {"down a TERM", "down b TERM", "down c TERM"} <= set(fleet.lines)


def test_crash_loop_backs_off(tmp_path):
    """A worker that dies at once is started again after delays that grow."""
    policy = "policy=Policy(restart=Restart(backoff=Backoff(initial=0.02, jitter=0)))"
    rest = f"""
def act(context: Worker) -> None:
    sys.exit(3)
default_main(relaunch_settings(resource, update, fork_worker_process, {policy}), act)
"""
    with Program(tmp_path, RELAUNCH + rest, "[Worker('a')]") as fleet:
        delays = [fleet.wait("worker.backoff", key="a")["delay_s"] for _ in range(3)]
        assert delays == sorted(set(delays))
        assert {told["exit_code"] for told in fleet.all("worker.exited")} == {3}


def test_term_that_is_ignored(tmp_path):
    """A worker that ignores TERM is killed at its deadline, and does not keep the master."""
    policy = "policy=Policy(stop=Stop(timeout=0.3))"
    with relaunching(tmp_path, "[Worker('a')]", policy, act="stubborn") as fleet:
        fleet.wait_line("up a 1")
        fleet.end()
        assert fleet.all("worker.stopping")[0]["timeout_s"] == 0.3
        assert [told["signal"] for told in fleet.all("worker.exited")] == ["KILL"]


@pytest.mark.parametrize("handler", ["lambda config, pids: None", "lambda config, pids: 1 / 0", "terminate_children"])
def test_deadline_holds_for_any_handler(tmp_path, handler):
    """Whatever `on_terminate` does, workers that have not ended by the deadline are killed, and `on_finish` called."""
    rest = f"""
default_main(attrs.evolve(settings, on_terminate={handler}, policy=Policy(stop=Stop(timeout=0.3))), stubborn)
"""
    with handlers(tmp_path, rest=rest) as fleet:
        fleet.wait_line("up a 1")
        fleet.end()
        assert [told["signal"] for told in fleet.all("worker.exited")] == ["KILL"]
        assert fleet.said()[-1] == "on_finish 1"


def test_hup_while_stopping(tmp_path):
    """HUP while the master is stopping starts nothing."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    for name, master in {
        "settings": lambda: Program(
            tmp_path, HANDLERS + "default_main(settings, slow)", "[Worker('a')]", env={"GATE": str(gate)}
        ),
        "relaunch": lambda: relaunching(tmp_path, "[Worker('a')]", act="slow", env={"GATE": str(gate)}),
    }.items():
        with master() as fleet:
            fleet.wait_line("up a 1")
            fleet.signal("TERM")
            fleet.wait_line("draining a")
            fleet.hang_up("[Worker('a', 2), Worker('b')]")
            fleet.wait("controller.signalled", signal="HUP")
            gate.write_text("")
            fleet.over()

            assert len(fleet.all("worker.starting")) == 1, name
            assert not [line for line in fleet.lines if line.startswith("update_server 2")], name


def test_processes_agree(tmp_path):
    """`resource.processes` and the controller know the same pids, after a kill, a replacement and a removal too."""

    def table():
        before = sum(line.startswith("table") for line in fleet.lines)
        fleet.signal("QUIT")
        fleet.until(lambda: sum(line.startswith("table") for line in fleet.lines) > before)
        pids, known = json.loads([line for line in fleet.lines if line.startswith("table")][-1].partition(" ")[2])
        assert pids == sorted(map(int, known))
        gone = {told["pid"] for told in fleet.all("worker.exited")}
        told = {str(one["pid"]): one["key"] for one in fleet.all("worker.started") if one["pid"] not in gone}
        assert known == told
        return sorted(known.values())

    with relaunching(tmp_path, "[Worker('a'), Worker('b'), Worker('c')]") as fleet:
        a, *_ = fleet.ready("a", "b", "c")
        fleet.wait("controller.converged", workers=3)
        assert table() == ["a", "b", "c"]
        os.kill(a, signal.SIGKILL)
        fleet.wait("worker.exited", key="a")
        fleet.wait("worker.ready", key="a")
        assert table() == ["a", "b", "c"]
        fleet.hang_up("[Worker('a'), Worker('b', 2)]")
        fleet.wait_line("up b 2")
        fleet.wait("controller.converged", workers=2)
        assert table() == ["a", "b"]


def test_role_is_not_inherited(tmp_path):
    """What a worker starts does not take itself for a worker."""
    rest = """
def act(context: Worker) -> None:
    script = "import os; print('PREFORK' in os.environ, 'RECONCILER_PARENT' in os.environ)"
    say("inherited", subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout.strip())
    action(context)
default_main(relaunch_settings(resource, update, fork_worker_process), act)
"""
    with Program(tmp_path, RELAUNCH + rest, "[Worker('a')]") as fleet:
        assert fleet.line("inherited") == "inherited False False"


def test_workers_end_with_a_killed_master(tmp_path):
    """Workers of a master that was killed end too, though nobody is left to tell them."""
    with relaunching(tmp_path, "[Worker('a')]") as fleet:
        fleet.wait_line("up a 1")
        pid = fleet.ready("a")
        fleet.process.kill()
        fleet.process.wait(PATIENCE)
        dead(pid)
