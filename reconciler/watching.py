"""The door for a watched directory: what `python -m reconciler --watch DIR` runs.

Rule: this file wires and waits, and decides nothing. Who cannot have the directory for himself says whose it is and
exits with 75 (EX_TEMPFAIL, "try again later").
"""

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, cast

import attrs

from reconciler.controller import Controller
from reconciler.drivers.command import CommandDriver, clean_signals, raise_file_limit
from reconciler.log import EventLog
from reconciler.sources.directory import DirectorySource
from reconciler.state.lock import TakenError
from reconciler.state.place import UnsafeError, state_directory

if TYPE_CHECKING:
    from reconciler.core.event import Event
    from reconciler.core.spec import OutputMode
    from reconciler.core.status import Snapshot
    from reconciler.log import Format

TAKEN = 75


@attrs.frozen(kw_only=True)
class Watch:
    """What is to be watched, and how. None stands for a default that depends on the surroundings."""

    directory: str
    once: bool = False
    poll: bool = False
    log_format: str | None = None
    log_level: str = "info"
    state_dir: str | None = None
    output: str | None = None

    def run(self) -> tuple["Snapshot", bool]:
        """Run until stopped by a signal or a verb; the last state, and whether a file was bad.

        Raises SystemExit, after one line on stderr, where the state directory cannot be had.
        """
        clean_signals()
        driver = CommandDriver(file_limit=raise_file_limit(), reap_strangers=True)
        controller = Controller(DirectorySource(self.directory, poll=self.poll), driver)
        controller.state_dir = self.state_dir or state_directory(self.directory)
        controller.output = cast("OutputMode", self.output or _default_output())
        log = EventLog(form=cast("Format | None", self.log_format), level=self.log_level)
        rejected: set[str | None] = set()

        def publish(events: Sequence["Event"]) -> None:
            log(events)
            rejected.update(told.extra["file"] for told in events if told.event == "spec.rejected")

        controller.publish = publish
        sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # asyncio would load 4 MB that nobody uses here
        try:
            return controller.run(once=self.once), bool(rejected)
        except TakenError as error:
            _say(str(error))
            sys.exit(TAKEN)
        except UnsafeError as error:
            _say(str(error))
        except OSError as error:
            _say(
                f"cannot use the state directory {controller.state_dir}: {error.strerror}; name another by --state-dir"
            )
        sys.exit(2)


def _default_output() -> str:
    """Where somebody looks at stdout, as in a terminal or a container, lines go there."""
    with suppress(OSError):
        if os.isatty(1):
            return "prefix"
    return "prefix" if os.getpid() == 1 else "file"


def _say(message: str) -> None:
    with suppress(OSError):  # nobody reads it
        os.write(2, f"reconciler: {message}\n".encode("utf-8", "backslashreplace"))
