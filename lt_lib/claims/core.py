"""What a claim is, and how it is judged: measure first, then apply a rule that can fail."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

VERDICTS = ("holds", "refuted", "inconclusive", "not judged")


@dataclass(frozen=True)
class Claim:
    """One statement of the notes.

    Attributes:
        id: row of the ledger of claims.
        source: note and lines, such as "S2 L68".
        kind: "T" theory, "E" empirical, "D" definition or consistency, "Q" qualitative, "O" open question.
        statement: the claim in our own words.
        rule: what must be measured for it to hold, in words with the threshold.
    """

    id: int
    source: str
    kind: str
    statement: str
    rule: str

    def __post_init__(self) -> None:
        if self.kind not in {"T", "E", "D", "Q", "O"}:
            raise ValueError(f"`kind` must be one of T, E, D, Q, O, got {self.kind!r}.")


@dataclass(frozen=True)
class Judgement:
    """Outcome of a rule.

    Attributes:
        verdict: "holds", "refuted", "inconclusive" or "not judged".
        statistic: what was measured; NaN if nothing was.
        low: lower end of its interval; NaN if it has none.
        high: upper end; NaN if it has none.
        threshold: what the statistic is compared with, in words.
        why: reason for "not judged"; empty otherwise.
        distance: how far the statistic is from its threshold, positive on the side on which the claim holds; in
            half-widths of the interval where there is one, else relative to the smaller of both. NaN where a rule
            gives none.
    """

    verdict: str
    statistic: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")
    threshold: str = ""
    why: str = ""
    distance: float = float("nan")

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"`verdict` must be one of {', '.join(VERDICTS)}, got {self.verdict!r}.")
        if self.verdict == "not judged" and not self.why:
            raise ValueError("`why` must say why nothing was judged, got an empty text.")


@dataclass(frozen=True)
class Check:
    """A claim with the two functions that judge it.

    Attributes:
        claim: what is judged.
        measure: (profile, rng) -> measurements. Runs simulations or trainings; knows nothing of the verdict.
        judge: measurements -> `Judgement`. Pure arithmetic; the only place where a verdict arises.
        profiles: profiles at which `measure` makes sense; elsewhere the claim is "not judged".
        recorded: at "small" and "paper", `measure` reads the rows of measured runs; without, the profile makes no
            difference to it.
    """

    claim: Claim
    measure: Callable[[str, np.random.Generator], Any]
    judge: Callable[[Any], Judgement]
    profiles: tuple[str, ...] = ("quick",)
    recorded: bool = False

    def __post_init__(self) -> None:
        if self.recorded and not {"small", "paper"} <= set(self.profiles):
            raise ValueError(f"`profiles` must include small and paper where rows are read, got {self.profiles}.")

    def run(self, profile: str, rng: np.random.Generator) -> Judgement:
        """Measure and judge.

        Args:
            profile: "quick", "small" or "paper".
            rng: generator for everything random.
        """
        if profile not in self.profiles:
            return Judgement("not judged", why=f"needs profile {' or '.join(self.profiles)}, this is {profile}")
        return self.judge(self.measure(profile, rng))


def verdict_table(judged: Iterable[tuple[Claim, Judgement]], *, width: int = 38) -> str:
    """Fixed-width text table of judgements: surprising verdicts (refuted, inconclusive) first, then by ledger row.

    Args:
        judged: pairs of claim and judgement.
        width: characters per line of the statement, >= 20.
    """
    import textwrap

    if width < 20:
        raise ValueError(f"`width` must be >= 20, got {width}.")
    order = {verdict: rank for rank, verdict in enumerate(("refuted", "inconclusive", "holds", "not judged"))}
    rows = sorted(judged, key=lambda pair: (order[pair[1].verdict], pair[0].id))
    lines = [f"{'row':>4}  {'verdict':<12}  {'claim':<{width}}  {'measured':<24}  holds if"]
    for claim, outcome in rows:
        statement = textwrap.wrap(f"{claim.statement} ({claim.source})", width)
        rule = textwrap.wrap(outcome.why or outcome.threshold or claim.rule, 28)
        for position in range(max(len(statement), len(rule))):
            first = position == 0
            left = statement[position] if position < len(statement) else ""
            right = rule[position] if position < len(rule) else ""
            head = f"{claim.id:>4}  {outcome.verdict:<12}" if first else " " * 18
            lines.append(f"{head}  {left:<{width}}  {_measured(outcome) if first else '':<24}  {right}".rstrip())
    return "\n".join(lines)


def _measured(outcome: Judgement) -> str:
    if np.isnan(outcome.statistic):
        return "-"
    value = _short(outcome.statistic)
    bounds = (outcome.low, outcome.high)
    if all(np.isnan(bound) for bound in bounds):
        return value
    return f"{value} [{', '.join('..' if np.isnan(bound) or np.isinf(bound) else _short(bound) for bound in bounds)}]"


def _short(value: float) -> str:
    """Three significant digits: what holds on another processor."""
    text = f"{value:.3g}"
    return "0" if float(text) == 0 else text


def worst(judgements: Iterable[Judgement], threshold: str = "") -> Judgement:
    """Combine the parts of a claim that must all hold: the least favourable verdict wins.

    "refuted" beats "not judged" beats "inconclusive" beats "holds". Among parts with the deciding verdict the one with
    the least distance from its threshold decides, distances below it being negative: the part nearest to failing, or
    the one that fails most clearly. Parts without a distance come after those with one, in the order given. The numbers
    are those of the deciding part.

    Args:
        judgements: at least one.
        threshold: replaces the deciding part's own description, if given.

    Raises:
        ValueError: `judgements` is empty.

    Example:
        >>> close = Judgement("holds", 5.1, threshold="value >= 5", distance=0.02)
        >>> worst([Judgement("holds", 9.0, threshold="share >= 3", distance=2.0), close]).statistic
        5.1
    """
    parts = list(judgements)
    if not parts:
        raise ValueError("`judgements` must hold at least one part, got none.")
    order = {verdict: rank for rank, verdict in enumerate(("refuted", "not judged", "inconclusive", "holds"))}
    deciding = min(parts, key=lambda part: (order[part.verdict], np.inf if np.isnan(part.distance) else part.distance))
    return replace(deciding, threshold=threshold or deciding.threshold)
