"""What a change of a serving fleet costs: requests that fail while workers are replaced, as tables in Markdown.

    PYTHONPATH=tests python -m bench.rollout --replacements 50 --servers uvicorn,nginx --json figures.json

First our own examples, then others with the same application. Everything is on loopback. It ends with 1 if a server
that can drain lost a request to anything but kill -9. What is not installed is left out, and named.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench import rollout_peers, rollout_sample, rollout_servers
from bench.loading import Clients

HEAD = (
    "| server | clients | requests | failed | retried | lost by kill -9 | p99 ms | max ms | replacements | seconds |\n"
    "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
)
NOTHING = {"requests": 0, "failed": 0, "failures": {}, "retried": 0, "p99": 0.0, "max": 0.0}


def sum_of(what: str, stretches: dict[str, dict[str, Any]]) -> int:
    """How many requests "failed" or were "retried" but by kill -9."""
    return sum(tally[what] for name, tally in stretches.items() if name not in ("all", "kill"))


def show(name: str, figures: dict[str, Any]) -> None:
    """A row for each kind of client, and what it was that failed."""
    for kind, stretches in figures["clients"].items():
        total, killed = stretches.get("all", NOTHING), stretches.get("kill", NOTHING)
        lost, retried = sum_of("failed", stretches), sum_of("retried", stretches)
        row = (
            *(name, kind, total["requests"], lost, retried, killed["failed"]),
            *(round(total["p99"]), round(total["max"]), figures["replacements"], round(figures["seconds"])),
        )
        print(f"| {' | '.join(map(str, row))} |", flush=True)
        for step, tally in stretches.items():
            if tally["failures"] and step not in ("all", "kill"):
                print(f"{name}, {kind}, {step}: {tally['failures']}", file=sys.stderr)


def ours(options: argparse.Namespace, clients: Clients) -> tuple[dict[str, Any], list[str]]:
    """The figures of our own examples, and those that should have lost nothing, and did."""
    found, lossy = {}, []
    for name, server in rollout_servers.SERVERS.items():
        if options.servers and name not in options.servers:
            continue
        if server.missing:
            print(f"{name} is left out: there is no {server.missing} here", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory(prefix="rollout-") as place:
            found[name] = rollout_servers.run(name, Path(place), replacements=options.replacements, clients=clients)
        show(name, found[name])
        if server.drains and any(sum_of("failed", stretches) for stretches in found[name]["clients"].values()):
            lossy.append(name)
    if not options.servers or rollout_sample.NAME in options.servers:
        with tempfile.TemporaryDirectory(prefix="rollout-") as place:
            figures = rollout_sample.run(Path(place), replacements=options.replacements, clients=clients)
        found[rollout_sample.NAME] = figures
        show(rollout_sample.NAME, figures)
        if any(sum_of("failed", stretches) for stretches in figures["clients"].values()):
            lossy.append(rollout_sample.NAME)
    return found, lossy


def theirs(options: argparse.Namespace, clients: Clients) -> dict[str, Any]:
    """The figures of the others."""
    found = {}
    for name in rollout_peers.PEERS:
        if options.servers and name not in options.servers:
            continue
        with tempfile.TemporaryDirectory(prefix="rollout-") as place:
            found[name] = rollout_peers.run(
                name, Path(place), workers=3, replacements=options.replacements, clients=clients
            )
        show(name, found[name])
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replacements", type=int, default=50, help="of workers, at least, for each server")
    parser.add_argument("--servers", type=lambda text: text.split(","), default=[], help="names of rows, or else all")
    parser.add_argument("--rate", type=float, default=360, help="requests a second")
    parser.add_argument("--keep-alive", type=int, default=8, help="clients that keep their connection")
    parser.add_argument("--fresh", type=int, default=8, help="clients with a new connection for each request")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    names = [*rollout_servers.SERVERS, rollout_sample.NAME, *rollout_peers.PEERS]
    if unknown := set(options.servers) - set(names):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known are {', '.join(names)}")
    clients = Clients(options.keep_alive, options.fresh, options.rate)
    print(HEAD, flush=True)
    found, lossy = ours(options, clients)
    found |= theirs(options, clients)
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    if lossy:
        sys.exit(f"requests were lost by {', '.join(lossy)}")


if __name__ == "__main__":
    main()
