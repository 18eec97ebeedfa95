import os
import threading
import time

import numpy as np
import pytest
import torch

from lt_lib import training
from lt_lib.recipes import RunConfig, run, run_many
from lt_lib.recipes.side_by_side import side_by_side

FAST = {"dataset": "tiny", "imbalance_ratio": 4.0, "epochs": 2, "batch_size": 32, "learning_rate": 0.05}
RESNET = {**FAST, "model": "resnet8", "augment": True, "precision": "float32"}


def work(job):
    """A run, and where it was done; a function of this module, so that another process finds it."""
    config, dataset = job
    return run(config, dataset=dataset), os.getpid(), torch.get_num_threads()


def test_one_worker_works_here_and_in_order():
    assert side_by_side(lambda job: (job, os.getpid()), [3, 1], workers=1, way="processes") == [
        (job, os.getpid()) for job in (3, 1)
    ]


def test_threads_work_at_the_same_time():
    """Each job waits for the other: one after the other they would never end."""
    both = threading.Barrier(2, timeout=20)

    def meet(job):
        both.wait()
        return job

    assert side_by_side(meet, [5, 6], workers=2, way="threads") == [5, 6]


def test_after_an_error_no_other_job_begins():
    """The job that fails is not the first: the first one is still at work, and others wait."""
    begun, failed = [], threading.Event()

    def job(number):
        begun.append(number)
        if number == 1:
            failed.set()
            raise ValueError("job 1")
        failed.wait(timeout=20)
        time.sleep(0.02 if number else 1)

    with pytest.raises(ValueError, match="job 1"):
        side_by_side(job, range(50), workers=2, way="threads")
    # One more may have begun between the failure and the moment it was seen.
    assert len(begun) < 10


def fail_second(job):
    """Leaves a file; the second of the jobs fails while the first is at work."""
    folder, number = job
    (folder / str(number)).touch()
    if number == 1:
        raise ValueError("job 1")
    time.sleep(3 if number == 0 else 0)


def test_after_an_error_in_a_process_no_other_job_begins(tmp_path):
    with pytest.raises(ValueError, match="job 1"):
        side_by_side(fail_second, [(tmp_path, number) for number in range(20)], workers=2, way="processes")
    assert {"0", "1"} <= {path.name for path in tmp_path.iterdir()} <= {"0", "1", "2"}


def test_after_an_interrupt_no_other_job_begins(monkeypatch):
    begun = []

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lt_lib.recipes.side_by_side.wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        side_by_side(begun.append, range(20), workers=2, way="threads")
    assert sorted(begun) == [0, 1]


def test_processes_share_the_threads_of_this_one_and_do_the_same(tiny, monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    configs = [RunConfig(**RESNET, seed=seed) for seed in (0, 1)]
    found = side_by_side(work, [(config, tiny) for config in configs], workers=2, way="processes")
    for config, (result, process, threads) in zip(configs, found, strict=True):
        same(result, run(config, dataset=tiny))
        assert (process != os.getpid(), threads) == (True, 2)


def test_wrong_workers_and_ways_are_refused():
    with pytest.raises(ValueError, match="`workers` must be an integer of at least 1, got 0"):
        side_by_side(work, [], workers=0, way="threads")
    with pytest.raises(ValueError, match="`way` must be one of"):
        side_by_side(work, [], workers=1, way="magic")


def same(one, two):
    assert one.config == two.config
    assert one.curves["train_loss"] == pytest.approx(two.curves["train_loss"], rel=1e-5)
    np.testing.assert_allclose(one.test_logits, two.test_logits, rtol=1e-3, atol=1e-4)


def test_networks_that_cannot_be_stacked_run_beside_each_other(loaded, monkeypatch):
    """Residual networks two at a time, an MLP in its stack, and the results in the order of the configurations."""

    def here(work, jobs, *, workers, way):
        assert (len(jobs), workers, way) == (2, 2, "processes")
        return side_by_side(work, jobs, workers=workers, way="threads")

    monkeypatch.setitem(run_many.__globals__, "side_by_side", here)
    configs = [RunConfig(**RESNET), RunConfig(**FAST), RunConfig(**RESNET, seed=1)]
    for config, result in zip(configs, run_many(configs, workers=2), strict=True):
        same(result, run(config))


def test_a_gpu_is_shared_by_threads(loaded, monkeypatch):
    seen = []
    monkeypatch.setattr(training, "resolve_device", lambda _device: "cuda")
    monkeypatch.setitem(
        run_many.__globals__, "side_by_side", lambda _work, jobs, **how: seen.append(how) or [None] * len(jobs)
    )
    assert run_many([RunConfig(**RESNET)], workers=3) == [None]
    assert seen == [{"workers": 3, "way": "threads"}]


def test_a_run_hands_on_how_its_steps_are_run(loaded, monkeypatch):
    ways, real = [], training.fit
    monkeypatch.setattr(
        training, "fit", lambda *data, **options: ways.append(options["execution"]) or real(*data, **options)
    )
    config = RunConfig(**RESNET)
    same(run(config, execution="graph"), run(config))
    assert ways == ["graph", "auto"]
