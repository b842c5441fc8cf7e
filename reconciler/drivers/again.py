"""`fork_worker_process`: this program once more, as a worker, with its context on its stdin.

Rule: the new process is told everything and inherits nothing by chance: its context as one line of JSON in a file that
has no name, the descriptors that it was promised under their own numbers, and an environment without what was meant for
the controller alone. It never becomes a second controller, since `PREFORK` says which of its two roles it has.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from reconciler import context
from reconciler.drivers.nursery import current


class HasDescriptor(Protocol):
    """A file, a socket, or anything else with a descriptor."""

    def fileno(self) -> int:
        """Its number."""


def fork_worker_process(worker: Any, args: Sequence[str] = (), *, fds: Iterable[int | HasDescriptor] = ()) -> int:
    """Run this program again as a worker and return its pid. To be called in `fork(worker)`.

    The new process finds `worker` by `reconciler.worker.context`; its `sys.argv` is that of this one (a
    script has its full path there if the working directory was changed since). `args` are for
    `ps` to show. The sockets in the worker, and `fds`, are what it inherits, each under its number. A worker may have
    a method `interpreter_options`, which returns such as `["-X", "dev"]`.

    Raises `ContextError` for a worker that cannot be carried, ValueError for options that are none, and OSError if the
    process cannot be started.
    """
    import subprocess  # noqa: PLC0415  not for a controller of commands

    line, sockets = context.encode(worker)
    passed = {*sockets, *(one if isinstance(one, int) else one.fileno() for one in fds)}
    nursery = current()
    environment = nursery.environment(os.environ) | {"PREFORK": "worker", "RECONCILER_PARENT": str(os.getpid())}
    command = again(_options_of(worker), args)
    with _file_of(line) as stdin, nursery.output_pipes() as (stdout, stderr):
        process = subprocess.Popen(
            command,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=tuple(passed),
            env=environment,
            start_new_session=True,
        )
    process.returncode = 0  # told that it ended, the object never waits for what others follow
    nursery.born.append(process.pid)
    return process.pid


def again(options: Sequence[str] = (), args: Sequence[str] = ()) -> list[str]:
    """The command that runs this program once more, with more options for the interpreter, and words for `ps` to show.

    The words are an option of the interpreter too, since there the program that reads its arguments is not disturbed.
    """
    ours = sys.orig_argv[1:]
    place = _program_at(ours)
    shown = ["-X", f"worker={' '.join(args)}"] if args else []
    return [sys.executable, *ours[:place], *options, *shown, *_anchored(ours[place:])]


def _program_at(arguments: Sequence[str]) -> int:
    """Where the interpreter's own options end."""
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if not word.startswith("-") or word == "-":
            return place
        if word.startswith("--"):
            place += 1 + (word == "--check-hash-based-pycs")
            continue
        for index, letter in enumerate(word[1:], 2):
            if letter in "cm":
                return place
            if letter in "WX":
                place += index == len(word)  # its value is the next word
                break
        place += 1
    return place


def _anchored(program: Sequence[str]) -> list[str]:
    """The same program, found although the working directory was changed: Python knows a script's full path."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not program or not file or os.path.basename(file) != os.path.basename(program[0]):  # noqa: PTH119  texts
        return list(program)
    here = Path(program[0])
    return list(program) if here.exists() and here.samefile(file) else [file, *program[1:]]


def _options_of(worker: Any) -> list[str]:
    """What the worker asks for as options of its interpreter. Raises ValueError for words that are none."""
    asked = getattr(worker, "interpreter_options", None)
    if asked is None:
        return []
    options = list(asked())
    words = [word for word in options if not isinstance(word, str)]
    if words or _program_at(options) != len(options) or (options and options[-1] in ("-X", "-W")):
        raise ValueError(f"interpreter_options must be options of the interpreter, like ['-X', 'dev'], not {options!r}")
    return options


@contextmanager
def _file_of(line: str) -> Iterator[int]:
    """A file in memory that holds the line: unlike a pipe it takes one of any length, and waits for no reader."""
    file = os.memfd_create("context", os.MFD_CLOEXEC)
    try:
        with open(file, "wb", closefd=False) as writing:
            writing.write(line.encode() + b"\n")
        os.lseek(file, 0, os.SEEK_SET)
        yield file
    finally:
        os.close(file)
