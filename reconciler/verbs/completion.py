"""What a shell completes: the verbs by click, and the names of sets and workers by the running controller.

Rule: who presses the tab key is never told of a failure, and never waits long: where nothing answers, nothing is
completed.
"""

from collections.abc import Iterator
from contextlib import suppress

import click
from click.shell_completion import CompletionItem, get_completion_class

from reconciler.client import Client, ClientError
from reconciler.verbs.base import place_of

PROGRAM = "reconciler"
"""The console script that is completed."""

_TIMEOUT = 1.0  # seconds


class Name(click.ParamType[str]):
    """The name of a set (`kind` "set") or, otherwise, also the key of a worker, or a pattern."""

    def __init__(self, kind: str = "key-or-set") -> None:
        self.name = kind

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that there are at the moment."""
        del param
        names: list[str] = []
        with suppress(ClientError, OSError), Client(place_of(ctx.params).state_dir, _TIMEOUT) as client:
            names += self._names(client)
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]

    def _names(self, client: Client) -> Iterator[str]:
        yield from (row["name"] for row in client.stream("sets"))
        if self.name != "set":
            yield from (row["key"] for row in client.stream("get"))


SETUP = """\b
Where it belongs:
  bash: reconciler completion bash > ~/.local/share/bash-completion/completions/reconciler
  zsh:  echo 'source <(reconciler completion zsh)' >> ~/.zshrc
  fish: reconciler completion fish > ~/.config/fish/completions/reconciler.fish
"""


@click.command(epilog=SETUP)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script by which a shell completes verbs, sets and keys."""
    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"click completes nothing in {shell}")
    root = context.find_root().command
    click.echo(found(root, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
