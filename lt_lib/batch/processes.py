"""Processes named so that a reused number is not mistaken for them, and trees of processes ended as a whole."""

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

_SET_CHILD_SUBREAPER = 36


def host_name() -> str:
    """This machine since its last start, and this container: process numbers mean something only within it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def start_mark(pid: int) -> str:
    """When a process started, in its system's own count; empty if there is none of this number, or only its remains."""
    try:
        # The name, in parentheses, may hold blanks and parentheses itself.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if fields[0] in "ZX" else fields[19]
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return ""
    import psutil

    try:
        process = psutil.Process(pid)
        return "" if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.NoSuchProcess:
        return ""


def adopt_orphans() -> None:
    """Become the parent of what one's children leave behind, so that it can be found and ended (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[Any]:
    """All living processes below this one."""
    import psutil

    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.status() != psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


def end_descendants(patience: float = 5.0) -> int:
    """Kill everything below this process until nothing is left, also what starts meanwhile.

    Args:
        patience: seconds after which to give up on what cannot die.

    Returns:
        Number of processes that are still there.
    """
    limit = time.monotonic() + patience
    while (found := descendants()) and time.monotonic() < limit:
        for child in found:
            with contextlib.suppress(Exception):
                child.kill()
        time.sleep(0.02)
    return len(found)


def end_group(group: int, mark: str) -> bool:
    """Kill the process group that a process with this number and start mark leads, if it still does."""
    if not mark or start_mark(group) != mark:
        return False
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
        return True
    return False
