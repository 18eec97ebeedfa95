"""A Slurm whose programs fail for a while loses no job; the programs are those of `fake_slurm.py`."""

import os
import sys
import time
from pathlib import Path

import pytest

from lt_lib.batch import driver, slurm
from lt_lib.batch.engines import EngineError
from lt_lib.batch.slurm import SlurmEngine

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")

# What the job of a run does: it ends well once a file `go` is in the folder of Slurm.
JOB = """#!/bin/bash
#SBATCH --output={base}.log
until [ -e {home}/go ]; do sleep 0.05; done
echo '{{"kind": "done"}}' > {base}.new && mv {base}.new {base}.report.json
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of a Slurm whose jobs end when told to."""
    home = tmp_path / "slurm-home"
    (home / "bin").mkdir(parents=True)
    for name in ("sbatch", "squeue", "scancel"):
        program = home / "bin" / name
        program.write_text(f"#!{sys.executable}\n{(Path(__file__).parent / 'fake_slurm.py').read_text()}")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(home))
    monkeypatch.setattr(slurm, "job_script", lambda base, *rest: JOB.format(base=base, home=home))
    yield home
    (home / "go").touch()


def collect(engine, count):
    """The reports of so many runs."""
    found, limit = [], time.monotonic() + 60
    while len(found) < count:
        assert time.monotonic() < limit, "a job was lost"
        found += engine.collect(0.1)
    return found


def task(run):
    return {"run": run, "cpus": 1}


def test_looks_at_the_queue_that_fail_end_no_batch_and_no_job(home, place, make_test_plan, monkeypatch):
    plan = make_test_plan("axes: {x: [1, 2]}\n")
    (home / "hiccups").write_text("2")
    looks, look = [], SlurmEngine._look

    def watch(engine):
        looks.append(look(engine))
        if len(looks) == 3:
            (home / "go").touch()
        return looks[-1]

    monkeypatch.setattr(SlurmEngine, "_look", watch)
    engine = SlurmEngine(place.folder, 2, poll=0.0)
    summary = driver.run_batch(plan, place, lambda: engine, say=lambda line: None)
    assert (summary.exit_code, summary.message, len(summary.done)) == (driver.DONE, "", 2)
    assert looks[:2] == [None, None]
    assert set(looks[2]) == {"100", "101"}
    assert (home / "hiccups").read_text() == "0"


def test_a_queue_that_says_nothing_for_long_is_a_lost_engine_and_one_answer_begins_anew(tmp_path, monkeypatch):
    now, answers = [0.0], []

    def call(*words, **options):
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(slurm, "_call", call)
    monkeypatch.setattr(slurm.time, "monotonic", lambda: now[0])
    engine = SlurmEngine(tmp_path, 1)
    engine._jobs["7"] = ("r", tmp_path / "slurm" / "r")

    def look(moment, answer):
        now[0] = moment
        answers.append(answer)
        return engine._vanished()

    failed = slurm._Unanswered("squeue failed: Socket timed out")
    assert look(1000.0, failed) == look(1599.0, failed) == []
    assert look(1600.0, "7|RUNNING|None\n") == []
    assert look(1700.0, failed) == look(2299.0, failed) == []
    # A job that was taken is an answer, too.
    answers.append("8\n")
    engine.submit(task("s"))
    assert look(2301.0, failed) == []
    with pytest.raises(EngineError, match="has said nothing about its queue for 600 s: squeue failed: Socket timed"):
        look(2902.0, failed)


def test_a_program_that_is_not_there_is_a_lost_engine_at_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    engine = SlurmEngine(tmp_path, 1, poll=0.0)
    engine._jobs["7"] = ("r", tmp_path / "slurm" / "r")
    with pytest.raises(EngineError, match="Slurm's program squeue is not on this machine"):
        engine.collect(0.0)
    with pytest.raises(EngineError, match="Slurm's program sbatch is not on this machine"):
        engine.submit(task("s"))


def test_a_job_that_is_refused_beside_others_is_sent_again_and_ends_no_batch(home, place, make_test_plan, monkeypatch):
    monkeypatch.setattr(slurm, "_REFUSED_PAUSE", 0.2)
    plan = make_test_plan("axes: {x: [1, 2, 3]}\n")
    (home / "limit").write_text("1")
    lines = []

    def say(line):
        lines.append(line)
        (home / "go").touch()

    engine = SlurmEngine(place.folder, 3, poll=0.1)
    summary = driver.run_batch(plan, place, lambda: engine, say=lambda line: "later" in line and say(line))
    assert (summary.exit_code, summary.message, len(summary.done)) == (driver.DONE, "", 3)
    assert "sbatch failed: sbatch: error: AssocMaxSubmitJobLimit" in lines[0]
    assert len(list((home / "scripts").iterdir())) == 3
    assert [path for path in (place.folder / "slurm").iterdir() if path.suffix != ".log"] == []


def test_after_a_refusal_no_place_is_free_for_a_while(home, tmp_path):
    engine = SlurmEngine(tmp_path, 3, poll=60.0)
    engine.submit(task("a"))
    (home / "limit").write_text("1")
    assert engine.slots == 3
    engine.submit(task("b"))
    assert engine.slots == 1
    ((run, report),) = engine.collect(60.0)
    assert (run, report["kind"]) == ("b", "busy")
    engine._resume = 0.0
    assert engine.slots == 3
    (home / "go").touch()
    assert collect(engine, 1) == [("a", {"kind": "done"})]


def test_refusals_are_fatal_before_a_job_was_taken_or_when_none_has_been_for_long(home, tmp_path, monkeypatch):
    (home / "refuse").touch()
    engine = SlurmEngine(tmp_path, 2, poll=60.0)
    with pytest.raises(EngineError, match="sbatch failed: sbatch: error: Invalid account"):
        engine.submit(task("a"))
    (home / "refuse").unlink()
    engine.submit(task("a"))
    (home / "refuse").touch()
    monkeypatch.setattr(slurm, "_PATIENCE", -1.0)
    engine.submit(task("b"))  # not while a job of ours is there
    (home / "go").touch()
    assert [run for run, _ in collect(engine, 2)] == ["b", "a"]
    with pytest.raises(EngineError, match="Slurm has taken no job for -1 s: sbatch failed"):
        engine.submit(task("b"))
    assert list((tmp_path / "slurm").glob("b-*")) == []
