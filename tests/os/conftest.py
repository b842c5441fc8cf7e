"""Fixtures for the tests of whole runs."""

import os
import shutil
import subprocess

import pytest


@pytest.fixture
def specs(tmp_path):
    """An empty spec directory."""
    directory = tmp_path / "specs"
    directory.mkdir()
    return directory


@pytest.fixture
def common_rights():
    """The prefix of a command that must not read what its user may not read, not even as root."""
    if os.geteuid():
        return ()
    if shutil.which("setpriv") is None:
        pytest.skip("root may read everything, and there is no setpriv")
    return ("setpriv", "--bounding-set=-dac_override,-dac_read_search")


@pytest.fixture
def no_inotify():
    """The prefix of a command that is given no inotify instance."""
    private = ("unshare", "--user", "--map-root-user")
    if shutil.which("unshare") is None or subprocess.run([*private, "true"], check=False).returncode:
        pytest.skip("no user namespace may be made here")
    return (*private, "sh", "-c", 'echo 0 > /proc/sys/user/max_inotify_instances; exec "$@"', "sh")
