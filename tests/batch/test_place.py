"""Places: claims with one winner, runs published once and whole, and what damage looks like."""

import errno
import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from batch.cases import fail, publish

from lt_lib.batch.outcomes import describe, final_failure
from lt_lib.batch.place import Claim, DamagedRun, Place, manifest_of
from lt_lib.batch.processes import host_name, start_mark


def set_holder(place, name, **changes):
    path = place.folder / "claims" / f"{name}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return path


def test_a_claim_is_held_once_and_given_back(place):
    claim = place.claim("a", "s")
    assert claim is not None
    assert place.claim("a", "s") is None
    assert place.holder("a")["alive"]
    assert claim.beat()
    claim.release()
    assert place.claims() == []
    assert place.claim("a", "s") is not None


@pytest.mark.faults
def test_the_claim_of_a_process_that_is_gone_is_taken_over(place):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    first = place.claim("a", "s")
    set_holder(place, "a", pid=gone.pid, token="old")
    assert not place.holder("a")["alive"]
    assert place.claim("a", "s") is not None
    assert not first.beat()
    first.release()  # no longer ours to give back
    assert place.claims() == ["a"]


@pytest.mark.faults
@pytest.mark.parametrize("call", ["read_text", "utime"])
def test_a_folder_that_does_not_answer_takes_no_claim_away(place, monkeypatch, call):
    def fail(*arguments):
        raise OSError(errno.EIO, "does not answer")

    claim = place.claim("a", "s")
    with monkeypatch.context() as broken:
        broken.setattr(*((Path, call) if call == "read_text" else (os, call)), fail)
        with pytest.raises(OSError, match="does not answer"):
            claim.beat()
        claim.release()  # nor is that a fault of the run
    assert claim.beat()
    (place.folder / "claims" / "a.json").unlink()
    assert not claim.beat()


def no_link(source, target):
    raise OSError("this file system has no hard links")


@pytest.mark.faults
@pytest.mark.parametrize("links", [True, False])
def test_a_claim_that_is_taken_over_while_it_is_given_back_stays_with_its_new_holder(place, monkeypatch, links):
    claim, beat = place.claim("a", "s"), Claim.beat

    def lose_after_beat(self):
        held = beat(self)
        set_holder(place, "a", token="new")
        return held

    monkeypatch.setattr(Claim, "beat", lose_after_beat)
    if not links:
        monkeypatch.setattr(os, "link", no_link)
    claim.release()
    assert place.holder("a")["token"] == "new"
    assert os.listdir(place.folder / "claims") == ["a.json"]


@pytest.mark.faults
def test_what_is_put_back_replaces_no_claim(place, monkeypatch):
    claim, rename = place.claim("a", "s"), os.rename

    def lose_and_rename(source, target):
        set_holder(place, "a", token="second")
        rename(source, target)
        assert place.claim("a", "third") is not None

    monkeypatch.setattr(os, "rename", lose_and_rename)
    claim.release()
    assert place.holder("a")["session"] == "third"
    assert os.listdir(place.folder / "claims") == ["a.json"]


@pytest.mark.faults
def test_a_process_of_the_same_number_but_another_start_is_another_process(place):
    place.claim("a", "s")
    set_holder(place, "a", mark="1")
    assert not place.holder("a")["alive"]
    assert place.claim("a", "s") is not None


@pytest.mark.faults
def test_on_another_machine_only_the_heartbeat_counts_by_the_clock_of_the_folder(place, monkeypatch):
    place.claim("a", "s")
    path = set_holder(place, "a", host="elsewhere", pid=1, mark="1")
    # The clock of this machine may be an hour off; the file system stamps both files.
    monkeypatch.setattr(time, "time", lambda: time.monotonic() + 3600)
    assert place.holder("a")["alive"]
    assert place.claim("a", "s") is None
    old = path.stat().st_mtime - 1000
    os.utime(path, (old, old))
    assert not place.holder("a")["alive"]
    assert place.claim("a", "s") is not None


def test_a_claim_cut_off_by_a_full_disk_is_waited_for_and_then_dropped(place):
    path = place.folder / "claims" / "a.json"
    path.write_text("")
    assert place.claim("a", "s") is None
    os.utime(path, (1, 1))
    assert place.claim("a", "s") is not None


def _try_to_claim(folder, barrier, winners):
    place = Place(folder)
    barrier.wait()
    claim = place.claim("a", "s")
    winners.put((os.getpid(), claim is not None))
    barrier.wait()


@pytest.mark.faults
def test_of_many_processes_exactly_one_takes_a_stale_claim(place):
    context = multiprocessing.get_context("spawn")
    for _ in range(2):
        place.claim("a", "s")
        set_holder(place, "a", mark="1", token="stale")
        barrier, winners = context.Barrier(4), context.Queue()
        workers = [context.Process(target=_try_to_claim, args=(place.folder, barrier, winners)) for _ in range(4)]
        for worker in workers:
            worker.start()
        results = [winners.get(timeout=60) for _ in workers]
        for worker in workers:
            worker.join(60)
        assert sum(won for _, won in results) == 1
        assert [path.name for path in (place.folder / "claims").iterdir()] == ["a.json"]
        (place.folder / "claims" / "a.json").unlink()


def test_start_marks_tell_processes_apart():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mark = start_mark(child.pid)
    assert mark
    assert mark != start_mark(os.getpid())
    child.kill()
    time.sleep(0.05)
    assert start_mark(child.pid) == ""  # dead, though not yet waited for
    child.wait()
    child.stdin.close()
    assert start_mark(child.pid) == ""
    assert host_name() == host_name()


def test_a_run_is_published_once(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    run = plan.runs[0]
    publish(place, plan, run, {"a": 1})
    second = place.new_attempt(run.id)
    (second / "manifest.json").write_text("{}")
    assert not place.publish(run.id, second)
    assert second.is_dir()
    assert json.loads((place.run_folder(run.id) / "out" / "result.json").read_text()) == {"a": 1}
    assert place.manifest(run.id, run.digest, contents=True)["seconds"] == 2.0
    assert place.published() == [run.id]


def _try_to_publish(folder, run, digest, plan_fields, barrier, winners):
    place = Place(folder)
    attempt = place.new_attempt(run)
    (attempt / "out" / "result.json").write_text("{}")
    content = manifest_of(attempt, run=run, digest=digest, **plan_fields)
    (attempt / "manifest.json").write_text(json.dumps(content))
    barrier.wait()
    winners.put(place.publish(run, attempt))


@pytest.mark.faults
def test_row_18_of_two_that_publish_at_once_one_wins(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2]}\n")
    context = multiprocessing.get_context("spawn")
    for run in plan.runs:
        fields = {
            "parameters": dict(run.parameters),
            "notebook_digest": plan.notebook_digest,
            "sources_digest": plan.sources_digest,
        }
        barrier, winners = context.Barrier(3), context.Queue()
        arguments = (place.folder, run.id, run.digest, fields, barrier, winners)
        workers = [context.Process(target=_try_to_publish, args=arguments) for _ in range(3)]
        for worker in workers:
            worker.start()
        assert sorted(winners.get(timeout=60) for _ in workers) == [False, False, True]
        for worker in workers:
            worker.join(60)
        assert place.manifest(run.id, run.digest, contents=True) is not None
        assert len(place.attempts(run.id)) == 2


DAMAGE = {
    "manifest gone": (lambda f: (f / "manifest.json").unlink(), "manifest.json is missing"),
    "manifest cut": (lambda f: (f / "manifest.json").write_text("{"), "manifest.json cannot be read"),
    "manifest empty": (lambda f: (f / "manifest.json").write_text("{}"), "manifest.json is not complete"),
    "manifest edited": (
        lambda f: (f / "manifest.json").write_text((f / "manifest.json").read_text().replace('"x": 1.0', '"x": 2.0')),
        "manifest.json was edited",
    ),
    "file gone": (lambda f: (f / "out" / "result.json").unlink(), "out/result.json is missing"),
    "notebook cut": (lambda f: (f / "notebook.ipynb").write_text("{"), "notebook.ipynb has 1 bytes instead of 13"),
}


@pytest.mark.faults
@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_seen_and_moved_away(place, make_test_plan, kind):
    plan = make_test_plan("axes: {x: [1]}\n")
    run = plan.runs[0]
    damage, message = DAMAGE[kind]
    damage(publish(place, plan, run))
    with pytest.raises(DamagedRun, match=message):
        place.manifest(run.id, run.digest)
    moved = place.quarantine(run.id, "because")
    assert (moved / "reason.txt").read_text() == "because\n"
    assert place.quarantine(run.id, "again") is None
    assert place.manifest(run.id) is None


@pytest.mark.faults
def test_a_flipped_byte_is_seen_by_a_look_at_the_contents_only(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n")
    folder = publish(place, plan, plan.runs[0], {"a": 1})
    (folder / "out" / "result.json").write_text('{"a": 2}')
    assert place.manifest(plan.runs[0].id) is not None
    with pytest.raises(DamagedRun, match="out/result.json has changed since it was published"):
        place.manifest(plan.runs[0].id, contents=True)


def test_a_manifest_of_another_run_is_no_manifest(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1, 2]}\n")
    one, other = plan.runs
    os.rename(publish(place, plan, one), place.run_folder(other.id))
    with pytest.raises(DamagedRun, match="belongs to another run"):
        place.manifest(other.id)


def test_attempts_are_numbered_and_an_abandoned_one_is_settled(place, make_test_plan):
    run = make_test_plan("axes: {x: [1]}\n").runs[0]
    for session in ("mine", "old"):
        folder = place.new_attempt(run.id)
        (folder / "attempt.json").write_text(json.dumps({"session": session, "host": "elsewhere"}))
    cut = place.new_attempt(run.id)
    (cut / "attempt.json").write_text("{")
    place.close_abandoned(run.id, "mine")
    assert [folder.name[:2] for folder in place.attempts(run.id)] == ["1-", "2-", "3-"]
    assert [outcome["kind"] for outcome in place.outcomes(run.id)] == ["worker-lost", "interrupted", "interrupted"]
    place.drop_attempts(run.id)
    assert place.attempts(run.id) == []


@pytest.mark.parametrize(
    ("kinds", "failed"),
    [
        ([], None),
        (["notebook-error"], "notebook-error"),
        (["early-exit"], "early-exit"),
        (["result-invalid"], "result-invalid"),
        (["timeout"], None),
        (["timeout", "timeout"], "timeout"),
        (["kernel-died"] * 2, None),
        (["kernel-died"] * 3, "kernel-died"),
        (["kernel-died", "worker-lost"] * 2, None),
        (["kernel-start"] * 4, None),
        (["kernel-start"] * 5, "kernel-start"),
        (["interrupted", "storage"] * 20, None),
    ],
)
def test_which_ends_make_a_run_fail(kinds, failed):
    failure = final_failure([{"kind": kind} for kind in kinds], attempts=3)
    assert (failure["kind"] if failure else None) == failed


def test_a_failure_that_is_forgotten_counts_no_more(place, make_test_plan):
    run = make_test_plan("axes: {x: [1]}\n").runs[0]
    fail(place, run, "notebook-error", "ValueError: no", cell=3)
    failure = final_failure(place.outcomes(run.id), 3)
    assert describe(failure) == "a cell raised an error in cell 3: ValueError: no"
    assert place.forget_failures(run.id)
    assert not place.forget_failures(run.id)
    assert final_failure(place.outcomes(run.id), 3) is None
    assert len(place.outcomes(run.id)) == 1


def test_a_folder_that_is_no_place_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`place` must be a folder that `lt-lib batch` has written to"):
        Place(tmp_path).plans()
