"""What the driver decides about a run, the place knows; and a run that somebody works on costs nothing but looks."""

import errno
import json
import signal

import pytest
from batch.cases import fail, keep_plan, publish
from batch.test_driver import FakeEngine, drive, succeeding

from lt_lib.batch import driver
from lt_lib.batch.place import Place
from lt_lib.batch.plan import Run, plan_content
from lt_lib.batch.reports import failures_text
from lt_lib.batch.states import survey

ONE_RUN = "axes: {x: [1]}\n"
NO_CHECKPOINT = 'x: float = 1.0  # some number\nout_dir: str = ""  # where results go\n'


def lost(engine, task):
    return {"kind": "worker-lost", "message": "no module"}


def interrupted(engine, task):
    return {"kind": "interrupted", "message": "preempted"}


def preempted(place):
    def behave(engine, task):
        folder = fail(place, Run(task["run"], task["digest"], {}), "interrupted", "preempted")
        return {**interrupted(engine, task), "attempt": folder.name}

    return behave


def own_fault(place):
    def behave(engine, task):
        folder = fail(place, Run(task["run"], task["digest"], {}), "attempt-error", "TypeError: no")
        return {"kind": "attempt-error", "message": "TypeError: no", "attempt": folder.name}

    return behave


def vanishing(place):
    """The process is killed once it has begun: its folder stays without an outcome."""

    def behave(engine, task):
        folder = place.new_attempt(task["run"])
        (folder / "attempt.json").write_text(json.dumps({"session": task["session"]}))
        return {"kind": "worker-lost", "message": "signal SIGKILL"}

    return behave


@pytest.mark.parametrize(
    ("make_behaviour", "reason"),
    [
        (lambda place: lost, "the worker was lost: no module"),
        (preempted, "the worker was lost: the run was interrupted: preempted"),
        (own_fault, "what runs the notebook failed itself: TypeError: no"),
        (vanishing, "the worker was lost: signal SIGKILL"),
    ],
    ids=["lost", "interrupted", "own fault", "vanished"],
)
def test_a_run_that_was_lost_too_often_has_failed_for_everybody_until_it_is_retried(
    place, make_test_plan, make_behaviour, reason
):
    plan = make_test_plan(ONE_RUN, parameters=NO_CHECKPOINT)
    run = plan.runs[0]
    keep_plan(place, plan)
    summary, engine, said = drive(plan, place, make_behaviour(place))
    assert (summary.exit_code, len(engine.started)) == (driver.INCOMPLETE, 3)
    assert summary.failed == {run.id: reason}
    assert f"FAILED {run.id} {reason}" in said
    (state,) = survey(place, plan_content(plan))
    assert (state.state, state.reason) == ("failed", reason)
    assert reason in failures_text(place)
    assert place.claims() == []
    # One note for each attempt, and none besides; a kind that costs a run its attempts keeps its name.
    kind = "attempt-error" if make_behaviour is own_fault else "worker-lost"
    assert [past["kind"] for past in place.outcomes(run.id)] == [kind] * 3

    summary, engine, said = drive(plan, place, make_behaviour(place))
    assert (summary.exit_code, engine.started) == (driver.INCOMPLETE, [])
    assert place.forget_failures(run.id)
    assert [state.state for state in survey(place, plan_content(plan))] == ["pending"]
    assert drive(plan, place, succeeding(plan, place))[0].exit_code == driver.DONE


def test_a_verdict_waits_until_nobody_holds_the_run(place, make_test_plan, monkeypatch):
    monkeypatch.setattr(driver, "_BUSY_PAUSE", 0.01)
    plan = make_test_plan(ONE_RUN + "limits: {attempts: 1}\n")
    run = plan.runs[0].id
    claims = []

    def behave(engine, task):
        claims.append(place.claim(run, "another"))
        return lost(engine, task)

    looks = count_looks(monkeypatch, run, lambda count: count == 4 and claims[0].release())
    summary, engine, _ = drive(plan, place, behave)
    assert len(looks) >= 4
    assert engine.started == [run]
    assert summary.failed == {run: "the worker was lost: no module"}
    assert [state.state for state in survey(place, plan_content(plan))] == ["failed"]


def test_a_run_is_done_if_only_the_word_of_it_was_lost(place, make_test_plan):
    plan = make_test_plan(ONE_RUN + "limits: {attempts: 1}\n")

    def behave(engine, task):
        publish(place, plan, plan.runs[0])
        return lost(engine, task)

    summary, _, _ = drive(plan, place, behave)
    assert (summary.exit_code, summary.failed, list(summary.done)) == (driver.DONE, {}, [plan.runs[0].id])
    assert place.attempts(plan.runs[0].id) == []


def test_a_verdict_that_cannot_be_written_is_a_fault_of_the_place(place, make_test_plan, monkeypatch):
    plan = make_test_plan(ONE_RUN + "limits: {attempts: 1}\n")

    def refuse(*arguments):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Place, "note_outcome", refuse)
    summary, _, said = drive(plan, place, lost)
    assert (summary.exit_code, summary.failed, summary.left) == (driver.STORAGE, {}, [plan.runs[0].id])
    assert "Permission denied" in said
    assert place.claims() == []


def test_interruptions_do_not_cost_a_run_that_goes_on_from_its_checkpoint_the_loss_of_a_worker(place, make_test_plan):
    plan = make_test_plan(ONE_RUN)
    finish = succeeding(plan, place)
    ends = [*[interrupted] * 5, lost, lost, finish]
    summary, engine, _ = drive(plan, place, lambda engine, task: ends[len(engine.started) - 1](engine, task))
    assert (summary.exit_code, len(engine.started)) == (driver.DONE, 8)


def count_looks(monkeypatch, run, at=lambda count: None):
    """Notes each look at who holds a run, and acts before it."""
    looks, holder = [], Place.holder

    def look(place, name):
        if name == run:
            looks.append(name)
            at(len(looks))
        return holder(place, name)

    monkeypatch.setattr(Place, "holder", look)
    return looks


def test_a_run_that_is_held_starts_no_attempt_before_it_is_free(place, make_test_plan, monkeypatch):
    monkeypatch.setattr(driver, "_BUSY_PAUSE", 0.01)
    plan = make_test_plan("axes: {x: [1, 2]}\n")
    held, free = plan.runs
    claim = place.claim(held.id, "another")
    finish = succeeding(plan, place)

    def behave(engine, task):
        attempt = place.claim(task["run"], task["session"])
        if attempt is None:
            if len(engine.started) > 20:
                claim.release()
            return {"kind": "busy"}
        attempt.release()
        return finish(engine, task)

    looks = count_looks(monkeypatch, held.id, lambda count: count == 5 and claim.release())
    summary, engine, _ = drive(plan, place, behave, join=True)
    assert (summary.exit_code, len(summary.done)) == (driver.DONE, 2)
    # The other run does not wait for it.
    assert engine.started == [free.id, held.id]
    assert len(looks) == 5


def test_a_signal_waits_for_no_more_looks_at_held_runs(place, make_test_plan, monkeypatch):
    plan = make_test_plan("axes: {x: [1, 2, 3, 4, 5, 6]}\n")
    claims = [place.claim(run.id, "another") for run in plan.runs]
    ids = [run.id for run in plan.runs]
    looks, holder = [], Place.holder

    def look(place, name):
        if name in ids:
            looks.append(name)
            if len(looks) == len(ids) + 3:  # the first round is the survey's
                signal.raise_signal(signal.SIGINT)
        return holder(place, name)

    monkeypatch.setattr(Place, "holder", look)
    summary, engine, _ = drive(plan, place, succeeding(plan, place), join=True)
    assert (summary.exit_code, engine.started, len(looks)) == (130, [], len(ids) + 3)
    assert all(claim.beat() for claim in claims)


def test_between_looks_at_held_runs_the_driver_sees_to_the_others(place, make_test_plan, monkeypatch):
    monkeypatch.setattr(driver, "_LOOKS_IN_A_TURN", 2)
    plan = make_test_plan("axes: {x: [1, 2, 3, 4, 5, 6]}\n")
    ids, events = [run.id for run in plan.runs], []

    def look(place, name):
        if name not in ids:
            return None
        events.append("look")
        return {"alive": True}

    def beat(batch):
        events.append("beat")
        if events.count("beat") == 5:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Place, "holder", look)
    monkeypatch.setattr(driver._Drive, "_beat", beat)
    summary, _, _ = drive(plan, place, succeeding(plan, place), join=True)
    assert summary.exit_code == 130
    turns = " ".join(events).split("beat")[1:]
    assert [turn.split() for turn in turns[:3]] == [["look"] * 2] * 3


def test_the_pause_before_a_run_is_looked_at_again_doubles_to_a_limit(place, make_test_plan):
    plan = make_test_plan(ONE_RUN)
    drive = driver._Drive(plan, place, "s", None, lambda line: None)
    pauses = []
    for _ in range(8):
        drive._wait("r")
        pauses.append(drive.pauses["r"])
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]
    drive._settle("r", {"kind": "storage", "message": "full"})
    assert drive.pauses == {}


def test_a_place_that_does_not_say_who_holds_a_run_is_left_to_the_attempt(place, make_test_plan, monkeypatch):
    plan = make_test_plan(ONE_RUN)

    def fails(*arguments):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Place, "holder", fails)
    engine = FakeEngine(lambda engine, task: {"kind": "storage", "message": "Input/output error"})
    summary = driver.run_batch(plan, place, lambda: engine, say=lambda line: None)
    assert (summary.exit_code, len(engine.started)) == (driver.STORAGE, 1)
