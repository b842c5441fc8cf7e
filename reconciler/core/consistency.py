"""What the settings of a spec must not say together, though each is good by itself.

Rule: every problem is told, each at its place in the file and with the remedy. What needs to know other files, the
clock or the machine is not for here.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from reconciler.core import address, template
from reconciler.core.serving import FIRST_FD, Probe

Spec = Any
"""A `SetSpec`, whose module needs this one."""

MOST_SOCKETS = 32
"""How many sockets a set may have."""

Problem = tuple[str, str]
"""Where in the file, and what is wrong with the remedy."""


class InconsistentError(ValueError):
    """A spec whose settings do not go together: `problems` are pairs of the path in the file and the message."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(f"{path}: {message}" if path else message for path, message in self.problems))


def check(spec: Spec) -> None:
    """Raises `InconsistentError` with all that is wrong with a spec as a whole."""
    if found := tuple(problems(spec)):
        raise InconsistentError(found)


def problems(spec: Spec) -> Iterator[Problem]:
    """What is wrong with a spec as a whole."""
    if spec.sockets:
        yield from _of_sockets(spec)
    yield from _of_placeholders(spec)
    yield from _of_probes(spec)
    yield from _of_jobs(spec)
    yield from _of_dependencies(spec)
    backoff = spec.restart.backoff
    if backoff.initial > backoff.max:
        yield (
            "restart.backoff",
            f"initial, {backoff.initial:g} s, is above max, {backoff.max:g} s; lower it, or raise max",
        )
    if spec.watch.paths and template.has_placeholder(spec.cwd) and not all(map(_is_absolute, spec.watch.paths)):
        yield "watch.paths", "patterns are relative to `cwd`, which has a placeholder here; begin them with /"


def texts_of(probe: Probe) -> Iterator[str]:
    """The texts of a probe that may have placeholders."""
    if probe.http is not None:
        yield from (probe.http.address, probe.http.path, *probe.http.headers.values())
    yield from probe.exec or ()
    yield from (text for text in (probe.tcp, probe.file) if text is not None)


def _is_absolute(pattern: str) -> bool:
    return pattern.startswith("/")


# ---------------------------------------------------------------------------------------------------------- sockets


def _of_sockets(spec: Spec) -> Iterator[Problem]:
    if len(spec.sockets) > MOST_SOCKETS:
        yield "sockets", f"there are {len(spec.sockets)}; at most {MOST_SOCKETS} can be given to a worker"
    names: dict[str, int] = {}
    places: dict[str, int] = {}
    for at, socket in enumerate(spec.sockets):
        first = names.setdefault(socket.name, at)
        if first != at:
            yield f"sockets[{at}].name", f"sockets[{first}] is called {socket.name} as well; rename one of them"
        if socket.address:
            first = at if socket.is_shareable else places.setdefault(socket.address, at)
            if first != at:
                yield f"sockets[{at}].address", f"sockets[{first}] listens there as well; take one of them out"
    after = FIRST_FD + len(spec.sockets)
    if spec.ready.fd is not None and spec.ready.fd < after:
        yield "ready.fd", f"{spec.ready.fd} is the descriptor of a socket; choose one from {after} on"


def _of_address(path: str, text: str, spec: Spec) -> Iterator[Problem]:
    """What is wrong with where the first worker is asked; how many there are may change by itself."""
    if template.problem(text) is None and (wrong := address.problem(filled := _filled(text, spec))):
        seen = f"{text!r}" if filled == text else f"{text!r} (here {filled!r})"
        yield path, f"{seen}: {wrong}"


def _filled(text: str, spec: Spec) -> str:
    """`text` with values for its placeholders: what is not known yet is a digit."""
    name = spec.name or "1"
    values = {"name": name, "index": "0", "key": f"{name}-0"}
    return template.render(text, values | {f"{word}:{socket}": "1" for word, socket in template.sockets(text)})


# ----------------------------------------------------------------------------------------------------- placeholders


def _of_placeholders(spec: Spec) -> Iterator[Problem]:
    sockets = {socket.name: socket for socket in spec.sockets}
    for path, text in (*_inside(spec), *_outside(spec)):
        for asked, name in template.sockets(text) if ":" in text and "{" in text else ():
            if name not in sockets:
                known = f"known are {', '.join(sockets)}" if sockets else "there is none; add it to [[sockets]]"
                yield path, f"{{{asked}:{name}}} names no socket of this spec; {known}"
            elif asked == "port" and sockets[name].address.startswith(address.UNIX):
                yield path, f"{{port:{name}}}: {sockets[name].address} has no port; use {{fd:{name}}}, or the path"
    for path, text in _outside(spec):
        for asked, name in template.sockets(text) if "{fd:" in text else ():
            if asked == "fd":
                yield path, f"{{fd:{name}}} is known inside the worker only; use it in `command` or `env`"


def _inside(spec: Spec) -> Iterator[tuple[str, str]]:
    """The texts that a worker itself is given, each with its place."""
    yield from ((f"command[{at}]", text) for at, text in enumerate(spec.command))
    yield from ((f"env.{name}" if name.isidentifier() else f"env[{name!r}]", text) for name, text in spec.env.items())


def _outside(spec: Spec) -> Iterator[tuple[str, str]]:
    """The texts that others use for a worker."""
    yield "cwd", spec.cwd
    for path, probe in _probes(spec):
        yield from ((path, text) for text in texts_of(probe))
    if spec.stop.drain is not None:
        yield from ((f"stop.drain.command[{at}]", text) for at, text in enumerate(spec.stop.drain.command))


# ----------------------------------------------------------------------------------------------------- all the rest


def _probes(spec: Spec) -> Iterator[tuple[str, Probe]]:
    asked = spec.probes
    for kind, probe in (("startup", asked.startup), ("readiness", asked.readiness), ("liveness", asked.liveness)):
        if probe is not None:
            yield f"probes.{kind}", probe


def _of_probes(spec: Spec) -> Iterator[Problem]:
    for path, probe in _probes(spec):
        if probe.tcp is not None:
            yield from _of_address(f"{path}.tcp", probe.tcp, spec)
        if probe.http is not None:
            yield from _of_address(f"{path}.http.address", probe.http.address, spec)
            if not probe.http.path.isascii():
                yield f"{path}.http.path", f"{probe.http.path!r} is not ASCII; write %XX for each byte of the rest"
        if probe.file == "":
            yield f"{path}.file", "an empty path; write that of the file"


def _of_jobs(spec: Spec) -> Iterator[Problem]:
    if spec.schedule is not None and spec.kind != "job":
        yield "schedule", 'only a job has one; add kind = "job", or take it out'
    if spec.schedule is not None and spec.replicas != 1:
        yield "replicas", f"a scheduled job is one worker at a time, and not {spec.replicas}; take replicas out"
    if spec.kind == "job" and spec.ready.is_told:
        yield "ready", "a job is done when it has ended, and is never ready; take this out"
    if spec.kind == "job" and spec.probes.readiness is not None:
        yield "probes.readiness", "a job is done when it has ended, and is never ready; take this out"


def _of_dependencies(spec: Spec) -> Iterator[Problem]:
    first: dict[str, int] = {}
    for at, one in enumerate(spec.depends_on):
        if first.setdefault(one.set, at) != at:
            yield f"depends_on[{at}]", f"{one.set} is named in depends_on[{first[one.set]}] already; leave one out"
