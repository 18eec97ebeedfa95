"""The checks of the self-supervised Gaussian model: each accepts the right formula and refuses wrong ones."""

import numpy as np
import pytest

from lt_lib.claims import gaussian_self as checks
from lt_lib.theory import gaussian_self as model

CHECKS = {check.claim.id: check for check in checks.CHECKS}


def test_all_rows_are_there_in_order_and_at_every_profile():
    assert list(CHECKS) == [123, 124, 125, 126, 127]
    assert {check.profiles for check in CHECKS.values()} == {("quick", "small", "paper")}


@pytest.mark.parametrize("row", [123, 124, 125, 126])
def test_the_right_formulas_are_accepted(row, rng):
    assert CHECKS[row].run("paper", rng).verdict == "holds"


# Row 123


def forgets_k2(positives, negatives, tests, k1, k2):
    threshold = model.midpoint(k1 * np.sum(positives**2, axis=1), k1 * np.sum(negatives**2, axis=1))
    return model.squared_norm_feature(tests, k1, k2) < threshold


def fixed_threshold(positives, negatives, tests, k1, k2):
    return np.sum(tests**2, axis=1) < 2 * tests.shape[1]


def feature_without_square(positives, negatives, tests, k1, k2):
    parts = [np.linalg.norm(x, axis=1) for x in (positives, negatives, tests)]
    return parts[2] < model.midpoint(parts[0], parts[1])


def always_negative(positives, negatives, tests, k1, k2):
    return np.zeros(len(tests), dtype=bool)


@pytest.mark.false_world(123)
@pytest.mark.parametrize("decide", [forgets_k2, fixed_threshold, feature_without_square, always_negative])
def test_another_classifier_is_refused(decide, rng):
    assert CHECKS[123].judge(checks.measure_representation("quick", rng, decide=decide)).verdict == "refuted"


def test_one_changed_decision_is_enough_to_refuse(rng):
    measured = checks.measure_representation("quick", rng)
    assert CHECKS[123].judge(measured | {"changed": 1}).verdict == "refuted"


# Row 124


def linear_verdicts(rng, **world):
    parts = checks.linear_parts(checks.measure_linear("quick", rng, **world))
    return {name: part.verdict for name, part in parts.items()}


@pytest.mark.false_world(124)
def test_offsets_below_zero_are_refused(rng):
    verdicts = linear_verdicts(rng, offsets=np.r_[-np.inf, checks.OFFSETS])
    assert verdicts["theorem"] == "refuted"
    assert verdicts["sample 0"] == "holds"


def test_a_mean_away_from_zero_is_refused_although_the_formula_is_right(rng):
    verdicts = linear_verdicts(rng, mean_distance=6.0)
    assert verdicts.pop("theorem") == "refuted"
    assert set(verdicts.values()) == {"holds"}


def swapped_classes(a, v, p, *, mean_shift):
    return model.linear_error(-np.asarray(a), v, p, mean_shift=mean_shift)


def swapped_variances(a, v, p, *, mean_shift):
    return p + (1 - 2 * p) * model.linear_error(a, v, 0.5)


@pytest.mark.parametrize("error", [swapped_classes, swapped_variances])
def test_a_wrong_linear_error_is_refused(error, rng):
    assert "refuted" in {v for name, v in linear_verdicts(rng, error=error).items() if name.startswith("sample")}


# Row 125


def altered(positive=None, negative=None, scale=None):
    """The bound with other class bounds, as functions of (v, d, g)."""

    def bound(v, d, delta, p):
        right = model.error_bound(v, d, delta, p)
        g = v - 1 - (1 + v) * np.asarray(delta)
        on_positives = right.on_positives if positive is None else positive(v, d, g)
        on_negatives = right.on_negatives if negative is None else negative(v, d, g)
        total = p * on_positives + (1 - p) * on_negatives
        return model.ErrorBound(total, on_positives, on_negatives, right.exponential_branch)

    return bound


def theorem_three_refusals(**world):
    measured = checks.measure_theorem_three("quick", np.random.default_rng(0), num_draws=200, **world)
    assert CHECKS[125].judge(measured).verdict == "refuted"
    return {name for name, part in checks.theorem_three_parts(measured).items() if part.verdict == "refuted"}


@pytest.mark.false_world(125)
def test_a_bound_without_v_squared_is_refused():
    refused = theorem_three_refusals(bound=altered(negative=lambda v, d, g: np.exp(-d * g**2 / 32)))
    assert refused == {"coverage, total", "coverage, on_negatives", "tail, on_negatives"}


def test_swapped_branches_show_only_in_the_positive_class():
    def swapped(v, d, g):
        return np.where(g > 2, np.exp(-d * g**2 / 32), np.exp(-d * g / 16))

    refused = theorem_three_refusals(bound=altered(positive=swapped))
    assert "tail, on_positives" in refused
    assert refused <= {"tail, on_positives", "coverage, on_positives"}


@pytest.mark.parametrize(
    ("wrong", "part"),
    [
        ({"positive": lambda v, d, g: np.where(g > 2, np.exp(-d * g / 8), np.exp(-d * g**2 / 32))}, "on_positives"),
        ({"positive": lambda v, d, g: np.where(g > 2, np.exp(-d * g / 16), np.exp(-d * g**2 / 16))}, "on_positives"),
        ({"negative": lambda v, d, g: np.exp(-d * g**2 / (8 * v**2))}, "on_negatives"),
        ({"negative": lambda v, d, g: np.exp(-d * g**2 / (32 * v))}, "on_negatives"),
    ],
)
def test_a_wrong_constant_in_an_exponent_is_refused(wrong, part):
    assert f"tail, {part}" in theorem_three_refusals(bound=altered(**wrong))


def test_a_wrong_constant_in_the_probability_is_refused():
    def half(d, delta, n_pos, n_neg):
        return 2 * np.exp(-n_neg * d * delta**2 / 4) + 2 * np.exp(-n_pos * d * delta**2 / 4)

    assert theorem_three_refusals(failure=half) == {"window"}


def test_a_probability_that_ignores_a_class_is_refused():
    assert "window" in theorem_three_refusals(failure=lambda d, delta, p, n: 4 * np.exp(-n * d * delta**2 / 8) + 0 * p)


# Row 126


@pytest.mark.false_world(126)
@pytest.mark.parametrize(
    "error",
    [
        lambda v, d, n_pos, n_neg, p: 1 / d,
        lambda v, d, n_pos, n_neg, p: 0.1 + 0 * d,
        lambda v, d, n_pos, n_neg, p: np.exp(0.001 * d - 3),
        lambda v, d, n_pos, n_neg, p: p + (1 - 2 * p) * model.expected_error(v, d, n_pos, n_neg, p),
    ],
)
def test_a_decay_that_is_not_exponential_is_refused(error, rng):
    assert CHECKS[126].judge(checks.measure_decay("quick", rng, error=error)).verdict == "refuted"


def test_a_threshold_at_the_positives_mean_is_refused(rng):
    def error(v, d, n_pos, n_neg, p):
        return model.classifier_error(d, v, d, p)

    assert CHECKS[126].judge(checks.measure_decay("quick", rng, error=error)).verdict == "refuted"


# Row 127


def falling(n_pos):
    return np.exp(-np.asarray(n_pos, dtype=float))


def imbalance_verdicts(**world):
    measured = checks.measure_imbalance("quick", np.random.default_rng(0), **world)
    return {name: part.verdict for name, part in checks.imbalance_parts(measured).items()}


def test_it_is_beta_that_refuses_the_row():
    verdicts = imbalance_verdicts()
    assert {name for name, verdict in verdicts.items() if verdict == "refuted"} == {"beta, bound", "beta, drawn"}
    assert {verdicts[f"N+, {name}"] for name in checks.FAILURES} == {"holds"}


def scaled(v, d, delta, n_pos, n_neg):
    """A failure in which beta has a part as well as the counts."""
    return model.failure_bound(d, delta, n_pos, n_neg) / np.asarray(v)


def spread_by_beta(v, d, delta, n_pos, n_neg, num_draws, rng):
    return checks.simulate_window(v, d, delta, round(20 / (1 + v)), 10, num_draws, rng)


def test_a_world_in_which_beta_sets_the_probability_too_is_accepted(rng):
    measured = checks.measure_imbalance("quick", rng, bound=scaled, simulate=spread_by_beta)
    assert CHECKS[127].judge(measured).verdict == "holds"
    for part in ({"bound": scaled}, {"simulate": spread_by_beta}):
        assert CHECKS[127].judge(checks.measure_imbalance("quick", rng, **part)).verdict == "refuted"


@pytest.mark.false_world(127)
@pytest.mark.parametrize("part", ["bound", "window", "conclusion"])
def test_a_failure_that_counts_do_not_move_is_refused(part):
    def still(v, d, x, n_pos, n_neg, **_):
        return 0.5 + 0 * np.asarray(n_pos) * np.asarray(v)

    verdicts = imbalance_verdicts(**{part: still, "simulate": spread_by_beta})
    assert verdicts.pop(f"N+, {part}") == "refuted"
    assert verdicts["beta, drawn"] == "holds"


@pytest.mark.parametrize("name", ["bound", "window", "conclusion"])
def test_one_world_that_counts_do_not_move_is_enough(name, rng):
    measured = checks.measure_imbalance("quick", rng, bound=scaled, simulate=spread_by_beta)
    still = [*measured[name][:-1], 0 * measured[name][-1] + 0.5]
    assert CHECKS[127].judge(measured | {name: still}).verdict == "refuted"


@pytest.mark.false_world(127)
def test_the_variance_ratio_in_place_of_the_counts_is_refused(rng):
    def printed(v, d, delta, n_pos, n_neg):
        total = np.asarray(n_pos) + np.asarray(n_neg)
        return 2 * np.exp(-total / (1 + v) * d * delta**2 / 8)

    measured = checks.measure_imbalance("quick", rng, bound=printed, simulate=spread_by_beta)
    verdicts = {name: part.verdict for name, part in checks.imbalance_parts(measured).items()}
    assert verdicts["beta, bound"] == verdicts["beta, drawn"] == "holds"
    assert verdicts["N+, bound"] == "refuted"
    assert CHECKS[127].judge(measured).verdict == "refuted"


def test_bound_and_event_fall_to_balance_and_the_conclusion_does_not(rng):
    verdicts = {name: part.verdict for name, part in
                checks.falling_to_balance(checks.measure_imbalance("quick", rng)).items()}  # fmt: skip
    assert verdicts == {"bound": "holds", "window": "holds", "conclusion": "refuted"}
    measured = checks.measure_imbalance("quick", rng, conclusion=lambda v, d, x, n_pos, n_neg, *, prior: falling(n_pos))
    assert checks.falling_to_balance(measured)["conclusion"].verdict == "holds"


def test_the_failure_of_the_conclusion_is_right_where_draws_can_see_it(rng):
    level = 1.1 * float(model.classifier_error(60, 5.0, 20, 0.1))
    n_pos = np.array([2, 5, 15])
    exact = model.exceedance(level, 5.0, 20, n_pos, 30 - n_pos, 0.1)
    t = model.draw_thresholds(5.0, 20, n_pos, 30 - n_pos, 50_000, rng)
    drawn = (model.classifier_error(t, 5.0, 20, 0.1) > level).mean(axis=1)
    np.testing.assert_array_less(np.abs(drawn - exact), 4 * np.sqrt(exact * (1 - exact) / 50_000))
    assert np.argmin(exact) == 1  # N-/N+ = v, not balance
