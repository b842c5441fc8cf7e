"""What a state directory adds to a controller: it is the only one, it remembers, and it can be asked and steered.

Rule: nothing here decides, and nothing here may end the controller. What is needed before the first worker starts is
done by `begin`; the socket is opened after that, so that no worker waits for it.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.core.event import Event
from reconciler.engine import Engine
from reconciler.publishing import Publisher
from reconciler.state.lock import Lock
from reconciler.state.place import prepare
from reconciler.steering.shell import Shell

if TYPE_CHECKING:
    from reconciler.control.server import Server
    from reconciler.steering.desk import Desk


class Service:
    """The state directory of one controller, which is its own from now on.

    Raises `state.lock.TakenError` where another controller has it, or the watched directory; `state.place.UnsafeError`
    where others could write to it; OSError where it cannot be had.
    """

    def __init__(self, directory: str, engine: Engine, events: Publisher, shell: Shell) -> None:
        self.directory = os.path.abspath(directory)  # noqa: PTH100  Path.absolute keeps "..", resolve follows links
        prepare(self.directory)
        self._locks = [Lock(self.directory)]
        watched = getattr(engine.source, "path", None)
        try:
            if isinstance(watched, str):
                self._locks.append(Lock(watched))
        except FileNotFoundError:
            pass  # it may come later; the state directory is locked for it
        except BaseException:
            self._locks[0].close()
            raise
        self._engine, self._events, self._shell = engine, events, shell
        self._desk: Desk | None = None
        self._server: Server | None = None
        if os.path.exists(f"{self.directory}/overrides.json"):  # noqa: PTH110
            self._desk = self._furnished()
        events.recent.listeners.append(self._note)

    def open(self) -> None:
        """Listen. Raises OSError."""
        self._desk = self._desk or self._furnished()
        from reconciler.control.address import open_listener  # noqa: PLC0415  not before the first workers run
        from reconciler.control.server import Server  # noqa: PLC0415  likewise
        from reconciler.steering.verbs import handler  # noqa: PLC0415  likewise

        self._server = Server(open_listener(self.directory), handler(self._desk), self._report)

    def fileno(self) -> int | None:
        """Readable when a client wants something."""
        return None if self._server is None else self._server.fileno()

    def pump(self) -> None:
        """Serve clients, a bounded amount at a time."""
        if self._server is not None:
            self._server.pump()

    def turned(self) -> bool:
        """After a turn: save what changed. Whether there is more to save, with the next one."""
        if self._desk is None:
            return False
        self._desk.save()
        return self._desk.record()

    def close(self) -> None:
        """Tell clients that it is over, and let another controller have the directory."""
        if self._server is not None:
            self._server.nudge()
            self._server.pump()
            self._server.close()
            self._server = None
            from reconciler.control.address import NAME  # noqa: PLC0415  loaded by now

            with suppress(OSError):  # the directory may be gone
                os.unlink(f"{self.directory}/{NAME}")  # noqa: PTH108
        for lock in self._locks:
            lock.close()

    def _note(self, events: Sequence[Event]) -> None:
        if self._desk is not None:
            self._desk.note(events)
        if self._server is not None:
            self._server.nudge()

    def _furnished(self) -> "Desk":
        from reconciler.steering.desk import Desk  # noqa: PLC0415  not before the first workers run, if it can be

        desk = Desk(self._engine, self._events, self.directory, self._shell)
        desk.load()
        return desk

    def _report(self, error: Exception) -> None:
        import traceback  # noqa: PLC0415  for faults only

        from reconciler.core import event  # noqa: PLC0415  likewise

        text = "".join(traceback.format_exception(error))[-2000:]
        message = f"{type(error).__name__}: {error}"
        self._events.tell([Event(event.CONTROLLER_ERROR, extra={"message": message, "traceback": text})])
