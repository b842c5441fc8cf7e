"""The spec files that come with the project."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from house.program import running
from house.tree import ROOT
from processes import PATIENCE

from reconciler.core.spec import SetSpec, expand
from reconciler.sources.survey import survey

CALM = ("hello.toml", "web.toml")
EXAMPLES = sorted((ROOT / "specs" / "examples").iterdir())


def test_every_file_is_good() -> None:
    """Each file that comes with the project loads, and none lies beside without being one."""
    for directory in (ROOT / "specs", ROOT / "specs" / "examples"):
        found = survey(str(directory))
        assert found.rejections == ()
        assert found.files == len([path for path in directory.iterdir() if path.is_file()])


def test_the_calm_files_come_first() -> None:
    """The directory that the README runs holds the two calm files and the examples, which are not run."""
    assert sorted(path.name for path in (ROOT / "specs").iterdir()) == ["examples", *CALM]


def test_the_examples_show_each_format() -> None:
    """There is an example in each format."""
    assert {path.suffix for path in EXAMPLES} == {".toml", ".json", ".yaml"}


@pytest.mark.parametrize("path", [ROOT / "specs" / name for name in CALM] + EXAMPLES, ids=lambda path: path.name)
def test_the_schema_that_a_file_names_is_there(path: Path) -> None:
    """Each file names the shipped schema for editors, by a path that leads to it."""
    (named,) = re.findall(r"[./\w-]+\.schema\.json", path.read_text("utf-8"))
    assert (path.parent / named).resolve() == ROOT / "reconciler" / "spec.schema.json"


def test_the_json_example_keeps_to_the_schema() -> None:
    """The example in JSON is valid by the shipped schema as it stands."""
    schema = json.loads((ROOT / "reconciler" / "spec.schema.json").read_text("utf-8"))
    jsonschema.validate(json.loads((ROOT / "specs" / "examples" / "never.json").read_text("utf-8")), schema)


def _example(name: str) -> SetSpec:
    return survey(str(ROOT / "specs" / "examples" / name)).specs[name.partition(".")[0]]


def test_the_examples_show_what_they_say() -> None:
    """The examples differ from the defaults in what their comments are about."""
    assert _example("crash-loop.toml").restart.start_limit is not None
    assert _example("rolling-update.toml").rollout.max_surge.amount == 1
    assert _example("one-shot.toml").restart.policy == "on_failure"
    assert _example("never.json").restart.policy == "never"
    assert _example("placeholders.yaml").env["MODE"] == "no"
    assert [str(key) for key in expand(_example("placeholders.yaml")).workers] == ["placeholders-0", "placeholders-1"]


@pytest.mark.os
def test_the_calm_files_run_at_the_first_try(tmp_path: Path) -> None:
    """`--once` on the two calm files starts all of their workers, has them all ready, and stops them."""
    for name in CALM:
        shutil.copy(ROOT / "specs" / name, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "reconciler", "--watch", str(tmp_path), "--once"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = [line.split() for line in done.stdout.splitlines() if line[:4] in ("hell", "web-")]
    assert [row[:3] for row in table] == [[key, "yes", "Running"] for key in ("hello-0", "web-0", "web-1")]


@pytest.mark.os
def test_the_greeting_greets(tmp_path: Path) -> None:
    """The worker of hello.toml prints its greeting, with its own key filled in."""
    shutil.copy(ROOT / "specs" / "hello.toml", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "GREETING"}
    with running(
        "-m", "reconciler", "--watch", str(tmp_path), "--output", "inherit", stdout=subprocess.PIPE, env=environment
    ) as controller:
        assert controller.stdout.readline() == "hello from hello-0\n"
        controller.send_signal(signal.SIGTERM)
        assert controller.wait(PATIENCE) == 0
