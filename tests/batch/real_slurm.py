"""Batches on a real Slurm of one node, started for these tests and ended with them.

It needs root and the packages of a Debian or Ubuntu, so that the test suite leaves it out; to run it:

    apt-get install --no-install-recommends slurm-wlm munge
    python -m pytest tests/batch/real_slurm.py
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from batch.cases import RESULT
from batch.world import SLEEP, Bench

CONFIGURATION = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={first}
SlurmdPort={second}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=1,sched_interval=2,requeue_delay=1
ReturnToService=2
MpiDefault=none
KillWait=5
JobRequeue=1
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
"""
# The first attempt is not done before its job's end, the next one finds what it left.
LONG = """
import os, time
if not os.path.exists(checkpoint):
    open(checkpoint, "w").close()
    time.sleep(300)
"""


def call(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, timeout=60).stdout


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture(scope="module")
def slurm():
    """A Slurm of one node with four processors, whatever the machine has."""
    programs = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel")
    missing = [name for name in programs if shutil.which(name) is None]
    assert not missing, f"these programs are missing: {', '.join(missing)}; see the head of this file"
    folder, host = Path(tempfile.mkdtemp(prefix="slurm")), socket.gethostname().split(".")[0]
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    first, second = free_ports()
    text = CONFIGURATION.format(folder=folder, host=host, first=first, second=second)
    (folder / "slurm.conf").write_text(text)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    names = {"key-file": "key", "socket": "munge.socket", "pid-file": "munged.pid", "log-file": "munged.log"}
    call(
        "munged",
        "--force",
        *(f"--{option}={folder / name}" for option, name in names.items()),
        f"--seed-file={folder}/seed",
    )
    call("slurmctld")
    call("slurmd", "-N", host)
    limit = time.monotonic() + 60
    while "idle" not in call("sinfo", "--noheader", "--format=%T"):
        assert time.monotonic() < limit, (folder / "slurmctld.log").read_text()
        time.sleep(0.2)
    yield folder
    for name in ("slurmd", "slurmctld", "munged"):
        os.kill(int((folder / f"{name}.pid").read_text()), signal.SIGTERM)
    time.sleep(2)
    del os.environ["SLURM_CONF"]
    shutil.rmtree(folder)


@pytest.fixture
def bench(slurm, tmp_path):
    bench = Bench(tmp_path)
    yield bench
    if jobs := queue():
        subprocess.run(["scancel", *jobs], check=False)
    bench.close()


def queue() -> list[str]:
    return call("squeue", "--noheader", "--format=%i").split()


def running(count: int = 1) -> list[str]:
    """Numbers of the jobs that run, if there are that many."""
    jobs = call("squeue", "--noheader", "--states=RUNNING", "--format=%A").split()
    return jobs if len(jobs) >= count else []


def assert_all_is_gone(bench: Bench) -> None:
    bench.wait_for(lambda: not queue(), seconds=30)
    bench.assert_nothing_is_left(seconds=10)
    left = bench.place.folder / "slurm"
    assert [path for path in left.glob("*") if path.suffix != ".log"] == []


def send(bench: Bench, grid: Path | None, jobs: int) -> None:
    """Give sbatch the script that is emitted for a grid, or the one of the last call."""
    path = bench.folder / "jobs.sh"
    if grid:
        code, script = bench.run(grid, "--workers", jobs, "--emit", scheduler="slurm")
        assert code == 0, script
        path.write_text(script)
    command = ["sbatch", f"--output={bench.folder / '%A_%a.out'}", path]
    subprocess.run(command, check=True, capture_output=True, env=bench.environment)


def kinds(bench: Bench) -> list[str]:
    return [past["kind"] for manifest in bench.manifests() for past in manifest["earlier_attempts"]]


def test_the_smoke_grid_is_done_by_jobs(bench, repository):
    grid = repository / "notebooks" / "grids" / "smoke.yaml"
    code, said = bench.finish(bench.batch(grid, "--workers", 2, scheduler="slurm"), seconds=600)
    assert code == 0, said
    assert len(bench.manifests()) == 4
    assert all(manifest["provenance"]["scheduler_job"] for manifest in bench.manifests())
    assert bench.finish(bench.start("lt_lib", "verify", bench.place.folder))[0] == 0
    assert_all_is_gone(bench)


def test_a_cancelled_job_is_sent_in_again_and_costs_its_run_nothing(bench):
    grid = bench.grid("axes: {x: [3, 3.1]}\nlimits: {attempts: 1}\n", LONG, RESULT)
    child = bench.batch(grid, "--workers", 2, scheduler="slurm")
    bench.wait_for(lambda: len(bench.attempts()) == 2)
    bench.wait_for(lambda: len(list(bench.place.folder.glob("work/*/checkpoint"))) == 2)
    call("scancel", *running(2))
    code, said = bench.finish(child)
    assert code == 0, said
    assert kinds(bench) == ["interrupted", "interrupted"]
    assert_all_is_gone(bench)


def test_a_job_that_is_killed_at_once_is_lost_and_repeated(bench):
    grid = bench.grid("axes: {x: [5]}\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 1, scheduler="slurm")
    os.kill(bench.wait_for(bench.attempts)[0]["pid"], signal.SIGKILL)
    code, said = bench.finish(child)
    assert code == 0, said
    assert kinds(bench) == ["worker-lost"]
    assert_all_is_gone(bench)


def test_the_time_limit_of_a_job_ends_its_run_in_order_and_the_next_job_goes_on(bench):
    grid = bench.grid("axes: {x: [1]}\nlimits: {attempts: 1}\n", LONG, RESULT)
    child = bench.batch(grid, "--workers", 1, "--sbatch=--time=1", scheduler="slurm")
    said, _ = child.communicate(timeout=240)
    assert child.returncode == 0, said
    assert kinds(bench) == ["interrupted"]
    assert_all_is_gone(bench)


def test_a_requeued_job_of_an_emitted_script_comes_back_and_goes_on(bench):
    grid = bench.grid("axes: {x: [1]}\nlimits: {attempts: 1}\n", LONG, RESULT)
    send(bench, grid, 1)
    bench.wait_for(lambda: list(bench.place.folder.glob("work/*/checkpoint")))
    call("scontrol", "requeue", *running())
    bench.wait_for(lambda: not queue(), seconds=300)
    assert len(bench.manifests()) == 1
    assert kinds(bench) == ["interrupted"]
    assert_all_is_gone(bench)


def test_an_sbatch_that_fails_ends_the_batch_with_its_words(bench):
    grid = bench.grid("axes: {x: [1]}\n")
    code, said = bench.run(grid, "--workers", 1, "--sbatch=--partition=nowhere", scheduler="slurm")
    assert code == 3
    assert "sbatch failed: " in said
    assert "invalid partition specified: nowhere" in said
    assert_all_is_gone(bench)


def test_a_queue_that_starts_no_job_is_said_with_its_reason_and_left_empty(bench):
    grid = bench.grid("axes: {x: [1]}\n")
    code, said = bench.run(grid, "--workers", 1, "--worker-timeout", 3, "--sbatch=--hold", scheduler="slurm")
    assert code == 3
    assert "No job has started for 3 s; Slurm says: JobHeldUser" in said
    assert_all_is_gone(bench)


def test_an_interrupt_cancels_the_jobs(bench):
    grid = bench.grid("axes: {x: [60, 61]}\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 2, scheduler="slurm")
    bench.wait_for(lambda: len(bench.attempts()) == 2)
    child.send_signal(signal.SIGINT)
    code, said = bench.finish(child)
    assert code == 130, said
    assert bench.manifests() == []
    assert_all_is_gone(bench)


def test_a_job_outlives_its_driver_and_its_run_counts(bench):
    grid = bench.grid("axes: {x: [4]}\n", SLEEP, RESULT)
    child = bench.batch(grid, "--workers", 1, scheduler="slurm")
    bench.wait_for(bench.attempts)
    child.kill()
    bench.wait_for(bench.manifests)
    code, said = bench.run(grid, "--workers", 1, scheduler="slurm")
    assert code == 0, said
    assert "0 done, 1 were done before" in said
    assert kinds(bench) == []


def test_an_emitted_script_needs_no_driver_and_survives_a_killed_job(bench):
    grid = bench.grid("axes: {x: [1, 1.1, 1.2, 1.3, 3]}\n", SLEEP, RESULT)
    send(bench, grid, 2)
    bench.wait_for(lambda: len(bench.attempts()) == 2)
    os.kill(bench.attempts()[0]["pid"], signal.SIGKILL)
    bench.wait_for(lambda: not queue(), seconds=120)
    assert len(bench.manifests()) == 5
    assert bench.finish(bench.start("lt_lib", "status", bench.place.folder))[0] == 0
    # Sent in again it finds nothing to do; after an edit it refuses to mix two states.
    send(bench, None, 2)
    bench.wait_for(lambda: not queue())
    grid.with_name("n.ipynb").write_text(grid.with_name("n.ipynb").read_text().replace("time.sleep", "time. sleep"))
    send(bench, None, 2)
    bench.wait_for(lambda: not queue())
    said = [path.read_text() for path in sorted(bench.folder.glob("*.out"))]
    assert sum("0 done, 5 were done before" in text for text in said) == 2
    assert sum("`--state` must be that of the notebook" in text for text in said) == 2
    assert len(bench.manifests()) == 5
    assert_all_is_gone(bench)
