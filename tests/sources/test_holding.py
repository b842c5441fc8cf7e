"""What it takes to let go of a set: absence of evidence is not a delete."""

import shutil
from pathlib import Path

from sources.desk import Desk, told


def test_look_into_the_gap_of_an_editor(desk: Desk) -> None:
    """A look between vim's renaming the old file away and writing the new one does not count as a removal."""
    path = desk.write("web.toml", more="replicas = 2")
    desk.start()
    path.rename(path.with_name("web.toml~"))
    events = desk.run(0.3)
    desk.write("web.toml", "false")
    events += desk.run(5)

    assert told(events) == [("spec.changed", "web")]


def test_removed_file(desk: Desk) -> None:
    """A deleted file ends its set when it has stayed away for a moment."""
    desk.write("api.toml")
    path = desk.write("web.toml")
    desk.start()
    path.unlink()

    assert desk.run(0.4) == []
    (event,) = desk.run(0.2)
    assert (event.event, event.name, event.extra["file"]) == ("spec.removed", "web", str(path))
    assert desk.programs() == {"api": "true"}


def test_file_renamed_to_another_format(desk: Desk) -> None:
    """A spec that moves from one format to another is the same set: nothing is removed."""
    path = desk.write("web.toml", more="replicas = 3")
    desk.start()
    (desk.directory / ".new").write_text('{"command": ["true"], "replicas": 3}')
    path.unlink()
    (desk.directory / ".new").rename(desk.directory / "web.json")

    assert desk.run(30) == []
    assert desk.programs() == {"web": "true"}


def test_renamed_set(desk: Desk) -> None:
    """A file under a new name is a new set, and the old one ends."""
    path = desk.write("web.toml", more="replicas = 3")
    desk.start()
    path.rename(desk.directory / "api.toml")

    assert told(desk.run(1)) == [("spec.added", "api"), ("spec.removed", "web")]


def test_missing_directory(desk: Desk) -> None:
    """A directory that is gone holds everything, is told once, and is seen within 5 s of coming back."""
    desk.write("web.toml", more="replicas = 2")
    desk.start()
    away = desk.directory.rename(desk.directory.with_name("away"))
    events = desk.run(60)

    assert told(events) == [("source.held", "DirectoryMissing")]
    assert events[0].extra == {"file": str(desk.directory), "held": 2}
    (away / "noise").touch()
    assert not desk.readable()
    away.rename(desk.directory)
    desk.drop("api.toml")
    assert told(desk.run(5)) == [("source.released", "DirectoryMissing"), ("spec.added", "api")]
    desk.drop("db.toml")
    assert told(desk.run(0.2)) == [("spec.added", "db")]
    assert desk.source.missed_total == 0


def test_missing_from_the_start(tmp_path: Path) -> None:
    """A directory that is not there at the start says nothing about what is wanted, until it comes."""
    desk = Desk(tmp_path / "later")

    assert told(desk.start()) == [("source.held", "DirectoryMissing")]
    assert desk.sets is None
    desk.directory.mkdir()
    assert told(desk.run(5)) == [("source.released", "DirectoryMissing")]
    assert desk.sets == {}
    desk.source.close()


def test_file_in_the_place_of_the_directory(desk: Desk) -> None:
    """A file where the directory was holds everything as well."""
    desk.write("web.toml")
    desk.start()
    shutil.rmtree(desk.directory)
    desk.directory.touch()

    assert told(desk.run(10)) == [("source.held", "DirectoryMissing")]
    assert len(desk.history) == 1


def test_deleted_while_the_directory_is_away(desk: Desk) -> None:
    """A file that is gone when the directory comes back must stay gone from then on to count as removed."""
    desk.write("api.toml")
    path = desk.write("web.toml")
    desk.start()
    path.unlink()
    desk.read(urgent=True)
    away = desk.directory.rename(desk.directory.with_name("away"))
    desk.run(30)
    away.rename(desk.directory)

    assert told(desk.run(0.4)) == [("source.released", "DirectoryMissing")]
    assert told(desk.run(1)) == [("spec.removed", "web")]


def test_mass_removal(desk: Desk) -> None:
    """Files with more than half of the workers that go at once are held, and let go only if they stay away."""
    for name in ("api.toml", "db.toml", "web.toml"):
        desk.write(name)
    desk.start()
    (desk.directory / "api.toml").unlink()
    (desk.directory / "web.toml").unlink()

    events = desk.run(1.9)
    assert told(events) == [("source.held", "MassRemoval")]
    assert events[0].extra == {"file": str(desk.directory), "held": 2}
    assert told(desk.run(0.2)) == [("spec.removed", "api"), ("spec.removed", "web"), ("source.released", "MassRemoval")]
    assert desk.programs() == {"db": "true"}


def test_mass_removal_undone(desk: Desk) -> None:
    """When what was held comes back, nothing was removed."""
    desk.write("web.toml", more="replicas = 2")
    desk.start()
    (desk.directory / "web.toml").unlink()
    events = desk.run(1)
    desk.write("web.toml", more="replicas = 2")
    events += desk.run(10)

    assert told(events) == [("source.held", "MassRemoval"), ("source.released", "MassRemoval")]
    assert len(desk.history) == 1


def test_half_is_not_a_mass(desk: Desk) -> None:
    """Half of the workers, or the only one there is, are let go without a hold."""
    desk.write("api.toml")
    desk.write("web.toml")
    desk.start()
    (desk.directory / "web.toml").unlink()
    events = desk.run(1)
    (desk.directory / "api.toml").unlink()
    events += desk.run(1)

    assert told(events) == [("spec.removed", "web"), ("spec.removed", "api")]
    assert desk.sets == {}


def test_emptied_directory_counts_as_mass_removal(desk: Desk) -> None:
    """An empty directory in the place of a full one is held like any mass removal."""
    desk.write("web.toml", more="replicas = 4")
    desk.start()
    desk.directory.rename(desk.directory.with_name("old"))
    desk.directory.mkdir()

    assert told(desk.run(1.5)) == [("source.held", "MassRemoval")]
    assert desk.programs() == {"web": "true"}
