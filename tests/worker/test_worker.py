"""What runs inside a worker, tried in processes that are workers."""

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from processes import PATIENCE, ROOT, alive, dead, run_script

pytestmark = pytest.mark.os

WEB = """
import attrs, os, select, signal, socket, sys
from reconciler import worker

@attrs.frozen
class Web:
    key: int
    text: str = ""

@attrs.frozen
class Listening:
    listener: socket.socket
"""


@pytest.fixture
def start():
    """Start Python source as a process, `stdin` being its bytes; its ends are pipes. None of them is left behind."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with contextlib.ExitStack() as stack:

        def start(source, stdin=None, *, env=None, **options):
            given = subprocess.DEVNULL
            if stdin is not None:
                given = stack.enter_context(os.fdopen(os.memfd_create("stdin"), "w+b"))
                given.write(stdin)
                given.seek(0)
            process = subprocess.Popen(
                [sys.executable, "-c", WEB + textwrap.dedent(source)],
                cwd=ROOT,
                env={**environment, **(env or {})},
                stdin=given,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                **options,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def work(start):
    """Start Python source as a worker that has this line as its context."""

    def work(source, line='{"Web":{"key":1}}', **options):
        marks = {"PREFORK": "worker", "RECONCILER_PARENT": str(os.getpid())}
        return start(source, f"{line}\n".encode(), env=marks, **options)

    return work


def ended(process, status=0):
    """What a process wrote to its standard output, after it ended with this status."""
    out, err = process.stdout.read(), process.stderr.read()
    assert process.wait(PATIENCE) == status, err
    return out


def told(process):
    """The next line of a process's standard output."""
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return line.rstrip("\n")


# ------------------------------------------------------------------------------------------------------- context


def test_without_prefork_there_is_no_context(start):
    """A program that nobody started as a worker has no context, and keeps its standard input."""
    process = start("print(worker.context(Web), sys.stdin.read())", b"hello")

    assert ended(process) == "None hello\n"


def test_a_worker_takes_its_context(work):
    """A worker gets its context, of one type or of a union of some."""
    assert ended(work("print(worker.context(Web))")) == "Web(key=1, text='')\n"
    assert ended(work("print(worker.context(Web | Listening))")) == "Web(key=1, text='')\n"


def test_a_context_may_be_megabytes(work):
    """A context of megabytes is read whole, and only to the end of its line."""
    line = '{"Web":{"key":1,"text":"' + "a" * 5_000_000 + '"}}\n{"Web":{"key":2}}'

    assert ended(work("web = worker.context(Web); print(web.key, len(web.text))", line)) == "1 5000000\n"


def test_a_context_may_come_through_a_pipe(start):
    """A context that is written bit by bit to a pipe, as another kind of master may do, is read whole."""
    read, write = os.pipe()
    process = start("print(worker.context(Web))", env={"PREFORK": "worker"}, preexec_fn=lambda: os.dup2(read, 0))
    os.close(read)
    for part in (b'{"Web":{', b'"key":', b"1}}\nmore"):
        os.write(write, part)

    assert told(process) == "Web(key=1, text='')"

    os.close(write)
    assert ended(process) == ""


def test_nothing_that_a_worker_starts_takes_itself_for_it(work):
    """With the context, its marks are out of the environment and standard input is empty, for children too."""
    source = """
        before = {"PREFORK", "RECONCILER_PARENT"} <= os.environ.keys()
        web = worker.context(Web)
        print(before, "PREFORK" in os.environ, "RECONCILER_PARENT" in os.environ, os.readlink("/proc/self/fd/0"))
        print(repr(sys.stdin.read()), flush=True)
        os.system("env | grep -c -e PREFORK -e RECONCILER; cat; readlink /proc/self/fd/0")
    """

    assert ended(work(source)) == "True False False /dev/null\n''\n0\n/dev/null\n"


def test_a_context_can_be_asked_for_again(work):
    """Asked again a worker has the same context, and is no master suddenly; of another type, that is an error."""
    source = """
        web = worker.context(Web)
        print(worker.context(Web) is web)
        try:
            worker.context(Listening)
        except ValueError as error:
            print(error)
    """

    assert ended(work(source)).splitlines() == [
        "True",
        "the context was taken as Web before, and cannot be taken as Listening now",
    ]


def test_what_a_worker_prints_is_there_at_once(work):
    """A worker's standard output and error are written line by line, though they are pipes."""
    process = work("worker.context(Web); print('hello'); print('error', file=sys.stderr); signal.pause()")

    assert told(process) == "hello"
    assert process.stderr.readline() == "error\n"


@pytest.mark.parametrize(
    ("stdin", "problem"),
    [
        (b"", "there is no context to read: standard input is empty. Workers are started by fork_worker_process"),
        (b"\n", "there is no context to read: standard input is empty"),
        (b'{"Web":{"key":1', "this is no context, as it is no JSON"),
        (b'"\xff"\n', "there is no context to read: standard input is no text"),
        (b'{"Web":{"key":"1"}}\n', "expected int; got str @ Web.key"),
        (b'{"Net":{"key":"1"}}\n', "the context is of type Net; expected Web"),
    ],
)
def test_a_worker_without_a_context(start, stdin, problem):
    """A worker that finds no context, or none of its type, ends with an error that says so."""
    process = start("worker.context(Web)", stdin, env={"PREFORK": "worker"})

    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("reconciler.context.ContextError: ")
    assert problem in err.splitlines()[-1]


def test_a_worker_without_standard_input(start):
    """A worker whose standard input is closed ends with an error that says so."""
    process = start("os.close(0); worker.context(Web)", env={"PREFORK": "worker"})

    _, err = process.communicate(timeout=PATIENCE)
    assert "standard input cannot be read (Bad file descriptor)" in err


def test_a_worker_on_a_terminal(start):
    """PREFORK set by hand in a terminal is an error, and does not wait for somebody to type a context."""
    ours, theirs = os.openpty()
    process = start("worker.context(Web)", env={"PREFORK": "1"}, preexec_fn=lambda: os.dup2(theirs, 0))

    _, err = process.communicate(timeout=PATIENCE)
    os.close(ours)
    os.close(theirs)
    assert "standard input is a terminal" in err
    assert "unset PREFORK" in err


def test_a_listener_comes_with_the_context(work):
    """A socket in the context is a socket in the worker, of the descriptor that it was given."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        source = "with worker.context(Listening).listener.accept()[0] as connection: connection.send(b'hello')"
        process = work(source, f'{{"Listening":{{"listener":{listener.fileno()}}}}}', pass_fds=[listener.fileno()])

        with socket.create_connection(listener.getsockname(), PATIENCE) as connection:
            assert connection.recv(100) == b"hello"
        ended(process)


# --------------------------------------------------------------------------------------------------------- drain


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_signal_sets_the_drain(start, name):
    """TERM and INT set the drain and nothing else, and it says which it was; once set it stays."""
    process = start("""
        drain = worker.drain()
        print(drain.is_set(), drain.reason, drain.wait(0), select.select([drain], [], [], 0)[0], flush=True)
        readable = select.select([drain], [], [])[0] == [drain]
        print(drain.wait(), drain.is_set(), drain.reason, drain.wait(0), readable, flush=True)
        signal.raise_signal(signal.SIGTERM)
        print(drain.reason, drain is worker.drain())
    """)

    assert told(process) == "False None False []"
    process.send_signal(getattr(signal, f"SIG{name}"))
    assert told(process) == f"True True {name} True True"
    assert ended(process) == f"{name} True\n"


WAITS = {
    "wait": "drain.wait()",
    "wait with a timeout": "assert drain.wait(1000)",
    "select": "select.select([drain], [], [])",
    "poll": "poll = select.poll(); poll.register(drain, select.POLLIN); poll.poll()",
    "epoll": "epoll = select.epoll(); epoll.register(drain, select.EPOLLIN); epoll.poll()",
    "asyncio": "import asyncio; asyncio.run(drain.wait_async())",
    "loop": "import asyncio; loop = asyncio.new_event_loop(); loop.add_reader(drain, loop.stop); loop.run_forever()",
    "threads": """
        import threading
        threads = [threading.Thread(target=drain.wait) for _ in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
    """,
}


@pytest.mark.parametrize("way", WAITS)
def test_each_way_to_wait_is_woken(start, way):
    """Whatever a worker waits in, the signal ends the wait."""
    process = start(
        f"drain = worker.drain()\nprint('waiting', flush=True)\n{textwrap.dedent(WAITS[way])}\nprint('woken')"
    )

    assert told(process) == "waiting"
    process.terminate()

    assert ended(process) == "woken\n"


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_no_signal_is_missed(start, name):
    """A signal that strikes after Python last looked, just before it waits in the kernel, ends that wait too."""
    process = start(f"""
        import ctypes, functools, operator

        drain = worker.drain()
        poll = select.poll()
        poll.register(drain, select.POLLIN)
        strike = functools.partial(getattr(ctypes.PyDLL(None), "raise"), signal.SIG{name})
        # None of these three is a step of a Python program.
        _, ready = map(operator.call, [strike, functools.partial(poll.poll, {1000 * PATIENCE})])
        print(ready == [(drain.fileno(), select.POLLIN)], drain.reason)
    """)

    assert ended(process) == f"True {name}\n"


def test_other_signals_are_none_of_its(start):
    """Signals that the worker handles in its own way do not set the drain, and none is lost behind many of them."""
    process = start("""
        drain = worker.drain()
        seen = []
        for name in ("SIGUSR1", "SIGCHLD", "SIGHUP"):
            signal.signal(getattr(signal, name), lambda number, _: seen.append(number))
            for _ in range(100):
                signal.raise_signal(getattr(signal, name))
        print(len(seen), drain.is_set(), select.select([drain], [], [], 0)[0])
        for _ in range(100):
            signal.raise_signal(signal.SIGTERM)
        print(drain.wait(), drain.reason)
    """)

    assert ended(process) == "300 False []\nTrue TERM\n"


@pytest.mark.parametrize("first", ["worker.drain()", "None"])
def test_the_signals_of_a_loop_stay_with_it(start, first):
    """In an asyncio program that handles a signal of its own, both that signal and the drain work, in either order."""
    process = start(f"""
        import asyncio

        async def main():
            loop = asyncio.get_running_loop()
            used = asyncio.Event()
            {first}
            loop.add_signal_handler(signal.SIGUSR1, used.set)
            drain = worker.drain()
            os.kill(os.getpid(), signal.SIGUSR1)
            await used.wait()
            print("used", drain.is_set())
            loop.call_soon(os.kill, os.getpid(), signal.SIGTERM)
            await drain.wait_async()
            print(drain.reason)

        asyncio.run(main())
    """)

    assert ended(process) == "used False\nTERM\n"


def test_many_tasks_wait(start):
    """Several tasks of one loop may wait, one that gives up disturbs no other, and once set nobody waits."""
    process = start("""
        import asyncio

        async def main():
            drain = worker.drain()
            before = len(os.listdir("/proc/self/fd"))
            tasks = [asyncio.create_task(drain.wait_async()) for _ in range(3)]
            await asyncio.sleep(0)
            tasks.pop().cancel()
            await asyncio.sleep(0)
            print("waiting", flush=True)
            await asyncio.gather(*tasks)
            await drain.wait_async()
            print(drain.reason, len(os.listdir("/proc/self/fd")) - before)

        asyncio.run(main())
    """)

    assert told(process) == "waiting"
    process.terminate()

    assert ended(process) == "TERM 0\n"


def test_the_main_thread_takes_over_signals(start):
    """The first call in another thread is a clear error that leaves nothing behind; later any thread may call."""
    process = start("""
        import threading

        def ask():
            try:
                print(worker.drain().is_set())
            except RuntimeError as error:
                print(error)

        def in_thread():
            thread = threading.Thread(target=ask)
            thread.start()
            thread.join()

        before = os.listdir("/proc/self/fd")
        in_thread()
        print(os.listdir("/proc/self/fd") == before)
        worker.drain()
        in_thread()
    """)

    first, nothing_left, later = ended(process).splitlines()
    assert first.startswith("the first call of worker.drain() takes over signals, which only the main thread can")
    assert (nothing_left, later) == ("True", "False")


def test_a_forked_child_starts_afresh(start):
    """A child forked from a worker shares nothing with it: TERM ends the child, and does not drain its parent."""
    process = start("""
        drain = worker.drain()
        link = f"/proc/self/fd/{drain.fileno()}"
        child = os.fork()
        if child == 0:
            print("closed" if not os.path.lexists(link) else "open")
            for use in (drain.is_set, drain.wait, drain.fileno):
                try:
                    use()
                except RuntimeError as error:
                    print(error, flush=True)
            print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)
            signal.pause()
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), drain.is_set(), flush=True)
        print(drain.wait())
    """)
    lines = sorted(told(process) for _ in range(6))
    child = int(lines[0])
    assert lines[1] == "True"
    assert lines[2] == "closed"
    assert lines[3:] == ["this Drain is of the process that forked this one; call worker.drain() here again"] * 3

    os.kill(child, signal.SIGTERM)
    assert told(process) == "-15 False"
    process.terminate()
    assert ended(process) == "True\n"


def test_a_forked_child_has_a_drain_of_its_own(start):
    """A child forked from a worker that is draining, and that asks for a Drain, has one of its own, not set yet."""
    process = start("""
        drain = worker.drain()
        signal.raise_signal(signal.SIGINT)
        child = os.fork()
        mine = worker.drain()
        if child == 0:
            print(mine is drain, mine.is_set(), flush=True)
            signal.raise_signal(signal.SIGTERM)
            print(mine.wait(), mine.reason, flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(mine is drain, mine.reason)
    """)

    assert ended(process) == "False False\nTrue TERM\nTrue INT\n"


# -------------------------------------------------------------------------------------------------- follow_parent


MASTER = """
import os, subprocess, sys
read, write = os.pipe()
stdin = os.memfd_create("context")
os.write(stdin, b'{"Web":{"key":1}}\\n')
os.lseek(stdin, 0, os.SEEK_SET)
worker = subprocess.Popen(
    [sys.executable, "-c", sys.argv[1]],
    stdin=stdin, stdout=write, stderr=write,
    env={**os.environ, "PREFORK": "worker", "RECONCILER_PARENT": str(os.getpid())},
)
os.close(write)
print(worker.pid, os.read(read, 1000).decode().strip(), flush=True)
worker.wait()
"""


@pytest.fixture
def orphan(start, tmp_path):
    """Start source as a worker of a master that is killed once it printed; its pid, and where it writes `report`."""
    report = tmp_path / "report"

    def orphan(source):
        source = f"{WEB}\nreport = open({str(report)!r}, 'w')\n{textwrap.dedent(source)}"
        master = start(f"import sys\nsys.argv = ['', {source!r}]\n{MASTER}")
        pid, _, line = told(master).partition(" ")
        assert line == "up"
        master.kill()
        master.wait(PATIENCE)
        return int(pid), report

    return orphan


def test_a_worker_ends_with_its_master(orphan):
    """When the master is killed, a worker that only took its context ends by TERM."""
    pid, report = orphan("worker.context(Web); print('up'); signal.pause(); report.write('outlived'); report.flush()")

    dead(pid)
    assert report.read_text() == ""


def test_a_draining_worker_outlives_its_master(orphan):
    """When the master is killed, the drain says so, and what the worker still prints is no error and no wait."""
    pid, report = orphan("""
        worker.context(Web)
        drain = worker.drain()
        print("up")
        drain.wait()
        for stream in (sys.stdout, sys.stderr):
            for _ in range(100):
                print("x" * 10_000, file=stream, flush=True)
        os.system("echo from a child || exit 1")
        report.write(f"{drain.reason} and done")
        report.flush()
    """)

    dead(pid)
    assert report.read_text() == "ParentDied and done"


def test_a_worker_that_outlives_its_master_keeps_its_files(start, tmp_path):
    """When the master dies, output that goes to a file still goes there."""
    kept = tmp_path / "out"
    process = start(f"""
        read, write = os.pipe()
        if os.fork() == 0:
            out = os.open({str(kept)!r}, os.O_WRONLY | os.O_CREAT)
            os.dup2(out, 1)
            os.close(2)
            worker.follow_parent()
            drain = worker.drain()
            os.write(write, str(os.getpid()).encode())
            drain.wait()
            os.write(1, drain.reason.encode())
            os._exit(0)
        os.write(1, os.read(read, 100) + b"\\n")
        signal.raise_signal(signal.SIGKILL)
    """)

    pid = int(told(process))
    with contextlib.suppress(ProcessLookupError):
        dead(pid)
    assert kept.read_text() == "ParentDied"


@pytest.mark.parametrize("drained", [False, True])
def test_a_parent_that_died_already(start, drained):
    """A worker whose parent died before it could ask to be told gets its TERM at once."""
    process = start(
        f"""
        drain = worker.drain() if {drained} else None
        worker.follow_parent({os.getppid()})
        os._exit(7 if drain.reason == "ParentDied" else 1)
        """
    )

    ended(process, 7 if drained else -signal.SIGTERM)


def test_a_living_parent_is_left_in_peace(start):
    """A worker that follows a parent that lives goes on, and a TERM of anybody's is a TERM."""
    process = start(
        f"""
        drain = worker.drain()
        worker.follow_parent({os.getpid()})
        print("up", flush=True)
        print(drain.wait(), drain.reason)
        """
    )

    assert told(process) == "up"
    process.terminate()
    assert ended(process) == "True TERM\n"


# ---------------------------------------------------------------------------------------------------- connections


SERVE = """
connections = worker.connections(worker.context(Listening).listener)
print("up")
for connection, address in connections:
    with connection:
        assert connection.gettimeout() is None
        while data := connection.recv(100):
            connection.sendall(b"%d %s" % (os.getpid(), data))
print(worker.drain().reason)
"""


def talk(listener):
    """Talk to one worker over a connection of its own; its pid."""
    with socket.create_connection(listener.getsockname(), PATIENCE) as connection:
        connection.sendall(b"hello")
        pid, word = connection.recv(100).split()
        assert word == b"hello"
        return int(pid)


@pytest.mark.parametrize("blocking", [True, False])
def test_workers_share_a_listener(work, blocking):
    """Several workers serve one listener, whichever way it was set; TERM ends each, busy or idle."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(blocking)
        line = f'{{"Listening":{{"listener":{listener.fileno()}}}}}'
        workers = [work(SERVE, line, pass_fds=[listener.fileno()]) for _ in range(3)]
        for process in workers:
            assert told(process) == "up"

        assert {talk(listener) for _ in range(100)} <= {process.pid for process in workers}

        for left in (2, 1, 0):
            workers[left].terminate()
            assert ended(workers[left]) == "TERM\n"
            assert {talk(listener) for _ in range(20 * left)} <= {process.pid for process in workers[:left]}


def test_a_connection_that_is_held_is_finished(work):
    """A worker that is asked to stop finishes the connection that it has, and takes no other."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        line = f'{{"Listening":{{"listener":{listener.fileno()}}}}}'
        process = work(SERVE, line, pass_fds=[listener.fileno()])
        assert told(process) == "up"
        with socket.create_connection(listener.getsockname(), PATIENCE) as connection:
            connection.sendall(b"one")
            assert connection.recv(100) == b"%d one" % process.pid
            with socket.create_connection(listener.getsockname(), PATIENCE) as waiting:
                process.terminate()
                connection.sendall(b"two")
                assert connection.recv(100) == b"%d two" % process.pid
                assert alive(process.pid)
                connection.shutdown(socket.SHUT_WR)

                assert ended(process) == "TERM\n"

                waiting.sendall(b"three")
                successor = work(SERVE, line, pass_fds=[listener.fileno()])
                assert waiting.recv(100) == b"%d three" % successor.pid


def test_a_unix_listener_serves_too(work, tmp_path):
    """A listener of any kind serves."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        process = work(SERVE, f'{{"Listening":{{"listener":{listener.fileno()}}}}}', pass_fds=[listener.fileno()])
        client.connect(str(tmp_path / "socket"))
        client.sendall(b"hello")

        assert client.recv(100) == b"%d hello" % process.pid


def test_no_descriptor_left():
    """With no descriptor left for a connection it waits, and is served when one is free again."""
    run_script("""
        import os, resource, signal, socket
        from reconciler import worker

        listener = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(listener.getsockname())
        incoming = worker.connections(listener)
        spare = os.dup(0)
        resource.setrlimit(resource.RLIMIT_NOFILE, (spare + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        released = []

        def release(*_):
            os.close(spare)
            released.append(spare)

        signal.signal(signal.SIGALRM, release)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        connection, address = next(incoming)
        assert released == [connection.fileno()]
        assert address == client.getsockname()
    """)


def test_a_listener_that_is_none():
    """A listener that is closed, or does not listen, is an error and no endless work."""
    run_script(f"""
        import socket
        from reconciler import worker

        with socket.socket() as listener:
            try:
                next(worker.connections(listener))
            except OSError as error:
                assert error.errno == {errno.EINVAL}
            else:
                raise SystemExit("accepted")
        try:
            worker.connections(listener)
        except OSError as error:
            assert error.errno == {errno.EBADF}
        else:
            raise SystemExit("accepted")
    """)


# ---------------------------------------------------------------------------------------------------------- ready


@pytest.mark.parametrize("address", ["path", "abstract"])
def test_ready_is_told(start, tmp_path, address):
    """The word reaches the socket that the environment names, be it a path or an abstract name."""
    name = str(tmp_path / "notify") if address == "path" else f"@{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as master:
        master.bind(name.replace("@", "\0"))
        master.settimeout(PATIENCE)
        process = start("print(worker.ready())", env={"NOTIFY_SOCKET": name})

        assert master.recv(100) == b"READY=1"
        assert ended(process) == "True\n"


@pytest.mark.parametrize("name", ["", "/nowhere/at/all", "@nobody-has-this-name"])
def test_nobody_to_be_told(start, name):
    """Where there is no such socket, the worker is told that, and goes on."""
    assert ended(start("print(worker.ready())", env={"NOTIFY_SOCKET": name})) == "False\n"


# --------------------------------------------------------------------------------------------------------- import


def test_importing_it_costs_nothing():
    """Importing it loads no library, nor what is slow to load of the standard library's."""
    loaded = run_script("""
        import contextlib, enum, sys, typing  # which load each other, or not, by the version of Python
        before = set(sys.modules)
        import reconciler.worker
        print(*sorted({name.split(".")[0] for name in set(sys.modules) - before}))
    """).stdout.split()

    assert "reconciler" in loaded
    assert set(loaded) <= {"reconciler", "errno", "select", "_weakrefset", "weakref", "signal", "stat"}


def test_following_loads_ctypes_alone():
    """What asks the kernel is loaded by those only who follow a parent."""
    source = Path(ROOT / "reconciler" / "worker.py").read_text()

    assert source.count("import ctypes") == 1
    assert "    import ctypes" in source
