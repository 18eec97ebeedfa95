"""Rows 11-18 and 79-81: the checks accept what is true and refuse near-miss formulas and reversed effects."""

import numpy as np
import pytest

from lt_lib.claims import _covering as covering
from lt_lib.claims import effective_number as claims
from lt_lib.theory import effective_number as theory

WRONG_FORMULAS = {
    "exponent n - 1": lambda n, volume: volume * (1 - (1 - 1 / volume) ** (n - 1)),
    "beta = N / (N + 1)": lambda n, volume: (volume + 1) * (1 - (volume / (volume + 1)) ** n),
    "no overlap, cut at N": lambda n, volume: min(n, volume),
    "exponential limit": lambda n, volume: volume * (1 - np.exp(-n / volume)),
}


def rng(seed=0):
    return np.random.default_rng(seed)


def check(number):
    return next(check for check in claims.CHECKS if check.claim.id == number)


def test_rows_are_in_order():
    assert [check.claim.id for check in claims.CHECKS] == [11, 12, 13, 14, 15, 16, 17, 18, 79, 80, 81]


@pytest.fixture(scope="module")
def covered():
    return claims.measure_covering("quick", rng())


@pytest.mark.parametrize("number", [13, 16, 17, 18, 81])
def test_cheap_theory_holds(number):
    assert check(number).run("quick", rng()).verdict == "holds"


@pytest.mark.false_world(79)
def test_covering_rows(covered):
    assert claims.judge_definition(covered).verdict == "holds"
    assert claims.judge_covering(covered).verdict == "holds"
    assert claims.judge_simplification(covered).verdict == "refuted"
    limits = claims.measure_limits("quick", rng())
    assert claims.judge_proposition({"covering": covered, "limits": limits}).verdict == "holds"


@pytest.mark.false_world(14, 15, 80)
@pytest.mark.parametrize("wrong", WRONG_FORMULAS)
def test_covering_refuses_wrong_formulas(wrong, monkeypatch):
    monkeypatch.setattr(claims, "ARCS", claims.ARCS[:2])
    measured = claims.measure_proposition("quick", rng(), WRONG_FORMULAS[wrong])
    assert claims.judge_definition(measured["covering"]).verdict == "refuted"
    assert claims.judge_covering(measured["covering"]).verdict == "refuted"
    assert claims.judge_proposition(measured).verdict == "refuted"
    assert claims.judge_simplification(measured["covering"]).verdict == "holds"


def test_the_simplification_is_not_refuted_by_a_blunt_simulation(covered):
    blunt = [{**row, "standard_error": row["mean"], "distance": 0.0} for row in covered["circle"]]
    assert claims.judge_simplification({"circle": blunt}).verdict == "inconclusive"


@pytest.mark.false_world(13)
@pytest.mark.parametrize("wrong", [lambda v, n: v / (n + 1), lambda v, n: (v - 1) / n, lambda v, n: 0 * v + 0.5])
def test_steps_refuse_wrong_probabilities(wrong):
    assert claims.judge_steps(claims.measure_steps("quick", rng(), wrong)).verdict == "refuted"


@pytest.mark.false_world(16)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda n, beta: np.minimum(n, 5.0),
        lambda n, beta: 1 / theory.expected_volume(n, 1 + 9 * beta),
        lambda n, beta: n.astype(float),
    ],
)
def test_growth_refuses_numbers_that_do_not_grow(wrong):
    assert claims.judge_growth(claims.measure_growth("quick", rng(), wrong)).verdict == "refuted"


@pytest.mark.false_world(17)
def test_induction_refuses_a_shifted_recursion():
    def wrong(n, volume):
        return theory.recursive_volume(n, volume + 1e-6)

    assert claims.judge_induction(claims.measure_induction("quick", rng(), wrong)).verdict == "refuted"


@pytest.mark.false_world(18)
@pytest.mark.parametrize(
    "wrong", [lambda n, beta: n * (1 - beta**n), lambda n, beta: n * 1.0, lambda n, beta: 0 * n + 1]
)
def test_limits_refuse_wrong_formulas(wrong):
    assert claims.judge_limits(claims.measure_limits("quick", rng(), wrong)).verdict == "refuted"


@pytest.mark.false_world(81)
@pytest.mark.parametrize("wrong", [lambda n, volume: n / (1 + n / volume), lambda n, volume: min(n, volume) + 1])
def test_large_volume_refuses_wrong_formulas(wrong):
    assert claims.judge_large_volume(claims.measure_large_volume("quick", rng(), wrong)).verdict == "refuted"


@pytest.mark.false_world(11)
def test_neighbours_refuse_reversed_and_no_effect():
    measured = {"circle": np.stack([covering.circle_neighbours(size, 10, rng(size)) for size in (4, 8, 16)])}
    assert claims.judge_neighbours(measured).verdict == "holds"
    assert claims.judge_neighbours({"circle": measured["circle"][::-1]}).verdict == "refuted"
    same = np.stack([covering.circle_neighbours(8, 10, rng(seed)) for seed in (0, 1)])
    assert claims.judge_neighbours({"circle": same}).verdict == "inconclusive"
    # A space that grows with the sample: nothing comes closer.
    growing = np.stack([size * covering.circle_neighbours(size, 10, rng(size)) for size in (4, 64)])
    assert claims.judge_neighbours({"circle": growing}).verdict != "holds"


def test_neighbours_on_a_circle_have_the_known_mean():
    draws = covering.circle_neighbours(7, 4000, rng())
    assert abs(draws.mean() - 1 / 14) < 4 * draws.std() / np.sqrt(draws.size)


def test_digits_come_closer():
    assert covering.digit_neighbours(8, 2, rng()).mean() > covering.digit_neighbours(64, 2, rng()).mean()


def diminishing(noise=0.2):
    mean = 100 * np.array(claims.CURVE_SIZES, dtype=float) ** -0.5
    return mean[:, None] + noise * rng().standard_normal((len(mean), 10))


def judged(errors, **changes):
    measured = claims.measure_benefit("quick", rng(), curve=lambda _world, _sizes: errors, worlds=["one"], **changes)
    return claims.judge_benefit(measured).verdict


def test_benefit_accepts_a_curve_that_flattens():
    assert judged(diminishing()) == "holds"


@pytest.mark.false_world(12)
def test_benefit_refuses_reversed_and_no_effect():
    linear = 60 - 0.2 * np.array(claims.CURVE_SIZES, dtype=float)[:, None]
    assert judged(linear + 0.2 * rng().standard_normal((len(linear), 10))) != "holds"
    assert judged(100 - diminishing()) == "refuted"


@pytest.mark.false_world(12)
def test_benefit_refuses_wrong_increments():
    assert judged(diminishing(), increments=lambda n, beta: np.ones(n)) == "refuted"
    assert judged(diminishing(), increments=lambda n, beta: theory.volume_increments(n, beta)[::-1]) == "refuted"


@pytest.mark.false_world(12)
def test_benefit_refuses_a_false_world_end_to_end():
    """Trained networks whose first added samples never reach them: the benefit comes late instead of early."""

    def late(world, _sizes):
        first, last = covering.learning_curve(world, (8, 64), num_seeds=2, steps=20)
        return np.stack([first, first, last])

    measured = claims.measure_benefit("quick", rng(), curve=late, worlds=["gaussian"], sizes=(16, 32, 64))
    assert claims.judge_benefit(measured).verdict != "holds"


def test_benefit_is_left_to_quick_runs():
    assert check(12).run("paper", rng()).verdict == "not judged"


def naive_added(starts, new, volume, cells=200_000):
    points = (np.arange(cells) + 0.5) / cells * volume
    covered = np.zeros(cells, dtype=bool)
    for start in starts:
        covered |= np.mod(points - start, volume) < 1
    return (~covered & (np.mod(points - new, volume) < 1)).mean() * volume


def test_added_length_agrees_with_a_raster():
    draws = rng(3).random((6, 4)) * 7.5
    added = covering.added_length(7.5, 4, 6, rng(3))
    # The new arc starts at 0 and sees the others at `draws`.
    assert added == pytest.approx([naive_added(row, 0.0, 7.5) for row in draws], abs=1e-3)
    expected = theory.expected_volume([5], 7.5) - theory.expected_volume([4], 7.5)
    assert covering.added_length(7.5, 4, 100_000, rng()).mean() == pytest.approx(expected[0], abs=0.006)


def test_box_steps_count_the_boxes_before_the_new_sample():
    covered, inside = covering.box_steps(1, 3, 5, rng())
    assert covered.tolist() == [1.0] * 5
    assert inside.all()
    covered, inside = covering.box_steps(50, 10, 4000, rng())
    assert covered.max() <= 10
    assert 1 - inside.mean() == pytest.approx(0.98**10, abs=0.03)


def test_parse_counts():
    assert covering.parse_counts("[50, 3 7]").tolist() == [50, 3, 7]
    for text in ("", "5, -1", "5, 0", "a, 3", "1.5"):
        with pytest.raises(ValueError, match="`class_counts` must be positive whole numbers"):
            covering.parse_counts(text)


def test_weight_span_names_the_warning():
    assert covering.weight_span([5000, 50], 0.5)[1] == "flat"
    assert covering.weight_span([5000, 50], 0.999)[1] == ""
    ratio, warning = covering.weight_span([5000, 50], 1 - 1e-9)
    assert ratio == pytest.approx(100, rel=0.01)
    assert warning == "inverse frequency"
    assert covering.weight_span([3, 2], 0.0) == (1.0, "")
