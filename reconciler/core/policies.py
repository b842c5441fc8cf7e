"""How workers are kept: restarts, stops, rollouts and output, as a spec file says it.

Rule: nothing here needs a new process when it changes. Every class is one table of a spec file.
"""

from typing import Literal

import attrs

from reconciler.core.setting import Duration, SignalName, Size, setting

RestartPolicy = Literal["always", "on_failure", "never"]
Strategy = Literal["rolling", "recreate", "on_delete"]
OutputMode = Literal["auto", "inherit", "prefix", "file", "null", "json"]

MOST_STARTS = 10_000
"""The largest burst of a start limit, as each start that it counts is remembered."""


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


@attrs.frozen(kw_only=True)
class Backoff:
    """How long to wait before the next start of a worker that ended; the first restart of a clear history is immediate.

    The numbers are those of Kubernetes' KEP-4603.
    """

    initial: Duration = setting(1.0, "The first delay; 0 means that there is never a delay.", minimum=0)
    factor: float = setting(2.0, "By how much each further delay is longer.", minimum=1)
    max: Duration = setting(60.0, "The longest delay, jitter included.", minimum=0)
    reset_after: Duration = setting(60.0, "A run of this length clears the history.", minimum=0)
    jitter: float = setting(0.25, "The share of the delay that is added at random, 0 to 1.", minimum=0, maximum=1)


@attrs.frozen(kw_only=True)
class StartLimit:
    """Give up on a worker that was started `burst` times within `interval` and ended again (systemd's start limit)."""

    burst: int = setting(5, "How many starts are allowed within the interval.", minimum=1, maximum=MOST_STARTS)
    interval: Duration = setting(10.0, "The interval in which starts are counted.", minimum=0)


@attrs.frozen(kw_only=True)
class Restart:
    """Whether and when an ended worker is started again."""

    policy: RestartPolicy = setting("always", "Which ends lead to a restart; for a job, `always` means `on_failure`.")
    success_exit_codes: tuple[int, ...] = attrs.field(
        default=(0,),
        metadata={"doc": "The exit codes that count as success.", "item_minimum": 0, "item_maximum": 255},
    )
    backoff: Backoff = setting(Backoff(), "The delays between restarts.")
    start_limit: StartLimit | None = setting(None, "When to give up; without it never, and a job after 7 starts.")


@attrs.frozen(kw_only=True)
class Drain:
    """What comes before the stop signal, while the worker still serves (the preStop of Kubernetes)."""

    command: tuple[str, ...] = setting((), "Run first, in the worker's directory and environment, with `PID` set.")
    delay: Duration = setting(0.0, "The signal comes no sooner than this after the stop was decided.", minimum=0)
    timeout: Duration = setting(30.0, "How long the command may take before it is killed.", minimum=0)

    @property
    def longest(self) -> float:
        """How long it may take, in seconds; the timeout is that of the command."""
        return max(self.delay, self.timeout) if self.command else self.delay


@attrs.frozen(kw_only=True)
class Stop:
    """How a worker is ended: what drains it, the signal to its process group, then, after the timeout, KILL."""

    signal: SignalName = setting("TERM", "The signal that asks the worker to end.")
    timeout: Duration = setting(30.0, "How long it may take after the signal before it is killed.", minimum=0)
    drain: Drain | None = setting(None, "What comes before the signal; without it, nothing.")


@attrs.frozen(kw_only=True)
class Rollout:
    """How workers of an outdated spec are replaced (the words are those of Kubernetes' StatefulSet and Deployment)."""

    strategy: Strategy = setting("rolling", "One after the other, all at once, or only when one ends by itself.")
    max_surge: Budget = setting(Budget(0), 'How many more than `replicas` may run meanwhile: a number or "25%".')
    max_unavailable: Budget = setting(
        Budget(1), 'How many of `replicas` may be unavailable meanwhile: a number or "25%".'
    )
    partition: Budget = setting(
        Budget(0), 'How many workers, the first ones, keep the spec that they have (a canary): a number or "25%".'
    )
    progress_deadline: Duration = setting(600.0, "After this long without progress the rollout stops.", minimum=0)
    auto_rollback: bool = setting(
        False,  # noqa: FBT003
        "When the rollout stops, go back to what last ran everywhere, until the file is edited.",
    )

    def __attrs_post_init__(self) -> None:
        if self.max_surge.amount == 0 and self.max_unavailable.amount == 0:
            msg = "max_surge and max_unavailable are both 0, so that no worker could ever be replaced; raise one"
            raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Output:
    """What becomes of what a worker writes to stdout and stderr. A change reaches workers that run, but to and from
    `inherit`. The default sizes are for a state directory in memory, as most are.
    """

    mode: OutputMode = setting(
        "auto",
        "`file`: a file for each worker, which `logs` reads; `prefix`: the controller's stdout, each line after its "
        "key; `json`: likewise, each line an object; `null`: nowhere; `inherit`: the controller's own stdout and "
        "stderr; `auto`: as the controller was told by --output.",
    )
    max_size: Size = setting(2 << 20, "A file that is larger is put aside, and a new one begun.", minimum=4096)
    max_files: int = setting(3, "How many files are kept of a worker, with the current one.", minimum=1, maximum=100)
