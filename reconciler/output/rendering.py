"""Lines of workers as people and programs read them: after the worker's key, or as JSON.

Rule: what goes to a terminal cannot command it. Control characters (also those of C1, and those that turn the direction
of writing) become escapes there, and only there: elsewhere a line is the bytes that the worker wrote.
"""

import os
import zlib
from datetime import UTC

_COLOURS = (36, 33, 32, 35, 34, 96, 93, 92, 95, 94)
_TURNING = (0x061C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A))
_ESCAPES = {
    code: f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"  # noqa: PLR2004
    for code in (*range(0x20), *range(0x7F, 0xA0), *_TURNING)
    if chr(code) not in "\t\n"
}


def neutral(lines: bytes) -> bytes:
    """Lines that a terminal can be shown. Bad UTF-8 becomes escapes too."""
    return lines.decode("utf-8", "backslashreplace").translate(_ESCAPES).encode()


def prefix_of(key: str, *, colours: bool) -> bytes:
    """What goes before each line of a worker, in a colour of its own."""
    if not colours:
        return f"{key} | ".encode()
    return f"\x1b[{_COLOURS[zlib.crc32(key.encode()) % len(_COLOURS)]}m{key} |\x1b[0m ".encode()


def prefixed(prefix: bytes, lines: bytes) -> bytes:
    """Whole lines, each after the prefix."""
    return prefix + lines[:-1].replace(b"\n", b"\n" + prefix) + b"\n" if lines else b""


def as_json(key: str, lines: bytes, unix_s: float) -> bytes:
    """Whole lines, each as a JSON object: time (UTC), key, line. Bad UTF-8 becomes escapes."""
    import json  # noqa: PLC0415  only this form needs them
    from datetime import datetime  # noqa: PLC0415

    when = datetime.fromtimestamp(unix_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    head = f'{{"time": "{when}", "key": {json.dumps(key)}, "line": '
    texts = lines.decode("utf-8", "backslashreplace").split("\n")[:-1]
    return "".join(f"{head}{json.dumps(text)}}}\n" for text in texts).encode()


def colours_on(fd: int) -> bool:
    """Whether what a descriptor leads to is a terminal whose user has nothing against colours."""
    return os.isatty(fd) and "NO_COLOR" not in os.environ
