"""Which of the revisions of a set runs.

Rule: what a set went back to by itself has no number of its own; it is the newest revision that says the same.
"""

import json

from reconciler.core.override import RolledBack
from reconciler.sources.dumping import dump
from reconciler.state.store import essence
from reconciler.steering.desk import Desk


def revision_in_force(desk: Desk, name: str) -> int | None:
    """The number of the revision that a set runs; None where it is not kept any more."""
    known = desk.store.revisions(name)
    for one in desk.engine.overrides:
        if isinstance(one, RolledBack) and one.set_name == name:
            if one.revision is not None:
                return one.revision
            meant = essence(json.loads(json.dumps(dump(one.template))))
            return next((each.number for each in reversed(known) if essence(each.spec) == meant), None)
    return known[-1].number if known else None
