"""How workers serve: the sockets that they are given, how they tell that they can serve, and how they are asked.

Rule: a socket, `notify`, `fd` and the watchdog are part of how a process is started, so that a change of them needs a
new one; probes are asked from outside, and a change of them needs none. The names, numbers and meanings of probes are
those of Kubernetes, those of sockets and notices those of systemd.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import attrs

from reconciler.core import template
from reconciler.core.address import UNIX, parsed
from reconciler.core.setting import Duration, FileMode, Name, setting

SocketType = Literal["stream", "datagram"]
ProbeKind = Literal["startup", "readiness", "liveness"]

FIRST_FD = 3
"""The descriptor at which a worker finds the first of its sockets, as systemd has it."""

_SAMPLE = {"name": "web", "index": "1", "key": "web-1"}


@attrs.frozen(kw_only=True)
class Socket:
    """A listening socket, made once by the controller and kept while workers come and go.

    Sets that name the same socket with the same address share it. A worker finds its sockets from descriptor 3 on, in
    the order of its file, by `LISTEN_FDS`, `LISTEN_FDNAMES` and `LISTEN_PID`, or as {fd:NAME} and {port:NAME}.
    """

    name: Name = attrs.field(
        metadata={"doc": "What the socket is called: in `LISTEN_FDNAMES`, {fd:NAME}, {port:NAME}."}
    )
    address: str = setting(
        "",
        'Where it listens: "host:port", "[v6]:port", "port" on all IPv4 interfaces, or "unix:/path". Port 0 takes one '
        "that is free. May be left out for a socket that the controller itself was given (socket activation).",
    )
    type: SocketType = setting("stream", "TCP and the like, or UDP and the like.")
    backlog: int = setting(2048, "How many connections may wait to be accepted.", minimum=1, maximum=65535)
    mode: FileMode | None = setting(None, 'The permissions of a Unix socket, in octal, like "0660".')
    user: str | None = setting(None, "Who owns a Unix socket: a name or a number.")
    group: str | None = setting(None, "The group of a Unix socket: a name or a number.")
    reuse_port: bool = setting(False, "Let other processes listen there too (SO_REUSEPORT).")  # noqa: FBT003
    ipv6_only: bool = setting(True, "Take no IPv4 connections on an IPv6 address.")  # noqa: FBT003
    per_worker: bool = setting(
        False,  # noqa: FBT003
        "A socket of its own for each worker, kept over its restarts; {index} may stand in the address.",
    )

    def __attrs_post_init__(self) -> None:
        if self.address and (problem := _address_problem(self.address)):
            raise ValueError(problem)
        is_unix = self.address.startswith(UNIX)
        if not is_unix and (self.mode, self.user, self.group) != (None, None, None):
            raise ValueError(f"mode, user and group are for Unix sockets, and {self.address!r} is none; leave them out")
        if not self.per_worker and template.has_placeholder(self.address):
            raise ValueError(f"{self.address!r} has a placeholder, for which per_worker = true is needed")
        if self.per_worker and not template.has_placeholder(self.address) and not self.is_shareable:
            raise ValueError(
                f"each worker is to have its own socket at {self.address!r}; put {{index}} into it, or use port 0"
            )

    @property
    def is_shareable(self) -> bool:
        """Whether several sockets can be made for this very address."""
        return self.reuse_port or self.takes_any_port

    @property
    def takes_any_port(self) -> bool:
        """Whether it gets a port that is free, another one each time that it is made."""
        return self.address == "0" or (self.address.endswith(":0") and not self.address.startswith(UNIX))


def _address_problem(address: str) -> str | None:
    """What is wrong with where a socket is to listen, or None."""
    if problem := template.problem(address):
        return problem
    if any(template.sockets(address)):
        return f"{address!r}: only {{name}}, {{index}} and {{key}} may stand in the address of a socket"
    where = parsed(template.render(address, _SAMPLE))
    if address.startswith(UNIX):
        is_there = where is not None and where.path.startswith("/")
        return (
            None if is_there else f"{address!r} has no absolute path of a file; write one such as unix:/run/name.sock"
        )
    if where is None or not (where.is_numeric or where.is_local or not where.host):
        return (
            f"{address!r} is no address to listen on; write host:port with the number of a host (or localhost) and a "
            "port from 0 to 65535, [::1]:port for IPv6, a port alone for all IPv4 interfaces, or unix:/path"
        )
    return None


@attrs.frozen(kw_only=True)
class Ready:
    """How a worker tells that it can serve. Without this, and without a readiness or startup probe, it can as soon as
    it runs.
    """

    notify: bool = setting(False, "It sends `READY=1` to NOTIFY_SOCKET, as for systemd.")  # noqa: FBT003
    fd: int | None = setting(None, "It writes a newline to this descriptor, as for s6.", minimum=3, maximum=255)
    timeout: Duration = setting(
        90.0,
        "How long it may take until it tells; then it is stopped, which counts as a failure. 0 means for ever.",
        minimum=0,
    )

    def __attrs_post_init__(self) -> None:
        if self.notify and self.fd is not None:
            raise ValueError("notify and fd are two ways to tell one thing; choose one")

    @property
    def is_told(self) -> bool:
        """Whether the worker itself tells it."""
        return self.notify or self.fd is not None


@attrs.frozen(kw_only=True)
class HttpCheck:
    """A GET request, and what answer is a success."""

    address: str = attrs.field(metadata={"doc": 'Where to ask: "host:port", "[v6]:port" or "unix:/path".'})
    path: str = setting("/", "What to ask for.")
    status: tuple[int, ...] = attrs.field(
        default=(),
        metadata={
            "doc": "The statuses that are a success; without any, 200 to 399.",
            "item_minimum": 100,
            "item_maximum": 599,
        },
    )
    headers: Mapping[str, str] = setting(MappingProxyType({}), "Added to the request.")

    def __attrs_post_init__(self) -> None:
        for name, value in self.headers.items():
            if not name.isascii() or any(letter in name for letter in " :\r\n\t") or "\r" in value or "\n" in value:
                raise ValueError(f"{name!r} cannot be a header of a request, or not with this value")
        if not self.path.startswith("/") or any(letter.isspace() for letter in self.path):
            raise ValueError(f"path must begin with / and have no spaces; got {self.path!r}")


@attrs.frozen(kw_only=True)
class Probe:
    """A question that is asked of a worker again and again. One of `http`, `tcp`, `exec` and `file` says which.

    {name}, {index}, {key} and {port:NAME} may stand in its texts. One that takes longer than `timeout` has failed.
    """

    http: HttpCheck | None = setting(None, "It answers a request well.")
    tcp: str | None = setting(None, 'It takes a connection at "host:port", "[v6]:port" or "unix:/path".')
    exec: tuple[str, ...] | None = setting(
        None, "A command, run in the worker's directory and environment, ends with 0."
    )
    file: str | None = setting(None, "A file is there; the path is relative to the worker's directory.")
    initial_delay: Duration = setting(0.0, "How long after the worker's start it is first asked.", minimum=0)
    period: Duration = setting(10.0, "How often it is asked.", minimum=0.01)
    timeout: Duration = setting(1.0, "How long an answer may take.", minimum=0.01)
    success_threshold: int = setting(
        1, "How many successes in a row make it good after a failure.", minimum=1, maximum=1000
    )
    failure_threshold: int = setting(3, "How many failures in a row make it bad.", minimum=1, maximum=1000)

    def __attrs_post_init__(self) -> None:
        given = [way for way in (self.http, self.tcp, self.exec, self.file) if way is not None]
        if len(given) != 1:
            raise ValueError(f"a probe needs exactly one of http, tcp, exec and file; this one has {len(given)}")


@attrs.frozen(kw_only=True)
class Probes:
    """Three questions with three meanings. Until the startup probe was answered well, the others are not asked."""

    startup: Probe | None = setting(None, "Has it started? When this one is bad it is stopped, and counts as failed.")
    readiness: Probe | None = setting(None, "Can it serve now? When this one is bad it is not ready, and runs on.")
    liveness: Probe | None = setting(None, "Is it sane? When this one is bad it is stopped, and counts as failed.")

    def __attrs_post_init__(self) -> None:
        for kind, probe in (("startup", self.startup), ("liveness", self.liveness)):
            if probe is not None and probe.success_threshold != 1:
                raise ValueError(f"success_threshold must be 1 for a {kind} probe; one success is enough there")

    def of(self, kind: ProbeKind) -> Probe | None:
        """The probe of this kind."""
        probe: Probe | None = getattr(self, kind)
        return probe
