"""Keeps exactly the worker processes running that you asked for.

Rule: the public names, and nothing else. Each is loaded when it is first used, so that `import reconciler` costs
nothing. What is not listed here, in `reconciler.testing` or in the docs' Python reference may change at any time.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.controller import Controller
    from reconciler.core.event import Event
    from reconciler.core.override import Paused, RestartAsked, RolledBack, Scale, StayDown
    from reconciler.core.spec import (
        Backoff,
        Budget,
        Dependency,
        Drain,
        HttpCheck,
        Output,
        Policy,
        Probe,
        Probes,
        Ready,
        Restart,
        Rollout,
        SetSpec,
        Socket,
        StartLimit,
        Stop,
        Watch,
        WorkerSet,
        WorkerSpec,
    )
    from reconciler.core.status import SetStatus, Snapshot, WorkerStatus
    from reconciler.core.worker import Phase
    from reconciler.drivers import Driver
    from reconciler.drivers.again import fork_worker_process
    from reconciler.drivers.forking import fork_worker
    from reconciler.sockets import listen
    from reconciler.sources import Reading, Source

__version__ = "0.1.0"

__all__ = [
    "Backoff",
    "Budget",
    "Controller",
    "Dependency",
    "Drain",
    "Driver",
    "Event",
    "HttpCheck",
    "Output",
    "Paused",
    "Phase",
    "Policy",
    "Probe",
    "Probes",
    "Reading",
    "Ready",
    "Restart",
    "RestartAsked",
    "RolledBack",
    "Rollout",
    "Scale",
    "SetSpec",
    "SetStatus",
    "Snapshot",
    "Socket",
    "Source",
    "StartLimit",
    "StayDown",
    "Stop",
    "Watch",
    "WorkerSet",
    "WorkerSpec",
    "WorkerStatus",
    "fork_worker",
    "fork_worker_process",
    "listen",
]

_ELSEWHERE = {
    "Controller": "controller",
    "Driver": "drivers",
    "Event": "core.event",
    "Paused": "core.override",
    "Phase": "core.worker",
    "Reading": "sources",
    "RestartAsked": "core.override",
    "RolledBack": "core.override",
    "Scale": "core.override",
    "SetStatus": "core.status",
    "Snapshot": "core.status",
    "Source": "sources",
    "StayDown": "core.override",
    "WorkerStatus": "core.status",
    "fork_worker": "drivers.forking",
    "fork_worker_process": "drivers.again",
    "listen": "sockets",
}


if not TYPE_CHECKING:  # else a type checker would believe in every name

    def __getattr__(name: str) -> Any:
        """Load a public name where it is defined: in `core.spec`, unless listed as elsewhere."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415  so that importing this package costs nothing

        value = getattr(import_module(f"{__name__}.{_ELSEWHERE.get(name, 'core.spec')}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """The names of the module, those that are not loaded yet included."""
    return sorted({*globals(), *__all__})
