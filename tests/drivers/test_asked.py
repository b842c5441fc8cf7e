"""What drivers of local processes ask of their workers, and what is asked beside them, with real processes."""

import os
import signal
import time

import pytest
from drivers.talking import Talkers, child
from processes import alive, dead, descriptors, run_script, zombies

from reconciler.core.observation import Drained, Exited, Lost, Probed
from reconciler.core.serving import Probe
from reconciler.core.spec import Drain, Key, WorkerSpec

pytestmark = pytest.mark.os

SPEC = WorkerSpec(Key(0, "web", 2), "d", None)


@pytest.fixture
def talkers():
    talkers = Talkers()
    yield talkers
    talkers.close()


def probe(driver, *command, spec=SPEC, timeout=30.0):
    driver.probe("u1", "web", spec, "liveness", Probe(exec=command, timeout=timeout))


def drain(driver, *command):
    driver.drain("u1", "web", SPEC, Drain(command=command))


def test_probe_has_surroundings(talkers, tmp_path, monkeypatch):
    """A command finds the worker by placeholders and by its environment, without what is meant for us alone."""
    monkeypatch.setenv("NOTIFY_SOCKET", "ours")
    monkeypatch.setenv("GREETING", "hello")
    out = tmp_path / "out"
    talkers.start(signal.pause)

    probe(talkers.driver, "sh", "-c", f'echo "$0"; pwd; env; env > {out}', "{name} {index} {key}")

    assert [Probed("u1", "liveness", success=True)] == talkers.observe(1)
    lines = set(out.read_text().splitlines())
    assert {
        "GREETING=hello",
        "RECONCILER_NAME=web",
        "RECONCILER_INDEX=2",
        "RECONCILER_KEY=web-2",
        "RECONCILER_UID=u1",
    } <= lines
    assert "NOTIFY_SOCKET=ours" not in lines


def test_key_of_another_kind(talkers):
    """A key that is not of a spec file is its own index."""
    talkers.start(signal.pause)

    probe(talkers.driver, "test", "{name} {index} {key}", "=", "web 7 7", spec=WorkerSpec(7, "d", None))

    assert [Probed("u1", "liveness", success=True)] == talkers.observe(1)


def test_what_cannot_be_asked_has_failed(talkers):
    """A probe and a drain whose placeholders nobody knows are answered, and stop nobody."""
    talkers.start(signal.pause)

    talkers.driver.probe("u1", "web", SPEC, "readiness", Probe(tcp="localhost:{port:http}"))
    (probed,) = talkers.observe(1)
    drain(talkers.driver, "echo", "{port:http}")
    (drained,) = talkers.observe(1)

    assert (probed.uid, probed.kind, probed.success) == ("u1", "readiness", False)
    assert "http" in probed.message
    assert "http" in drained.message


def test_missing_surroundings_are_a_failure(talkers, monkeypatch):
    """Where the surroundings cannot be made the answer says why."""

    def refuse(*_):
        raise KeyError("port:http")

    monkeypatch.setattr(talkers.driver, "_surroundings", refuse)
    talkers.start(signal.pause)

    talkers.driver.probe("u1", "web", SPEC, "readiness", Probe(file="/"))
    drain(talkers.driver, "true")

    problem = "KeyError: 'port:http'"
    assert [Probed("u1", "readiness", success=False, message=problem), Drained("u1", problem)] == talkers.observe(2)


def test_unknown_uids_are_lost(talkers):
    """What is not known cannot be asked."""
    probe(talkers.driver, "true")
    drain(talkers.driver, "true")

    assert [Lost("u1"), Lost("u1")] == talkers.observe(2)


@pytest.mark.parametrize("named", [False, True], ids=["first", "named"])
def test_drain_knows_the_pid(talkers, tmp_path, named):
    """The command of a drain has the pid of the worker's main process."""

    def act():
        pid = child() if named else os.getpid()
        talkers.say(f"MAINPID={pid}")
        talkers.sync()
        talkers.report(pid)
        signal.pause()

    out = tmp_path / "out"
    talkers.start(act)
    pid = talkers.told()

    drain(talkers.driver, "sh", "-c", f"echo $PID > {out}")

    assert [Drained("u1")] == talkers.observe(1)
    assert out.read_text() == f"{pid}\n"


def test_timeouts_are_told_when_to_wake(talkers):
    """A probe that hangs has failed when `wake_at` says so, and nothing is due afterwards."""
    talkers.start(signal.pause)
    probe(talkers.driver, "sleep", "1000", timeout=0.05)

    began, due = time.monotonic(), talkers.driver.wake_at()
    assert due is not None
    assert due <= began + 0.05
    seen = []
    while not seen:
        seen = list(talkers.driver.poll())

    assert [(one.uid, one.success) for one in seen] == [("u1", False)]
    assert time.monotonic() >= due
    assert talkers.driver.wake_at() is None


def test_end_of_the_worker_ends_what_is_asked(talkers):
    """When the worker has ended nothing is asked of it any more, and no command, descriptor or answer is left."""
    talkers.start(signal.pause)
    probe(talkers.driver, "true")
    talkers.observe(1)
    talkers.driver.kill("u1")
    talkers.observe(1)
    before = descriptors()
    talkers.start(signal.pause)
    drain(talkers.driver, "sleep", "1000")
    talkers.driver.kill("u1")

    assert [Exited("u1", signal="KILL")] == talkers.observe(1)
    while zombies() or descriptors() != before:
        assert list(talkers.driver.poll()) == []
    assert talkers.driver.wake_at() is None


def test_prober_is_made_when_it_is_needed():
    """Who is asked nothing pays nothing, and a closed driver leaves nothing behind."""
    done = run_script("""
        import sys
        from drivers.talking import Talkers
        from processes import descriptors
        from reconciler.core.serving import Probe
        from reconciler.core.spec import WorkerSpec
        import signal

        before = descriptors()
        talkers = Talkers()
        talkers.start(signal.pause)
        first = "reconciler.drivers.prober" in sys.modules
        talkers.driver.probe("u1", "web", WorkerSpec("k", "d", None), "startup", Probe(file="/"))
        print(first, "reconciler.drivers.prober" in sys.modules, talkers.observe(1)[0].success)
        talkers.close()
        print(descriptors() == before)
    """)

    assert done.stdout == "False True True\nTrue\n"


def test_commands_are_no_strangers():
    """A controller that reaps strangers takes no status of a probe's command."""
    done = run_script("""
        import ctypes, os, select, signal
        from drivers.talking import Talkers
        from reconciler.core.serving import Probe
        from reconciler.core.spec import WorkerSpec

        assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
        talkers = Talkers()
        talkers.driver._reap_strangers = True
        talkers.start(signal.pause)
        probe = Probe(exec=("sleep", "0.1"), timeout=20.0)
        talkers.driver.probe("u1", "web", WorkerSpec("k", "d", None), "startup", probe)
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        print(talkers.driver.reap_strangers(), talkers.observe(1)[0].success)
        talkers.close()
    """)

    assert done.stdout == "0 True\n"


def test_forks_have_nothing_of_the_prober(talkers):
    """A child that is forked while a command runs does the parent's probe no harm."""
    talkers.start(signal.pause)
    probe(talkers.driver, "sleep", "0.05")
    dead(talkers.stranger(lambda: os._exit(0)))

    assert [Probed("u1", "liveness", success=True)] == talkers.observe(1)


def test_bad_answers_end_nobody(talkers):
    """A probe that fails is told, and leaves the worker running."""
    pid = talkers.start(signal.pause)
    probe(talkers.driver, "false")

    (answer,) = talkers.observe(1)

    assert not answer.success
    assert alive(pid)
