"""Settings of gunicorn: only who tells that it is ready."""

import contextlib
import os
from typing import Any


def post_worker_init(_worker: Any) -> None:
    """The application is loaded, and the worker is about to accept."""
    with contextlib.suppress(OSError):  # gunicorn replaced a worker of its own, and that it is ready was told before
        os.write(9, b"\n")
