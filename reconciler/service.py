"""What a state directory adds to a controller: it is the only one, it remembers, and it can be asked and steered.

Rule: nothing here decides, and nothing here may end the controller. What is needed before the first worker starts is
done by `begin`; the socket is opened after that, so that no worker waits for it.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from reconciler.control.address import NAME
from reconciler.core import event
from reconciler.core.event import Event
from reconciler.engine import Engine
from reconciler.publishing import Publisher
from reconciler.state.lock import Lock, TakenError
from reconciler.state.place import UnsafeError, prepare
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
        self._socket = f"{self.directory}/{NAME}"
        self._locks = [Lock(self.directory)]
        watched = getattr(engine.source, "path", None)
        try:
            if isinstance(watched, str):
                self._locks.append(Lock(watched))
        except OSError:
            pass  # it is missing, or may not be read: what that means is for the source to say
        except BaseException:
            self._locks[0].close()
            raise
        self._engine, self._events, self._shell = engine, events, shell
        self._desk: Desk | None = None
        self._server: Server | None = None
        self._opened = False
        self._pumping = False
        if any(os.path.exists(f"{self.directory}/{name}") for name in ("overrides.json", "memory.json")):  # noqa: PTH110
            self._desk = self._furnished()
            self._desk.load()
        events.recent.listeners.append(self._note)

    def open(self) -> None:
        """Listen. Where that cannot be, it is told, and the controller goes on without."""
        self._opened = True
        self._desk = self._desk or self._furnished()
        from reconciler.control.address import open_listener  # noqa: PLC0415  not before the first workers run
        from reconciler.control.server import Server  # noqa: PLC0415  likewise
        from reconciler.steering.verbs import handler  # noqa: PLC0415  likewise

        try:
            listener = open_listener(self.directory)
        except OSError as error:
            message = f"the control socket cannot be made: {error.strerror}; nobody can ask this controller"
            self._desk.problems.append(message)
            self._events.tell([Event(event.STATE_DEGRADED, reason="NotListening", extra={"message": message})])
        else:
            self._server = Server(listener, handler(self._desk), self._report)

    def fileno(self) -> int | None:
        """Readable when a client wants something."""
        return None if self._server is None else self._server.fileno()

    def pump(self) -> None:
        """Serve clients, a bounded amount at a time."""
        if self._server is not None:
            self._pumping = True
            self._server.pump()
            self._pumping = False

    def turned(self) -> bool:
        """After a turn: save what changed. Whether there is more to save, with the next one."""
        desk = self._desk
        if desk is None:
            return False
        desk.changes += 1
        try:
            if self._opened and not os.path.lexists(self._socket):
                if self._pumping:
                    return True  # a server cannot be closed by one of its own clients
                self._come_back(desk)
            desk.save()
            return desk.record()
        except Exception as error:  # noqa: BLE001  see the top of the file
            self._report(error)
            return False

    def _come_back(self, desk: "Desk") -> None:
        """Somebody deleted the directory: make it again, and be in it again. Where that fails it is tried again."""
        desk.lost("DirectoryGone", f"{self.directory} was deleted")
        if self._server is not None:
            self._server.close()
            self._server = None
        try:
            prepare(self.directory)
            self._locks[0].close()
            self._locks[0] = Lock(self.directory)
        except (OSError, TakenError, UnsafeError):
            return
        self.open()

    def close(self) -> None:
        """Tell clients that it is over, and let another controller have the directory."""
        if self._server is not None:
            self._server.nudge()
            self._server.pump()
            self._server.close()
            self._server = None
            with suppress(OSError):  # the directory may be gone
                os.unlink(self._socket)  # noqa: PTH108
        for lock in self._locks:
            lock.close()

    def _note(self, events: Sequence[Event]) -> None:
        if self._desk is not None:
            self._desk.note(events)
        if self._server is not None:
            self._server.nudge()

    def _furnished(self) -> "Desk":
        from reconciler.steering.desk import Desk  # noqa: PLC0415  not before the first workers run, if it can be

        return Desk(self._engine, self._events, self.directory, self._shell)

    def _report(self, error: Exception) -> None:
        import traceback  # noqa: PLC0415  for faults only

        text = "".join(traceback.format_exception(error))[-2000:]
        message = f"{type(error).__name__}: {error}"
        self._events.tell([Event(event.CONTROLLER_ERROR, extra={"message": message, "traceback": text})])
