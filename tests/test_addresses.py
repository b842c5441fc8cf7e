"""Addresses as the layers have them: what a check of specs accepts can be used, and what cannot is refused by it."""

import itertools
from contextlib import suppress

import pytest

from reconciler.core.address import problem
from reconciler.core.serving import Socket
from reconciler.drivers.reach import places
from reconciler.sockets import Options, bind

HOSTS = (
    "", ":", "127.0.0.1:", "localhost:", "0.0.0.0:", "127.1:", "0:", "256.0.0.1:", "001.2.3.4:", "*:", "example.org:",
    "[::1]:", "[::]:", "[fe80::1%lo]:", "[:]:", "[localhost]:", "[127.0.0.1]:", "[::ffff:127.0.0.1]:", "[]:", "::1:",
)  # fmt: skip
ADDRESSES = [host + port for host, port in itertools.product(HOSTS, ("0", "8099", "65536", "http", ""))]
PATHS = ("unix:", "unix:/", "unix:a", "unix:@a", "unix:/x/../y", "unix:/run/", "unix:/run/a.sock", "unix:/a\0b")


@pytest.mark.parametrize("text", [*ADDRESSES, *PATHS])
def test_what_is_asked(text):
    """An address that is good for a probe is one that the driver can go to, and no other is."""
    try:
        goes = bool(places(text, "/"))
    except ValueError:
        goes = False
    assert goes == (problem(text) is None)


@pytest.mark.parametrize("text", ADDRESSES)
def test_what_listens(text):
    """An address that is good for a socket is one that can be bound, if this machine has it."""
    try:
        Socket(name="a", address=text)
    except ValueError:
        return
    with suppress(OSError):  # somebody uses it, or this machine has no such address
        bind(text or "0", Options(patient=False)).close()
