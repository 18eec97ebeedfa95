"""The errata of the notes as data, and demonstrations of those that can be shown by running.

A demonstration measures how far a statement is from what is so. It is fed the statement as printed, and, in the tests,
the corrected one, which it must not call wrong. Kinds: W wrong, G garbled by conversion, A ambiguous or over-stated, D
documents disagree, X an error of the paper itself, - looked at and found in order.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from lt_lib._checks import check_known
from lt_lib.claims._tables import read_table
from lt_lib.claims.core import Judgement

KINDS = ("W", "G", "A", "D", "X", "-")
MODULES = ("_errata_tables", "_errata_formulas", "_errata_worlds")


@dataclass(frozen=True)
class Demonstration:
    """Shows by running that a printed statement is wrong.

    Attributes:
        erratum: such as "E11".
        printed: the statement as printed: a number, a list of what it covers, or a formula.
        right: the corrected statement, of the same type.
        deviation: (statement, generator) -> how far the statement is from what is so.
        tolerance: the statement is wrong if its deviation is above this.
        words: what the deviation is.
    """

    erratum: str
    printed: Any
    right: Any
    deviation: Callable[[Any, np.random.Generator], float]
    tolerance: float
    words: str

    def judge(self, statement: Any, rng: np.random.Generator) -> Judgement:
        """Is `statement` wrong? "holds" if so, "refuted" if it stands.

        Args:
            statement: of the type of `printed`.
            rng: generator for everything random.

        Raises:
            ValueError: the deviation is not a number.
        """
        value = float(self.deviation(statement, rng))
        if np.isnan(value):
            raise ValueError(f"`deviation` of {self.erratum} must be a number, got NaN.")
        # Below 1e-9 a deviation is rounding, which differs between processors.
        value = 0.0 if abs(value) < 1e-9 else value
        verdict = "holds" if value > self.tolerance else "refuted"
        return Judgement(verdict, value, threshold=f"{self.words} > {self.tolerance:g}")

    def run(self, rng: np.random.Generator) -> Judgement:
        """Judge the statement as printed."""
        return self.judge(self.printed, rng)


@dataclass(frozen=True)
class Erratum:
    """One erratum.

    Attributes:
        id: such as "E11".
        kind: one of `KINDS`.
        source: note, "S0" to "S3".
        lines: of the note.
        notebook: number of the notebook that shows it.
        rows: rows of the ledger that it concerns.
        shown_by: row whose claim is the printed statement, so that its verdict shows the erratum; None otherwise.
        says: what is printed, in our own words.
        right: what is so.
        demonstration: shows it by running; None where nothing can be run or a row shows it.
        reason: why nothing is run; empty where something is.
    """

    id: str
    kind: str
    source: str
    lines: str
    notebook: str
    rows: tuple[int, ...]
    shown_by: int | None
    says: str
    right: str
    demonstration: Demonstration | None
    reason: str

    @property
    def number(self) -> int:
        """Position in the list of errata; E20 and E76 do not exist."""
        return int(self.id[1:])


@cache
def errata() -> tuple[Erratum, ...]:
    """All errata, by number.

    Example:
        >>> found = errata()
        >>> len(found), found[0].id, sum(e.demonstration is not None for e in found) >= 35
        (74, 'E1', True)
    """
    shown = {d.erratum: d for name in MODULES for d in import_module(f"lt_lib.claims.{name}").DEMONSTRATIONS}
    found = []
    for entry in read_table("errata"):
        texts = {name: entry[name] for name in ("id", "kind", "source", "lines", "notebook", "says", "right", "reason")}
        row = int(entry["shown_by_row"]) if entry["shown_by_row"] else None
        rows = tuple(map(int, entry["rows"].split()))
        found.append(Erratum(**texts, rows=rows, shown_by=row, demonstration=shown.get(entry["id"])))
    return tuple(found)


def erratum(name: str) -> Erratum:
    """One erratum.

    Args:
        name: such as "E11".

    Raises:
        ValueError: there is none of this name (with the nearest names).
    """
    known = {found.id: found for found in errata()}
    return known[check_known(name, "name", known)]


def opposite(judged: Judgement) -> Judgement:
    """Verdict on an erratum from that on a claim which is the printed statement: the one holds if the other falls."""
    turned = {"holds": "refuted", "refuted": "holds"}
    rule = f"unless {judged.threshold}" if judged.threshold else ""
    return replace(
        judged, verdict=turned.get(judged.verdict, judged.verdict), threshold=rule, distance=-judged.distance
    )
