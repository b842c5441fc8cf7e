"""Process groups: asking about one, signalling one, and finding the members that outlived its leader.

Rule: no signal ever reaches a process that is not ours. A number can be given to a stranger as soon as nobody holds
it, so a group is signalled by its number only while its leader is unreaped, and a single process only through its
pidfd. What outlived the leader is looked up by number, and then checked against what the kernel cannot confuse.
"""

import contextlib
import errno
import os
import select
import signal
from collections.abc import Collection

_NAMES_THE_GROUP = 1 << 2  # PIDFD_SIGNAL_PROCESS_GROUP, Linux 6.9


def leads(pidfd: int, pid: int) -> bool:
    """Whether the process leads a group, asked now, as a user's worker may not have come to its `setsid` yet.

    False once somebody has reaped it: then its number may mean another.
    """
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is there, with another user's rights
    return group_of(pid) == pid


def signal_group(pgid: int, number: int) -> None:
    """Signal every process of a group whose leader is unreaped. One that we may not signal (set-uid) is left alone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def signal_process(pidfd: int, number: int) -> None:
    """Signal one process; nothing happens to one that is gone, or that we may not signal (set-uid)."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, number)


def signal_child(pid: int, number: int) -> None:
    """Signal a child of this process, with the group that it leads; nothing happens to what is no child, or is gone."""
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        pidfd = os.pidfd_open(pid)
        try:
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG | os.WNOWAIT)  # raises for what is no child of ours
            if leads(pidfd, pid):
                signal_group(pid, number)
            else:
                signal_process(pidfd, number)
        finally:
            os.close(pidfd)


def remains(pidfd: int, pgid: int) -> bool:
    """Whether a group still has members, dead ones that nobody reaped among them, after its leader was reaped.

    `pidfd` is the leader's; from Linux 6.9 on it names the group beyond any doubt. Before, the number has to do.
    """
    try:
        signal.pidfd_send_signal(pidfd, 0, None, _NAMES_THE_GROUP)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return _number_in_use(pgid)
    return True


def kill_remains(pidfd: int) -> None:
    """KILL all that is left of a group whose leader was reaped, in one stroke that no fork escapes.

    `pidfd` is the leader's. Before Linux 6.9, which cannot name a group so, nothing happens.
    """
    signal_remains(pidfd, signal.SIGKILL)


def signal_remains(pidfd: int, number: int) -> bool:
    """Signal all of a group whose leader was reaped; whether the kernel can do so (Linux 6.9).

    `pidfd` is the leader's. With the signal 0 nothing is sent.
    """
    try:
        signal.pidfd_send_signal(pidfd, number, None, _NAMES_THE_GROUP)
    except OSError as error:
        return error.errno != errno.EINVAL
    return True


def _number_in_use(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def members(pgids: Collection[int]) -> dict[int, list[int]]:
    """The pids in each of the groups, by one look at all processes (0.3 ms for each thousand of them)."""
    found: dict[int, list[int]] = {}
    with os.scandir("/proc") as entries:
        for entry in entries:
            pid = int(entry.name) if entry.name.isdecimal() else 0
            pgid = group_of(pid) if pid else None
            if pgid is not None and pgid in pgids:
                found.setdefault(pgid, []).append(pid)
    return found


def open_member(pid: int, pgid: int) -> int | None:
    """A pidfd of the process if it is alive and in the group, else None. Raises OSError for want of descriptors."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.EINVAL):  # the latter where only a group or session has the number
            return None
        raise
    if group_of(pid) == pgid and not is_dead(pidfd):
        return pidfd
    os.close(pidfd)
    return None


def group_of(pid: int) -> int | None:
    """The group that a process is in; None if there is no such process."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return None


def is_dead(pidfd: int) -> bool:
    """Whether the whole process has ended; its entry in /proc only speaks of its first thread."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def signal_number(name: str) -> int:
    """The number of a signal, from its name without SIG. Raises ValueError for a name that does not exist."""
    try:
        return signal.Signals[f"SIG{name}"]
    except KeyError:
        raise ValueError(f"there is no signal {name!r}") from None


def signal_name(number: int) -> str:
    """The name of a signal without SIG, such as "TERM" or "RTMIN+3"."""
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.Signals.SIGRTMIN}" if number > signal.Signals.SIGRTMIN else str(number)
