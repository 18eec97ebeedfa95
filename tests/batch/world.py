"""Batches as a user starts them, in a world of their own that can be searched for what they left."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from batch.cases import write_grid

from lt_lib.batch.place import Place

SLEEP = "import time\ntime.sleep(x)\n"


class Bench:
    """Calls of `lt-lib` in a world of their own, which can be searched for what they left."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.place = Place(folder / "place")
        self.sockets = Path(tempfile.mkdtemp(prefix="lt", dir="/tmp"))
        self.environment = {**os.environ, "LT_BENCH": str(folder), "XDG_RUNTIME_DIR": str(self.sockets)}
        self.children: list[subprocess.Popen] = []

    def grid(self, text: str, *cells: str) -> Path:
        return write_grid(self.folder / "grid", text, *cells)

    def start(self, *words: object, **options: object) -> subprocess.Popen:
        return self.start_program(sys.executable, "-m", *words, **options)

    def start_program(self, *words: object, **options: object) -> subprocess.Popen:
        child = subprocess.Popen(
            list(map(str, words)),
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            **options,
        )
        self.children.append(child)
        return child

    def batch(self, grid: Path, *words: object, scheduler: str = "sequential", **options: object) -> subprocess.Popen:
        out = ["--out", self.place.folder, "--scheduler", scheduler]
        return self.start("lt_lib", "batch", grid, *out, *words, **options)

    def run(self, grid: Path, *words: object, **options: object) -> tuple[int, str]:
        return self.finish(self.batch(grid, *words, **options))

    def finish(self, child: subprocess.Popen, seconds: float = 120.0) -> tuple[int, str]:
        said, _ = child.communicate(timeout=seconds)
        return child.returncode, said

    def wait_for(self, condition, seconds: float = 60.0):
        limit = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < limit, "the moment to inject the fault did not come"
            time.sleep(0.05)
        return found

    def attempts(self) -> list[dict]:
        """Attempts whose kernel runs now."""
        found = []
        for path in self.place.folder.glob("attempts/*/*/attempt.json"):
            with contextlib.suppress(OSError, ValueError):
                note = json.loads(path.read_text())
                if "kernel" in note and not (path.parent / "outcome.json").exists():
                    found.append({**note, "folder": path.parent})
        return found

    def manifests(self) -> list[dict]:
        return [json.loads(path.read_text()) for path in sorted(self.place.folder.glob("runs/*/manifest.json"))]

    def processes(self) -> list[str]:
        """Command lines of everything that was started by this bench and lives."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                state = (path / "stat").read_text().rpartition(")")[2].split()[0]
                environment = (path / "environ").read_bytes().split(b"\0")
                if f"LT_BENCH={self.folder}".encode() in environment and state not in "ZX":
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        return found

    def assert_nothing_is_left(self, seconds: float = 3.0) -> None:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit and self.processes():
            time.sleep(0.1)
        assert self.processes() == []
        assert list(self.sockets.glob("lt-kernel*")) == []
        assert list((self.place.folder / "claims").iterdir()) == []

    def close(self) -> None:
        for child in self.children:
            if child.poll() is None:
                child.kill()
            child.communicate()
        shutil.rmtree(self.sockets)


def parent_of(pid: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def start_scheduler(
    bench: Bench, *options: object, folder: Path | None = None
) -> tuple[Path, subprocess.Popen, list[subprocess.Popen]]:
    """A scheduler on this machine and three workers, each a process of its own, as a user starts them.

    Args:
        bench: whose processes they are.
        options: of all four.
        folder: where they are started; the bench's if not given.

    Returns:
        The scheduler file, the scheduler and the workers.
    """
    file = bench.folder / "scheduler.json"
    where = {"cwd": folder or bench.folder}
    scheduler = bench.start(
        "dask", "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0",
        "--scheduler-file", file, *options, **where,
    )  # fmt: skip
    bench.wait_for(file.exists)
    workers = [
        bench.start(
            "dask", "worker", "--scheduler-file", file, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--memory-limit", "0", "--death-timeout", "10", *options, **where,
        )
        for _ in range(3)
    ]  # fmt: skip
    return file, scheduler, workers
