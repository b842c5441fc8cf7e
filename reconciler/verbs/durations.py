"""Lengths of time as options take them, as in spec files: `30`, `90s`, `10m`, `1h30m`, `2d`, `500ms`.

Rule: seconds everywhere but on the command line.
"""

import re
import time

import click

_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_LONGEST = 86400 * 36525  # seconds: 100 years


class Duration(click.ParamType[float]):
    """A length of time, in seconds."""

    name = "duration"

    def convert(self, value: str | float, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The seconds that a text stands for."""
        text = str(value).strip()
        parts = _PART.findall(text)
        if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
            seconds = float(text)
        elif parts and "".join(map("".join, parts)) == text:
            seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
        else:
            self.fail(f"{text!r} is no length of time; write 30s, 10m or 1h30m", param, ctx)
        if seconds > _LONGEST:
            self.fail("more than 100 years", param, ctx)
        return seconds


def ago(seconds: float | None) -> float | None:
    """The moment that is so long ago, in Unix seconds; None for no moment."""
    return None if seconds is None else time.time() - seconds
