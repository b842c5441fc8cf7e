"""Sizes and names: what keeps a file on one screen of the mind."""

import ast

from house.tree import ROOT, files, functions, shown, tree

LONGEST_FILE = 400
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 6

VAGUE = {"utils", "util", "helpers", "helper", "manager", "misc", "common", "tools"}

HOUSE = files("reconciler", "docs", "noxfile.py", "tests/house", "tests/bench")


def test_files_are_short() -> None:
    """No file has 400 lines or more."""
    lengths = {shown(path): len(path.read_text(encoding="utf-8").splitlines()) for path in HOUSE}
    assert {where: length for where, length in lengths.items() if length >= LONGEST_FILE} == {}


def test_functions_fit_on_a_screen() -> None:
    """No function has 60 lines or more."""
    lengths = {
        f"{shown(path, function)} {function.name}": (function.end_lineno or 0) - function.lineno + 1
        for path in HOUSE
        for function in functions(path)
    }
    assert {where: length for where, length in lengths.items() if length >= LONGEST_FUNCTION} == {}


def test_functions_take_few_parameters() -> None:
    """No function has more than 6 parameters beside `self`."""
    names = {
        f"{shown(path, function)} {function.name}": [
            each.arg
            for each in (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
            if each.arg not in ("self", "cls")
        ]
        for path in HOUSE
        for function in functions(path)
    }
    assert {where: each for where, each in names.items() if len(each) > MOST_PARAMETERS} == {}


def test_files_say_what_they_are_for() -> None:
    """Every file opens with a docstring, and none has a name that says nothing."""
    everything = files("reconciler", "docs", "noxfile.py", "tests")
    silent = [shown(path) for path in everything if len(ast.get_docstring(tree(path)) or "") < 20]
    assert silent == []
    parts = {shown(path): path.relative_to(ROOT).with_suffix("").parts for path in everything}
    assert [where for where, words in parts.items() if VAGUE & set(words)] == []
