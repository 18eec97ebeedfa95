"""Checks on FixMatch, CReST and CReST+: rows 32, 33, 35-37, 42-46, 49, 50 and 116 of the ledger.

The trainings are of small networks in one Gaussian world. It was chosen so that FixMatch beats training on the labels
alone, before any arm of CReST was looked at, and was not changed afterwards. It can therefore not show that FixMatch
does: row 36, and FixMatch's part of row 116, are judged on settings that others ran. Rows that speak of the published
table are judged on it as well.

At the other profiles the rows of measured runs on images take the place of the Gaussian world. Runs that are much
shorter than the published ones can leave pseudo-labels without effect; what such runs say of CReST is inconclusive.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import wraps

import numpy as np
import numpy.typing as npt

from lt_lib.claims import _crest_runs as trainings
from lt_lib.claims._crest_runs import CONSTANT, CONTROL, FIXMATCH, PLAIN, Arm, Array, Measured
from lt_lib.claims._printed import printed_difference
from lt_lib.claims._ranks import rank_correlation
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.measured import MINIMUM_PAIRS
from lt_lib.claims.rules import at_least, at_most, positive_effect, published_and_ours

# A third of ten classes, at either end.
THIRD = 3


def gain(measured: Measured, arm: str, reference: str) -> Array:
    """Balanced test accuracy of one arm less that of another, in points, by seed."""
    return measured.arms[arm].accuracy() - measured.arms[reference].accuracy()


def macro_f1(precision: npt.ArrayLike, recall: npt.ArrayLike) -> Array:
    r"""Mean over classes of the harmonic mean of precision and recall, in percent.

    .. math:: F_1 = \frac{2 P R}{P + R}

    A class that is never predicted has no precision (NaN) and counts as 0, as one whose every prediction is wrong.

    Args:
        precision: fractions or NaN `(..., classes)`.
        recall: fractions `(..., classes)`.

    Example:
        >>> float(macro_f1([0.5, float("nan")], [1.0, 0.0]).round(1))
        33.3
    """
    p, r = np.nan_to_num(np.asarray(precision, dtype=float)), np.nan_to_num(np.asarray(recall, dtype=float))
    return 100 * (2 * p * r / np.where(p + r > 0, p + r, 1.0)).mean(axis=-1)


def pool_f1(arm: Arm) -> Array:
    """Macro F1 of the pseudo-labels on the pool, in percent, `(seeds, generations)`."""
    return macro_f1(arm.pool_precision, arm.pool_recall)


def count_correlation(class_counts: Array, values: Array) -> Array:
    """Rank correlation of class counts and a measure by seed; classes where the measure is undefined are left out.

    Args:
        class_counts: `(classes,)`.
        values: `(seeds, classes)`, NaN where undefined.
    """
    return np.array([rank_correlation(class_counts[~np.isnan(row)], row[~np.isnan(row)]) for row in values])


def third_gains(measured: Measured, arm: str, reference: str) -> tuple[Array, Array]:
    """Gains of test recall in the most frequent and in the rarest three classes, in points, by seed."""
    change = 100 * (measured.arms[arm].test_recall - measured.arms[reference].test_recall[:, -1:])[:, -1]
    return change[:, :THIRD].mean(axis=1), change[:, -THIRD:].mean(axis=1)


def _pattern(measured: Measured, arm: str, minimum: float) -> list[Judgement]:
    """On the balanced test set recall rises and precision falls with the count, by more than `minimum` in rank."""
    last, sizes = measured.arms[arm], measured.class_counts
    rises = count_correlation(sizes, last.test_recall[:, -1])
    falls = -count_correlation(sizes, last.test_precision[:, -1])
    return [
        positive_effect(rises, minimum=minimum, unit=f"(Spearman of count and recall, balanced test, {arm})"),
        positive_effect(falls, minimum=minimum, unit=f"(-Spearman of count and precision, balanced test, {arm})"),
    ]


def judge_half_truth(measured: Measured) -> Judgement:
    """Row 32: FixMatch's recall rises and its precision falls with the count, on the balanced test set."""
    return worst(_pattern(measured, FIXMATCH, 0.0))


def judge_pattern(measured: Measured) -> Judgement:
    """Row 33: both rank correlations are at least 0.6, for training on the labels alone and for FixMatch."""
    return worst([*_pattern(measured, "supervised", 0.6), *_pattern(measured, FIXMATCH, 0.6)])


def judge_fixmatch_pattern(measured: Measured) -> Judgement:
    """Row 42: the same for FixMatch alone."""
    return worst(_pattern(measured, FIXMATCH, 0.6))


def judge_trace(measured: dict[str, int]) -> Judgement:
    """Row 35: each training set is the labelled one and all pseudo-labels, the newest."""
    return worst(
        [
            at_most(measured["wrong"], 0, name="samples or labels that differ from the description"),
            at_least(measured["changed"], 1, name="pseudo-labels that changed on the way"),
        ]
    )


def judge_teacher(measured: Measured) -> Judgement:
    """Row 36: FixMatch against the labels alone, in all settings of others; ours too, if not set so that it holds."""
    if measured.chosen:
        return _teachers_of_others(measured)
    ours = positive_effect(gain(measured, FIXMATCH, "supervised"), unit="points (FixMatch - labels alone)")
    return published_and_ours(_teachers_of_others(measured), ours)


def _teachers_of_others(measured: Measured) -> Judgement:
    settings = len(measured.teachers)
    least = float(measured.teachers.min()) if settings else float("nan")
    name = f"least of {settings} gains of FixMatch over the labels alone, measured by others,"
    return printed_difference(least, name)


def judge_selection(measured: Measured) -> Judgement:
    """Row 37: rates rise with rarity, and selecting by them beats including all."""
    order = np.argsort(-measured.class_counts, kind="stable")
    rising = at_least(float(np.diff(measured.rates[order]).min()), 0.0, name="least step of the rate towards rarity")
    effect = positive_effect(gain(measured, "crest", PLAIN), unit="points (CReST - all pseudo-labels)")
    return worst([effect, rising])


def judge_labels(measured: Measured) -> Judgement:
    """Row 43: macro F1 on the pool rises from the first generation to the last."""
    parts = []
    for name in ("crest", "crest+"):
        scores = pool_f1(measured.arms[name])
        parts.append(
            positive_effect(
                scores[:, -1] - scores[:, 0], unit=f"points of macro F1 on the pool ({name}, last - first generation)"
            )
        )
    return worst(parts)


def judge_recall(measured: Measured) -> Judgement:
    """Row 44: the rarest third gains over FixMatch, and gains more than the most frequent third."""
    parts = []
    for name in ("crest", "crest+"):
        head, tail = third_gains(measured, name, FIXMATCH)
        parts.append(positive_effect(tail, unit=f"points of recall (rarest third, {name} - FixMatch)"))
        parts.append(
            positive_effect(tail - head, unit=f"points of recall (rarest - most frequent third, {name} - FixMatch)")
        )
    return worst(parts)


def settings_won(measured: Measured, method: str, other: str) -> Judgement:
    """In how many published settings a method has the higher accuracy; all ten are claimed."""
    won = int((measured.cells.loc[method] > measured.cells.loc[other]).sum())
    return at_least(won, measured.cells.shape[1], name=f"settings of {measured.cells.shape[1]} won by {method}")


def judge_crest(measured: Measured) -> Judgement:
    """Row 45: the printed table, and ours against FixMatch of as many steps in all."""
    ours = positive_effect(gain(measured, "crest", CONTROL), unit="points (CReST - FixMatch, equal steps)")
    return published_and_ours(settings_won(measured, "CReST", "FixMatch"), ours)


def judge_crest_plus(measured: Measured) -> Judgement:
    """Row 46: the printed table, and ours, where both have equally many steps."""
    ours = positive_effect(gain(measured, "crest+", "crest"), unit="points (CReST+ - CReST)")
    return published_and_ours(settings_won(measured, "CReST+", "CReST"), ours)


def judge_folds(measured: dict[str, float]) -> Judgement:
    """Row 49: folds of one set with one profile, other labelled samples; a deviation over five in every cell."""
    return worst(
        [
            at_most(measured["moved"], 0, name="samples by which the sets of two folds differ"),
            at_most(measured["counts"], 0, name="labelled samples of a class by which they differ"),
            at_most(measured["shared"], 0.5, name="labelled samples that two folds share, largest share,"),
            at_most(measured["cells"], 0, name="published cells without deviation over five folds"),
        ]
    )


def judge_progressive(measured: Measured) -> Judgement:
    """Row 50: the schedule is a straight line, and beats aligning by its end point throughout."""
    effect = positive_effect(gain(measured, "crest+", CONSTANT), unit="points (growing - constant alignment)")
    return worst([effect, at_most(measured.schedule, 1e-9, name="deviation of the schedule from a straight line")])


def judge_other_losses(measured: Measured) -> Judgement:
    """Row 116: FixMatch and mean teacher, each against the labels alone; a loss of the untuned one decides nothing.

    In a world that was set so that FixMatch gains, its part is that of row 36: the settings of others.
    """
    names = (FIXMATCH, "mean teacher")
    tuned, untuned = (
        positive_effect(gain(measured, name, "supervised"), unit=f"points ({name} - labels alone)") for name in names
    )
    if measured.chosen:
        tuned = _teachers_of_others(measured)
    if untuned.verdict == "refuted":
        untuned = replace(untuned, verdict="inconclusive", threshold=f"{untuned.threshold}; a loss without tuning")
    return worst([tuned, untuned])


def lacks(measured: Measured, arms: tuple[str, ...], diagnostics: str = "") -> Judgement | None:
    """The judgement that an arm has too few seeds, or that its diagnostics were not kept; None if all is there.

    Args:
        measured: the runs.
        arms: names of those that a rule compares.
        diagnostics: the attribute of `Arm` that it needs; empty if accuracies and recalls do.
    """
    for name in arms:
        seeds = len(measured.arms[name].test_recall) if name in measured.arms else 0
        if seeds < MINIMUM_PAIRS:
            there = f"there {'is' if seeds == 1 else 'are'} {seeds or 'none'}"
            return Judgement("not judged", why=f"needs {MINIMUM_PAIRS} paired seeds of {' and '.join(arms)}; {there}")
        if diagnostics and np.isnan(getattr(measured.arms[name], diagnostics)).all():
            return Judgement("not judged", why=f"the stored rows of {name} hold no {diagnostics.replace('_', ' ')}")
    return None


def under_trained(measured: Measured, arms: tuple[str, ...]) -> Judgement | None:
    """For runs of reduced length: the judgement that their pseudo-labels do not help yet; None where they do.

    They help if every arm is above training on the labels alone in every seed. The numbers are those of the least gain.

    Args:
        measured: the runs.
        arms: those that use pseudo-labels.
    """
    if not measured.reduced:
        return None
    gains = {name: gain(measured, name, "supervised") for name in arms}
    if all((values > 0).all() for values in gains.values()):
        return None
    name = min(gains, key=lambda each: gains[each].mean())
    shown = positive_effect(gains[name], unit=f"points ({name} - labels alone)")
    text = f"under-trained: pseudo-labels are not above the labels alone in every seed; {shown.threshold}"
    return replace(shown, verdict="inconclusive", threshold=text)


def _guarded(row: int, judge: Callable[[Measured], Judgement]) -> Callable[[Measured], Judgement]:
    """The rule of a row, after a look at whether the measured runs can bear it."""
    arms, diagnostics = _NEEDS[row]
    students = tuple(name for name in arms if name.startswith("crest"))

    @wraps(judge)
    def judged(measured: Measured) -> Judgement:
        compared = (*arms, "supervised", FIXMATCH) if students and measured.reduced else arms
        found = lacks(measured, tuple(dict.fromkeys(compared)), diagnostics)
        if found is None and students:
            found = under_trained(measured, (FIXMATCH, *students))
        return found or judge(measured)

    return judged


def _check(row: int, source: str, kind: str, statement: str, rule: str, measure: Callable, judge: Callable) -> Check:
    trained = measure is trainings.measure_runs
    rule_of = _guarded(row, judge) if trained else judge
    return Check(Claim(row, source, kind, statement, rule), measure, rule_of, _ALL, recorded=trained)


# Row -> the arms that its rule compares, and the diagnostics that it looks at besides accuracy and recall.
_NEEDS: dict[int, tuple[tuple[str, ...], str]] = {
    32: ((FIXMATCH,), "test_precision"),
    33: (("supervised", FIXMATCH), "test_precision"),
    36: ((FIXMATCH, "supervised"), ""),
    37: (("crest", PLAIN), ""),
    42: ((FIXMATCH,), "test_precision"),
    43: (("crest", "crest+"), "pool_precision"),
    44: (("crest", "crest+", FIXMATCH), ""),
    45: (("crest", CONTROL), ""),
    46: (("crest+", "crest"), ""),
    50: (("crest+", CONSTANT), ""),
    116: ((FIXMATCH, "mean teacher", "supervised"), ""),
}
_ALL = ("quick", "small", "paper")
CHECKS: tuple[Check, ...] = (
    _check(
        32, "S0 L300", "Q", "That a model does better on frequent classes is only half of the truth.",
        "balanced test, FixMatch: recall rises with the class count, precision falls with it",
        trainings.measure_runs, judge_half_truth,
    ),
    _check(
        33, "S0 L301, L287-296", "E", "Frequent classes have high recall and low precision, rare ones the reverse.",
        "balanced test, labels alone and FixMatch: Spearman of count and recall > 0.6, of count and precision < -0.6",
        trainings.measure_runs, judge_pattern,
    ),
    _check(
        35, "S0 L318-322", "D",
        "Plain self-training trains on the labels, labels the pool with that model, and trains again on both.",
        "each training set is the labelled one and all newest pseudo-labels",
        trainings.measure_trace, judge_trace,
    ),
    _check(
        36, "S0 L328", "E", "A teacher trained semi-supervised is better than one trained on the labels alone.",
        "others: FixMatch gains 1.5 points over the labels alone in every setting with both; ours, equal steps, if "
        "the world was not set so that it does",
        trainings.measure_runs, judge_teacher,
    ),
    _check(
        37, "S0 L330-332", "E",
        "Including more of the pseudo-labels the rarer their class beats including all of them.",
        "rates rise with rarity; CReST gains over self-training with all pseudo-labels",
        trainings.measure_runs, judge_selection,
    ),
    _check(
        42, "S0 L357", "E", "FixMatch shows that pattern of recall and precision.",
        "balanced test: as row 33, FixMatch alone", trainings.measure_runs, judge_fixmatch_pattern,
    ),
    _check(
        43, "S0 L358", "E", "CReST and CReST+ improve the pseudo-labels from generation to generation.",
        "macro F1 on the pool, last generation against first, both methods", trainings.measure_runs, judge_labels,
    ),
    _check(
        44, "S0 L359", "E", "They raise the recall on the balanced test set, most of all for rare classes.",
        "over FixMatch: rarest third gains, and gains more than the most frequent third, both methods",
        trainings.measure_runs, judge_recall,
    ),
    _check(
        45, "S0 L364-365", "E", "CReST beats FixMatch in all ten settings.",
        "published: all ten; ours: gain over FixMatch given as many steps", trainings.measure_runs, judge_crest,
    ),
    _check(
        46, "S0 L365-366", "E", "CReST+ beats CReST in all ten settings.",
        "published: all ten; ours: gain over CReST", trainings.measure_runs, judge_crest_plus,
    ),
    _check(
        49, "S0 L368", "D", "A table cell is the mean over five folds of one long-tailed set.",
        "a fold changes what is labelled, not the set or its profile; every cell has a deviation",
        trainings.measure_folds, judge_folds,
    ),
    _check(
        50, "S0 L358-366", "D",
        "CReST+ is CReST with an alignment of the predictions whose strength grows with the generations.",
        "exponents fall linearly from 1 to their minimum; and it pays: growing alignment gains over constant",
        trainings.measure_runs, judge_progressive,
    ),
    _check(
        116, "S3 L121", "E",
        "Other semi-supervised losses can take the place of pseudo-labels.",
        "FixMatch, as in row 36 where the world was set so that it gains, and mean teacher, untuned, each gain over "
        "the labels alone; refuted if FixMatch loses",
        trainings.measure_runs, judge_other_losses,
    ),
)  # fmt: skip
