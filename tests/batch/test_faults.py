"""Faults, each injected for real into a batch of real kernels: nothing is lost, published twice or left behind."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch.cases import RESULT
from batch.world import SLEEP, parent_of, start_scheduler

from lt_lib.batch.place import Place

pytestmark = [pytest.mark.faults, pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")]

ENDS = """
import os, signal, sys
if label == "once":
    first = not os.path.exists(checkpoint + ".begun")
    open(checkpoint + ".begun", "w").close()
    if first:
        os.kill(os.getpid(), signal.SIGKILL)
if label == "always":
    os.kill(os.getpid(), signal.SIGKILL)
if label == "leaves":
    sys.exit(0)
if label == "raises":
    raise KeyError("missing")
"""
ENDS_RESULT = """
import json
accuracy = {"once": 0.5, "good": 0.25, "nan": 0.5, "low": -1.0}
if label != "none":
    result = {"accuracy": accuracy[label], "loss": float("nan") if label == "nan" else 1.0}
    open(f"{out_dir}/result.json", "w").write(json.dumps(result))
"""


def test_rows_1_2_14_each_bad_run_fails_for_its_reason_and_the_others_finish(bench):
    grid = bench.grid(
        "axes: {label: [once, always, leaves, raises, none, nan, low, good]}\n"
        "done: {metrics: {accuracy: {min: 0, max: 1}, loss: {}}}\n",
        ENDS,
        ENDS_RESULT,
    )
    code, said = bench.run(grid, "--workers", 2, scheduler="local")
    assert code == 1
    done = {manifest["parameters"]["label"]: manifest for manifest in bench.manifests()}
    assert set(done) == {"once", "good"}
    assert [past["kind"] for past in done["once"]["earlier_attempts"]] == ["kernel-died"]
    for text in (
        "label=always the kernel died in cell 3: the kernel's process ended by signal SIGKILL",
        "label=leaves the notebook ended before its last cell in cell 3",
        "label=raises a cell raised an error in cell 3: KeyError: 'missing'",
        "label=none the result is missing or not valid: result.json is missing",
        "label=nan the result is missing or not valid: loss must be finite: nan",
        "label=low the result is missing or not valid: accuracy must be finite >= 0 and <= 1: -1.0",
    ):
        assert text in said
    always = next(line for line in said.splitlines() if "see" in line)
    assert Path(always.split("see ")[1]).is_dir()
    bench.assert_nothing_is_left()
    code, said = bench.finish(bench.start("lt_lib", "failures", bench.place.folder))
    assert (code, said.count("kernel-died,")) == (1, 3)


@pytest.mark.parametrize("scheduler", ["sequential", "local"])
def test_an_error_of_any_length_ends_its_run_and_is_kept_in_short(bench, scheduler):
    grid = bench.grid("axes: {x: [1]}\nlimits: {run_timeout: 60s}\n", 'raise ValueError("x" * 200_000)\n')
    code, said = bench.run(grid, scheduler=scheduler)
    assert code == 1
    assert "a cell raised an error in cell 3: ValueError: xxx" in said
    (note,) = bench.place.folder.glob("attempts/*/*/outcome.json")
    message = json.loads(note.read_text())["message"]
    assert len(message) < 2100
    assert "characters left out" in message
    bench.assert_nothing_is_left()


HANG = """
import ctypes, signal, subprocess, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.Popen(["sleep", "1000"], start_new_session=True)
ctypes.PyDLL(None).sleep(1000) if flag else time.sleep(1000)
"""


def test_row_15_a_cell_that_hangs_is_ended_with_all_its_children(bench):
    grid = bench.grid("axes: {flag: [true, false]}\nlimits: {run_timeout: 5s}\n", HANG)
    code, said = bench.run(grid, "--workers", 2, scheduler="local")
    assert code == 1
    assert said.count("the run took longer than it may") == 4
    assert "stopped after 5 s" in said
    bench.assert_nothing_is_left()


def test_row_15_one_cell_may_have_its_own_limit(bench):
    grid = bench.grid("axes: {x: [100]}\nlimits: {cell_timeout: 1s}\n", SLEEP)
    code, said = bench.run(grid)
    assert code == 1
    assert "a cell took longer than 1 s" in said
    bench.assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_row_3_a_killed_worker_loses_one_attempt_and_no_run(bench, number):
    grid = bench.grid("axes: {x: [1, 1.1, 1.2]}\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 2, scheduler="local")
    attempt = bench.wait_for(bench.attempts)[0]
    os.kill(parent_of(attempt["pid"]), number)
    code, said = bench.finish(child)
    assert code == 0, said
    assert len(bench.manifests()) == 3
    lost = [past["kind"] for manifest in bench.manifests() for past in manifest["earlier_attempts"]]
    assert set(lost) <= {"worker-lost", "interrupted"}
    bench.assert_nothing_is_left()


def test_row_4_many_killed_workers_cost_only_the_runs_they_had(bench):
    grid = bench.grid("axes: {x: [0.3, 0.31, 0.32, 0.33, 0.34, 0.35]}\nseeds: 2\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 2, scheduler="local")
    victims = []
    for _ in range(5):
        attempt = bench.wait_for(lambda: [a for a in bench.attempts() if a["pid"] not in victims])[0]
        victims.append(attempt["pid"])
        if worker := parent_of(attempt["pid"]):
            os.kill(worker, signal.SIGKILL)
    code, said = bench.finish(child)
    assert code == 0, said
    assert len(bench.manifests()) == 12
    lost = [past["kind"] for manifest in bench.manifests() for past in manifest["earlier_attempts"]]
    assert len(lost) <= 5
    bench.assert_nothing_is_left()


def test_row_5_a_killed_driver_leaves_no_orphan_and_its_finished_runs(bench):
    grid = bench.grid("axes: {x: [0.1, 1, 1.1, 1.2]}\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 2, scheduler="local")
    bench.wait_for(lambda: bench.manifests() and bench.attempts())
    child.kill()
    bench.wait_for(lambda: not bench.processes(), seconds=8)
    cached = len(bench.manifests())
    assert 1 <= cached < 4
    code, said = bench.run(grid)
    assert code == 0, said
    assert f"{4 - cached} done, {cached} were done before" in said
    ended = [past["kind"] for manifest in bench.manifests() for past in manifest["earlier_attempts"]]
    assert set(ended) <= {"interrupted"}
    bench.assert_nothing_is_left()


def test_three_separate_workers_one_killed_and_then_row_6_the_scheduler_killed(bench):
    grid = bench.grid("axes: {x: [1, 1.1, 1.2, 1.3, 1.4]}\n", SLEEP, RESULT)
    file, scheduler, workers = start_scheduler(bench)
    child = bench.batch(grid, scheduler=str(file))
    victim = bench.wait_for(lambda: [a for a in bench.attempts() if parent_of(a["pid"]) in {w.pid for w in workers}])[0]
    os.kill(parent_of(victim["pid"]), signal.SIGKILL)
    code, said = bench.finish(child)
    assert code == 0, said
    assert len(bench.manifests()) == 5

    grid = bench.grid("axes: {x: [3, 3.1]}\n", SLEEP, RESULT)
    child = bench.batch(grid, scheduler=str(file))
    bench.wait_for(bench.attempts)
    scheduler.kill()
    code, said = bench.finish(child)
    assert code == 3, said
    assert "The scheduler was lost" in said
    for worker in workers:
        worker.terminate()
    bench.wait_for(lambda: not bench.processes(), seconds=30)
    code, said = bench.run(grid)
    assert code == 0, said
    assert len(bench.manifests()) == 7
    bench.assert_nothing_is_left()


def test_row_6_workers_that_are_all_killed_with_the_last_run_end_the_batch(bench):
    grid = bench.grid("axes: {x: [60]}\n", SLEEP, RESULT)
    file, scheduler, workers = start_scheduler(bench)
    child = bench.batch(grid, "--worker-timeout", 2, scheduler=str(file))
    bench.wait_for(bench.attempts)
    for worker in workers:
        worker.kill()
    code, said = bench.finish(child, seconds=60)
    assert code == 3, said
    assert "No worker has joined the scheduler for 2 s." in said
    scheduler.terminate()
    bench.wait_for(lambda: not bench.processes(), seconds=30)
    assert list((bench.place.folder / "claims").glob("grid.*")) == []


@pytest.mark.parametrize(
    ("scheduler", "numbers", "expected"),
    [
        ("local", [signal.SIGINT], 130),
        ("sequential", [signal.SIGTERM], 143),
        ("local", [signal.SIGINT, signal.SIGINT], 130),
    ],
)
def test_row_7_an_interrupt_ends_everything_and_costs_nothing(bench, scheduler, numbers, expected):
    grid = bench.grid("axes: {x: [0.1, 60, 61]}\nlimits: {attempts: 1}\n", SLEEP, RESULT)
    child = bench.batch(grid, scheduler=scheduler)
    bench.wait_for(lambda: bench.manifests() and bench.attempts())
    for number in numbers:
        child.send_signal(number)
        time.sleep(0.3)
    code, said = bench.finish(child)
    assert code == expected, said
    assert "interrupted by" in said
    assert "Traceback" not in said
    bench.assert_nothing_is_left()
    assert len(bench.manifests()) == 1
    code, said = bench.finish(bench.start("lt_lib", "status", bench.place.folder, "--json"))
    assert json.loads(said)["grids"][0]["counts"] | {"done": 0} == {
        "done": 0, "running": 0, "failed": 0, "damaged": 0, "pending": 2,
    }  # fmt: skip


def test_row_7_ctrl_c_in_a_terminal_reaches_all_processes_and_only_the_driver_answers(bench):
    grid = bench.grid("axes: {x: [0.1, 60]}\n", SLEEP, RESULT)
    child = bench.batch(grid, scheduler="local", start_new_session=True)
    bench.wait_for(lambda: bench.manifests() and bench.attempts())
    os.killpg(child.pid, signal.SIGINT)
    code, said = bench.finish(child)
    assert code == 130, said
    assert "interrupted by SIGINT" in said
    assert "Traceback" not in said
    bench.assert_nothing_is_left()


def test_row_7_a_second_interrupt_kills_an_attempt_that_would_not_end(bench):
    stubborn = "import os, signal\nos.kill(os.getppid(), signal.SIGSTOP)\n"
    child = bench.batch(bench.grid("axes: {x: [60]}\n", stubborn, SLEEP, RESULT))
    attempt = bench.wait_for(bench.attempts)[0]
    bench.wait_for(lambda: Path(f"/proc/{attempt['pid']}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    for _ in range(2):
        child.send_signal(signal.SIGINT)
        time.sleep(0.5)
    code, said = bench.finish(child, seconds=5)
    assert code == 130, said
    assert "Traceback" not in said
    bench.wait_for(lambda: not bench.processes(), seconds=5)
    assert "1 pending" in bench.finish(bench.start("lt_lib", "status", bench.place.folder))[1]


@pytest.fixture
def small_disk(bench):
    """A place on a file system of one megabyte."""
    bench.place.folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", bench.place.folder], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("only root can mount a small file system; the test with a limit on file sizes stands in")
    yield bench.place.folder
    for child in bench.children:
        if child.poll() is None:
            child.kill()
        child.communicate()
    subprocess.run(["umount", bench.place.folder], check=True)


def test_row_8_a_full_disk_stops_the_batch_and_more_room_completes_it(bench, small_disk):
    big = 'open(f"{out_dir}/big", "wb").write(bytes(400_000))\n'
    grid = bench.grid("axes: {x: [1, 2, 3]}\n", big, RESULT)
    code, said = bench.run(grid)
    assert code == 4, said
    assert "the place cannot be written" in said
    assert len(bench.manifests()) in (1, 2)
    for manifest in bench.manifests():
        bench.place.manifest(manifest["run"], contents=True)
    bench.assert_nothing_is_left()
    # A table that does not fit is not written in part.
    (small_disk / "filler").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    code, said = bench.finish(bench.start("lt_lib", "collect", small_disk, "-o", small_disk / "t.csv"))
    assert code == 4, said
    assert not (small_disk / "t.csv").exists()
    (small_disk / "filler").unlink()
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    code, said = bench.run(grid)
    assert code == 0, said
    assert len(bench.manifests()) == 3


@pytest.mark.parametrize("where", ["out", "notebook"])
def test_row_8_a_file_that_may_not_grow_is_a_fault_of_the_place(bench, where):
    big = 'open(f"{out_dir}/big", "wb").write(bytes(400_000))' if where == "out" else 'print("x" * 400_000)'
    grid = bench.grid("axes: {x: [1]}\n", big, RESULT)
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))}
    code, said = bench.run(grid, **limit)
    assert code == 4, said
    assert bench.manifests() == []
    bench.assert_nothing_is_left()
    assert bench.run(grid)[0] == 0


def test_rows_9_10_a_bad_grid_starts_nothing(bench):
    grid = bench.grid("axes: {sed: [1], x: [-1]}\n")
    code, said = bench.run(grid)
    assert code == 2
    assert "has 2 faults" in said
    assert not bench.place.folder.exists()


def test_row_12_two_batches_on_one_grid(bench):
    grid = bench.grid("axes: {x: [1, 1.1, 1.2, 1.3]}\n", SLEEP, RESULT)
    first = bench.batch(grid)
    bench.wait_for(bench.attempts)
    code, said = bench.run(grid)
    assert code == 5
    assert "Another batch" in said
    second = bench.batch(grid, "--join")
    for child in (first, second):
        code, said = bench.finish(child)
        assert code == 0, said
    assert len(bench.manifests()) == 4
    assert all(manifest["earlier_attempts"] == [] for manifest in bench.manifests())
    bench.assert_nothing_is_left()


def test_row_12_two_grids_that_share_runs(bench):
    one = bench.grid("axes: {x: [1, 1.1, 1.2]}\n", SLEEP, RESULT)
    other = one.with_name("h.yaml")
    other.write_text(one.read_text().replace("name: g", "name: h").replace("1.2]", "1.3]"))
    for child in [bench.batch(one), bench.batch(other)]:
        code, said = bench.finish(child)
        assert code == 0, said
    assert len(bench.manifests()) == 4
    bench.assert_nothing_is_left()


def test_row_13_a_flipped_byte_is_found_and_its_run_repeated(bench):
    grid = bench.grid("axes: {x: [1]}\n")
    assert bench.run(grid)[0] == 0
    (path,) = bench.place.folder.glob("runs/*/out/result.json")
    content = path.read_bytes()
    path.write_bytes(content.replace(b"0.1", b"0.9"))
    code, said = bench.finish(bench.start("lt_lib", "verify", bench.place.folder, "--quarantine"))
    assert code == 1
    assert "out/result.json has changed since it was published" in said
    assert bench.run(grid)[0] == 0
    assert path.read_bytes() == content
    assert bench.finish(bench.start("lt_lib", "verify", bench.place.folder))[0] == 0


BROKEN_START = """
import os, sys
if "kernelapp" in " ".join(sys.orig_argv) and not os.path.exists(os.environ["LT_BENCH_FLAG"]):
    open(os.environ["LT_BENCH_FLAG"], "w").close()
    os._exit(1)
"""


def test_row_16_a_kernel_that_does_not_start_is_started_again(bench):
    (bench.folder / "site").mkdir()
    (bench.folder / "site" / "sitecustomize.py").write_text(BROKEN_START)
    bench.environment |= {"PYTHONPATH": str(bench.folder / "site"), "LT_BENCH_FLAG": str(bench.folder / "flag")}
    code, said = bench.run(bench.grid("axes: {x: [1]}\nlimits: {attempts: 1}\n"))
    assert code == 0, said
    assert [past["kind"] for past in bench.manifests()[0]["earlier_attempts"]] == ["kernel-start"]
    bench.assert_nothing_is_left()


def test_row_16_eight_kernels_at_once_do_not_meet(bench):
    grid = bench.grid("axes: {x: [1, 2, 3, 4, 5, 6, 7, 8]}\n")
    code, said = bench.run(grid, "--workers", 8, scheduler="local", cwd=bench.folder)
    assert code == 0, said
    assert len(bench.manifests()) == 8
    assert all(manifest["earlier_attempts"] == [] for manifest in bench.manifests())
    bench.assert_nothing_is_left()


EDIT = """
import json, pathlib
import helper
json.dump({"value": helper.value}, open(f"{out_dir}/result.json", "w"))
pathlib.Path(label).write_text("value = 2")
"""


def test_row_19_an_edit_during_a_batch_touches_none_of_its_runs(bench):
    helper = bench.folder / "grid" / "helper.py"
    grid = bench.grid(f"fixed: {{label: {helper}}}\naxes: {{x: [1, 2]}}\n", EDIT)
    helper.write_text("value = 1")

    def values():
        return sorted(json.loads(p.read_text())["value"] for p in bench.place.folder.glob("runs/*/out/result.json"))

    assert bench.run(grid)[0] == 0
    assert helper.read_text() == "value = 2"
    assert values() == [1, 1]
    assert bench.run(grid)[0] == 0  # the edit names other runs
    assert values() == [1, 1, 2, 2]


def test_row_20_any_path_will_do(bench):
    bench.place = Place(bench.folder / "a place {x} ü" / ("long" * 30))
    code, said = bench.run(bench.grid("axes: {x: [1]}\n"))
    assert code == 0, said
    assert len(bench.manifests()) == 1
    bench.assert_nothing_is_left()


SETTINGS = """
import json, os
names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MALLOC_TRIM_THRESHOLD_")
json.dump({name: os.environ.get(name) for name in names}, open(f"{out_dir}/result.json", "w"))
import time
time.sleep(2)
"""


def test_rows_23_24_each_worker_has_its_gpu_and_each_kernel_its_threads(bench):
    program = bench.folder / "bin" / "nvidia-smi"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nfor i in 0 1 2 3; do echo $i, GPU-$i$i$i$i; done\n")
    program.chmod(0o755)
    bench.environment |= {"PATH": f"{program.parent}:{os.environ['PATH']}", "CUDA_VISIBLE_DEVICES": "3,1"}
    grid = bench.grid("axes: {x: [1, 2]}\nresources: {gpus: 1, cpus: 3}\n", SETTINGS)
    assert bench.run(grid, scheduler="local")[0] == 0

    def settings():
        return [json.loads(path.read_text()) for path in bench.place.folder.glob("runs/*/out/result.json")]

    assert {found["CUDA_VISIBLE_DEVICES"] for found in settings()} == {"GPU-3333", "GPU-1111"}
    assert {value for found in settings() for name, value in found.items() if "THREADS" in name} == {"3"}
    # Dask's workers have 65536 here, which makes every training step ask for its memory anew.
    assert {found["MALLOC_TRIM_THRESHOLD_"] for found in settings()} == {str(2**30)}

    # A run that asks for no GPU sees none, also where there are some; and without any the CPU is used, and said so.
    shutil.rmtree(bench.place.folder / "runs")
    assert bench.run(bench.grid("axes: {x: [1]}\n", SETTINGS))[0] == 0
    bench.environment["CUDA_VISIBLE_DEVICES"] = ""
    code, said = bench.run(bench.grid("axes: {x: [2]}\nresources: {gpus: 1}\n", SETTINGS))
    assert code == 0
    assert "No GPU is visible here: the runs use the CPU." in said
    assert [found["CUDA_VISIBLE_DEVICES"] for found in settings()] == ["", ""]


def test_row_26_without_dask_runs_go_one_after_the_other(bench):
    (bench.folder / "site").mkdir()
    (bench.folder / "site" / "sitecustomize.py").write_text("import sys\nsys.modules['dask'] = None\n")
    bench.environment["PYTHONPATH"] = str(bench.folder / "site")
    grid = bench.grid("axes: {x: [1]}\n")
    code, said = bench.run(grid, scheduler="local")
    assert code == 3
    assert "The Dask engine needs the extra `batch`" in said
    assert "--scheduler sequential" in said
    assert bench.run(grid)[0] == 0


@pytest.fixture
def fake_slurm(bench):
    """Programs that stand in for Slurm's, first on the path."""
    home = bench.folder / "slurm"
    (home / "bin").mkdir(parents=True)
    for name in ("sbatch", "squeue", "scancel"):
        program = home / "bin" / name
        program.write_text(f"#!{sys.executable}\n{(Path(__file__).parent / 'fake_slurm.py').read_text()}")
        program.chmod(0o755)
    bench.environment |= {"PATH": f"{home / 'bin'}:{os.environ['PATH']}", "FAKE_SLURM": str(home)}
    return home


def test_row_22_jobs_of_a_stand_in_for_slurm_are_cancelled_and_killed(bench, fake_slurm):
    grid = bench.grid("axes: {x: [0.1, 2, 2.1]}\nresources: {gpus: 0.5, cpus: 2}\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 3, "--sbatch=--time=1:00:00", scheduler="slurm")
    running = bench.wait_for(lambda: len(found := bench.attempts()) >= 2 and found)
    subprocess.run(["kill", "-TERM", str(running[0]["pid"])], check=True)  # what scancel and the time limit do
    os.kill(running[1]["pid"], signal.SIGKILL)
    code, said = bench.finish(child)
    assert code == 0, said
    assert len(bench.manifests()) == 3
    script = next((fake_slurm / "scripts").iterdir()).read_text()
    for line in ("--cpus-per-task=2", "--gres=gpu:1", "--time=1:00:00", "--signal=B:TERM@30", "--no-requeue"):
        assert f"#SBATCH {line}\n" in script
    bench.assert_nothing_is_left()
    kept = [path for path in (bench.place.folder / "slurm").iterdir() if path.suffix != ".log"]
    assert kept == []


def test_row_22_an_interrupt_cancels_the_jobs(bench, fake_slurm):
    grid = bench.grid("axes: {x: [60]}\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 1, scheduler="slurm")
    bench.wait_for(bench.attempts)
    child.send_signal(signal.SIGINT)
    code, said = bench.finish(child)
    assert code == 130, said
    bench.assert_nothing_is_left()


@pytest.mark.parametrize(
    ("file", "message"),
    [("hold", "No job has started for 1 s; Slurm says: Resources"), ("refuse", "sbatch failed: .*Invalid account")],
)
def test_row_22_a_queue_that_never_starts_a_job_is_an_engine_without_workers(bench, fake_slurm, file, message):
    (fake_slurm / file).touch()
    grid = bench.grid("axes: {x: [1]}\n")
    code, said = bench.run(grid, "--workers", 1, "--worker-timeout", 1, scheduler="slurm")
    assert code == 3
    assert re.search(message, said)
    bench.assert_nothing_is_left()
    assert list((bench.place.folder / "slurm").iterdir()) == []


def test_row_22_jobs_of_an_emitted_script_share_a_grid_and_go_on_after_a_time_limit(bench):
    grid = bench.grid("axes: {x: [2, 2.1, 2.2]}\nlimits: {attempts: 1}\n", SLEEP, RESULT)
    code, script = bench.run(grid, "--workers", 2, "--emit", scheduler="slurm")
    assert code == 0, script
    path = bench.folder / "jobs.sh"
    path.write_text(script)

    def send() -> list[subprocess.Popen]:
        """What Slurm does with the two jobs of the array."""
        return [bench.start_program("bash", path) for _ in range(2)]

    jobs = send()
    attempt = bench.wait_for(bench.attempts)[0]
    (ended,) = [job for job in jobs if job.pid == parent_of(attempt["pid"])]
    ended.terminate()  # what the time limit does
    assert {job is ended: bench.finish(job)[0] for job in jobs} == {True: 143, False: 0}
    assert [past["kind"] for manifest in bench.manifests() for past in manifest["earlier_attempts"]] == ["interrupted"]
    assert len(bench.manifests()) == 3
    assert [bench.finish(job)[0] for job in send()] == [0, 0]
    bench.assert_nothing_is_left()


def test_an_interrupted_training_goes_on_from_its_checkpoint(bench, repository):
    import torch

    notebook = repository / "notebooks" / "900_run.ipynb"
    grid = bench.folder / "g.yaml"
    grid.write_text(f"name: g\nnotebook: {notebook}\nfixed: {{epochs: 400, n_max: 40, evaluate_every: 400}}\n")
    child = bench.batch(grid)
    path = bench.wait_for(lambda: next(bench.place.folder.glob("work/*/checkpoint"), None))
    child.send_signal(signal.SIGINT)
    assert bench.finish(child)[0] == 130
    bench.assert_nothing_is_left()
    # A number that no training would find shows whether the first epochs are taken from here.
    state = torch.load(path, weights_only=True)
    begun = len(state["history"]["train_loss"])
    assert 0 < begun < 400
    state["history"]["train_loss"][0] = 123.0
    torch.save(state, path)
    code, said = bench.run(grid)
    assert code == 0, said
    (result,) = bench.place.folder.glob("runs/*/out/result.json")
    losses = json.loads(result.read_text())["curves"]["train_loss"]
    assert (len(losses), losses[0]) == (400, 123.0)
    assert list((bench.place.folder / "work").iterdir()) == []
