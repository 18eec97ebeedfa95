"""Several runs at the same time on one machine: threads that share a GPU, or processes that share a processor."""

import itertools
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, ProcessPoolExecutor, ThreadPoolExecutor, wait
from typing import Any

import torch

from lt_lib._checks import check_integer, check_known

WAYS = ("threads", "processes")


def side_by_side(work: Callable[[Any], Any], jobs: Sequence[Any], *, workers: int, way: str) -> list[Any]:
    """Do all jobs, several at a time.

    Args:
        work: what is done with a job; for processes a function of a module.
        jobs: its arguments; for processes anything that can be pickled.
        workers: jobs at the same time, >= 1; with 1 they are done here, one after the other.
        way: "threads" of this process, for jobs that wait for a GPU most of the time: recorded training steps need the
            host only once per epoch, and every `fit` has a stream of its own. "processes", for jobs that compute on the
            processor: each gets an equal share of this process's threads, and one thread per process does more in all
            than several threads for one small network.

    Returns:
        The results in the order of the jobs. After an error, or an interrupt, no other job begins; it is raised
        when those that have begun end.

    Raises:
        ValueError: `workers` < 1, or an unknown `way`.

    Example:
        >>> side_by_side(abs, [-1, 2], workers=2, way="threads")
        [1, 2]
    """
    check_integer(workers, "workers", minimum=1)
    check_known(way, "way", WAYS)
    if workers == 1:
        return [work(job) for job in jobs]
    if way == "threads":
        with ThreadPoolExecutor(workers) as threads:
            return _results(threads, work, jobs, workers)
    share = max(1, torch.get_num_threads() // workers)
    # A forked process could not use a GPU, and would inherit the locks of running threads.
    fresh = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=fresh, initializer=_start, initargs=(share,)) as processes:
        return _results(processes, work, jobs, workers)


def _results(pool: Executor, work: Callable[[Any], Any], jobs: Sequence[Any], workers: int) -> list[Any]:
    """Results in the order of the jobs; never more jobs are handed over than can begin at once."""
    left, running, results = iter(enumerate(jobs)), {}, {}

    def begin(number: int) -> None:
        for position, job in itertools.islice(left, number):
            running[pool.submit(work, job)] = position

    begin(workers)
    while running:
        done, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            results[running.pop(future)] = future.result()
        begin(len(done))
    return [results[position] for position in range(len(jobs))]


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
