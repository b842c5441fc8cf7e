"""What the files that a spec watches hold: a digest for each set, which is another when the files are.

Rule: content decides, and neither the time nor the owner of a file. A ring leads to a look at all that is watched; what
differs must have kept still for the set's `debounce`, and only files whose stamp differs are read again. Where nothing
matches any more the last content stays: a tree is gone for a moment when it is replaced, and absence is no wish.
"""

import errno
import hashlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from reconciler.core import event, template
from reconciler.core.event import Event, spec_event
from reconciler.core.spec import SetSpec
from reconciler.sources import matching
from reconciler.sources.listing import OPEN_FILE, Stamp, stamp_of
from reconciler.sources.matching import UnusableError
from reconciler.sources.verdict import shown

if TYPE_CHECKING:
    from reconciler.sources.doorbell import Bell, Doorbell

PATIENCE_S = 10.0
"""How long an edit of a spec waits for its files to keep still; then it is taken with what they held before."""

_PAUSE_S = 0.06
_PAUSE_FOR_ENTRY_S = 5e-5  # a look takes about 4 us for each, so that looks take less than a tenth of the time
_CHUNK = 1 << 18
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})


@attrs.frozen
class Verdict:
    """What the files of a set come to: a digest, or what is wrong with them."""

    content: str | None
    problem: str | None = None


@attrs.define
class _Watched:
    """What is known of the files of one set. It is restless until `still_at`, where that is not None."""

    base: str
    patterns: tuple[str, ...]
    debounce: float
    seen: Mapping[str, Stamp] | str = ""
    hashes: dict[str, tuple[Stamp, bytes]] = attrs.Factory(dict)
    digest: str | None = None
    problem: str | None = None
    still_at: float | None = None
    restless_since: float = 0.0

    def sees(self, found: Mapping[str, Stamp] | str, now: float, wait: float) -> None:
        """Take in a look: the stamps of the files, or why there are none."""
        if found != self.seen:
            if self.still_at is None:
                self.restless_since = now
            self.seen, self.still_at = found, now + wait
        if self.still_at is not None and self.still_at <= now:
            self._settle(now)

    def verdict(self, now: float) -> Verdict | None:
        """What it comes to; None while that cannot be told."""
        if self.still_at is not None and now - self.restless_since < PATIENCE_S:
            return None
        if self.digest is None and self.problem is None:
            return None
        return Verdict(self.digest, self.problem)

    def _settle(self, now: float) -> None:
        self.still_at = None
        if isinstance(self.seen, str):
            self.problem = self.seen
            return
        if not self.seen and self.hashes:
            self.problem = None
            return
        try:
            hashes = {name: self._hash(name, stamp) for name, stamp in self.seen.items()}
        except UnusableError as error:
            self.problem = str(error)
            return
        except _MovingError:
            self.seen, self.still_at = "", now + max(self.debounce, _PAUSE_S)
            return
        self.hashes = {name: (self.seen[name], digest) for name, digest in hashes.items()}
        whole = hashlib.sha256()
        for name in sorted(hashes):
            whole.update(os.fsencode(name) + b"\0" + hashes[name])
        self.digest, self.problem = whole.hexdigest(), None

    def _hash(self, name: str, stamp: Stamp) -> bytes:
        known = self.hashes.get(name)
        if known is not None and known[0] == stamp:
            return known[1]
        try:
            return _digest(os.path.join(self.base, name), stamp)  # noqa: PTH118
        except OSError as error:
            if error.errno in _GONE:
                raise _MovingError from None
            raise UnusableError(matching.unreadable(name, error)) from None


class _MovingError(Exception):
    """A file is not what it was when it was looked at."""


class Contents:
    """The files that the specs of a directory watch. Nothing is looked at but in `look`.

    `relist_s` and `poll_s` (seconds) are how often all is looked at with a bell, without a ring, and where no bell can
    be had. `wake_at` (seconds, monotonic) is when to look again.
    """

    def __init__(self, relist_s: float, poll_s: float) -> None:
        self.wake_at = 0.0
        self._missed = 0
        self._events: list[Event] = []
        self._relist_s = relist_s
        self._poll_s = poll_s
        self._sets: dict[str, _Watched] = {}
        self._bell: Bell | None = None
        self._hung = False
        self._entries = 0
        self._looked_at = 0.0
        self._look_at = 0.0
        self._retry_at = 0.0
        self._polling: str | None = None

    def look(
        self, specs: Mapping[str, SetSpec], now: float, doorbell: "Doorbell | None", *, urgent: bool = False
    ) -> dict[str, Verdict]:
        """What the files of these specs hold, as far as it can be told now.

        With a `doorbell`, to which ours is joined, all is looked at only after a ring. `urgent` takes files as they
        are.
        """
        fresh = self._follow(specs)
        if self.rung():
            self.take_down()
        if urgent or now >= self._look_at or (doorbell and self._bell is None and self._polling is None):
            self._look_at_all(now, doorbell, fresh, urgent=urgent)
        else:
            for name, one in self._sets.items():
                if name in fresh or (one.still_at is not None and one.still_at <= now):
                    self._look_at_one(one, now, urgent=name in fresh)
        times = [self._look_at]
        for one in self._sets.values():
            if one.still_at is not None:
                times += [one.still_at, one.restless_since + PATIENCE_S]
        self.wake_at = min((at for at in times if at > now), default=now)
        blind = self._bell is not None and not self._hung and self._polling is None
        verdicts = {name: one.verdict(now) for name, one in self._sets.items() if name in fresh or not blind}
        return {name: verdict for name, verdict in verdicts.items() if verdict is not None}

    def rung(self) -> bool:
        """Whether the bell rang."""
        return self._bell is not None and self._bell.rung()

    def take_down(self) -> None:
        """Let nothing ring until the next look, which is due soon."""
        self._hung = False
        self._look_at = min(self._look_at, self._looked_at + self._pause)
        if self._bell is not None:
            self._bell.take_down()

    def take_events(self) -> list[Event]:
        """What there is to tell of the bell."""
        told, self._events = self._events, []
        return told

    def take_missed(self) -> int:
        """Of how many sets a change was found that no bell told of."""
        missed, self._missed = self._missed, 0
        return missed

    def close(self) -> None:
        """Free the bell."""
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    @property
    def _pause(self) -> float:
        """How long after a look the next one may be, however often it rings."""
        return max(_PAUSE_S, self._entries * _PAUSE_FOR_ENTRY_S)

    def _follow(self, specs: Mapping[str, SetSpec]) -> set[str]:
        """Watch for these specs and for no others; the names of those that are new, or look elsewhere now."""
        fresh = set()
        for name, spec in specs.items():
            base = "/" if template.has_placeholder(spec.cwd) else template.render(spec.cwd, {})
            known = self._sets.get(name)
            if known is None or (known.base, known.patterns) != (base, spec.watch.paths):
                self._sets[name] = _Watched(base, spec.watch.paths, spec.watch.debounce)
                fresh.add(name)
            else:
                known.debounce = spec.watch.debounce
        for name in self._sets.keys() - specs.keys():
            del self._sets[name]
        return fresh

    def _look_at_all(self, now: float, doorbell: "Doorbell | None", fresh: set[str], *, urgent: bool) -> None:
        may_miss = self._hung and not urgent
        self.take_down()
        self._hung = self._hang(now, doorbell)
        self._entries = changed = 0
        for name, one in self._sets.items():
            before = one.seen
            self._look_at_one(one, now, urgent=urgent or name in fresh)
            changed += one.seen != before and name not in fresh
        if may_miss and self._hung and not self.rung():
            self._missed += changed
        self._looked_at = now
        self._look_at = now + (self._relist_s if self._hung else max(self._poll_s, self._pause))

    def _look_at_one(self, one: _Watched, now: float, *, urgent: bool) -> None:
        finder = matching.Finder(self._bell if self._hung else None)
        found: Mapping[str, Stamp] | str
        try:
            found = finder.find(one.base, one.patterns)
        except UnusableError as error:
            found = str(error)
        except OSError:
            self._poll(one.base, "LimitReached")
            self.take_down()
            self._look_at_one(one, now, urgent=urgent)
            return
        self._entries += finder.entries
        one.sees(found, now, 0.0 if urgent else one.debounce)

    def _hang(self, now: float, doorbell: "Doorbell | None") -> bool:
        """Have a bell to hang, or say why not; where there is none it is tried again with each relist."""
        if doorbell is None or (self._polling is not None and now < self._retry_at):
            return False
        from reconciler.sources import doorbell as bells  # noqa: PLC0415  not before the first workers run

        self._retry_at = now + self._relist_s
        base = ""
        try:
            for base in {one.base for one in self._sets.values()}:
                if bells.leads_to_remote(base):
                    self._poll(base, "NetworkFileSystem")
                    return False
            if self._bell is None:
                self._bell = doorbell.joined()
        except OSError:
            self._poll(base, "LimitReached")
            return False
        if self._polling is not None:
            self._polling = None
            self._events.append(spec_event(event.SOURCE_WATCHING, None, shown(base)))
        return True

    def _poll(self, base: str, reason: str) -> None:
        if self._polling is None:
            self._events.append(spec_event(event.SOURCE_POLLING, None, shown(base), reason))
        self._polling = reason


def _digest(path: str, stamp: Stamp) -> bytes:
    """The digest of a file in the state of `stamp`. Raises _MovingError if it is not in that state, and OSError."""
    file = os.open(path, OPEN_FILE)
    try:
        if stamp_of(os.fstat(file)) != stamp:
            raise _MovingError
        digest, left = hashlib.sha256(), stamp.size
        while left > 0 and (data := os.read(file, min(left, _CHUNK))):
            digest.update(data)
            left -= len(data)
        if left or stamp_of(os.fstat(file)) != stamp:
            raise _MovingError
        return digest.digest()
    finally:
        os.close(file)
