"""What an attempt says when its good result cannot be published: the true reason, through the channel for answers."""

import json
import subprocess
import sys

import pytest

from lt_lib.batch.driver import make_task
from lt_lib.batch.plan import write_pin
from lt_lib.batch.states import survey

# An attempt whose notebook runs at once and well. What a test adds comes between this and the last line.
STAND_IN = """
import errno, json, os, sys, time
from pathlib import Path
import lt_lib.batch.attempt as attempt
from lt_lib.batch.place import Place

def execute(source, target, parameters, **options):
    notebook = json.loads(source.read_text())
    for cell in notebook["cells"]:
        cell["execution_count"] = 1
    target.write_text(json.dumps(notebook))
    Path(parameters["out_dir"], "result.json").write_text("{}")

attempt.execute_notebook = execute

def put(error):
    def act(*arguments, **options):
        raise error
    return act
"""


@pytest.fixture
def attempt(place, make_test_plan):
    """Makes an attempt with some lines of its own; its report, its exit status, and the run's state after it."""

    def run(lines, limits=""):
        plan = make_test_plan(f"axes: {{x: [1]}}\n{limits}")
        place.save_pin(plan.pin, lambda target: write_pin(plan, target))
        task = make_task(plan, plan.runs[0], place, "s", {})
        child = subprocess.Popen(
            [sys.executable, "-c", f"{STAND_IN}\n{lines}\nattempt.main()\n"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        # The input stays open, or the attempt would take its parent for gone.
        child.stdin.write(json.dumps(task) + "\n")
        child.stdin.flush()
        try:
            child.wait(120)
        finally:
            child.kill()
        said, _ = child.communicate()
        content = {"runs": [{"id": run.id, "parameters": {}, "digest": run.digest} for run in plan.runs], "attempts": 1}
        (state,) = survey(place, content)
        assert place.claims() == []
        (report,) = [json.loads(line) for line in said.splitlines()]
        return report, child.returncode, state

    return run


def test_an_attempt_publishes_its_result(attempt):
    report, code, state = attempt("")
    assert (report["kind"], state.state, code) == ("done", "done", 0)


@pytest.mark.parametrize(
    ("where", "number"),
    [
        ("Place.publish", "EACCES"),
        ("Place.publish", "EPERM"),
        ("Place.publish", "ESTALE"),
        ("Place.publish", "ENAMETOOLONG"),
        ("attempt.manifest_of", "EACCES"),
    ],
)
def test_a_result_that_cannot_be_published_is_a_fault_of_the_place_and_is_kept(attempt, place, where, number):
    report, _, state = attempt(f"{where} = put(OSError(errno.{number}, 'it says no'))")
    assert report["kind"] == "storage"
    assert report["message"].endswith("it says no")
    assert state.state == "pending"
    (folder,) = place.attempts(state.id)
    assert (folder / "out" / "result.json").is_file()
    assert not (folder / "manifest.json").exists()
    assert [past["kind"] for past in place.outcomes(state.id)] == ["storage"]


def test_a_file_of_its_own_that_cannot_be_read_is_no_fault_of_the_place(attempt, place):
    secret = "OSError(errno.EACCES, 'no', str(folder / 'out' / 'secret'))"
    line = f"attempt.manifest_of = lambda folder, **rest: put({secret})()"
    report, _, _ = attempt(line)
    assert report["kind"] == "attempt-error"
    assert "secret" in report["message"]


def test_any_other_error_of_publishing_is_reported_with_its_type(attempt, place):
    report, _, state = attempt("attempt._provenance = lambda task: {'threads': float('nan')}")
    assert report["kind"] == "attempt-error"
    assert report["message"].startswith("ValueError: Out of range float values are not JSON compliant")
    assert [past["kind"] for past in place.outcomes(state.id)] == ["attempt-error"]


def test_a_published_run_is_done_though_its_attempts_cannot_be_deleted(attempt):
    report, _, state = attempt("Place.drop_attempts = put(RuntimeError('no'))")
    assert (report["kind"], state.state) == ("done", "done")


@pytest.mark.parametrize(
    ("line", "kind", "message"),
    [
        ("attempt._judge = put(KeyError('left'))", "attempt-error", "KeyError: 'left'"),
        ("Place.new_attempt = put(OSError(errno.EACCES, 'no'))", "storage", "[Errno 13] no"),
        ("Place.new_attempt = put(OSError(errno.EMFILE, 'no'))", "attempt-error", "OSError: [Errno 24] no"),
    ],
)
def test_an_error_of_the_attempt_is_reported_wherever_its_standard_error_goes(attempt, line, kind, message):
    report, code, _ = attempt(line)
    assert (report["kind"], report["message"], code) == (kind, message, 0)


def test_an_end_that_cannot_be_written_down_is_a_fault_of_the_place(attempt):
    line = "attempt._judge = lambda *rest: {'kind': 'result-invalid', 'message': 'bad'}\n"
    report, _, _ = attempt(line + "Place.note_outcome = put(OSError(errno.EDQUOT, 'full'))")
    assert (report["kind"], report["message"]) == ("storage", "[Errno 122] full")


# While the run is published, the clock goes on by more than its time limit and the grace.
SLOW = """
attempt._GRACE = 0.3
publish, clock = Place.publish, time.monotonic

def slow(*arguments):
    time.monotonic = lambda: clock() + 7200
    time.sleep(1.5)
    return publish(*arguments)

Place.publish = slow
"""


@pytest.mark.faults
def test_a_time_limit_does_not_end_a_run_that_is_being_published(attempt):
    report, code, state = attempt(SLOW, "limits: {run_timeout: 3600s}\n")
    assert (report["kind"], state.state, code) == ("done", "done", 0)


@pytest.mark.faults
def test_an_attempt_that_does_not_end_in_time_says_why_before_it_is_ended(attempt):
    hangs = "attempt._GRACE = 0.3\nattempt.execute_notebook = lambda *rest, **options: time.sleep(600)"
    report, code, _ = attempt(hangs, "limits: {run_timeout: 1s}\n")
    message = "stopped after 1 s; the attempt did not end within 0.3 s of it"
    assert (report, code) == ({"kind": "timeout", "message": message}, 3)
