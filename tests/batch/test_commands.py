"""The commands on a place with made-up runs: what they say, and their exit status."""

import json
import os
import re
import shlex
import time

import pytest
from batch.cases import fail, keep_plan, publish, write_grid

from lt_lib.batch.dask_engine import check_address
from lt_lib.cli import main


@pytest.fixture
def filled(place, make_test_plan):
    """A place with one run of each kind: done, failed, damaged, pending."""
    plan = make_test_plan("axes: {x: [1, 2, 3, 4]}\nestimate: 90s\n")
    keep_plan(place, plan)
    done, failed, damaged, _ = plan.runs
    papermill = {"cell_type": "code", "execution_count": 2, "metadata": {"papermill": {"duration": 1.5}}}
    folder = publish(place, plan, done, {"row": {"accuracy_last": 0.5}})
    content = json.dumps({"cells": [papermill]})
    (folder / "notebook.ipynb").write_text(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["notebook.ipynb"]["size"] = len(content)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    fail(place, failed, "timeout", "stopped after 5 s")
    fail(place, failed, "timeout", "stopped after 6 s")
    (publish(place, plan, damaged) / "notebook.ipynb").unlink()
    return plan


def call(capsys, *words):
    code = main([str(word) for word in words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_status_in_words_and_as_json(place, filled, capsys):
    code, said = call(capsys, "status", place.folder)
    assert code == 1
    assert "g (n.ipynb): 4 runs: 1 done, 1 failed, 1 damaged, 1 pending" in said
    assert f"slowest: {filled.runs[0].id} x=1.0: 2.0 s, of which 1.5 s in cell 2" in said
    assert "x=2.0: the run took longer than it may: stopped after 6 s" in said
    assert "x=3.0: notebook.ipynb is missing" in said
    code, said = call(capsys, "status", place.folder, "--json")
    (grid,) = json.loads(said)["grids"]
    assert (code, grid["runs"], grid["counts"]["done"], grid["peak_memory_mb"], grid["driven"]) == (
        1,
        4,
        1,
        50.0,
        False,
    )


def test_status_of_a_batch_at_work_says_how_far_it_is(place, make_test_plan, capsys):
    plan = make_test_plan("axes: {x: [1, 2, 3]}\nestimate: 10min\n")
    keep_plan(place, plan)
    run = plan.runs[0].id
    assert "no batch works on it" in call(capsys, "status", place.folder)[1]
    claims = [place.claim(name, "s") for name in ("grid.g", run)]
    assert f"running: {run} x=1.0: about to start" in call(capsys, "status", place.folder)[1]
    fail(place, plan.runs[0], "kernel-died")
    note = {"host": "here 1234", "started": time.time() - 120}
    (place.new_attempt(run) / "attempt.json").write_text(json.dumps(note))
    checkpoint = place.work_folder(run) / "checkpoint"
    checkpoint.write_text("")
    os.utime(checkpoint, (time.time() - 30, time.time() - 30))
    code, said = call(capsys, "status", place.folder)
    assert code == 1
    # Eight minutes of the run that goes on, and ten of each that waits.
    assert "a batch works on it now, about 28 min left" in said
    assert re.search(f"running: {run} x=1.0: for 2 min on here, attempt 2, checkpoint 3[0-9] s old", said)
    assert "no batch works on it" not in said
    (grid,) = json.loads(call(capsys, "status", place.folder, "--json")[1])["grids"]
    assert (grid["running"][0]["attempt"], round(grid["seconds_left"], -2)) == (2, 1700)
    for claim in claims:
        claim.release()


def test_failures_name_every_attempt(place, filled, capsys):
    code, said = call(capsys, "failures", place.folder)
    assert code == 1
    assert said.count("timeout,") == 2
    assert "damaged: notebook.ipynb is missing" in said


def test_retry_lets_failed_runs_run_again(place, filled, capsys):
    code, said = call(capsys, "retry", place.folder, "--kind", "kernel-died")
    assert (code, said.split()[0]) == (0, "0")
    code, said = call(capsys, "retry", place.folder, "--kind", "timeouts")
    assert code == 2
    assert "`--kind` must be one of 'notebook-error', 'early-exit', " in said
    assert "got 'timeouts'. Did you mean 'timeout'?" in said
    code, said = call(capsys, "retry", place.folder, "--id", "abc")
    assert code == 2
    assert "`--id` must name failed runs, got abc" in said
    code, said = call(capsys, "retry", place.folder, "--id", filled.runs[1].id)
    assert (code, said.split()[0]) == (0, "1")
    assert "2 pending" in call(capsys, "status", place.folder)[1]


def test_verify_finds_what_is_damaged(place, filled, capsys):
    code, said = call(capsys, "verify", place.folder)
    assert code == 1
    # The notebook of the first run keeps its size in the manifest, not its digest.
    assert "notebook.ipynb has changed since it was published" in said
    assert "2 published runs are there, 2 damaged were found" in said
    call(capsys, "verify", place.folder, "--quarantine")
    assert call(capsys, "verify", place.folder)[0] == 0


def test_collect_is_incomplete_unless_that_is_allowed(place, filled, capsys, tmp_path):
    code, said = call(capsys, "collect", place.folder, "-o", tmp_path / "t.csv")
    assert code == 1
    assert "1 of 4 runs" in said
    assert "the grids are not complete" in said
    assert call(capsys, "collect", place.folder, "-o", tmp_path / "t.csv", "--allow-partial")[0] == 0
    assert call(capsys, "collect", place.folder, "-o", tmp_path / "t.txt")[0] == 2


def test_a_dry_run_shows_what_would_happen_and_makes_nothing(tmp_path, place, filled, capsys):
    path = filled.grid.path
    code, said = call(capsys, "batch", path, "--out", place.folder, "--dry-run", "--workers", 2)
    assert code == 0
    assert f"done     {filled.runs[0].id} x=1.0" in said
    assert "g: 4 runs, 1 done, 3 to run" in said
    assert "expected: 2 s per run, as measured; 3 s with 2 at once" in said
    code, said = call(capsys, "batch", path, "--out", tmp_path / "new", "--dry-run", "--workers", 1)
    assert "expected: 90 s per run, as the grid says; 6 min with 1 at once" in said.replace("2 min per", "90 s per")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--workers", "0"], "`--workers` must be at least 1"),
        (["--worker-timeout", "0"], "`--worker-timeout` must be a number of seconds above 0, got 0"),
        (["--worker-timeout", "-3"], "`--worker-timeout` must be a number of seconds above 0, got -3"),
        (["--worker-timeout", "nan"], "`--worker-timeout` must be a number of seconds above 0, got nan"),
        (["--scheduler", "sequential", "--workers", "2"], "`--workers` must be 1 with --scheduler sequential"),
        (["--scheduler", "tcp://10.0.0.1:8786"], "`scheduler` must be tls://"),
        (["--scheduler", "tcp://127.0.0.1:1", "--workers", "2"], "`--workers` must not be given with the address"),
        (["--scheduler", "sequental"], "`scheduler` must be tcp://HOST:PORT"),
        (["--scheduler", "slurm"], "`--workers` must say how many jobs there may be"),
        (["--scheduler", "slurm", "--emit"], "`--workers` must say how many jobs there may be"),
        (["--emit"], "`--emit` must be given with --scheduler slurm, got 'local'"),
        (["--sbatch=--time=1"], "`--sbatch` must be given with --scheduler slurm, got 'local'"),
        (
            ["--scheduler", "sequential", "--image", "i"],
            "`--image` must be given with --scheduler k8s, got 'sequential'",
        ),
        (["--scheduler", "slurm", "--workers", "1", "--volume", "v"], "`--volume` must be given with --scheduler k8s"),
        (
            ["--worker-timeout", "3"],
            "`--worker-timeout` must be given with --scheduler slurm or an address, got 'local'",
        ),
        (["--state", "abc"], "`--state` must be that of the notebook and its sources"),
        (["--scheduler", "k8s", "--workers", "2", "--image", "i"], "`--volume` must be given with --scheduler k8s"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_a_call_that_makes_no_sense_is_refused(tmp_path, capsys, words, message, dry):
    path = write_grid(tmp_path, "axes: {x: [1]}\n")
    code, said = call(capsys, "batch", path, "--out", tmp_path / "p", *words, *dry)
    assert code == 2
    assert message in said
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://localhost:1", "127.0.0.1:8", "tls://head:8786", "tcp://[::1]:9"]
)
def test_addresses_on_this_machine_or_encrypted_are_fine(address):
    check_address(address)


def test_a_place_that_is_none_is_a_wrong_use(tmp_path, capsys):
    for command in ("status", "failures", "retry", "verify"):
        assert call(capsys, command, tmp_path)[0] == 2


def test_a_place_that_cannot_be_written_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    path = write_grid(tmp_path, "axes: {x: [1]}\n")
    code, said = call(capsys, "batch", path, "--out", tmp_path / "file" / "p", "--scheduler", "sequential")
    assert code == 4
    assert "Not a directory" in said


def test_the_script_for_slurm_asks_for_what_a_run_needs_and_names_the_state_of_the_sources(tmp_path, capsys):
    path = write_grid(tmp_path, "axes: {x: [1]}\nresources: {gpus: 0.5, cpus: 4}\n")
    words = ["batch", path, "--out", tmp_path / "a place", "--scheduler", "slurm", "--workers", 3]
    code, said = call(capsys, *words, "--emit", "--sbatch=--time=2:00:00")
    lines = said.splitlines()
    assert (code, lines[0], lines[-1].split()[0]) == (0, "#!/bin/bash", "exec")
    assert {line.removeprefix("#SBATCH ") for line in lines[1:-1]} == {
        "--job-name=lt-g", "--array=1-3", "--ntasks=1", "--cpus-per-task=4", "--gres=gpu:1", "--signal=B:TERM@30",
        "--requeue", "--open-mode=append", "--time=2:00:00",
    }  # fmt: skip
    assert not (tmp_path / "a place").exists()
    # The jobs run a command that exists, with options that it knows, and refuse another state.
    command = shlex.split(lines[-1])[4:]
    assert call(capsys, *command, "--dry-run")[0] == 0
    (tmp_path / "n.ipynb").write_text((tmp_path / "n.ipynb").read_text().replace("x / 10", "x / 11"))
    code, said = call(capsys, *command, "--dry-run")
    assert code == 2
    assert "they were edited since" in said


def test_the_manifest_for_kubernetes_makes_pods_that_share_the_work(tmp_path, capsys):
    path = write_grid(tmp_path, "axes: {x: [1]}\nresources: {gpus: 0.5, cpus: 4}\n")
    words = ["--scheduler", "k8s", "--workers", 3, "--image", "registry/lt:1", "--volume", "runs"]
    code, said = call(capsys, "batch", path, "--out", "/place", *words)
    job = json.loads(said)
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (code, job["kind"], job["metadata"]["name"]) == (0, "Job", "lt-g")
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 3, 3)
    assert container["resources"]["limits"] == {"cpu": "4", "nvidia.com/gpu": "1"}
    assert container["volumeMounts"][0]["mountPath"] == "/place"
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "runs"
    # The pods run a command that exists, with options that it knows.
    assert container["command"][:3] == ["lt-lib", "batch", str(path)]
    assert call(capsys, *container["command"][1:], "--dry-run")[0] == 0
