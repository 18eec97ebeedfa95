"""The grid for a first look, from a clean clone, on workers of their own; the same by plain papermill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from batch.world import parent_of, start_scheduler

from lt_lib.batch.grid import load_grid
from lt_lib.batch.place import Place
from lt_lib.batch.tables import collect

SETTINGS = ("loss", "weighting", "normalization", "defer_until", "seed", "imbalance_ratio", "epochs", "evaluate_every")


def clean_clone(repository: Path, target: Path) -> str:
    """What the repository holds, without what lies about in its folder; its commit, empty outside of git."""
    if not (repository / ".git").exists():
        for name in ("lt_lib", "notebooks"):
            shutil.copytree(repository / name, target / name)
        return ""
    subprocess.run(["git", "clone", "--quiet", repository, target], check=True)
    done = subprocess.run(["git", "-C", target, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def plain_run(notebook: Path, point: dict, out: Path) -> dict:
    """The result of a notebook that papermill alone has run."""
    values = {name: point[name] for name in SETTINGS} | {"out_dir": str(out)}
    words = [word for name, value in values.items() for word in ("-p", name, str(value))]
    out.mkdir()
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(notebook),
        str(out / "notebook.ipynb"),
        *words,
        "--no-progress-bar",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, env=environment, cwd=notebook.parent, check=True, capture_output=True, timeout=600)
    return json.loads((out / "result.json").read_text())["row"]


@pytest.mark.timeout(1200)  # eight trainings, which a busy machine makes long
def test_the_smoke_grid_of_a_clone_on_three_workers_of_which_one_is_killed(bench, repository):
    clone = bench.folder / "clone"
    commit = clean_clone(repository, clone)
    bench.place = Place(clone / "runs" / "smoke")
    file, _, workers = start_scheduler(bench, folder=clone)
    path = clone / "notebooks" / "grids" / "smoke.yaml"
    child = bench.batch(path, scheduler=str(file), cwd=clone)
    victim = bench.wait_for(bench.attempts)[0]
    assert parent_of(victim["pid"]) in {worker.pid for worker in workers}
    os.kill(parent_of(victim["pid"]), signal.SIGKILL)
    code, said = bench.finish(child, seconds=600)
    assert code == 0, said

    manifests = bench.manifests()
    ended = [past["kind"] for manifest in manifests for past in manifest["earlier_attempts"]]
    assert len(ended) == 1
    assert set(ended) <= {"worker-lost", "interrupted"}
    assert {manifest["provenance"]["commit"] or "" for manifest in manifests} == {commit}
    assert not any(manifest["provenance"]["modified"] for manifest in manifests)
    table = collect(bench.place)
    assert (table.complete, table.got) == (True, 4)

    grid = load_grid(path)
    assert {name for name in grid.varied if name not in SETTINGS} == set()
    with ThreadPoolExecutor(max_workers=2) as pool:
        tasks = [
            pool.submit(plain_run, grid.notebook.path, point, bench.folder / f"plain{number}")
            for number, point in enumerate(grid.points)
        ]
        expected = [task.result() for task in tasks]
    # A row of the table has what a plain run has, number by number, in grid order.
    for row, plain in zip(table.rows, expected, strict=True):
        assert {name: row[name] for name in plain if name != "seconds"} == {
            name: value for name, value in plain.items() if name != "seconds"
        }
    for manifest in manifests:
        bench.place.manifest(manifest["run"], contents=True)
        assert {"out/result.json", "out/curves.csv", "notebook.ipynb", "log.txt"} <= set(manifest["files"])
