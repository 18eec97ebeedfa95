"""The ledger: every claim of the notes as one row, with its check or the reason why it has none.

`ledger.csv` says where a claim stands, which notebook judges it and in which module its check lives. Statement and rule
of a row with a check stand at the check and nowhere else; a row without one has them in the file.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib import import_module

from lt_lib.claims._tables import read_table
from lt_lib.claims.core import Check, Claim
from lt_lib.claims.errata import errata

PROFILES = ("quick", "small", "paper")


@dataclass(frozen=True)
class Row:
    """One row of the ledger.

    Attributes:
        claim: number, source, kind, statement and rule.
        papers: keys of the bibliography; empty where the notes speak for themselves.
        profile: lowest profile at which the claim can be judged: "quick", "small" or "paper".
        notebook: number of the notebook that judges it.
        check: measures and judges; None where nothing can be measured yet.
        module: module of `lt_lib.claims` that holds the check; empty without one.
        seconds: rough cost of the measurement at the quick profile on one core; only the order of work depends on it.
        same_as: rows whose claim it repeats.
        errata: errata that concern it, such as "E2".
        reason: why it has no check; empty with one.
    """

    claim: Claim
    papers: tuple[str, ...]
    profile: str
    notebook: str
    check: Check | None
    module: str
    seconds: float
    same_as: tuple[int, ...]
    errata: tuple[str, ...]
    reason: str

    @property
    def id(self) -> int:
        """Number of the row."""
        return self.claim.id


@cache
def ledger() -> tuple[Row, ...]:
    """All rows, by number.

    Example:
        >>> rows = ledger()
        >>> len(rows), rows[14].claim.statement
        (139, 'E_n = (1 - beta^n)/(1 - beta) with beta = (N - 1)/N')
    """
    concerned: dict[int, list[str]] = {}
    for erratum in errata():
        for row in erratum.rows:
            concerned.setdefault(row, []).append(erratum.id)
    return tuple(_row(entry, tuple(concerned.get(int(entry["id"]), ()))) for entry in read_table("ledger"))


def row(number: int) -> Row:
    """One row.

    Args:
        number: of the row.

    Raises:
        TypeError: not a whole number.
        ValueError: no row has it (with the nearest that exist).
    """
    return select([number])[0]


def check(number: int) -> Check | None:
    """The check of a row, or None if it has none; `row(number).reason` says why.

    Args:
        number: of the row.

    Raises:
        TypeError: not a whole number.
        ValueError: no row has it (with the nearest that exist).

    Example:
        >>> check(62).claim.source
        'S2 L28'
    """
    return row(number).check


def select(numbers: Iterable[int]) -> list[Row]:
    """Rows in the order of the ledger, each once.

    Args:
        numbers: of the rows.

    Raises:
        TypeError: one is not a whole number.
        ValueError: no row has one of them (with the nearest that exist).
    """
    known = {entry.id: entry for entry in ledger()}
    wanted = set()
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"`id` must be a whole number, got {number!r}.")
        if number not in known:
            nearest = sorted((abs(other - number), other) for other in known)[:3]
            near = ", ".join(str(other) for other in sorted(other for _, other in nearest))
            raise ValueError(
                f"`id` must be a row of the ledger, {min(known)} to {max(known)}, got {number}. Nearest: {near}."
            )
        wanted.add(number)
    return [known[number] for number in sorted(wanted)]


def recorded() -> tuple[Row, ...]:
    """Rows whose check reads measured runs at small and paper, by number; of the others those profiles say nothing new.

    Example:
        >>> [entry.id for entry in recorded()][:4]
        [5, 10, 21, 22]
    """
    return tuple(entry for entry in ledger() if entry.check is not None and entry.check.recorded)


def shared_measure(entry: Row) -> tuple[Row, ...]:
    """All rows whose check rests on the same measurement as that of `entry`, itself included, by number.

    Args:
        entry: a row with a check.
    """
    if entry.check is None:
        raise ValueError(f"`entry` must have a check, got row {entry.id}: {entry.reason}.")
    measure = entry.check.measure
    return tuple(other for other in ledger() if other.check is not None and other.check.measure is measure)


def _row(entry: dict[str, str], errata: tuple[str, ...]) -> Row:
    number = int(entry["id"])
    found = _checks(entry["module"])[number] if entry["module"] else None
    claim = found.claim if found else Claim(number, *(entry[n] for n in ("source", "type", "statement", "rule")))
    return Row(
        claim=claim,
        papers=tuple(entry["paper"].split()),
        profile=entry["profile"],
        notebook=entry["notebook"],
        check=found,
        module=entry["module"],
        seconds=float(entry["seconds"] or 0),
        same_as=tuple(map(int, entry["same_as"].split())),
        errata=errata,
        reason=entry["reason"],
    )


@cache
def _checks(module: str) -> dict[int, Check]:
    return {found.claim.id: found for found in import_module(f"lt_lib.claims.{module}").CHECKS}
