"""Attempts in processes of their own: whatever they say, and however they are ended, the engine goes on."""

import sys
import threading

import pytest

from lt_lib.batch import dask_engine, engines, slurm
from lt_lib.batch.attempt import _with_short_message
from lt_lib.batch.dask_engine import DaskEngine
from lt_lib.batch.engines import AttemptProcess, EngineError, ProcessEngine

TASK = {"run": "r", "devices": None}


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes a program of this text take the place of every attempt."""

    def install(text):
        program = tmp_path / "attempt"
        program.write_text(f"#!{sys.executable}\n{text}")
        program.chmod(0o755)
        monkeypatch.setattr(engines.sys, "executable", str(program))

    return install


@pytest.mark.faults
def test_an_attempt_may_say_more_than_a_pipe_holds(stand_in):
    stand_in('print("x" * 1_000_000)\nprint(\'{"kind": "done", "message": "\' + "y" * 1_000_000 + \'"}\')\n')
    attempt = AttemptProcess(TASK)
    ended = attempt.wait(30)
    attempt.kill()
    assert ended
    assert attempt.report() == {"kind": "done", "message": "y" * 1_000_000}


def test_a_report_can_be_asked_for_again_and_from_several_threads(stand_in):
    stand_in('print(\'{"kind": "done"}\')\n')
    attempt = AttemptProcess(TASK)
    assert attempt.wait(30)
    found, barrier = [], threading.Barrier(8)

    def ask():
        barrier.wait()
        found.append(attempt.report())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [{"kind": "done"}] * 8


@pytest.mark.faults
def test_a_kill_during_a_close_ends_attempts_that_heed_nothing(stand_in, monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "GRACE", 60.0)
    deaf = "import pathlib, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    stand_in(f"{deaf}pathlib.Path({str(tmp_path / 'deaf')!r}).touch()\ntime.sleep(600)\n")
    engine = ProcessEngine(2)
    for _ in range(2):
        engine.submit(TASK)
    (first, second), errors = engine._running, []
    monkeypatch.setattr(threading, "excepthook", lambda error: errors.append(error.exc_value))
    while not (tmp_path / "deaf").exists():
        assert not first.wait(0.05)
    closing = threading.Thread(target=engine.close)
    closing.start()
    engine.close(kill=True)
    closing.join(20)
    assert not closing.is_alive()
    assert errors == []
    for attempt in (first, second):
        assert attempt.report()["message"] in [
            f"the attempt's process ended with signal SIG{n}" for n in ("KILL", "TERM")
        ]


@pytest.mark.faults
def test_a_kill_leaves_the_jobs_of_slurm_to_the_close_that_waits_for_them(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(slurm, "_call", lambda *words, **options: calls.append(words) or "")
    engine = slurm.SlurmEngine(tmp_path, 1)
    engine._jobs["7"] = ("r", tmp_path / "slurm" / "r")
    engine.close(kill=True)
    assert list(engine._jobs) == ["7"]
    engine.close()
    assert engine._jobs == {}
    assert calls[:2] == [("scancel", "--signal=KILL", "7"), ("scancel", "7")]


class Scheduler:
    """Stands in for a client of Dask: it knows its workers."""

    def __init__(self):
        self.workers = {}

    def nthreads(self):
        return self.workers


def test_workers_may_be_gone_for_as_long_as_they_need_to_start_anew(monkeypatch):
    now, client = [0.0], Scheduler()
    monkeypatch.setattr(dask_engine.time, "monotonic", lambda: now[0])
    engine = DaskEngine(client, worker_timeout=60.0)

    def slots(moment, workers):
        now[0], client.workers = moment, dict.fromkeys(range(workers), 1)
        return engine.slots

    assert [slots(50, 0), slots(55, 2), slots(100, 0), slots(155, 0), slots(158, 1)] == [0, 2, 0, 0, 1]
    # Nobody asked for an hour, in which the workers may have been there.
    assert [slots(4000, 0), slots(4059, 0)] == [0, 0]
    with pytest.raises(EngineError, match="No worker has joined the scheduler for 60 s"):
        slots(4061, 0)


def test_the_middle_of_a_long_message_is_left_out_and_that_is_said():
    outcome = _with_short_message({"kind": "notebook-error", "message": "a" * 5000 + "\nend", "cell": 3})
    assert outcome["message"].startswith("aaa")
    assert outcome["message"].endswith("\nend")
    assert "[… 3004 characters left out …]" in outcome["message"]
    assert len(outcome["message"]) < 2100
    for short in ({"kind": "done"}, {"kind": "timeout", "message": "stopped after 5 s"}):
        assert _with_short_message(short) == short


def test_a_report_that_is_no_json_is_a_lost_worker(stand_in):
    stand_in("import sys\nprint('half {')\nsys.exit('why')\n")
    attempt = AttemptProcess(TASK)
    assert attempt.wait(30)
    message = "the attempt's process ended with exit code 1: why"
    assert attempt.report() == {"kind": "worker-lost", "message": message}
