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

from reconciler.core.spec import Again

Done = Mapping[str, Mapping[str, str]]
"""By the name of a set and the text of a key: the fingerprint of what that worker had done."""


def fingerprint(digest: Any) -> str:
    """A short text that is the same for the same version of a spec, in every process; restarts count for nothing."""
    while isinstance(digest, Again):
        digest = digest.digest
    data = attrs.asdict(digest, value_serializer=_plain) if attrs.has(type(digest)) else repr(digest)
    text = json.dumps(data, sort_keys=True, default=str).encode("utf-8", "surrogateescape")
    return f"{zlib.crc32(text):08x}{zlib.crc32(text[::-1]):08x}{len(text):x}"


def _plain(_owner: Any, _field: Any, value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else value


class Finished:
    """The workers of jobs that have done their work. `serial` counts the changes."""

    def __init__(self, done: Done = MappingProxyType({})) -> None:
        self.serial = 0
        self._done = {name: dict(keys) for name, keys in done.items()}
        self._last: tuple[Any, str] = (None, "")

    def note(self, name: str, key: Any, digest: Any) -> None:
        """This worker of a set has done its work, in this version."""
        self._done.setdefault(name, {})[str(key)] = self._fingerprint(digest)
        self.serial += 1

    def is_done(self, name: str, key: Any, digest: Any) -> bool:
        """Whether this worker has done its work in this version."""
        keys = self._done.get(name)
        return keys is not None and str(key) in keys and keys[str(key)] == self._fingerprint(digest)

    def undo(self, name: str, key: Any) -> None:
        """This worker begins anew."""
        if self._done.get(name, {}).pop(str(key), None) is not None:
            self.serial += 1

    def forget(self, name: str) -> None:
        """The set is gone."""
        if self._done.pop(name, None) is not None:
            self.serial += 1

    def all(self) -> Done:
        """All that is known, a copy."""
        return {name: dict(keys) for name, keys in self._done.items() if keys}

    def _fingerprint(self, digest: Any) -> str:
        """That of a digest, which most workers of a set have in common."""
        if self._last[0] is not digest:
            self._last = (digest, fingerprint(digest))
        return self._last[1]
