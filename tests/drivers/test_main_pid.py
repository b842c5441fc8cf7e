"""Workers that name another process as their main one (MAINPID), with real processes."""

import contextlib
import os
import signal

import pytest
from drivers.talking import Talkers, child
from processes import alive, dead, descriptors, run_script, stat

from reconciler.core.observation import Exited, Lost, Notice, Ready
from reconciler.drivers import groups

pytestmark = pytest.mark.os


@pytest.fixture
def talkers():
    talkers = Talkers()
    yield talkers
    talkers.close()


@pytest.fixture(params=["pidfd", "number"])
def any_kernel(request, monkeypatch):
    """Once with the kernel's way to name a group for good, and once as on kernels before 6.9, which refuse it."""
    if request.param == "number":
        monkeypatch.setattr(groups, "_NAMES_THE_GROUP", 1 << 20)


def start(talkers, act=signal.pause, before=None, then=signal.pause):
    """Start a worker that names a child of its own, and then does something else; the pids of both."""

    def worker():
        pid = child(act, before)
        talkers.say(f"MAINPID={pid}")
        talkers.sync()
        talkers.report(pid)
        then()

    return talkers.start(worker), talkers.told()


def leave():
    """What a first process does that hands its work over."""
    os._exit(0)


def handed_over(talkers, first):
    """Wait until the first process has ended and was reaped, and see that nothing follows."""
    gone(first)
    assert list(talkers.driver.poll()) == []
    assert stat(first) is None
    assert {"u1"} == set(talkers.driver.live())


def gone(pid):
    """Wait until a process is dead, or no more."""
    with contextlib.suppress(ProcessLookupError):
        dead(pid)


# ------------------------------------------------------------------------------------------------ whose life counts


@pytest.mark.parametrize("before", [None, os.setsid], ids=["same group", "own session"])
def test_end_of_the_first_process_means_nothing(talkers, any_kernel, before):
    """When the first process has ended the incarnation lives on in the named one, and nobody in its group is hit."""

    def then():
        talkers.report(child())
        leave()

    first, main = start(talkers, before=before, then=then)
    sibling = talkers.told()

    handed_over(talkers, first)

    assert alive(main)
    assert alive(sibling)
    os.kill(sibling, signal.SIGKILL)


@pytest.mark.parametrize("before", [None, os.setsid], ids=["same group", "own session"])
def test_end_of_the_named_process_is_the_end(talkers, any_kernel, before):
    """When the named process ends after the first, the incarnation does, and what is left of its group is killed."""

    def act():
        os.read(read, 1)
        talkers.report(child())
        signal.pause()

    read, write = os.pipe()
    first, main = start(talkers, act, before, leave)
    handed_over(talkers, first)
    os.write(write, b"x")
    sibling = talkers.told()

    os.kill(main, signal.SIGKILL)

    assert [Lost("u1")] == talkers.observe(1)
    gone(sibling)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize("before", [None, os.setsid], ids=["same group", "own session"])
def test_first_process_does_not_outlive_the_named_one(talkers, before):
    """When the named process ends first, the first process is killed with its group, and only then the end is told."""

    def then():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        talkers.report(child())
        signal.pause()

    first, main = start(talkers, before=before, then=then)
    sibling = talkers.told()

    os.kill(main, signal.SIGKILL)

    assert [Lost("u1")] == talkers.observe(1)
    assert stat(first) is None
    gone(sibling)


def test_status_of_the_first_process_is_not_the_workers(talkers):
    """A named process that nobody here can ask for its status is lost, though the first one ended well."""
    first, main = start(talkers, then=leave)
    handed_over(talkers, first)

    os.kill(main, signal.SIGKILL)

    assert [Lost("u1")] == talkers.observe(1)


def test_naming_oneself_changes_nothing(talkers):
    """A worker that names its own first process ends as any other."""

    def act():
        talkers.say(f"MAINPID={os.getpid()}", "READY=1")
        os._exit(3)

    talkers.start(act)
    seen = talkers.observe(1)
    while len(seen) < 2:
        seen += talkers.observe(1)

    assert [Ready("u1"), Exited("u1", exit_code=3)] == seen


def test_first_process_may_be_named_again(talkers):
    """A worker may change its mind: then its first process counts, and what it named before is killed at its end."""

    def act():
        pid = child(before=os.setsid)
        for named in (pid, os.getpid(), pid, os.getpid()):
            talkers.say(f"MAINPID={named}")
        talkers.sync()
        talkers.report(pid)
        os._exit(3)

    before = descriptors()
    talkers.start(act)
    named = talkers.told()

    (end,) = talkers.observe(1)

    assert (end.uid, end.exit_code) == ("u1", 3)
    gone(named)
    assert before == descriptors()


def test_naming_one_after_the_other(talkers):
    """The one that was named last counts, however many were named, and no more are followed than a few."""

    def act():
        pids = [child(before=os.setsid) for _ in range(30)]
        for pid in pids:
            talkers.say(f"MAINPID={pid}")
            talkers.sync()
        for pid in pids:
            talkers.report(pid)
        signal.pause()

    before = descriptors()
    talkers.start(act)
    pids = [talkers.told() for _ in range(30)]

    assert len(descriptors() - before) < 12
    talkers.driver.kill("u1")
    assert isinstance(talkers.observe(1)[-1], Lost)
    assert before == descriptors()
    for pid in pids[:9]:  # those that are followed, of which the last is the main one
        gone(pid)
    for pid in pids[9:]:
        os.kill(pid, signal.SIGKILL)


# ------------------------------------------------------------------------------------------------ who may be named


def test_strangers_cannot_be_named(talkers):
    """A process outside of the worker's tree is not taken, and no signal reaches it: ourselves, a stranger, another
    worker, and a descendant whose parents left it outside.
    """
    other = talkers.start(signal.pause, uid="other")
    stranger = talkers.stranger()

    def daemon():
        child(lambda: (talkers.report(os.getpid()), signal.pause()), os.setsid)
        os._exit(0)

    def act():
        os.waitpid(child(daemon), 0)
        while True:
            named = int(os.read(read, 10))
            talkers.say(f"MAINPID={named}")
            talkers.sync()
            talkers.report(0)

    read, write = os.pipe()
    first = talkers.start(act)
    orphan = talkers.told()
    for pid in (os.getpid(), os.getppid(), stranger, other, orphan, 2**22 - 1):
        os.write(write, b"%d" % pid)
        talkers.told()
        assert talkers.driver._children["u1"].main is None

    talkers.driver.kill("u1")

    assert [Exited("u1", signal="KILL")] == talkers.observe(1)
    assert not alive(first)
    assert alive(stranger)
    assert alive(other)
    assert alive(orphan)
    os.kill(orphan, signal.SIGKILL)
    os.close(read)
    os.close(write)


def test_strangers_cannot_name(talkers):
    """Nobody but the worker's own processes names its main process."""
    pid = talkers.start(signal.pause)
    talkers.say(f"MAINPID={os.getpid()}")
    talkers.start(lambda: (talkers.say(f"MAINPID={pid}"), talkers.say("READY=1"), signal.pause()), uid="u2")

    assert [Ready("u2")] == talkers.observe(1)
    assert {None} == {worker.main for worker in talkers.driver._children.values()}


@pytest.mark.parametrize("deep", [False, True], ids=["child", "grandchild"])
def test_descendants_may_be_named(talkers, deep):
    """A descendant may be named though it has left the worker's group and session."""

    def middle():
        talkers.report(child(before=os.setsid))
        signal.pause()

    def act():
        child(middle) if deep else talkers.report(child(before=os.setsid))
        talkers.say(f"MAINPID={int(os.read(read, 10))}")
        talkers.sync()
        talkers.report(0)
        signal.pause()

    read, write = os.pipe()
    talkers.start(act)
    pid = talkers.told()
    os.write(write, b"%d" % pid)
    talkers.told()

    assert talkers.driver._children["u1"].main.pid == pid
    os.close(read)
    os.close(write)


def test_dead_processes_cannot_be_named(talkers):
    """A process that has ended is not taken, even if nobody has reaped it."""

    def act():
        pid = child(leave)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        talkers.say(f"MAINPID={pid}", "READY=1")
        os.waitpid(pid, 0)
        signal.pause()

    talkers.start(act)

    assert [Ready("u1")] == talkers.observe(1)
    assert talkers.driver._children["u1"].main is None


# ------------------------------------------------------------------------------------------------ signals


@pytest.mark.parametrize("before", [None, os.setsid], ids=["same group", "own session"])
@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_both_are_reached(talkers, verb, before):
    """A stop and a kill reach the first process and the named one."""
    first, main = start(talkers, before=before)

    if verb == "stop":
        talkers.driver.stop("u1", "TERM")
    else:
        talkers.driver.kill("u1")

    assert [Lost("u1")] == talkers.observe(1)
    assert stat(first) is None
    gone(main)


@pytest.mark.parametrize("before", [None, os.setsid], ids=["same group", "own session"])
@pytest.mark.parametrize("verb", ["stop", "kill"])
def test_what_the_first_process_left_is_reached(talkers, any_kernel, verb, before):
    """When the first process is gone, a stop and a kill still reach the named one, and the group of the first."""

    def then():
        talkers.report(child())
        leave()

    first, main = start(talkers, before=before, then=then)
    sibling = talkers.told()
    handed_over(talkers, first)

    if verb == "stop":
        talkers.driver.stop("u1", "TERM")
    else:
        talkers.driver.kill("u1")

    named = before is None or groups.signal_remains(talkers.driver._children["u1"].pidfd, 0)
    assert [Lost("u1")] == talkers.observe(1)
    gone(main)
    if not named:  # before Linux 6.9: the number of a group that nobody known is in could be a stranger's by now
        os.kill(sibling, signal.SIGKILL)
    gone(sibling)


@pytest.mark.parametrize("then", [signal.pause, leave], ids=["first lives", "first is gone"])
def test_signals_arrive_once(talkers, any_kernel, then):
    """A named process that is in the group of the first gets each signal once."""

    def act():
        # Blocked signals of the real-time kind are queued, each one that is sent.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGRTMIN})
        talkers.report(0)
        os.read(read, 1)
        count = 0
        while signal.sigtimedwait({signal.SIGRTMIN}, 0):
            count += 1
        talkers.say(f"STATUS={count}")
        signal.pause()

    def ignoring():
        signal.signal(signal.SIGRTMIN, signal.SIG_IGN)
        talkers.report(0)
        then()

    read, write = os.pipe()
    first, _ = start(talkers, act, None, ignoring)
    for _ in range(2):  # of three reports in any order: the signal is blocked there, and ignored here
        talkers.told()
    if then is leave:
        handed_over(talkers, first)
    talkers.driver.stop("u1", "RTMIN")
    os.write(write, b"x")

    assert [Notice("u1", status="1")] == talkers.observe(1)
    os.close(read)
    os.close(write)


def test_stop_gives_the_first_process_time(talkers):
    """Asked to stop, the first process may take longer than the named one; it is killed when a kill is asked for."""

    def then():
        signal.signal(signal.SIGTERM, lambda *_: talkers.report(1))
        talkers.report(0)
        while True:
            signal.pause()

    first, main = start(talkers, then=then)
    assert talkers.told() == 0
    talkers.driver.stop("u1", "TERM")
    assert talkers.told() == 1
    gone(main)
    assert list(talkers.driver.poll()) == []
    assert alive(first)

    talkers.driver.kill("u1")

    assert [Lost("u1")] == talkers.observe(1)


def test_signal_is_for_the_named_process(talkers):
    """A signal that means nothing to the plan goes to the process that counts."""

    def act():
        signal.signal(signal.SIGUSR2, lambda *_: talkers.say("STATUS=main"))
        talkers.report(0)
        while True:
            signal.pause()

    first, _ = start(talkers, act, os.setsid, lambda: (talkers.report(0), signal.pause()))
    talkers.told()
    talkers.told()
    talkers.driver.signal("u1", "USR2")

    assert [Notice("u1", status="main")] == talkers.observe(1)
    assert alive(first)


# ------------------------------------------------------------------------------------------------ speech


@pytest.mark.parametrize("before", [None, os.setsid], ids=["same group", "own session"])
def test_named_process_is_heard_after_the_first_is_gone(talkers, before):
    """The named process, and its children, speak for the worker when the first process is gone."""

    def act():
        os.read(read, 1)
        talkers.say("READY=1")
        child(lambda: (talkers.say("STATUS=child"), talkers.sync(), os._exit(0)))
        signal.pause()

    read, write = os.pipe()
    first, _ = start(talkers, act, before, leave)
    handed_over(talkers, first)
    os.write(write, b"x")

    seen = talkers.observe(1)
    if len(seen) < 2:
        seen += talkers.observe(1)

    assert [Ready("u1"), Notice("u1", status="child")] == seen
    os.close(read)
    os.close(write)


# ------------------------------------------------------------------------------------------------ as a subreaper

_SUBREAPER = """
    import ctypes, os, signal, sys
    from drivers.talking import Talkers, child
    from processes import dead, zombies

    assert ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    talkers = Talkers()
    read, write = os.pipe()

    def named():
        os.read(read, 1)
        os._exit(4)

    def act():
        pid = child(named)
        talkers.say(f"MAINPID={pid}")
        talkers.sync()
        talkers.report(pid)
        os._exit(0)

    first = talkers.start(act)
    main = talkers.told()
    dead(first)
    talkers.driver.poll()
    os.write(write, b"x")
    dead(main)
    if sys.argv[1] == "strangers":
        talkers.driver._reap_strangers = True
        assert talkers.driver.reap_strangers() == 0
    print(talkers.observe(1), zombies())
    talkers.close()
"""


@pytest.mark.parametrize("reaping", ["own", "strangers"])
def test_subreaper_knows_the_status(reaping):
    """Where orphans become our children, the named process's own status is told, also if strangers are reaped too."""
    done = run_script(_SUBREAPER, reaping)

    assert f"{[Exited('u1', exit_code=4)]} []\n" == done.stdout


def test_nothing_leaks(talkers):
    """Workers that hand over leave no descriptor and no zombie, whichever of the two processes ends first."""
    before = descriptors()
    for then in (leave, signal.pause) * 5:
        first, main = start(talkers, then=then)
        if then is leave:
            handed_over(talkers, first)
        os.kill(main, signal.SIGKILL)
        assert [Lost("u1")] == talkers.observe(1)
        assert stat(first) is None

    assert before == descriptors()
    driver = talkers.driver
    assert [driver._by_name, driver._by_pid, driver._by_pidfd, driver._children] == [{}] * 4
