"""The server of the control socket: who is let in, whose turn it is, and who has to go.

Rule: it never waits and never raises for what a client does. Each call does a bounded amount of work; clients take
turns, and where one stands still nothing is done for it until it moves.
"""

import errno
import os
import select
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress

from reconciler.control import wire
from reconciler.control.connection import Connection, Handler
from reconciler.control.wire import Refusal
from reconciler.hygiene import let_go_in_children

MOST_CLIENTS = 64

_BATCH = 16  # clients in one pump, and as many new ones; the descriptor stays readable if there are more
_CREDENTIALS = struct.Struct("iII")  # pid, uid, gid
_NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

_BUSY = Refusal("Busy", f"{MOST_CLIENTS} others are asking, or no descriptors are left", "ask again later")


def _tell(error: Exception) -> None:
    sys.excepthook(type(error), error, error.__traceback__)


class Server:
    """Serves the clients of a listening Unix socket, which it owns from now on.

    Each request is carried out by `handle`; an exception of that other than a Refusal goes to `report` (default: its
    traceback to stderr).

    Call `pump` whenever `fileno` is readable. In a forked child it is closed, and its clients are left to the parent.
    """

    def __init__(self, listener: socket.socket, handle: Handler, report: Callable[[Exception], None] = _tell) -> None:
        self._listener = listener
        self._handle = handle
        self._report = report
        self._clients: dict[int, Connection] = {}  # those that moved last are last
        self._waiting: set[Connection] = set()
        self._nudges = 0
        self._listens = True
        self._epoll = select.epoll()
        listener.settimeout(0)
        self._epoll.register(listener, select.EPOLLIN)
        # Given up to turn somebody away where no others are left.
        self._reserve: int | None = os.dup(listener.fileno())
        let_go_in_children(self, Server._let_go)

    def fileno(self) -> int:
        """Readable when there is something to do for a client."""
        return self._epoll.fileno()

    def pump(self) -> None:
        """Serve whoever moved, a bounded amount at a time. It never waits."""
        if self._epoll.closed:
            return
        knocked = False
        for fd, mask in self._epoll.poll(0, _BATCH):
            client = self._clients.get(fd)
            if client is None:
                knocked = True
            elif mask & (select.EPOLLHUP | select.EPOLLERR):
                self._drop(client)
            else:
                if mask & select.EPOLLIN:
                    client.receive()
                self._serve(client)
        if knocked:  # last, because a number from above may be given to another client here
            self._accept()

    def nudge(self) -> None:
        """Something changed: the answers that had nothing to say are asked again with the next pump."""
        self._nudges += 1
        if self._waiting:
            waiting, self._waiting = self._waiting, set()
            for client in waiting:
                client.waits = False
                self._watch(client)
        self._listen_again()

    def close(self) -> None:
        """Tell those whose answers go on that they end here, and close everything. Asked again it does nothing."""
        if self._epoll.closed:
            return
        for client in tuple(self._clients.values()):
            client.farewell()
            self._drop(client)
        self._let_go()

    def _serve(self, client: Connection) -> None:
        before = self._nudges
        client.work()
        if client.over:
            self._drop(client)
            return
        if client.waits:
            if self._nudges == before:
                self._waiting.add(client)
            else:
                client.waits = False  # what changed while it was asked may be what it looks for
        fd = client.peer.fileno()
        self._clients[fd] = self._clients.pop(fd)
        self._watch(client)

    def _watch(self, client: Connection) -> None:
        if (events := client.events) != client.watched:
            self._epoll.modify(client.peer, events)
            client.watched = events

    def _drop(self, client: Connection) -> None:
        del self._clients[client.peer.fileno()]
        self._waiting.discard(client)
        self._epoll.unregister(client.peer)  # closing is not enough where a forked process has it still
        client.close()
        self._listen_again()

    def _accept(self) -> None:
        for _ in range(_BATCH):
            try:
                peer, _ = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _NO_DESCRIPTOR and not self._turn_away_blindly():
                    return
            else:
                self._let_in(peer)

    def _let_in(self, peer: socket.socket) -> None:
        _, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
        if uid not in (0, os.geteuid()):
            _turn_away(peer, Refusal("Forbidden", f"user {uid} may not ask this controller", "ask as its user"))
            return
        if len(self._clients) >= MOST_CLIENTS and not self._make_room():
            _turn_away(peer, _BUSY)
            return
        client = Connection(peer, self._handle, self._report)
        self._clients[peer.fileno()] = client
        self._epoll.register(peer, 0)
        client.receive()  # most have asked already, and are answered before anybody can take their place
        self._serve(client)

    def _make_room(self) -> bool:
        """Hang up on the client that for longest neither asked nor read anything."""
        for client in self._clients.values():
            if client.dispensable:
                self._drop(client)
                return True
        return False

    def _turn_away_blindly(self) -> bool:
        """No descriptor is left: take the reserve to turn away whoever knocks, who would wake us all the time. Where
        even that fails, nobody is heard until a client has gone or something changed.
        """
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None
            with suppress(OSError):
                _turn_away(self._listener.accept()[0], _BUSY)
            with suppress(OSError):
                self._reserve = os.dup(self._listener.fileno())
        if self._reserve is None:
            self._listens = False
            self._epoll.modify(self._listener, 0)
        return self._listens

    def _listen_again(self) -> None:
        if self._listens:
            return
        with suppress(OSError):
            self._reserve = os.dup(self._listener.fileno())
            self._listens = True
            self._epoll.modify(self._listener, select.EPOLLIN)

    def _let_go(self) -> None:
        self._epoll.close()
        self._waiting.clear()
        self._listener.close()
        for client in self._clients.values():
            client.peer.close()
        if self._reserve is not None:
            os.close(self._reserve)
            self._reserve = None


def _turn_away(peer: socket.socket, refusal: Refusal) -> None:
    with suppress(OSError):
        peer.send(wire.error(b"null", refusal), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    peer.close()
