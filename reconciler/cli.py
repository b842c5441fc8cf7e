"""The command line: `python -m reconciler --watch specs`, and the verbs that need no running controller.

Rule: this file only parses, wires and prints. Exit codes: 0 for a clean stop, 1 for failure, 2 for wrong usage or a
directory that is not there. An error is one line and says what to do; there is no traceback for a user's mistake.
"""

import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, cast

import click

from reconciler import __version__

if TYPE_CHECKING:
    from reconciler.core.event import Event
    from reconciler.core.status import Snapshot
    from reconciler.log import Format
    from reconciler.sources.survey import Survey

EXAMPLES = """\b
Examples:
  python -m reconciler --watch specs               keep running what the files in specs/ say
  python -m reconciler --watch specs --once        until all is ready, then stop everything
  python -m reconciler check specs                 are the files good?
  python -m reconciler plan specs                  what would be started?
  python -m reconciler schema > specs/.schema.json

\b
Signals: HUP reads the files again; TERM and INT stop all workers, a second one kills them;
TTIN and TTOU run one worker more or fewer where there is a single spec file.
"""


@click.group(invoke_without_command=True, epilog=EXAMPLES, context_settings={"max_content_width": 100})
@click.option("--watch", "directory", metavar="DIR", help="Watch this directory and run what its spec files say.")
@click.option("--once", is_flag=True, help="Stop as soon as everything is ready, or cannot become so; exit 0 or 1.")
@click.option("--poll", is_flag=True, help="Look at the directory each second instead of being notified.")
@click.option(
    "--log-format",
    type=click.Choice(["console", "json"]),
    help="How events are written to stderr.  [default: console on a terminal, else json]",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least level of the events that are written.",
)
@click.version_option(__version__, prog_name="reconciler")
@click.pass_context
def command_line(  # noqa: PLR0913, PLR0917  one parameter for each option
    context: click.Context, directory: str | None, once: bool, poll: bool, log_format: str | None, log_level: str
) -> None:
    """Keep exactly the worker processes running that the files in a directory describe."""
    if context.invoked_subcommand is not None:
        if directory is not None:
            raise click.UsageError(f"--watch does not go with {context.invoked_subcommand}.")
        return
    if directory is None and (once or poll):
        raise click.UsageError("--once and --poll go with --watch DIR.")
    if directory is None:
        click.echo(context.get_help())
        context.exit(2)
    if not os.path.isdir(directory):  # noqa: PTH112
        if os.path.exists(directory):  # noqa: PTH110
            _fail(f"{directory!r} is not a directory; name the one that the spec files are in with --watch")
        _fail(f"there is no directory {directory!r}; create it, or name another with --watch")
    status = _watch(directory, once=once, poll=poll, form=log_format, level=log_level)
    _flush()
    os._exit(status)  # nothing is left to do, and to take the interpreter apart takes longer than to stop a fleet


@command_line.command()
@click.argument("paths", nargs=-1, required=True, metavar="DIR|FILE...")
def check(paths: tuple[str, ...]) -> None:
    """Validate spec files; exit 1 if any is bad, with every problem listed."""
    bad = files = 0
    for path in paths:
        found = _surveyed(path)
        files += found.files
        for rejection in found.rejections:
            bad += 1
            for problem in rejection.problems:
                click.echo(f"{_printable(rejection.file)}: {_printable(problem)}")
    click.echo(f"{files} files, {bad} bad", err=True)
    sys.exit(1 if bad else 0)


@command_line.command()
@click.argument("directory", metavar="DIR")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How the plan is printed.",
)
def plan(directory: str, form: str) -> None:
    """Show what would happen from nothing; exit 0 for no change, 1 for changes, 2 for an error."""
    found = _surveyed(directory)
    if found.rejections:
        for rejection in found.rejections:
            for problem in rejection.problems:
                click.echo(f"{_printable(rejection.file)}: {_printable(problem)}", err=True)
        _fail(f"{len(found.rejections)} bad files in {directory!r}; mend them, then plan again")
    changes = _changes(found)
    if form == "json":
        click.echo(json.dumps({"changes": changes}, indent=2))
    elif changes:
        rows = [(str(change["key"]), str(change["action"]), str(change["reason"])) for change in changes]
        click.echo(_table(("KEY", "ACTION", "REASON"), rows))
    else:
        click.echo("no changes")
    sys.exit(1 if changes else 0)


@command_line.command()
def schema() -> None:
    """Print the JSON Schema of spec files, for editors."""
    from importlib import resources  # noqa: PLC0415  this verb alone needs it

    click.echo((resources.files("reconciler") / "spec.schema.json").read_text("utf-8"), nl=False)


def main() -> None:
    """Run the command line with the arguments of the process."""
    for fd in range(3):  # what is closed would become some other file of ours, for workers to write into
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    command_line(prog_name="python -m reconciler" if sys.argv[0].endswith("__main__.py") else None)


def _watch(directory: str, *, once: bool, poll: bool, form: str | None, level: str) -> int:
    """Run a controller on the directory until it is stopped; the exit code."""
    from reconciler.controller import Controller  # noqa: PLC0415  the other verbs need no controller
    from reconciler.drivers.command import CommandDriver, clean_signals, raise_file_limit  # noqa: PLC0415
    from reconciler.log import EventLog  # noqa: PLC0415
    from reconciler.sources.directory import DirectorySource  # noqa: PLC0415

    clean_signals()
    driver = CommandDriver(file_limit=raise_file_limit(), reap_strangers=True)
    controller = Controller(DirectorySource(directory, poll=poll), driver)
    log = EventLog(form=cast("Format | None", form), level=level)
    rejected: set[str | None] = set()

    def publish(events: Sequence["Event"]) -> None:
        log(events)
        rejected.update(told.extra["file"] for told in events if told.event == "spec.rejected")

    controller.publish = publish
    sys.modules.setdefault("ssl", None)  # type: ignore[arg-type]  # asyncio would load 4 MB for what nobody uses here
    snapshot = controller.run(once=once)
    if not once:
        return 0
    with suppress(OSError):  # nobody reads it
        click.echo(_status_table(snapshot))
    return 0 if snapshot.converged and not rejected else 1


def _flush() -> None:
    if sys.stdout is not None:
        with suppress(OSError):
            sys.stdout.flush()


def _surveyed(path: str) -> "Survey":
    from reconciler.sources.survey import survey  # noqa: PLC0415  as late as can be

    try:
        return survey(path)
    except OSError as error:
        _fail(f"cannot read {path!r}: {error.strerror}; name a spec directory or a spec file")


def _changes(found: "Survey") -> list[dict[str, object]]:
    """What a controller that starts now would do, by the very plan it would make."""
    from reconciler.core.actual import Actual  # noqa: PLC0415  as late as can be
    from reconciler.core.reconcile import reconcile  # noqa: PLC0415
    from reconciler.core.spec import expand  # noqa: PLC0415

    desired = {name: expand(spec) for name, spec in found.specs.items()}
    actual = Actual()
    actual.want(desired, 0.0)
    return [
        {"key": str(action.key), "action": type(action).__name__.lower(), "reason": action.reason, "fields": []}
        for action in reconcile(desired, actual, 0.0).actions
    ]


def _status_table(snapshot: "Snapshot") -> str:
    rows = []
    for worker in snapshot.workers:
        phase = worker.phase if worker.reason is None else f"{worker.phase} ({worker.reason})"
        ready = "yes" if worker.ready else "no"
        rows.append((worker.key, ready, phase, str(worker.restarts), "" if worker.pid is None else str(worker.pid)))
    return _table(("KEY", "READY", "PHASE", "RESTARTS", "PID"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in (head, *rows))
    return "\n".join(line.rstrip() for line in lines)


def _printable(text: str) -> str:
    """A path as it may stand in a line: what cannot be printed becomes an escape."""
    return text if text.isprintable() else repr(text)[1:-1]


def _fail(message: str) -> NoReturn:
    click.echo(f"reconciler: {message}", err=True)
    sys.exit(2)
