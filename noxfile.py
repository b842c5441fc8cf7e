"""The project's chores. `nox` runs lint, types and tests; `nox -l` lists all; `nox -s NAME -- ARGUMENTS` runs one.

Packages come from the dependency groups of pyproject.toml, and the versions of Python from its classifiers.
"""

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.sessions = ["lint", "types", "tests"]

PROJECT = nox.project.load_toml("pyproject.toml")
PYTHONS = nox.project.python_versions(PROJECT)
SEEDS = "2000"


def group(name: str) -> list[str]:
    """The packages of a dependency group."""
    return nox.project.dependency_groups(PROJECT, name)


@nox.session
def lint(session: nox.Session) -> None:
    """Style and smells, by ruff; with `-- --fix`, mend what can be mended."""
    session.install(*group("lint"))
    session.run("ruff", "check", *session.posargs, ".")
    session.run("ruff", "format", *([] if session.posargs else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Types, by mypy: the package, and code as users would write it."""
    session.install(".", *group("types"))
    session.run("mypy", "reconciler", "tests/typing")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """All tests, on the installed package; arguments go to pytest."""
    session.install(".", *group("test"))
    session.run("pytest", *session.posargs)


@nox.session
def sim(session: nox.Session) -> None:
    """Seeds of the simulated world: `-- --seed N` tells the history of one, `-- --seeds 50000` tries many."""
    session.install(".")
    session.run("python", "-m", "reconciler.testing", *(session.posargs or ["--seeds", SEEDS]))


@nox.session
def docs(session: nox.Session) -> None:
    """The docs: generated parts as the code would generate them now, and links that lead somewhere.

    With `-- --write`, write the generated parts anew.
    """
    session.install(".", *group("test"))
    session.run("python", "docs/generate.py", *(session.posargs or ["--check"]))
    session.run("pytest", "tests/house/test_docs.py")


@nox.session
def bench(session: nox.Session) -> None:
    """Measure, and assert nothing; takes some minutes. The arguments are those of the first script.

    Beside a bare Python loop; then what each way to fork costs; then requests per second beside `uvicorn --workers`,
    for which wrk must be installed; then what workers write into files, beside supervisord; then what it costs to ask.
    """
    session.install(".", "supervisor", *group("servers"))
    session.run("python", "tests/bench/measure.py", *session.posargs)
    session.run("python", "tests/bench/forks.py")
    session.run("python", "tests/bench/throughput.py")
    session.run("python", "tests/bench/output.py")
    session.run("python", "tests/bench/asking.py")


@nox.session
def rollout(session: nox.Session) -> None:
    """Real servers under load while their workers are replaced, and others beside them; takes some ten minutes.

    It fails if a server that can drain loses a request. `-- --replacements 1000 --servers uvicorn` is the long form.
    nginx is left out where it is not installed.
    """
    session.install(".", "circus", "supervisor", *group("servers"))
    session.run("python", "-m", "bench.rollout", *session.posargs, env={"PYTHONPATH": "tests"})
