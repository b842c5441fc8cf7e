"""Spec files that the program itself changes: an edit in place of one, and many at once."""

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sources.desk import Desk, told
from spec_files import EXAMPLE, EXAMPLE_TOML, FORMATS, written

from reconciler.sources.parsing import parse
from reconciler.sources.writing import Change, StagingError, commit, edited, stage

GOOD = b'command = "true"\n'


def lines(*texts: str) -> bytes:
    return "".join(f"{text}\n" for text in texts).encode()


EDITS = {
    "comment after it": ("toml", 'command = "x"\nreplicas = 3    # why\n', 'command = "x"\nreplicas = 7    # why\n'),
    "any way of writing": ("toml", 'command = "x"\n"replicas"=0x1_0\n', 'command = "x"\n"replicas"=7\n'),
    "a wrong value": ("toml", 'command = "x"\nreplicas = 7.0\n', 'command = "x"\nreplicas = 7\n'),
    "decoys": (
        "toml",
        '# replicas =\n# replicas = 3\ncommand = """\nreplicas = 3\n"""\nreplicas = 3\n[env]\nreplicas = "3"\n',
        '# replicas =\n# replicas = 3\ncommand = """\nreplicas = 3\n"""\nreplicas = 7\n[env]\nreplicas = "3"\n',
    ),
    "none, no table": ("toml", 'command = "x"  # c\n# end\n', 'command = "x"  # c\nreplicas = 7\n# end\n'),
    "none, a table": (
        "toml",
        '# a\ncommand = [\n  "[x]",\n]\n\n# b\n[stop]\ntimeout = 1\n',
        '# a\ncommand = [\n  "[x]",\n]\nreplicas = 7\n\n# b\n[stop]\ntimeout = 1\n',
    ),
    "none, like a table": (
        "toml",
        'command = """\n[a]\n"""\n[stop]\n',
        'command = """\n[a]\n"""\nreplicas = 7\n[stop]\n',
    ),
    "none, no last newline": ("toml", 'command = "x"', 'command = "x"\nreplicas = 7'),
    "Windows": ("toml", '\ufeffcommand = "x"\r\n[stop]\r\n', '\ufeffcommand = "x"\r\nreplicas = 7\r\n[stop]\r\n'),
    "JSON": ("json", '{"command": "replicas: 3", "replicas" : 3}', '{"command": "replicas: 3", "replicas" : 7}'),
    "JSON, none": ("json", '{\n  "command": "x"\n}\n', '{\n  "replicas": 7,\n  "command": "x"\n}\n'),
    "JSON, none, one line": ("json", '{"command": "x"}', '{"replicas": 7, "command": "x"}'),
    "YAML": ("yaml", "command: x\nreplicas: 3 # why\n", "command: x\nreplicas: 7 # why\n"),
    "YAML, indented": ("yml", "  command: x\n  replicas:\n    3\n", "  command: x\n  replicas:\n    7\n"),
    "YAML, none": (
        "yaml",
        "# a\ncommand:\n- x\n\n# b\nstop:\n  timeout: 1\n",
        "# a\ncommand:\n- x\nreplicas: 7\n\n# b\nstop:\n  timeout: 1\n",
    ),
    "YAML, none, a text at the end": ("yaml", "command: |\n  x\n", "command: |\n  x\nreplicas: 7\n"),
    "YAML, none, a text with empty lines": (
        "yaml",
        "command: |+\n  x\n\nstop: {}\n",
        "command: |+\n  x\n\nstop: {}\nreplicas: 7\n",
    ),
    "YAML, none, braces": ("yaml", "{command: x}\n", '{"replicas": 7, command: x}\n'),
}


@pytest.mark.parametrize(("suffix", "before", "after"), EDITS.values(), ids=EDITS)
def test_edit(suffix: str, before: str, after: str) -> None:
    """Of the whole text only the number changes, or one setting is added at the top level."""
    assert edited(f"web.{suffix}", before.encode(), 7).decode() == after


def test_edit_of_the_example() -> None:
    """The file of the documentation keeps every comment."""
    assert edited("web.toml", EXAMPLE_TOML, 12) == EXAMPLE_TOML.replace(b"replicas = 3 ", b"replicas = 12 ")


@pytest.mark.parametrize("suffix", FORMATS)
def test_edit_that_changes_nothing(suffix: str) -> None:
    """Asked for the number that the file says, the edit gives the very same bytes."""
    data = written(EXAMPLE, suffix)
    assert edited(f"web.{suffix}", data, 3) is data


NOT_EDITABLE = {
    "escaped key": ("json", rb'{"command": "x", "\u0072eplicas": 3}', "by hand"),
    "text": ("toml", b'command = "x"\nreplicas = "3"\n', "set it to 7 by hand"),
    "indented": ("yaml", b"  command: x\n", "by hand"),
    "not valid": ("toml", b"command = \n", "mended first: not valid TOML"),
    "a list": ("json", b"[]", "mended first: it is no table"),
    "no suffix": ("txt", b"", "mended first: expected a file name"),
    "full": ("yaml", b"command: x\n#" + b"x" * 16370, "by hand"),
    "too many decoys": ("toml", b"# replicas = 3\n" * 50 + b'command = "x"\nreplicas = 3\n', "by hand"),
}


@pytest.mark.parametrize(("suffix", "data", "words"), NOT_EDITABLE.values(), ids=NOT_EDITABLE)
def test_no_safe_edit(suffix: str, data: bytes, words: str) -> None:
    """Where the text cannot be edited for sure, it is said on one line what to do."""
    with pytest.raises(ValueError, match=words) as caught:
        edited(f"web.{suffix}", data, 7)
    assert "\n" not in str(caught.value)


PIECES = [*"[]{},#\"'- \n", "\r\n", '"""', "replicas", " = 3", ": 3", "[stop]\n", "x = 1\n", "x: 1\n", "|\n  "]


@given(st.sampled_from(["toml", "yaml", "json"]), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_any_text(suffix: str, text: str) -> None:
    """Whatever the text: either it is refused, or it says the same as before but for the replicas."""
    file, data = f"web.{suffix}", text.encode()
    try:
        after = edited(file, data, 7)
    except ValueError:
        return
    assert parse(file, after) == parse(file, data) | {"replicas": 7}


def content(directory: Path) -> dict[str, bytes]:
    """All files of a directory, hidden ones included."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def problems(directory: Path, files: dict[str, bytes | None]) -> dict[str, str]:
    """Why these files are refused, by file name; nothing may have changed."""
    before = content(directory)
    with pytest.raises(StagingError) as caught:
        stage(str(directory), files)
    assert content(directory) == before
    for each in caught.value.rejections:
        assert each.problems[0] in str(caught.value)
    return {Path(each.file).name: f"{each.reason}: {each.problems[0]}" for each in caught.value.rejections}


def test_commit(tmp_path: Path) -> None:
    """Files are added, replaced and removed by the commit, and nothing else is left."""
    (tmp_path / "api.toml").write_bytes(GOOD)
    (tmp_path / "old.json").write_bytes(b"broken")
    (tmp_path / "other.yaml").write_bytes(b"broken")
    new = lines('command = "false"')
    with stage(str(tmp_path), {"old.json": None, "api.toml": new, "web.toml": GOOD}) as staged:
        assert {name: data for name, data in content(tmp_path).items() if not name.startswith(".")} == {
            "api.toml": GOOD,
            "old.json": b"broken",
            "other.yaml": b"broken",
        }
        staged.commit()
    assert content(tmp_path) == {"api.toml": new, "web.toml": GOOD, "other.yaml": b"broken"}


def test_commit_by_another_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The changes are plain texts, by which another process can make them, wherever it was started."""
    (tmp_path / "old.toml").write_bytes(GOOD)
    program = "import sys, json; from reconciler.sources.writing import commit; commit(*json.load(sys.stdin))"
    monkeypatch.chdir(tmp_path)
    with stage(".", {"web.toml": GOOD, "old.toml": None}) as staged:
        told = json.dumps([staged.directory, staged.changes])
        subprocess.run([sys.executable, "-c", program], input=told, text=True, check=True, env=with_path(), cwd="/")
    assert content(tmp_path) == {"web.toml": GOOD}


def with_path() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_a_set_in_another_format(tmp_path: Path) -> None:
    """A set moves to another format when its old file is removed in the same transaction."""
    (tmp_path / "web.toml").write_bytes(GOOD)
    with stage(str(tmp_path), {"web.toml": None, "web.json": b'{"command": "true"}'}) as staged:
        staged.commit()
    assert content(tmp_path).keys() == {"web.json"}


def test_discard(tmp_path: Path) -> None:
    """What is not committed leaves no trace, and may be discarded more than once."""
    (tmp_path / "web.toml").write_bytes(GOOD)
    with stage(str(tmp_path), {"web.toml": lines("command = 'x'"), "api.toml": GOOD}) as staged:
        assert len(content(tmp_path)) == 4
        staged.discard()
    assert content(tmp_path) == {"web.toml": GOOD}


def test_one_bad_file_refuses_all(tmp_path: Path) -> None:
    """All problems of all files are told, with where, and none of the files is written."""
    found = problems(tmp_path, {"web.toml": GOOD, "api.toml": b"replicas = 'x'", "db.json": b"{", "no.toml": None})
    assert found.keys() == {"api.toml", "db.json", "no.toml"}
    assert found["api.toml"].startswith("InvalidSpec: expected a whole number")
    assert found["db.json"].startswith("InvalidSpec: not valid JSON")
    assert found["no.toml"].startswith("NotFound: there is no spec file")


@pytest.mark.parametrize("name", ["../web.toml", "a/web.toml", ".web.toml", "Web.toml", "web.txt", "web", ".toml", ""])
def test_names(tmp_path: Path, name: str) -> None:
    """A name that no spec file can have is refused, for a removal too."""
    (tmp_path / "a").mkdir()
    (tmp_path / "specs").mkdir()
    with pytest.raises(StagingError):
        stage(str(tmp_path / "specs"), {name: GOOD})
    with pytest.raises(StagingError):
        stage(str(tmp_path / "specs"), {name: None})
    assert sorted(os.listdir(tmp_path)) == ["a", "specs"]
    assert os.listdir(tmp_path / "specs") == []


def test_one_set_in_two_files(tmp_path: Path) -> None:
    """A file for a set that has one of another format, there or in the transaction, is refused with the remedy."""
    (tmp_path / "web.toml").write_bytes(GOOD)
    found = problems(tmp_path, {"web.json": b'{"command": "true"}'})
    assert found == {
        "web.json": "Conflict: web.json and web.toml are for the same worker set; delete or rename all but one of them"
    }
    assert problems(tmp_path, {"api.toml": GOOD, "api.yml": b"command: 'true'"}).keys() == {"api.toml"}


def test_a_conflict_of_others_is_theirs(tmp_path: Path) -> None:
    """Two files of a set that is not written stand in nobody's way, and one of them can be removed."""
    (tmp_path / "api.toml").write_bytes(GOOD)
    (tmp_path / "api.json").write_bytes(b"")
    with stage(str(tmp_path), {"web.toml": GOOD, "api.json": None}) as staged:
        staged.commit()
    assert content(tmp_path).keys() == {"api.toml", "web.toml"}


def test_what_is_no_file(tmp_path: Path) -> None:
    """A link is not replaced by a file behind its owner's back, and neither is a directory; a link can be removed."""
    directory = tmp_path / "specs"
    directory.mkdir()
    (tmp_path / "real.toml").write_bytes(GOOD)
    (directory / "web.toml").symlink_to("../real.toml")
    with pytest.raises(StagingError, match="is a link or no file at all"):
        stage(str(directory), {"web.toml": GOOD})
    with stage(str(directory), {"web.toml": None}) as staged:
        staged.commit()
    (directory / "web.toml").mkdir()
    with pytest.raises(StagingError, match="is a link or no file at all"):
        stage(str(directory), {"web.toml": GOOD})
    assert (tmp_path / "real.toml").read_bytes() == GOOD


def test_modes(tmp_path: Path) -> None:
    """A file keeps its mode and its owner, also while it waits; a new one has the usual mode, less the umask."""
    (tmp_path / "web.toml").write_bytes(GOOD)
    (tmp_path / "web.toml").chmod(0o660)
    owner = 1234 if os.geteuid() == 0 else os.geteuid()
    os.chown(tmp_path / "web.toml", owner, -1)
    umask = os.umask(0o027)
    try:
        staged = stage(str(tmp_path), {"web.toml": lines("command = 'x'"), "api.toml": GOOD})
    finally:
        os.umask(umask)
    waiting = {file: (tmp_path / (name or "")).stat() for name, file in staged.changes}
    staged.commit()
    staged.discard()
    for found in (waiting, {file: (tmp_path / file).stat() for file in waiting}):
        assert {file: stat.S_IMODE(status.st_mode) for file, status in found.items()} == {
            "web.toml": 0o660,
            "api.toml": 0o640,
        }
        assert found["web.toml"].st_uid == owner


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: what a full disk looks like to the one who writes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_full_disk(tmp_path: Path) -> None:
    """When the disk is full in the middle, the old files stay and nothing else does."""
    (tmp_path / "web.toml").write_bytes(GOOD)
    large = GOOD + b"#" * 5000
    with largest_file(1000), pytest.raises(OSError, match="File too large"):
        stage(str(tmp_path), {"api.toml": GOOD, "web.toml": large})
    assert content(tmp_path) == {"web.toml": GOOD}


def test_no_directory(tmp_path: Path) -> None:
    """A directory that is not there is an OSError."""
    with pytest.raises(FileNotFoundError):
        stage(str(tmp_path / "none"), {"web.toml": GOOD})


KILLED = """
import sys
from reconciler.sources.writing import stage
staged = stage(sys.argv[1], {"web.toml": b'command = "true"'})
print(flush=True)
sys.stdin.read()
"""


def test_leftovers(tmp_path: Path) -> None:
    """What a killed writer left is gone with the next stage, and never what a living one keeps."""
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=with_path()) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"\n"
        kept = content(tmp_path)
        stage(str(tmp_path), {"api.toml": GOOD}).discard()
        assert content(tmp_path) == kept
        assert len(kept) == 2
        writer.send_signal(signal.SIGKILL)
    with stage(str(tmp_path), {"api.toml": GOOD}) as staged:
        staged.commit()
    assert content(tmp_path) == {"api.toml": GOOD}


def test_two_writers(tmp_path: Path) -> None:
    """Of two writers at once each does what it staged; the later commit stays."""
    with stage(str(tmp_path), {"web.toml": GOOD}) as one, stage(str(tmp_path), {"web.toml": GOOD + b"#"}) as two:
        two.commit()
        one.commit()
    assert content(tmp_path) == {"web.toml": GOOD}


STAGED = ".stage-0123456789abcdef-web.toml"
NOT_OURS: list[tuple[Change, type[Exception]]] = [
    ((STAGED, "../web.toml"), ValueError),
    ((STAGED, ".web.toml"), ValueError),
    ((STAGED, "api.toml"), ValueError),
    (("api.toml", "web.toml"), ValueError),
    (("../x/.stage-0123456789abcdef-web.toml", "web.toml"), ValueError),
    ((None, "sub/api.toml"), ValueError),
    ((None, ".web.toml"), ValueError),
    ((None, "README"), ValueError),
    ((None, "none.toml"), FileNotFoundError),
    ((STAGED.replace("0", "1"), "web.toml"), FileNotFoundError),
]


@pytest.mark.parametrize(("change", "error"), NOT_OURS, ids=str)
def test_commit_of_what_was_not_staged(tmp_path: Path, change: Change, error: type[Exception]) -> None:
    """A commit with any name that no stage gives, or that is not there, changes nothing."""
    for name in (STAGED, "api.toml", "README"):
        (tmp_path / name).write_bytes(GOOD)
    with pytest.raises(error):
        commit(str(tmp_path), [(None, "api.toml"), change])
    assert content(tmp_path).keys() == {STAGED, "api.toml", "README"}


def test_commit_that_fails_in_the_middle(tmp_path: Path) -> None:
    """When a change fails after others were made, these are taken back: each file is the one that it was."""
    for name in ("api.toml", "old.toml"):
        (tmp_path / name).write_bytes(GOOD)
    inode = (tmp_path / "api.toml").stat().st_ino
    with stage(str(tmp_path), {"api.toml": GOOD + b"#", "new.toml": GOOD, "old.toml": None}) as staged:
        with pytest.raises(FileNotFoundError):
            commit(staged.directory, [*staged.changes, (None, "old.toml")])  # which is gone by then
        staged.discard()
    assert content(tmp_path) == {"api.toml": GOOD, "old.toml": GOOD}
    assert (tmp_path / "api.toml").stat().st_ino == inode


def test_commit_over_a_directory(tmp_path: Path) -> None:
    """A directory that was made in the place of a staged file meanwhile refuses them all."""
    (tmp_path / "api.toml").write_bytes(GOOD)
    with stage(str(tmp_path), {"api.toml": GOOD + b"#", "web.toml": GOOD}) as staged:
        (tmp_path / "web.toml").mkdir()
        with pytest.raises(IsADirectoryError):
            staged.commit()
    assert (tmp_path / "api.toml").read_bytes() == GOOD
    assert os.listdir(tmp_path / "web.toml") == []


def test_watched_directory(desk: Desk) -> None:
    """Who watches the directory sees nothing of a stage, and of a commit each file as a whole."""
    desk.write("web.toml")
    desk.start()
    with stage(str(desk.directory), {"web.toml": lines('command = "false"'), "api.toml": GOOD}) as staged:
        assert desk.run(5) == []
        staged.commit()
    assert told(desk.run(5)) == [("spec.added", "api"), ("spec.changed", "web")]
    assert desk.programs() == {"api": "true", "web": "false"}
