"""The listening sockets of a controller: opened for the first worker that needs one, kept while any spec names it.

Rule: a socket outlives workers, edits and sets. It is known by its address, so that whoever asks for the same address
has the same socket, by whatever name; only one at port 0 is known by its name, and one `per_worker` by its worker too.
What the newest spec says of it otherwise is applied to the open socket, but `ipv6_only`, which counts when it is made.
Sockets that the controller was given by a service manager are known by their names alone, and are used as they are.

Nothing here waits: neither for a name server nor for a lock.
"""

import errno
import fcntl
import os
import socket
import stat
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from reconciler.core import template
from reconciler.core.address import UNIX
from reconciler.core.names import names_of
from reconciler.core.serving import FIRST_FD, Socket
from reconciler.core.spec import Command, WorkerSet, WorkerSpec
from reconciler.sockets import Bound, Options, bind


class Handed(NamedTuple):
    """A socket for a worker: what the worker calls it, our descriptor of it, and its port if it has one."""

    name: str
    fd: int
    port: int | None


class Listening(NamedTuple):
    """Where an open socket listens, as a spec would say it, and whether it was given to the controller as it is."""

    address: str
    given: bool


class _Identity(NamedTuple):
    """What tells two sockets apart; `name` and `key` are empty where they do not matter."""

    address: str
    type: str
    name: str
    key: str


class Listeners:
    """The registry of a controller's sockets. `environ` says what the controller itself was given, as by systemd."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._given = _given(environ)
        self._open: dict[_Identity, Bound] = {}
        self._problems: dict[Socket, str] = {}
        self._closing = weakref.finalize(self, _close_all, self._open, self._given)  # at exit too: paths are removed

    def take(self, sockets: Iterable[Socket], values: Mapping[str, str]) -> Sequence[Handed]:
        """The sockets of a worker that is about to start, in the order of its spec; what is not open yet is opened.

        `values` are the placeholders' ("name", "index", "key"). The descriptors are to be used at once, and not closed.
        OSError: one cannot be had; the text says which, why, and what to do.
        """
        return [self._take(one, values) for one in sockets]

    def ports(self, sockets: Iterable[Socket], values: Mapping[str, str]) -> Mapping[str, str]:
        """The value of "port:NAME" for each socket that has a port; "0" for one at port 0 that is not open. Opens
        nothing.
        """
        ports = {}
        for one in sockets:
            identity = _identity(one, values)
            listener = self._given.get(one.name)
            if listener is None and identity in self._open:
                listener = self._open[identity].listener
            if listener is not None:
                port = _port(listener)
                if port is not None:
                    ports[f"port:{one.name}"] = str(port)
            elif not one.address.startswith(UNIX):
                ports[f"port:{one.name}"] = identity.address.rpartition(":")[2] or "0"
        return ports

    def bound(self, sockets: Iterable[Socket], values: Mapping[str, str]) -> Mapping[str, Listening]:
        """Where each of these listens, by name; those that are not open are left out. Opens nothing."""
        found = {}
        for one in sockets:
            bound = self._open.get(_identity(one, values))
            if one.name in self._given:
                found[one.name] = Listening(_address(self._given[one.name]), given=True)
            elif bound is not None:
                address = _address(bound.listener) if bound.path is None else f"unix:{bound.path}"
                found[one.name] = Listening(address, given=False)
        return found

    def keep(self, sets: Iterable[WorkerSet], workers: Iterable[tuple[str, WorkerSpec]]) -> None:
        """Close what nobody names any more: neither what is desired, nor the workers that exist (by their set's names).

        Costs nothing while no socket was ever asked for. Else it looks at each worker, so that it should be called only
        after what is desired changed, or an incarnation of an outdated spec ended.
        """
        if not self._open and not self._problems:
            return
        named: set[Socket] = set()
        wanted: set[_Identity] = set()
        for one, values in _named(sets, workers):
            named.add(one)
            wanted.add(_identity(one, values))
        for identity in self._open.keys() - wanted:
            self._open.pop(identity).close()
        for gone in self._problems.keys() - named:
            del self._problems[gone]

    def problems(self) -> Mapping[Socket, str]:
        """The sockets that could not be had when they were last asked for, each with the reason and the remedy."""
        return self._problems

    def close(self) -> None:
        """Close all sockets that were made here, and remove the paths of Unix sockets. Workers keep what they have."""
        self._closing()

    def _take(self, one: Socket, values: Mapping[str, str]) -> Handed:
        try:
            listener = self._given_as(one) if one.name in self._given else self._opened(one, values)
        except OSError as error:
            text = error.strerror or str(error)
            if ";" not in text and (remedy := _REMEDIES.get(error.errno or 0)):
                text = f"{text}; {remedy}"
            self._problems[one] = text
            raise OSError(error.errno, text) from error
        except ValueError as error:
            self._problems[one] = str(error)
            raise OSError(errno.EINVAL, str(error)) from error
        self._problems.pop(one, None)
        return Handed(one.name, listener.fileno(), _port(listener))

    def _given_as(self, one: Socket) -> socket.socket:
        listener = self._given[one.name]
        if listener.type != _KINDS[one.type]:
            other = "datagram" if one.type == "stream" else "stream"
            raise ValueError(
                f"the socket {one.name} that this controller was given is of another type than {one.type}; write "
                f'type = "{other}", or change its unit (ListenStream=, ListenDatagram=)'
            )
        return listener

    def _opened(self, one: Socket, values: Mapping[str, str]) -> socket.socket:
        if not one.address:
            known = f"only {', '.join(self._given)}" if self._given else "none at all"
            raise ValueError(
                f"the socket {one.name} has no address, and this controller was given {known} (socket activation); "
                f"write an address, or FileDescriptorName={one.name} into the unit of the socket"
            )
        identity = _identity(one, values)
        options = _options(one)
        bound = self._open.get(identity)
        if bound is not None:
            try:
                if bound.adapt(options):
                    return bound.listener
            except OSError as error:
                raise OSError(error.errno, f"cannot listen on {identity.address!r}: {error.strerror}") from error
        try:
            made = bind(identity.address, options)
        except OSError as error:
            if error.errno == errno.EADDRINUSE and (text := self._is_ours(identity)):
                raise ValueError(text) from error
            raise
        if bound is not None:
            bound.close()
        self._open[identity] = made
        return made.listener

    def _is_ours(self, identity: _Identity) -> str:
        """What to say where an address is in use by this controller itself."""
        for other in self._open:
            if (other.address, other.type) == (identity.address, identity.type) and other != identity:
                owner = f"the worker {other.key}" if other.key else "all workers that name it"
                return (
                    f"cannot listen on {identity.address!r}: this controller has it open already, for {owner}; choose "
                    "another address, or set per_worker alike"
                )
        return ""


_KINDS = {"stream": socket.SOCK_STREAM, "datagram": socket.SOCK_DGRAM}

_REMEDIES = {
    errno.EADDRINUSE: "stop who listens there (`ss -lp` shows it), or choose another address",
    errno.EADDRNOTAVAIL: "no interface of this machine has that address; choose another one",
    errno.EAFNOSUPPORT: "this machine has no such addresses; choose another one",
    errno.EACCES: "ports below 1024 need the right to bind them (CAP_NET_BIND_SERVICE), a path a directory to write to",
    errno.EPERM: "only root may give a socket to another user",
    errno.ENOENT: "make its directory first",
    errno.EBUSY: "it is tried again",
}


def _identity(one: Socket, values: Mapping[str, str]) -> _Identity:
    return _Identity(
        template.render(one.address, values),
        one.type,
        one.name if one.takes_any_port or not one.address else "",
        values["key"] if one.per_worker and one.is_shareable else "",
    )


def is_shared(one: Socket, other: Socket) -> bool:
    """Whether these, of two sets, are one and the same socket."""
    if one.per_worker or other.per_worker:
        return False
    nobody = names_of("", "")
    return _identity(one, nobody) == _identity(other, nobody)


def _options(one: Socket) -> Options:
    """Raises ValueError for a user or a group that does not exist."""
    user = group = -1
    if one.user is not None or one.group is not None:
        user, group = _number("user", one.user), _number("group", one.group)
    return Options(
        kind=_KINDS[one.type],
        backlog=one.backlog,
        mode=None if one.mode is None else int(one.mode, 8),
        owner=(user, group),
        reuse_port=one.reuse_port,
        ipv6_only=one.ipv6_only,
        patient=False,
        named=True,
    )


def _number(what: str, name: str | None) -> int:
    """The number of a user or of a group; -1 for none."""
    if name is None:
        return -1
    if name.isascii() and name.isdecimal():
        return int(name)
    import grp  # noqa: PLC0415  few sockets have an owner
    import pwd  # noqa: PLC0415  likewise

    try:
        return pwd.getpwnam(name).pw_uid if what == "user" else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ValueError(f"{what} = {name!r}: this machine has no such {what}; make it, or give its number") from None


def _port(listener: socket.socket) -> int | None:
    if listener.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    port: int = listener.getsockname()[1]
    return port


def _address(listener: socket.socket) -> str:
    """Where it listens, as a spec would say it."""
    where = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return f"unix:{os.fsdecode(where)}"
    return f"[{where[0]}]:{where[1]}" if listener.family == socket.AF_INET6 else f"{where[0]}:{where[1]}"


def _named(
    sets: Iterable[WorkerSet], workers: Iterable[tuple[str, WorkerSpec]]
) -> Iterator[tuple[Socket, Mapping[str, str]]]:
    """Every socket that somebody names, those of a set without workers too."""
    nobody = names_of("", "")
    own: dict[int, tuple[Any, list[Socket]]] = {}  # of each command, which most workers of a set have in common

    def of(set_name: str, key: Any, payload: Any) -> Iterator[tuple[Socket, Mapping[str, str]]]:
        known = own.get(id(payload))
        if known is None:
            sockets = payload.sockets if isinstance(payload, Command) else ()
            known = own[id(payload)] = (payload, [one for one in sockets if one.per_worker])
            yield from ((one, nobody) for one in sockets if not one.per_worker)
        if known[1]:
            values = names_of(set_name, key)
            yield from ((one, values) for one in known[1])

    for wanted in sets:
        if wanted.template is not None:
            yield from ((one, nobody) for one in wanted.template.sockets if not one.per_worker)
            process = wanted.template.process if wanted.down else None
            for key in wanted.down:
                yield from of(wanted.name, key, process)
        for spec in wanted.workers.values():
            yield from of(wanted.name, spec.key, spec.payload)
    for set_name, spec in workers:
        yield from of(set_name, spec.key, spec.payload)


def _given(environ: Mapping[str, str]) -> dict[str, socket.socket]:
    """The sockets that a service manager gave this process, by name; of several of one name the first.

    They are duplicates: the originals stay where they are, and neither is inherited by anybody.
    """
    count = environ.get("LISTEN_FDS", "")
    if environ.get("LISTEN_PID") != str(os.getpid()) or not (count.isascii() and count.isdecimal()):
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    given: dict[str, socket.socket] = {}
    for fd in range(FIRST_FD, FIRST_FD + min(int(count), _MOST_GIVEN)):
        try:
            is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
            os.set_inheritable(fd, False)  # noqa: FBT003
            name = names[fd - FIRST_FD] if fd - FIRST_FD < len(names) else ""
            if is_socket and name and name not in given:
                given[name] = socket.socket(fileno=fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FD))
        except OSError:  # not there, whatever was promised
            continue
    return given


_MOST_GIVEN = 1024


def _close_all(made: dict[_Identity, Bound], given: dict[str, socket.socket]) -> None:
    for bound in made.values():
        bound.close()
    made.clear()
    for listener in given.values():
        listener.close()
    given.clear()
