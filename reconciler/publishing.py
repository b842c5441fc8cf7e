"""Events on their way to whoever receives them, and what becomes of errors in the user's functions.

Rule: a receiver of the user's never ends the controller. One that fails is replaced by the log on stderr, and an error
of a function that was called for the user is an event like any other.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from reconciler.core import event
from reconciler.core.event import Event
from reconciler.recent import Recent

Publish = Callable[[Sequence[Event]], None]


class Publisher:
    """Keeps the recent events, and tells all to `receiver`; without one, to the user's structlog if that is configured,
    else to stderr.
    """

    def __init__(self) -> None:
        self.receiver: Publish | None = None
        self.recent = Recent()
        self._held: list[Event] | None = None

    def hold(self) -> None:
        """Keep the events until `release`: what tells them is not loaded before the first workers run."""
        self._held = []

    def release(self) -> None:
        """Tell what was kept."""
        held, self._held = self._held, None
        self.tell(held or ())

    def tell(self, events: Sequence[Event]) -> None:
        """Pass these on."""
        if self._held is not None:
            self._held += events
            return
        if not events:
            return
        self.recent.add(events)
        if self.receiver is None:
            from reconciler.log import default_log  # noqa: PLC0415  only where the user gave no other

            self.receiver = default_log()
        try:
            self.receiver(events)
        except Exception as error:  # noqa: BLE001  a receiver of the user's must not end the controller
            from reconciler.log import EventLog  # noqa: PLC0415  likewise

            self.receiver = EventLog()
            message = f"the receiver of events failed, they go to stderr from now on: {type(error).__name__}: {error}"
            with suppress(Exception):  # what cannot even be rendered is lost; the workers are not
                self.receiver([*events, Event(event.CONTROLLER_ERROR, extra={"message": message})])

    def report(self, error: BaseException) -> None:
        """Tell of an error that is just being handled."""
        import traceback  # noqa: PLC0415  only for faults

        message = traceback.format_exception_only(error)[-1].rstrip()  # it shows also what str() cannot
        extra = {"message": message, "traceback": traceback.format_exc()[-2000:]}
        self.tell([Event(event.CONTROLLER_ERROR, extra=extra)])

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """What a function of the user's returns; None if it raised, which is told."""
        try:
            return function(*arguments)
        except (Exception, SystemExit) as error:  # noqa: BLE001  it may raise whatever it likes
            self.report(error)
            return None
