"""The desk that the tests of the control socket sit at."""

import pytest
from control.desk import Desk


@pytest.fixture
def desk(tmp_path):
    """A server, and clients that are closed in the end."""
    made = Desk(tmp_path)
    yield made
    made.close()
