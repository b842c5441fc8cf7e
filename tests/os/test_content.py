"""Watched files, with a real controller: another content replaces the workers, and the same content nobody."""

import pytest
from fleet import SLEEP, Fleet, drop

pytestmark = pytest.mark.os


def test_a_change_of_code_is_a_rollout(tmp_path):
    """Workers are replaced when the content of a watched file is another, and not when it was only touched."""
    specs, app = tmp_path / "specs", tmp_path / "app"
    specs.mkdir()
    app.mkdir()
    (app / "main.py").write_text("one")
    watch = {"paths": ["**/*.py"], "debounce": "50ms"}
    drop(specs, "web", *SLEEP, replicas=2, cwd=str(app), watch=watch, min_ready=0)
    with Fleet(specs) as fleet:
        fleet.ready("web-0", "web-1")
        (app / "main.py").touch()
        (app / "notes.txt").write_text("x")
        (app / "lib").mkdir()
        (app / "lib" / "new.py").write_text("two")
        told = fleet.wait("spec.changed", name="web")
        assert told["fields"] == ["content"]
        assert told["generation"] == 2
        fleet.wait("rollout.completed", name="web", generation=2)
        assert len(fleet.all("worker.started")) == 4
        assert len(fleet.all("spec.changed")) == 1
