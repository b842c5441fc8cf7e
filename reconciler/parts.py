"""What the arguments of a controller stand for: its source, its driver, and where the output of workers goes.

Rule: what is not used is not imported.
"""

from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Protocol, cast

from reconciler.core.event import Event
from reconciler.core.spec import Output, OutputMode, Policy
from reconciler.drivers import Driver
from reconciler.sources import Source

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reconciler.engine import Engine


class OutputRoom(Protocol):
    """Where the output of workers goes by way of this process."""

    def fileno(self) -> int:
        """Readable when there is something to pass on."""

    def pump(self) -> "Sequence[Event]":
        """Pass it on, without waiting; the events to tell."""

    def close(self) -> "Sequence[Event]":
        """Pass on what is left."""


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
        return {*engine.sourced, *rejected()} if engine.readings else None

    driver.output = Capture(directory, settings, mode, names)
