"""Run seeds of the simulated world: `python -m reconciler.testing --seed 7` tells the history of one, and
`python -m reconciler.testing --seeds 2000` tries many and prints those that fail.
"""

import sys

import click

from reconciler.testing.invariants import BrokenError
from reconciler.testing.world import World


@click.command()
@click.option("--seed", type=int, help="Tell the history of this seed.")
@click.option("--seeds", type=click.IntRange(min=1), help="Try so many seeds.")
@click.option("--from", "first", type=int, default=0, show_default=True, help="The first of them.")
def main(seed: int | None, seeds: int | None, first: int) -> None:
    """Run the reconciler in a simulated world and check its invariants after every turn."""
    if (seed is None) == (seeds is None):
        raise click.UsageError("give either --seed or --seeds")
    if seed is not None:
        World(seed, click.echo).run()
        return
    failed = [number for number in range(first, first + (seeds or 0)) if not _holds(number)]
    click.echo(f"{len(failed)} of {seeds} seeds failed")
    sys.exit(1 if failed else 0)


def _holds(seed: int) -> bool:
    try:
        World(seed).run()
    except BrokenError as error:
        click.echo(f"seed {seed}: {error}\n  replay it: python -m reconciler.testing --seed {seed}")
        return False
    return True


if __name__ == "__main__":
    main()
