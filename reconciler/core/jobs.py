"""Jobs that are done, over the end of a controller: how their work is told apart, and what is remembered of it.

Rule: a job is done once for each version of its spec. What a version is, is said by a fingerprint, since no value
outlives a process.
"""

import json
import zlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import attrs

from reconciler.core.actual_set import ActualSet
from reconciler.core.spec import Again
from reconciler.core.worker import Phase

Done = Mapping[str, Mapping[str, str]]
"""By the name of a set and the text of a key: the fingerprint of what that worker had done."""


@attrs.frozen
class Memory:
    """What is to be known of jobs when a controller starts: what was `done`, and up to which time (seconds since the
    epoch) each of the `schedules` was dealt with.
    """

    done: Done = MappingProxyType({})
    schedules: Mapping[str, float] = MappingProxyType({})


def fingerprint(digest: Any) -> str:
    """A short text that is the same for the same version of a spec, in every process; restarts count for nothing."""
    while isinstance(digest, Again):
        digest = digest.digest
    data = attrs.asdict(digest, value_serializer=_plain) if attrs.has(type(digest)) else repr(digest)
    text = json.dumps(data, sort_keys=True, default=str).encode("utf-8", "surrogateescape")
    return f"{zlib.crc32(text):08x}{zlib.crc32(text[::-1]):08x}{len(text):x}"


def _plain(_owner: Any, _field: Any, value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


def done(sets: Mapping[str, ActualSet]) -> Done:
    """What is to be remembered: the workers of jobs that ended well, but not the runs of a schedule."""
    return {
        name: found
        for name, known in sets.items()
        if known.wanted.policy.job and not known.wanted.runs and (found := _done(known))
    }


def _done(known: ActualSet) -> dict[str, str]:
    return {
        str(key): fingerprint(workers[-1].spec.digest)
        for key, workers in known.by_key.items()
        if workers[-1].phase is Phase.SUCCEEDED
    }
