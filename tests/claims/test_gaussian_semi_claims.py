"""The checks of self-training on two Gaussians: each accepts the right formula and is refused every wrong one."""

import numpy as np
import pytest

from lt_lib.claims import gaussian_semi as checks
from lt_lib.claims._ranks import rank_correlation
from lt_lib.theory import gaussian_semi as theory

CHECKS = {check.claim.id: check for check in checks.CHECKS}


def test_all_rows_are_there_in_order():
    assert list(CHECKS) == [110, 111, 112, 113, 114]


@pytest.mark.parametrize("profile", ["quick", "small", "paper"])
@pytest.mark.parametrize("row", [110, 111, 112, 113, 114])
def test_the_right_formulas_are_accepted_at_every_profile(row, profile):
    assert CHECKS[row].run(profile, np.random.default_rng(7)).verdict == "holds"


def test_rank_correlation_agrees_with_scipy(rng):
    from scipy.stats import spearmanr

    x, y = rng.integers(0, 5, 30), rng.standard_normal(30)
    assert rank_correlation(x, y) == pytest.approx(spearmanr(x, y).statistic)
    assert rank_correlation([1, 2, 3], [4, 4, 4]) == 0.0


# Row 110


@pytest.mark.false_world(110)
@pytest.mark.parametrize(
    "rule",
    [
        checks.product_rule,
        lambda x, mu1, mu2: -checks.midpoint_rule(x, mu1, mu2),
        lambda x, mu1, mu2: np.sign(x),
        lambda x, mu1, mu2: np.sign(x - mu1),
        lambda x, mu1, mu2: np.sign(x - (mu1 - mu2) / 2),
        lambda x, mu1, mu2: np.sign(x - (mu1 + mu2) / 2 - 0.002),
        lambda x, mu1, mu2: np.sign(np.abs(x - mu2) - (mu1 - mu2) / 2),  # right between the means, wrong far left
    ],
)
def test_a_wrong_rule_is_refused(rule, rng):
    measured = checks.measure_threshold("quick", rng, rule=rule)
    assert CHECKS[110].judge(measured).verdict == "refuted"


def test_error_of_the_rule_is_the_closed_form(rng):
    measured = checks.measure_threshold("quick", rng)
    exact = [theory.threshold_error(world, world.midpoint) for world in checks.WORLDS]
    assert measured["error"] == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("row", [110, 111, 112])
def test_the_number_shown_is_the_claims_own(row, rng):
    shown = {110: "grid steps from the best threshold", 111: "samples of 4 more than 1e-12 off", 112: "exact coverage"}
    assert CHECKS[row].run("quick", rng).threshold.startswith(shown[row])


@pytest.mark.false_world(110)
def test_a_rule_at_the_right_place_that_costs_too_much_is_refused(rng):
    measured = checks.measure_threshold("quick", rng)
    judged = CHECKS[110].judge(measured | {"error": measured["error"] + 1e-5})
    assert (judged.verdict, judged.threshold[:21]) == ("refuted", "error above the least")


# Row 111


@pytest.mark.false_world(111)
@pytest.mark.parametrize("deviation", [1e-11, np.nan, 1.0])
def test_one_sample_off_the_definition_is_enough(deviation):
    assert CHECKS[111].judge(np.array([0.0, 1e-15, deviation, 0.0])).verdict == "refuted"
    assert CHECKS[111].judge(np.array([0.0, 1e-15, 0.0, 0.0])).verdict == "holds"


@pytest.mark.false_world(111)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda x, y: float(x.mean()),
        lambda x, y: float(x[y > 0].mean() + x[y < 0].mean()),
        lambda x, y: float(x[y > 0].mean() - x[y < 0].mean()) / 2,
        lambda x, y: float(x[y > 0].sum() / len(x) + x[y < 0].sum() / len(x)) / 2,
        lambda x, y: float(np.median(x[y > 0]) + np.median(x[y < 0])) / 2,
    ],
)
def test_a_wrong_estimator_is_refused(wrong, rng):
    assert CHECKS[111].judge(checks.measure_estimator("quick", rng, estimator=wrong)).verdict == "refuted"


# Row 112


@pytest.mark.false_world(112)
@pytest.mark.parametrize(
    "gap", [lambda p, q: 0.0, lambda p, q: q - p, lambda p, q: 2 * (p - q), lambda p, q: (p - q) / 2, lambda p, q: p]
)
def test_a_wrong_gap_is_refused(gap, rng):
    assert CHECKS[112].judge(checks.measure_theorem("quick", rng, gap=gap)).verdict == "refuted"


@pytest.mark.false_world(112)
@pytest.mark.parametrize(
    "wrong", [checks.recall_gap, lambda quality: 0.0, lambda quality: -checks.precision_gap(quality)]
)
def test_recalls_in_place_of_precisions_are_refused(wrong, rng):
    measured = checks.measure_theorem("quick", rng, gap_of_quality=wrong)
    assert CHECKS[112].judge(measured).verdict == "refuted"


def bound_with(factors=(1.0, 1.0, 1.0), counts=lambda a, b: (a * b / (a + b), a, b)):
    """The bound with its three exponents multiplied, or with other counts in them."""

    def bound(model, n_plus, n_minus, delta):
        sizes = counts(n_plus, n_minus)
        rates = (2 * sizes[0] / model.sigma**2, *(8 * n / (model.mu1 - model.mu2) ** 2 for n in sizes[1:]))
        return 1 - sum(2 * np.exp(-f * r * np.square(delta) / 9) for f, r in zip(factors, rates, strict=True))

    return bound


def test_the_bound_written_out_here_is_the_right_one(rng):
    assert CHECKS[112].judge(checks.measure_theorem("quick", rng, bound=bound_with())).verdict == "holds"
    model = theory.TwoGaussians(3.0, 0.0, 2.0)
    here, there = (bound(model, 70, 300, 0.9) for bound in (bound_with(), checks.library_bound))
    assert here == pytest.approx(there, rel=1e-12)


@pytest.mark.false_world(112)
@pytest.mark.parametrize(
    "bound",
    [
        bound_with((9.0, 9.0, 9.0)),  # delta not shared between the three terms
        bound_with((np.inf, 1.0, 1.0)),  # no noise in the inputs
        bound_with((1.0, np.inf, np.inf)),  # labels that are always right
        bound_with((36.0, 1.0, 1.0)),
        bound_with((1.0, 100.0, 100.0)),
        bound_with(counts=lambda a, b: (a + b, a, b)),
        bound_with(counts=lambda a, b: (a * b / (a + b), a + b, a + b)),
    ],
)
def test_a_bound_that_promises_too_much_is_refused(bound, rng):
    assert CHECKS[112].judge(checks.measure_theorem("quick", rng, bound=bound)).verdict == "refuted"


@pytest.mark.false_world(112)
@pytest.mark.parametrize(("name", "change"), [("sampled", -0.55), ("exact", -0.55), ("exact", -0.002)])
def test_coverage_below_the_bound_is_refused(name, change, rng):
    measured = checks.measure_theorem("quick", rng)
    measured[name] = measured[name] + change
    assert CHECKS[112].judge(measured).verdict == "refuted"


# Row 113


def fair_learner(model, n_plus, n_minus, draws, rng):
    """Discriminant analysis that ignores the class shares: the midpoint of the sample means."""
    plus = model.mu1 + model.sigma / np.sqrt(n_plus) * rng.standard_normal(draws)
    minus = model.mu2 + model.sigma / np.sqrt(n_minus) * rng.standard_normal(draws)
    return (plus + minus) / 2


def reversed_learner(model, n_plus, n_minus, draws, rng):
    """More balanced the more imbalanced its training set."""
    return theory.sample_base_thresholds(model, n_plus, n_minus, draws, rng) * 0 + n_plus / n_minus


@pytest.mark.false_world(113)
@pytest.mark.parametrize("learner", [fair_learner, reversed_learner])
def test_a_learner_without_or_with_reversed_effect_is_refused(learner, rng):
    measured = checks.measure_training_imbalance("quick", rng, learner=learner)
    assert CHECKS[113].judge(measured).verdict == "refuted"


@pytest.mark.false_world(113)
@pytest.mark.parametrize(
    "gap",
    [checks.recall_gap, lambda quality: -checks.precision_gap(quality), lambda quality: 0 * quality.labelled_plus],
)
def test_a_bias_explained_by_a_wrong_gap_is_refused(gap, rng):
    measured = checks.measure_training_imbalance("quick", rng, gap_of_quality=gap)
    assert CHECKS[113].judge(measured).verdict == "refuted"


@pytest.mark.false_world(113)
@pytest.mark.parametrize("name", ["bias", "real_bias"])
def test_both_biases_must_grow(name, rng):
    measured = checks.measure_training_imbalance("quick", rng)
    assert CHECKS[113].judge(measured | {name: measured[name][::-1]}).verdict == "refuted"
    assert CHECKS[113].judge(measured | {name: 0 * measured[name]}).verdict == "refuted"


# Row 114


@pytest.mark.false_world(114)
@pytest.mark.parametrize(
    "size", [lambda a, b: a + b, lambda a, b: 2 * a * b / (a + b), np.minimum, lambda a, b: np.sqrt(a * b) / 2]
)
def test_a_wrong_pair_size_is_refused(size, rng):
    measured = checks.measure_unlabelled_imbalance("quick", rng, pair_size=size)
    assert CHECKS[114].judge(measured).verdict == "refuted"


@pytest.mark.false_world(114)
@pytest.mark.parametrize(
    "counts",
    [
        lambda a, b: (a + b, a + b, a + b),  # only the total counts
        lambda a, b: ((a + b) ** 2 / (a * b), a + b, a + b),  # the ratio upside down
    ],
)
def test_a_bound_blind_to_the_ratio_or_reversed_is_refused(counts, rng):
    measured = checks.measure_unlabelled_imbalance("quick", rng, bound=bound_with(counts=counts))
    assert CHECKS[114].judge(measured).verdict == "refuted"


@pytest.mark.false_world(114)
@pytest.mark.parametrize("name", ["failure", "sampled_failure", "promised_failure"])
def test_a_failure_without_or_with_reversed_effect_is_refused(name, rng):
    measured = checks.measure_unlabelled_imbalance("quick", rng)
    assert CHECKS[114].judge(measured | {name: measured[name][::-1]}).verdict == "refuted"
    assert CHECKS[114].judge(measured | {name: np.full_like(measured[name], measured[name][0])}).verdict == "refuted"


def test_one_fall_is_enough_to_refuse_a_failure_that_should_rise(rng):
    measured = checks.measure_unlabelled_imbalance("quick", rng)
    for name in ("failure", "promised_failure"):
        dented = measured[name].copy()
        dented[1] = dented[0] - 1e-5
        assert rank_correlation(checks.UNLABELLED_RATIOS, dented) > 0.9
        assert (
            CHECKS[114].judge(measured | {name: dented}).threshold == f"smallest rise of {name.replace('_', ' ')} >= 0"
        )


def test_a_rise_within_its_error_is_refused(rng):
    measured = checks.measure_unlabelled_imbalance("quick", rng)
    ratios = np.arange(len(measured["failure"]))
    faint = {"failure": 0.1 + 1e-5 * ratios, "sampled_failure": 0.1 + 1e-5 * ratios}
    judged = CHECKS[114].judge(measured | faint)
    assert (judged.verdict, judged.threshold) == ("refuted", "rise of the sampled failure - 4 s.e. >= 0")


def test_exact_and_sampled_coverage_are_judged_each_by_itself():
    whole = {"bound": np.array([0.9, 0.9]), "sampled": np.array([0.9, 0.95]), "exact": np.array([0.9, np.nan])}
    assert CHECKS[112].judge(whole).verdict == "holds"
    # Below the bound by less than the sample can tell: only the exact coverage sees it.
    judged = CHECKS[112].judge(whole | {"exact": np.array([0.899, np.nan])})
    assert (judged.verdict, judged.threshold) == ("refuted", "exact coverage - bound >= 0")
    judged = CHECKS[112].judge(whole | {"sampled": np.array([0.9, 0.88])})
    assert (judged.verdict, judged.threshold) == ("refuted", "sampled coverage + 4 s.e. - bound >= 0")
    judged = CHECKS[112].judge(whole | {"sampled": np.array([0.95, 0.95])})
    assert (judged.verdict, judged.threshold) == ("refuted", "standard errors between sampled and exact <= 4")
