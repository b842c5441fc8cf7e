"""Local commands, with real processes."""

import errno
import json
import os
import select
import signal
import subprocess
import sys

import pytest
from processes import alive, alive_in_group, dead, descriptors, halted, observe, run_script, stat, zombies

from reconciler.core.observation import Exited, SpawnFailed
from reconciler.core.spec import Command, Key, WorkerSpec
from reconciler.drivers import groups
from reconciler.drivers.command import CommandDriver

pytestmark = pytest.mark.os

KEY = Key(0, "web", 2)


@pytest.fixture
def driver():
    driver = CommandDriver()
    yield driver
    for uid in tuple(driver.live()):
        driver.kill(uid)
    while driver.live():
        observe(driver, 1)
    driver.close()


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


@pytest.fixture(params=["pidfd", "number"])
def any_kernel(request, monkeypatch):
    """Once with the kernel's way to name a group for good, and once as on kernels before 6.9, which refuse it."""
    if request.param == "number":
        monkeypatch.setattr(groups, "_NAMES_THE_GROUP", 1 << 20)


def start(driver, *command, uid="u1", key=KEY, **fields):
    driver.start(uid, "web", WorkerSpec(key, "d", Command(command=command, **fields)))


def spawned(driver, *command, **fields):
    """Start a command that works, and return its pid."""
    start(driver, *command, **fields)
    (answer,) = driver.poll()
    return answer.pid


def failure(driver, *command, **fields):
    """Start a command that cannot work, and return the answer."""
    start(driver, *command, **fields)
    (answer,) = driver.poll()
    assert isinstance(answer, SpawnFailed)
    return answer


# ------------------------------------------------------------------------------------------------ what a worker gets


def test_placeholders_and_environment(driver, tmp_path):
    """Placeholders are filled in in command, env and cwd, and the worker knows its name, index, key and uid."""
    (tmp_path / "web").mkdir()
    out = tmp_path / "out"

    start(
        driver,
        *("sh", "-c", 'pwd > "$0"; echo "$1" >> "$0"; env >> "$0"', str(out), "{name} {index} {key} {{}}"),
        cwd=f"{tmp_path}/{{name}}",
        env={"GREETING": "hello {key}", "EMPTY": ""},
    )
    observe(driver, 2)

    lines = out.read_text().splitlines()
    assert [f"{tmp_path}/web", "web 2 web-2 {}"] == lines[:2]
    assert {
        "GREETING=hello web-2",
        "EMPTY=",
        f"PATH={os.environ['PATH']}",
        "RECONCILER_NAME=web",
        "RECONCILER_INDEX=2",
        "RECONCILER_KEY=web-2",
        "RECONCILER_UID=u1",
    } <= set(lines)


def test_clear_env(driver, tmp_path):
    """With clear_env a worker gets its own variables only."""
    out = tmp_path / "out"

    start(driver, "sh", "-c", f"env > {out}", env={"A": "1"}, clear_env=True)
    observe(driver, 2)

    names = {line.partition("=")[0] for line in out.read_text().splitlines()} - {"PWD", "_", "SHLVL"}  # the shell's own
    assert {"A", "RECONCILER_NAME", "RECONCILER_INDEX", "RECONCILER_KEY", "RECONCILER_UID"} == names


def test_messages_for_the_controller_alone_are_not_passed_on(tmp_path, monkeypatch):
    """What a service manager told the controller does not reach the workers."""
    for name in ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.setenv(name, "1")
    out = tmp_path / "out"
    driver = CommandDriver()

    start(driver, "sh", "-c", f"env > {out}")
    observe(driver, 2)
    driver.close()

    assert not {"NOTIFY_", "LISTEN_", "WATCHDO"} & {line[:7] for line in out.read_text().splitlines()}


def test_key_of_another_kind(driver, tmp_path):
    """A key that is not of a spec file names the worker within its set."""
    out = tmp_path / "out"

    start(driver, "sh", "-c", f'echo "$0" > {out}', "{name} {index} {key}", key=7)
    observe(driver, 2)

    assert out.read_text() == "web 7 7\n"


def test_program_is_found_on_the_workers_path(driver, tmp_path):
    """A bare name is looked up on the PATH that the worker gets."""
    program = tmp_path / "only-here"
    program.write_text("#!/bin/sh\nexit 6\n")
    program.chmod(0o755)

    start(driver, "only-here", env={"PATH": f"/nowhere:{tmp_path}"})

    assert Exited("u1", exit_code=6) == observe(driver, 2)[-1]


def test_relative_program_is_relative_to_the_workers_directory(driver, tmp_path):
    """`./program` is the one in the worker's own directory."""
    program = tmp_path / "serve"
    program.write_text("#!/bin/sh\nexit 7\n")
    program.chmod(0o755)

    start(driver, "./serve", cwd=str(tmp_path))

    assert Exited("u1", exit_code=7) == observe(driver, 2)[-1]


def test_worker_leads_its_own_session(driver):
    """A worker leads a new session and process group."""
    pid = spawned(driver, "sleep", "1000")

    assert (pid, pid) == (os.getsid(pid), os.getpgid(pid))


def test_worker_has_no_stray_descriptor(driver):
    """A worker has its three standard descriptors, its input is empty, and nothing that we inherited leaks in."""
    read, write = os.pipe()
    os.set_inheritable(read, True)
    os.set_inheritable(write, True)
    driver = CommandDriver()
    try:
        pid = spawned(driver, "sh", "-c", "kill -STOP $$")
        halted(pid)

        assert {0, 1, 2} == descriptors(pid)
        assert os.devnull == os.readlink(f"/proc/{pid}/fd/0")
        assert os.readlink("/proc/self/fd/1") == os.readlink(f"/proc/{pid}/fd/1")
    finally:
        os.close(read)
        os.close(write)


def test_worker_has_clean_signals():
    """Signals that the controller inherited as ignored or blocked are neither in workers, and still do not end it."""
    script = """
        import os, signal, sys

        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
    """
    inner = """if True:
        import json, os, signal
        from pathlib import Path
        from processes import observe
        from reconciler.core.spec import Command, WorkerSpec
        from reconciler.drivers.command import CommandDriver, clean_signals
        clean_signals()
        assert signal.getsignal(signal.SIGCHLD) is signal.SIG_DFL
        driver = CommandDriver()
        driver.start("u1", "web", WorkerSpec("k", "d", Command(command=("sleep", "1000"))))
        (spawned,) = driver.poll()
        status = Path(f"/proc/{spawned.pid}/status").read_text().splitlines()
        masks = [line.split() for line in status if line.startswith(("SigBlk", "SigIgn", "SigCgt"))]
        os.kill(os.getpid(), signal.SIGHUP)
        driver.stop("u1", "TERM")
        print(json.dumps([masks, repr(observe(driver, 1)[0])]))
    """
    shell = ("sh", "-c", "trap '' HUP INT QUIT TERM; exec \"$@\"", "sh")

    masks, end = json.loads(run_script(script, inner, prefix=shell).stdout)

    internal = 0b11 << 31  # 32 and 33 are the C library's own; it sets them up again where it needs them
    assert {name: int(mask, 16) & ~internal for name, mask in masks} == {"SigBlk:": 0, "SigIgn:": 0, "SigCgt:": 0}
    assert repr(Exited("u1", signal="TERM")) == end


def test_worker_gets_the_limit_of_open_files_that_was_in_force():
    """The controller raises its own limit of open files, and workers start with the one before."""
    script = """
        import resource
        from reconciler.core.spec import Command, WorkerSpec
        from reconciler.drivers.command import CommandDriver, raise_file_limit

        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
        limit = raise_file_limit()
        driver = CommandDriver(file_limit=limit)
        driver.start("u1", "web", WorkerSpec("k", "d", Command(command=("sleep", "1000"))))
        (spawned,) = driver.poll()
        print(limit, resource.getrlimit(resource.RLIMIT_NOFILE), resource.prlimit(spawned.pid, resource.RLIMIT_NOFILE))
        print(raise_file_limit())
        driver.kill("u1")
    """
    assert run_script(script).stdout == "(64, 128) (128, 128) (64, 128)\nNone\n"


# ------------------------------------------------------------------------------------------------ failures


def test_program_that_does_not_exist(driver):
    """A program that is not found fails at exec, with ENOENT and its name."""
    answer = failure(driver, "no-such-program")

    assert (answer.stage, answer.errno) == ("exec", errno.ENOENT)
    assert "no-such-program" in answer.message


def test_program_that_is_not_executable(driver, tmp_path):
    """A file that is not executable fails at exec, with EACCES."""
    (tmp_path / "plain").write_text("")

    answer = failure(driver, f"{tmp_path}/plain")

    assert (answer.stage, answer.errno) == ("exec", errno.EACCES)


def test_program_of_no_known_format(driver, tmp_path):
    """An executable file without a format fails at exec, with ENOEXEC: no shell takes it over."""
    (tmp_path / "text").write_text("echo hello\n")
    (tmp_path / "text").chmod(0o755)

    answer = failure(driver, f"{tmp_path}/text")

    assert (answer.stage, answer.errno) == ("exec", errno.ENOEXEC)


def test_arguments_that_are_too_long(driver):
    """Arguments that the kernel refuses fail at exec, with E2BIG."""
    answer = failure(driver, "true", "x" * 200_000)

    assert (answer.stage, answer.errno) == ("exec", errno.E2BIG)


@pytest.mark.parametrize(("cwd", "number"), [("/no/such", errno.ENOENT), ("/dev/null", errno.ENOTDIR)])
def test_directory_that_cannot_be_entered(driver, cwd, number):
    """A bad working directory is told apart from a bad program."""
    answer = failure(driver, "true", cwd=cwd)

    assert ("cwd", number) == (answer.stage, answer.errno)
    assert cwd in answer.message


@pytest.mark.parametrize("word", ["a\0b", "\ud800"])
def test_text_that_cannot_be_passed(driver, word):
    """Text that no program can be given fails at arguments."""
    assert failure(driver, "true", word).stage == "arguments"


def test_payload_of_another_kind(driver):
    """A payload that is no command is a failure like any other."""
    driver.start("u1", "web", WorkerSpec(KEY, "d", None))

    (answer,) = driver.poll()
    assert answer.stage == "unexpected"


def test_want_of_descriptors():
    """Too many open files are a failure at descriptors, which ends when workers do."""
    script = """
        import errno, resource
        from processes import descriptors, observe, zombies
        from reconciler.core.observation import Spawned, SpawnFailed
        from reconciler.core.spec import Command, WorkerSpec
        from reconciler.drivers.command import CommandDriver

        driver = CommandDriver()
        before = descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (20, 20))
        for number in range(30):
            driver.start(f"u{number}", "web", WorkerSpec("k", "d", Command(command=("sleep", "1000"))))
        seen = driver.poll()
        failures = [one for one in seen if isinstance(one, SpawnFailed)]
        workers = [one.uid for one in seen if isinstance(one, Spawned)]
        assert len(seen) == 30 and len(workers) > 5 and failures, seen
        assert {("descriptors", errno.EMFILE)} == {(one.stage, one.errno) for one in failures}
        assert set(workers) == set(driver.live())
        for uid in workers:
            driver.kill(uid)
        observe(driver, len(workers))
        assert descriptors() == before and zombies() == []
        driver.start("u99", "web", WorkerSpec("k", "d", Command(command=("true",))))
        observe(driver, 2)
    """
    run_script(script)


def test_want_of_a_pidfd(driver, monkeypatch):
    """A process that cannot be followed is killed and reaped, and its start has failed."""
    pids = []

    def refuse(pid):
        pids.append(pid)
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(os, "pidfd_open", refuse)
        answer = failure(driver, "sleep", "1000")

    assert (answer.stage, answer.errno) == ("descriptors", errno.EMFILE)
    assert [stat(pid) for pid in pids] == [None]
    assert list(driver.live()) == []


def test_want_of_processes():
    """A fork that the kernel refuses fails at fork, with EAGAIN."""
    script = """
        import os, resource
        from reconciler.core.spec import Command, WorkerSpec
        from reconciler.drivers.command import CommandDriver

        driver = CommandDriver()
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        if os.getuid() == 0:
            os.setresuid(65534, 65534, 65534)
        driver.start("u1", "web", WorkerSpec("k", "d", Command(command=("true",), cwd="/")))
        (answer,) = driver.poll()
        print(answer.stage, answer.errno)
    """
    assert f"fork {errno.EAGAIN}\n" == run_script(script).stdout


# ------------------------------------------------------------------------------------------------ groups


def test_kill_reaches_the_whole_group(driver, fifo):
    """A kill ends the worker and its children, and its end is told when all are gone."""
    pid = spawned(driver, "sh", "-c", f"sleep 1000 & sleep 1000 & echo > {fifo}; wait")
    fifo.read_text()
    assert len(alive_in_group(pid)) == 3

    driver.kill("u1")

    assert [Exited("u1", signal="KILL")] == observe(driver, 1)
    assert alive_in_group(pid) == []


def test_stop_reaches_the_whole_group(driver, fifo):
    """A stop asks the worker and its children, and what ends by itself is not counted as left over."""
    pid = spawned(driver, "sh", "-c", f"sleep 1000 & sleep 1000 & echo > {fifo}; wait")
    fifo.read_text()

    driver.stop("u1", "TERM")

    assert [Exited("u1", signal="TERM")] == observe(driver, 1)
    assert alive_in_group(pid) == []


def test_stop_wakes_a_stopped_worker(driver):
    """A worker that was stopped by STOP is woken to receive its TERM."""
    pid = spawned(driver, "sleep", "1000")
    os.kill(pid, signal.SIGSTOP)
    halted(pid)

    driver.stop("u1", "TERM")

    assert [Exited("u1", signal="TERM")] == observe(driver, 1)


def test_leftovers_of_a_crash_are_killed(driver, fifo, any_kernel):
    """When a worker dies by itself its children are killed, stopped ones too, then its end is told."""
    pid = spawned(driver, "sh", "-c", f"sleep 1000 & sleep 1000 & kill -STOP $!; echo > {fifo}; wait")
    fifo.read_text()

    os.kill(pid, signal.SIGKILL)

    assert [Exited("u1", signal="KILL", leftovers=2)] == observe(driver, 1)
    assert alive_in_group(pid) == []
    assert list(driver.live()) == []


def test_leftovers_that_fork_on_are_killed(driver, fifo, any_kernel):
    """Children that go on forking do not outlive the report of the end."""
    chain = "f() { if [ $1 -gt 0 ]; then f $(($1 - 1)) & fi; sleep 1000 & wait; }"
    pid = spawned(driver, "sh", "-c", f"{chain}; f 200 & echo > {fifo}; exit 4")
    fifo.read_text()

    (end,) = observe(driver, 1)

    assert end.exit_code == 4
    assert end.leftovers > 0
    assert alive_in_group(pid) == []


def test_leftovers_of_a_stop_are_given_time(driver, fifo, any_kernel):
    """A child that minds no TERM holds back the end of a stopped worker until the kill, which reaches it."""
    pid = spawned(driver, "sh", "-c", f"(trap '' TERM; echo > {fifo}; exec sleep 1000) & exec sleep 1000")
    fifo.read_text()
    driver.stop("u1", "TERM")
    dead(pid)

    assert list(driver.poll()) == []
    assert list(driver.live()) == ["u1"]
    assert len(alive_in_group(pid)) == 1

    driver.kill("u1")
    driver.kill("u1")

    assert [Exited("u1", signal="TERM", leftovers=1)] == observe(driver, 1)
    assert alive_in_group(pid) == []


DEAF = """if True:
    import os, signal, sys
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    open(sys.argv[1], "w").close()
    open(sys.argv[1]).read()
    if sys.argv[2:] and os.fork() == 0:
        signal.pause()
"""
"""A program that minds no TERM, and ends when it is told to by a FIFO; with one argument more, it leaves a child."""


@pytest.fixture
def deaf(driver, fifo):
    """Starts a worker with a child that is deaf to TERM, and stops it; the child's pid."""

    def make(*arguments):
        deaf = (sys.executable, "-c", DEAF, str(fifo), *arguments)
        pid = spawned(driver, "sh", "-c", '"$@" & exec sleep 1000', "sh", *deaf)
        fifo.read_text()
        driver.stop("u1", "TERM")
        dead(pid)
        assert list(driver.poll()) == []
        (child,) = alive_in_group(pid)
        return child

    return make


def test_leftovers_of_a_stop_may_end_by_themselves(driver, fifo, deaf):
    """A child that outlives its stopped worker and then ends by itself is not counted as left over."""
    deaf()

    fifo.write_text("end")

    assert [Exited("u1", signal="TERM")] == observe(driver, 1)


def test_leftovers_of_leftovers_are_waited_for(driver, fifo, deaf):
    """A child of a leftover holds back the end too."""
    child = deaf("fork")
    fifo.write_text("end")
    dead(child)
    assert list(driver.poll()) == []
    assert list(driver.live()) == ["u1"]

    driver.kill("u1")

    assert [Exited("u1", signal="TERM", leftovers=1)] == observe(driver, 1)


def test_one_that_left_the_group_is_not_ours(driver, fifo):
    """A process that made a session of its own is not stopped with the worker (documented)."""
    pid = spawned(driver, "sh", "-c", f"setsid sh -c 'echo $$ > {fifo}; exec sleep 1000' & wait")
    stray = int(fifo.read_text())
    try:
        driver.kill("u1")
        observe(driver, 1)

        assert alive(stray)
        assert not alive(pid)
    finally:
        os.kill(stray, signal.SIGKILL)


def test_descriptor_is_readable_only_for_ends(driver):
    """The driver's descriptor is silent until a worker ends."""
    readable = lambda: bool(select.select([driver.fileno()], [], [], 0)[0])  # noqa: E731
    pid = spawned(driver, "sleep", "1000")
    assert not readable()
    os.kill(pid, signal.SIGKILL)
    dead(pid)
    assert readable()
    driver.poll()
    assert not readable()


def test_more_ends_than_one_poll_takes(driver):
    """Ends come in bounded portions, and the descriptor stays readable until the last is told."""
    for number in range(300):
        start(driver, "true", uid=f"u{number}")
    pids = [answer.pid for answer in driver.poll() if not isinstance(answer, Exited)]
    for pid in pids:
        if stat(pid) is not None:
            dead(pid)

    ends = []
    while select.select([driver.fileno()], [], [], 0)[0]:
        portion = driver.poll()
        assert 0 < len(portion) <= 256
        ends += portion

    assert list(driver.live()) == []
    assert zombies() == []


def test_unknown_signal_is_refused(driver):
    """A signal that does not exist is a mistake of the caller's."""
    spawned(driver, "sleep", "1000")

    with pytest.raises(ValueError, match="NONSENSE"):
        driver.stop("u1", "NONSENSE")


def test_foreign_popen_steals_no_status(driver, fifo):
    """Other code that uses subprocess does not take the status of a worker that has ended."""
    pid = spawned(driver, "sh", "-c", f"read line < {fifo}; exit 9")
    fifo.write_text("end\n")
    dead(pid)
    subprocess.run(["true"], check=True)

    assert [Exited("u1", exit_code=9)] == list(driver.poll())


# ------------------------------------------------------------------------------------------------ strangers

_STRANGERS = """
    import ctypes, os, sys
    from processes import observe, zombies
    from reconciler.core.observation import Exited
    from reconciler.core.spec import Command, WorkerSpec
    from reconciler.drivers.command import CommandDriver

    assert os.getpid() == 1 or ctypes.CDLL(None).prctl(36, 1, 0, 0, 0) == 0  # PR_SET_CHILD_SUBREAPER
    driver = CommandDriver(reap_strangers=True)
    # The $(...) ends when the orphan does, which by then has a session of its own.
    orphans = "for i in 1 2 3; do : $( (setsid sh -c 'exit 5' &) ); done; exit 7"
    for uid in ("u1", "u2"):
        driver.start(uid, "web", WorkerSpec("k", "d", Command(command=("sh", "-c", orphans))))
    strangers = 0
    seen = list(driver.poll())
    while strangers < 6 or len(seen) < 4:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)  # blocks until there is one to reap
        strangers += driver.reap_strangers()
        seen += driver.poll()
    ends = sorted(one.uid for one in seen if one == Exited(one.uid, exit_code=7))
    assert strangers >= 6 and ends == ["u1", "u2"] and len(seen) == 4, (strangers, seen)
    assert zombies() == [] and not driver.live() and driver.reap_strangers() == 0
    print("done")
"""


def test_strangers_are_reaped_by_a_subreaper():
    """Children that were inherited are reaped, and ours are told with their own status though met among them."""
    assert run_script(_STRANGERS).stdout == "done\n"


def test_strangers_are_reaped_by_pid_1():
    """The same as PID 1."""
    prefix = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no pid namespace may be made here")

    assert run_script(_STRANGERS, prefix=prefix).stdout == "done\n"


def test_strangers_are_left_to_a_librarys_user(driver):
    """Unless it was asked for, children that the driver did not start are not touched."""
    other = subprocess.Popen(["sh", "-c", "exit 8"])
    dead(other.pid)

    assert driver.reap_strangers() == 0
    assert other.wait() == 8
