"""What a spec file may say, and what is refused, where, and in which words."""

import datetime as dt
import math
from typing import Any

import pytest
from spec_files import EXAMPLE, EXAMPLE_TOML, FORMATS, written

from reconciler.core.spec import Backoff, Budget, Restart, Rollout, SetSpec, StartLimit, Stop
from reconciler.sources.loading import MAX_BYTES, Problem, check_name, load

DIRECTORY = "/srv/specs"


def load_text(text: str | bytes, suffix: str = "toml") -> SetSpec | tuple[Problem, ...]:
    data = text.encode() if isinstance(text, str) else text
    return load("web", f"web.{suffix}", data, DIRECTORY)


def load_data(data: Any, suffix: str) -> SetSpec | tuple[Problem, ...]:
    return load_text(written(data, suffix), suffix)


def only_problem(result: SetSpec | tuple[Problem, ...]) -> Problem:
    assert isinstance(result, tuple), result
    assert len(result) == 1, [str(problem) for problem in result]
    return result[0]


def put(path: str, value: Any) -> dict[str, Any]:
    """A small spec with `value` at `path`."""
    data: dict[str, Any] = {"command": ["true"]}
    *tables, last = path.split(".")
    table = data
    for name in tables:
        table = table.setdefault(name, {})
    table[last] = value
    return data


def test_example_of_the_documentation() -> None:
    """The example of the documentation gives each value that it says."""
    assert load_text(EXAMPLE_TOML) == SetSpec(
        name="web",
        command=("python3", "-m", "http.server", "80{index}0"),
        replicas=3,
        cwd="/srv/specs",
        env={"GREETING": "hello {name} {index} {key}"},
        restart=Restart(
            backoff=Backoff(initial=1.0, factor=2.0, max=60.0, reset_after=60.0, jitter=0.25),
            start_limit=StartLimit(burst=5, interval=10.0),
        ),
        stop=Stop(signal="TERM", timeout=30.0),
        rollout=Rollout(max_surge=Budget(0), max_unavailable=Budget(1), progress_deadline=600.0),
    )


@pytest.mark.parametrize("suffix", [*FORMATS, "yml"])
def test_formats_agree(suffix: str) -> None:
    """The same settings give the same spec in every format."""
    assert load_data(EXAMPLE, suffix) == load_text(EXAMPLE_TOML)


def test_only_a_command_is_needed() -> None:
    """Without anything but a command, all defaults hold."""
    assert load_text('command = "true"') == SetSpec(name="web", command=("true",), cwd="/srv/specs")


ACCEPTED: list[tuple[str, Any, Any]] = [
    ("command", "sh -c 'echo \"a b\" #c' ''", ("sh", "-c", 'echo "a b" #c', "")),
    ("command", ["sh", "-c", "", "two words"], ("sh", "-c", "", "two words")),
    ("command", ["echo", "{{}} {name}-{index} {key}"], ("echo", "{{}} {name}-{index} {key}")),
    ("command", ["héllo", "naïve \U0001f600"], ("héllo", "naïve \U0001f600")),
    ("replicas", 0, 0),
    ("replicas", 10_000, 10_000),
    ("order", -7, -7),
    ("cwd", "logs/{name}", "/srv/specs/logs/{name}"),
    ("cwd", "/var/{key}", "/var/{key}"),
    ("cwd", "..", "/srv/specs/.."),
    ("env", {}, {}),
    ("env", {"A.b c": "", "Ä": "{{x}}"}, {"A.b c": "", "Ä": "{{x}}"}),
    ("clear_env", True, True),
    ("suspend", True, True),
    ("min_ready", 1, 1.0),
    ("min_ready", 0.5, 0.5),
    ("min_ready", "500ms", 0.5),
    ("min_ready", "1h30m", 5400.0),
    ("min_ready", "1d2h3m4s5ms", 93784.005),
    ("min_ready", "1.5m", 90.0),
    ("restart.policy", "on_failure", "on_failure"),
    ("restart.success_exit_codes", [], ()),
    ("restart.success_exit_codes", [0, 255], (0, 255)),
    ("restart.backoff.initial", "0s", 0.0),
    ("restart.backoff.factor", 1, 1.0),
    ("restart.backoff.jitter", 0, 0.0),
    ("restart.start_limit", {}, StartLimit()),
    ("stop.signal", "SIGUSR1", "USR1"),
    ("stop.signal", "KILL", "KILL"),
    ("stop.timeout", 0, 0.0),
    ("rollout.strategy", "on_delete", "on_delete"),
    ("rollout.max_surge", "25%", Budget(25, percent=True)),
    ("rollout.max_surge", "100%", Budget(100, percent=True)),
    ("rollout.max_unavailable", 3, Budget(3)),
]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("path", "given", "expected"), ACCEPTED, ids=lambda value: str(value)[:30])
def test_accepted(path: str, given: Any, expected: Any, suffix: str) -> None:
    """Each of these values is taken, and means this."""
    found: Any = load_data(put(path, given), suffix)
    assert isinstance(found, SetSpec), [str(problem) for problem in found]
    for name in path.split("."):
        found = getattr(found, name)
    assert found == expected
    assert type(found) is type(expected) or path == "env"


REFUSED: list[tuple[str, Any, str, str]] = [
    # where it is put, the value, the path of the problem, words of its message
    ("command", [], "command", "expected a program, which comes first; got []"),
    ("command", "", "command", "expected a program"),
    ("command", "  ", "command", "expected a program"),
    ("command", ["", "x"], "command", "expected a program"),
    ("command", "sh -c 'x", "command", 'no closing quotation; got "sh -c \'x"'),
    ("command", 5, "command", 'expected a list of texts, like ["sleep", "60"], or one text; got 5'),
    ("command", {"a": "b"}, "command", "expected a list of texts"),
    ("command", ["sh", 5], "command[1]", "expected text; got 5"),
    ("command", ["sh", True], "command[1]", "expected text; got true"),
    ("command", ["sh", "-c", ["x"]], "command[2]", "expected text; got ['x']"),
    ("command", ["echo", "a\0b"], "command[1]", "holds a NUL character; got 'a\\x00b'"),
    ("command", ["echo", "{nme}"], "command[1]", "unknown placeholder {nme}; known are {name}, {index}, {key}"),
    ("command", "echo '{'", "command", "a lone '{' at character 0"),
    ("command", ["echo", "a}b"], "command[1]", "a lone '}' at character 1"),
    ("replicas", -1, "replicas", "must be at least 0; got -1"),
    ("replicas", 10_001, "replicas", "must be at most 10000; got 10001"),
    ("replicas", True, "replicas", "expected a whole number; got true"),
    ("replicas", 3.0, "replicas", "expected a whole number; got 3.0"),
    ("replicas", "3", "replicas", "expected a whole number; got '3'"),
    ("replicas", [3], "replicas", "expected a whole number; got [3]"),
    ("order", 10**7, "order", "must be at most 1000000; got 10000000"),
    ("cwd", 1, "cwd", "expected text; got 1"),
    ("cwd", "a\0", "cwd", "holds a NUL character"),
    ("cwd", "{x}", "cwd", "unknown placeholder {x}"),
    ("env", "A=1", "env", 'expected a table of texts, like { NAME = "value" }; got text'),
    ("env", ["A=1"], "env", "expected a table of texts"),
    ("env.A", 1, "env.A", "expected text; got a number (put it in quotes)"),
    ("env.A", True, "env.A", "expected text; got true"),
    ("env.A", ["1"], "env.A", "expected text; got a list"),
    ("env.A", "a\0", "env.A", "holds a NUL character"),
    ("env.A", "{home}", "env.A", "unknown placeholder"),
    ("env", {"a b": 1}, "env['a b']", "expected text; got a number"),
    ("env", {"": "x"}, "env", "'' cannot be the name of an environment variable"),
    ("env", {"A=B": "x"}, "env", "'A=B' cannot be the name of an environment variable"),
    ("env", {"A\0": "x"}, "env", "'A\\x00' cannot be the name of an environment variable"),
    ("clear_env", "false", "clear_env", "expected true or false; got 'false' (did you mean false, without quotes?)"),
    ("clear_env", 0, "clear_env", "expected true or false; got 0"),
    ("suspend", "no", "suspend", "expected true or false; got 'no'"),
    ("min_ready", -1, "min_ready", "must be at least 0; got -1"),
    ("min_ready", True, "min_ready", "expected a duration like"),
    ("min_ready", "-1s", "min_ready", "expected a duration like"),
    ("min_ready", "30", "min_ready", "got '30' (did you mean '30s'?)"),
    ("min_ready", "30 S", "min_ready", "got '30 S' (did you mean '30s'?)"),
    ("min_ready", "30 parsecs", "min_ready", 'expected a duration like 30, "30s", "500ms" or "1h30m"'),
    ("min_ready", "", "min_ready", "expected a duration like"),
    ("min_ready", "1e3s", "min_ready", "expected a duration like"),
    ("min_ready", "٣s", "min_ready", "expected a duration like"),
    ("min_ready", "36501d", "min_ready", "expected at most 100 years; got '36501d'"),
    ("min_ready", 10**400, "min_ready", "expected a finite number"),
    ("restart", "always", "restart", "expected a table; got 'always'"),
    ("restart.policy", "on-failure", "restart.policy", "got 'on-failure' (did you mean 'on_failure'?)"),
    ("restart.policy", "Always", "restart.policy", "(did you mean 'always'?)"),
    ("restart.policy", 1, "restart.policy", "expected one of always, on_failure, never; got 1"),
    ("restart.success_exit_codes", 0, "restart.success_exit_codes", "expected a list, like [0, 1]; got 0"),
    ("restart.success_exit_codes", "01", "restart.success_exit_codes", "expected a list"),
    ("restart.success_exit_codes", [0, 256], "restart.success_exit_codes[1]", "must be at most 255; got 256"),
    ("restart.success_exit_codes", [-1], "restart.success_exit_codes[0]", "must be at least 0; got -1"),
    ("restart.success_exit_codes", [0, "1"], "restart.success_exit_codes[1]", "expected a whole number; got '1'"),
    ("restart.backoff.initial", "1x", "restart.backoff.initial", "expected a duration like"),
    ("restart.backoff.factor", 0.5, "restart.backoff.factor", "must be at least 1; got 0.5"),
    ("restart.backoff.factor", "2", "restart.backoff.factor", "expected a number; got '2'"),
    ("restart.backoff.factor", True, "restart.backoff.factor", "expected a number; got true"),
    ("restart.backoff.factor", 10**400, "restart.backoff.factor", "expected a finite number"),
    ("restart.backoff.jitter", 1.5, "restart.backoff.jitter", "must be at most 1; got 1.5"),
    ("restart.start_limit.burst", 0, "restart.start_limit.burst", "must be at least 1; got 0"),
    ("restart.start_limit", 5, "restart.start_limit", "expected a table; got 5"),
    ("stop.signal", "term", "stop.signal", "got 'term' (did you mean 'TERM'?)"),
    ("stop.signal", "SIGTREM", "stop.signal", "(did you mean 'TERM'?)"),
    ("stop.signal", 15, "stop.signal", 'expected the name of a signal, like "TERM"; got 15'),
    ("stop.timeout", "soon", "stop.timeout", "expected a duration like"),
    ("rollout.max_surge", -1, "rollout.max_surge", "expected a number from 0 to 10000, or a percentage"),
    ("rollout.max_surge", "101%", "rollout.max_surge", "got '101%'"),
    ("rollout.max_surge", "25", "rollout.max_surge", "got '25'"),
    ("rollout.max_surge", 0.5, "rollout.max_surge", "got 0.5"),
    ("rollout.max_surge", True, "rollout.max_surge", "got true"),
    ("rollout.max_unavailable", 0, "rollout", "max_surge and max_unavailable are both 0"),
    ("rollout.strategy", "roling", "rollout.strategy", "(did you mean 'rolling'?)"),
    ("replcas", 3, "", "unknown key 'replcas' (did you mean 'replicas'?)"),
    ("name", "other", "", "unknown key 'name'"),
    ("restart.backof", {}, "restart", "unknown key 'backof' (did you mean 'backoff'?)"),
    ("restart.backoff.inital", "1s", "restart.backoff", "unknown key 'inital' (did you mean 'initial'?)"),
    ("stop.$schema", "x", "stop", "unknown key '$schema'"),
]


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("where", "given", "path", "words"), REFUSED, ids=lambda value: str(value)[:30])
def test_refused(where: str, given: Any, path: str, words: str, suffix: str) -> None:
    """Each of these values is refused, at this path, in these words."""
    problem = only_problem(load_data(put(where, given), suffix))
    assert (problem.file, problem.path) == (f"web.{suffix}", path)
    assert words in problem.message
    assert str(problem).endswith(f" @ web.{suffix}" + (f".{path}" if path else ""))


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("where", ["min_ready", "restart.backoff.factor", "restart.backoff.jitter"])
@pytest.mark.parametrize("suffix", ["toml", "yaml"])
def test_numbers_must_be_finite(where: str, number: float, suffix: str) -> None:
    """Infinities and NaN are refused where TOML and YAML can say them."""
    problem = only_problem(load_data(put(where, number), suffix))
    assert problem.path == where
    assert "expected a finite number" in problem.message


def test_dates_are_not_text() -> None:
    """A bare date, which TOML and YAML have, is refused where text is expected."""
    day = dt.date(2026, 11, 23)
    for suffix in ("toml", "yaml"):
        separator = " = " if suffix == "toml" else ": "
        problem = only_problem(load_text(f"command{separator}[x, {day}]".replace("x", '"x"'), suffix))
        assert str(problem) == f"expected text; got 2026-11-23 @ web.{suffix}.command[1]"


def test_all_problems_at_once() -> None:
    """Every problem of a file is told, those of nested tables included, and that of its name."""
    result = load(
        "We b",
        "We b.toml",
        b"""
        comand = "x"
        replicas = "3"
        [restart]
        policy = "sometimes"
        backoff = { initial = "x", factor = 0 }
        [stop]
        signal = 9
        """,
        DIRECTORY,
    )
    assert isinstance(result, tuple)
    assert {problem.path for problem in result} == {
        "",
        "command",
        "replicas",
        "restart.policy",
        "restart.backoff.initial",
        "restart.backoff.factor",
        "stop.signal",
    }
    assert [problem.message.split(" (")[0] for problem in result if not problem.path] == [
        check_name("We b").split(" (")[0],
        "unknown key 'comand'",
    ]


def test_many_problems_are_bounded() -> None:
    """Of thousands of problems fifty are told, and that there are more."""
    result = load_text("command = [" + "1, " * 5000 + "]\n")
    assert isinstance(result, tuple)
    assert len(result) == 51
    assert result[-1].message == "and more problems than are listed here"


def test_long_command_text() -> None:
    """A very long command is only taken as a list, since splitting it would be slow."""
    assert "write it as a list" in only_problem(load_data({"command": "a" * 16_385}, "toml")).message
    assert isinstance(load_data({"command": "a" * 16_384}, "toml"), SetSpec)
    assert isinstance(load_data({"command": ["a" * 60_000]}, "toml"), SetSpec)


def test_missing_command() -> None:
    """A file without a command is refused; an empty one has no command."""
    for suffix, text in [("toml", ""), ("toml", "replicas = 1"), ("json", "{}"), ("yaml", ""), ("yaml", "# nothing")]:
        problem = only_problem(load_text(text, suffix))
        assert problem.path == "command"
        assert problem.message.startswith("missing: The program and its arguments")


def test_env_values_are_never_quoted() -> None:
    """No message holds a value of `env`, as it may be a secret."""
    for bad in ("env = { A = 70707 }", 'env = "A=70707"', "env = { A = 'x{70707' }", "env = ['70707']"):
        for problem in load_text(f'command = "true"\n{bad}\n'):
            assert "70707" not in str(problem)
    assert "70707" not in str(load_text("A=70707", "yaml"))


def test_quoted_values_are_short_and_printable() -> None:
    """What a message quotes is at most 60 characters and cannot forge a line."""
    problem = only_problem(load_data(put("replicas", "\x1b[31m\r\n\u202e" + "x" * 1000), "json"))
    assert str(problem).isprintable()
    assert len(str(problem)) < 120
    key = only_problem(load_data(put("a\nb" * 100, 1), "json"))
    assert str(key).isprintable()
    assert len(str(key)) < 120


def test_hostile_file_name_is_printable() -> None:
    """A file's name with control characters cannot forge a line either."""
    problem = load("a", "a\n\x1b.toml", b"", DIRECTORY)[0]  # type: ignore[index]
    assert str(problem).isprintable()


@pytest.mark.parametrize("name", ["a", "0", "web", "a.b_c-d", "x" * 63])
def test_good_names(name: str) -> None:
    """These are names of worker sets."""
    assert check_name(name) is None


@pytest.mark.parametrize(
    ("name", "hint"),
    [("", ""), ("Web", "'web'"), ("a b", "'a-b'"), ("-a", "'a'"), ("a.", "'a'"), ("x" * 64, "'" + "x" * 63), ("ä", "")],
)
def test_bad_names(name: str, hint: str) -> None:
    """These are not; the nearest good one is told where there is one."""
    message = check_name(name)
    assert message is not None
    assert (f"did you mean {hint}" in message) if hint else ("did you mean" not in message)


def test_name_with_a_line_end_is_bad() -> None:
    """A name that ends in a newline is not mistaken for a good one."""
    assert check_name("web\n") is not None


def test_relative_cwd_is_below_the_directory() -> None:
    """A relative cwd is joined to the spec directory, whose own braces are literal."""
    spec = load("a", "a.toml", b'command = "x"\ncwd = "./run/{index}"', "/srv/{odd}/specs")
    assert isinstance(spec, SetSpec)
    assert spec.cwd == "/srv/{{odd}}/specs/run/{index}"


def test_schema_key_is_ignored() -> None:
    """A top-level `$schema` is for editors."""
    assert load_data({"$schema": "./x.json", **EXAMPLE}, "json") == load_text(EXAMPLE_TOML)


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
    ("yaml", '"\\Uffffffff": x', "not valid YAML: the parser stumbled over it (ValueError)"),
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


def test_yaml_block_style() -> None:
    """YAML as people write it, with comments and block texts, is read."""
    spec = load_text(
        """# workers
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
""",
        "yaml",
    )
    assert isinstance(spec, SetSpec)
    assert spec.command == ("sh", "-c", "echo one\necho two\n")
    assert spec.restart == Restart()
