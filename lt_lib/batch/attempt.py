"""One attempt at one run, as a process of its own: `python -m lt_lib.batch.attempt [TASK REPORT]`.

The first line of standard input says what to do, as JSON; the last line of standard output says how it ended. The
input stays open for as long as the attempt shall live: when it closes, whoever started the attempt is gone, and the
attempt ends its kernel and itself. With two files as arguments the task is read from the first, the report goes to the
second, and nobody needs to wait. An attempt alone publishes its run, and only after its own look at the result.
"""

import contextlib
import json
import math
import os
import platform
import re
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lt_lib._paths import write_whole
from lt_lib.batch.kernels import execute_notebook, leave_out_unneeded
from lt_lib.batch.object_place import open_place
from lt_lib.batch.outcomes import final_failure
from lt_lib.batch.place import (
    CLAIM_LASTS,
    HEARTBEAT,
    STORAGE_ERRORS,
    Claim,
    DamagedRun,
    Place,
    manifest_of,
    storage_problem,
)
from lt_lib.batch.processes import adopt_orphans, descendants, end_descendants, host_name, start_mark

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
# The C library keeps memory that a training step frees, for the next step wants the same. Dask's workers tell it to
# give memory back at once, which their kernels would inherit: the system then cleared every page anew in every step,
# and half of the processor's time went there (ResNet-8, batch 128, one thread: 0.47 s of it per step, and 0.26 s with
# these).
_MEMORY_VARIABLES = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**25)}
# Seconds between the moment a run is told to end and the moment this process ends without waiting for it any longer.
_GRACE = 20.0
_PART_SECONDS = 5.0
# How often memory is measured, and the place is asked whether the batch goes on.
_MEASURE_SECONDS = _ASK_SECONDS = 1.0
# Characters of a message that are kept of its beginning and of its end: an error may print a whole array.
_MESSAGE_BEGIN, _MESSAGE_END = 1500, 500


def main() -> None:
    """Read what to do, do it, say how it ended, and leave nothing behind."""
    files = [Path(word) for word in sys.argv[1:]]
    task = json.loads(files[0].read_bytes() if files else sys.stdin.buffer.readline())
    answers = os.dup(1)
    os.dup2(2, 1)
    adopt_orphans()
    leave_out_unneeded()

    def answer(report: Mapping[str, Any]) -> None:
        text = json.dumps(_with_short_message(report))
        if files:
            write_whole(files[1], text)
        else:
            os.write(answers, f"{text}\n".encode())

    try:
        report = _attempt(task, answer, watch_parent=not files)
    except Exception as error:
        # Nobody may read standard error, which is the attempt's log by now, or nothing; nor may it take any more.
        with contextlib.suppress(Exception):
            traceback.print_exc()
        report = _storage(error) if storage_problem(error) else _own_fault(error)
    answer(report)
    # Without waiting for threads: everything that matters is on disk.
    os._exit(0)


def _storage(error: Exception) -> dict[str, Any]:
    return {"kind": "storage", "message": str(error)}


def _own_fault(error: Exception) -> dict[str, Any]:
    """What to report of an error that neither the notebook nor the place explains."""
    return {"kind": "attempt-error", "message": f"{type(error).__name__}: {error}"}


class Guard:
    """Ends the kernel when the attempt must end, from a thread that no cell can hold up.

    Args:
        place: the place.
        claim: the claim to keep alive.
        session: the driver, which may ask for an end.
        seconds: time limit of the notebook, None for no limit.
        answer: takes the report, should the attempt have to end before it can give its own.
    """

    def __init__(
        self,
        place: Place,
        claim: Claim,
        session: str,
        seconds: float | None,
        answer: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.reason: tuple[str, str] | None = None
        self.peak_memory = 0
        self._claim, self._renewed, self._answer = claim, time.monotonic(), answer
        # Taken again by a signal's handler, which runs in the thread that may hold it.
        self._deciding = threading.RLock()
        self._stop_mark = place.stop_mark(session)
        self._seconds = seconds
        self._deadline = time.monotonic() + seconds if seconds else math.inf
        self._leaving = False
        self._finished = threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, *, watch_parent: bool) -> None:
        """Begin to watch; the end of standard input counts as the end of our parent, where there is one."""
        if watch_parent:
            threading.Thread(target=self._wait_for_parent, daemon=True).start()
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._watch, self._ask_the_place)]
        for thread in self.threads:
            thread.start()

    def trip(self, kind: str, message: str) -> None:
        """Tell the run to end. The first reason stays."""
        with self._deciding:
            if self.reason is None:
                self.reason = (kind, message)

    def disarm(self, *, succeeded: bool) -> None:
        """The notebook has ended, so its time limit holds no longer; whatever else ends an attempt still does.

        Args:
            succeeded: the result is good, and a limit that was met in the very last moment is forgotten.
        """
        with self._deciding:
            self._deadline = math.inf
            if succeeded and not self._leaving and self.reason is not None and self.reason[0] == "timeout":
                self.reason = None

    def measure(self) -> None:
        """Note how much memory everything below this process occupies now, in bytes."""
        total = 0
        # Processes come and go while they are looked up; a look that fails is no reason to fail.
        with contextlib.suppress(Exception):
            for process in descendants():
                with contextlib.suppress(Exception):
                    total += process.memory_info().rss
        self.peak_memory = max(self.peak_memory, total)

    def finish(self) -> None:
        """Stop watching: the attempt has ended."""
        self._finished.set()

    def _wait_for_parent(self) -> None:
        while os.read(0, 4096):
            pass
        self.trip("interrupted", "the process that started it is gone")

    def _watch(self) -> None:
        # Nothing may end this thread, for no time limit would hold any more. The place is asked in another one: a
        # network folder or a store may take minutes to answer, or never do.
        measured, tripped = time.monotonic(), None
        while not self._finished.wait(0.2):
            now = time.monotonic()
            with self._deciding:
                if now > self._deadline:
                    self.trip("timeout", f"stopped after {self._seconds:g} s")
                reason = self.reason
            if now - measured > _MEASURE_SECONDS:
                measured = now
                self.measure()
            if reason is None:
                tripped = None
            else:
                tripped = tripped or now
                with contextlib.suppress(Exception):
                    end_descendants()
                if now - tripped > _GRACE and self._leaves():
                    # In a thread: a place that does not answer must not hold up the end.
                    parting = threading.Thread(target=self._part, args=reason, daemon=True)
                    parting.start()
                    parting.join(_PART_SECONDS)
                    os._exit(3)

    def _leaves(self) -> bool:
        """Decide to end the process, unless its time limit was forgiven meanwhile; after this nothing forgives it."""
        with self._deciding:
            self._leaving = self.reason is not None
            return self._leaving

    def _part(self, kind: str, message: str) -> None:
        """Say why the attempt ends here and now, and give the claim back."""
        with contextlib.suppress(Exception):
            self._answer({"kind": kind, "message": f"{message}; the attempt did not end within {_GRACE:g} s of it"})
        self._claim.release()

    def _ask_the_place(self) -> None:
        beat = time.monotonic()
        while not self._finished.wait(_ASK_SECONDS):
            # What is not answered now is asked again.
            with contextlib.suppress(Exception):
                if self._stop_mark.exists():
                    self.trip("interrupted", "the batch was told to stop")
            if time.monotonic() - beat > HEARTBEAT:
                beat = time.monotonic()
                self._beat()

    def _beat(self) -> None:
        """Renew the claim; a place that fails may do so for as long as others see the claim held."""
        now = time.monotonic()
        try:
            held = self._claim.beat()
        except Exception as error:
            if time.monotonic() - self._renewed > CLAIM_LASTS:
                # Only this run: the place of the others may be in order, or be reached from another machine.
                self.trip("interrupted", f"the claim could not be renewed for {CLAIM_LASTS:g} s: {error}")
            return
        if held:
            self._renewed = now
        else:
            self.trip("interrupted", "another process took the run over")


def _attempt(
    task: Mapping[str, Any], answer: Callable[[Mapping[str, Any]], None], *, watch_parent: bool
) -> dict[str, Any]:
    place, run = open_place(task["place"]), task["run"]
    claim = place.claim(run, task["session"])
    if claim is None:
        return {"kind": "busy"}
    guard = Guard(place, claim, task["session"], task["run_timeout"], answer)
    signal.signal(signal.SIGTERM, lambda *_: guard.trip("interrupted", "the attempt was told to stop"))
    guard.start(watch_parent=watch_parent)
    try:
        try:
            if place.manifest(run, task["digest"]) is not None:
                return {"kind": "done", "cached": True}
        except DamagedRun as error:
            place.quarantine(run, str(error))
        place.close_abandoned(run, task["session"])
        failure = final_failure(place.outcomes(run), task["attempts"])
        if failure is not None:
            return {**failure, "final": True}
        return _execute(task, place, guard)
    finally:
        guard.finish()
        claim.release()


def _execute(task: Mapping[str, Any], place: Place, guard: Guard) -> dict[str, Any]:
    folder = place.new_attempt(task["run"])
    log = os.open(folder / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    started = time.time()
    note = {
        "host": host_name(),
        "pid": os.getpid(),
        "mark": start_mark(os.getpid()),
        "session": task["session"],
        "started": started,
    }
    write_whole(folder / "attempt.json", json.dumps(note))
    os.environ |= _environment(task, place)
    os.chdir(folder)
    kernel = _Kernel(folder, note)
    outcome = _run_notebook(task, place, guard, folder, kernel)
    guard.disarm(succeeded=outcome["kind"] == "done")
    seconds = time.time() - started
    left = descendants()
    end_descendants()
    outcome |= {
        "seconds": round(seconds, 3),
        "peak_memory_mb": round(guard.peak_memory / 1e6, 1),
        "ended_processes": len(left),
    }
    # Nothing may write into the folder once its files are counted.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.chdir("/")
    if outcome["kind"] == "done":
        outcome = _publish(task, place, folder, outcome, started)
    if outcome["kind"] != "done":
        outcome = _note(place, folder, outcome)
    return {**outcome, "attempt": folder.name, "folder": str(folder)}


class _Kernel:
    """Notes the kernel's process as soon as there is one, and how it ended."""

    def __init__(self, folder: Path, note: dict[str, Any]) -> None:
        self.manager: Any = None
        self._folder = folder
        self._note = note
        self._kills = _out_of_memory_kills()

    def note(self, manager: Any) -> None:
        """Keep the manager, and write down the kernel's number once it runs."""
        self.manager = manager
        original = manager._async_launch_kernel

        async def launch(command: list[str], **options: Any) -> None:
            await original(command, **options)
            pid = manager.provisioner.process.pid
            text = json.dumps(self._note | {"kernel": pid, "kernel_mark": start_mark(pid)})
            write_whole(self._folder / "attempt.json", text)

        manager._async_launch_kernel = launch

    def end(self) -> str:
        """How the kernel's process ended, in words."""
        process = getattr(getattr(self.manager, "provisioner", None), "process", None)
        code = process.poll() if process is not None else None
        if code is None:
            return "the kernel does not answer"
        words = f"by signal {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        hint = ", most likely because memory ran out" if _out_of_memory_kills() > self._kills else ""
        return f"the kernel's process ended {words}{hint}"


def _run_notebook(task: Mapping[str, Any], place: Place, guard: Guard, folder: Path, kernel: _Kernel) -> dict[str, Any]:
    """Execute the notebook in the current folder and judge the result."""
    import nbclient.exceptions
    import papermill

    parameters = dict(task["parameters"]) | {"out_dir": str(folder / "out")}
    if "checkpoint" in task["filled"]:
        parameters["checkpoint"] = str(place.work_folder(task["run"]) / "checkpoint")
    try:
        shutil.copyfile(place.pin_folder(task["pin"]) / "notebook.ipynb", "source.ipynb")
        execute_notebook(
            Path("source.ipynb"),
            Path("notebook.ipynb"),
            parameters,
            folder=folder,
            cell_timeout=task["cell_timeout"],
            on_kernel=kernel.note,
            at_end=guard.measure,
        )
        os.unlink("source.ipynb")
    except papermill.PapermillExecutionError as error:
        full = re.match(r"\[Errno (\d+)\]", str(error.evalue))
        kind = "storage" if full and int(full.group(1)) in STORAGE_ERRORS else "notebook-error"
        outcome = {"kind": kind, "message": f"{error.ename}: {error.evalue}", "cell": error.exec_count}
    except nbclient.exceptions.DeadKernelError:
        outcome = {"kind": "kernel-died", "message": kernel.end()}
    except nbclient.exceptions.CellTimeoutError:
        outcome = {"kind": "timeout", "message": f"a cell took longer than {task['cell_timeout']:g} s"}
    except OSError as error:
        # A refusal is of one machine's own folders, such as Jupyter's; others may start a kernel.
        kind = "storage" if error.errno in STORAGE_ERRORS else "kernel-start"
        outcome = {"kind": kind, "message": str(error)}
    except Exception as error:  # a kernel fails to start in many ways; after its first cell it is one that died
        started = any(_counts("notebook.ipynb"))
        outcome = {"kind": "kernel-died" if started else "kernel-start", "message": f"{type(error).__name__}: {error}"}
    else:
        outcome = _judge(task, folder)
    if guard.reason is not None and outcome["kind"] != "done":
        outcome = {"kind": guard.reason[0], "message": guard.reason[1]}
    if outcome["kind"] in ("timeout", "kernel-died", "early-exit"):
        outcome.setdefault("cell", _reached("notebook.ipynb") or None)
    return _with_short_message(outcome)


def _with_short_message(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """The outcome with the middle of a long message left out, and that said."""
    message = str(outcome.get("message", ""))
    left_out = len(message) - _MESSAGE_BEGIN - _MESSAGE_END
    if left_out <= 0:
        return dict(outcome)
    short = f"{message[:_MESSAGE_BEGIN]} [… {left_out} characters left out …] {message[-_MESSAGE_END:]}"
    return {**outcome, "message": short}


def _judge(task: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Our own look at a finished notebook, since papermill also calls notebooks complete that are not."""
    counts = _counts("notebook.ipynb")
    if None in counts:
        return {"kind": "early-exit", "message": f"{counts.count(None)} of {len(counts)} code cells did not run"}
    for name in task["done_files"]:
        if not (folder / "out" / name).is_file():
            return {"kind": "result-invalid", "message": f"{name} is missing"}
    if task["done_metrics"] or "result.json" in task["done_files"]:
        try:
            result = json.loads((folder / "out" / "result.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return {"kind": "result-invalid", "message": f"result.json cannot be read: {error}"}
        for name, (low, high) in task["done_metrics"].items():
            value = result
            for part in name.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            good = isinstance(value, int | float) and math.isfinite(value)
            if not good or not (low is None or value >= low) or not (high is None or value <= high):
                bounds = ((">=", low), ("<=", high))
                allowed = " and ".join(f"{sign} {bound:g}" for sign, bound in bounds if bound is not None)
                return {
                    "kind": "result-invalid",
                    "message": f"{name} must be finite {allowed}".rstrip() + f": {value!r}",
                }
    return {"kind": "done"}


def _code_cells(path: str) -> list[dict[str, Any]]:
    """Code cells that hold something; none if the notebook cannot be read."""
    try:
        cells = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return []
    return [cell for cell in cells if cell["cell_type"] == "code" and "".join(cell["source"]).strip()]


def _counts(path: str) -> list[int | None]:
    """Execution counts; None for a cell that did not run."""
    return [cell["execution_count"] for cell in _code_cells(path)]


def _reached(path: str) -> int:
    """How many cells were begun. The count of a cell that kills its kernel may be lost, its beginning is not."""
    begun = [cell["metadata"].get("papermill", {}).get("start_time") for cell in _code_cells(path)]
    return sum(moment is not None for moment in begun)


def _publish(
    task: Mapping[str, Any], place: Place, folder: Path, outcome: dict[str, Any], started: float
) -> dict[str, Any]:
    """Make the attempt's folder the published run; what keeps it from that is the outcome, and the folder stays."""
    try:
        (folder / "attempt.json").unlink()
        manifest = _manifest(task, place, folder, outcome, started)
        write_whole(folder / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False) + "\n")
        first = place.publish(task["run"], folder)
    except Exception as error:
        with contextlib.suppress(OSError):
            (folder / "manifest.json").unlink(missing_ok=True)
        # The result is there and was found good: to train again would meet the same error of the place. A file that the
        # notebook itself made unreadable, say, is another matter, and must not stop the other runs.
        own = isinstance(error, OSError) and error.errno not in STORAGE_ERRORS and _is_inside(error.filename, folder)
        place_fails = (isinstance(error, OSError) or storage_problem(error)) and not own
        return {**outcome, **(_storage(error) if place_fails else _own_fault(error))}
    # The run is published, whatever is left lying about.
    with contextlib.suppress(Exception):
        place.drop_attempts(task["run"])
    return outcome if first else {**outcome, "duplicate": True}


def _is_inside(filename: object, folder: Path) -> bool:
    return isinstance(filename, str) and folder in Path(filename).parents


def _note(place: Place, folder: Path, outcome: dict[str, Any]) -> dict[str, Any]:
    """Write down how the attempt ended. Where that cannot be done, the place is at fault, whatever the end was."""
    try:
        place.note_outcome(folder, outcome)
    except OSError as error:
        return outcome if outcome["kind"] == "storage" else {**outcome, **_storage(error)}
    return outcome


def _manifest(
    task: Mapping[str, Any], place: Place, folder: Path, outcome: Mapping[str, Any], started: float
) -> dict[str, Any]:
    earlier = [
        {key: value for key, value in past.items() if key in ("kind", "message", "seconds")}
        for past in place.outcomes(task["run"])
    ]
    return manifest_of(
        folder,
        run=task["run"],
        digest=task["digest"],
        notebook=task["notebook"],
        notebook_digest=task["notebook_digest"],
        sources_digest=task["sources_digest"],
        parameters=task["parameters"],
        started=round(started, 3),
        seconds=outcome["seconds"],
        peak_memory_mb=outcome["peak_memory_mb"],
        earlier_attempts=earlier,
        provenance=_provenance(task),
    )


def _environment(task: Mapping[str, Any], place: Place) -> dict[str, str]:
    """What the kernel sees besides what this process saw."""
    modules = [str(place.pin_folder(task["pin"]) / "modules"), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = dict.fromkeys(_THREAD_VARIABLES, str(task["cpus"]))
    variables |= {"PYTHONPATH": os.pathsep.join(modules), "TQDM_DISABLE": "1", **_MEMORY_VARIABLES}
    if "LT_DATA" not in os.environ and task["data_root"]:
        variables["LT_DATA"] = task["data_root"]
    if task["devices"] is not None:
        variables["CUDA_VISIBLE_DEVICES"] = task["devices"]
    return variables


def _provenance(task: Mapping[str, Any]) -> dict[str, Any]:
    import hashlib
    from importlib.metadata import PackageNotFoundError, version

    kept = {}
    for name in ("lt-lib", "torch", "numpy", "papermill", "ipykernel"):
        with contextlib.suppress(PackageNotFoundError):
            kept[name] = version(name)
    return {
        **task["provenance"],
        "host": platform.node(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": kept,
        "environment_digest": hashlib.sha256("\n".join(_installed()).encode()).hexdigest(),
        "threads": task["cpus"],
        "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        "scheduler_job": os.environ.get("SLURM_JOB_ID"),
    }


def _installed() -> list[str]:
    """Names and versions of the installed packages, as their folders say: to read 200 files of metadata takes 0.3 s."""
    names = set()
    for folder in sys.path:
        with contextlib.suppress(OSError):
            names |= {name.lower() for name in os.listdir(folder) if name.endswith((".dist-info", ".egg-info"))}
    return sorted(names)


def _out_of_memory_kills() -> int:
    """How many processes of our control group the system has killed for lack of memory."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        group = Path("/proc/self/cgroup").read_text().strip().splitlines()[-1].partition("::")[2]
        events = Path(f"/sys/fs/cgroup{group}/memory.events").read_text()
        return int(re.findall(r"^oom_kill (\d+)$", events, flags=re.MULTILINE)[0])
    return 0


if __name__ == "__main__":
    main()
