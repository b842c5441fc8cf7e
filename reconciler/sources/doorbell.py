"""The bell at a spec directory, and at what specs watch: a descriptor that becomes readable when it may be worth
looking again.

Rule: it rings, and says no more. What changed is never taken from it, a ring too many does no harm, and a ring that was
lost costs only the time until the next relist.

Of watchdog only the binding of inotify is used, without its threads, for a process that forks must have none; the
controller's own loop waits on the descriptor. That module is not documented, so this file alone knows it.

Once it rang, the bell is taken down until the next look hangs it up again. So rings are never gone through one by one,
ten thousand of them a second wake nobody while a look is due anyway, and neither an overflow of the kernel's queue nor
the end of a watch is a case of its own: each is a ring.

A forked child shares the queue and its watches with its parent: it closes its descriptor, and takes nothing down.
"""

import contextlib
import ctypes
import os
import select
from pathlib import Path

from watchdog.observers.inotify_c import (
    InotifyConstants,
    Mask,
    WatchDescriptor,
    inotify_add_watch,
    inotify_init,
    inotify_rm_watch,
)

from reconciler.hygiene import let_go_in_children

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

_REMOTE = frozenset(
    {"9p", "afs", "ceph", "cifs", "fuse", "glusterfs", "lustre", "nfs", "nfs4", "smb3", "smbfs", "vboxsf", "virtiofs"}
)


class Bell:
    """A bell that can be hung on directories; its descriptor stays the same. Raises OSError where the kernel has no
    more to give.
    """

    def __init__(self) -> None:
        self._queue = inotify_init()
        if self._queue == -1:
            raise _last_error()
        os.set_inheritable(self._queue, False)  # noqa: FBT003  # it takes no keyword
        os.set_blocking(self._queue, False)
        self._unread = select.poll()
        self._unread.register(self._queue, select.POLLIN)
        self._watches: set[WatchDescriptor] = set()
        let_go_in_children(self, type(self).close)

    def fileno(self) -> int:
        """Readable when the bell rang."""
        return self._queue

    def listen(self, path: str) -> None:
        """Hang it on one more directory: it rings for whatever happens inside. Raises OSError."""
        self._watch(path, _INSIDE)

    def listen_beside(self, path: str) -> None:
        """Hang it on the directory in which a link lies: it rings when a name comes or goes there. Raises OSError."""
        self._watch(path, _BESIDE_A_LINK)

    def take_down(self) -> None:
        """Let it hang nowhere, and forget what rang."""
        for watch in self._watches:
            inotify_rm_watch(self._queue, watch)  # fails only for a watch that the kernel has ended already
        self._watches.clear()
        with contextlib.suppress(BlockingIOError):
            while os.read(self._queue, 65536):
                pass

    def rung(self) -> bool:
        """Whether it rang since it was hung up."""
        return bool(self._unread.poll(0))

    def close(self) -> None:
        """Free its descriptor. Asked again, or in a forked child, it does nothing."""
        if self._queue >= 0:
            queue, self._queue = self._queue, -1
            self._watches.clear()
            os.close(queue)

    def _watch(self, path: str, mask: Mask) -> None:
        watch = inotify_add_watch(self._queue, os.fsencode(path), mask)
        if watch == -1:
            raise _last_error()
        self._watches.add(watch)


class Doorbell(Bell):
    """The bell of the spec directory, which hangs on one directory after the other. Others may be joined to it."""

    def __init__(self) -> None:
        super().__init__()
        self._identity: tuple[int, int] | None = None
        self._joined: select.epoll | None = None

    def fileno(self) -> int:
        """Readable when this bell rang, or one that was joined to it."""
        return self._queue if self._joined is None else self._joined.fileno()

    def joined(self) -> Bell:
        """A new bell, of which the descriptor of this one tells as well. Raises OSError."""
        other = Bell()
        try:
            if self._joined is None:
                self._joined = select.epoll()
                self._joined.register(self._queue, select.EPOLLIN)
            self._joined.register(other, select.EPOLLIN)
        except OSError:
            other.close()
            raise
        return other

    def hangs_on(self, directory: int) -> bool:
        """Whether it hangs on this very directory, given by a descriptor.

        While it hangs and has not rung the kernel keeps the directory's inode, so that no other has its number. A
        descriptor of our own would do the same, but it would keep the file system from being unmounted.
        """
        status = os.fstat(directory)
        return self._identity == (status.st_dev, status.st_ino)

    def hang(self, directory: int, path: str) -> None:
        """Hang it on a directory, given by a descriptor, and take it off any other. Raises OSError.

        If `path`, which led there, is a symbolic link, the bell rings for what happens beside the link too.
        """
        self.take_down()
        status = os.fstat(directory)
        self.listen(f"/proc/self/fd/{directory}")
        self._identity = (status.st_dev, status.st_ino)
        place = Path(path)
        if place.is_symlink():
            with contextlib.suppress(OSError):  # the relist sees a new link as well, only later
                self.listen_beside(str(place.parent))

    def take_down(self) -> None:
        """See `Bell.take_down`."""
        self._identity = None
        super().take_down()

    def close(self) -> None:
        """See `Bell.close`."""
        if self._joined is not None:
            joined, self._joined = self._joined, None
            joined.close()
        super().close()


def _last_error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))


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


def leads_to_remote(path: str) -> bool:
    """Whether a path leads to a directory on such a file system; False where it leads to none."""
    try:
        directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return is_remote(directory)
    finally:
        os.close(directory)
