"""What is wanted: keys, worker specs, worker sets, and a spec file as a whole.

Rule: every value here is immutable and compared by equality. Three identities are kept apart. A *key* says which
worker; a *digest* says from which version of its spec a process was started; a *uid* (see `worker`) says which
incarnation. Durations are seconds as floats.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, Self

import attrs

from reconciler.core import consistency
from reconciler.core.needs import Concurrency, Dependency, Kind
from reconciler.core.policies import (
    Backoff,
    Budget,
    Drain,
    Output,
    OutputMode,
    Restart,
    Rollout,
    StartLimit,
    Stop,
)
from reconciler.core.serving import HttpCheck, Probe, Probes, Ready, Socket
from reconciler.core.setting import NAME_PATTERN, Duration, FileMode, Name, Patterns, SignalName, Size, setting

__all__ = [
    "NAME_PATTERN",
    "Again",
    "Backoff",
    "Budget",
    "Command",
    "Dependency",
    "Drain",
    "Duration",
    "FileMode",
    "HttpCheck",
    "Key",
    "Name",
    "Output",
    "OutputMode",
    "Patterns",
    "Policy",
    "Probe",
    "Probes",
    "Ready",
    "Restart",
    "Rollout",
    "SetSpec",
    "SignalName",
    "Size",
    "Socket",
    "StartLimit",
    "Stop",
    "Watch",
    "WorkerSet",
    "WorkerSpec",
    "expand",
    "is_same_version",
]

Readiness = Literal["alive", "notify"]

MOST_REPLICAS = 10_000
"""The largest worker set: a slip of the pen must not ask for more processes than any machine has."""

FARTHEST_ORDER = 1_000_000
"""How far from 0 an `order` may be: room for any scheme, and exact in every JSON reader."""


class Key(str):
    """Which worker of a spec file: the text NAME-INDEX, stable over every restart and every edit.

    Keys are ordered by `order`, then name, then index, but equal by their text: an edit of the order moves a worker to
    another place in the row and does not make another worker of it.
    """

    __slots__ = ("name", "number", "order", "rank")

    name: str
    number: int
    order: int
    rank: tuple[int, str, int]

    def __new__(cls, order: int, name: str, index: int) -> Self:
        """The key of worker `index` of the set `name`."""
        self = super().__new__(cls, f"{name}-{index}")
        self.order, self.name, self.number = order, name, index
        self.rank = (order, name, index)
        return self

    def __lt__(self, other: str) -> bool:
        return self.rank < other.rank if isinstance(other, Key) else NotImplemented

    def __le__(self, other: str) -> bool:
        return self.rank <= other.rank if isinstance(other, Key) else NotImplemented

    def __gt__(self, other: str) -> bool:
        return self.rank > other.rank if isinstance(other, Key) else NotImplemented

    def __ge__(self, other: str) -> bool:
        return self.rank >= other.rank if isinstance(other, Key) else NotImplemented


@attrs.frozen(kw_only=True)
class Watch:
    """Files whose content is part of what is wanted: a change of it is rolled out as an edit of the spec is."""

    paths: Patterns = setting((), 'Patterns like "app/**/*.py", relative to the working directory.')
    debounce: Duration = setting(0.5, "How long the files must have kept still.", minimum=0)


@attrs.frozen(kw_only=True)
class Command:
    """What a local process is started from: the fields of a spec whose change needs a new process.

    `command`, `env` values, `cwd` and the addresses of sockets may hold placeholders; see `template`. It tells that it
    can serve to NOTIFY_SOCKET if it has `notify`, or at the descriptor `ready_fd`. `content` is a digest of the files
    that its set watches.
    """

    command: tuple[str, ...]
    cwd: str = "."
    env: Mapping[str, str] = MappingProxyType({})
    clear_env: bool = False
    sockets: tuple[Socket, ...] = ()
    notify: bool = False
    ready_fd: int | None = None
    watchdog: float | None = None
    content: str = ""


@attrs.frozen(kw_only=True)
class Policy:
    """How the workers of a set are kept: everything about them that needs no new process when it changes.

    A worker can serve as soon as it is `alive`, or when it says so by `notify` (systemd's READY=1), within
    `ready_timeout`; and its probes may ask for more. It counts as ready once it could for `min_ready`, and for at least
    `trial` if it was started in a rollout. With a `watchdog` it must tell that it is alive at least so often. A `job`
    runs to its end; what is `needed` of other sets comes before any start.
    """

    ready: Readiness = attrs.field(default="alive", validator=attrs.validators.in_(("alive", "notify")))
    ready_timeout: Duration = 90.0
    min_ready: Duration = 0.0
    trial: Duration = 0.0
    probes: Probes = Probes()
    watchdog: Duration | None = None
    restart: Restart = Restart()
    stop: Stop = Stop()
    rollout: Rollout = Rollout()
    output: Output = Output()
    job: bool = False
    needed: tuple[Dependency, ...] = ()


JOB_LIMIT = StartLimit(burst=7, interval=10 * 365 * 86400.0)
"""When a job gives up that says nothing else: after six retries, as with Kubernetes."""

TRIAL = 1.0
"""Seconds that a worker must run to count as ready in a rollout where nothing else tells: else a version that starts
and crashes would be ready for a moment, which is enough to replace the next one by it."""


@attrs.frozen(kw_only=True)
class SetSpec:
    """One spec file, version 1: a worker set. The file's stem is its name."""

    name: str
    command: tuple[str, ...] = attrs.field(
        metadata={
            "doc": "The program and its arguments: a list, or text that is split as a shell would; no shell runs."
        }
    )
    replicas: int = setting(
        1, "How many workers; they are called NAME-0, NAME-1 and so on.", minimum=0, maximum=MOST_REPLICAS
    )
    order: int = setting(
        0,
        "Sorts before the name: lower starts first and stops last.",
        minimum=-FARTHEST_ORDER,
        maximum=FARTHEST_ORDER,
    )
    kind: Kind = setting("service", "A `service` runs on; a `job` runs to its end, once for each edit or at its times.")
    cwd: str = setting(".", "The working directory, relative to the spec directory.")
    env: Mapping[str, str] = setting(MappingProxyType({}), "Added to the controller's environment.")
    clear_env: bool = setting(False, "Start from an empty environment.")  # noqa: FBT003
    sockets: tuple[Socket, ...] = setting((), "Listening sockets that each worker is given.")
    ready: Ready = setting(Ready(), "How a worker tells that it can serve.")
    probes: Probes = setting(Probes(), "What is asked of each worker, again and again.")
    watchdog: Duration | None = setting(
        None, "It must send `WATCHDOG=1` to NOTIFY_SOCKET at least this often, or it counts as failed.", minimum=0.01
    )
    min_ready: Duration | None = setting(
        None,
        "How long a worker must be able to serve to count as ready. Without it 0, but 1 s for workers that a rollout "
        "starts where neither `ready` nor a readiness or startup probe tells.",
        minimum=0,
    )
    suspend: bool = setting(False, "Keep the file and run nothing.")  # noqa: FBT003
    depends_on: tuple[Dependency, ...] = setting((), "Sets that come first: names, or tables. Stops go in reverse.")
    schedule: str | None = setting(None, 'When a job runs, as for cron: "*/5 * * * *".')
    time_zone: str = setting("UTC", 'In which the schedule is read: "Europe/Rome", "UTC", or "local".')
    concurrency: Concurrency = setting("allow", "What becomes of a run that is due while an earlier one goes on.")
    starting_deadline: Duration | None = setting(
        None,
        "A run that could not begin this long after its time is left out; without it, the last one is made up for.",
    )
    successful_history: int = setting(3, "How many runs that ended well are kept.", minimum=0, maximum=100)
    failed_history: int = setting(1, "How many runs that failed are kept.", minimum=0, maximum=100)
    restart: Restart = setting(Restart(), "Whether and when an ended worker is started again.")
    stop: Stop = setting(Stop(), "How a worker is ended.")
    rollout: Rollout = setting(Rollout(), "How an edit reaches the workers.")
    output: Output = setting(Output(), "What becomes of what a worker writes.")
    watch: Watch = setting(Watch(), "Files whose change is rolled out, too.")
    content: str = ""

    def __attrs_post_init__(self) -> None:
        consistency.check(self)

    @property
    def policy(self) -> Policy:
        """The part that needs no new process when it changes."""
        restart, job = self.restart, self.kind == "job"
        if job and restart.policy == "always":
            restart = attrs.evolve(restart, policy="on_failure")
        if job and restart.start_limit is None:
            restart = attrs.evolve(restart, start_limit=JOB_LIMIT)
        tells = self.ready.is_told or self.probes.readiness is not None or self.probes.startup is not None
        return Policy(
            ready="notify" if self.ready.is_told else "alive",
            ready_timeout=self.ready.timeout,
            min_ready=self.min_ready or 0.0,
            trial=TRIAL if self.min_ready is None and not tells else self.min_ready or 0.0,
            probes=self.probes,
            watchdog=self.watchdog,
            restart=restart,
            stop=self.stop,
            rollout=self.rollout,
            output=self.output,
            job=job,
            needed=self.depends_on,
        )

    @property
    def process(self) -> Command:
        """The part that needs a new process when it changes."""
        return Command(
            command=self.command,
            cwd=self.cwd,
            env=self.env,
            clear_env=self.clear_env,
            sockets=self.sockets,
            notify=self.ready.notify,
            ready_fd=self.ready.fd,
            watchdog=self.watchdog,
            content=self.content,
        )


@attrs.frozen
class Again:
    """The digest of a spec that is wanted anew though nothing of it changed: a restart that was asked for.

    `at_once` says that the new incarnation is started beside the old one, whatever the rollout's budget.
    """

    digest: Any
    serial: int
    at_once: bool = False


def is_same_version(one: Any, other: Any) -> bool:
    """Whether two digests differ in nothing but restarts that were asked for."""
    while isinstance(one, Again):
        one = one.digest
    while isinstance(other, Again):
        other = other.digest
    return one is other or bool(one == other)


@attrs.frozen
class WorkerSpec:
    """What is wanted of one worker. `payload` is what its driver starts; a change of `digest` means a new process.

    `digest` is any value with equality: the `Command` itself for spec files, a version's number in the library.
    """

    key: Any
    digest: Any
    payload: Any = attrs.field(eq=False)


@attrs.frozen
class WorkerSet:
    """The wanted workers of one set, by key in key order, and the policy they share.

    `template` is the spec file behind the set, where there is one: what an override of the replicas expands anew.
    While it is `paused` no worker is replaced, and one that ends runs again from the spec that it had. `down` are the
    keys that would be among the workers if nobody had asked for them to be stopped, and it is `stopped` where that goes
    for the whole set. Some of the workers are wanted anew if it `restarts`, and some of these `at_once`.
    """

    name: str
    workers: Mapping[Any, WorkerSpec]
    policy: Policy = Policy()
    template: SetSpec | None = None
    paused: bool = False
    down: frozenset[Any] = frozenset()
    restarts: bool = False
    at_once: bool = False
    stopped: bool = False

    @property
    def runs(self) -> bool:
        """Whether its workers are the runs of a schedule."""
        return self.template is not None and self.template.schedule is not None


def expand(spec: SetSpec) -> WorkerSet:
    """The worker set that a spec file stands for; a suspended one has no workers, and a scheduled one none yet."""
    command = spec.process
    count = 0 if spec.suspend or spec.schedule is not None else spec.replicas
    keys = [Key(spec.order, spec.name, index) for index in range(count)]
    return WorkerSet(spec.name, {key: WorkerSpec(key, command, command) for key in keys}, spec.policy, spec)
