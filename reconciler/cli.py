"""The command line: `python -m reconciler --watch specs`, and the verbs, each of which is a command of its own room.

Rule: this file only parses, wires and prints, and a verb that is not asked for is not imported. Exit codes of --watch:
0 for a clean stop, 1 for failure, 2 for wrong usage or a directory that is not there, 75 for one that another
controller has. An error is one line and says what to do; there is no traceback for a user's mistake.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from reconciler import __version__

if TYPE_CHECKING:
    from reconciler.core.status import Snapshot

_VERBS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "getting": ("get",),
        "describing": ("describe",),
        "reading": ("explain", "events", "status"),
        "logs": ("logs",),
        "changes": ("plan", "diff", "apply", "delete"),
        "orders": ("scale", "stop", "start", "restart", "reset", "signal", "reload", "shutdown"),
        "rollout": ("rollout",),
        "waiting": ("wait",),
        "checking": ("check", "schema"),
        "completion": ("completion",),
    }
)
"""The modules of the verbs, and the commands in each."""


class Verbs(click.Group):
    """A group of commands that are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all verbs, the ones that only look first."""
        del ctx
        return [name for names in _VERBS.values() for name in names]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of this name."""
        del ctx
        module = next((module for module, names in _VERBS.items() if cmd_name in names), None)
        if module is None:
            return None
        command: click.Command = getattr(import_module(f"reconciler.verbs.{module}"), cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As ever; but a slip is answered by the nearest verb."""
        if self.get_command(ctx, args[0]) is None and not args[0].startswith("-"):
            from difflib import get_close_matches  # noqa: PLC0415  for slips only

            near = get_close_matches(args[0], self.list_commands(ctx), 1)
            hint = f"did you mean {near[0]!r}?" if near else "--help shows all there are"
            _fail(f"there is no verb {args[0]!r}; {hint}")
        return super().resolve_command(ctx, args)


EXAMPLES = """\b
Examples:
  python -m reconciler --watch specs               keep running what the files in specs/ say
  python -m reconciler --watch specs --once        until all is ready, then stop everything
  python -m reconciler check specs                 are the files good?
  python -m reconciler get                         what runs?
  python -m reconciler describe web                what is known of it, and why is it so?
  python -m reconciler scale web=5                 run five of it, until its file says otherwise
  python -m reconciler logs web -f                 what does it write?
  python -m reconciler schema > specs/.schema.json

\b
Signals: HUP reads the files again; TERM and INT stop all workers, a second one kills them;
TTIN and TTOU run one worker more or fewer where there is a single spec file.
"""

_STATUS = ("KEY", "READY", "PHASE", "RESTARTS", "PID")
"""The columns of `get` that `--once` shows in the end."""

STATE_DIR_HELP = "Where it remembers, and can be asked.  [default: one for each DIR, in the user's runtime directory]"
OUTPUT_HELP = (
    "What becomes of the output of workers whose spec does not say.  [default: prefix on a terminal or as PID 1, else "
    "file]"
)


@click.group(cls=Verbs, invoke_without_command=True, epilog=EXAMPLES, context_settings={"max_content_width": 100})
@click.option("--watch", "directory", metavar="DIR", help="Watch this directory and run what its spec files say.")
@click.option("--once", is_flag=True, help="Stop as soon as everything is ready, or cannot become so; exit 0 or 1.")
@click.option("--state-dir", metavar="DIR", envvar="RECONCILER_STATE_DIR", help=STATE_DIR_HELP)
@click.option("--output", type=click.Choice(["inherit", "prefix", "file", "null", "json"]), help=OUTPUT_HELP)
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
def command_line(context: click.Context, /, directory: str | None, **options: Any) -> None:
    """Keep exactly the worker processes running that the files in a directory describe."""
    if context.invoked_subcommand is not None:
        if directory is not None:
            raise click.UsageError(f"--watch does not go with {context.invoked_subcommand}.")
        if context.get_parameter_source("state_dir") is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"name the --state-dir after {context.invoked_subcommand}.")
        return
    if directory is None and (options["once"] or options["poll"]):
        raise click.UsageError("--once and --poll go with --watch DIR.")
    if directory is None:
        click.echo(context.get_help())
        context.exit(2)
    if not os.path.isdir(directory):  # noqa: PTH112
        if os.path.exists(directory):  # noqa: PTH110
            _fail(f"{directory!r} is not a directory; name the one that the spec files are in with --watch")
        _fail(f"there is no directory {directory!r}; create it, or name another with --watch")
    status = _watch(directory, options)
    _flush()
    os._exit(status)  # nothing is left to do, and to take the interpreter apart takes longer than to stop a fleet


def main() -> None:
    """Run the command line with the arguments of the process."""
    for fd in range(3):  # what is closed would become some other file of ours, for workers to write into
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    command_line(prog_name="python -m reconciler" if sys.argv[0].endswith("__main__.py") else None)


def _watch(directory: str, options: dict[str, Any]) -> int:
    """Run a controller on the directory until it is stopped; the exit code."""
    from reconciler.watching import Watch  # noqa: PLC0415  the verbs need no controller

    snapshot, rejected = Watch(directory=directory, **options).run()
    if not options["once"]:
        return 0
    with suppress(OSError):  # nobody reads it
        for line in _status(snapshot):
            click.echo(line)
    return 0 if snapshot.converged and not rejected else 1


def _flush() -> None:
    if sys.stdout is not None:
        with suppress(OSError):
            sys.stdout.flush()


def _status(snapshot: "Snapshot") -> list[str]:
    """A line for each worker."""
    import attrs  # noqa: PLC0415  the controller has it by now

    from reconciler.verbs.getting import WORKERS  # noqa: PLC0415  likewise
    from reconciler.verbs.printing import Screen, Sheet  # noqa: PLC0415  likewise

    columns = [column for column in WORKERS if column.head in _STATUS]
    rows = (attrs.asdict(worker) | {"retry_at": None} for worker in snapshot.workers)  # there is no next try any more
    return Sheet("wide", columns).lines(rows, Screen())


def _fail(message: str) -> NoReturn:
    click.echo(f"reconciler: {message}", err=True)
    sys.exit(2)
