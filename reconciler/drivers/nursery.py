"""What the functions that make workers need to know of the driver that asked for one.

Rule: a process that they made is written down before anybody else hears of it, so that none is lost, whatever the
user's code does next. Outside of a driver's asking they work too, and then the new process has the output of this one.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Literal, Protocol

import attrs

PRIVATE = (
    "NOTIFY_SOCKET",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "RECONCILER_STATE_DIR",
)
"""The environment by which a service manager or a user speaks to the controller, and which means that one alone."""


class Output(Protocol):
    """Where the output of workers goes."""

    def pipe(self, stream: Literal[1, 2]) -> int:
        """The write end of a new pipe for a worker's stdout or stderr, to be closed once the worker has it."""


@attrs.frozen
class Nursery:
    """What a new worker is given, and the pids of those that were `born` here.

    `names` are added to its environment, and `notify` gives the address at which it can say that it is ready. Without
    an `output` it shares the controller's own.
    """

    output: Output | None = None
    names: Mapping[str, str] = MappingProxyType({})
    notify: Callable[[], str] | None = None
    born: list[int] = attrs.Factory(list)
    _process: int = attrs.field(factory=os.getpid, init=False)

    def environment(self, inherited: Mapping[str, str]) -> dict[str, str]:
        """The environment of a worker. Raises OSError where no descriptors are left to listen to it."""
        environment = {name: value for name, value in inherited.items() if name not in PRIVATE}
        environment |= self.names
        if self.notify is not None:
            environment["NOTIFY_SOCKET"] = self.notify()
        return environment

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have the functions that make workers use this one."""
        before = _current.set(self)
        try:
            yield
        finally:
            _current.reset(before)

    @contextmanager
    def output_pipes(self) -> Iterator[tuple[int | None, int | None]]:
        """Write ends for a worker's stdout and stderr, closed here afterwards; None for those that are shared."""
        if self.output is None:
            yield None, None
            return
        out = self.output.pipe(1)
        try:
            err = self.output.pipe(2)
            try:
                yield out, err
            finally:
                os.close(err)
        finally:
            os.close(out)


def current() -> Nursery:
    """That of the driver which asks just now, or one that gives nothing."""
    nursery = _current.get()
    # In a forked child the one that it came from is of no use.
    return nursery if nursery is not None and nursery._process == os.getpid() else Nursery()  # noqa: SLF001


_current: ContextVar[Nursery | None] = ContextVar("nursery", default=None)
