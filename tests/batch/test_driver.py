"""The driver's decisions, with an engine that runs nothing but what the test says."""

import os
import signal

import pytest
from batch.cases import fail, keep_plan, publish

from lt_lib.batch import driver
from lt_lib.batch.driver import PlaceBusy, run_batch
from lt_lib.batch.engines import EngineError
from lt_lib.batch.place import Claim, Place


class FakeEngine:
    """Ends each attempt at once, as `behaviour(engine, task)` says: it publishes or notes a failure itself."""

    def __init__(self, behaviour, slots=2):
        self.behaviour, self.slots = behaviour, slots
        self.waiting, self.started, self.most, self.closed = [], [], 0, 0

    def submit(self, task):
        self.started.append(task["run"])
        self.waiting.append(task)
        self.most = max(self.most, len(self.waiting))

    def collect(self, seconds):
        if not self.waiting:
            return []
        task = self.waiting.pop(0)
        return [(task["run"], self.behaviour(self, task))]

    def close(self, *, kill=False):
        self.closed += 1


def drive(plan, place, behaviour, **options):
    engine = FakeEngine(behaviour)
    lines = []
    summary = run_batch(plan, place, lambda: engine, say=lines.append, **options)
    return summary, engine, "\n".join(lines)


def succeeding(plan, place):
    def behave(engine, task):
        run = next(run for run in plan.runs if run.id == task["run"])
        publish(place, plan, run)
        return {"kind": "done", "seconds": 1.0}

    return behave


def failing(place, kind, times=10**6):
    def behave(engine, task):
        from lt_lib.batch.plan import Run

        count = engine.started.count(task["run"])
        if count > times:
            return engine.then(engine, task)
        folder = fail(place, Run(task["run"], task["digest"], {}), kind)
        return {"kind": kind, "message": "why", "attempt": folder.name}

    return behave


def test_all_runs_are_done_through_a_bounded_window_and_not_again(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2, 3, 4, 5]}\n")
    summary, engine, said = drive(plan, place, succeeding(plan, place))
    assert (summary.exit_code, len(summary.done), summary.failed, summary.left) == (0, 5, {}, [])
    assert (engine.most, engine.closed) == (2, 1)
    assert "[5/5] done" in said
    assert place.claims() == []
    again = run_batch(plan, place, lambda: pytest.fail("an engine was started for nothing"))
    assert (again.exit_code, len(again.cached), again.done) == (0, 5, {})


def test_a_batch_says_what_it_is_about_to_do_and_that_it_still_works(place, make_test_plan, monkeypatch):
    plan = make_test_plan("axes: {x: [1, 2, 3]}\nestimate: 10min\n")
    publish(place, plan, plan.runs[0])
    monkeypatch.setattr(driver, "_QUIET", -1.0)
    _, _, said = drive(plan, place, succeeding(plan, place))
    assert said.splitlines()[0] == "g: 3 runs, 1 done, 2 to run; expected 10 min per run"
    assert "[1/3] 2 in work, 0 waiting" in said
    assert "[2/3] 1 in work, 0 waiting - " in said
    monkeypatch.undo()
    (place.run_folder(plan.runs[0].id) / "manifest.json").unlink()
    assert "in work" not in drive(plan, place, succeeding(plan, place))[2]


def test_what_another_batch_finished_counts_as_done(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2]}\n")
    publish(place, plan, plan.runs[0])
    summary, engine, _ = drive(plan, place, succeeding(plan, place))
    assert engine.started == [plan.runs[1].id]
    assert summary.cached == [plan.runs[0].id]


def test_a_damaged_run_is_moved_away_and_runs_again(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    (publish(place, plan, plan.runs[0]) / "manifest.json").write_text("{")
    summary, _, said = drive(plan, place, succeeding(plan, place))
    assert summary.exit_code == 0
    assert "damaged, runs again" in said
    assert len(list((place.folder / "quarantine").iterdir())) == 1


@pytest.mark.parametrize(
    ("kind", "attempts"),
    [("notebook-error", 1), ("result-invalid", 1), ("early-exit", 1), ("timeout", 2), ("kernel-died", 3)],
)
def test_each_kind_of_end_has_its_number_of_tries(place, make_test_plan, kind, attempts):
    plan = make_test_plan("axes: {x: [1]}\n")
    summary, engine, said = drive(plan, place, failing(place, kind))
    assert summary.exit_code == driver.INCOMPLETE
    assert len(engine.started) == attempts
    assert "why" in summary.failed[plan.runs[0].id]
    assert "FAILED" in said
    # A failed run stays failed until it is told to try again.
    summary, engine, said = drive(plan, place, failing(place, kind))
    assert (engine.started, summary.exit_code) == ([], driver.INCOMPLETE)
    assert "failed before" in said
    place.forget_failures(plan.runs[0].id)
    assert drive(plan, place, succeeding(plan, place))[0].exit_code == 0


def test_a_kernel_that_starts_at_the_second_try_is_no_failure(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    behave = failing(place, "kernel-died", times=1)
    engine = FakeEngine(behave)
    engine.then = succeeding(plan, place)
    summary = run_batch(plan, place, lambda: engine, say=lambda line: None)
    assert (summary.exit_code, len(engine.started)) == (0, 2)
    assert place.attempts(plan.runs[0].id) == []


def test_a_worker_that_is_lost_before_it_writes_anything_does_not_loop_for_ever(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    summary, engine, _ = drive(plan, place, lambda engine, task: {"kind": "worker-lost", "message": "no module"})
    assert len(engine.started) == 3
    assert "the worker was lost: no module" in summary.failed[plan.runs[0].id]


def test_too_many_failures_stop_the_batch(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2, 3, 4, 5, 6]}\nlimits: {max_failures: 2}\n")
    summary, engine, said = drive(plan, place, failing(place, "notebook-error"))
    assert summary.exit_code == driver.INCOMPLETE
    assert len(summary.failed) + len(summary.left) == 6
    assert len(engine.started) < 6
    assert "the limit of this grid" in said


def test_a_full_disk_stops_the_batch_without_blaming_the_run(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2, 3, 4]}\n")
    summary, engine, said = drive(plan, place, lambda engine, task: {"kind": "storage", "message": "No space left"})
    assert summary.exit_code == driver.STORAGE
    assert len(summary.left) == 4
    assert len(engine.started) <= 2
    assert "No space left" in said
    assert drive(plan, place, succeeding(plan, place))[0].exit_code == 0


def test_a_run_that_another_process_works_on_is_waited_for(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    finish = succeeding(plan, place)

    def behave(engine, task):
        return {"kind": "busy"} if len(engine.started) < 3 else finish(engine, task)

    summary, engine, _ = drive(plan, place, behave)
    assert (summary.exit_code, len(engine.started)) == (0, 3)


def test_an_engine_that_is_lost_ends_with_its_own_status(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2]}\n")

    def behave(engine, task):
        raise EngineError("gone")

    summary, engine, _ = drive(plan, place, behave)
    assert (summary.exit_code, summary.message, len(summary.left)) == (driver.NO_ENGINE, "gone", 2)
    assert engine.closed == 1
    assert place.claims() == []


class WorkersVanish(FakeEngine):
    """Ends no attempt that runs alone: its workers are gone then, and it says so when it is asked the sixth time."""

    def __init__(self, behaviour):
        super().__init__(behaviour)
        self.asked, self.turns = 0, 0

    @property
    def slots(self):
        self.asked += len(self.waiting) == 1
        if self.asked > 5:
            raise EngineError("no worker")
        return 2

    @slots.setter
    def slots(self, value):
        pass

    def collect(self, seconds):
        self.turns += 1
        assert self.turns < 100, "the batch waits for ever"
        return super().collect(seconds) if len(self.waiting) > 1 else []


@pytest.mark.faults
@pytest.mark.parametrize("stops", [False, True], ids=["to the end", "after too many failures"])
def test_a_batch_whose_workers_vanish_with_the_last_runs_ends_and_says_so(place, make_test_plan, monkeypatch, stops):
    plan = make_test_plan("axes: {x: [1, 2, 3]}\nlimits: {max_failures: 1}\n")
    beats = []
    monkeypatch.setattr(driver, "HEARTBEAT", -1.0)
    monkeypatch.setattr(Claim, "beat", lambda claim: not beats.append(claim))
    engine = WorkersVanish(failing(place, "notebook-error") if stops else succeeding(plan, place))
    summary = run_batch(plan, place, lambda: engine, say=lambda line: None)
    why = (
        (driver.INCOMPLETE, "1 runs failed, the limit of this grid; no worker")
        if stops
        else (driver.NO_ENGINE, "no worker")
    )
    assert (summary.exit_code, summary.message, engine.closed) == (*why, 1)
    assert (len(engine.started), len(summary.left)) == ((2, 2) if stops else (3, 1))
    # Until then nobody takes the grid over.
    assert len(beats) >= engine.turns


@pytest.mark.faults
def test_a_claim_of_the_grid_that_cannot_be_renewed_ends_no_batch(place, make_test_plan, monkeypatch):
    def beat(claim):
        raise OSError("the folder does not answer")

    plan = make_test_plan("axes: {x: [1, 2]}\n")
    monkeypatch.setattr(driver, "HEARTBEAT", -1.0)
    monkeypatch.setattr(Claim, "beat", beat)
    assert drive(plan, place, succeeding(plan, place))[0].exit_code == 0


@pytest.mark.parametrize("shared", [True, False])
def test_a_run_is_interrupted_without_limit_only_where_it_goes_on_from_its_checkpoint(
    place, make_test_plan, monkeypatch, shared
):
    plan = make_test_plan("axes: {x: [1]}\n")
    finish = succeeding(plan, place)
    monkeypatch.setattr(Place, "shares_work", shared)

    def behave(engine, task):
        return finish(engine, task) if len(engine.started) > 5 else {"kind": "interrupted", "message": "preempted"}

    summary, engine, _ = drive(plan, place, behave)
    assert (summary.exit_code, len(engine.started)) == ((0, 6) if shared else (driver.INCOMPLETE, 3))
    lost = "the worker was lost: the run was interrupted: preempted"
    assert list(summary.failed.values()) == ([] if shared else [lost])


@pytest.mark.parametrize(
    ("report", "text"),
    [({"cached": True}, "by another batch"), ({"duplicate": True}, "by another batch"), ({}, "in 1.0 s")],
)
def test_who_did_a_run_is_said(place, make_test_plan, report, text):
    plan = make_test_plan("axes: {x: [1]}\n")
    finish = succeeding(plan, place)
    _, _, said = drive(plan, place, lambda engine, task: finish(engine, task) | report)
    assert f"done {plan.runs[0].id} {text}" in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_batch_in_order(place, make_test_plan, number, code):
    plan = make_test_plan("axes: {x: [1, 2, 3]}\n")
    finish = succeeding(plan, place)

    def behave(engine, task):
        os.kill(os.getpid(), number)
        return finish(engine, task)

    before = signal.getsignal(number)
    summary, _, _ = drive(plan, place, behave)
    assert summary.exit_code == code
    assert summary.left
    assert signal.getsignal(number) is before
    assert not list((place.folder / "claims").iterdir())
    assert drive(plan, place, finish)[0].exit_code == 0


def test_a_grid_is_driven_once_unless_told_to_join(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    held = place.claim("grid.g", "other")
    with pytest.raises(PlaceBusy, match="Another batch .* works on this grid in this place"):
        drive(plan, place, succeeding(plan, place))
    assert drive(plan, place, succeeding(plan, place), join=True)[0].exit_code == 0
    assert held.beat()


def test_runs_execute_the_pinned_copy(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n", "import helper\n")
    seen = []
    finish = succeeding(plan, place)

    def behave(engine, task):
        seen.append(task["pin"])
        return finish(engine, task)

    drive(plan, place, behave)
    assert seen == [plan.pin]
    assert (place.pin_folder(plan.pin) / "notebook.ipynb").read_bytes() == plan.grid.notebook.path.read_bytes()


@pytest.mark.faults
def test_two_thousand_runs_are_planned_driven_and_looked_up(place, make_test_plan, monkeypatch):
    """Row 21, with runs made up: nothing may grow worse than in proportion, nor hold what it need not."""
    import resource

    from lt_lib.batch.reports import status

    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    plan = make_test_plan("axes: {x: [1, 2]}\nseeds: 1000\n")
    keep_plan(place, plan)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    summary, engine, _ = drive(plan, place, succeeding(plan, place))
    assert len(summary.done) == 2000
    assert engine.most == 2
    content = status(place)
    assert content["grids"][0]["counts"]["done"] == 2000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60 * 1024
