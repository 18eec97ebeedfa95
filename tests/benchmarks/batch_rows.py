"""Rows of `make bench` on batches: what a run costs beyond its notebook, and what many runs cost."""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from batch.cases import keep_plan, publish, write_grid

from lt_lib.batch.grid import load_grid
from lt_lib.batch.place import Place
from lt_lib.batch.plan import make_plan

CELL = 'open(f"{out_dir}/result.json", "w").write("{}")\n'


def bench_batch(runs: int = 1000) -> list[dict]:
    """Time of an import, of waiting, of a run, of many runs, of planning and of looking up.

    Args:
        runs: trivial runs on two workers.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        start = [_import(), *_waiting(root), _overhead(root)]
        return [*start, *_many(root, runs), *_lookup(root, 2_000, 5.0, 2.0), *_lookup(root, 10_000, 5.0, 5.0)]


def _row(what: str, value: float, limit: float) -> dict:
    return {"what": what, "value": value, "target": f"<= {limit:g}", "met": value <= limit}


def _time(*words: object) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *map(str, words)], check=True, capture_output=True)
    return time.perf_counter() - start


def _import() -> dict:
    extra = min(_time("-c", "import lt_lib") for _ in range(5)) - min(_time("-c", "pass") for _ in range(5))
    return _row("import lt_lib, s", extra, 0.3)


def _waiting(folder: Path, seconds: float = 20.0) -> list[dict]:
    """What the driver and its two workers take from the processor while two long runs go on."""
    grid = write_grid(folder / "waiting", "axes: {x: [60, 61]}\n", "import time\ntime.sleep(x)\n")
    out = folder / "waiting" / "place"
    command = [sys.executable, "-m", "lt_lib", "batch", str(grid), "--out", str(out), "--workers", "2"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while len(list(out.glob("attempts/*/*/notebook.ipynb"))) < 2:
            time.sleep(0.2)
        watched = [psutil.Process(child.pid), *_workers(psutil.Process(child.pid))]
        begin = sum(sum(process.cpu_times()[:2]) for process in watched)
        time.sleep(seconds)
        used = sum(sum(process.cpu_times()[:2]) for process in watched) - begin
    finally:
        child.terminate()
        child.wait()
    return [_row("core that a driver and 2 workers take while runs go on, %", 100 * used / seconds, 8.0)]


def _overhead(folder: Path) -> dict:
    """Wall time of a batch of runs that do nothing, less what starting `lt-lib` costs, per run; best of three."""
    grid = write_grid(folder / "overhead", "axes: {x: [1, 2, 3, 4, 5, 6, 7, 8]}\n", CELL)
    words = ["-m", "lt_lib", "batch", grid, "--scheduler", "sequential", "--out"]
    places = [folder / "overhead" / f"place-{trial}" for trial in range(3)]
    total = min(_time(*words, place) for place in places)
    again = min(_time(*words, place) for place in places)
    return _row("a run beyond its notebook, s", (total - again) / 8, 1.5)


def _many(folder: Path, runs: int) -> list[dict]:
    """Memory and pace over many runs: the last tenth against the second."""
    grid = write_grid(folder / "many", f"seeds: {runs}\n", CELL)
    out = folder / "many" / "place"
    command = [sys.executable, "-m", "lt_lib", "batch", str(grid), "--out", str(out), "--workers", "2"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    driver = psutil.Process(child.pid)
    start = time.perf_counter()
    samples = []
    while child.poll() is None:
        done = len(os.listdir(out / "runs")) if (out / "runs").is_dir() else 0
        samples.append((done, time.perf_counter() - start, _memory(driver)))
        time.sleep(0.5)
    if child.returncode != 0:
        raise RuntimeError(f"the batch of {runs} runs ended with {child.returncode}")
    early = [memory for done, _, memory in samples if runs * 0.1 <= done <= runs * 0.2]
    late = [memory for done, _, memory in samples if runs * 0.85 <= done <= runs * 0.95]

    def moment(share: float) -> float:
        return next(seconds for done, seconds, _ in samples if done >= share * runs)

    growth = {name: max(m[name] for m in late) / max(m[name] for m in early) for name in ("driver", "workers")}
    pace = (moment(0.95) - moment(0.55)) / (moment(0.5) - moment(0.1))
    return [
        _row(f"memory of the driver, end / begin of {runs} runs", growth["driver"], 1.2),
        _row(f"memory of the workers, end / begin of {runs} runs", growth["workers"], 1.2),
        _row(f"time per run, second / first half of {runs} runs", pace, 1.2),
    ]


def _memory(driver: psutil.Process) -> dict[str, float]:
    """Resident bytes of the driver, and of the processes that Dask keeps for its workers."""
    workers = 0.0
    try:
        for child in _workers(driver):
            workers += child.memory_info().rss
        return {"driver": driver.memory_info().rss, "workers": workers}
    except psutil.Error:
        return {"driver": 0.0, "workers": workers}


def _workers(driver: psutil.Process) -> list[psutil.Process]:
    """The processes that Dask keeps for its workers."""
    found = []
    for child in driver.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += [child] if any("multiprocessing" in word for word in child.cmdline()) else []
    return found


def _lookup(folder: Path, runs: int, plan_limit: float, status_limit: float) -> list[dict]:
    """Planning, and the status of a finished place; its runs are made up."""
    home = folder / f"lookup{runs}"
    grid = write_grid(home, f"seeds: {runs}\nlimits: {{max_runs: {runs}}}\n", CELL)
    plan = make_plan(load_grid(grid))
    place = Place(home / "place")
    place.open()
    keep_plan(place, plan)
    sync, os.fsync = os.fsync, lambda descriptor: None
    try:
        for run in plan.runs:
            publish(place, plan, run, {"row": {"accuracy_last": 0.5}})
    finally:
        os.fsync = sync
    words = ["-m", "lt_lib", "batch", grid, "--out", place.folder, "--dry-run"]
    return [
        _row(f"plan of {runs} finished runs, s", _time(*words), plan_limit),
        _row(f"status of {runs} finished runs, s", _time("-m", "lt_lib", "status", place.folder), status_limit),
    ]
