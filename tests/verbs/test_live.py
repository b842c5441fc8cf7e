"""What changes while one looks."""

import os
import pty
from contextlib import suppress

from reconciler.verbs.live import Live, Progress


def on_a_terminal(draw):
    """What a function writes to a terminal of which it gets the stream."""
    ours, theirs = pty.openpty()
    with open(theirs, "w", encoding="utf-8") as stream:
        draw(stream)
    text = b""
    with suppress(OSError):  # the end of a terminal that nobody uses any more
        while data := os.read(ours, 65536):
            text += data
    os.close(ours)
    return text.decode()


def test_lines_are_drawn_over_the_last_ones():
    """The next lines go over the last ones, and what was below them is wiped out."""

    def draw(stream):
        live = Live(stream)
        live.show(["one", "two"])
        live.show(["three"])

    assert on_a_terminal(draw) == "\rone\x1b[K\r\ntwo\x1b[K\r\n\x1b[J\r\x1b[2Athree\x1b[K\r\n\x1b[J"


def test_more_lines_than_the_terminal_has():
    """Where there are more lines than fit, the last one says how many are left out."""
    text = on_a_terminal(lambda stream: Live(stream).show([f"line {number}" for number in range(100)]))

    assert text.count("\n") < 24
    assert "… and 78 more" in text


def test_a_bar_on_a_terminal_goes_away():
    """A wait shows a bar on a terminal, and wipes it out in the end."""

    def draw(stream):
        with Progress("ready", stream=stream) as progress:
            progress.update(1, 4, "web-1 is slow")

    text = on_a_terminal(draw)
    assert "ready 1/4  web-1 is slow" in text
    assert text.endswith("\r\x1b[1A\x1b[J")


def piped(*, lines):
    """What a progress writes into a pipe when it goes on twice, and once does not."""
    reader, writer = os.pipe()
    with open(writer, "w") as stream, Progress("web", lines=lines, stream=stream) as progress:
        for done in (0, 1, 1):
            progress.update(done, 2)
    with open(reader) as stream:
        return stream.read()


def test_a_pipe_gets_lines_or_nothing():
    """A wait says nothing into a pipe; what is followed there is a line for each change."""
    assert piped(lines=False) == ""
    assert piped(lines=True) == "web 0/2\nweb 1/2\n"
