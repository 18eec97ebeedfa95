"""Folders for the sockets of kernels: what is left behind is removed, and nothing that somebody may still use."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lt_lib.batch import kernels
from lt_lib.batch.kernels import LONGEST_SOCKET_FOLDER, socket_base, stale_socket_folders

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")]


@pytest.fixture
def base(monkeypatch):
    """A folder for socket folders that no other process uses."""
    folder = Path(tempfile.mkdtemp(prefix="lt", dir="/tmp"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    yield folder
    shutil.rmtree(folder)


def left_behind():
    """The socket folder of a process that was killed."""
    code = "import os\nfrom lt_lib.batch.kernels import _socket_folder\n"
    code += "with _socket_folder() as folder:\n    print(folder, flush=True)\n    os._exit(0)\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_living_one_stays(base):
    stale = left_behind()
    assert stale.parent == socket_base() == base
    assert stale_socket_folders() == [stale]
    with kernels._socket_folder() as first:
        assert not stale.exists()
        with kernels._socket_folder() as second:
            assert {path.name for path in base.iterdir()} == {first.name, second.name}
            assert len(second.name) + 40 <= LONGEST_SOCKET_FOLDER
    assert list(base.iterdir()) == []


def test_a_folder_that_another_process_removes_at_this_moment_is_no_fault(base, monkeypatch):
    left_behind()
    mark = kernels.start_mark

    def remove_and_look(pid):
        if pid != os.getpid():
            shutil.rmtree(next(base.iterdir()))
        return mark(pid)

    monkeypatch.setattr(kernels, "start_mark", remove_and_look)
    assert stale_socket_folders() == []


def test_a_folder_of_another_container_stays_though_its_process_is_not_seen_here(base, monkeypatch):
    space = os.readlink("/proc/self/ns/pid")
    monkeypatch.setattr(os, "readlink", lambda path: "pid:[123456]")
    with kernels._socket_folder() as elsewhere:
        os.rename(elsewhere, theirs := elsewhere.with_name(elsewhere.name.replace(str(os.getpid()), "4194303")))
        assert stale_socket_folders() == [theirs]
        monkeypatch.setattr(os, "readlink", lambda path: space)
        assert stale_socket_folders() == []
        with kernels._socket_folder():
            assert theirs.is_dir()
