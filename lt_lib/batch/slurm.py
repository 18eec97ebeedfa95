"""Attempts as jobs of Slurm, and a script for `sbatch` whose jobs share a grid. No port is opened by either.

Slurm is used as it is, without Dask and dask-jobqueue between. There, the workers are jobs that connect to a scheduler
in the driver: on a Slurm of one node it listened on every interface, unencrypted (dask-jobqueue 0.9.0, of August 2024,
with distributed 2026.8), so that certificates would have to reach every node; and the jobs end with the driver. Here a
job needs the folder that all nodes see and nothing else. It publishes its run itself, whether or
not the driver still lives; Slurm's time limit and `scancel` reach the attempt, which ends in order and costs the run
nothing; and each run asks for its own processors, GPUs and time.

A job for each run waits in the queue each time. Where runs are short beside that, the script of `array_script` is the
better way: few jobs, each doing one run after the other.
"""

import contextlib
import json
import math
import re
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lt_lib._paths import write_whole
from lt_lib.batch.engines import EngineError
from lt_lib.batch.place import tail

_POLL_SECONDS = 5.0
# Seconds without one answer about the queue, or without one job taken, after which Slurm counts as lost.
_PATIENCE = 600.0
# Seconds in which no job is sent after one was refused: a busy controller gets no calmer by being asked.
_REFUSED_PAUSE = 30.0
_PENDING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD", "SPECIAL_EXIT"}


class _Unanswered(EngineError):
    """A program of Slurm failed or gave no answer. That says nothing about the jobs, and may pass in a moment."""


class SlurmEngine:
    """One job per attempt, at most `slots` at once. Needs only the programs `sbatch`, `squeue` and `scancel`.

    The job's script, its task and its log lie in `slurm/` of the place, which all nodes must see under one path. A job
    that reaches its time limit is ended by Slurm and sent in again; a training goes on from its checkpoint.

    A controller that is busy, or restarts, ends nothing: the queue is looked up again, and a job that was refused goes
    back to the driver. Only the first job of all must be taken, for a wrong option is refused for ever.

    Args:
        folder: the place.
        slots: jobs at once.
        gpus: GPUs of one job; Slurm says which.
        options: further options for `sbatch`, such as `--partition=gpu` or `--time=4:00:00`.
        start_timeout: seconds that no job may have started in; None to wait as long as the queue takes.
        poll: seconds between two looks at the queue.
    """

    def __init__(
        self,
        folder: Path,
        slots: int,
        *,
        gpus: float = 0.0,
        options: Sequence[str] = (),
        start_timeout: float | None = None,
        poll: float = _POLL_SECONDS,
    ) -> None:
        self._folder, self._options, self._gpus = folder / "slurm", tuple(options), gpus
        self._slots, self._start_timeout, self._poll = slots, start_timeout, poll
        self._jobs: dict[str, tuple[str, Path]] = {}
        self._refused: list[tuple[str, dict[str, Any]]] = []
        self._accepted, self._resume = False, 0.0
        # When the looks at the queue began to fail, and the jobs that are sent while none of ours is there.
        self._unseen_since = self._refused_since = math.inf
        self._asked = 0.0
        self._started = time.monotonic()
        self._folder.mkdir(parents=True, exist_ok=True)

    @property
    def slots(self) -> int:
        """See `Engine`. None is free for a while after a job was refused."""
        return self._slots if time.monotonic() >= self._resume else len(self._jobs)

    def submit(self, task: Mapping[str, Any]) -> None:
        """See `Engine`. A run whose job was refused comes back from `collect`, if a job was ever taken.

        Raises:
            EngineError: no job can be sent, or none has been taken for too long.
        """
        base = self._folder / f"{task['run']}-{secrets.token_hex(4)}"
        write_whole(base.with_suffix(".task.json"), json.dumps(task))
        script = base.with_suffix(".sh")
        write_whole(script, job_script(base, str(task["run"]), int(task["cpus"]), self._gpus, self._options))
        try:
            job = _send(script)
        except EngineError as error:
            # Where Slurm took the job but its answer was lost, the job finds no task and ends.
            for ending in (".task.json", ".sh"):
                base.with_suffix(ending).unlink()
            if not self._accepted or not isinstance(error, _Unanswered):
                raise
            self._put_back(str(task["run"]), error)
            return
        self._jobs[job] = (str(task["run"]), base)
        self._accepted, self._unseen_since, self._refused_since = True, math.inf, math.inf

    def collect(self, seconds: float) -> list[tuple[str, dict[str, Any]]]:
        """See `Engine`."""
        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        limit = time.monotonic() + seconds
        while True:
            ended = [job for job, (_, base) in self._jobs.items() if base.with_suffix(".report.json").exists()]
            if ended or time.monotonic() >= limit:
                break
            time.sleep(0.1)
        if not ended and self._jobs and time.monotonic() - self._asked > self._poll:
            self._asked = time.monotonic()
            ended = self._vanished()
        return [self._take(job) for job in ended]

    def close(self, *, kill: bool = False) -> None:
        """See `Engine`."""
        if self._jobs:
            with contextlib.suppress(EngineError):
                _call("scancel", *(["--signal=KILL"] if kill else []), *self._jobs)
            if kill:
                return
            limit = time.monotonic() + 20.0
            while time.monotonic() < limit and not all(
                base.with_suffix(".report.json").exists() for _, base in self._jobs.values()
            ):
                with contextlib.suppress(EngineError):
                    if not set(_queue(self._jobs)) & set(self._jobs):
                        break
                time.sleep(0.2)
        for job in list(self._jobs):
            self._take(job)

    def _put_back(self, run: str, error: EngineError) -> None:
        """Hand a run back whose job was refused, and send none for a while; complains if none is taken for long."""
        now = time.monotonic()
        # While jobs of ours are there, the limit that they fill may be what refuses more of them.
        self._refused_since = math.inf if self._jobs else min(self._refused_since, now)
        if now - self._refused_since > _PATIENCE:
            raise EngineError(f"Slurm has taken no job for {_PATIENCE:g} s: {error}") from error
        self._resume = now + _REFUSED_PAUSE
        self._refused.append((run, {"kind": "busy", "message": str(error)}))

    def _look(self) -> dict[str, tuple[str, str]] | None:
        """The jobs that Slurm still knows; None where the look failed, and a complaint if all do for long."""
        try:
            states = _queue(self._jobs)
        except _Unanswered as error:
            now = time.monotonic()
            self._unseen_since = min(self._unseen_since, now)
            if now - self._unseen_since > _PATIENCE:
                raise EngineError(f"Slurm has said nothing about its queue for {_PATIENCE:g} s: {error}") from error
            return None
        self._unseen_since = math.inf
        return states

    def _vanished(self) -> list[str]:
        """Jobs that left the queue without a word; complains if none of them starts."""
        states = self._look()
        if states is None:
            return []
        waiting = [job for job, (state, _) in states.items() if state in _PENDING]
        if len(waiting) < len(self._jobs):
            self._started = time.monotonic()
        elif self._start_timeout is not None and time.monotonic() - self._started > self._start_timeout:
            reason = states[waiting[0]][1]
            raise EngineError(f"No job has started for {self._start_timeout:g} s; Slurm says: {reason}.")
        gone = [job for job in self._jobs if job not in states]
        # A shared folder may show the last words of a job a little late.
        if gone:
            time.sleep(min(1.0, self._poll))
        return gone

    def _take(self, job: str) -> tuple[str, dict[str, Any]]:
        run, base = self._jobs.pop(job)
        report: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            report = json.loads(base.with_suffix(".report.json").read_bytes())
        if not report:
            said = tail(base.with_suffix(".log"), 1)
            report = {
                "kind": "worker-lost",
                "message": f"job {job} ended without a word" + (f": {said}" if said else ""),
            }
        for ending in (".task.json", ".report.json", ".sh") + (() if report["kind"] == "worker-lost" else (".log",)):
            base.with_suffix(ending).unlink(missing_ok=True)
        return run, report


def job_script(base: Path, run: str, cpus: int, gpus: float, options: Sequence[str]) -> str:
    """The script of one job.

    Args:
        base: its files are this path with the endings `.task.json`, `.report.json` and `.log`.
        run: id of the run, for the job's name.
        cpus: processors of the job.
        gpus: GPUs of the job, rounded up to whole ones.
        options: lines for `#SBATCH`, after ours, so that they win.

    Returns:
        Text for `sbatch`.
    """
    lines = [
        f"--job-name=lt-{run}",
        "--ntasks=1",
        f"--cpus-per-task={cpus}",
        f"--output={str(base).replace('%', '%%')}.log",
        *([f"--gres=gpu:{math.ceil(gpus)}"] if gpus else []),
        # The signal goes to the attempt itself, which then has time to end in order.
        "--signal=B:TERM@30",
        # What a node loses is sent in again by the driver; Slurm would do so a second time.
        "--no-requeue",
        *options,
    ]
    words = [sys.executable, "-m", "lt_lib.batch.attempt", f"{base}.task.json", f"{base}.report.json"]
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), f"exec {shlex.join(words)} 2>&1", ""])


def array_script(
    name: str, grid: Path, place: Path, state: str, *, jobs: int, cpus: int, gpus: float, options: Sequence[str]
) -> str:
    """A script for `sbatch`: an array of jobs that share a grid, each doing one run after the other, without a driver.

    What the jobs agree on is in the place: a run is claimed by one of them, and taken over if its job is killed. A job
    that was preempted, or whose node failed, comes back by itself; one that meets its time limit ends in order, and the
    script, sent in again, goes on with what is not done.

    Args:
        name: of the grid.
        grid: path of the grid file, as all nodes see it.
        place: the place, as all nodes see it.
        state: of the notebook and its sources; the jobs refuse any other, so that an edit meanwhile does no harm.
        jobs: how many there are.
        cpus: processors of one job.
        gpus: GPUs of one job, rounded up to whole ones.
        options: lines for `#SBATCH`, after ours, so that they win.

    Returns:
        The text.
    """
    lines = [
        f"--job-name=lt-{name}",
        f"--array=1-{jobs}",
        "--ntasks=1",
        f"--cpus-per-task={cpus}",
        *([f"--gres=gpu:{math.ceil(gpus)}"] if gpus else []),
        "--signal=B:TERM@30",
        "--requeue",
        "--open-mode=append",
        *options,
    ]
    words = [sys.executable, "-m", "lt_lib", "batch", str(grid), "--out", str(place)]
    command = shlex.join([*words, "--scheduler", "sequential", "--join", "--state", state])
    return "\n".join(["#!/bin/bash", *(f"#SBATCH {line}" for line in lines), f"exec {command}", ""])


def _send(script: Path) -> str:
    """Give Slurm a script; the number of its job."""
    said = _call("sbatch", "--parsable", str(script)).strip()
    job = re.match(r"\d+", said)
    if job is None:
        raise EngineError(f"sbatch must print the number of a job, got {said!r}.")
    return job.group()


def _queue(jobs: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """State and reason of the jobs that Slurm still knows."""
    said = _call("squeue", "--noheader", "--format=%i|%T|%r", f"--jobs={','.join(jobs)}", missing="Invalid job id")
    rows = [line.strip().split("|") for line in said.splitlines() if line.count("|") == 2]
    ended = {"COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "BOOT_FAIL"}
    return {job: (state, reason) for job, state, reason in rows if state not in ended}


def _call(*words: str, missing: str = "") -> str:
    """Output of a program of Slurm; empty where its complaint is the expected one.

    Raises:
        _Unanswered: it failed, or gave no answer.
        EngineError: it is not there.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    except FileNotFoundError as error:
        raise EngineError(f"Slurm's program {words[0]} is not on this machine.") from error
    except subprocess.TimeoutExpired as error:
        raise _Unanswered(f"Slurm's program {words[0]} did not answer for 120 s.") from error
    if done.returncode == 0:
        return done.stdout
    if missing and missing in done.stderr:
        return ""
    raise _Unanswered(f"{words[0]} failed: {' '.join(done.stderr.split()) or f'exit code {done.returncode}'}")
