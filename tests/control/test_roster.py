"""The list of all workers that is kept for those who ask: encoded once, and told again only where it changed."""

import json
import random

import attrs
import pytest
from core.scene import Scene, web

from reconciler.control.roster import MOST_GONE, Roster
from reconciler.core.spec import Dependency, SetSpec


def shown(items):
    """The phases of each place, by key."""
    return {item["key"]: [row["phase"] for row in item["workers"]] for item in map(json.loads, items)}


def test_everything_in_key_order():
    """All places are listed in key order, by number and not by text."""
    scene, roster = Scene(web(replicas=11)), Roster()
    roster.look(scene.engine.view())
    assert [json.loads(item)["key"] for item in roster.items(roster.names())] == [f"web-{n}" for n in range(11)]


def test_only_changes_are_told():
    """After a change only what changed is told, each place once, the last change last."""
    scene, roster = Scene(web(replicas=3)), Roster()
    roster.look(scene.engine.view())
    version = roster.version
    roster.look(scene.engine.view())
    assert roster.since(version) == []
    for key in ("web-2", "web-0", "web-2"):
        scene.end(key, 1)
        roster.look(scene.engine.view())
    assert [str(key) for _, key in roster.since(version)] == ["web-0", "web-2"]


def test_what_is_gone_is_told_without_workers():
    """A place that is no more is told once more, with no workers, and is not listed."""
    scene, roster = Scene(web(replicas=2)), Roster()
    roster.look(scene.engine.view())
    version = roster.version
    scene.edit(replicas=1)
    roster.look(scene.engine.view())
    assert shown(roster.items(roster.since(version))) == {"web-1": []}
    assert shown(roster.items(roster.names())) == {"web-0": ["Running"]}


def test_what_is_gone_is_forgotten_in_time():
    """However many sets come and go, what is remembered of them is bounded."""
    scene, roster = Scene(), Roster()
    for number in range(3):
        scene.want(attrs.evolve(web(replicas=MOST_GONE // 2), name=f"web{number}"))
        roster.look(scene.engine.view())
    scene.want()
    roster.look(scene.engine.view())
    assert len(roster.since(0)) <= MOST_GONE


@pytest.mark.parametrize("seed", range(20))
def test_a_follower_knows_what_a_newcomer_is_told(seed):
    """Who starts from nothing and takes in each change knows exactly what is listed for one who comes later."""
    luck, scene, roster = random.Random(seed), Scene(web(replicas=3)), Roster()
    known, version = {}, 0
    for _ in range(60):
        if luck.random() < 0.5 and scene.driver.processes:
            process = luck.choice(list(scene.driver.processes.values()))
            scene.driver.exit(process.uid, luck.choice((0, 1)))
            scene.turn()
        else:
            scene.edit(replicas=luck.randint(0, 5), command=(luck.choice("ab"),))
        scene.advance(luck.choice((0.0, 1.0, 30.0)))
        if luck.random() < 0.5:
            roster.look(scene.engine.view())
            known |= shown(roster.items(roster.since(version)))
            version = roster.version
            known = {key: phases for key, phases in known.items() if phases}
            assert known == {k: v for k, v in shown(roster.items(roster.names())).items() if v}


def test_waiting_is_a_change():
    """A worker without a process is told anew when what its set waits for is another."""
    needing = attrs.evolve(web(), depends_on=(Dependency(set="db"),))
    db = SetSpec(name="db", command=("db",), min_ready=5.0)
    scene, roster = Scene(needing, db), Roster()

    def row():
        roster.look(scene.engine.view())
        (item,) = (item for item in map(json.loads, roster.items(roster.names())) if item["key"] == "web-0")
        return item["workers"][0]["waits_for"], item["workers"][0]["in_vain"]

    assert row() == (["db"], False)
    version = roster.version
    scene.want(needing, attrs.evolve(db, replicas=0))
    scene.advance(1.0)
    assert row() == (["db"], True)
    assert ("web", "web-0") in roster.since(version)
