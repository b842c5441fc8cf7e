"""What a probe or a command beside a worker is given, so that it finds the worker.

Rule: it is made anew for each, from the worker's spec, so that it follows an edit.
"""

from collections.abc import Mapping

import attrs


@attrs.frozen
class Surroundings:
    """`values` stand for the placeholders of texts (see `core.template`), `cwd` and `environment` are the worker's."""

    values: Mapping[str, str]
    cwd: str
    environment: Mapping[bytes, bytes]
