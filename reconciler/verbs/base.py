"""What all verbs share: which controller they ask, and how they fail.

Rule: a failure is one line that says what is wrong and one that says what to do, and an exit code. A traceback comes
only with `--debug`; a reader who went away and ^C are no failures to talk about.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import click

from reconciler.client import Client, ClientError, NoController, Refused
from reconciler.verbs.printing import shown

SPECS = "specs"
"""The spec directory where nothing names another."""

VARIABLE = "RECONCILER_STATE_DIR"

START_ONE = "start one with `reconciler --watch DIR`, or name its specs with --specs DIR"
"""What to do where no controller runs."""

_TIMEOUT = 10.0  # seconds that the controller may keep silent
_BROKEN_PIPE, _INTERRUPTED = 141, 130  # as a shell shows a death by these signals


class Failure(Exception):  # noqa: N818  it is told to the user as it is
    """What the user is told: what is wrong, what to do about it, and the exit code (None: that of the verb)."""

    def __init__(self, message: str, hint: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.message, self.hint, self.code = message, hint, code


class Place(NamedTuple):
    """Which controller is asked: by its spec directory (None where only the other was named) and state directory."""

    specs: str | None
    state_dir: str

    def client(self, timeout: float | None = _TIMEOUT) -> Client:
        """A client of it, to be used in a `with`. `timeout` in seconds; None for what follows changes."""
        return Client(self.state_dir, timeout)


class Verb(click.Command):
    """A command that asks a controller. Its function gets the Place as its first argument, by `click.pass_obj`, and
    may raise Failure and the errors of the client. It exits with `error_code` where it fails.
    """

    def __init__(self, *args: Any, error_code: int = 1, **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.error_code = error_code
        self.params += _common()

    def invoke(self, ctx: click.Context) -> Any:
        """Run it, and tell the user if it fails."""
        debug = ctx.params.pop("debug")
        with failing_in_a_line(self.error_code, debug=debug):
            ctx.obj = place_of(ctx.params)
            del ctx.params["specs"], ctx.params["state_dir"]
            return super().invoke(ctx)


def place_of(params: dict[str, Any]) -> Place:
    """The place that these options name, or else the environment."""
    specs, state_dir = params.get("specs"), params.get("state_dir")
    if state_dir is None and specs is None:
        state_dir = os.environ.get(VARIABLE) or None
    if state_dir is not None:
        return Place(specs, state_dir)
    from reconciler.state.place import state_directory  # noqa: PLC0415  only where nothing says it

    specs = specs or SPECS
    return Place(specs, state_directory(specs))


@contextmanager
def failing_in_a_line(code: int, *, debug: bool) -> Iterator[None]:
    """Turn what goes wrong in the block into a line, a hint and an exit code."""
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.reconfigure(errors="backslashreplace")  # the locale may know less than we say
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except (click.ClickException, click.exceptions.Exit):
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is not written yet goes there
        sys.exit(_BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)
    except Exception as error:
        if debug:
            raise
        fail(_as_failure(error), code)


def fail(failure: Failure, code: int = 1) -> NoReturn:
    """Tell the user, and exit."""
    click.echo(f"reconciler: {shown(failure.message)}", err=True)
    if failure.hint:
        click.echo(f"hint: {shown(failure.hint)}", err=True)
    sys.exit(code if failure.code is None else failure.code)


def _as_failure(error: Exception) -> Failure:
    if isinstance(error, Failure):
        return error
    if isinstance(error, Refused):
        return Failure(error.message, error.hint)
    if isinstance(error, NoController):
        return Failure(str(error), START_ONE)
    if isinstance(error, ClientError):
        return Failure(str(error), "ask `reconciler status` whether it still runs")
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
        return Failure(f"{where}{error.strerror or error}")
    return Failure(f"{type(error).__name__}: {error}", "this is a fault of reconciler; --debug shows where")


def _common() -> list[click.Parameter]:
    directory = click.Path(file_okay=False)
    return [
        click.Option(
            ["--specs"],
            type=directory,
            metavar="DIR",
            help=f"The watched directory of its controller.  [default: {SPECS}]",
        ),
        click.Option(
            ["--state-dir"],
            type=directory,
            metavar="DIR",
            help=f"Its state directory.  [default: by --specs, or {VARIABLE}]",
        ),
        click.Option(["--debug"], is_flag=True, help="Show a traceback where it fails."),
    ]
