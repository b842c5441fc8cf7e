"""What the arguments of a controller stand for: its source, its driver, its sockets, and where the output of workers
goes.

Rule: what is not used is not imported.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol, cast

from reconciler.core.event import Event
from reconciler.core.spec import Output, OutputMode, Policy
from reconciler.drivers import Driver
from reconciler.sources import Source

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from reconciler.core.spec import Socket
    from reconciler.engine import Engine
    from reconciler.listeners import Handed, Listeners, Listening


class OutputRoom(Protocol):
    """Where the output of workers goes by way of this process."""

    def fileno(self) -> int:
        """Readable when there is something to pass on."""

    def pump(self) -> "Sequence[Event]":
        """Pass it on, without waiting; the events to tell."""

    def close(self) -> "Sequence[Event]":
        """Pass on what is left."""


class Shelf:
    """The listening sockets of a controller's workers; what makes them is loaded for the first one. `keep` is called
    after each turn, and looks only where something changed.
    """

    def __init__(self) -> None:
        self._listeners: Listeners | None = None
        self._kept: tuple[object, int] = (None, 0)

    def take(self, sockets: "Sequence[Socket]", values: "Mapping[str, str]") -> "Sequence[Handed]":
        """See `drivers.command.Sockets`."""
        if self._listeners is None:
            from reconciler.listeners import Listeners  # noqa: PLC0415  most controllers have no sockets

            self._listeners = Listeners()
        return self._listeners.take(sockets, values)

    def ports(self, sockets: "Sequence[Socket]", values: "Mapping[str, str]") -> "Mapping[str, str]":
        """See `drivers.command.Sockets`."""
        return {} if self._listeners is None else self._listeners.ports(sockets, values)

    def bound(self, sockets: "Sequence[Socket]", values: "Mapping[str, str]") -> "Mapping[str, Listening]":
        """Where each of these listens, by name; those that are not open are left out."""
        return {} if self._listeners is None else self._listeners.bound(sockets, values)

    def problems(self) -> "Mapping[Socket, str]":
        """The sockets that cannot be had now, each with the reason and the remedy."""
        return {} if self._listeners is None else self._listeners.problems()

    def keep(self, engine: "Engine") -> None:
        """Close what nobody names any more."""
        if self._listeners is None:
            return
        desired, dropped = self._kept
        if desired is not engine.desired or dropped != engine.actual.dropped:
            self._kept = (engine.desired, engine.actual.dropped)
            workers = ((worker.set_name, worker.spec) for worker in engine.actual.workers.values())
            self._listeners.keep(engine.desired.values(), workers)

    def close(self) -> None:
        """Close all."""
        if self._listeners is not None:
            self._listeners.close()


def shelf_of(driver: Driver) -> Shelf | None:
    """A new shelf for the workers of a driver that has none but can give them sockets."""
    given: Any = driver
    if getattr(given, "sockets", driver) is not None:
        return None
    shelf = given.sockets = Shelf()
    return shelf


def source_of(
    update: Callable[[], Any] | Source,
    key: Callable[[Any], Any] | None,
    policy: Policy | None,
    interval: float | None,
) -> Source:
    """A source, given as itself or as a function."""
    if hasattr(update, "read"):
        return cast("Source", update)
    from reconciler.sources.callback import CallbackSource  # noqa: PLC0415  not for a watched directory

    return CallbackSource(update, key, policy, interval)


def driver_of(fork: Callable[[Any], Any] | Driver | None) -> Driver:
    """A driver, given as itself or as a function; None for local commands."""
    if fork is None:
        from reconciler.drivers.command import CommandDriver  # noqa: PLC0415  not for a driver of the user's

        return CommandDriver()
    if hasattr(fork, "start"):
        return cast("Driver", fork)
    from reconciler.drivers.callback import CallbackDriver  # noqa: PLC0415  likewise
    from reconciler.output.relay import Relay  # noqa: PLC0415  likewise

    return CallbackDriver(fork, Relay())


def capture(engine: "Engine", directory: str, mode: OutputMode) -> None:
    """Let the driver's workers write to where their sets want it, `mode` being the default; files go into `directory`.

    A driver that has other ways keeps them. Raises OSError.
    """
    driver: Any = engine.driver
    if getattr(driver, "output", engine) is not None:
        return
    from reconciler.output.capture import Capture  # noqa: PLC0415  not where workers inherit our own

    def settings(set_name: str) -> Output:
        known = engine.actual.sets.get(set_name)
        return Output() if known is None else known.wanted.policy.output

    def names() -> Collection[str] | None:
        rejected = getattr(engine.source, "rejections", dict)
        lasting = (name for name, wanted in engine.sourced.items() if not wanted.runs)  # runs of earlier days are over
        return {*lasting, *rejected()} if engine.readings else None

    driver.output = Capture(directory, settings, mode, names)
