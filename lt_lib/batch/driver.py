"""Drives one grid to its end: submits what is not done, as much as there are workers, and learns from the place."""

import secrets
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from lt_lib._paths import source_tree
from lt_lib.batch.engines import Engine, EngineError
from lt_lib.batch.grid import FILLED
from lt_lib.batch.outcomes import FAILURES, describe, final_failure, in_words
from lt_lib.batch.place import HEARTBEAT, Claim, DamagedRun, Place, storage_problem
from lt_lib.batch.plan import PACKAGE, Plan, Run, plan_content, plan_text, write_pin
from lt_lib.batch.states import run_name, survey

DONE, INCOMPLETE, USAGE, NO_ENGINE, STORAGE, BUSY = 0, 1, 2, 3, 4, 5
_STOPPING = (signal.SIGINT, signal.SIGTERM)
# Seconds before the next look at a run that somebody else works on, and the most that they become by doubling.
_BUSY_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LOOKS_IN_A_TURN = 20
# Seconds before the next try after a kernel that did not start, and for one turn of the driver.
_START_PAUSE, _TURN = 1.0, 0.2
# Seconds without a line after which the driver says that it still works.
_QUIET = 300.0


@dataclass
class Summary:
    """What a batch did.

    Attributes:
        exit_code: see the constants of this module; 128 plus the signal's number after an interrupt.
        cached: runs that were done before.
        done: runs done by this call, with seconds.
        failed: runs that failed, with the reason in words.
        left: runs that are neither.
        message: why the batch ended early, empty otherwise.
        seconds: wall time.
    """

    exit_code: int = DONE
    cached: list[str] = field(default_factory=list)
    done: dict[str, float] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[str] = field(default_factory=list)
    message: str = ""
    seconds: float = 0.0


class PlaceBusy(RuntimeError):
    """Another driver works on the same grid in the same place."""


def run_batch(
    plan: Plan,
    place: Place,
    make_engine: Callable[[], Engine],
    *,
    join: bool = False,
    say: Callable[[str], None] = print,
) -> Summary:
    """Bring every run of a plan to its end.

    Args:
        plan: what to run.
        place: where results go.
        make_engine: starts the engine; called only if there is something to run.
        join: work beside another driver of the same grid instead of refusing.
        say: receives lines of progress.

    Returns:
        What happened.

    Raises:
        PlaceBusy: another driver holds the grid and `join` is False.
        EngineError: the engine did not start.
        OSError: the place cannot be written.
    """
    place.open()
    session = secrets.token_hex(6)
    with _held(place, f"grid.{plan.grid.name}", session, join) as claim:
        place.save_plan(plan.grid.name, plan.grid.text, plan_text(plan))
        place.save_pin(plan.pin, lambda target: write_pin(plan, target))
        drive = _Drive(plan, place, session, claim, say)
        try:
            return drive.run(make_engine)
        finally:
            place.stop_mark(session).unlink(missing_ok=True)


def make_task(plan: Plan, run: Run, place: Place, session: str, provenance: Mapping[str, Any]) -> dict:
    """What an attempt needs to know, as JSON."""
    grid = plan.grid
    bounds = {name: [_finite(metric.minimum), _finite(metric.maximum)] for name, metric in grid.done.metrics.items()}
    tree = source_tree()
    return {
        "place": place.location,
        "session": session,
        "run": run.id,
        "digest": run.digest,
        "parameters": dict(run.parameters),
        "filled": [parameter.name for parameter in grid.notebook.parameters if parameter.name in FILLED],
        "notebook": grid.notebook.path.name,
        "notebook_digest": plan.notebook_digest,
        "sources_digest": plan.sources_digest,
        "pin": plan.pin,
        "done_files": list(grid.done.files),
        "done_metrics": bounds,
        "run_timeout": grid.limits.run_timeout,
        "cell_timeout": grid.limits.cell_timeout,
        "attempts": grid.limits.attempts,
        "cpus": grid.resources.cpus,
        "devices": None if grid.resources.gpus else "",
        "data_root": str(tree / "data") if tree else "",
        "provenance": dict(provenance),
    }


class _Drive:
    """The state of one call of `run_batch`; everything that matters is on disk as well."""

    def __init__(self, plan: Plan, place: Place, session: str, claim: Claim | None, say: Callable[[str], None]) -> None:
        self.plan, self.place, self.session, self.claim, self._say = plan, place, session, claim, say
        # When a line was last said, the claim last renewed, and the engine started, from which the pace counts.
        self._said = self._beaten = self._begin = time.monotonic()
        self.runs = {run.id: run for run in plan.runs}
        self.summary = Summary()
        self.pending: deque[str] = deque()
        self.waiting: list[tuple[float, str]] = []
        self.in_flight: set[str] = set()
        # How often a run was lost in ways that its outcomes in the place do not count.
        self.losses: dict[str, int] = {}
        # Last reports of runs that were lost too often, while the place cannot be told since somebody holds the run.
        self.condemned: dict[str, Mapping[str, Any]] = {}
        self.pauses: dict[str, float] = {}
        self.signals: list[int] = []
        self.stopping = False

    def run(self, make_engine: Callable[[], Engine]) -> Summary:
        start = time.monotonic()
        self._look()
        if self.pending:
            rest = f"{len(self.runs)} runs, {len(self.summary.cached)} done, {len(self.pending)} to run"
            each = self.plan.grid.estimate
            self.say(f"{self.plan.grid.name}: {rest}" + (f"; expected {in_words(each)} per run" if each else ""))
            with _catching(self.signals):
                self._work(make_engine)
        unsettled = {*self.pending, *self.in_flight, *(run for _, run in self.waiting)}
        # An attempt that was told to stop may have been about to publish.
        self.summary.left += [run for run in self.runs if run in unsettled and not self.place.run_folder(run).exists()]
        if self.summary.exit_code == DONE and (self.summary.failed or self.summary.left):
            self.summary.exit_code = INCOMPLETE
        self.summary.seconds = time.monotonic() - start
        return self.summary

    def _look(self) -> None:
        for state in survey(self.place, plan_content(self.plan)):
            if state.state == "done":
                self.summary.cached.append(state.id)
            elif state.state == "failed":
                self.summary.failed[state.id] = state.reason
            else:
                if state.state == "damaged":
                    self.place.quarantine(state.id, state.reason)
                    self.say(f"damaged, runs again: {self._name(state.id)}: {state.reason}")
                self.pending.append(state.id)
        if self.summary.failed:
            self.say(f"{len(self.summary.failed)} runs failed before; `lt-lib retry` lets them run again")

    def _work(self, make_engine: Callable[[], Engine]) -> None:
        engine = make_engine()
        provenance = _provenance()
        self._begin = time.monotonic()
        try:
            # Runs that have begun may finish, unless a signal says otherwise.
            while self.in_flight or ((self.pending or self.waiting) and not self.stopping):
                self._beat()
                if self.signals:
                    if not self.stopping:
                        self._stop(f"interrupted by {signal.Signals(self.signals[0]).name}", 128 + self.signals[0])
                    break
                self._submit(engine, provenance)
                if time.monotonic() - self._said > _QUIET:
                    waiting = len(self.pending) + len(self.waiting)
                    self.say(f"{self._settled()} {len(self.in_flight)} in work, {waiting} waiting{self._left()}")
                if not self.in_flight:
                    time.sleep(_TURN)  # all that is left waits, and an engine without attempts may answer at once
                    continue
                for run, report in engine.collect(_TURN):
                    self.in_flight.discard(run)
                    self._settle(run, report)
        except EngineError as error:
            if self.stopping:  # what stopped the batch stays the reason
                self.summary.message += f"; {error}"
            else:
                self.summary.exit_code, self.summary.message = NO_ENGINE, str(error)
        finally:
            self._end(engine)

    def _beat(self) -> None:
        """Renew the claim of the grid now and then."""
        now = time.monotonic()
        if self.claim is not None and now - self._beaten > HEARTBEAT:
            self._beaten = now
            # Every run has its own claim. Without this one a second batch may start beside us, which costs nothing.
            with suppress(Exception):
                self.claim.beat()

    def _submit(self, engine: Engine, provenance: Mapping[str, Any]) -> None:
        now = time.monotonic()
        ready = [run for moment, run in self.waiting if moment <= now]
        self.waiting = [(moment, run) for moment, run in self.waiting if moment > now]
        self.pending.extend(ready)
        # The slots are asked for in every turn, also where nothing waits or may start: only so the engine sees that all
        # workers are gone.
        looks = 0
        while len(self.in_flight) < engine.slots and self.pending and not self.stopping and not self.signals:
            run = self.pending.popleft()
            if self._is_held(run):
                self._wait(run)
                looks += 1
                # A place far away takes its time for each, and the runs in flight and the claim want to be seen to.
                if looks == _LOOKS_IN_A_TURN:
                    break
            elif run in self.condemned:
                self._condemn(run, self.condemned.pop(run))
            else:
                self.in_flight.add(run)
                engine.submit(make_task(self.plan, self.runs[run], self.place, self.session, provenance))

    def _is_held(self, run: str) -> bool:
        """Whether somebody works on a run, so that an attempt, a job of Slurm perhaps, would only find that out."""
        holder = None
        # Where the place does not answer, the attempt says so.
        with suppress(Exception):
            holder = self.place.holder(run)
        return bool(holder and holder["alive"])

    def _wait(self, run: str) -> None:
        """Look at a run again later, and each time after twice as long, since a training may take days."""
        pause = self.pauses.get(run, _BUSY_PAUSE)
        self.pauses[run] = min(2 * pause, _LONGEST_PAUSE)
        self.waiting.append((time.monotonic() + pause, run))

    def _settle(self, run: str, report: Mapping[str, Any]) -> None:
        kind = report["kind"]
        if kind == "busy":
            if report.get("message"):
                self.say(f"later: {self._name(run)}: {report['message']}")
            self._wait(run)
            return
        self.pauses.pop(run, None)
        if kind == "done":
            self.summary.done[run] = report.get("seconds", 0.0)
            elsewhere = report.get("cached") or report.get("duplicate")
            self._progress("done", run, "by another batch" if elsewhere else f"in {report.get('seconds', 0.0):.1f} s")
        elif kind == "storage":
            self.pending.append(run)
            if not self.stopping:
                self._stop(describe(report), STORAGE)
        elif kind == "interrupted" and (self._goes_on() or self.signals):
            self.pending.append(run)
        else:
            self._settle_failure(run, report)

    def _goes_on(self) -> bool:
        """Whether the next attempt, wherever it runs, goes on where an interrupted one was.

        Otherwise Slurm's time limit, or a preemption, costs a try: the run would meet it again and again.
        """
        has_checkpoint = any(parameter.name == "checkpoint" for parameter in self.plan.grid.notebook.parameters)
        return has_checkpoint and self.place.shares_work

    def _settle_failure(self, run: str, report: Mapping[str, Any]) -> None:
        attempts = self.plan.grid.limits.attempts
        failure: Mapping[str, Any] | None = report if report.get("final") else None
        if failure is None:
            noted = report.get("attempt") and report["kind"] in FAILURES
            self.losses[run] = self.losses.get(run, 0) + (not noted)
            failure = final_failure(self.place.outcomes(run), attempts)
        if failure is not None:
            self._fail(run, failure)
        elif self.losses[run] >= attempts:
            self._condemn(run, report)
        else:
            self.say(f"again: {self._name(run)}: {describe(report)}")
            pause = _START_PAUSE if report["kind"] == "kernel-start" else 0.0
            self.waiting.append((time.monotonic() + pause, run))

    def _condemn(self, run: str, report: Mapping[str, Any]) -> None:
        """End a run that was lost too often: the place is told first, for only what it knows is true later."""
        try:
            verdict = self._write_losses(run, report)
        except Exception as error:
            if not isinstance(error, OSError) and not storage_problem(error):
                raise
            verdict = {"kind": "storage", "message": str(error)}
        if verdict is None:
            self.condemned[run] = report
            self._wait(run)
        elif verdict["kind"] in FAILURES:
            self._fail(run, verdict)
        else:
            self._settle(run, verdict)

    def _write_losses(self, run: str, report: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Note the attempts that could not do so themselves, so that the place counts as many as we do.

        Returns:
            How the run ends by the word of the place; None if somebody seems to hold it.
        """
        claim = self.place.claim(run, self.session)
        if claim is None:
            return None
        try:
            with suppress(DamagedRun):
                if self.place.manifest(run, self.runs[run].digest) is not None:
                    return {"kind": "done", "cached": True}  # only the word of it was lost
            message = report.get("message", "") if report["kind"] == "worker-lost" else describe(report)
            loss = {"kind": "worker-lost", "message": message}
            unsettled = [path for path in self.place.attempts(run) if not (path / "outcome.json").exists()]
            self.place.close_abandoned(run, self.session)
            for path in unsettled[-1:]:
                self.place.note_outcome(path, loss)  # the report knows more than that the process vanished
            attempts = self.plan.grid.limits.attempts
            uncounted = self._uncounted(run)
            for _ in range(attempts):
                if final_failure(self.place.outcomes(run), attempts) is None:
                    self.place.note_outcome(uncounted.pop() if uncounted else self.place.new_attempt(run), loss)
            return final_failure(self.place.outcomes(run), attempts)
        finally:
            claim.release()

    def _uncounted(self, run: str) -> list[Path]:
        """Attempts that left a note of their end, but one that costs a run nothing; the newest last."""
        past = [past for past in self.place.outcomes(run) if past["kind"] not in FAILURES and not past.get("forgotten")]
        return [self.place.folder / "attempts" / run / outcome["attempt"] for outcome in past]

    def _fail(self, run: str, failure: Mapping[str, Any]) -> None:
        limit = self.plan.grid.limits.max_failures
        self.summary.failed[run] = describe(failure)
        self._progress("FAILED", run, describe(failure))
        if failure.get("attempt"):
            self.say(f"  see {self.place.folder / 'attempts' / run / failure['attempt']}")
        if len(self.summary.failed) >= limit and not self.stopping:
            self._stop(f"{len(self.summary.failed)} runs failed, the limit of this grid", INCOMPLETE)

    def _stop(self, message: str, code: int) -> None:
        self.stopping = True
        self.summary.message, self.summary.exit_code = message, code
        self.say(f"{message}; no further run is started")

    def _end(self, engine: Engine) -> None:
        """Close the engine; attempts that still run are told to end, and killed on a second signal."""
        if self.in_flight:
            with suppress(OSError):
                self.place.stop_mark(self.session).touch()
        closing = threading.Thread(target=engine.close)
        closing.start()
        while closing.is_alive():
            closing.join(0.1)
            if len(self.signals) > 1:
                engine.close(kill=True)
                break
        closing.join()

    def _progress(self, word: str, run: str, text: str) -> None:
        self.say(f"{self._settled()} {word} {self._name(run)} {text}{self._left()}")

    def say(self, line: str) -> None:
        self._said = time.monotonic()
        self._say(line)

    def _settled(self) -> str:
        summary = self.summary
        return f"[{len(summary.cached) + len(summary.done) + len(summary.failed)}/{len(self.runs)}]"

    def _left(self) -> str:
        """The time that is left, at the pace of the runs that this call has done."""
        summary, elapsed = self.summary, time.monotonic() - self._begin
        left = len(self.pending) + len(self.waiting) + len(self.in_flight)
        return f" - {in_words(left * elapsed / len(summary.done))} left" if summary.done and left else ""

    def _name(self, run: str) -> str:
        return run_name(self.runs[run], self.plan.grid.varied)


@contextmanager
def _held(place: Place, name: str, session: str, join: bool) -> Iterator[Claim | None]:
    claim = place.claim(name, session)
    if claim is None and not join:
        holder = place.holder(name) or {}
        raise PlaceBusy(
            f"Another batch (process {holder.get('pid')} on {str(holder.get('host', '')).split(' ')[0]}) works on this "
            "grid in this place. Wait for it, or work beside it with --join."
        )
    try:
        yield claim
    finally:
        if claim is not None:
            claim.release()


@contextmanager
def _catching(signals: list[int]) -> Iterator[None]:
    """Collect interrupts in a list while the block runs; only the main thread can."""

    def note(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, note) for number in _STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _provenance() -> dict[str, Any]:
    """What the driver knows about the code that is run."""
    found: dict[str, Any] = {"commit": None, "modified": None}
    tree = PACKAGE.parent
    with suppress(OSError, subprocess.SubprocessError):
        git = ["git", "-C", str(tree)]
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=20, check=True)
        state = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, timeout=20, check=True)
        found = {"commit": done.stdout.strip(), "modified": bool(state.stdout)}
    return found


def _finite(value: float) -> float | None:
    return value if abs(value) != float("inf") else None
