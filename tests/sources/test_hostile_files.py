"""No file, however broken or hostile, makes the loader raise or keeps it busy."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from spec_files import EXAMPLE, EXAMPLE_TOML, FORMATS, written

from reconciler.core.spec import SetSpec
from reconciler.sources.loading import MAX_BYTES, Problem, load

LIMIT_S = 0.1  # the bound that the project promises for a hostile file
CONTENT = {suffix: EXAMPLE_TOML if suffix == "toml" else written(EXAMPLE, suffix) for suffix in FORMATS}


def judged(suffix: str, data: bytes) -> SetSpec | tuple[Problem, ...]:
    """The answer of the loader, which must be a spec or at least one printable problem."""
    result = load("web", f"web.{suffix}", data, "/srv")
    if isinstance(result, SetSpec):
        return result
    assert result
    for problem in result:
        assert isinstance(problem, Problem)
        assert str(problem).isprintable()
        assert len(str(problem)) < 400
    return result


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_prefix(suffix: str) -> None:
    """Every beginning of a good file is a spec or a problem, never an exception."""
    content = CONTENT[suffix]
    for length in range(len(content)):
        judged(suffix, content[:length])
    assert isinstance(judged(suffix, content), SetSpec)


_SIGNS = (
    "[ ] { } \" ' \"\"\" ''' , . = : # - ? | > & * ! % @ ` ~ \\ \\u \\x << - --- ... _ 0x 1e9 {name} 25% !!int &a *a"
)
_WORDS = "command env restart null true inf nan NaN 2026-11-23 12:30 1e999 \\ud800"
_PIECES = st.sampled_from(
    [
        *(piece.encode() for piece in f"{_SIGNS} {_WORDS}".split(" ")),
        *(b"\n", b"\r", b"\t", b" ", b"\0", b"\xff", b"\xef\xbb\xbf", b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80"),
        *(b"9" * 5000, b"%YAML 1.1\n", b"<<: ", b"- ", b": "),
    ]
)


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, bytes]:
    """A good file, with a few places cut, doubled or overwritten."""
    suffix = draw(st.sampled_from(FORMATS))
    data = CONTENT[suffix]
    for _ in range(draw(st.integers(1, 6))):
        start = draw(st.integers(0, len(data)))
        end = draw(st.integers(start, min(len(data), start + 40)))
        middle = draw(st.one_of(st.just(b""), st.just(data[start:end] * 2), _PIECES, st.binary(max_size=8)))
        data = data[:start] + middle + data[end:]
    return draw(st.sampled_from([suffix, suffix, suffix, *FORMATS])), data


@given(mutated())
@settings(max_examples=600, deadline=None)
def test_mutated_files(file: tuple[str, bytes]) -> None:
    """A mutated file is a spec or a problem."""
    judged(*file)


@given(st.sampled_from(FORMATS), st.lists(_PIECES, max_size=40).map(b"".join))
@settings(max_examples=400, deadline=None)
def test_heaps_of_syntax(suffix: str, data: bytes) -> None:
    """A heap of the formats' own signs is a spec or a problem."""
    judged(suffix, data)


def filled(text: str, size: int = MAX_BYTES) -> bytes:
    """`text` again and again, up to a size in bytes."""
    piece = text.encode()
    return (piece * (size // len(piece) + 1))[:size]


YAML_BYTES = 16384
_ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join(['*' + before] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)
_MERGES = "a: &a {x: 1}\n" + "".join(f"b{number}:\n  <<: [*a, *a, *a]\n" for number in range(500))
HOSTILE = {
    "dotted keys": ("toml", filled("a.", 16384) + b"a=1"),
    "short dotted keys": ("toml", filled("a.a.a.a=1\n")),
    "dotted keys in one table": ("toml", b"x={" + b",".join(b"a%d.b.c.d=[]" % n for n in range(4000))),
    "nested headers": ("toml", filled("[a.b.c.d]\n")),
    "tables": ("toml", b"\n".join(b"[k%d]" % n for n in range(7000))),
    "unknown keys": ("toml", b"\n".join(b"k%d=1" % n for n in range(7000))),
    "wrong items": ("toml", b"command=[" + filled("1,", 60000) + b"]"),
    "quotes": ("toml", filled('"')),
    "escaped quotes": ("toml", filled('\\"')),
    "triple quotes": ("toml", b'x="""' + filled('""\\', 60000)),
    "hexadecimal": ("toml", b"order=0x" + filled("f", 60000)),
    "long command": ("toml", b"command='" + filled("a", 16000) + b"'"),
    "long word": ("toml", b"stop.signal='" + filled("TERM", 60000) + b"'"),
    "long duration": ("toml", b"min_ready='" + filled("9s", 60000) + b"'"),
    "bad environment": ("json", b'{"env":{' + b",".join(b'"k%d":1' % n for n in range(6000)) + b"}}"),
    "twice the same key": ("json", b"{" + b",".join([b'"k":1'] * 8000) + b"}"),
    "aliases": ("yaml", _ALIASES.encode()),
    "merge keys": ("yaml", _MERGES.encode()),
    "too many keys": ("yaml", b"".join(b"k%d: v\n" % n for n in range(1500))),
    "dates": ("yaml", b"command:\n" + filled("- 2001-01-01 01:01:01\n", 16000)),
    "open brackets after an end": ("yaml", b"[a]\n" + filled("{", 16000)),
    "directives": ("yaml", filled("%a\n", YAML_BYTES)),
    "block texts": ("yaml", b"command: |\n" + filled(" |\n", 16000)),
    **{f"brackets {bracket!r} {suffix}": (suffix, filled(bracket, 60000)) for suffix in FORMATS for bracket in "[{"},
    **{f"yaml brackets {piece!r}": ("yaml", filled(piece, YAML_BYTES)) for piece in ("[", "{", "[a,", "{a: ", "[[],")},
    **{
        f"{piece!r} {suffix}": (suffix, filled(piece, size))
        for suffix, size in (("toml", MAX_BYTES), ("json", MAX_BYTES), ("yaml", YAML_BYTES), ("yaml", MAX_BYTES))
        for piece in ("a", " ", "\n", "#\n", "'", ",", "=", "- ", "? ", "a: b\n", "a=1\n", "*a ", "&a ", "\\u0041", "é")
    },
}


HARMLESS = {"long command", "block texts"}  # odd, but good


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_file_is_refused_in_time(case: str) -> None:
    """Each of these files is refused within 100 ms of processor time."""
    suffix, data = HOSTILE[case]
    judged(suffix, b"")  # the parser itself is loaded once
    times = []
    for _ in range(3):  # the best of three, as others share the machine
        begun = time.process_time()
        result = judged(suffix, data)
        times.append(time.process_time() - begun)
    assert isinstance(result, tuple) or case in HARMLESS
    assert min(times) < LIMIT_S


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("byte", [0, 9, 10, 32, 34, 39, 44, 45, 46, 58, 61, 91, 92, 93, 97, 123, 125, 128, 255])
def test_one_byte_again_and_again(byte: int, suffix: str) -> None:
    """64 KiB of any one byte is refused within 100 ms of processor time; blanks say nothing, so lack a command."""
    judged(suffix, b"")
    begun = time.process_time()
    assert isinstance(judged(suffix, bytes([byte]) * MAX_BYTES), tuple)
    assert time.process_time() - begun < LIMIT_S
