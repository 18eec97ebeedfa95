"""Every check of CReST's definitions and table refuses a wrong formula or an altered table."""

import numpy as np
import pytest

from lt_lib import counts
from lt_lib.claims import crest_tables as crest
from lt_lib.claims import published
from lt_lib.data import labelled_counts
from lt_lib.training.crest import inclusion_rates

CHECKS = {check.claim.id: check for check in crest.CHECKS}


def test_all_rows_are_there_and_hold(rng):
    assert list(CHECKS) == [34, 38, 39, 40, 41, 47, 48]
    for profile in ("quick", "small", "paper"):
        assert {row: check.run(profile, rng).verdict for row, check in CHECKS.items()} == dict.fromkeys(CHECKS, "holds")


def test_rates_and_counts_of_the_papers_setting():
    sizes = counts.exponential_counts(5000, 10, 100)
    expected = [0.215, 0.255, 0.303, 0.359, 0.426, 0.506, 0.600, 0.711, 0.843, 1.0]
    assert inclusion_rates(sizes, 1 / 3) == pytest.approx(expected, abs=1e-3)
    labelled = labelled_counts(sizes, 0.1)
    assert labelled.tolist() == [500, 300, 180, 108, 65, 39, 24, 14, 9, 5]
    assert labelled_counts(np.array([10, 20]), 0.3).tolist() == [3, 6]


def judged(row, **wrong):
    measure = {34: crest.measure_split, 41: crest.measure_split, 47: crest.measure_table, 48: crest.measure_table}
    return CHECKS[row].judge(measure.get(row, crest.measure_rates)("quick", np.random.default_rng(0), **wrong)).verdict


@pytest.mark.false_world(34, 41)
def test_other_splits_are_refused():
    def equal_per_class(sizes, fraction):
        return np.full_like(sizes, fraction * sizes.sum() / len(sizes))

    def reversed_shares(sizes, fraction):
        return labelled_counts(sizes, fraction)[::-1].copy()

    def twice(sizes, fraction):
        return labelled_counts(sizes, 2 * fraction)

    assert judged(34, split=reversed_shares) == judged(34, split=twice) == "refuted"
    assert judged(41, split=reversed_shares) == judged(41, split=equal_per_class) == "refuted"


@pytest.mark.false_world(38, 39, 40)
@pytest.mark.parametrize(
    ("wrong", "refused"),
    [
        (lambda n, a: (np.asarray(n) / n[0]) ** a, {38, 40}),  # the index not mirrored
        (lambda n, a: (np.asarray(n)[::-1] / n[0]) ** (1 / a if a else 0), {38, 39, 40}),  # the code's flag as exponent
        (lambda n, a: np.asarray(n)[::-1] / n[0] + 0 * a, {38, 39, 40}),  # as printed, without the exponent (E11)
        (lambda n, a: (np.asarray(n)[::-1] / n[0]) ** (1 + a), {38, 39, 40}),
    ],
)
def test_other_rates_are_refused(wrong, refused):
    assert {row for row in (38, 39, 40) if judged(row, rates=wrong) == "refuted"} >= refused


@pytest.mark.false_world(47, 48)
@pytest.mark.parametrize("change", [lambda value: 100 - value, lambda value: value * 0 + 50.0])
def test_reversed_and_levelled_tables_are_refused(change):
    def load(name):
        table = published(name)
        return table.assign(value=change(table.value))

    assert judged(47, load=load) == judged(48, load=load) == "refuted"


@pytest.mark.false_world(47, 48)
def test_one_wrong_cell_is_refused():
    def load(name):
        table = published(name)
        cell = (table.table == "crest") & (table.method == "CReST+") & (table.dataset == "cifar10")
        cell &= (table.ratio == 100) & (table.setting == "label_fraction=0.1")
        table.loc[cell, "value"] += 5.2
        return table

    assert judged(48, load=load) == "refuted"
    assert judged(47, load=load) == "refuted"
