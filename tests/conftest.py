"""What all tests share: a place of their own for the state of the controllers that they start."""

import os

import pytest


@pytest.fixture(scope="session", autouse=True)
def _runtime_directory(tmp_path_factory):
    """Controllers of a test run keep their state with it, and not with those that a user may have."""
    os.environ["XDG_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("run"))
