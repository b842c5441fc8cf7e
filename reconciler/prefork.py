"""The low-level interface of the Haskell library prefork, with its names, on this library's controller.

Rule: a thin face. The nine handlers of `Settings` say what happens; that workers are followed, reaped and, past their
deadline, killed is the controller's work, and there is no second loop and no second table of processes.

The master begins with `update_config`, then `on_start`, then a first HUP. HUP calls `update_config`, and with the
configuration that it gave `update_server`. TERM and INT call their handlers, wait for all workers, call `on_finish` and
end; QUIT calls its handler and goes on. After workers ended `cleanup_child` is called for each, and then, unless the
master is ending, `on_child_finished`. Until there is a configuration no handler is called.
"""

import sys
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from signal import SIGINT, SIGTERM
from typing import Any, Generic, TypeVar

import attrs

from reconciler.context import WorkerContext
from reconciler.controller import Controller
from reconciler.core import event
from reconciler.core.event import Event
from reconciler.core.spec import Policy, Restart
from reconciler.drivers.again import fork_worker_process
from reconciler.drivers.callback import CallbackDriver
from reconciler.drivers.forking import fork_worker
from reconciler.drivers.groups import signal_child
from reconciler.output import Relay
from reconciler.publishing import Publisher
from reconciler.worker import context

__all__ = [
    "PreforkResource",
    "RelaunchSettings",
    "Settings",
    "WorkerContext",
    "default_main",
    "default_settings",
    "empty_prefork_resource",
    "fork_worker",
    "fork_worker_process",
    "interrupt_children",
    "make_prefork_resource",
    "relaunch_settings",
    "run_settings",
    "terminate_children",
    "update_worker_set",
]

_Config = TypeVar("_Config")
_Worker = TypeVar("_Worker")


def terminate_children(_config: Any, pids: Sequence[int]) -> None:
    """Send TERM to each: what `on_terminate` does unless it is replaced."""
    for pid in pids:
        signal_child(pid, SIGTERM)


def interrupt_children(_config: Any, pids: Sequence[int]) -> None:
    """Send INT to each: what `on_interrupt` does unless it is replaced."""
    for pid in pids:
        signal_child(pid, SIGINT)


def _nothing(*_arguments: Any) -> None:
    """A handler that does nothing."""


@attrs.frozen(kw_only=True)
class Settings(Generic[_Config]):
    """The nine handlers, each of which does nothing unless it is given; but TERM and INT are passed on to the workers.

    `update_config` returns a configuration, or None for "no change". `update_server` starts workers by it, as by
    `fork_worker_process`, and returns their pids, as does `on_child_finished` for those that it starts. A handler of a
    signal is given the configuration and the pids of the workers that live. One that raises is told as an event.

    Of the `policy` the stop timeout matters: past it, a worker that was to end is killed.
    """

    on_terminate: Callable[[_Config, list[int]], Any] = terminate_children
    on_interrupt: Callable[[_Config, list[int]], Any] = interrupt_children
    on_quit: Callable[[_Config, list[int]], Any] = _nothing
    on_child_finished: Callable[[_Config], Iterable[int] | None] = _nothing
    on_start: Callable[[_Config], Any] = _nothing
    on_finish: Callable[[_Config], Any] = _nothing
    update_server: Callable[[_Config], Iterable[int] | None] = _nothing
    cleanup_child: Callable[[_Config, int], Any] = _nothing
    update_config: Callable[[], _Config | None] = _nothing
    policy: Policy = Policy()


default_settings: Settings[Any] = Settings()
"""The settings with no handler replaced; to be used as `attrs.evolve(default_settings, ...)` or as `Settings(...)`."""


@attrs.define(eq=False)
class PreforkResource(Generic[_Worker]):
    """The workers that are wanted, and those that live, by pid. The second is a view: the controller keeps it."""

    workers: list[_Worker] = attrs.Factory(list)
    processes: dict[int, _Worker] = attrs.Factory(dict)


def make_prefork_resource(workers: Iterable[_Worker]) -> PreforkResource[_Worker]:
    """A resource that wants these workers."""
    return PreforkResource(list(workers))


def empty_prefork_resource() -> PreforkResource[Any]:
    """A resource that wants nothing yet."""
    return PreforkResource()


def update_worker_set(resource: PreforkResource[_Worker], workers: Iterable[_Worker]) -> None:
    """Want these workers, and no others; to be called by `update`."""
    resource.workers = list(workers)


@attrs.frozen(kw_only=True)
class RelaunchSettings(Settings[_Config], Generic[_Config, _Worker]):
    """Settings whose workers are those that `resource` wants, each started by `fork`; see `relaunch_settings`."""

    resource: PreforkResource[_Worker]
    fork: Callable[[_Worker], Any]
    replace_all: bool = False


def relaunch_settings(
    resource: PreforkResource[_Worker],
    update: Callable[[PreforkResource[_Worker]], _Config | None],
    fork: Callable[[_Worker], Any],
    *,
    replace_all: bool = False,
    policy: Policy | None = None,
) -> RelaunchSettings[_Config, _Worker]:
    """Settings for the typical server: keep the workers running that `update` gave to `update_worker_set`.

    A worker's key is its attribute `key`, else the worker itself; one whose other fields have changed is replaced, and
    no other, unless `replace_all` asks for all of them at each HUP, as the Haskell library does.
    """
    return RelaunchSettings(
        update_config=lambda: update(resource),
        resource=resource,
        fork=fork,
        replace_all=replace_all,
        policy=policy or Policy(),
    )


def default_main(settings: Settings[Any], action: Callable[[Any], Any], context_type: Any = None) -> None:
    """One program in two roles: as a worker run `action` with its context and exit, else be the master.

    The context's type is `context_type`, or what `action` annotates its parameter with. The exit status is that of
    `sys.exit(action(worker))`. Raises TypeError if the type is known from neither.
    """
    worker = context(_context_type(action) if context_type is None else context_type)
    if worker is not None:
        sys.exit(action(worker))
    run_settings(settings)


def run_settings(settings: Settings[Any]) -> None:
    """Be the master until TERM or INT has ended all workers."""
    master = _Relauncher(settings) if isinstance(settings, RelaunchSettings) else _Launcher(settings)
    master.run()


class _Master(ABC):
    """A controller that is led by handlers. What it keeps, and how that is started, is for its kinds to say."""

    def __init__(self, settings: Settings[Any], policy: Policy) -> None:
        self.settings = settings
        self.config: Any = None
        self.driver = CallbackDriver(self.fork, Relay())
        self.controller = Controller(self._update, self.driver, policy=policy)
        self.controller.publish = self._publish
        self.controller.hooks = {
            "HUP": self._hang_up,
            "TERM": lambda: self._end("TERM", settings.on_terminate, terminate_children),
            "INT": lambda: self._end("INT", settings.on_interrupt, interrupt_children),
            "QUIT": lambda: self.handle(settings.on_quit, self._living()),
        }
        self._events = Publisher()
        self._hung_up = True
        self._ending = False

    @abstractmethod
    def wanted(self, *, fresh: bool) -> Any:
        """What is to be kept; `fresh` says that there is a new configuration."""

    @abstractmethod
    def fork(self, worker: Any) -> Any:
        """Start one of those."""

    @abstractmethod
    def child_finished(self) -> None:
        """Some of them ended."""

    @abstractmethod
    def note(self, told: Event) -> None:
        """Hear of an event."""

    def handle(self, handler: Callable[..., Any], *arguments: Any) -> Any:
        """What a handler returns; None if it raised, or if there is no configuration yet."""
        return None if self.config is None else self._events.call(handler, self.config, *arguments)

    def run(self) -> None:
        """From the first configuration to the end."""
        self.config = self.settings.update_config()
        self.handle(self.settings.on_start)
        self.controller.run()
        self.handle(self.settings.on_finish)

    def _hang_up(self) -> None:
        self._hung_up = True

    def _end(self, name: str, handler: Callable[..., Any], usual: Callable[..., Any]) -> str:
        """The signal with which the controller is to end the workers: one that does nothing, if a handler ends them."""
        self._ending = True
        if handler is usual:
            return name
        self.handle(handler, self._living())
        return "CONT"

    def _living(self) -> list[int]:
        return [worker.pid for worker in self.controller.status().workers if worker.pid is not None]

    def _update(self) -> Any:
        fresh, self._hung_up = self._hung_up, False
        if fresh:
            config = self.settings.update_config()
            if config is None:
                return None
            self.config = config
        return self.wanted(fresh=fresh)

    def _publish(self, events: Sequence[Event]) -> None:
        self._events.tell(events)
        ended = False
        for told in events:
            self.note(told)
            if told.event == event.WORKER_EXITED and told.pid is not None:
                ended = True
                self.handle(self.settings.cleanup_child, told.pid)
        if ended and not self._ending:
            self.child_finished()


class _Launcher(_Master):
    """Keeps the processes that handlers started: follows each to its end, and starts none by itself."""

    def __init__(self, settings: Settings[Any]) -> None:
        super().__init__(settings, attrs.evolve(settings.policy, restart=Restart(policy="never")))
        self._pids: dict[int, int] = {}
        self._started = 0

    def wanted(self, *, fresh: bool) -> dict[int, int]:
        if fresh:
            self._start(self.settings.update_server)
        return dict(self._pids)

    def fork(self, worker: int) -> int:
        return next(pid for pid, started in self._pids.items() if started == worker)

    def child_finished(self) -> None:
        self._start(self.settings.on_child_finished)
        self.controller.reload()

    def note(self, told: Event) -> None:
        if told.event in (event.WORKER_EXITED, event.WORKER_START_FAILED):
            self._pids.pop(int(told.key or 0), None)

    def _start(self, handler: Callable[..., Any]) -> None:
        """Have a handler start processes; what it started and did not return, as it raised, is not lost either."""
        nursery = self.driver.nursery()
        with nursery.opened():
            pids = self.handle(handler)
        for pid in dict.fromkeys((*nursery.born, *(pids or ()))):
            self._started += 1
            self._pids[pid] = self._started


class _Relauncher(_Master):
    """Keeps the workers of a resource."""

    def __init__(self, settings: RelaunchSettings[Any, Any]) -> None:
        super().__init__(settings, settings.policy)
        self.controller.replace_all = settings.replace_all
        self._resource = settings.resource
        self._fork = settings.fork
        self._forked: dict[Any, Any] = {}

    def wanted(self, *, fresh: bool) -> list[Any]:  # noqa: ARG002  the controller finds out what differs
        return self._resource.workers

    def fork(self, worker: Any) -> Any:
        answer = self._fork(worker)
        self._forked[getattr(answer, "pid", answer)] = worker
        return answer

    def child_finished(self) -> None:
        self.handle(self.settings.on_child_finished)

    def note(self, told: Event) -> None:
        if told.event == event.WORKER_STARTED and told.pid is not None and told.pid in self._forked:
            self._resource.processes[told.pid] = self._forked.pop(told.pid)
        elif told.event == event.WORKER_EXITED and told.pid is not None:
            self._resource.processes.pop(told.pid, None)


def _context_type(action: Callable[..., Any]) -> Any:
    """What an action's parameter is annotated with. Raises TypeError where nothing says."""
    hints = {name: hint for name, hint in typing.get_type_hints(action).items() if name != "return"}
    if not hints:
        raise TypeError(
            "default_main: annotate the parameter of the action with the type of its worker, or give context_type"
        )
    return next(iter(hints.values()))
