"""What a spec file may say, and what is refused, where, and in which words."""

import datetime as dt
import math
import sys
from typing import Any

import pytest
from spec_files import EXAMPLE, EXAMPLE_TOML, FORMATS, written

from reconciler.core.spec import (
    Backoff,
    Budget,
    Dependency,
    Drain,
    Restart,
    Rollout,
    SetSpec,
    Socket,
    StartLimit,
    Stop,
)
from reconciler.sources.loading import Problem, check_name, load

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
        min_ready=0.0,
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
    ("rollout.partition", "50%", Budget(50, percent=True)),
    ("depends_on", ["db", {"set": "c"}], (Dependency(set="db"), Dependency(set="c"))),
    ("probes.readiness.exec", "check 'it now'", ("check", "it now")),
    ("sockets", [{"name": "a", "address": "8000"}], (Socket(name="a", address="8000"),)),
    ("ready.fd", 9, 9),
    ("watchdog", "30s", 30.0),
    ("stop.drain", {"command": "sleep 1"}, Drain(command=("sleep", "1"))),
    ("watch.paths", ["*.py", "/etc/**"], ("*.py", "/etc/**")),
    ("time_zone", "local", "local"),
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
    ("env", {"RECONCILER_KEY": "x"}, "env.RECONCILER_KEY", "the controller sets this itself"),
    ("stop", {"signal": "STOP"}, "stop.signal", "expected a signal that can end a process, like TERM; got 'STOP'"),
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
    ("restart.backoff.initial", "2m", "restart.backoff", "initial, 120 s, is above max, 60 s; lower it, or raise max"),
    ("sockets", {"name": "a"}, "sockets", "expected a list of tables; got {'name': 'a'}"),
    ("sockets", ["a"], "sockets[0]", "expected a table; got 'a'"),
    ("sockets", [{"name": "a", "adress": "1"}], "sockets[0]", "unknown key 'adress' (did you mean 'address'?)"),
    ("sockets", [{"address": "80"}], "sockets[0].name", "missing: What the socket is called"),
    ("sockets", [{"name": "A b", "address": "80"}], "sockets[0].name", "expected a name of a-z"),
    ("sockets", [{"name": "a", "address": "x:80"}], "sockets[0]", "'x:80' is no address to listen on; write host:port"),
    ("sockets", [{"name": "a", "address": "unix:x"}], "sockets[0]", "write one such as unix:/run/name.sock"),
    ("sockets", [{"name": "a", "address": "unix:/x", "mode": "888"}], "sockets[0].mode", "in octal, as text"),
    ("sockets", [{"name": "a", "address": "80", "mode": "600"}], "sockets[0]", "are for Unix sockets"),
    ("command", ["x", "{fd:http}"], "command[1]", "names no socket of this spec"),
    ("ready", {"notify": True, "fd": 9}, "ready", "two ways to tell one thing; choose one"),
    ("ready.fd", 1, "ready.fd", "must be at least 3; got 1"),
    ("ready.fd", "3", "ready.fd", "expected a whole number; got '3'"),
    ("probes.readiness", {}, "probes.readiness", "exactly one of http, tcp, exec and file; this one has 0"),
    ("probes.readiness", {"tcp": "80"}, "probes.readiness.tcp", 'say at which host, like "127.0.0.1:80"'),
    ("probes.liveness", {"file": "x", "success_threshold": 2}, "probes", "must be 1 for a liveness probe"),
    ("probes.readiness.http", {"address": "localhost"}, "probes.readiness.http.address", "the port is missing"),
    ("probes.readiness.http", {"address": "a:1", "path": "x"}, "probes.readiness.http", "path must begin with /"),
    (
        "probes.readiness.http",
        {"address": "a:1", "status": [200, 20]},
        "probes.readiness.http.status[1]",
        "must be at least 100; got 20",
    ),
    (
        "probes.readiness.http",
        {"address": "a:1", "headers": {"A b": "x"}},
        "probes.readiness.http.headers",
        "'A b' cannot be the name of a header",
    ),
    (
        "probes.readiness.http",
        {"address": "a:1", "headers": {"A": "x\ny"}},
        "probes.readiness.http.headers.A",
        "expected ASCII text of one line",
    ),
    ("depends_on", "db", "depends_on", "expected a list, like [\"db\"]; got 'db'"),
    ("depends_on", [5], "depends_on[0]", 'expected the name of a set, like "db", or a table'),
    ("depends_on", ["d b"], "depends_on[0]", "expected a name of a-z"),
    ("depends_on", [{"set": "db", "condition": "up"}], "depends_on[0].condition", "started, ready, completed"),
    ("depends_on", ["db", {"set": "db"}], "depends_on[1]", "already; leave one out"),
    ("watchdog", 0, "watchdog", "must be at least 0.01; got 0"),
    ("starting_deadline", -5, "starting_deadline", "must be at least 0; got -5"),
    ("schedule", "* * * * *", "schedule", 'only a job has one; add kind = "job", or take it out'),
    ("time_zone", "Mars/Phobos", "time_zone", "knows no time zone 'Mars/Phobos'; write one like"),
    ("stop.drain.command", [], "stop.drain.command", "expected a program"),
    ("watch.paths", "*.py", "watch.paths", 'expected a list of patterns, like ["app/**/*.py"]'),
    ("watch.paths", ["*.{py,js}"], "watch.paths[0]", "braces mean nothing in a pattern; write one pattern for each"),
    ("watch.paths", ["app/**.py"], "watch.paths[0]", "write it between slashes"),
    ("watch.paths", ["*.py", "app/"], "watch.paths[1]", "patterns are for files; add **"),
    ("watch.paths", ["a\0"], "watch.paths[0]", "NUL"),
    ("content", "x", "", "unknown key 'content'"),
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


def job(expression: str, zone: str = "UTC") -> dict[str, Any]:
    return {"command": ["true"], "kind": "job", "schedule": expression, "time_zone": zone}


@pytest.mark.parametrize("expression", ["*/5 * * * *", "0 3 * * MON-FRI", "0 0 L * *", "*/10 * * * * *"])
def test_schedules(expression: str) -> None:
    """A schedule of five fields, or of six with the seconds first, is taken."""
    found = load_data(job(expression, "Europe/Rome"), "toml")
    assert isinstance(found, SetSpec)
    assert found.schedule == expression


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("@daily", "wrong number of fields; expected minute, hour"),
        ("61 * * * *", "bad minute"),
        ("0 0 31 2 *", "bad day-of-month"),
        ("9" * 499, "wrong number of fields"),
        (" ".join(["9" * 90] * 5), "bad minute"),
        ("* " * 300, "longer than 500 characters"),
    ],
)
def test_bad_schedules(expression: str, words: str) -> None:
    """What is no schedule is refused when the file is read, with the form that is expected."""
    problem = only_problem(load_data(job(expression), "toml"))
    assert problem.path == "schedule"
    assert words in problem.message


def test_schedules_without_their_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the library of schedules is missing, a file with one is refused with what to install."""
    monkeypatch.setitem(sys.modules, "cronsim", None)
    problem = only_problem(load_data(job("* * * * *"), "toml"))
    assert problem.message == (
        'schedules need the library cronsim, which is not installed: pip install "worker-reconciler[cron]"'
    )
    assert isinstance(load_data({"command": ["true"]}, "toml"), SetSpec)


def test_headers_are_never_quoted() -> None:
    """No message holds the value of a header, as it may be a secret."""
    for bad in (70707, "{70707", "70707\n"):
        check = {"address": "localhost:1", "headers": {"A": bad}}
        problem = only_problem(load_data(put("probes.readiness.http", check), "json"))
        assert problem.path == "probes.readiness.http.headers.A"
        assert "70707" not in problem.message
