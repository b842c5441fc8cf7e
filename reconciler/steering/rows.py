"""What is told of a set in one line: how it does, by which file, and when it runs.

Rule: made of what the core says, what the source says of files, and what is known of sockets and schedules; a set whose
file was never good has a row too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from reconciler.core.spec import WorkerSet
from reconciler.core.status import SetStatus, View, set_status
from reconciler.steering.desk import Desk


def set_rows(desk: Desk, names: Sequence[str] = ()) -> Iterator[Mapping[str, Any]]:
    """The rows of these sets, all if there are no names."""
    view, files, rejected = desk.engine.view(), desk.files(), desk.rejections()
    for name in names or sorted({*view.actual.sets, *rejected}):
        file, problems = rejected.get(name, (files.get(name), []))
        if name in view.actual.sets:
            status, wanted = set_status(view, name), view.actual.sets[name].wanted
            more = {"unbound": list(_unbound(desk, wanted)), "schedule": _schedule(desk, view, wanted)}
        else:
            status = SetStatus(name, 0, 0, 0, 0, 0, 0, stalled=False, converged=False, settled=True)
            more = {"unbound": [], "schedule": None}
        yield {**attrs.asdict(status), "file": file, "rejected": problems, **more}


def _unbound(desk: Desk, wanted: WorkerSet) -> Iterator[str]:
    """Why sockets of a set cannot be had now."""
    reasons = desk.unbound()
    for one in wanted.template.sockets if reasons and wanted.template is not None else ():
        if one in reasons:
            yield reasons[one]


def _schedule(desk: Desk, view: View, wanted: WorkerSet) -> dict[str, Any] | None:
    """When the runs of a scheduled set are (Unix time), and in what phase the last one that is kept is."""
    timing = desk.engine.timing(wanted.name)
    if timing is None or wanted.template is None:
        return None
    runs = view.actual.sets[wanted.name].by_key
    last = max(runs, key=lambda key: int(key.number), default=None)
    return {
        "expression": wanted.template.schedule,
        "time_zone": wanted.template.time_zone,
        **attrs.asdict(timing),
        "last_phase": None if last is None or last.number != timing.last else str(runs[last][-1].phase),
    }
