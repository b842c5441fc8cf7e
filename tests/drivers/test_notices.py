"""What workers tell of themselves, by sd_notify and by a newline in a pipe, with real processes."""

import os
import shutil
import signal
import socket

import pytest
from drivers.talking import Talkers, child
from processes import dead, descriptors, observe

from reconciler.core.observation import Exited, Notice, Ready, Spawned
from reconciler.core.spec import Command, WorkerSpec
from reconciler.drivers.callback import CallbackDriver
from reconciler.drivers.command import CommandDriver
from reconciler.drivers.notices import Notices

pytestmark = pytest.mark.os

YEAR = 366 * 24 * 3600.0


@pytest.fixture
def talkers():
    talkers = Talkers()
    yield talkers
    talkers.close()


def heard(talkers, *messages):
    """What comes of the messages of a worker that then ends well."""

    def act():
        for message in messages:
            talkers.say(message)
        os._exit(0)

    talkers.start(act)
    seen = []
    while not seen or not isinstance(seen[-1], Exited):
        seen += talkers.observe(1)
    assert seen.pop() == Exited("u1", exit_code=0)
    return seen


# ------------------------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize(
    ("message", "meaning"),
    [
        ("READY=1", [Ready("u1")]),
        ("READY=1\n", [Ready("u1")]),
        ("READY=1\0", [Ready("u1")]),
        ("WATCHDOG=1", [Notice("u1", alive=True)]),
        ("WATCHDOG=trigger", [Notice("u1", trigger=True)]),
        ("WATCHDOG_USEC=1500000", [Notice("u1", watchdog=1.5)]),
        ("WATCHDOG_USEC=0", [Notice("u1", watchdog=0.0)]),
        ("STOPPING=1", [Notice("u1", stopping=True)]),
        ("RELOADING=1\nMONOTONIC_USEC=5", [Notice("u1", reloading=True)]),
        ("EXTEND_TIMEOUT_USEC=20000000", [Notice("u1", extend=20.0)]),
        ("EXTEND_TIMEOUT_USEC=18446744073709551615", [Notice("u1", extend=YEAR)]),
        ("STATUS=two words = one", [Notice("u1", status="two words = one")]),
        ("STATUS=", [Notice("u1", status="")]),
        ("STATUS=first\nSTATUS=second", [Notice("u1", status="first")]),
        ("READY=1\nSTATUS=all is well", [Ready("u1"), Notice("u1", status="all is well")]),
        ("WATCHDOG=1\nSTATUS=x\nRELOADING=1", [Notice("u1", alive=True, status="x", reloading=True)]),
    ],
)
def test_messages_mean_what_systemd_says(talkers, message, meaning):
    """Each variable of the protocol is told as what it means, all of one message at once."""
    assert meaning == heard(talkers, message)


@pytest.mark.parametrize(
    "message",
    [
        "",
        "\n",
        "READY=0",
        "READY",
        "ready=1",
        " READY=1",
        "X-READY=1",
        "READY=1\rSTATUS=x",
        "WATCHDOG=yes",
        "BARRIER=1",
        "FDSTORE=1",
        "ERRNO=2",
        *(f"{name}={number}" for name in ("WATCHDOG_USEC", "EXTEND_TIMEOUT_USEC") for number in ("", "-1", "1.5", "٣")),
        "WATCHDOG_USEC=18446744073709551616",
        f"WATCHDOG_USEC={'9' * 3000}",
        *(f"MAINPID={number}" for number in ("", "x", "0", "-1", "1", "99999999999999999999")),
        "\udcff\udcfe",
    ],
)
def test_what_is_not_understood_is_ignored(talkers, message):
    """Unknown variables and values, and numbers that are none, mean nothing, and do no harm to what follows."""
    assert [Ready("u1")] == heard(talkers, message, "READY=1")


def test_status_is_harmless(talkers):
    """A status keeps neither control characters nor bytes that are no text, and is of bounded length."""
    first, second = heard(talkers, "STATUS=a\x1b[2Jb\tc\u202ed\u2028e\udcfff", f"STATUS={'x' * 3000}")

    assert first.status == "a\ufffd[2Jb\ufffdc\ufffdd\ufffde\ufffdf"
    assert second.status == "x" * 500


def test_message_that_was_cut_is_ignored(talkers):
    """A message that is longer than the protocol allows means nothing, not even its beginning."""
    assert [Notice("u1", alive=True)] == heard(talkers, "READY=1\nSTATUS=" + "x" * 5000, "WATCHDOG=1")


def test_last_words_come_before_the_end(talkers):
    """What a worker said before it ended is told before its end, however late both are read."""

    def act():
        os.read(read, 1)
        talkers.say("READY=1")
        os._exit(0)

    read, write = os.pipe()
    pid = talkers.start(act)
    os.write(write, b"x")
    dead(pid)

    assert [Ready("u1"), Exited("u1", exit_code=0)] == list(talkers.driver.poll())
    os.close(read)
    os.close(write)


# ------------------------------------------------------------------------------------------------ who says it


def test_each_speaks_for_itself(talkers):
    """Workers that share the socket are told apart by the kernel."""
    for number in range(3):

        def act(number=number):
            talkers.say(f"STATUS={number}")
            signal.pause()

        talkers.start(act, uid=f"u{number}")
        (notice,) = talkers.observe(1)

        assert notice == Notice(f"u{number}", status=str(number))


@pytest.mark.parametrize("before", [None, lambda: os.setpgid(0, 0)], ids=["group", "session"])
def test_processes_of_the_worker_speak_for_it(talkers, before):
    """A process of the worker's group, or of its session, speaks for it."""

    def act():
        child(lambda: (talkers.say("READY=1"), talkers.sync(), os._exit(0)), before)
        signal.pause()

    talkers.start(act)

    assert [Ready("u1")] == talkers.observe(1)


def test_strangers_are_not_heard(talkers):
    """What others say means nothing: a stranger, we ourselves, or a descendant that left group and session."""

    def act():
        pid = child(lambda: (talkers.say("STATUS=descendant"), os._exit(0)), os.setsid)
        os.waitpid(pid, 0)
        talkers.say("READY=1")
        signal.pause()

    stranger = talkers.stranger(lambda: talkers.say("STATUS=stranger"))
    dead(stranger)
    talkers.say("STATUS=ourselves")
    talkers.start(act)

    assert [Ready("u1")] == talkers.observe(1)


def test_nobody_is_starved(talkers):
    """While one worker never stops talking, others are heard, and ends are seen."""

    def flood():
        while True:
            talkers.say("WATCHDOG=1")

    talkers.start(flood, uid="noisy")
    talkers.start(lambda: (talkers.say("READY=1"), os._exit(4)), uid="calm")

    calm = []
    while Exited("calm", exit_code=4) not in calm:
        calm += [one for one in talkers.observe(1) if one.uid == "calm"]
    assert Ready("calm") in calm


def test_messages_are_taken_a_bounded_number_at_a_time():
    """However fast others speak, one call takes 256 messages at most, and leaves the descriptor readable."""
    notices = Notices()
    speaking = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    speaking.connect("\0" + notices.address[1:])
    taken = 0
    speaking.send(b"WATCHDOG=1")
    for _ in notices.take():
        taken += 1
        speaking.send(b"WATCHDOG=1")
    assert taken == 256
    assert len(list(notices.take())) == 1
    speaking.close()
    notices.close()


# ------------------------------------------------------------------------------------------------ descriptors


def test_sent_descriptors_are_dropped(talkers):
    """A descriptor that somebody sends is closed as soon as its message is read, whatever the message says."""

    def act():
        talkers.sync()
        for _ in range(20):
            talkers.say("READY=1", fds=[0, 1, 2])
        talkers.sync()
        talkers.report(1)
        signal.pause()

    before = descriptors()
    talkers.start(act)

    talkers.told()

    assert len(descriptors()) == len(before) + 1  # the worker's pidfd


@pytest.mark.skipif(shutil.which("systemd-notify") is None, reason="systemd-notify is not installed")
def test_systemd_notify_in_a_script():
    """A shell script may use systemd-notify, which waits until it was heard."""
    driver = CommandDriver()
    script = "systemd-notify --ready --status='up and well' && exit 5"
    command = Command(command=("sh", "-c", script), env={"NOTIFY_SOCKET": driver._notify_address()})
    driver.start("u1", "web", WorkerSpec("k", "d", command))

    seen = observe(driver, 4)
    driver.close()

    assert [Ready("u1"), Notice("u1", status="up and well"), Exited("u1", exit_code=5)] == seen[1:]


# ------------------------------------------------------------------------------------------------ a newline in a pipe


@pytest.fixture
def piped():
    """A driver whose workers are functions of the descriptor in which they tell."""

    def fork(act):
        write = driver._ready_pipe("u1")
        try:
            if act is None:
                raise OSError(11, "no more processes")
            pid = os.fork()
            if pid == 0:
                try:
                    act(write)
                finally:
                    os._exit(99)
            return pid
        finally:
            os.close(write)

    driver = CallbackDriver(fork)
    yield driver
    for uid in tuple(driver.live()):
        driver.kill(uid)
    while driver.live():
        observe(driver, 1)
    driver.close()


def _piped(driver, act):
    driver.start("u1", "web", WorkerSpec("k", "d", act))


def test_newline_means_ready(piped):
    """A newline, whatever comes before it, tells once that the worker can serve; then the pipe is closed."""
    read, write = os.pipe()

    def act(fd):
        os.write(fd, b"soon")
        os.read(read, 1)
        os.write(fd, b"...\n\n")
        os.read(read, 1)
        try:
            os.write(fd, b"\n")
        except BrokenPipeError:
            os._exit(7)

    before = descriptors()
    _piped(piped, act)
    assert [Spawned] == [type(one) for one in observe(piped, 1)]
    os.write(write, b"x")

    seen = observe(piped, 1)
    os.write(write, b"x")
    seen += observe(piped, 1)

    assert [Ready("u1"), Exited("u1", exit_code=7)] == seen
    assert before == descriptors()
    os.close(read)
    os.close(write)


def test_newline_as_last_word(piped):
    """A newline that is read together with the worker's end is told before the end."""
    read, write = os.pipe()
    _piped(piped, lambda fd: (os.read(read, 1), os.write(fd, b"\n"), os._exit(0)))
    (spawned,) = piped.poll()
    os.write(write, b"x")
    dead(spawned.pid)

    assert [Ready("u1"), Exited("u1", exit_code=0)] == list(piped.poll())
    os.close(read)
    os.close(write)


def test_pipe_that_is_closed_without_a_newline(piped):
    """A worker that closes the pipe without a newline has told nothing, and the pipe makes no more noise."""
    before = descriptors()
    _piped(piped, lambda fd: (os.write(fd, b"no"), os.close(fd), signal.pause()))
    while len(descriptors()) > len(before) + 1:  # the worker's pidfd stays
        assert not [one for one in piped.poll() if not isinstance(one, Spawned)]
    piped.kill("u1")

    assert Exited("u1", signal="KILL") == observe(piped, 1)[-1]
    assert before == descriptors()


def test_pipes_of_the_dead_and_the_unborn_are_freed(piped):
    """No pipe is left of workers that end without a word, nor of those whose start failed."""
    before = descriptors()
    for _ in range(20):
        _piped(piped, lambda _: os._exit(1))
        while not any(isinstance(one, Exited) for one in piped.poll()):
            pass
        _piped(piped, None)
        piped.poll()

    assert before == descriptors()


def test_pipe_that_others_keep_open(piped):
    """A pipe that outlives its worker in somebody else's hands is closed with the worker's end."""
    read, write = os.pipe()

    def act(_):
        os.write(write, b"%d\n" % child())
        os._exit(0)

    before = descriptors()
    _piped(piped, act)
    holder = int(os.read(read, 20))

    assert Exited("u1", exit_code=0) == observe(piped, 2)[-1]
    assert before == descriptors()
    os.kill(holder, signal.SIGKILL)
    os.close(read)
    os.close(write)


def test_closing_frees_pipes(piped):
    """Closing the driver frees its ends of the pipes, and forked workers have none of them."""
    read, write = os.pipe()

    def act(fd):
        os.read(read, 1)
        try:
            os.write(fd, b"\n")
        except BrokenPipeError:
            os._exit(7)

    before = descriptors()
    _piped(piped, act)
    (spawned,) = piped.poll()

    piped.close()

    assert before > descriptors()
    os.write(write, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(spawned.pid, 0)[1]) == 7
    os.close(read)
    os.close(write)
