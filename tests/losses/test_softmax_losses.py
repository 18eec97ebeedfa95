"""Softmax, prior-adjusted and softmax-focal losses: limits and agreement with PyTorch."""

import math

import pytest
import torch
import torch.nn.functional as F

from lt_lib import counts, losses


def batch(size=64, classes=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(size, classes, generator=generator, dtype=torch.float64)
    return logits, torch.randint(classes, (size,), generator=generator)


def test_weighted_means_are_pytorchs_and_the_batch_mean_is_smaller():
    logits, targets = batch()
    profile = counts.exponential_counts(5000, 10, 100)
    weight = torch.from_numpy(counts.class_balanced_weights(profile, 0.9999))
    by_weights = losses.softmax_loss(logits, targets, weight=weight, normalization="weights")
    torch.testing.assert_close(by_weights, F.cross_entropy(logits, targets, weight=weight))
    by_batch = losses.softmax_loss(logits, targets, weight=weight)
    torch.testing.assert_close(by_batch, by_weights * weight[targets].sum() / len(targets))


def test_focal_factor_uses_the_probability_and_not_the_weighted_loss():
    logits, targets = batch()
    weight = torch.linspace(0.2, 4.0, 10, dtype=torch.float64)
    p = logits.softmax(-1).gather(1, targets[:, None])[:, 0]
    expected = weight[targets] * (1 - p) ** 2 * -p.log()
    found = losses.softmax_focal_loss(logits, targets, 2.0, weight=weight, reduction="none")
    torch.testing.assert_close(found, expected)


def test_softmax_focal_without_focus_is_softmax():
    logits, targets = batch()
    torch.testing.assert_close(losses.softmax_focal_loss(logits, targets, 0.0), losses.softmax_loss(logits, targets))
    assert losses.softmax_focal_loss(logits, targets) == losses.softmax_focal_loss(logits, targets, 1.0)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 2.0])
def test_a_certain_prediction_has_zero_loss_and_gradient(gamma):
    logits = torch.tensor([[200.0, 0.0, -5.0]], requires_grad=True)
    loss = losses.softmax_focal_loss(logits, torch.tensor([0]), gamma)
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.abs().max() < 1e-30  # and not NaN, the product of an infinite slope and a zero


def test_balanced_counts_and_limits_of_beta_give_the_plain_losses():
    logits, targets = batch(classes=4)
    for name, plain in (
        ("ClassBalancedSoftmaxLoss", losses.softmax_loss),
        ("ClassBalancedSoftmaxFocalLoss", losses.softmax_focal_loss),
        ("ClassBalancedSigmoidLoss", losses.sigmoid_loss),
        ("ClassBalancedFocalLoss", losses.focal_loss),
    ):
        build = getattr(losses, name)
        for module in (build([30] * 4, 0.99), build([90, 9, 3, 1], 0.0, on_ineffective_beta="ignore")):
            torch.testing.assert_close(module(logits, targets), plain(logits, targets))
        profile = [90, 9, 3, 1]
        inverse = torch.from_numpy(counts.inverse_frequency_weights(profile))
        near = build(profile, 1 - 1e-12, on_ineffective_beta="ignore")
        torch.testing.assert_close(near(logits, targets), plain(logits, targets, weight=inverse))


@pytest.mark.parametrize(
    "build",
    [
        losses.ClassBalancedSoftmaxLoss,
        losses.ClassBalancedSoftmaxFocalLoss,
        losses.ClassBalancedSigmoidLoss,
        losses.ClassBalancedFocalLoss,
    ],
)
def test_class_balanced_modules_pass_on_the_policies(build):
    with pytest.warns(counts.BetaWarning, match="flat"):
        build([10**6, 10**5], 0.9)
    with pytest.raises(ValueError, match="`class_counts` must have at least one sample in every class"):
        build([10, 0], 0.9)
    assert build([10, 0], 0.9, empty="zero").weight.tolist() == pytest.approx([2.0, 0.0])
    with pytest.raises(ValueError, match="`beta` must be"):
        build([10, 1], 1.5)


@pytest.mark.parametrize("build", [losses.ClassBalancedSoftmaxFocalLoss, losses.ClassBalancedFocalLoss])
def test_gamma_below_zero_is_refused(build):
    with pytest.raises(ValueError, match="`gamma` must be a finite number of at least 0.0, got -1"):
        build([10, 1], 0.9, -1)
    for function in (losses.softmax_focal_loss, losses.focal_loss):
        with pytest.raises(ValueError, match="`gamma` must be a finite number of at least 0.0, got -0.5"):
            function(torch.zeros(1, 2), torch.tensor([0]), -0.5)


def test_balanced_softmax_takes_counts_or_shares():
    logits, targets = batch(classes=3)
    sizes = torch.tensor([80.0, 15.0, 5.0])
    by_counts = losses.balanced_softmax_loss(logits, targets, sizes)
    torch.testing.assert_close(by_counts, losses.balanced_softmax_loss(logits, targets, sizes / 100))
    torch.testing.assert_close(by_counts, losses.logit_adjusted_loss(logits, targets, sizes / 100, tau=1.0))
    equal = losses.balanced_softmax_loss(logits, targets, torch.ones(3))
    torch.testing.assert_close(equal, F.cross_entropy(logits, targets))


def test_post_hoc_adjustment_recovers_the_balanced_posterior():
    # Class-conditional densities of a point, and the posterior that a perfect model has under each prior.
    likelihood = torch.tensor([[0.2, 0.5, 0.9]], dtype=torch.float64)
    prior = torch.tensor([0.9, 0.09, 0.01], dtype=torch.float64)
    imbalanced = (likelihood * prior).log()
    balanced = likelihood / likelihood.sum()
    torch.testing.assert_close(losses.adjust_logits(imbalanced, prior).softmax(-1), balanced)
    assert torch.equal(losses.adjust_logits(imbalanced, prior, tau=0.0), imbalanced)
    halfway = losses.adjust_logits(imbalanced, prior, tau=0.5)
    torch.testing.assert_close(halfway, imbalanced - 0.5 * prior.log())


def test_post_hoc_adjustment_undoes_the_training_time_one():
    logits, targets = batch(classes=3)
    prior = torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64)
    for tau in (0.5, 2.0):
        adjusted = losses.adjust_logits(logits, prior, tau=tau)
        torch.testing.assert_close(
            losses.logit_adjusted_loss(adjusted, targets, prior, tau=tau), losses.softmax_loss(logits, targets)
        )
    assert losses.adjust_logits(logits.to(torch.bfloat16), prior).dtype == torch.float32


@pytest.mark.parametrize(
    ("prior", "error", "message"),
    [
        (
            torch.tensor([0.5, 0.5, 0.0]),
            ValueError,
            "`class_prior` must be finite and above 0, got values from 0 to 0.5",
        ),
        (torch.tensor([0.5, 0.5]), ValueError, r"`class_prior` must have shape \(3,\), got \(2,\)"),
        ([0.5, 0.3, 0.2], TypeError, "`class_prior` must be a floating-point tensor, got list"),
    ],
)
def test_bad_priors(prior, error, message):
    logits, targets = batch(classes=3)
    for call in (
        lambda: losses.balanced_softmax_loss(logits, targets, prior),
        lambda: losses.logit_adjusted_loss(logits, targets, prior),
        lambda: losses.adjust_logits(logits, prior),
    ):
        with pytest.raises(error, match=message):
            call()


def test_bad_strengths_and_counts():
    logits, targets = batch(classes=2)
    prior = torch.tensor([0.5, 0.5])
    with pytest.raises(ValueError, match="`tau` must be a finite number of at least 0.0, got -1"):
        losses.logit_adjusted_loss(logits, targets, prior, tau=-1)
    with pytest.raises(ValueError, match="`tau` must be a finite number of at least 0.0, got -1"):
        losses.adjust_logits(logits, prior, tau=-1)
    with pytest.raises(TypeError, match="`logits` must be a floating-point tensor"):
        losses.adjust_logits(targets, prior)
    with pytest.raises(ValueError, match="`tau` must be a finite number of at least 0.0"):
        losses.LogitAdjustedLoss([3, 1], tau=math.nan)
    for build in (losses.BalancedSoftmaxLoss, losses.LogitAdjustedLoss, losses.LDAMLoss):
        with pytest.raises(ValueError, match="`class_counts` must have at least one sample in every class"):
            build([3, 0])
        with pytest.raises(ValueError, match=r"`weight` must have shape \(2,\), got \(3,\)"):
            build([3, 1], weight=[1.0, 1.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_balanced_softmax_takes_counts_as_well_as_shares(dtype):
    logits = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(6) % 2
    sizes = torch.tensor([90, 10], dtype=dtype)
    expected = losses.balanced_softmax_loss(logits, targets, torch.tensor([0.9, 0.1]))
    torch.testing.assert_close(losses.balanced_softmax_loss(logits, targets, sizes), expected)
    torch.testing.assert_close(losses.BalancedSoftmaxLoss([90, 10])(logits, targets), expected)
    with pytest.raises(ValueError, match="`class_prior` must be finite and above 0, got values from 0 to 1"):
        losses.balanced_softmax_loss(logits, targets, torch.tensor([1, 0], dtype=dtype))
    with pytest.raises(TypeError, match="`class_prior` must be a floating-point tensor, got a tensor of torch.bool"):
        losses.balanced_softmax_loss(logits, targets, torch.tensor([True, True]))
