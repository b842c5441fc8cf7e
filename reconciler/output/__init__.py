"""What workers write to stdout and stderr: on its way through the controller, into files, and out of them again.

Rule: a worker never waits because of us. `relay` passes on what forked workers write through pipes; `capture` takes
what commands write through FIFOs, which outlive the controller, by `logfile` into files or by `streams` to our stdout;
`reading` reads those files, in another process. Each is loaded when it is first used, as readers need no writers.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from reconciler.output.capture import Capture
    from reconciler.output.relay import Relay

__all__ = ["Capture", "Relay"]

if not TYPE_CHECKING:  # else a type checker would believe in every name

    def __getattr__(name: str) -> Any:
        """Load a name where it is defined: each in the module of that name."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module  # noqa: PLC0415  only once a name is asked for

        return getattr(import_module(f"reconciler.output.{name.lower()}"), name)
