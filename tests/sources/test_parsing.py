"""Files as a whole: encodings, syntax, and what each format may not do."""

import subprocess
import sys

import pytest
from spec_files import EXAMPLE, FORMATS, written

from reconciler.core.spec import Restart, SetSpec
from reconciler.sources.loading import MAX_BYTES, Problem, load


def load_text(text: str | bytes, suffix: str = "toml") -> SetSpec | tuple[Problem, ...]:
    data = text.encode() if isinstance(text, str) else text
    return load("web", f"web.{suffix}", data, "/srv/specs")


def only_problem(result: SetSpec | tuple[Problem, ...]) -> Problem:
    assert isinstance(result, tuple), result
    assert len(result) == 1, [str(problem) for problem in result]
    return result[0]


@pytest.mark.parametrize("suffix", FORMATS)
def test_byte_order_mark(suffix: str) -> None:
    """A UTF-8 byte order mark is accepted."""
    assert isinstance(load_text(b"\xef\xbb\xbf" + written(EXAMPLE, suffix), suffix), SetSpec)


@pytest.mark.parametrize("suffix", FORMATS)
def test_windows_line_ends(suffix: str) -> None:
    """Lines may end in CR LF."""
    assert isinstance(load_text(written(EXAMPLE, suffix).replace(b"\n", b"\r\n"), suffix), SetSpec)


WHOLE_FILE: list[tuple[str, str | bytes, str]] = [
    ("toml", b'command = "x"\n# \xff', "not UTF-8: byte 0xff at line 2"),
    ("toml", b'command = "x"\n\n# \0', "a NUL character at line 3, column 3"),
    ("json", '{"command": "x"}'.encode("utf-16"), "not UTF-8: byte 0xff at line 1"),
    ("toml", 'command = "x', "not valid TOML: Unterminated string (at end of document)"),
    ("toml", 'command = "x"\nreplicas = 1 2', "line 2, column 14"),
    ("toml", "replicas = 1\nreplicas = 2\n", "Cannot overwrite a value (at line 2"),
    ("toml", "order = " + "9" * 5000, "a number of too many digits"),
    ("toml", "a.b.c.d.e = 1", "a key of more than 4 parts at line 1, column 8"),
    ("toml", 'command = "x"\n x = ' + "[" * 17, "nested more than 16 levels deep at line 2, column 22"),
    ("json", "", "not valid JSON: Expecting value at line 1, column 1"),
    ("json", '{"command": ["x"],\n "replicas": }', "Expecting value at line 2, column 14"),
    ("json", '{"env": {"A": "1", "B": "2", "A": "3"}}', "the key 'A' stands twice in one table"),
    ("json", '{"min_ready": NaN}', "NaN is not a finite number"),
    ("json", '{"min_ready": -Infinity}', "-Infinity is not a finite number"),
    ("json", '{"order": ' + "9" * 5000 + "}", "a number of too many digits"),
    ("json", "[" * 17, "nested more than 16 levels deep at line 1, column 17"),
    ("json", "[]", "expected a table of settings at the top of the file; got a list"),
    ("json", "null", "expected a table of settings at the top of the file; got nothing"),
    ("yaml", "just text", "expected a table of settings at the top of the file; got text"),
    ("yaml", "command: [x", "not valid YAML: "),
    ("yaml", "command: x\n\treplicas: 1", "at line 2, column 1"),
    ("yaml", "replicas: 1\nreplicas: 2", "the key 'replicas' stands twice in one table at line 2, column 1"),
    ("yaml", "1: x", "expected text as a key; got 1 at line 1, column 1"),
    ("yaml", "? [a]\n: x", "expected text as a key; got ['a'] at line 1, column 3"),
    ("yaml", "a: &x 1\nb: *x", "an alias (*) is not allowed at line 2, column 4"),
    ("yaml", "a: {x: 1}\n<<: {y: 2}", "a merge key (<<) is not allowed at line 2, column 1"),
    ("yaml", "command: !!python/object/apply:os.system [x]", "a tag ('tag:yaml.org,2002:python/object/apply:os."),
    ("yaml", "command: !mine x", "a tag ('!mine') is not allowed at line 1, column 10"),
    ("yaml", "%YAML 1.1\n---\nsuspend: no", "a directive (a line that begins with %) is not allowed"),
    ("yaml", "command: x\n---\ncommand: y", "a second document is not allowed at line 2, column 1"),
    ("yaml", "x: " + "[" * 17, "nested more than 16 levels deep at line 1, column 20"),
    ("yaml", "- " * 17 + "x", "nested more than 16 levels deep at line 1, column 33"),
    ("yaml", "order: " + "9" * 5000, "something like a number or a date that is none; put it in quotes"),
    ("yaml", "order: 2026-13-45", "something like a number or a date that is none"),
    ("yaml", '"\\U00110000": x', "not valid YAML: the parser stumbled over it (ValueError)"),
    ("yaml", "env: {A: \x01}", "not valid YAML: "),
    ("yaml", "# " + "x" * 20_000, "too large for YAML: 20002 characters; at most 16384"),
    ("yaml", "env:\n" + "".join(f" a{i}: x\n" for i in range(600)), "too long for YAML: more than 800 keys and values"),
    ("toml", "x = [" + "1," * 12_000 + "]", "too long: more than 10000"),
    ("toml", b"#" * (MAX_BYTES + 1), "too large: 65537 bytes; at most 65536"),
    ("ini", "", "expected a file name that ends in .toml, .yaml, .yml or .json"),
]


@pytest.mark.parametrize(("suffix", "text", "words"), WHOLE_FILE, ids=lambda value: str(value)[:30])
def test_whole_file_refused(suffix: str, text: str | bytes, words: str) -> None:
    """Each of these files is refused as a whole, saying where where that is known."""
    problem = only_problem(load_text(text, suffix))
    assert problem.path == ""
    assert words in problem.message
    assert problem.message.isprintable()


def test_largest_file() -> None:
    """A file of exactly the largest size is read."""
    text = b'command = "true"\n#'
    assert isinstance(load_text(text + b"x" * (MAX_BYTES - len(text))), SetSpec)


def test_lone_surrogates() -> None:
    """Half of a surrogate pair, which JSON and YAML can write, is refused; a whole pair in JSON is one character."""
    assert "lone surrogate" in only_problem(load_text(r'{"command": ["x", "\ud83d"]}', "json")).message
    assert "lone surrogate" in only_problem(load_text(r'{"command": "x", "env": {"A": "\udfff"}}', "json")).message
    assert only_problem(load_text(r'{"command": "x", "env": {"\udfff": ""}}', "json")).path == "env"
    assert isinstance(load_text('command: ["x", "\\ud83d"]', "yaml"), tuple)
    spec = load_text(r'{"command": ["x", "\ud83d\ude00"]}', "json")
    assert isinstance(spec, SetSpec)
    assert spec.command == ("x", "\U0001f600")


def test_toml_dots_and_brackets_in_text_do_not_count() -> None:
    """The bounds on nesting and dotted keys look at the file's structure, not at what stands in texts and comments."""
    odd = "[[{{..........................................}}]]" * 5
    text = f"""command = ['''{odd}
{odd}''', "{odd}\\"{odd}", '{odd}']  # [[[[[[[[[[[[[[[[[[[[[[ a.b.c.d.e.f.g.h.i
env = {{ "{odd}" = \"\"\"{odd}"x\"\"{odd}\"\"\"\"\" }}
"""
    assert isinstance(load_text(text), SetSpec)


def test_yaml_is_1_2() -> None:
    """Words that older YAML took for truth values, and times of day, are text."""
    spec = load_text("command: [no, on, yes, off, y, 22:30, '=', <<, 0o, ~x]\nenv: {on: no}", "yaml")
    assert isinstance(spec, SetSpec)
    assert spec.command == ("no", "on", "yes", "off", "y", "22:30", "=", "<<", "0o", "~x")
    assert spec.env == {"on": "no"}


def test_yaml_parser_is_imported_at_the_first_yaml_file() -> None:
    """Whoever has no YAML file does not pay for its parser."""
    script = """
import sys
from reconciler.sources.loading import load
load("a", "a.toml", b'command = "x"', "/")
load("a", "a.json", b'{"command": "x"}', "/")
assert "ruamel.yaml" not in sys.modules
load("a", "a.yml", b"command: x", "/")
assert "ruamel.yaml" in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_yaml_block_style() -> None:
    """YAML as people write it, with comments and block texts, is read."""
    spec = load_text(
        """---
# workers
command:
  - sh
  - -c
  - |
    echo one
    echo two
replicas: 2   # two
restart:
  start_limit:
  backoff: {initial: 1s}
...
""",
        "yaml",
    )
    assert isinstance(spec, SetSpec)
    assert spec.command == ("sh", "-c", "echo one\necho two\n")
    assert spec.restart == Restart()
