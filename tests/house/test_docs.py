"""The docs agree with the code, and their links lead somewhere."""

import importlib.util
import re
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click
import pytest
from house.tree import PACKAGE, ROOT, files

import reconciler
from reconciler.cli import command_line
from reconciler.core.event import CATALOGUE
from reconciler.core.lifecycle import TABLE
from reconciler.core.spec import SetSpec
from reconciler.core.worker import Phase
from reconciler.sources.loading import load
from reconciler.steering.verbs import VERBS

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted(DOCS.rglob("*.md"))]
REFERENCE = sorted((DOCS / "reference").glob("*.md"))

_LINK = re.compile(r"\[[^]\[]+\]\(([^)\s]+)\)")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def text(page: Path) -> str:
    """A page as it is written."""
    return page.read_text("utf-8")


def links(page: Path) -> list[str]:
    """Where a page leads, inside the project; what stands in code is no link."""
    prose = re.sub(r"`[^`\n]*`", "code", _FENCE.sub("", text(page)))
    return [link for link in _LINK.findall(prose) if "://" not in link]


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in this language."""
    return [block for found, block in _FENCE.findall(text(page)) if found == language]


@cache
def generator() -> ModuleType:
    """The script that writes the generated parts."""
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_parts_are_up_to_date() -> None:
    """The generated parts are what the code says now; `python docs/generate.py` writes them anew."""
    assert [page.name for page in REFERENCE if generator().generated(page) != text(page)] == []


def test_each_generated_part_has_its_place() -> None:
    """Every part that can be generated stands in one page."""
    placed = [name for page in REFERENCE for name in re.findall(r"<!-- generated: ([a-z-]+) -->", text(page))]
    assert sorted(placed) == sorted(generator().PARTS)


def test_links_lead_somewhere() -> None:
    """Every link inside the project leads to a file or directory that is there."""
    lost = [
        (page.name, link) for page in PAGES for link in links(page) if not (page.parent / link.split("#")[0]).exists()
    ]
    assert lost == []
    assert sum(len(links(page)) for page in PAGES) > 50


def test_every_page_can_be_reached() -> None:
    """From the front page of the docs, every page can be reached by following links."""
    reached: set[Path] = set()
    ahead = [DOCS / "index.md"]
    while ahead:
        page = ahead.pop()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            ahead += [(page.parent / link.split("#")[0]).resolve() for link in links(page)]
    assert set(DOCS.rglob("*.md")) - reached == set()


def test_every_event_is_in_the_reference() -> None:
    """Each event of the catalogue stands in the reference with its meaning, and no other does."""
    page = text(DOCS / "reference" / "events.md")
    rows = dict(re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| \w+ \| (.+?) \|", page, re.MULTILINE))
    assert rows == {name: kind.doc for name, kind in CATALOGUE.items()}


NEVER_TOLD = {"Changing", "NotFound", "Stray"}
"""Reasons that no event carries."""


def test_every_reason_is_in_the_reference() -> None:
    """Each word in CamelCase that the code gives as a reason is explained beside the events."""
    page = text(DOCS / "reference" / "events.md")
    # Rooms that tell no events, like what runs inside a worker.
    silent = ("testing", "context", "control", "steering", "verbs")
    inside = (PACKAGE / "worker.py", PACKAGE / "client.py")
    told = [path for path in files("reconciler") if path.parent.name not in silent and path not in inside]
    types = {
        "Converter",
        "WorkerContext",
        "Duration",
        "SignalName",
        "OutputMode",
        "FileMode",
        "Name",
        "Patterns",
        "Size",
        "CronSim",
    }
    headers = {"Accept", "Connection", "Host"}
    types |= {name for path in files("reconciler") for name in re.findall(r"^class (\w+)", text(path), re.MULTILINE)}
    words = {
        word
        for path in told
        for word in re.findall(r"\"((?:[A-Z][a-z]+)+)\"", text(path))
        if word not in types | headers | set(Phase) | {"Pending"} | NEVER_TOLD
    }
    assert len(words) > 30
    assert sorted(word for word in words if f"`{word}`" not in page) == []


def test_every_option_is_in_the_reference() -> None:
    """Each command and each option of the command line stands in the reference."""
    page = text(DOCS / "reference" / "cli.md")
    commands = generator().all_commands()
    for command in (command_line, *commands.values()):
        for option in command.params:
            if isinstance(option, click.Option):
                assert f"| `{option.opts[0]}" in page
    for name in commands:
        assert f"### `reconciler {name}" in page


def test_every_setting_is_in_the_reference() -> None:
    """Each key of a spec file stands in the reference, in the example and in the table."""
    page = text(DOCS / "reference" / "spec-file.md")
    examples = "\n".join(blocks(DOCS / "reference" / "spec-file.md", "toml"))
    for field in attrs.fields(SetSpec):
        if "doc" in field.metadata:
            assert f"| `{field.name}` |" in page or f"`[{field.name}]`" in page or f"`[{field.name}." in page, field
            assert re.search(rf"^\[*{field.name}( = |[].])", examples, re.MULTILINE), field


def test_every_verb_of_the_protocol_is_in_the_reference() -> None:
    """Each verb of the control socket stands in the page of the protocol."""
    table = text(DOCS / "reference" / "protocol.md").partition("## Verbs")[2].partition("## From Python")[0]
    listed = {name for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert listed == VERBS.keys()


def test_every_public_name_is_in_the_reference() -> None:
    """Each public name stands in the Python reference."""
    page = text(DOCS / "reference" / "python.md")
    assert [name for name in reconciler.__all__ if f"| `{name}` |" not in page] == []


def test_the_diagram_shows_every_change_of_phase() -> None:
    """The state diagram has an arrow for each change of phase in the table, and no other."""
    (diagram,) = blocks(DOCS / "reference" / "lifecycle.md", "mermaid")
    drawn = set(re.findall(r"^    (\w+) --> (\w+):", diagram, re.MULTILINE))
    assert drawn == {
        (str(phase), str(target))
        for (phase, _), transition in TABLE.items()
        for target in transition.targets
        if target is not phase
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_spec_files_in_the_docs_are_good(page: Path) -> None:
    """Every block of TOML in the docs that has a command is a good spec file."""
    for block in blocks(page, "toml"):
        assert isinstance(load("web", "web.toml", block.encode(), "/"), SetSpec), block


def is_module(package: str, name: str) -> bool:
    """Whether a package has a module of this name, be it loaded or not."""
    return importlib.util.find_spec(f"{package}.{name}") is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_python_in_the_docs_is_python(page: Path) -> None:
    """Every block of Python in the docs compiles, and what it imports of ours is there."""
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")
        for module, names in re.findall(r"^from (reconciler[\w.]*) import ([\w, ]+)$", block, re.MULTILINE):
            loaded = importlib.import_module(module)
            missing = [name for name in names.split(", ") if not (hasattr(loaded, name) or is_module(module, name))]
            assert missing == []


def test_the_decisions_are_listed() -> None:
    """Each decision has its number, and is listed once in the index, in order."""
    listed = re.findall(r"\((\d{4}-[a-z-]+\.md)\)", text(DOCS / "decisions" / "index.md"))
    assert listed == sorted(path.name for path in (DOCS / "decisions").glob("0*.md"))
    for name in listed:
        assert text(DOCS / "decisions" / name).startswith(f"# {name[:4]}: ")


def test_the_version_is_said_once() -> None:
    """The version stands in the package alone, from where everything else takes it."""
    project = tomllib.loads(text(ROOT / "pyproject.toml"))["project"]
    assert project["dynamic"] == ["version"]
    assert text(PACKAGE / "__init__.py").count(f'"{reconciler.__version__}"') == 1


def test_the_tests_in_the_docs_pass() -> None:
    """The tests that a how-to shows for a user's own `update` pass as they stand."""
    (block,) = blocks(DOCS / "howto" / "test-your-update.md", "python")
    shown: dict[str, Any] = {}
    exec(compile(block, "test-your-update.md", "exec"), shown)
    tests = [test for name, test in shown.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()
