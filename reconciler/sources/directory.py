"""A watched directory as a source: one worker set for each spec file in it.

Rule: the bell, the clock and HUP only lead to a look, and a look takes in the whole directory: list it, compare each
file's stamp with that of the last look, and open only what differs and has settled. What each finding means is for the
`ledger`; how to look is for `listing`; when it is worth looking is for the `doorbell` and for the times kept here.
"""

import errno
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from reconciler.core import event
from reconciler.core.event import spec_event
from reconciler.core.spec import SetSpec
from reconciler.sources import Reading, listing
from reconciler.sources.ledger import Ledger
from reconciler.sources.listing import SUFFIXES, Stamp
from reconciler.sources.verdict import UNREADABLE, Rejection, conflict, judge, name_of, shown

if TYPE_CHECKING:
    from reconciler.sources.content import Contents
    from reconciler.sources.doorbell import Doorbell

RELIST_S = 20.0
SETTLE_S = 0.12
"""A pause in writing that is shorter than this does not end a file; much longer, and a new file would start late."""

POLL_S = 1.0
"""How often to look where no bell can ring, and for a directory that is not there."""

_NO_MORE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.ENOMEM})
_NO_DIRECTORY = frozenset({errno.ENOENT, errno.ENOTDIR})


class DirectorySource:
    """Watches the directory `path`, which need not exist yet.

    `relist_s` is how often it is looked at without a ring, and `settle_s` how long a file must have kept still before
    it is read; both in seconds. With `poll` no bell is hung up.

    The first reading only looks and asks to be called again at once: so the workers start before the bell's library is
    imported. The second reading hangs up the bell and looks again, so that nothing slips through in between. From then
    on `fileno` gives the bell's descriptor, always the same. `missed_total` counts the changes that no bell told of.
    """

    def __init__(
        self, path: str, *, relist_s: float = RELIST_S, settle_s: float = SETTLE_S, poll: bool = False
    ) -> None:
        self.path = str(Path(path).absolute())  # its links are followed anew at each look
        self.missed_total = 0
        self._relist_s = relist_s
        self._settle_s = settle_s
        self._polling: str | None = None
        self._asked_to_poll = poll
        self._bell: Doorbell | None = None
        self._retry_at = 0.0
        self._looked_at: float | None = None
        self._wake_at = 0.0
        self._stamps: dict[str, Stamp] = {}
        self._settling: dict[str, float] = {}
        self._judged: dict[str, tuple[str, Stamp]] = {}
        self._unreadable: set[str] = set()
        self._contents: Contents | None = None
        self._ledger = Ledger(shown(self.path))

    def read(self, now: float, *, urgent: bool = False) -> Reading:
        """See `Source.read`. Without a ring, and before the time it asked for, it does not look."""
        if urgent or self._is_due(now):
            self._wake_at = self._look(now, urgent=urgent)
            self._looked_at = now
        sets, events = self._ledger.take()
        return Reading(sets, events, self._wake_at)

    def fileno(self) -> int | None:
        """The bell's descriptor, once there is a bell."""
        return None if self._bell is None else self._bell.fileno()

    def files(self) -> Mapping[str, str]:
        """The path of the file behind each set, as its last good version was read from it."""
        return self._ledger.files()

    def rejections(self) -> Mapping[str, Rejection]:
        """What is wrong with the files of each name, now."""
        return self._ledger.rejections()

    def close(self) -> None:
        """Take down the bells."""
        if self._contents is not None:
            self._contents.close()
        if self._bell is not None:
            self._bell.close()
            self._bell = None

    def _is_due(self, now: float) -> bool:
        """Whether to look now. A ring leads to a look at once, but not to more than two within a settle time: until
        the next one is due the bell is down.
        """
        if self._looked_at is None or now >= self._wake_at:
            return True
        if not self._rung():
            return False
        again_at = self._looked_at + self._settle_s / 2
        if now >= again_at:
            return True
        self._take_down()
        self._wake_at = min(self._wake_at, again_at)
        return False

    def _rung(self) -> bool:
        return (self._bell is not None and self._bell.rung()) or (self._contents is not None and self._contents.rung())

    def _take_down(self) -> None:
        """Have those bells silent that rang, until the look that is due."""
        for bell in (self._bell, self._contents):
            if bell is not None and bell.rung():
                bell.take_down()

    def _look(self, now: float, *, urgent: bool) -> float:
        """Look at everything. Returns when to look again."""
        self._take_down()
        try:
            directory = listing.open_directory(self.path)
        except OSError as error:
            return self._lost(error, now)
        try:
            watched = self._bell is not None and self._bell.hangs_on(directory)
            if not watched and self._looked_at is not None:
                self._watch(directory, now)
                if not listing.leads_to(self.path, directory):
                    return now  # it was swapped before the bell hung on it, so that nothing will ring
            try:
                stamps = listing.scan(directory)
            except OSError as error:
                return self._lost(error, now)
            self._ledger.reached(now)
            changed = self._compare(stamps, now, urgent=urgent)
            if changed and watched:
                self._count_missed(len(changed))
            for name in sorted(self._due_names(changed, now)):
                self._judge(name, directory, now)
        finally:
            os.close(directory)
        times = [*self._settling.values(), now + self._interval(), *self._look_at_contents(now, urgent=urgent)]
        gone_until = self._ledger.sweep(now)
        return min(times) if gone_until is None else min(*times, gone_until)

    def _look_at_contents(self, now: float, *, urgent: bool) -> list[float]:
        """Look at the files that specs watch, if any do. Returns when to look again."""
        watching = self._ledger.watching()
        if self._contents is None:
            if not watching:
                return []
            from reconciler.sources.content import Contents  # noqa: PLC0415  few specs watch anything

            self._contents = Contents(self._relist_s, POLL_S)
        elif not watching:
            self._contents.close()
            self._contents = None
            return []
        bell = self._bell if self._polling is None else None
        for name, verdict in self._contents.look(watching, now, bell, urgent=urgent).items():
            self._ledger.contain(name, verdict.content, verdict.problem)
        for told in self._contents.take_events():
            self._ledger.tell(told)
        if missed := self._contents.take_missed():
            self._tell_missed(missed)
        return [self._contents.wake_at]

    def _interval(self) -> float:
        if self._looked_at is None:
            return 0.0
        return self._relist_s if self._polling is None else POLL_S

    def _lost(self, error: OSError, now: float) -> float:
        """The directory cannot be looked into."""
        if self._bell is not None:
            self._bell.take_down()
        self._ledger.unreachable("DirectoryMissing" if error.errno in _NO_DIRECTORY else "DirectoryUnreadable")
        return now + POLL_S

    def _watch(self, directory: int, now: float) -> None:
        """Hang the bell on this directory, or say why not. While polling it is tried again with each relist."""
        if self._polling is not None and now < self._retry_at:
            return
        self._retry_at = now + self._relist_s
        if self._bell is not None:
            self._bell.take_down()
        reason = self._hang(directory)
        if reason is not None and self._polling is None:
            self._ledger.tell(spec_event(event.SOURCE_POLLING, None, shown(self.path), reason))
        elif reason is None and self._polling is not None:
            self._ledger.tell(spec_event(event.SOURCE_WATCHING, None, shown(self.path)))
        self._polling = reason

    def _hang(self, directory: int) -> str | None:
        if self._asked_to_poll:
            return "Asked"
        if not sys.platform.startswith("linux"):
            return "NotSupported"
        from reconciler.sources import doorbell  # noqa: PLC0415  # costs what a whole start-up should; see the class

        if doorbell.is_remote(directory):
            return "NetworkFileSystem"
        try:
            self._bell = self._bell or doorbell.Doorbell()
            self._bell.hang(directory, self.path)
        except OSError as error:
            return "LimitReached" if error.errno in _NO_MORE else "NotSupported"
        return None

    def _count_missed(self, count: int) -> None:
        if self._bell is not None and not self._bell.rung():  # else it rang while we looked
            self._tell_missed(count)

    def _tell_missed(self, count: int) -> None:
        self.missed_total += count
        self._ledger.tell(spec_event(event.SOURCE_MISSED, None, shown(self.path), missed=count))

    def _compare(self, stamps: dict[str, Stamp], now: float, *, urgent: bool) -> set[str]:
        """The files that differ from the last look; those that are there have to settle, unless it is urgent."""
        changed = {file for file, _ in stamps.items() ^ self._stamps.items()}
        self._stamps = stamps
        for file in changed:
            if file in stamps:
                self._settling[file] = now + self._settle_s
                self._ledger.present(name_of(file))
            else:
                self._settling.pop(file, None)
        if urgent:
            self._settling = dict.fromkeys(self._settling, now)
        return changed

    def _due_names(self, changed: set[str], now: float) -> set[str]:
        """The names with a file that is gone, has settled, or could not be read the last time."""
        settled = [file for file, until in self._settling.items() if until <= now]
        for file in settled:
            del self._settling[file]
        gone = [file for file in changed if file not in self._stamps]
        return {name_of(file) for file in (*settled, *gone)} | self._unreadable

    def _judge(self, name: str, directory: int, now: float) -> None:
        """Say what the files of one name come to, once all of them have settled."""
        files = [name + suffix for suffix in SUFFIXES if name + suffix in self._stamps]
        self._unreadable.discard(name)
        if not files:
            self._judged.pop(name, None)
            self._ledger.gone(name, now)
        elif any(file in self._settling for file in files):
            return
        elif len(files) > 1:
            self._judged.pop(name, None)
            self._ledger.reject(name, conflict(self.path, files))
        elif self._judged.get(name) != (files[0], self._stamps[files[0]]):
            self._take(name, files[0], directory, now)

    def _take(self, name: str, file: str, directory: int, now: float) -> None:
        """Read the only file of a name and tell the ledger what it holds."""
        stamp = self._stamps[file]
        verdict = judge(directory, self.path, file, stamp)
        if verdict is None:
            self._settling[file] = now + self._settle_s
            return
        self._judged[name] = (file, stamp)
        if isinstance(verdict, SetSpec):
            self._ledger.accept(name, shown(self.path, file), verdict)
            return
        self._ledger.reject(name, verdict)
        if verdict.reason == UNREADABLE:  # it may be mended where its stamp does not show it
            del self._judged[name]
            self._unreadable.add(name)
