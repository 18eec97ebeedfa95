"""The thread that watches over an attempt: nothing ends it, and it ends the attempt for the true reason."""

import errno
import threading
import time

import pytest

from lt_lib.batch import attempt
from lt_lib.batch.attempt import Guard
from lt_lib.batch.place import Place


def broken(*arguments):
    raise OSError(errno.ESTALE, "Stale file handle")


class FakeClaim:
    """A claim whose beats do what the test says."""

    def __init__(self, *beats):
        self.beats, self.count = list(beats), 0

    def beat(self):
        self.count += 1
        beat = self.beats.pop(0) if len(self.beats) > 1 else self.beats[0]
        return beat() if callable(beat) else beat


@pytest.fixture
def watch(place, monkeypatch):
    """Lets a guard watch until it has a reason, or for some seconds."""
    monkeypatch.setattr(attempt, "_MEASURE_SECONDS", 0.0)
    monkeypatch.setattr(attempt, "_ASK_SECONDS", 0.05)
    monkeypatch.setattr(attempt, "HEARTBEAT", 0.0)
    # The real one would end everything that this test run has started.
    monkeypatch.setattr(attempt, "end_descendants", broken)

    def run(claim, limit=None, seconds=20.0, after=lambda: None):
        guard = Guard(place, claim, "s", limit, lambda report: None)
        guard.start(watch_parent=False)
        end = time.monotonic() + seconds
        while guard.reason is None and time.monotonic() < end:
            time.sleep(0.05)
        guard.finish()
        after()
        for thread in guard.threads:
            thread.join(10)
            assert not thread.is_alive()
        return guard.reason

    return run


@pytest.mark.faults
def test_a_time_limit_holds_though_nothing_can_be_looked_up(watch, monkeypatch):
    class BrokenMark:
        exists = broken

    monkeypatch.setattr(attempt, "descendants", broken)
    monkeypatch.setattr(Place, "stop_mark", lambda place, session: BrokenMark())
    claim = FakeClaim(True)
    assert watch(claim, limit=1.0) == ("timeout", "stopped after 1 s")
    assert claim.count > 1


@pytest.mark.faults
def test_a_time_limit_holds_though_the_place_does_not_answer(watch):
    answered = threading.Event()
    claim = FakeClaim(lambda: answered.wait(30) and False)
    assert watch(claim, limit=1.0, after=answered.set) == ("timeout", "stopped after 1 s")
    assert claim.count == 1


def test_the_mark_of_the_batch_ends_an_attempt(watch, place):
    place.stop_mark("s").touch()
    assert watch(FakeClaim(True)) == ("interrupted", "the batch was told to stop")


def test_a_claim_that_is_lost_ends_an_attempt(watch):
    assert watch(FakeClaim(broken, False)) == ("interrupted", "another process took the run over")


@pytest.mark.faults
def test_a_claim_may_fail_to_be_renewed_for_as_long_as_others_respect_it(watch, monkeypatch):
    claim = FakeClaim(True, broken, broken, True)
    assert watch(claim, seconds=2.0) is None
    assert claim.count > 4
    monkeypatch.setattr(attempt, "CLAIM_LASTS", 1.0)
    start = time.monotonic()
    kind, message = watch(FakeClaim(broken))
    assert time.monotonic() - start > 1.0
    assert (kind, message) == (
        "interrupted",
        f"the claim could not be renewed for 1 s: [Errno {errno.ESTALE}] Stale file handle",
    )
