"""Short ways to say what is wanted on a stage, and what came of it."""

import attrs

from reconciler.core.spec import Backoff, Budget, Restart, Rollout, SetSpec, StartLimit, Stop
from reconciler.testing import MemorySource, Stage

_ASKED = {"worker.starting": "start", "worker.stopping": "stop", "worker.killing": "kill"}


def web(version="v1", **settings):
    """The spec of a set called web; `version` is its command. Unless said otherwise it is ready as soon as it runs."""
    settings = {"stop": Stop(timeout=5.0), "min_ready": 0.0, **settings}
    return SetSpec(name="web", command=(version,), **settings)


def rolling(**settings):
    """A rollout whose budgets are plain numbers of workers."""
    budgets = {name: Budget(settings.pop(name)) for name in ("max_surge", "max_unavailable") if name in settings}
    return Rollout(**budgets, **settings)


def restart(policy="always", codes=(0,), limit=None, **delays):
    """A restart policy without jitter; `limit` is a burst and an interval."""
    backoff = Backoff(**{"jitter": 0.0, **delays})
    start_limit = limit and StartLimit(burst=limit[0], interval=limit[1])
    return Restart(policy=policy, success_exit_codes=codes, backoff=backoff, start_limit=start_limit)


class Scene(Stage):
    """A stage on which these sets are wanted, after the first turn; with what an earlier controller left."""

    def __init__(self, *specs, memory=None, overrides=()):
        super().__init__(MemorySource())
        self._seen = 0
        if memory is not None:
            self.engine.recall(memory)
        self.engine.override(overrides, 0.0)
        self.want(*specs)

    def want(self, *specs):
        """From now on these sets are wanted, and no others."""
        self.source.want(*specs)
        self.turn(read=True)

    def edit(self, **changes):
        """The one set that is wanted is edited."""
        (known,) = self.engine.desired.values()
        self.want(attrs.evolve(known.template, **changes))

    def end(self, key, exit_code=0, **how):
        """The newest process of a worker ends."""
        self.driver.exit(self.driver.of(key)[-1].uid, exit_code, **how)
        self.turn()

    def hold(self):
        """From now on processes ignore what they are asked, but for KILL, and starts are not answered."""
        self.driver.on_start = lambda process: None
        self.driver.on_signal = lambda process, signal: (
            signal == "KILL" and self.driver.exit(process.uid, signal="KILL")
        )

    def answer(self, key):
        """The newest start of a worker succeeds."""
        self.driver.spawn(self.driver.of(key)[-1].uid)
        self.turn()

    def asked(self):
        """What was asked of the driver since the last time, in order: "start web-0"."""
        told, self._seen = self.events[self._seen :], len(self.events)
        return [f"{_ASKED[one.event]} {one.key}" for one in told if one.event in _ASKED]

    def alive(self):
        """The version of each process, by key, oldest first: {"web-0": "v1 v2"}."""
        versions = {}
        for process in self.driver.processes.values():
            versions.setdefault(str(process.spec.key), []).append(process.spec.payload.command[0])
        return {key: " ".join(versions[key]) for key in sorted(versions)}

    def phases(self):
        """The phase of each incarnation in key order: ["web-0 Running"]."""
        return [f"{row.key} {row.phase}" for row in self.status().workers]

    def reasons(self, kind):
        """The reasons of all events of this kind so far."""
        return [one.reason for one in self.events if one.event == kind]
