"""One notebook, one kernel, in this process: papermill with a private kernel that cannot outlive us."""

import contextlib
import os
import re
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lt_lib.batch.processes import start_mark

_PREFIX = "lt-kernel"
# Libraries that papermill and the check of a notebook's schema load where they find them, and do without: for addresses
# of cloud stores, which no path here is, and for web addresses and durations, which no notebook holds. The first of
# these alone builds a grammar for 0.9 s at every start; the others are a third of what is left.
_NOT_NEEDED = ("rfc3987_syntax", "rfc3986_validator", "boto3", "pyarrow", "isoduration")
# A Unix socket's path must stay below some 104 bytes, and the kernel's sockets add a little to the folder's name.
LONGEST_SOCKET_FOLDER = 90
_LONGEST_NAME = 50
_LAUNCH = """
import os, sys
if sys.platform == "linux":
    import ctypes
    ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)  # die with the parent, whatever the cell is doing
if os.getppid() != {parent}:
    os._exit(1)
if sys.path[0] == "":
    del sys.path[0]
sys.modules["debugpy"] = None  # nobody attaches a debugger to a batch, and to load it takes a tenth of a run's start
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""


def leave_out_unneeded() -> None:
    """Spare this process the libraries that running a notebook does without; call it before papermill is imported."""
    for name in _NOT_NEEDED:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]


def execute_notebook(
    source: Path,
    target: Path,
    parameters: Mapping[str, Any],
    *,
    folder: Path,
    cell_timeout: float | None = None,
    on_kernel: Callable[[Any], None] = lambda manager: None,
    at_end: Callable[[], None] = lambda: None,
) -> None:
    """Run a notebook; must be called in the main thread of a process that runs nothing else.

    Args:
        source: the notebook.
        target: where the executed copy is written, cell by cell.
        parameters: values that were checked before, see `lt_lib.batch.parameters`.
        folder: working directory of the kernel.
        cell_timeout: seconds for one cell, None for no limit.
        on_kernel: called with the kernel's manager before the kernel starts.
        at_end: called when the last cell has ended, before the kernel does.

    Raises:
        ValueError: a path holds braces, which papermill would replace.
        papermill.PapermillExecutionError: a cell raised an error.
        nbclient.exceptions.DeadKernelError, CellTimeoutError, RuntimeError: the kernel died, hung or did not start.
    """
    import papermill

    for path in (source, target):
        if "{" in str(path) or "}" in str(path):
            raise ValueError(f"`path` must hold no braces, which papermill replaces, got {str(path)!r}.")
    with _socket_folder() as sockets:
        manager = _manager(sockets)
        on_kernel(manager)
        try:
            papermill.execute_notebook(
                str(source),
                str(target),
                parameters=dict(parameters),
                kernel_name="python3",
                km=manager,
                cwd=str(folder),
                start_timeout=120,
                execution_timeout=cell_timeout,
                progress_bar=False,
            )
        finally:
            at_end()
            # papermill leaves a kernel running that it did not make itself.
            process = getattr(manager.provisioner, "process", None)
            if process is not None:
                process.kill()
                process.wait()


def socket_base() -> Path:
    """The folder for socket folders: local, writable, and with a short name."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]
    for candidate in candidates:
        if (
            candidate
            and len(candidate) < LONGEST_SOCKET_FOLDER - _LONGEST_NAME
            and os.access(candidate, os.W_OK | os.X_OK)
        ):
            return Path(candidate)
    raise OSError(f"No folder with a short name for kernel sockets: looked at {', '.join(filter(None, candidates))}.")


def stale_socket_folders() -> list[Path]:
    """Socket folders of this user whose process, among those that this process can see, is gone."""
    name = re.compile(rf"{_PREFIX}\.(\d+)-{_process_space()}\.(\d*)\.\w+")
    found = []
    for path in socket_base().glob(f"{_PREFIX}.*"):
        match = name.fullmatch(path.name)
        if match and start_mark(int(match.group(1))) != match.group(2):
            # Another attempt may be removing it at this moment.
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_uid == os.getuid():
                    found.append(path)
    return found


def _process_space() -> str:
    """Names the set of processes within which a process number means something: containers may share a folder."""
    with contextlib.suppress(OSError):
        return re.sub(r"\D", "", os.readlink("/proc/self/ns/pid"))
    return "0"


@contextlib.contextmanager
def _socket_folder() -> Iterator[Path]:
    for path in stale_socket_folders():
        shutil.rmtree(path, ignore_errors=True)
    name = f"{_PREFIX}.{os.getpid()}-{_process_space()}.{start_mark(os.getpid())}.{secrets.token_hex(3)}"
    folder = socket_base() / name
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _manager(sockets: Path) -> Any:
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class PrivateKernelManager(AsyncKernelManager):
        """Starts this interpreter's kernel, whichever kernels are installed by name; it looks for none of them."""

        @property
        def kernel_spec(self) -> Any:
            return KernelSpec(argv=[], display_name="Python 3", language="python")

        def format_kernel_cmd(self, extra_arguments: list[str] | None = None) -> list[str]:
            launch = _LAUNCH.format(parent=os.getpid())
            return [sys.executable, "-c", launch, "-f", self.connection_file, *(extra_arguments or [])]

    # Sockets in a folder of our own: no port can be taken twice when several kernels start at once.
    transport = {"transport": "ipc", "ip": str(sockets / "s")} if os.name == "posix" else {}
    return PrivateKernelManager(kernel_name="python3", connection_file=str(sockets / "kernel.json"), **transport)
