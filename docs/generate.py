#!/usr/bin/env python3
"""Writes the generated parts of the reference pages, or with `--check` says which of them are out of date.

A generated part stands in its page between `<!-- generated: NAME -->` and `<!-- end -->`; the rest of the page is
written by hand. Run it as `python docs/generate.py`, with the package installed or from the project's root.
"""

import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import ModuleType, NoneType
from typing import Any, Literal, get_args, get_origin

import attrs
import click

sys.path.insert(0, str(Path(__file__).parents[1]))

import reconciler
from reconciler import testing
from reconciler.cli import command_line
from reconciler.core.event import CATALOGUE
from reconciler.core.explain import RULES
from reconciler.core.lifecycle import TABLE, ignore
from reconciler.core.observation import OBSERVATIONS
from reconciler.core.spec import (
    Budget,
    Dependency,
    Duration,
    FileMode,
    Name,
    Patterns,
    SetSpec,
    SignalName,
    Size,
)
from reconciler.core.worker import LIVE, Phase

REFERENCE = Path(__file__).parent / "reference"

_PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)

_TYPES: Mapping[Any, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
    Duration: "duration",
    Size: "size",
    SignalName: "signal",
    Budget: "budget",
    Name: "name",
    FileMode: "octal digits",
    Patterns: "list of patterns",
    tuple[int, ...]: "list of whole numbers",
    tuple[str, ...]: "list of texts, or one text",
    Mapping[str, str]: "table of texts",
}


def main() -> None:
    """Write the pages, or check them."""
    stale = [page for page in sorted(REFERENCE.glob("*.md")) if page.read_text("utf-8") != generated(page)]
    for page in stale:
        if "--check" in sys.argv[1:]:
            click.echo(f"{page} is out of date: run python docs/generate.py")
        else:
            page.write_text(generated(page), "utf-8")
            click.echo(f"{page} written")
    sys.exit(1 if stale and "--check" in sys.argv[1:] else 0)


def generated(page: Path) -> str:
    """The page as it should be, by what the code is now."""
    return _PART.sub(lambda part: part[1] + PARTS[part[2]]() + part[3], page.read_text("utf-8"))


# ---------------------------------------------------------------------------------------------------- the spec file


def settings() -> str:
    """A table for each table of a spec file; those that are alike share one."""
    parts = []
    for cls, paths in _tables().items():
        heading = f"### {', '.join(f'`{path}`' for path in paths)}" if paths else "### At the top"
        rows = [
            (f"`{field.name}`", _type_of(field), _default_of(field), field.metadata["doc"] + _bounds_of(field))
            for field in _fields(cls)
            if not attrs.has(_plain(field.type))
        ]
        if rows:
            parts += [heading, "", *_table(("key", "type", "default", "meaning"), rows), ""]
    return "\n".join(parts)


def _tables() -> dict[type, list[str]]:
    """Each class of a spec file with the places of its tables, as TOML writes them; the file itself has none."""
    found: dict[type, list[str]] = {SetSpec: []}

    def add(path: str, cls: type) -> None:
        for field in _fields(cls):
            inner = _plain(field.type)
            item = get_args(inner)[0] if get_origin(inner) is tuple else None
            place = f"{path}{field.name}"
            if attrs.has(inner):
                found.setdefault(inner, []).append(f"[{place}]")
                add(f"{place}.", inner)
            elif attrs.has(item):
                found.setdefault(item, []).append(f"[[{place}]]")

    add("", SetSpec)
    return found


def _fields(cls: type) -> list[Any]:
    return [field for field in attrs.fields(cls) if "doc" in field.metadata]


def _plain(type_: Any) -> Any:
    """A type without its None; for a budget, which is a class but no table, text."""
    kinds = [kind for kind in get_args(type_) if kind is not NoneType] if NoneType in get_args(type_) else [type_]
    return str if kinds[0] is Budget else kinds[0]


def _type_of(field: Any) -> str:
    inner = field.type if field.type is Budget else _plain(field.type)
    if get_origin(inner) is Literal:
        return ", ".join(f'`"{word}"`' for word in get_args(inner))
    if inner in _TYPES:
        return _TYPES[inner]
    return "list of names and tables" if get_args(inner)[0] is Dependency else "list of tables"


def _default_of(field: Any) -> str:
    value = field.default
    if value is attrs.NOTHING:
        return "required"
    if value is None:
        return "none"
    if field.type is Duration:
        return f'`"{value:g}s"`'
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, Mapping):
        return "`{}`"
    if isinstance(value, tuple):
        return f"`{list(value)}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def _bounds_of(field: Any) -> str:
    low, high = field.metadata.get("minimum"), field.metadata.get("maximum")
    if "item_minimum" in field.metadata:
        return f" Each from {field.metadata['item_minimum']} to {field.metadata['item_maximum']}."
    if low is not None and high is not None:
        return f" From {low} to {high}."
    return f" At least {low}." if low else ""


# ------------------------------------------------------------------------------------------- events and the lifecycle


def rules() -> str:
    """What each rule of `explain` means."""
    return "\n".join([*_table(("rule", "meaning"), [(f"`{name}`", text) for name, text in RULES.items()]), ""])


def events() -> str:
    """A table for each group of events."""
    groups = dict.fromkeys(name.split(".")[0] for name in CATALOGUE)
    parts = []
    for group in groups:
        rows = [
            (f"`{kind.name}`", kind.level, kind.doc, ", ".join(f"`{field}`" for field in kind.fields))
            for kind in CATALOGUE.values()
            if kind.name.split(".")[0] == group
        ]
        parts += [f"### {group}", "", *_table(("event", "level", "meaning", "adds"), rows), ""]
    return "\n".join(parts)


def diagram() -> str:
    """The table as a Mermaid state diagram: which observation leads from which phase to which."""
    causes: dict[tuple[Phase, Phase], list[str]] = {}
    for (phase, kind), transition in TABLE.items():
        for target in transition.targets:
            if target is not phase:
                causes.setdefault((phase, target), []).append(kind.__name__)
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> Starting"]
    lines += [f"    {phase} --> {target}: {', '.join(kinds)}" for (phase, target), kinds in causes.items()]
    lines += [f"    {phase} --> [*]" for phase in Phase if phase not in LIVE]
    return "\n".join([*lines, "```", ""])


def transitions() -> str:
    """The table itself: for each observation the phases that it can lead to, by the phase that it meets."""
    live = [phase for phase in Phase if phase in LIVE]
    rows = []
    for kind in OBSERVATIONS:
        cells = [TABLE[phase, kind] for phase in live]
        rows.append((f"`{kind.__name__}`", *("" if c.handler is ignore else ", ".join(c.targets) for c in cells)))
    return "\n".join([*_table(("observation", *live), rows), ""])


# ----------------------------------------------------------------------------------- the command line and public names


def commands() -> str:
    """The command line: each command with its arguments and options."""
    parts = ["### `reconciler`", "", *_described(command_line)]
    for name, command in all_commands().items():
        arguments = [f" {each.make_metavar(click.Context(command))}" for each in command.params if _is_argument(each)]
        parts += [f"### `reconciler {name}{''.join(arguments)}`", "", *_described(command)]
    return "\n".join(parts)


def _described(command: click.Command) -> list[str]:
    rows = []
    for option in command.params:
        if isinstance(option, click.Option):
            choices = "|".join(option.type.choices) if isinstance(option.type, click.Choice) else option.metavar
            default = f" Default: `{option.default}`." if option.show_default else ""
            rows.append(
                (f"`{option.opts[0]}{f' {choices}' if choices else ''}`", f"{option.help or ''}{default}".strip())
            )
    lines = [inspect.cleandoc(command.help or ""), ""]  # Python 3.13 does that to a docstring itself
    return [*lines, *_table(("option", "meaning"), rows), ""] if rows else lines


def _is_argument(parameter: click.Parameter) -> bool:
    return isinstance(parameter, click.Argument)


def all_commands() -> dict[str, click.Command]:
    """The verbs by name, those in groups by both names."""
    context = click.Context(command_line)
    found: dict[str, click.Command] = {}
    for name in command_line.list_commands(context):
        command = command_line.get_command(context, name)
        if command is not None:
            found[name] = command
        if isinstance(command, click.Group):
            found |= {f"{name} {inner}": one for inner, one in command.commands.items()}
    return found


def names() -> str:
    """The public names, each with the first sentence of its docstring."""
    return _names_of(reconciler)


def testing_names() -> str:
    """The public names of `reconciler.testing`, likewise."""
    return _names_of(testing)


def _names_of(module: ModuleType) -> str:
    rows = [(f"`{name}`", _first_sentence(getattr(module, name))) for name in module.__all__]
    return "\n".join([*_table(("name", "meaning"), rows), ""])


def _first_sentence(thing: Any) -> str:
    text = " ".join((thing.__doc__ or "").split("\n\n")[0].split())
    return re.split(r"(?<=[.]) ", text)[0]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table in Markdown."""
    head = tuple(head)
    lines = [head, ("---",) * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


PARTS: Mapping[str, Callable[[], str]] = {
    "settings": settings,
    "events": events,
    "rules": rules,
    "diagram": diagram,
    "transitions": transitions,
    "commands": commands,
    "names": names,
    "testing-names": testing_names,
}

if __name__ == "__main__":
    main()
