"""Validation helpers: what passes comes back in the caller's type, what does not is named in the error."""

import numpy as np
import pytest
import torch

from lt_lib import _checks


def test_nearest_names_come_best_first():
    assert _checks.nearest_names("focall", ["softmax", "focal", "softmax_focal"])[0] == "focal"
    assert _checks.nearest_names("zzz", ["softmax", "focal"]) == []


def test_a_known_name_is_returned():
    assert _checks.check_known("focal", "loss", ["softmax", "focal"]) == "focal"


def test_an_unknown_name_lists_options_and_the_nearest():
    with pytest.raises(
        ValueError, match=r"`loss` must be one of 'softmax', 'focal', got 'fokal'\. Did you mean 'focal'\?"
    ):
        _checks.check_known("fokal", "loss", ["softmax", "focal"])
    with pytest.raises(ValueError, match=r"got 'zzz'\.$"):
        _checks.check_known("zzz", "loss", ["softmax", "focal"])
    with pytest.raises(TypeError, match="`loss` must be one of 'softmax', got 3"):
        _checks.check_known(3, "loss", ["softmax"])


def test_integers():
    assert type(_checks.check_integer(np.int64(3), "n")) is int
    for wrong in (3.0, "3", True, None):
        with pytest.raises(TypeError, match="`n` must be an integer, got"):
            _checks.check_integer(wrong, "n")
    with pytest.raises(ValueError, match=r"`n` must be an integer in \[1, 5\], got 6"):
        _checks.check_integer(6, "n", minimum=1, maximum=5)
    with pytest.raises(ValueError, match=r"`n` must be an integer of at most 5, got 6"):
        _checks.check_integer(6, "n", maximum=5)
    assert _checks.check_integer(5, "n", minimum=5, maximum=5) == 5


def test_reals():
    assert type(_checks.check_real(np.float32(0.5), "x")) is float
    assert _checks.check_fraction(1, "x") == 1.0
    assert _checks.check_positive(1e-300, "x") == 1e-300
    assert _checks.check_below_one(0, "x") == 0.0
    for wrong in (1.0, -0.1):
        with pytest.raises(ValueError, match=rf"`x` must be a number in \[0, 1\), got {wrong}"):
            _checks.check_below_one(wrong, "x")
    for wrong in ("1", True, None, 1j):
        with pytest.raises(TypeError, match="`x` must be a real number, got"):
            _checks.check_real(wrong, "x")
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="`x` must be a finite number, got"):
            _checks.check_real(wrong, "x")
    with pytest.raises(ValueError, match=r"`x` must be a finite number in \[0.0, 1.0\], got -0.1"):
        _checks.check_fraction(-0.1, "x")
    for wrong in (0, -1):
        with pytest.raises(ValueError, match=f"`x` must be a number above 0, got {wrong}"):
            _checks.check_positive(wrong, "x")


def test_flags():
    assert _checks.check_flag(np.True_, "on") is True
    assert _checks.check_flag(False, "on") is False
    for wrong in ("no", 1, None):
        with pytest.raises(TypeError, match=f"`on` must be True or False, got {wrong!r}"):
            _checks.check_flag(wrong, "on")


@pytest.mark.parametrize("values", [[2, 0], np.array([2, 0], dtype=np.uint8), torch.tensor([2, 0])])
def test_class_indices_and_positions_come_back_as_int64(values):
    for found in (_checks.check_class_indices(values, "y", 3), _checks.check_indices(values, "rows", 3)):
        assert (found.dtype, found.tolist()) == (np.int64, [2, 0])


@pytest.mark.parametrize(
    ("values", "num_classes", "error", "message"),
    [
        ([], 3, ValueError, r"`y` must be a non-empty vector of class indices, got shape \(0,\)"),
        ([[0, 1]], 3, ValueError, r"`y` must be a non-empty vector of class indices, got shape \(1, 2\)"),
        ([[0], [1, 2]], 3, ValueError, r"`y` must be integer class indices, got \[\[0\], \[1, 2\]\]"),
        ([0.0], 3, TypeError, "`y` must be integer class indices, got float64"),
        ([True], 3, TypeError, "`y` must be integer class indices, got bool"),
        (torch.zeros(1, dtype=torch.bfloat16), 3, TypeError, "`y` must be integer class indices, got torch.bfloat16"),
        ([0, 3], 3, ValueError, r"`y` must be class indices in \[0, 2\], got 3"),
        ([-1, 2], 3, ValueError, r"`y` must be class indices in \[0, 2\], got -1"),
        ([-1, 9], None, ValueError, "`y` must be class indices >= 0, got -1"),
    ],
)
def test_class_indices_refuse(values, num_classes, error, message):
    with pytest.raises(error, match=message):
        _checks.check_class_indices(values, "y", num_classes)


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([[0]], ValueError, r"`rows` must be one-dimensional integers, got shape \(1, 1\)"),
        ([0.9], TypeError, "`rows` must be one-dimensional integers, got float64"),
        ([True, False], TypeError, "`rows` must be one-dimensional integers, got bool"),
        ([0, 4], ValueError, "`rows` must lie in 0 … 3, got values from 0 to 4"),
        ([-1, 2], ValueError, "`rows` must lie in 0 … 3, got values from -1 to 2"),
    ],
)
def test_positions_refuse(values, error, message):
    with pytest.raises(error, match=message):
        _checks.check_indices(values, "rows", 4)


def test_positions_may_be_none_and_without_limit():
    assert _checks.check_indices([], "rows", 4).dtype == np.int64
    assert _checks.check_indices([-1, 99], "rows").tolist() == [-1, 99]


def test_rows_of_unequal_length_are_refused_by_name():
    ragged = [[1, 2], [3]]
    with pytest.raises(ValueError, match=r"`sizes` must be a vector with one entry per class, got \[\[1, 2\], \[3\]\]"):
        _checks.check_counts(ragged, "sizes")
    with pytest.raises(ValueError, match="`order` must be class indices, got"):
        _checks.check_permutation(ragged, "order", 2)
    with pytest.raises(ValueError, match="`widths` must be real numbers, got"):
        _checks.check_real_array(ragged, "widths")


def test_counts_may_forbid_empty_classes():
    assert _checks.check_counts([3, 0]).tolist() == [3, 0]
    with pytest.raises(ValueError, match="`sizes` must have at least one sample in every class, got 0 for class 1"):
        _checks.check_counts([3, 0], "sizes", allow_empty_classes=False)


def test_counts_as_tensor_and_unsigned():
    assert _checks.check_counts(torch.tensor([3, 1])).tolist() == [3, 1]
    assert _checks.check_counts(np.array([3, 1], dtype=np.uint8)).dtype == np.int64


def test_permutation():
    assert _checks.check_permutation([1, 0], "order", 2).tolist() == [1, 0]
    with pytest.raises(ValueError, match="`order` must hold each of 0 … 2 once, got"):
        _checks.check_permutation([1, 1, 0], "order", 3)


@pytest.mark.parametrize(
    ("logits", "targets", "error", "message"),
    [
        ([[0.0, 1.0]], torch.tensor([0]), TypeError, "`logits` must be a floating-point tensor, got list"),
        (
            torch.ones(1, 2).long(),
            torch.tensor([0]),
            TypeError,
            "`logits` must be a floating-point tensor, got a tensor of",
        ),
        (torch.ones(1, 2), [0], TypeError, "`targets` must be an int64 tensor of class indices, got list"),
        (
            np.ones((1, 2)),
            torch.tensor([0]),
            TypeError,
            r"`logits` must be .*, got a NumPy array of float64 \(use torch",
        ),
        (torch.ones(1, 2), torch.tensor([0.0]), TypeError, "`targets` must be an int64 tensor .* torch.float32"),
        (
            torch.ones(1, 2),
            torch.tensor([0, 1]),
            ValueError,
            r"`targets` must have the shape of .* got \(2,\) beside \(1, 2\)",
        ),
        (torch.tensor(1.0), torch.tensor(0), ValueError, "`targets` must have the shape of"),
        (
            torch.ones(0, 2),
            torch.ones(0).long(),
            ValueError,
            r"`logits` must hold at least one sample .* got shape \(0, 2\)",
        ),
        (torch.ones(2, 3), torch.tensor([0, 3]), ValueError, r"`targets` must be in 0 … 2, got 3"),
        (torch.ones(2, 3), torch.tensor([-1, 5]), ValueError, r"`targets` must be in 0 … 2, got -1"),
    ],
)
def test_logits_and_targets(logits, targets, error, message):
    with pytest.raises(error, match=message):
        _checks.check_logits_targets(logits, targets)


def test_logits_and_targets_of_any_batch_shape():
    assert _checks.check_logits_targets(torch.ones(4), torch.tensor(3)) == 4
    assert _checks.check_logits_targets(torch.ones(2, 3, 4), torch.ones(2, 3).long()) == 4


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([1.0, 2.0], TypeError, "`weight` must be a floating-point tensor, got list"),
        (torch.tensor([1, 2]), TypeError, "`weight` must be a floating-point tensor, got a tensor of torch.int64"),
        (np.ones(2), TypeError, r"`weight` .*, got a NumPy array of float64 \(use torch.as_tensor\(\.\.\.\)\)"),
        (torch.ones(3), ValueError, r"`weight` must have shape \(2,\), got \(3,\)"),
        (torch.tensor([1.0, -0.5]), ValueError, "`weight` must be finite and at least 0, got values from -0.5 to 1"),
        (torch.tensor([1.0, float("nan")]), ValueError, "`weight` must be finite and at least 0"),
        (torch.tensor([1.0, float("inf")]), ValueError, "`weight` must be finite and at least 0"),
    ],
)
def test_per_class_values(values, error, message):
    with pytest.raises(error, match=message):
        _checks.check_per_class(values, "weight", 2)


def test_per_class_values_above_zero():
    _checks.check_per_class(torch.tensor([0.0, 1.0]), "weight", 2)
    with pytest.raises(ValueError, match="`prior` must be finite and above 0, got values from 0 to 1"):
        _checks.check_per_class(torch.tensor([0.0, 1.0]), "prior", 2, inclusive=False)


def test_counts_beyond_int64_are_refused_by_name():
    with pytest.raises(ValueError, match=r"`class_counts` must be below 2\*\*63"):
        _checks.check_counts([2**63, 1])


def test_arrays_of_numbers_are_named_when_they_are_not():
    assert _checks.check_real_array([1, 2], "widths").dtype == np.float64
    with pytest.raises(TypeError, match="`widths` must be real numbers, got 'wide'"):
        _checks.check_real_array("wide", "widths")
    with pytest.raises(ValueError, match="`widths` must be finite, got inf"):
        _checks.check_real_array([1.0, np.inf], "widths")
    assert np.isinf(_checks.check_real_array(np.inf, "widths", finite=False))
    with pytest.raises(ValueError, match="`widths` must be > 0, got -2"):
        _checks.check_all(np.array([True, False]), "widths", "be > 0", np.array([1.0, -2.0]))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_of_a_tensor_the_values_alone_count(dtype):
    values = torch.tensor([0.5, 2.0], dtype=dtype, requires_grad=True)
    assert _checks.as_array(values, "x", "numbers").tolist() == [0.5, 2.0]
    assert _checks.check_real_array(values * 2, "x").tolist() == [1.0, 4.0]
    assert _checks.as_array(torch.ones(1, dtype=torch.float16), "x", "numbers").dtype == np.float16


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_a_softmax_is_a_distribution_in_any_precision(dtype, classes):
    logits = 4 * torch.randn(200, classes, generator=torch.Generator().manual_seed(0))
    table = logits.to(dtype).softmax(dim=1).requires_grad_()
    found = _checks.check_distributions(table, "p")
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, table.detach().double().numpy())


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        ([[2.0, -1.0]], ValueError, "`p` must be >= 0 with rows summing to 1, got minimum -1 .*logits need a softmax"),
        ([[0.5, 0.5], [0.7, 0.7]], ValueError, "rows summing to 1, .* row sums 1 to 1.4"),
        ([[np.nan, 1.0]], ValueError, "`p` must be finite, got nan"),
        ([0.5, 0.5], ValueError, r"`p` must have shape \(samples >= 1, classes >= 2\), got \(2,\)"),
        (np.empty((0, 2)), ValueError, r"got \(0, 2\)"),
        ([[1.0]], ValueError, r"got \(1, 1\)"),
        ([["a", "b"]], TypeError, "`p` must be real numbers"),
    ],
)
def test_what_is_no_distribution_is_refused(values, error, message):
    with pytest.raises(error, match=message):
        _checks.check_distributions(values, "p")
