"""What a forked child must let go of: the descriptors that its parent watches, counts signals with and writes through.

Rule: a child closes what it inherited of ours through the object that owns it, which knows afterwards that it has
nothing left, so that neither its `close` nor its finalizer can close a number that is somebody else's by then. And it
only closes: what it shares with its parent, an epoll or the watches of an inotify, it never changes.
"""

import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

_T = TypeVar("_T")

_owners: "weakref.WeakKeyDictionary[Any, Callable[[Any], None]]" = weakref.WeakKeyDictionary()


def let_go_in_children(owner: _T, let_go: Callable[[_T], None]) -> None:
    """Call `let_go(owner)` in each child that this process forks while the owner lives, before the child goes on.

    It is called once: a child of that child inherits nothing of ours. `let_go` must not hold the owner, which would
    live for ever then: it is a function, or a method of the class. An OSError that it raises is ignored.
    """
    _owners[owner] = let_go


def _after_fork_in_child() -> None:
    inherited = list(_owners.items())
    _owners.clear()
    for owner, let_go in inherited:
        with suppress(OSError):  # it was closed behind our back, and there is nobody who could be told
            let_go(owner)


os.register_at_fork(after_in_child=_after_fork_in_child)
