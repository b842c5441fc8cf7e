"""How verbs print: tables for people, JSON and YAML for programs, names for shells.

Rule: nothing that is printed can command a terminal. A table is as wide as the terminal and no wider; what does not fit
is cut, but never the first column. There are colours only on terminals, and none where NO_COLOR is set.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

FORMS = ("table", "wide", "json", "yaml", "name")

COLOURS: Mapping[str, int] = {"red": 31, "green": 32, "yellow": 33, "blue": 34, "grey": 90, "bold": 1}

_LEAST = 8  # characters that are left of a column that is cut
_ESCAPE = re.compile(r"(\x1b\[[0-9;]*m)")

form_option = click.option(
    "-o",
    "--output",
    "--format",
    "form",
    type=click.Choice(FORMS),
    default="table",
    show_default=True,
    help="How it is printed.",
)
"""For verbs that print objects. What is no table is printed by `show_lines`."""


class Cell(NamedTuple):
    """A text in a colour of COLOURS."""

    text: str
    colour: str = ""


class Column(NamedTuple):
    """A column of a table: its head, and what it shows of an object. `wide` ones are shown with `-o wide` only."""

    head: str
    cell: Callable[[Mapping[str, Any]], str | Cell]
    wide: bool = False


class Screen(NamedTuple):
    """What a stream leads to: a terminal that can redraw, colours, its size in characters. Without a width lines are
    as long as they are.
    """

    terminal: bool = False
    colours: bool = False
    width: int | None = None
    height: int = 24


def screen(fd: int = 1) -> Screen:
    """What a descriptor leads to at this moment."""
    try:
        size = os.get_terminal_size(fd)
    except OSError:
        return Screen()
    able = os.environ.get("TERM") != "dumb"
    colours = able and "NO_COLOR" not in os.environ
    return Screen(terminal=able, colours=colours, width=size.columns or 80, height=size.lines or 24)


def show(form: str, objects: Sequence[Mapping[str, Any]], columns: Sequence[Column], name: str = "key") -> None:
    """Print objects of one kind in the chosen form. `name` is the member that `-o name` prints."""
    if form == "name":
        for text in dict.fromkeys(shown(str(each[name])) for each in objects):
            click.echo(text)
    elif form in ("table", "wide"):
        here = screen()
        for line in Sheet(form, columns).lines(objects, here):
            click.echo(line, color=here.colours)
    else:
        show_data(form, list(objects))


def show_lines(form: str, lines: Callable[[Screen], Iterable[str]], value: Any, names: Iterable[str]) -> None:
    """Print what is told in lines rather than in a table, or its plain data, or its names, in the chosen form."""
    if form == "name":
        lines, form = (lambda _: dict.fromkeys(map(shown, names))), "wide"
    if form not in ("table", "wide"):
        show_data(form, value)
        return
    here = screen()
    for line in lines(here if form == "table" else here._replace(width=None)):
        click.echo(line, color=here.colours)


def show_data(form: str, value: Any) -> None:
    """Print plain data as JSON or YAML."""
    click.echo(as_yaml(value) if form == "yaml" else json.dumps(value, indent=2), nl=form != "yaml")


class Sheet:
    """A table that is printed bit by bit: its columns keep the width that they once had. With `wide` it is as wide as
    it needs to be, and else as its screen.
    """

    def __init__(self, form: str, columns: Sequence[Column]) -> None:
        self._wide = form == "wide"
        self._columns = [column for column in columns if self._wide or not column.wide]
        self._widths = [len(column.head) for column in self._columns]

    def lines(self, objects: Iterable[Mapping[str, Any]], here: Screen, *, head: bool = True) -> list[str]:
        """A line for each object, after the head."""
        rows = [[_cell(column.cell(each)) for column in self._columns] for each in objects]
        for row in rows:
            self._widths = [max(width, len(cell.text)) for width, cell in zip(self._widths, row, strict=True)]
        gap, widths = _fitting(self._widths, None if self._wide else here.width)
        if head:
            rows.insert(0, [Cell(column.head, "bold") for column in self._columns])
        return [
            gap.join(
                painted(text, cell.colour, here.colours) + " " * (width - len(text))
                for cell, width in zip(row, widths, strict=True)
                for text in [cut(cell.text, width)]
            ).rstrip()
            for row in rows
        ]


def wrapped(head: str, text: str, width: int | None, indent: int) -> Iterator[str]:
    """Lines of a text after its head, broken between words where they would not fit; further lines are indented."""
    line, left = head, len(_ESCAPE.sub("", head))
    for word in text.split(" "):
        if width is not None and left + 1 + len(word) > width and left > indent:
            yield line.rstrip()
            line, left = " " * indent + word, indent + len(word)
        else:
            line, left = f"{line} {word}", left + 1 + len(word)
    yield line.rstrip()


def painted(text: str, colour: str, colours: bool) -> str:  # noqa: FBT001  as its screen says
    """A text in a colour, where there are colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colours and colour else text


def cut(line: str, width: int | None) -> str:
    """The beginning of a line that fits, with an ellipsis where something is left out; colours take no place."""
    if width is None or len(line) <= width or len(_ESCAPE.sub("", line)) <= width:
        return line
    left = width - 1
    parts: list[str] = []
    for part in _ESCAPE.split(line):
        kept = part if part.startswith("\x1b") else part[:left]
        left -= 0 if part.startswith("\x1b") else len(kept)
        parts.append(kept)
    return "".join(parts) + "…"


def shown(text: str) -> str:
    """A text in one line that a terminal can be shown: what cannot be printed becomes an escape."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def as_yaml(value: Any) -> str:
    """Plain data as YAML."""
    from io import StringIO  # noqa: PLC0415  only this form needs them

    from ruamel.yaml import YAML  # noqa: PLC0415

    yaml = YAML(typ="rt", pure=True)  # the one that keeps the order
    yaml.default_flow_style, yaml.allow_unicode, yaml.width = False, False, 1 << 16
    text = StringIO()
    yaml.dump(value, text)
    return text.getvalue()


def duration(seconds: float) -> str:
    """A length of time in the two largest units that say something: `3s`, `2m5s`, `4h12m`, `9d3h`."""
    left = max(0, int(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count or (unit == "s" and not parts):
            parts.append(f"{count}{unit}")
        elif parts:
            break
    return "".join(parts[:2])


def size(count: int) -> str:
    """Bytes in the unit that leaves at most four digits: `512K`, `38M`, `1.2G`."""
    value, units = count / 1024, iter("KMGT")
    unit = next(units)
    while value >= 1000:  # noqa: PLR2004
        value, unit = value / 1024, next(units, "P")
    return f"{value:.1f}{unit}" if value < 10 and unit != "K" else f"{value:.0f}{unit}"  # noqa: PLR2004


def _cell(given: str | Cell) -> Cell:
    cell = Cell(given) if isinstance(given, str) else given
    return cell._replace(text=shown(cell.text))


def _fitting(widths: list[int], total: int | None) -> tuple[str, list[int]]:
    """The gap between columns and their widths, so that all fit: first the gap shrinks, then the widest column."""
    widths, gap = list(widths), 2
    while total is not None and sum(widths) + gap * (len(widths) - 1) > total:
        widest = max(range(1, len(widths)), key=lambda place: widths[place], default=0)
        if gap > 1:
            gap = 1
        elif widest == 0 or widths[widest] <= _LEAST:
            break
        else:
            widths[widest] -= 1
    return " " * gap, widths
