"""`fork_worker`: a worker made by a true fork of this program, which shares with it all that is loaded.

Rule: a fork is safe or it is refused. Beside other threads it would copy locks that nobody will ever open, so it is not
made. In the child nothing is left of the controller: its descriptors are closed, its handlers and its loop are gone,
and every way out ends in `os._exit`.
"""

import contextlib
import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from reconciler.drivers.nursery import current
from reconciler.worker import follow_parent

_WORTH_FREEZING = 20_000
"""Objects. Below this number a collection in a child copies little, and freezing anew is not worth its time."""


def fork_worker(target: Callable[..., Any], *args: Any) -> int:
    """Fork, have the child call `target(*args)` and end, and return its pid. To be called in `fork(worker)`.

    What the target returns or raises decides the exit status as it would for `sys.exit(target(*args))`. The child leads
    a session of its own, has default signal handlers, /dev/null as its stdin, and is asked to end (TERM) if its parent
    dies. Memory that was filled before stays shared, for which the objects are frozen (see `gc.freeze`).

    Raises RuntimeError if this process has other threads, and OSError if it cannot fork.
    """
    _refuse_threads()
    import ctypes  # noqa: F401, PLC0415  what `follow_parent` needs: loaded once here, and not in every child

    nursery = current()
    environment = nursery.environment(os.environ)
    if len(gc.get_objects()) > _WORTH_FREEZING:
        gc.collect()
        gc.freeze()
    flush()
    parent = os.getpid()
    with nursery.output_pipes() as (stdout, stderr):
        # What comes before the child has its own handlers would be taken by ours.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _live(target, args, parent, (stdout, stderr), environment)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    nursery.born.append(pid)
    return pid


def default_signals() -> None:
    """Let go of handlers that came with a fork, and of the signals that were blocked for it."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def flush() -> None:
    """Empty the buffers of stdout and stderr, which a child would write again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # None, closed, broken, or full: not ours to mend
            stream.flush()


def exit_status(answer: Any) -> int:
    """The status that the interpreter ends with after `sys.exit(answer)`."""
    if answer is None:
        return 0
    if isinstance(answer, int):
        return answer & 0xFF
    with contextlib.suppress(Exception):
        print(answer, file=sys.stderr)  # noqa: T201
    return 1


def _refuse_threads() -> None:
    """Raise RuntimeError where a fork would copy a process in which more than this thread is at work."""
    others = len(os.listdir("/proc/self/task")) - 1  # noqa: PTH208
    if not others:
        return
    threading = sys.modules.get("threading")
    names = [one.name for one in threading.enumerate() if one is not threading.current_thread()] if threading else []
    named = f" ({', '.join(names)})" if names else " (of a library that is not written in Python)"
    raise RuntimeError(
        f"fork_worker: this process has {others} other thread{'s' * (others > 1)}{named}, and a fork beside threads "
        "can hang; start them in the worker, or use fork_worker_process"
    )


def _live(
    target: Callable[..., Any],
    args: tuple[Any, ...],
    parent: int,
    output: tuple[int | None, int | None],
    environment: Mapping[str, str],
) -> NoReturn:
    """The child's whole life."""
    status = 1
    try:
        default_signals()
        _furnish(output, environment)
        follow_parent(parent)
        status = exit_status(target(*args))
    except SystemExit as end:
        status = exit_status(end.code)
    except BaseException as error:  # noqa: BLE001  whatever it is, this process ends here
        with contextlib.suppress(BaseException):
            sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with contextlib.suppress(BaseException):
            _finish()
        os._exit(status)


def _furnish(output: tuple[int | None, int | None], environment: Mapping[str, str]) -> None:
    """Give the child what is its own: a session, input, output, environment, and no event loop."""
    with contextlib.suppress(OSError):  # it leads one already
        os.setsid()
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)
    for number, stream in enumerate((sys.stdout, sys.stderr), 1):
        source = output[number - 1]
        if source is not None:
            os.dup2(source, number)
            os.close(source)
        with contextlib.suppress(Exception):  # None, or something of the user's
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    os.environ.clear()
    os.environ.update(environment)
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None:
        asyncio._set_running_loop(None)  # noqa: SLF001
        asyncio.set_event_loop(None)


def _finish() -> None:
    """What the interpreter does at its end, but for the exit handlers: those are the parent's."""
    threading = sys.modules.get("threading")
    if threading is not None:
        threading._shutdown()  # noqa: SLF001  waits for threads that are no daemons; multiprocessing does the same
    flush()
