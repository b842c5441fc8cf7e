"""What is asked of the tests themselves."""

import ast

from house.tree import files, functions, shown, tree, yields

TESTS = [path for path in files("tests") if "bench" not in path.parts]
"""What is run by pytest: the bench asserts nothing, and lets time pass on purpose."""


def test_each_test_says_what_it_holds() -> None:
    """Every test has a docstring: the behaviour that it holds, as a sentence."""
    docs = {
        f"{shown(path, function)} {function.name}": ast.get_docstring(function) or ""
        for path in TESTS
        for function in functions(path)
        if function.name.startswith("test_")
    }
    assert len(docs) > 100
    assert [where for where, doc in docs.items() if not doc.endswith((".", ")", "?"))] == []


def test_no_test_sleeps() -> None:
    """A test waits for what it expects, never for time to pass. (The programs of workers, given as text, may.)"""
    sleeps = [
        shown(path, node)
        for path in TESTS
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("sleep", "time.sleep") and not yields(node)
    ]
    assert sleeps == []
