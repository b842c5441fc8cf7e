"""What a controller remembers: overrides, each judged by itself, and revisions in a journal of bounded size."""

import json
import resource
from contextlib import contextmanager

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.core.override import Paused, RestartAsked, RolledBack, Scale, StayDown
from reconciler.core.remembered import Memory
from reconciler.core.spec import SetSpec
from reconciler.state.store import MOST_REVISIONS, MOST_SETS, Store, as_data, as_override

WEB = SetSpec(name="web", command=("run",))
SOME = [
    RolledBack("web", 3, WEB, attrs.evolve(WEB, replicas=2)),
    Scale("web", 2, 1),
    Scale("web", 2),
    RestartAsked("web", 4, "web-1", at_once=True),
    Paused("web"),
    StayDown("web"),
    StayDown("web", "web-0"),
    StayDown("web", 7),
]


@pytest.fixture
def store(tmp_path):
    return Store(str(tmp_path))


@pytest.mark.parametrize("override", SOME, ids=repr)
def test_plain_data_and_back(override):
    """An override comes back from plain data, also by way of JSON, as the one that it was."""
    assert as_override(json.loads(json.dumps(as_data(override)))) == override


BAD = [
    "x",
    {},
    {"kind": ["Scale"]},
    {"kind": "Scale"},
    {"kind": "Scale", "set_name": "web", "replicas": -1},
    {"kind": "Scale", "set_name": "web", "replicas": 10**9},
    {"kind": "Scale", "set_name": "web", "replicas": True},
    {"kind": "Scale", "set_name": "web", "replicas": "2"},
    {"kind": "Scale", "set_name": 3, "replicas": 2},
    {"kind": "Paused", "set_name": "web", "newer": 1},
    {"kind": "StayDown", "set_name": "web", "key": []},
    {"kind": "RolledBack", "set_name": "web", "revision": 1, "template": {"command": ["x"], "newer": 1}, "over": {}},
    {"kind": "RolledBack", "set_name": "../web", "revision": 1, "template": {"command": ["x"]}, "over": {}},
    {"kind": "RolledBack", "set_name": "web", "revision": 1, "template": 5, "over": {}},
]


@pytest.mark.parametrize("data", BAD, ids=repr)
def test_what_is_no_override(data):
    """Anything else is refused as a value."""
    with pytest.raises(ValueError, match=r"\w"):
        as_override(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)
FIELDS = st.sampled_from([name for one in SOME for name in as_data(one)])


@given(st.sampled_from([as_data(one) for one in SOME]), st.dictionaries(FIELDS, JSON))
def test_any_data(data, changes):
    """Whatever the data, there is an override or a ValueError."""
    try:
        override = as_override({**data, **changes})
    except ValueError:
        return
    assert as_override(as_data(override)) == override


@pytest.mark.parametrize("bad", BAD, ids=repr)
def test_a_bad_entry_costs_no_other(tmp_path, store, bad):
    """Beside a bad entry the good ones hold, now and at the next start; the file is kept, and the entry is named."""
    file = tmp_path / "overrides.json"
    text = json.dumps({"version": 1, "overrides": [as_data(StayDown("db")), bad, as_data(Paused("web"))]})
    file.write_text(text)
    loaded, problem = store.load()

    assert loaded == (StayDown("db"), Paused("web"))
    assert "overrides[1]: " in problem
    assert "overrides.json.bad" in problem
    assert (tmp_path / "overrides.json.bad").read_text() == text
    assert Store(str(tmp_path)).load() == (loaded, None)


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{}", '{"version": 2, "overrides": []}', '{"version": 1, "overrides": 3}', "[" * 10**6]
)
def test_a_bad_file(tmp_path, store, text):
    """A file that is none of ours is kept and told, and nothing is in force."""
    (tmp_path / "overrides.json").write_text(text)
    loaded, problem = store.load()

    assert loaded == ()
    assert "overrides.json.bad" in problem
    assert (tmp_path / "overrides.json.bad").read_text() == text
    assert store.load() == ((), None)


def test_a_bad_file_that_cannot_be_kept(tmp_path, store):
    """Where there is no way to keep it, the good entries hold all the same."""
    text = json.dumps({"version": 1, "overrides": ["x", as_data(Paused("web"))]})
    (tmp_path / "overrides.json").write_text(text)
    (tmp_path / ".overrides.json.bad").mkdir()
    loaded, problem = store.load()

    assert loaded == (Paused("web"),)
    assert "which failed" in problem
    assert (tmp_path / "overrides.json").read_text() == text


def test_what_makes_a_revision(store):
    """A change of size, order or `suspend` alone makes no revision, and any other one does."""
    for spec in (
        WEB,
        attrs.evolve(WEB, replicas=5),
        attrs.evolve(WEB, order=3, suspend=True),
        attrs.evolve(WEB, cwd="/"),
        attrs.evolve(WEB, cwd="/", replicas=7),
    ):
        store.record([spec])

    assert [one.number for one in store.revisions("web")] == [1, 2]


def test_forgotten_sets(tmp_path, store):
    """A set that was forgotten has no revisions, also for the next controller, and begins anew when it comes back."""
    store.record([WEB, attrs.evolve(WEB, name="db")])
    store.record([attrs.evolve(WEB, cwd="/")])
    store.forget("web")
    store.forget("never")
    after = Store(str(tmp_path))

    assert store.revisions("web") == after.revisions("web") == ()
    assert len(after.revisions("db")) == 1
    after.record([WEB])
    assert [one.number for one in Store(str(tmp_path)).revisions("web")] == [1]


def test_the_journal_is_bounded(tmp_path, store):
    """Whatever sets come and go, and however often one is edited, the journal stays small."""
    for number in range(300):
        store.record([attrs.evolve(WEB, name=f"job-{number}"), attrs.evolve(WEB, cwd=f"/{number}")])
        store.forget(f"job-{number}")

    assert len((tmp_path / "revisions.jsonl").read_text().splitlines()) <= 100 + 2 * (MOST_REVISIONS + 1)
    kept = [one.number for one in Store(str(tmp_path)).revisions("web")]
    assert kept == list(range(291, 301))


def test_sets_that_nobody_forgot(store):
    """Of more sets than any controller has, those that were seen last are remembered."""
    store.record([WEB, attrs.evolve(WEB, name="db")])
    store.record(attrs.evolve(WEB, name=f"job-{number}") for number in range(MOST_SETS - 2))
    store.record([WEB, attrs.evolve(WEB, name="new")])

    assert [len(store.revisions(name)) for name in ("web", "db", "job-0", "new")] == [1, 0, 1, 1]


@contextmanager
def largest_file(size):
    """No file may grow beyond `size` bytes: what a full disk looks like to the one who writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_line_that_does_not_fit(tmp_path, store):
    """A line that only begins to fit is taken back, so that the next one stands by itself; forgetting is no failure."""
    store.record([WEB])
    journal = tmp_path / "revisions.jsonl"
    with largest_file(journal.stat().st_size + 9), pytest.raises(OSError, match="space"):
        store.record([attrs.evolve(WEB, name="db")])
    with largest_file(journal.stat().st_size):
        store.forget("web")
    store.record([attrs.evolve(WEB, name="api")])

    after = Store(str(tmp_path))
    assert [len(after.revisions(name)) for name in ("web", "db", "api")] == [1, 0, 1]


def test_a_revision_that_nobody_understands(tmp_path, store):
    """A revision that another version wrote cannot be gone back to, and does no harm."""
    lines = [
        {"set": "web", "revision": 1, "recorded": "", "spec": {"newer": 1}},
        [],
        {"set": "web", "revision": float("inf"), "recorded": "", "spec": {}},
    ]
    (tmp_path / "revisions.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    assert [one.number for one in store.revisions("web")] == [1]
    assert store.revision("web", 1) is None


def test_what_is_known_of_jobs_and_good_versions(tmp_path):
    """What is remembered of jobs, schedules and good versions comes back as it was."""
    spec = SetSpec(name="web", command=("serve",), cwd="/srv", replicas=3)
    memory = Memory({"migrate": {"migrate-0": "f00"}}, {"backup": 1000.0}, {"web": spec})
    Store(str(tmp_path)).save_memory(memory)
    assert Store(str(tmp_path)).load_memory() == (memory, None)
