"""What is wanted: keys, worker specs, worker sets, and the fields of a spec file.

Rule: every value here is immutable and compared by equality. Three identities are kept apart. A *key* says which
worker; a *digest* says from which version of its spec a process was started; a *uid* (see `worker`) says which
incarnation. Durations are seconds as floats.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

import attrs

Duration = Annotated[float, "seconds"]
"""A length of time in seconds."""

Size = Annotated[int, "bytes"]
"""An amount of data in bytes."""

SignalName = Annotated[str, "signal"]
"""A signal's name without its SIG prefix, such as "TERM"."""

RestartPolicy = Literal["always", "on_failure", "never"]
Strategy = Literal["rolling", "recreate", "on_delete"]
Readiness = Literal["alive", "notify"]
OutputMode = Literal["auto", "inherit", "prefix", "file", "null", "json"]

NAME_PATTERN = r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?"
"""What a worker set may be called: a regular expression that must match the whole name."""

MOST_REPLICAS = 10_000
"""The largest worker set: a slip of the pen must not ask for more processes than any machine has."""

FARTHEST_ORDER = 1_000_000
"""How far from 0 an `order` may be: room for any scheme, and exact in every JSON reader."""

MOST_STARTS = 10_000
"""The largest burst of a start limit, as each start that it counts is remembered."""


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


@attrs.frozen
class Budget:
    """A number of workers, absolute or as a percentage of the set's replicas."""

    amount: int
    percent: bool = False

    def of(self, total: int, *, round_up: bool) -> int:
        """How many of `total` workers that is."""
        if not self.percent:
            return self.amount
        return -(-total * self.amount // 100) if round_up else total * self.amount // 100

    def __str__(self) -> str:
        return f"{self.amount}%" if self.percent else str(self.amount)


def _setting(default: Any, doc: str, *, minimum: float | None = None, maximum: float | None = None) -> Any:
    """A field of a spec file: its default, its meaning, and its bounds, which the loader, the JSON Schema and the
    class itself all take from here.
    """
    validators = []
    if minimum is not None:
        validators.append(attrs.validators.ge(minimum))
    if maximum is not None:
        validators.append(attrs.validators.le(maximum))
    metadata = {"doc": doc, "minimum": minimum, "maximum": maximum}
    return attrs.field(default=default, metadata=metadata, validator=validators or None)


@attrs.frozen(kw_only=True)
class Backoff:
    """How long to wait before the next start of a worker that ended; the first restart of a clear history is immediate.

    The numbers are those of Kubernetes' KEP-4603.
    """

    initial: Duration = _setting(1.0, "The first delay; 0 means that there is never a delay.", minimum=0)
    factor: float = _setting(2.0, "By how much each further delay is longer.", minimum=1)
    max: Duration = _setting(60.0, "The longest delay, jitter included.", minimum=0)
    reset_after: Duration = _setting(60.0, "A run of this length clears the history.", minimum=0)
    jitter: float = _setting(0.25, "The share of the delay that is added at random, 0 to 1.", minimum=0, maximum=1)


@attrs.frozen(kw_only=True)
class StartLimit:
    """Give up on a worker that was started `burst` times within `interval` and ended again (systemd's start limit)."""

    burst: int = _setting(5, "How many starts are allowed within the interval.", minimum=1, maximum=MOST_STARTS)
    interval: Duration = _setting(10.0, "The interval in which starts are counted.", minimum=0)


@attrs.frozen(kw_only=True)
class Restart:
    """Whether and when an ended worker is started again."""

    policy: RestartPolicy = _setting("always", "Which ends lead to a restart.")
    success_exit_codes: tuple[int, ...] = attrs.field(
        default=(0,),
        metadata={"doc": "The exit codes that count as success.", "item_minimum": 0, "item_maximum": 255},
    )
    backoff: Backoff = _setting(Backoff(), "The delays between restarts.")
    start_limit: StartLimit | None = _setting(None, "When to give up; without it, never.")


@attrs.frozen(kw_only=True)
class Stop:
    """How a worker is ended: the signal to its process group, then, after the timeout, KILL."""

    signal: SignalName = _setting("TERM", "The signal that asks the worker to end.")
    timeout: Duration = _setting(30.0, "How long it may take before it is killed.", minimum=0)


@attrs.frozen(kw_only=True)
class Rollout:
    """How workers of an outdated spec are replaced (the words are those of Kubernetes' StatefulSet and Deployment)."""

    strategy: Strategy = _setting("rolling", "One after the other, all at once, or only when one ends by itself.")
    max_surge: Budget = _setting(Budget(0), 'How many more than `replicas` may run meanwhile: a number or "25%".')
    max_unavailable: Budget = _setting(
        Budget(1), 'How many of `replicas` may be unavailable meanwhile: a number or "25%".'
    )
    progress_deadline: Duration = _setting(600.0, "After this long without progress the rollout stops.", minimum=0)

    def __attrs_post_init__(self) -> None:
        if self.max_surge.amount == 0 and self.max_unavailable.amount == 0:
            msg = "max_surge and max_unavailable are both 0, so that no worker could ever be replaced; raise one"
            raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Output:
    """What becomes of what a worker writes to stdout and stderr. A change reaches workers that run, but to and from
    `inherit`. The default sizes are for a state directory in memory, as most are.
    """

    mode: OutputMode = _setting(
        "auto",
        "`file`: a file for each worker, which `logs` reads; `prefix`: the controller's stdout, each line after its "
        "key; `json`: likewise, each line an object; `null`: nowhere; `inherit`: the controller's own stdout and "
        "stderr; `auto`: as the controller was told by --output.",
    )
    max_size: Size = _setting(2 << 20, "A file that is larger is put aside, and a new one begun.", minimum=4096)
    max_files: int = _setting(3, "How many files are kept of a worker, with the current one.", minimum=1, maximum=100)


@attrs.frozen(kw_only=True)
class Command:
    """What a local process is started from: the fields of a spec whose change needs a new process.

    `command`, `env` values and `cwd` may hold the placeholders {name}, {index} and {key}; see `template`.
    """

    command: tuple[str, ...]
    cwd: str = "."
    env: Mapping[str, str] = MappingProxyType({})
    clear_env: bool = False


@attrs.frozen(kw_only=True)
class Policy:
    """How the workers of a set are kept: everything about them that needs no new process when it changes.

    A worker can serve as soon as it is `alive`, or when it says so by `notify` (systemd's READY=1), and counts as ready
    once it could for `min_ready`.
    """

    ready: Readiness = attrs.field(default="alive", validator=attrs.validators.in_(("alive", "notify")))
    min_ready: Duration = 0.0
    restart: Restart = Restart()
    stop: Stop = Stop()
    rollout: Rollout = Rollout()
    output: Output = Output()


@attrs.frozen(kw_only=True)
class SetSpec:
    """One spec file, version 1: a worker set. The file's stem is its name."""

    name: str
    command: tuple[str, ...] = attrs.field(
        metadata={
            "doc": "The program and its arguments: a list, or text that is split as a shell would; no shell runs."
        }
    )
    replicas: int = _setting(
        1, "How many workers; they are called NAME-0, NAME-1 and so on.", minimum=0, maximum=MOST_REPLICAS
    )
    order: int = _setting(
        0,
        "Sorts before the name: lower starts first and stops last.",
        minimum=-FARTHEST_ORDER,
        maximum=FARTHEST_ORDER,
    )
    cwd: str = _setting(".", "The working directory, relative to the spec directory.")
    env: Mapping[str, str] = _setting(MappingProxyType({}), "Added to the controller's environment.")
    clear_env: bool = _setting(False, "Start from an empty environment.")  # noqa: FBT003
    min_ready: Duration = _setting(0.0, "How long a worker must live to count as ready.", minimum=0)
    suspend: bool = _setting(False, "Keep the file and run nothing.")  # noqa: FBT003
    restart: Restart = _setting(Restart(), "Whether and when an ended worker is started again.")
    stop: Stop = _setting(Stop(), "How a worker is ended.")
    rollout: Rollout = _setting(Rollout(), "How an edit reaches the workers.")
    output: Output = _setting(Output(), "What becomes of what a worker writes.")

    @property
    def policy(self) -> Policy:
        """The part that needs no new process when it changes."""
        return Policy(
            min_ready=self.min_ready, restart=self.restart, stop=self.stop, rollout=self.rollout, output=self.output
        )

    @property
    def process(self) -> Command:
        """The part that needs a new process when it changes."""
        return Command(command=self.command, cwd=self.cwd, env=self.env, clear_env=self.clear_env)


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
    return bool(one == other)


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
    keys that would be among the workers if nobody had asked for them to be stopped. Some of the workers are wanted anew
    if it `restarts`, and some of these `at_once`.
    """

    name: str
    workers: Mapping[Any, WorkerSpec]
    policy: Policy = Policy()
    template: SetSpec | None = None
    paused: bool = False
    down: frozenset[Any] = frozenset()
    restarts: bool = False
    at_once: bool = False


def expand(spec: SetSpec) -> WorkerSet:
    """The worker set that a spec file stands for; a suspended one has no workers."""
    command = spec.process
    count = 0 if spec.suspend else spec.replicas
    keys = [Key(spec.order, spec.name, index) for index in range(count)]
    return WorkerSet(spec.name, {key: WorkerSpec(key, command, command) for key in keys}, spec.policy, spec)
