"""What `describe` shows beside the spec: sockets, dependencies, schedules, the rollout's own rules, and how a worker
answers.

Rule: a section for each, and none where there is nothing to say. Times to come are shown as the time that is left.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from reconciler.verbs.printing import Cell, Column, Screen, Sheet, duration, painted, shown

Told = Mapping[str, Any]


def section(title: str, lines: Iterator[str] | Sequence[str], here: Screen) -> Iterator[str]:
    """Lines below a title; nothing where there are none."""
    listed = [f"  {line}" for line in lines]
    if listed:
        yield painted(f"{title}:", "bold", here.colours)
        yield from listed


def of_set(told: Told, here: Screen) -> Iterator[str]:
    """The facts of a set that have a line each."""
    schedule, spec = told["status"]["schedule"], told["spec"] or {}
    if schedule is not None:
        yield from _schedule(schedule)
    rollout = spec.get("rollout", {})
    if "partition" in rollout:
        yield f"Partition:   {rollout['partition']} of the workers keep what they have; {told['status']['kept']} do now"
    if told["status"]["undone"]:
        yield f"Rollback:    {painted('the rollout stalled, and was undone by itself', 'red', here.colours)}"
    elif rollout.get("auto_rollback"):
        yield "Rollback:    by itself, if a rollout stalls"
    if told["needed_by"]:
        yield f"Needed by:   {shown(', '.join(told['needed_by']))}"


def of_health(health: Told, now: float) -> Iterator[str]:
    """What a worker told of itself, and until when it must tell more (`now`: seconds, monotonic)."""
    if health["tells"]:
        told = {True: "that it is ready", False: "that it is not ready", None: "not yet that it is ready"}
        yield f"Tells:       {told[health['told']]}{_by(health['ready_by'], now)}"
    if health["stop_by"] is not None:
        yield f"Stops:       by itself{_by(health['stop_by'], now)}"
    if health["reloading"]:
        yield "Reloads:     it said so"
    if health["ailment"] is not None:
        yield f"Ails:        {health['ailment']} ({shown(health['message'])})"
    watchdog = health["watchdog"]
    if watchdog is not None:
        every, due = watchdog["interval"], watchdog["due"]
        if every is None:
            yield "Watchdog:    the worker turned it off"
        elif due is None:
            yield f"Watchdog:    begins when it has started (every {every:g} s)"
        else:
            yield f"Watchdog:    heard of {duration(now - (due - every))} ago{_by(due, now)} (every {every:g} s)"


def _state(row: Told) -> Cell:
    if row["problem"] is not None:
        return Cell(row["problem"], "red")
    if row["address"] is None:
        return Cell("not made yet", "yellow")
    shared = row.get("shared_with")
    state = "as given" if row["given"] else "listens"
    return Cell(f"{state}, shared with {', '.join(shared)}" if shared else state, "green")


_SOCKETS = (
    Column("NAME", lambda row: row["name"]),
    Column("OF", lambda row: row["key"] or "all"),
    Column("ADDRESS", lambda row: row["address"] or row["wanted"] or "-"),
    Column("STATE", _state),
)

_NEEDS = (
    Column("SET", lambda row: row["set"]),
    Column("MUST BE", lambda row: row["condition"]),
    Column("IS", lambda row: Cell("yes", "green") if row["met"] else Cell("no", "yellow")),
    Column("THEN", lambda row: "restarts when it comes back" if row["restart_with"] else ""),
)


def sockets(told: Sequence[Told], here: Screen) -> Iterator[str]:
    """Where the sockets listen."""
    return section("Sockets", _table(_SOCKETS, told, here), here)


def needs(told: Sequence[Told], here: Screen) -> Iterator[str]:
    """What a set depends on."""
    return section("Depends on", _table(_NEEDS, told, here), here)


def probes(told: Sequence[Told], here: Screen, now: float) -> Iterator[str]:
    """How the probes of a worker were answered (`now`: seconds, monotonic)."""
    columns = (
        Column("PROBE", lambda row: row["kind"]),
        Column("ANSWER", _answer),
        Column("NEXT", lambda row: _next(row, now)),
        Column("ASKS", lambda row: row["asks"]),
        Column("MESSAGE", lambda row: row["message"]),
    )
    return section("Probes", _table(columns, told, here), here)


def _table(columns: Sequence[Column], told: Sequence[Told], here: Screen) -> list[str]:
    return Sheet("wide", columns).lines(told, here) if told else []


def _answer(row: Told) -> Cell:
    """What a probe is taken to be, and how many answers say otherwise."""
    good, streak = row["good"], abs(row["streak"])
    failures = good is True or (good is None and row["streak"] < 0)
    word, most = ("failed", row["failure_threshold"]) if failures else ("succeeded", row["success_threshold"])
    count = f"{word} {streak} of {most}" if streak else ""
    if good is None:
        return Cell(count or "not asked yet", "yellow")
    return Cell(", ".join(filter(None, ["good" if good else "bad", count])), "green" if good else "red")


def _next(row: Told, now: float) -> str:
    if row["asking"]:
        return "now"
    return "-" if row["due"] is None else f"in {duration(row['due'] - now + 0.5)}"


def _by(when: float | None, now: float) -> str:
    return "" if when is None else f", due in {duration(when - now + 0.5)}"


def _schedule(schedule: Told) -> Iterator[str]:
    now, at = time.time(), _clock(schedule["time_zone"])
    yield f"Schedule:    {schedule['expression']} (time zone {schedule['time_zone']})"
    last, phase = schedule["last"], schedule["last_phase"]
    if last is not None:
        yield f"Last run:    {at(last)}, {duration(now - last)} ago{f': {phase}' if phase else ''}"
    if schedule["due"] is not None:
        yield f"Due:         {at(schedule['due'])}; it begins as soon as it may"
    upcoming = schedule["next"]
    coming = "none" if upcoming is None else f"{at(upcoming)}, in {duration(upcoming - now + 0.5)}"
    yield f"Next run:    {coming}"


def _clock(zone: str) -> Callable[[float], str]:
    """What shows a time (Unix time) as it is in a time zone, or in UTC where this machine does not know that."""
    from datetime import UTC, datetime, tzinfo  # noqa: PLC0415  only what shows times needs it
    from zoneinfo import ZoneInfo  # noqa: PLC0415  likewise

    try:
        known: tzinfo | None = None if zone == "local" else UTC if zone == "UTC" else ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        known = UTC
    return lambda when: f"{datetime.fromtimestamp(when, UTC).astimezone(known):%Y-%m-%d %H:%M:%S %Z}"
