"""Class-count profiles, effective number, weights and margins against tables, loops and high precision."""

import subprocess
import sys
import warnings

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lt_lib import counts

# Rows of the papers' data sets: nominal ratio, total, realised ratio, some leading and trailing counts.
CIFAR10 = {
    200: (11203, 200.0, [5000, 2775, 1540, 854, 474, 263, 146, 81, 45, 25]),
    100: (12406, 100.0, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),
    50: (13996, 50.0, [5000, 3237, 2096, 1357, 878, 568, 368, 238, 154, 100]),
    20: (17023, 20.0, [5000, 3584, 2569, 1842, 1320, 946, 678, 486, 348, 250]),
    10: (20431, 10.0, [5000, 3871, 2997, 2320, 1796, 1391, 1077, 834, 645, 500]),
}
CIFAR100 = {
    200: (9502, 250.0, [500, 473, 449], [2, 2, 2, 2]),
    100: (10847, 100.0, [500, 477, 455], [5, 5, 5, 5]),
    50: (12608, 50.0, [500, 480, 462], [10, 10, 10]),
    20: (15907, 20.0, [500, 485, 470], [25, 25]),
    10: (19573, 10.0, [500, 488, 477], [51, 50]),
}
PROFILE = st.lists(st.integers(1, 10**6), min_size=1, max_size=30)
BETA = st.one_of(st.sampled_from([0.0, 0.5, 0.9, 0.9999, 1.0 - 1e-15, 1.0]), st.floats(0.0, 1.0))


@pytest.mark.parametrize("ratio", CIFAR10)
def test_exponential_profile_of_cifar10(ratio):
    total, realised, expected = CIFAR10[ratio]
    found = counts.exponential_counts(5000, 10, ratio)
    assert found.tolist() == expected
    assert found.dtype == np.int64
    assert found.sum() == total
    assert counts.imbalance_ratio(found) == realised


@pytest.mark.parametrize("ratio", CIFAR100)
def test_exponential_profile_of_cifar100(ratio):
    total, realised, head, tail = CIFAR100[ratio]
    found = counts.exponential_counts(500, 100, ratio)
    assert found[: len(head)].tolist() == head
    assert found[-len(tail) :].tolist() == tail
    assert found.sum() == total
    assert counts.imbalance_ratio(found) == realised


def test_ratio_one_is_balanced():
    assert counts.exponential_counts(5000, 10, 1).tolist() == [5000] * 10
    assert counts.step_counts(5000, 10, 1).tolist() == [5000] * 10


@given(st.integers(1, 5000), st.integers(2, 40), st.floats(1.0, 500.0))
def test_exponential_profile_is_the_truncated_power(n_max, num_classes, ratio):
    if ratio > n_max:
        return
    found = counts.exponential_counts(n_max, num_classes, ratio)
    assert found[0] == n_max
    assert np.all(np.diff(found) <= 0)
    with mpmath.workdps(40):
        for rank, count in enumerate(found.tolist()):
            exact = n_max / mpmath.mpf(ratio) ** (mpmath.mpf(rank) / (num_classes - 1))
            # Equal to the exact floor, except that a whole number up to rounding counts as that number.
            assert count == int(mpmath.floor(exact + 1e-9 * exact)) or count == int(mpmath.floor(exact))


@pytest.mark.parametrize("whole", [3, 49, 98, 103, 107, 161, 187, 197])
def test_a_whole_count_is_not_cut_to_the_number_below(whole):
    # For several of these, whole * (1 / whole) is just below 1 in binary.
    assert counts.exponential_counts(whole, 5, whole)[-1] == 1
    assert counts.step_counts(whole, 5, whole)[-1] == 1


@pytest.mark.parametrize(
    ("n_max", "num_classes", "ratio", "fraction", "expected"),
    [
        (5000, 10, 100, 0.5, [5000] * 5 + [50] * 5),
        (500, 100, 10, 0.5, [500] * 50 + [50] * 50),
        (5000, 5, 100, 0.5, [5000] * 2 + [50] * 3),
        (70, 3, 7, 0.5, [70, 10, 10]),
        (100, 10, 4, 0.2, [100] * 8 + [25] * 2),
        (100, 100, 4, 0.07, [100] * 93 + [25] * 7),
        (7, 2, 2, 0.5, [7, 3]),
    ],
)
def test_step_profile(n_max, num_classes, ratio, fraction, expected):
    assert counts.step_counts(n_max, num_classes, ratio, fraction).tolist() == expected


def test_step_profile_has_half_minority_by_default():
    assert counts.step_counts(100, 6, 10).tolist() == counts.step_counts(100, 6, 10, 0.5).tolist()


@given(st.integers(2, 60), st.floats(0.01, 0.99))
def test_step_profile_always_has_every_class(num_classes, fraction):
    minority = int(np.ceil(fraction * num_classes - 1e-9))
    if minority == num_classes:
        with pytest.raises(ValueError, match="`minority_fraction` must leave"):
            counts.step_counts(100, num_classes, 10, fraction)
    else:
        found = counts.step_counts(100, num_classes, 10, fraction)
        assert found.size == num_classes
        assert (found == 10).sum() == minority


@pytest.mark.parametrize("profile", [counts.exponential_counts, counts.step_counts])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((5000, 10, 0.01), ValueError, r"`imbalance_ratio` must be a finite number of at least 1.0, got 0.01"),
        ((5000, 10, float("nan")), ValueError, "`imbalance_ratio` must be a finite number"),
        ((5000, 10, float("inf")), ValueError, "`imbalance_ratio` must be a finite number"),
        ((5000, 10, "100"), TypeError, "`imbalance_ratio` must be a real number, got '100'"),
        ((5, 10, 100), ValueError, "`imbalance_ratio` must be at most `n_max` = 5, .* got 100"),
        ((0, 10, 1), ValueError, "`n_max` must be an integer of at least 1, got 0"),
        ((10.5, 10, 1), TypeError, "`n_max` must be an integer, got 10.5"),
        ((10, 1, 1), ValueError, "`num_classes` must be an integer of at least 2, got 1"),
        ((10, True, 1), TypeError, "`num_classes` must be an integer, got True"),
    ],
)
def test_profiles_refuse(profile, arguments, error, message):
    with pytest.raises(error, match=message):
        profile(*arguments)


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.95])
def test_step_profile_needs_both_kinds(fraction):
    with pytest.raises(ValueError, match="`minority_fraction` must leave at least one minority and one majority class"):
        counts.step_counts(100, 10, 10, fraction)


def test_step_profile_refuses_a_fraction_above_one():
    with pytest.raises(ValueError, match=r"`minority_fraction` must be a finite number in \[0.0, 1.0\], got 1.5"):
        counts.step_counts(100, 10, 10, 1.5)


def test_listed_counts_are_a_checked_copy():
    given_counts = np.array([3, 0, 2])
    found = counts.listed_counts(given_counts)
    found[0] = 99
    assert given_counts.tolist() == [3, 0, 2]
    assert counts.listed_counts([5.0, 2.0]).dtype == np.int64


@pytest.mark.parametrize(
    "function",
    [
        counts.listed_counts,
        counts.imbalance_ratio,
        counts.class_prior,
        counts.shot_groups,
        counts.ldam_margins,
        counts.inverse_frequency_weights,
        lambda listed: counts.effective_number(listed, 0.9),
        lambda listed: counts.class_balanced_weights(listed, 0.9),
        lambda listed: counts.class_weights(listed, "none"),
        lambda listed: counts.permute_counts(listed, [0, 1]),
    ],
)
@pytest.mark.parametrize(
    ("listed", "error", "message"),
    [
        ([], ValueError, "`class_counts` must be a vector"),
        ([[1, 2]], ValueError, r"`class_counts` must be a vector with one entry per class, got shape \(1, 2\)"),
        ([3, -1], ValueError, "`class_counts` must be non-negative, got -1 for class 1"),
        ([0, 0], ValueError, "`class_counts` must have at least one sample, got all 2 classes empty"),
        ([[1, 2], [3]], ValueError, "`class_counts` must be a vector with one entry per class, got"),
        ([1.5, 2], ValueError, "`class_counts` must be whole numbers, got 1.5 for class 0"),
        ([1, float("nan")], ValueError, "`class_counts` must be whole numbers, got nan for class 1"),
        ([1, float("inf")], ValueError, "`class_counts` must be whole numbers, got inf for class 1"),
        (["many"], TypeError, "`class_counts` must be whole numbers, got an array of"),
        ([True, False], TypeError, "`class_counts` must be whole numbers, got an array of bool"),
    ],
)
def test_every_function_of_counts_refuses(function, listed, error, message):
    with pytest.raises(error, match=message):
        function(listed)


def test_permutation_hands_the_largest_count_to_the_first_class_of_the_order():
    found = counts.permute_counts([100, 10, 1], [2, 0, 1])
    assert found[2] == 100
    assert found[0] == 10
    assert found[1] == 1
    assert counts.permute_counts([100, 10, 1], [0, 1, 2]).tolist() == [100, 10, 1]


@given(st.permutations(range(6)))
def test_permutation_keeps_the_profile(order):
    profile = counts.exponential_counts(64, 6, 32)
    found = counts.permute_counts(profile, order)
    assert sorted(found.tolist(), reverse=True) == profile.tolist()
    assert found[order].tolist() == profile.tolist()


@pytest.mark.parametrize(
    ("order", "error"),
    [([0, 0, 1], ValueError), ([0, 1], ValueError), ([1, 2, 3], ValueError), ([0.0, 1, 2], TypeError)],
)
def test_permutation_refuses(order, error):
    with pytest.raises(error, match="`class_order` must"):
        counts.permute_counts([3, 2, 1], order)


def test_class_prior_and_shares_of_the_head():
    for n_max, num_classes, share in ((5000, 10, 0.645), (500, 100, 0.613)):
        prior = counts.class_prior(counts.exponential_counts(n_max, num_classes, 100))
        assert prior.sum() == pytest.approx(1.0, abs=1e-15)
        assert prior[: num_classes // 5].sum() == pytest.approx(share, abs=5e-4)


def test_class_prior_of_counts_whose_sum_is_beyond_int64():
    assert counts.class_prior([2**62, 2**62]).tolist() == [0.5, 0.5]
    assert counts.class_prior([2**62, 2**62, 2**62]).sum() == pytest.approx(1.0)


def test_shot_groups_have_open_and_closed_ends():
    groups = counts.shot_groups([101, 100, 20, 19, 0])
    assert {name: found.tolist() for name, found in groups.items()} == {"many": [0], "medium": [1, 2], "few": [3, 4]}
    assert counts.shot_groups([101, 100, 20], many=50, few=30)["few"].tolist() == [2]
    assert counts.shot_groups([500, 400])["few"].size == 0
    with pytest.raises(ValueError, match=r"`few` must be an integer in \[0, 100\], got 200"):
        counts.shot_groups([500, 400], few=200)


def test_imbalance_ratio_refuses_an_empty_class():
    with pytest.raises(
        ValueError, match="`class_counts` must have at least one sample in every class, got 0 for class 1"
    ):
        counts.imbalance_ratio([5, 0])


# Effective number -----------------------------------------------------------------------------------------------------

BETAS = [0.0, 1e-300, 1e-16, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.99, 0.999, 0.9999]
BETAS += [1.0 - 10.0**-power for power in range(5, 16)] + [np.nextafter(1.0, 0.0), 1.0]
SIZES = [1, 2, 3, 7, 10, 100, 999, 12345, 10**6, 10**9, 10**12]


def exact_effective_number(size, beta):
    """The sum in 80 digits, from the same binary number."""
    with mpmath.workdps(80):
        b = mpmath.mpf(beta)
        return mpmath.mpf(size) if b == 1 else (1 - b**size) / (1 - b)


@pytest.mark.parametrize("beta", BETAS)
def test_effective_number_against_high_precision(beta):
    found = counts.effective_number(SIZES, beta)
    assert found.dtype == np.float64
    for size, value in zip(SIZES, found, strict=True):
        exact = exact_effective_number(size, beta)
        assert abs(mpmath.mpf(float(value)) / exact - 1) <= 1e-12, (size, beta)


@given(st.integers(1, 10**12), BETA)
def test_effective_number_against_high_precision_anywhere(size, beta):
    value = counts.effective_number([size], beta)[0]
    assert abs(mpmath.mpf(float(value)) / exact_effective_number(size, beta) - 1) <= 1e-12


def test_the_high_precision_check_rejects_the_naive_formula():
    size, beta = 10**6, 1.0 - 1e-12
    # Exact in the denominator, so that only the numerator's lost digits are on trial.
    naive = (1.0 - beta**size) / (1.0 - beta)
    assert abs(mpmath.mpf(naive) / exact_effective_number(size, beta) - 1) > 1e-12


def test_effective_number_is_the_sum_of_shrinking_contributions():
    for beta in (0.0, 0.5, 0.9):
        for size in (1, 2, 9):
            assert counts.effective_number([size], beta)[0] == pytest.approx(
                sum(beta**j for j in range(size)), rel=1e-14
            )


@given(PROFILE, BETA)
def test_effective_number_is_bounded_and_monotone(profile, beta):
    sizes = np.unique(profile)
    found = counts.effective_number(sizes, beta)
    assert np.all(np.isfinite(found))
    assert np.all(found >= 1.0 - 1e-15)
    assert np.all(found <= sizes * (1 + 1e-15))
    if beta < 1.0:
        assert np.all(found <= 1.0 / (1.0 - beta) * (1 + 1e-15))
    assert np.all(np.diff(found) >= 0)


@given(st.integers(1, 10**6), st.tuples(BETA, BETA))
def test_effective_number_grows_with_beta(size, betas):
    low, high = (counts.effective_number([size], beta)[0] for beta in sorted(betas))
    assert low <= high * (1 + 1e-14)


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999, 1.0])
def test_empty_class_by_policy(beta):
    with pytest.raises(
        ValueError, match="`class_counts` must have at least one sample in every class, got 0 for class 1"
    ):
        counts.effective_number([3, 0], beta)
    assert counts.effective_number([3, 0], beta, empty="zero")[1] == 0.0
    assert counts.effective_number([3, 0], beta, empty="one")[1] == 1.0
    with pytest.raises(
        ValueError, match="`empty` must be one of 'raise', 'zero', 'one', got 'zeros'. Did you mean 'zero'"
    ):
        counts.effective_number([3, 0], beta, empty="zeros")


@pytest.mark.parametrize("beta", [-0.1, 1.0 + 1e-12, float("nan"), 10])
@pytest.mark.parametrize("function", [counts.effective_number, counts.class_balanced_weights])
def test_beta_outside_the_unit_interval(function, beta):
    with pytest.raises(ValueError, match=r"`beta` must be a finite number in \[0.0, 1.0\]"):
        function([10, 1], beta)
    with pytest.raises(TypeError, match="`beta` must be a real number, got None"):
        function([10, 1], None)


# Weights --------------------------------------------------------------------------------------------------------------


@given(PROFILE, BETA)
def test_class_balanced_weights_sum_and_order(profile, beta):
    weights = counts.class_balanced_weights(profile, beta, on_ineffective_beta="ignore")
    assert np.all(np.isfinite(weights))
    assert weights.sum() == pytest.approx(len(profile), rel=1e-12)
    order = np.argsort(profile)
    assert np.all(np.diff(weights[order]) <= 1e-12 * weights.max())


@given(PROFILE, BETA, st.sampled_from(["zero", "one"]))
def test_weights_with_an_empty_class_are_never_nan(profile, beta, empty):
    for weights in (
        counts.class_balanced_weights([*profile, 0], beta, empty=empty, on_ineffective_beta="ignore"),
        counts.inverse_frequency_weights([*profile, 0], empty=empty),
    ):
        assert np.all(np.isfinite(weights))
        assert weights.sum() == pytest.approx(len(profile) + 1, rel=1e-12)
        assert weights[-1] == 0.0 if empty == "zero" else weights[-1] > 0


@pytest.mark.parametrize(
    ("n_max", "num_classes", "beta", "head", "tail"),
    [
        (5000, 10, 0.9, 1.00, 1.00),
        (5000, 10, 0.99, 0.784, 1.984),
        (5000, 10, 0.999, 0.181, 3.69),
        (5000, 10, 0.9999, 0.0506, 3.99),
        (500, 100, 0.9, 0.820, 2.00),
        (500, 100, 0.99, 0.197, 3.98),
        (500, 100, 0.999, 0.0551, 4.34),
        (500, 100, 0.9999, 0.0449, 4.38),
    ],
)
def test_weights_of_the_published_setting(n_max, num_classes, beta, head, tail):
    profile = counts.exponential_counts(n_max, num_classes, 100)
    weights = counts.class_balanced_weights(profile, beta, on_ineffective_beta="ignore")
    assert weights[0] == pytest.approx(head, rel=6e-3)
    assert weights[-1] == pytest.approx(tail, rel=6e-3)


def test_mean_weight_of_a_sample_in_the_published_setting():
    profile = counts.exponential_counts(5000, 10, 100)
    for beta, mean in ((0.9, 0.9995), (0.99, 0.798), (0.999, 0.273), (0.9999, 0.171)):
        weights = counts.class_balanced_weights(profile, beta, on_ineffective_beta="ignore")
        assert np.average(weights, weights=profile) == pytest.approx(mean, abs=6e-4)


def test_limits_of_beta():
    profile = [500, 50, 5]
    flat = counts.class_balanced_weights(profile, 0.0, on_ineffective_beta="ignore")
    inverse = counts.class_balanced_weights(profile, 1.0, on_ineffective_beta="ignore")
    near = counts.class_balanced_weights(profile, 1.0 - 1e-13, on_ineffective_beta="ignore")
    np.testing.assert_allclose(flat, 1.0, rtol=1e-15)
    np.testing.assert_allclose(inverse, counts.inverse_frequency_weights(profile), rtol=1e-14)
    np.testing.assert_allclose(near, inverse, rtol=1e-10)


@pytest.mark.parametrize(("profile", "beta"), [([10**6, 10**5], 0.9999), ([5000, 50], 0.0), ([5000, 500, 50], 0.5)])
def test_flat_weights_warn(profile, beta):
    with pytest.warns(counts.BetaWarning, match="flat for counts from .* only a larger beta"):
        counts.class_balanced_weights(profile, beta)
    with pytest.warns(counts.BetaWarning, match="flat"):
        counts.class_weights(profile, "effective_number", beta=beta)


@pytest.mark.parametrize(("profile", "beta"), [([500, 5], 1.0), ([100, 10, 1], 0.999999)])
def test_inverse_frequency_weights_warn(profile, beta):
    with pytest.warns(counts.BetaWarning, match="within 1 % of inverse frequency .* only a smaller beta"):
        counts.class_balanced_weights(profile, beta)


def test_the_warning_can_be_switched_off_and_is_absent_where_beta_matters():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts.class_balanced_weights([5000, 50], 0.0, on_ineffective_beta="ignore")
        counts.class_weights([5000, 50], "effective_number", beta=0.0, on_ineffective_beta="ignore")
        counts.class_balanced_weights([5000, 50], 0.999)
        counts.class_balanced_weights([50, 50], 0.5)  # balanced: no beta could do anything
        counts.class_balanced_weights([5000, 50, 0], 0.999, empty="zero")
    with pytest.raises(ValueError, match="`on_ineffective_beta` must be one of 'warn', 'ignore', got 'silent'"):
        counts.class_balanced_weights([5, 1], 0.9, on_ineffective_beta="silent")


@given(PROFILE, st.sampled_from([0.0, 0.5, 1.0, 3.0]))
def test_inverse_frequency_against_a_loop(profile, power):
    raw = [float(count) ** -power for count in profile]
    expected = [len(profile) * value / sum(raw) for value in raw]
    np.testing.assert_allclose(counts.inverse_frequency_weights(profile, power), expected, rtol=1e-9)


def test_a_large_power_does_not_underflow():
    weights = counts.inverse_frequency_weights([10**12, 10**10], power=40)
    assert np.all(np.isfinite(weights))
    assert weights.sum() == pytest.approx(2.0)
    with pytest.raises(ValueError, match="`power` must be a finite number of at least 0.0, got -1"):
        counts.inverse_frequency_weights([3, 1], power=-1)


def test_class_weights_by_name():
    profile = [400, 40, 4]
    np.testing.assert_array_equal(counts.class_weights(profile, "none"), np.ones(3))
    np.testing.assert_array_equal(counts.class_weights(profile, "inverse"), counts.inverse_frequency_weights(profile))
    np.testing.assert_array_equal(
        counts.class_weights(profile, "inverse_sqrt"), counts.inverse_frequency_weights(profile, 0.5)
    )
    np.testing.assert_array_equal(
        counts.class_weights(profile, "effective_number", beta=0.99), counts.class_balanced_weights(profile, 0.99)
    )
    assert counts.class_weights([4, 0], "inverse", empty="zero")[1] == 0.0
    assert counts.class_weights([4, 0], "effective_number", beta=0.99, empty="zero")[1] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"scheme": "inverse_square"}, "`scheme` must be one of .* got 'inverse_square'. Did you mean 'inverse_sqrt'"),
        ({"scheme": "effective_number"}, "`beta` must be given for the scheme 'effective_number'"),
        ({"scheme": "inverse", "beta": 0.9}, "`beta` must be None for the scheme 'inverse', got 0.9"),
        ({"scheme": "none", "empty": "bogus"}, "`empty` must be one of 'raise', 'zero', 'one', got 'bogus'"),
        ({"scheme": "none", "on_ineffective_beta": "x"}, "`on_ineffective_beta` must be one of 'warn', 'ignore', got"),
        ({"scheme": "inverse", "on_ineffective_beta": "x"}, "`on_ineffective_beta` must be one of 'warn', 'ignore'"),
    ],
)
def test_class_weights_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        counts.class_weights([3, 1], **arguments)


def test_margins_of_the_published_setting():
    expected = [0.158, 0.180, 0.204, 0.232, 0.264, 0.300, 0.341, 0.387, 0.441, 0.500]
    np.testing.assert_allclose(counts.ldam_margins(counts.exponential_counts(5000, 10, 100)), expected, atol=6e-4)
    assert counts.ldam_margins(counts.exponential_counts(5000, 10, 10))[0] == pytest.approx(0.281, abs=5e-4)


@given(PROFILE, st.floats(0.0, 5.0))
def test_margins_against_a_loop(profile, max_margin):
    raw = [count**-0.25 for count in profile]
    expected = [max_margin * value / max(raw) for value in raw]
    np.testing.assert_allclose(counts.ldam_margins(profile, max_margin), expected, rtol=1e-12)


def test_margins_refuse():
    with pytest.raises(ValueError, match="`max_margin` must be a finite number of at least 0.0, got -0.5"):
        counts.ldam_margins([3, 1], -0.5)
    with pytest.raises(ValueError, match="`class_counts` must have at least one sample in every class"):
        counts.ldam_margins([3, 0])


def test_counts_load_without_torch():
    code = "import sys, lt_lib, lt_lib.counts, lt_lib._checks; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_loads_submodules_on_demand():
    code = (
        "import sys, lt_lib; assert 'lt_lib.counts' not in sys.modules; assert 'counts' in dir(lt_lib)\n"
        "assert lt_lib.counts.listed_counts([1]).size == 1; assert lt_lib.__version__ == '0.1.0'\n"
        "try: lt_lib.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise SystemExit(1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
