"""Judging many rows of the ledger at once, and the errata.

A verdict does not depend on which other rows are judged with it, nor on the number of processes: the generator of a
measurement follows from the seed and from the first row of the ledger that rests on it. Rows that rest on the same
measurement share it. A check that raises is recorded as broken, and the others go on.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from lt_lib._checks import check_integer, check_known
from lt_lib._cores import available_cores
from lt_lib.claims._digest import code_digest
from lt_lib.claims.core import Judgement
from lt_lib.claims.errata import Demonstration, Erratum, errata, opposite
from lt_lib.claims.ledger import PROFILES, Row, select, shared_measure

# What one judgement leaves: number of the row, the judgement or None, and the traceback of a check that raised.
Result = tuple[int, Judgement | None, str]


@dataclass(frozen=True)
class Outcome:
    """What came of judging a row or an erratum.

    Attributes:
        subject: what was judged.
        profile: at which profile.
        judgement: None if the check is broken.
        digest: of the code that judged, see `code_digest`; empty where there is none.
        error: traceback of a broken check; empty otherwise.
    """

    subject: Row | Erratum
    profile: str
    judgement: Judgement | None
    digest: str = ""
    error: str = ""

    @property
    def verdict(self) -> str:
        """That of the judgement, or "broken"."""
        return "broken" if self.judgement is None else self.judgement.verdict


def judge_rows(
    rows: Sequence[Row], profile: str = "quick", *, seed: int = 0, workers: int | None = None
) -> Iterator[Outcome]:
    """Judge rows of the ledger.

    Args:
        rows: of the ledger; with more than one worker they are looked up again by their number.
        profile: "quick", "small" or "paper".
        seed: of everything random, >= 0.
        workers: processes, the longest measurements first; 1 works in this process; None takes one per available core.

    Yields:
        One outcome per row as it is done, in no fixed order.

    Raises:
        TypeError: `seed` or `workers` is not a whole number.
        ValueError: unknown profile, negative seed, or no worker.
    """
    check_known(profile, "profile", PROFILES)
    check_integer(seed, "seed", minimum=0)
    processes = check_integer(available_cores() if workers is None else workers, "workers", minimum=1)
    return _judge_rows(rows, profile, seed, processes)


def _judge_rows(rows: Sequence[Row], profile: str, seed: int, workers: int) -> Iterator[Outcome]:
    known = {row.id: row for row in rows}
    groups: dict[int, list[Row]] = {}
    for row in known.values():
        if row.check is None:
            yield Outcome(row, profile, Judgement("not judged", why=row.reason))
        else:
            groups.setdefault(first_sharing(row), []).append(row)
    order = sorted(groups, key=lambda first: -max(row.seconds for row in groups[first]))
    for number, judgement, error in _results([groups[first] for first in order], order, profile, seed, workers):
        yield Outcome(known[number], profile, judgement, row_digest(known[number]), error)


def first_sharing(row: Row) -> int:
    """Number of the first row of the ledger that rests on the same measurement; it fixes the generator.

    Args:
        row: with a check; one that stands outside the ledger counts for itself.
    """
    return min((other.id for other in shared_measure(row)), default=row.id)


def row_digest(row: Row) -> str:
    """`code_digest` of the code behind a row's check; empty without one.

    Args:
        row: of the ledger.
    """
    if row.check is None:
        return ""
    owners = [getattr(part, "__module__", "") for part in (row.check.measure, row.check.judge)]
    return code_digest([f"lt_lib.claims.{row.module}", *owners])


def erratum_digest(erratum: Erratum) -> str:
    """`code_digest` of the code behind a demonstration; empty without one.

    Args:
        erratum: of the list.
    """
    if erratum.demonstration is None:
        return ""
    return code_digest([getattr(erratum.demonstration.deviation, "__module__", "")])


def judge_errata(
    claims: Iterable[Outcome] = (), profile: str = "quick", *, seed: int = 0, subjects: Iterable[Erratum] | None = None
) -> list[Outcome]:
    """Run every demonstration; "holds" says that the printed statement is wrong.

    Args:
        claims: outcomes of rows, for errata that a row's verdict shows.
        profile: recorded with the outcome; a demonstration costs the same at each.
        seed: of everything random, >= 0.
        subjects: which errata; None takes all.

    Returns:
        One outcome per erratum.
    """
    judged = {outcome.subject.id: outcome for outcome in claims}
    return [_judge_erratum(item, judged, profile, seed) for item in (errata() if subjects is None else subjects)]


def _judge_erratum(erratum: Erratum, judged: dict[Any, Outcome], profile: str, seed: int) -> Outcome:
    if erratum.demonstration is not None:
        # A key of two numbers, which no row has.
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(0, erratum.number)))
        judgement, error = _attempt(Demonstration.run, erratum.demonstration, rng)
        return Outcome(erratum, profile, judgement, erratum_digest(erratum), error)
    if erratum.shown_by is None:
        return Outcome(erratum, profile, Judgement("not judged", why=erratum.reason))
    shown = judged.get(erratum.shown_by)
    if shown is None or shown.judgement is None:
        why = f"row {erratum.shown_by}, which shows it, {'was not judged' if shown is None else 'is broken'}"
        return Outcome(erratum, profile, Judgement("not judged", why=why))
    return Outcome(erratum, profile, opposite(shown.judgement), shown.digest)


def _results(
    groups: Sequence[Sequence[Row]], firsts: Sequence[int], profile: str, seed: int, workers: int
) -> Iterator[Result]:
    if workers == 1 or len(groups) < 2:
        for group, first in zip(groups, firsts, strict=True):
            yield from _judge_group(group, first, profile, seed)
        return
    numbers = [[row.id for row in group] for group in groups]
    arguments = [(ids, first, profile, seed) for ids, first in zip(numbers, firsts, strict=True)]
    for position, done in _in_processes(_judge_numbers, arguments, min(workers, len(groups))):
        if isinstance(done, BrokenProcessPool):
            yield from ((number, None, f"the process died: {done}") for number in numbers[position])
        else:
            yield from done


def _judge_numbers(numbers: list[int], first: int, profile: str, seed: int) -> list[Result]:
    return _judge_group(select(numbers), first, profile, seed)


def _judge_group(rows: Sequence[Row], first: int, profile: str, seed: int) -> list[Result]:
    """Judge rows that share one measurement."""
    checks = {row.id: row.check for row in rows if row.check is not None}
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(first,)))
    # Check.run does not measure at a profile it does not know.
    results: list[Result] = [
        (number, check.run(profile, rng), "") for number, check in checks.items() if profile not in check.profiles
    ]
    active = {number: check for number, check in checks.items() if profile in check.profiles}
    if not active:
        return results
    measured, error = _attempt(next(iter(active.values())).measure, profile, rng)
    for number, check in active.items():
        results.append((number, None, error) if error else (number, *_attempt(check.judge, measured)))
    return results


def _attempt(function: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Result and empty text, or None and the traceback of whatever was raised."""
    try:
        return function(*arguments), ""
    except Exception:  # any failure of a check is its own, and must not stop the others
        return None, traceback.format_exc()


def _in_processes(
    function: Callable[..., Any], arguments: Sequence[tuple], workers: int
) -> Iterator[tuple[int, Any | BrokenProcessPool]]:
    """Call a function on each tuple of arguments in fresh processes; position and result as each is done.

    A process that is killed takes its pool with it. What was lost then runs again, each in a pool of its own, so that
    only the culprit is reported as lost.
    """
    lost = []
    with _pool(workers) as pool:
        futures = {pool.submit(function, *each): position for position, each in enumerate(arguments)}
        try:
            for future in as_completed(futures):
                try:
                    yield futures[future], future.result()
                except BrokenProcessPool:
                    lost.append(futures[future])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    for position in lost:
        with _pool(1) as pool:
            try:
                yield position, pool.submit(function, *arguments[position]).result()
            except BrokenProcessPool as error:
                yield position, error


def _pool(workers: int) -> ProcessPoolExecutor:
    # Fresh interpreters: a copy of a process in which torch has threads can hang.
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_use_one_thread)


def _use_one_thread() -> None:
    """One thread in each process, set before torch is imported; the processes share the cores."""
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
