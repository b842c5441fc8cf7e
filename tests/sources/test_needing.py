"""What files need of other files: nothing is taken that depends on what is not there, or on itself."""

import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest
from sources.desk import Desk, told

from reconciler.core.spec import Dependency
from reconciler.sources.needing import unmet
from reconciler.sources.survey import survey


def needing(*names: str) -> str:
    """The line of a spec file that depends on these."""
    return f"depends_on = {list(names)}"


def needs(**names: str) -> dict[str, tuple[Dependency, ...]]:
    """The dependencies of sets, given as the names of the others."""
    return {name: tuple(Dependency(set=other) for other in others.split()) for name, others in names.items()}


def test_nothing_is_needed() -> None:
    """Where nobody depends on anybody nothing is wrong."""
    assert unmet(needs(web="", db=""), {}) == {}


def test_who_edits_a_circle_into_being_is_refused() -> None:
    """Of the sets of a circle those that were edited are refused; what is in force falls back, and is not to blame."""
    found = unmet(needs(a="b", b="a"), needs(a="b", b=""))
    assert set(found) == {"b"}
    assert "b -> a -> b" in found["b"]


def test_what_waits_for_what_is_refused() -> None:
    """A set that depends on one which is refused and was never good is refused as well, and told why."""
    found = unmet(needs(web="migrate", migrate="db"), {})
    assert "there is no such set" in found["migrate"]
    assert found["web"] == "depends_on names migrate, which is refused itself; mend that first"


def test_what_waits_for_what_falls_back() -> None:
    """A set that depends on one whose edit is refused is fine: the last good version of that is there."""
    assert set(unmet(needs(web="migrate", migrate="db"), needs(migrate=""))) == {"migrate"}


@pytest.mark.parametrize("order", list(itertools.permutations(["db", "migrate", "web"])), ids="-".join)
def test_files_in_any_order(desk: Desk, order: Sequence[str]) -> None:
    """Files come in any order, and in the end all are taken; at one look nothing is told of an order."""
    files = {"db": "", "migrate": needing("db"), "web": needing("db", "migrate")}
    desk.start()
    events = []
    for name in order:
        desk.drop(f"{name}.toml", more=files[name])
        events += desk.run(1)
    assert desk.programs() == dict.fromkeys(files, "true")
    added = [event.name for event in events if event.event == "spec.added"]
    assert sorted(added) == sorted(files)
    for name in order:
        (desk.directory / f"{name}.toml").unlink()
    desk.run(5)
    for name in order:
        desk.drop(f"{name}.toml", more=files[name])
    assert {event.event for event in desk.run(1)} == {"spec.added"}
    assert desk.source.rejections() == {}


def test_unknown_name(desk: Desk) -> None:
    """A set that depends on an unknown one is refused once, and taken as soon as the other is there."""
    desk.write("web.toml", more=needing("db"))
    (event,) = desk.start()

    assert (event.event, event.name, event.reason) == ("spec.rejected", "web", "BadDependency")
    assert event.extra["file"] == str(desk.directory / "web.toml")
    assert event.extra["problems"] == (
        "depends_on names db, and there is no such set; add its file, or mend the name @ web.toml.depends_on",
    )
    assert desk.sets == {}
    assert set(desk.source.rejections()) == {"web"}
    assert desk.run(30) == []
    desk.drop("db.toml")
    assert told(desk.run(1)) == [("spec.added", "db"), ("spec.added", "web")]
    assert desk.source.rejections() == {}


def test_edit_with_an_unknown_name(desk: Desk) -> None:
    """The last good version goes on while an edit depends on what is not there."""
    desk.write("web.toml", "one")
    desk.start()
    desk.write("web.toml", "two", needing("db"))
    assert told(desk.run(1)) == [("spec.rejected", "web")]
    assert desk.programs() == {"web": "one"}
    desk.drop("db.toml")
    assert told(desk.run(1)) == [("spec.added", "db"), ("spec.recovered", "web"), ("spec.changed", "web")]
    assert desk.programs() == {"db": "true", "web": "two"}


def test_mended_name(desk: Desk) -> None:
    """An edit that names a set which is there is taken."""
    desk.write("db.toml")
    desk.write("web.toml", more=needing("dbb"))
    desk.start()
    desk.write("web.toml", more=needing("db"))
    assert told(desk.run(1)) == [("spec.added", "web")]


def test_circle(desk: Desk) -> None:
    """The sets of a circle are refused with its path; when one is mended, all are taken."""
    for name, other in (("a", "b"), ("b", "c"), ("c", "a")):
        desk.write(f"{name}.toml", more=needing(other))
    events = desk.start()
    assert told(events) == [("spec.rejected", name) for name in "abc"]
    assert "a -> b -> c -> a" in events[0].extra["problems"][0]
    desk.write("c.toml")
    assert sorted(told(desk.run(1))) == [("spec.added", name) for name in "abc"]


def test_circle_by_an_edit(desk: Desk) -> None:
    """Who edits a circle into being is refused, and nobody else hears of it."""
    desk.write("db.toml")
    desk.write("web.toml", more=needing("db"))
    desk.start()
    desk.write("db.toml", "edited", needing("web"))
    assert told(desk.run(30)) == [("spec.rejected", "db")]
    assert desk.programs() == {"db": "true", "web": "true"}


def test_removed_while_others_need_it(desk: Desk) -> None:
    """When a file is deleted those that depend on it go on with what they have, and are told as rejected."""
    path = desk.write("db.toml")
    for name in ("api", "web"):
        desk.write(f"{name}.toml", more=f"replicas = 2\n{needing('db')}")
    desk.start()
    path.unlink()

    assert told(desk.run(1)) == [("spec.removed", "db"), ("spec.rejected", "api"), ("spec.rejected", "web")]
    assert desk.programs() == {"api": "true", "web": "true"}
    assert desk.run(30) == []
    desk.write("web.toml", "edited", needing("db"))
    assert desk.run(1) == []
    assert desk.programs() == {"api": "true", "web": "true"}
    desk.drop("db.toml")
    events = told(desk.run(1))
    assert events[0] == ("spec.added", "db")
    assert sorted(events[1:]) == [("spec.changed", "web"), ("spec.recovered", "api"), ("spec.recovered", "web")]


def test_file_that_is_bad_itself(desk: Desk) -> None:
    """Where the file that is needed is bad, that is said, and not that there is none."""
    desk.write("db.toml", more="[")
    desk.write("web.toml", more=needing("db"))
    events = desk.start()
    assert told(events) == [("spec.rejected", "db"), ("spec.rejected", "web")]
    assert "db, which is refused itself; mend that first" in events[1].extra["problems"][0]
    desk.write("db.toml")
    assert told(desk.run(1)) == [("spec.added", "db"), ("spec.added", "web")]


def test_bad_edit_of_what_waits(desk: Desk) -> None:
    """A file that waits for another and becomes bad is refused for that, and not taken when the other comes."""
    desk.write("web.toml", more=needing("db"))
    desk.start()
    desk.write("web.toml", more="[")
    assert [event.reason for event in desk.run(1)] == ["InvalidSpec"]
    desk.drop("db.toml")
    assert told(desk.run(1)) == [("spec.added", "db")]
    assert desk.programs() == {"db": "true"}


def test_what_waits_is_deleted(desk: Desk) -> None:
    """A file that was never taken goes without a word, and is not taken later."""
    path = desk.write("web.toml", more=needing("db"))
    desk.start()
    path.unlink()
    assert desk.run(1) == []
    desk.drop("db.toml")
    assert told(desk.run(1)) == [("spec.added", "db")]


def test_survey_of_a_directory(tmp_path: Path) -> None:
    """What `check` sees of a directory is what a controller would refuse; of one file alone nothing is said."""
    desk = Desk(tmp_path)
    desk.write("web.toml", more=needing("db"))
    desk.write("a.toml", more=needing("b"))
    desk.write("b.toml", more=needing("a"))
    found = survey(str(tmp_path))
    desk.start()
    assert set(found.rejections) == set(desk.source.rejections().values())
    assert len(found.rejections) == 3
    assert found.specs == {}
    assert survey(str(tmp_path / "web.toml")).rejections == ()
    desk.source.close()
