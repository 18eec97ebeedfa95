"""LDAM and hinge losses: limits, digits, margins that may be learnt."""

import math

import pytest
import torch
import torch.nn.functional as F

from lt_lib import counts, losses


def batch(size=32, classes=5, seed=3):
    generator = torch.Generator().manual_seed(seed)
    cosines = 2 * torch.rand(size, classes, generator=generator, dtype=torch.float64) - 1
    return cosines, torch.randint(classes, (size,), generator=generator)


def test_without_margins_ldam_is_scaled_cross_entropy():
    cosines, targets = batch()
    found = losses.ldam_loss(cosines, targets, torch.zeros(5), scale=7.0)
    torch.testing.assert_close(found, F.cross_entropy(7.0 * cosines, targets))


def test_balanced_counts_give_the_uniform_margin():
    cosines, targets = batch()
    found = losses.LDAMLoss([70] * 5, max_margin=0.3, scale=12.0)(cosines, targets)
    shifted = cosines.scatter_add(1, targets[:, None], torch.full((len(targets), 1), -0.3, dtype=torch.float64))
    torch.testing.assert_close(found, F.cross_entropy(12.0 * shifted, targets))


def test_default_scale_and_margin_are_those_of_the_authors_code():
    cosines, targets = batch()
    profile = counts.exponential_counts(5000, 5, 100)
    margins = torch.from_numpy(counts.ldam_margins(profile, 0.5))
    expected = losses.ldam_loss(cosines, targets, margins, scale=30.0)
    assert losses.LDAMLoss(profile)(cosines, targets) == expected
    assert losses.ldam_loss(cosines, targets, margins) == expected


def test_single_precision_keeps_the_digits_that_a_margin_uncovers():
    # Beside a true class 20 nats higher the rivals vanish in single precision; the margin lifts them by 15.
    cosines = torch.tensor([[0.667, 0.0, -0.1], [0.9, 0.35, 0.3]], dtype=torch.float64)
    targets, margins = torch.tensor([0, 0]), torch.tensor([0.5, 0.2, 0.1])
    exact = losses.ldam_loss(cosines, targets, margins, reduction="none")
    single = losses.ldam_loss(cosines.float(), targets, margins, reduction="none")
    torch.testing.assert_close(single.double(), exact, rtol=1e-5, atol=1e-8)
    plain = F.cross_entropy(30.0 * cosines.float(), targets, reduction="none").double()
    corrected = torch.log1p(torch.expm1(plain) * math.exp(15.0))
    assert not torch.allclose(corrected, exact, rtol=1e-2)


def test_margins_may_be_learnt():
    cosines, targets = batch()
    cosines.requires_grad_()
    margins = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64, requires_grad=True)

    def loss(scores, gaps):
        return losses.ldam_loss(scores, targets, gaps, scale=3.0)

    assert torch.autograd.gradcheck(loss, (cosines, margins))
    assert torch.autograd.gradgradcheck(loss, (cosines, margins))
    assert torch.autograd.gradcheck(lambda gaps: loss(cosines.detach(), gaps), (margins,))
    assert torch.autograd.gradgradcheck(lambda gaps: loss(cosines.detach(), gaps), (margins,))


def test_scale_one_leaves_the_callers_logits_alone():
    cosines, targets = batch()
    before = cosines.clone()
    losses.ldam_loss(cosines, targets, torch.full((5,), 0.2), scale=1.0)
    assert torch.equal(cosines, before)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"scale": 0.0}, ValueError, "`scale` must be a number above 0, got 0.0"),
        ({"scale": "30"}, TypeError, "`scale` must be a real number, got '30'"),
        ({"margins": torch.full((5,), -0.1)}, ValueError, "`margins` must be finite and at least 0"),
        ({"margins": torch.ones(4)}, ValueError, r"`margins` must have shape \(5,\), got \(4,\)"),
        ({"margins": [0.1] * 5}, TypeError, "`margins` must be a floating-point tensor, got list"),
    ],
)
def test_bad_ldam_arguments(changes, error, message):
    cosines, targets = batch()
    with pytest.raises(error, match=message):
        losses.ldam_loss(cosines, targets, **{"margins": torch.zeros(5), **changes})


def test_bad_ldam_modules():
    with pytest.raises(ValueError, match="`scale` must be a number above 0, got -1"):
        losses.LDAMLoss([5, 1], scale=-1)
    with pytest.raises(ValueError, match="`max_margin` must be a finite number of at least 0.0, got -0.5"):
        losses.LDAMLoss([5, 1], max_margin=-0.5)


def test_hinge_agrees_with_pytorch_for_two_classes():
    cosines, targets = batch(classes=2)
    expected = F.multi_margin_loss(cosines, targets, margin=0.4) * 2
    torch.testing.assert_close(losses.hinge_loss(cosines, targets, 0.4), expected)


def test_hinge_gradient_touches_the_true_class_and_its_strongest_rival():
    logits = torch.tensor([[1.0, 3.0, 2.5], [9.0, 1.0, 1.0]], requires_grad=True)
    losses.hinge_loss(logits, torch.tensor([0, 0]), 0.5, reduction="sum").backward()
    assert logits.grad.tolist() == [[-1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]


def test_hinge_margin_defaults_to_one():
    logits, targets = batch()
    assert losses.hinge_loss(logits, targets) == losses.hinge_loss(logits, targets, 1.0)
    assert losses.hinge_loss(logits, targets, 0.0) < losses.hinge_loss(logits, targets)


@pytest.mark.parametrize(
    ("margins", "error", "message"),
    [
        (-1.0, ValueError, "`margins` must be a finite number of at least 0.0, got -1.0"),
        ("1", TypeError, "`margins` must be a real number, got '1'"),
        (torch.ones(4), ValueError, r"`margins` must have shape \(5,\), got \(4,\)"),
        (torch.full((5,), -1.0), ValueError, "`margins` must be finite and at least 0"),
    ],
)
def test_bad_hinge_margins(margins, error, message):
    logits, targets = batch()
    with pytest.raises(error, match=message):
        losses.hinge_loss(logits, targets, margins)


@pytest.mark.parametrize("margins", [0.5, [], [[0.1, 0.2]], torch.tensor(0.5)])
def test_margins_of_a_hinge_module_are_one_per_class(margins):
    with pytest.raises(ValueError, match="`margins` must be one number per class, got"):
        losses.MarginHingeLoss(margins)


@pytest.mark.parametrize(
    "build",
    [
        lambda weight: losses.LDAMLoss([5, 1], weight=weight),
        lambda weight: losses.MarginHingeLoss([0.1, 0.2], weight),
        lambda weight: losses.BalancedSoftmaxLoss([5, 1], weight),
        lambda weight: losses.LogitAdjustedLoss([5, 1], 1.0, weight),
    ],
)
def test_weights_of_a_module_that_are_no_numbers_are_named(build):
    for wrong in ("abc", [[1.0], [1.0, 2.0]], ["a", "b"]):
        with pytest.raises(TypeError, match="`weight` must be one number per class, got"):
            build(wrong)
    with pytest.raises(ValueError, match=r"`weight` must have shape \(2,\), got \(3,\)"):
        build([1.0, 1.0, 1.0])


def test_modules_with_margins_are_shown_whole():
    ldam = losses.LDAMLoss([16, 1], 0.5, 20.0, normalization="weights")
    shown = "classes=2, max_margin=0.5, scale=20, weighted=False, reduction='mean', normalization='weights'"
    assert repr(ldam) == f"LDAMLoss({shown})"
    hinge = losses.MarginHingeLoss([0.1, 0.5], [1.0, 2.0], reduction="none")
    shown = "classes=2, max_margin=0.5, weighted=True, reduction='none', normalization='batch'"
    assert repr(hinge) == f"MarginHingeLoss({shown})"


def test_bad_hinge_modules_and_a_single_class():
    with pytest.raises(ValueError, match="`margins` must be finite and at least 0"):
        losses.MarginHingeLoss([0.1, -0.1])
    with pytest.raises(ValueError, match="`logits` must have at least two classes for a hinge"):
        losses.hinge_loss(torch.zeros(2, 1), torch.zeros(2).long())


def test_margins_as_an_array_are_named_as_such():
    with pytest.raises(TypeError, match=r"`margins` .*, got a NumPy array of float64 \(use torch.as_tensor"):
        losses.ldam_loss(torch.zeros(1, 2), torch.tensor([0]), counts.ldam_margins([90, 10]))
