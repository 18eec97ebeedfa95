"""Sigmoid and sigmoid-focal losses: agreement with torchvision and PyTorch, and the digits that a short cut loses."""

import math

import pytest
import torch
import torch.nn.functional as F

from lt_lib import losses


def batch(size=64, classes=10, dtype=torch.float64):
    generator = torch.Generator().manual_seed(2)
    logits = 4 * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    targets = torch.randint(classes, (size,), generator=generator)
    return logits.to(dtype), targets, F.one_hot(targets, classes).to(dtype)


def test_sigmoid_loss_is_binary_cross_entropy_summed_over_classes():
    logits, targets, one_hot = batch()
    expected = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="sum") / len(targets)
    torch.testing.assert_close(losses.sigmoid_loss(logits, targets), expected)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_loss_is_torchvisions_without_alpha(gamma):
    from torchvision.ops import sigmoid_focal_loss

    logits, targets, one_hot = batch()
    expected = sigmoid_focal_loss(logits, one_hot, alpha=-1, gamma=gamma, reduction="none").sum(-1)
    torch.testing.assert_close(losses.focal_loss(logits, targets, gamma, reduction="none"), expected)


def test_focal_loss_without_focus_is_the_sigmoid_loss():
    logits, targets, _ = batch()
    torch.testing.assert_close(losses.focal_loss(logits, targets, 0.0), losses.sigmoid_loss(logits, targets))
    assert losses.focal_loss(logits, targets) == losses.focal_loss(logits, targets, 1.0)


def test_the_two_focal_losses_differ():
    logits, targets, _ = batch()
    assert not torch.isclose(losses.focal_loss(logits, targets, 2.0), losses.softmax_focal_loss(logits, targets, 2.0))


def test_initial_loss_with_and_without_the_prior_bias():
    for classes, plain, biased in ((10, 6.93, 3.25), (100, 69.3, 5.60)):
        zeros, target = torch.zeros(1, classes), torch.tensor([3])
        assert losses.sigmoid_loss(zeros, target).item() == pytest.approx(plain, rel=1e-3)
        start = zeros - math.log(classes - 1)
        assert losses.sigmoid_loss(start, target).item() == pytest.approx(biased, rel=1e-3)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("true_logit", [-89.0, -200.0, -1e4])
def test_a_confident_mistake_costs_its_logit(gamma, true_logit):
    # The form with exp(-gamma y z) returns 0.35 instead of 89.3 at the first of these, and a gradient of NaN.
    logits = torch.tensor([[true_logit, -300.0]], requires_grad=True)
    loss = losses.focal_loss(logits, torch.tensor([0]), gamma)
    loss.backward()
    assert loss.item() == pytest.approx(-true_logit, rel=1e-5)
    assert logits.grad[0, 0].item() == pytest.approx(-1.0, abs=1e-5)
    assert logits.grad[0, 1].item() == 0.0


def test_a_sure_prediction_keeps_its_digits():
    logits = torch.tensor([[20.0, -25.0]])
    expected = math.log1p(math.exp(-20.0)) + math.log1p(math.exp(-25.0))
    assert losses.sigmoid_loss(logits, torch.tensor([0])).item() == pytest.approx(expected, rel=1e-5)
    focal = math.exp(-20.0) * math.log1p(math.exp(-20.0)) + math.exp(-25.0) * math.log1p(math.exp(-25.0))
    assert losses.focal_loss(logits, torch.tensor([0]), 1.0).item() == pytest.approx(focal, rel=1e-4)
