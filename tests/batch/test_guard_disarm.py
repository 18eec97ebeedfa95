"""Once the notebook has ended, its time limit ends nothing; everything else that ends an attempt still does."""

import threading
import time

import pytest

from lt_lib.batch import attempt
from lt_lib.batch.attempt import Guard


class Claim:
    """A claim that notes when it is given back."""

    def __init__(self, log):
        self.log = log

    def beat(self):
        return True

    def release(self):
        self.log.append("released")


@pytest.fixture
def make_guard(place, monkeypatch):
    """Starts guards that note what they do in `log` instead of ending this process."""
    log, guards = [], []
    monkeypatch.setattr(attempt, "_ASK_SECONDS", 0.05)
    monkeypatch.setattr(attempt, "_GRACE", 0.0)
    monkeypatch.setattr(attempt, "_PART_SECONDS", 0.5)
    monkeypatch.setattr(attempt, "end_descendants", lambda: log.append("children ended"))

    def start(limit, answer=lambda report: log.append(report)):
        guard = Guard(place, Claim(log), "s", limit, answer)
        monkeypatch.setattr(attempt.os, "_exit", lambda code: (log.append(code), guard.finish()))
        guards.append(guard)
        guard.start(watch_parent=False)
        return guard

    start.log = log
    yield start
    for guard in guards:
        guard.finish()
        for thread in guard.threads:
            thread.join(10)


def wait_until(condition):
    limit = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < limit, "it did not come"
        time.sleep(0.02)


def test_a_time_limit_that_passes_after_the_notebook_ended_ends_nothing(make_guard, monkeypatch):
    clock, turns = time.monotonic, []
    monkeypatch.setattr(attempt, "_MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(Guard, "measure", lambda guard: turns.append(guard.reason))
    guard = make_guard(3600.0)
    guard.disarm(succeeded=True)
    monkeypatch.setattr(attempt.time, "monotonic", lambda: clock() + 7200)
    seen = len(turns)
    wait_until(lambda: len(turns) > seen + 2)
    assert (guard.reason, make_guard.log) == (None, [])


def test_a_time_limit_that_was_met_as_a_good_notebook_ended_is_forgotten(make_guard, monkeypatch):
    monkeypatch.setattr(attempt, "_GRACE", 60.0)
    guard = make_guard(0.01)
    wait_until(lambda: make_guard.log)
    guard.disarm(succeeded=True)
    monkeypatch.setattr(attempt, "_GRACE", 0.0)
    time.sleep(0.5)
    assert guard.reason is None
    assert set(make_guard.log) == {"children ended"}


def test_a_time_limit_that_ended_the_notebook_still_ends_an_attempt_that_hangs_after_it(make_guard):
    guard = make_guard(0.01)
    guard.disarm(succeeded=False)
    guard.trip("timeout", "stopped after 0.01 s")
    guard.disarm(succeeded=False)
    wait_until(lambda: 3 in make_guard.log)
    assert guard.reason == ("timeout", "stopped after 0.01 s")


def test_a_limit_on_which_the_process_is_leaving_is_forgotten_no_more(make_guard):
    asked, may_go = threading.Event(), threading.Event()
    guard = make_guard(0.01, answer=lambda report: (make_guard.log.append(report), asked.set(), may_go.wait(10)))
    assert asked.wait(20)
    guard.disarm(succeeded=True)
    may_go.set()
    wait_until(lambda: 3 in make_guard.log)
    assert guard.reason == ("timeout", "stopped after 0.01 s")
    assert next(entry for entry in make_guard.log if isinstance(entry, dict))["kind"] == "timeout"


def test_a_signal_ends_an_attempt_after_its_notebook_too_and_the_reason_is_said_first(make_guard):
    guard = make_guard(None)
    guard.disarm(succeeded=True)
    guard.trip("interrupted", "the attempt was told to stop")
    guard.disarm(succeeded=True)
    wait_until(lambda: 3 in make_guard.log)
    said = {"kind": "interrupted", "message": "the attempt was told to stop; the attempt did not end within 0 s of it"}
    assert [entry for entry in make_guard.log if entry != "children ended"] == [said, "released", 3]


def test_the_mark_of_the_batch_is_seen_after_the_notebook_too(make_guard, place):
    guard = make_guard(60.0)
    guard.disarm(succeeded=True)
    place.stop_mark("s").touch()
    wait_until(lambda: 3 in make_guard.log)
    assert guard.reason == ("interrupted", "the batch was told to stop")


@pytest.mark.faults
def test_answers_that_nobody_takes_hold_up_no_end(make_guard):
    taken = threading.Event()
    make_guard(0.01, answer=lambda report: taken.wait(30))
    wait_until(lambda: 3 in make_guard.log)
    assert "released" not in make_guard.log
    taken.set()


@pytest.mark.faults
def test_an_answer_that_fails_keeps_no_claim(make_guard):
    def fail(report):
        raise BrokenPipeError

    make_guard(0.01, answer=fail)
    wait_until(lambda: 3 in make_guard.log)
    assert "released" in make_guard.log
