"""The bell at a spec directory: a descriptor that becomes readable when it may be worth looking again.

Rule: it rings, and says no more. What changed is never taken from it, a ring too many does no harm, and a ring that was
lost costs only the time until the next relist.

watchdog's `InotifyFD` is a thread; here it is never started, for a process that forks must have no thread. This file is
the only one that knows the class, whose module is not documented: the descriptor is waited on by the controller's own
loop, behind an epoll descriptor. That one level more lets the bell be muffled: while a look is due anyway, ten thousand
rings a second wake nobody. The kernel's queue is bounded, and its overflow is one more ring.
"""

import contextlib
import errno
import os
import select
from pathlib import Path

from watchdog.observers.inotify_c import CallbackId, InotifyConstants, InotifyEvent, InotifyFD, Mask, WatchDescriptor

# Opening and reading are not among them: our own looks must not ring.
_INSIDE = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_MODIFY
    | InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_ATTRIB
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
    | InotifyConstants.IN_ONLYDIR
)
# A link may lead to the directory it lies in: then there is one watch for both, which must keep its mask.
_BESIDE_A_LINK = Mask(
    InotifyConstants.IN_CREATE
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_MASK_ADD
)
_IN, _BY = CallbackId(0), CallbackId(1)

_REMOTE = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "vboxsf", "virtiofs"}
)


class Doorbell:
    """A bell that can be hung on one directory after the other; its descriptor stays the same. Raises OSError where
    the kernel has no more to give.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._inotify = InotifyFD()
        queue = self._inotify._inotify_fd  # noqa: SLF001  # there is no public way without its thread
        os.set_inheritable(queue, False)  # noqa: FBT003  # its only form
        os.set_blocking(queue, False)
        self._queue = queue
        self._unread = select.poll()
        self._unread.register(queue, select.POLLIN)
        self._epoll.register(queue, select.EPOLLIN)
        self._inside: WatchDescriptor | None = None
        self._beside: WatchDescriptor | None = None
        self._identity: tuple[int, int] | None = None
        self._link = b""
        self._rang = False

    def fileno(self) -> int:
        """Readable when the bell rang and is not muffled."""
        return self._epoll.fileno()

    def hangs_on(self, directory: int) -> bool:
        """Whether it hangs on this very directory, given by a descriptor.

        The kernel holds on to the inode of a watch and says when it lets go (see `on_watch_deleted`), so an inode
        number that comes again in a new directory cannot deceive. A descriptor of our own would do the same, but it
        would keep the file system from being unmounted.
        """
        status = os.fstat(directory)
        return self._inside is not None and self._identity == (status.st_dev, status.st_ino)

    def hang(self, directory: int, path: str) -> None:
        """Hang it on a directory, given by a descriptor, and take it off any other. Raises OSError.

        If `path`, which led there, is a symbolic link, the bell rings for a new link in its place too.
        """
        self.take_down()
        status = os.fstat(directory)
        self._inside = self._watch(f"/proc/self/fd/{directory}", _INSIDE, _IN)
        self._identity = (status.st_dev, status.st_ino)
        place = Path(path)
        if place.is_symlink():
            self._link = os.fsencode(place.name)
            with contextlib.suppress(OSError):  # the relist sees it as well, only later
                self._beside = self._watch(str(place.parent), _BESIDE_A_LINK, _BY)

    def take_down(self) -> None:
        """Let it hang nowhere."""
        hung = [(watch, which) for watch, which in ((self._inside, _IN), (self._beside, _BY)) if watch is not None]
        self._inside = self._beside = self._identity = None
        self._inotify.remove_callbacks(hung)

    def rung(self) -> bool:
        """Whether it rang since the last answer; also true when it is muffled."""
        return bool(self._unread.poll(0))

    def muffle(self) -> None:
        """Keep the descriptor unreadable until the next answer."""
        self._epoll.modify(self._queue, 0)

    def answer(self) -> bool:
        """Whether it rang for something of ours. Takes off the muffler.

        One buffer is read, some thousand rings; what is left rings on. So a storm of them costs a bounded time.
        """
        self._rang = False
        if self.rung():
            for event in self._inotify.read_events():
                if event.is_queue_overflow:
                    self.on_queue_overflow()  # `handle_event` would also write to stderr, past our log
                else:
                    self._inotify.handle_event(event)
        self._epoll.modify(self._queue, select.EPOLLIN)
        return self._rang

    def close(self) -> None:
        """Free its descriptors."""
        self._epoll.close()
        self._inotify._is_reading = False  # noqa: SLF001  # else it leaves the closing to its thread
        self._inotify.close()

    def on_event(self, event: InotifyEvent) -> None:
        """Called by watchdog for each event of a watch."""
        if event.wd == self._inside or event.name == self._link:
            self._rang = True

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Called by watchdog when the watched directory was deleted or unmounted."""
        if wd == self._inside:
            self._inside = None
            self._rang = True

    def on_queue_overflow(self) -> None:
        """Rings were lost, and the end of the watch may have been among them: it has to be hung up anew."""
        self.take_down()
        self._rang = True

    def _watch(self, path: str, mask: Mask, which: CallbackId) -> WatchDescriptor:
        watch = self._inotify.add_callback(os.fsencode(path), mask, self, which)
        if watch == -1:  # how watchdog tells of EACCES
            self._inotify.remove_callbacks([(watch, which)])
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return watch


def is_remote(directory: int) -> bool:
    """Whether a directory, given by a descriptor, lies on a file system that others change without our kernel's notice,
    so that no bell would ring.
    """
    device = os.fstat(directory).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="replace") as mounts:
            for mount in mounts:
                before, _, after = mount.partition(" - ")
                if before.split()[2] == number:
                    kind = after.split()[0]
                    return kind in _REMOTE or kind.startswith("fuse.")
    except OSError:
        pass  # without /proc it cannot be known
    return False
