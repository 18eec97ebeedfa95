"""Classifiers on frozen features, against automatic differentiation and plain loops."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lt_lib.models import CifarResNet
from lt_lib.training import (
    FeatureSet,
    decouple,
    extract_features,
    learn_weight_scaling,
    nearest_class_mean,
    retrain_classifier,
    tau_normalise,
)
from lt_lib.training.decoupling import CLASSIFIERS, TAUS


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def features(counts=(60, 20, 4), width=5, seed=0, spread=0.7):
    """Three classes around unit vectors."""
    draw = rng(seed)
    targets = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    centres = torch.eye(3, width).double()
    noise = spread * torch.randn(len(targets), width, generator=draw).double()
    return FeatureSet(centres[targets] + noise, targets)


def reference(data, parameters, logits, *, balanced, epochs, rate, batch, decay, seed=0):
    """The same descent by automatic differentiation and PyTorch's optimiser."""
    values = [nn.Parameter(value.clone()) for value in parameters]
    optimizer = torch.optim.SGD(values, lr=rate, momentum=0.9, weight_decay=decay)
    draw, samples = rng(seed), len(data.targets)
    total, step = epochs * -(-samples // batch), 0
    for _ in range(epochs):
        if balanced:
            chance = torch.tensor([1 / int((data.targets == y).sum()) for y in data.targets], dtype=torch.float64)
            order = torch.multinomial(chance, samples, replacement=True, generator=draw)
        else:
            order = torch.randperm(samples, generator=draw)
        for rows in order.split(batch):
            for group in optimizer.param_groups:
                group["lr"] = rate * (1 + math.cos(math.pi * step / total)) / 2
            optimizer.zero_grad()
            F.cross_entropy(logits(data.features[rows], *values), data.targets[rows]).backward()
            optimizer.step()
            step += 1
    return [value.detach() for value in values]


@pytest.mark.parametrize("balanced", [True, False])
def test_retraining_is_gradient_descent(balanced):
    data = features()
    found = retrain_classifier(
        data, 3, rng=rng(), epochs=3, learning_rate=0.3, batch_size=16, weight_decay=0.01, balanced=balanced
    )
    start = [torch.zeros(3, 5).double(), torch.zeros(3).double()]
    weight, bias = reference(data, start, F.linear, balanced=balanced, epochs=3, rate=0.3, batch=16, decay=0.01)
    torch.testing.assert_close(found.weight, weight)
    torch.testing.assert_close(found.bias, bias)
    torch.testing.assert_close(found(data.features), F.linear(data.features, weight, bias))


@pytest.mark.parametrize("with_bias", [True, False])
def test_scaling_learns_one_factor_per_class(with_bias):
    data = features()
    weight = torch.randn(3, 5, generator=rng(1)).double()
    bias = torch.tensor([0.5, 0.1, -0.5]).double() if with_bias else None
    found = learn_weight_scaling(weight, bias, data, rng=rng(), epochs=2, learning_rate=0.2, batch_size=32)
    (factors,) = reference(
        data, [torch.ones(3).double()], lambda h, f: F.linear(h, weight, bias) * f,
        balanced=True, epochs=2, rate=0.2, batch=32, decay=0.0,
    )  # fmt: skip
    torch.testing.assert_close(found.weight, weight * factors[:, None])
    assert (found.bias is None) is not with_bias
    torch.testing.assert_close(found(data.features), F.linear(data.features, weight, bias) * factors)
    assert len({round(float(value), 3) for value in factors}) == 3


def test_tau_shortens_by_a_power_of_the_length():
    weight = torch.tensor([[3.0, 4.0], [0.6, 0.8], [0.0, 2.0]])
    assert torch.equal(tau_normalise(weight, 0.0).weight, weight)
    lengths = tau_normalise(weight, 0.5).weight.norm(dim=1)
    np.testing.assert_allclose(lengths, [math.sqrt(5), 1, math.sqrt(2)], rtol=1e-6)
    np.testing.assert_allclose(tau_normalise(weight, 1.0).weight.norm(dim=1), np.ones(3), rtol=1e-6)
    assert tau_normalise(weight, 1.0).bias is None
    with pytest.raises(ValueError, match="`tau` must be"):
        tau_normalise(weight, -0.1)
    with pytest.raises(ValueError, match="no zero row, got one for class 1"):
        tau_normalise(torch.tensor([[1.0], [0.0]]), 1.0)


@pytest.mark.parametrize("distance", ["cosine", "euclidean"])
def test_nearest_mean_is_the_nearest_in_a_loop(distance):
    data = features()
    probe = torch.randn(50, 5, generator=rng(2)).double()
    unit = [row / row.norm() for row in data.features]
    means = [torch.stack([u for u, y in zip(unit, data.targets, strict=True) if y == c]).mean(0) for c in range(3)]
    for row, logits in zip(probe, nearest_class_mean(data, 3, distance)(probe), strict=True):
        direction = row / row.norm()
        if distance == "cosine":
            expected = max(range(3), key=lambda c: float(direction @ means[c] / means[c].norm()))
        else:
            expected = min(range(3), key=lambda c: float((direction - means[c]).norm()))
        assert int(logits.argmax()) == expected


def test_balanced_draws_help_the_rare_class():
    data, test = features((300, 30, 6), seed=1), features((200, 200, 200), seed=2)

    def tail_recall(balanced):
        found = retrain_classifier(data, 3, rng=rng(), epochs=20, balanced=balanced)
        rare = test.targets == 2
        return float((found(test.features[rare]).argmax(dim=1) == 2).double().mean())

    assert tail_recall(True) > tail_recall(False) + 0.2


def head(data):
    layer = nn.Linear(5, 3).double()
    found = retrain_classifier(data, 3, rng=rng(), epochs=20, balanced=False)
    with torch.no_grad():
        layer.weight.copy_(found.weight)
        layer.bias.copy_(found.bias)
    return layer


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_choice_is_the_best_on_validation(kind):
    data, validation = features((200, 40, 8)), features((20, 20, 20), seed=5)
    layer = head(data)
    before = layer.weight.clone()
    found = decouple(kind, layer, data, validation, epochs=5)
    assert torch.equal(layer.weight, before)
    hits = found(validation.features).argmax(dim=1) == validation.targets
    assert found.validation_accuracy == pytest.approx(float(hits.double().mean()))
    ((name, value),) = found.chosen.items()
    assert name == {"crt": "learning_rate", "lws": "learning_rate", "tau": "tau", "ncm": "distance"}[kind]
    if kind == "tau":
        scores = []
        for tau in TAUS:
            guess = tau_normalise(layer.weight, tau)(validation.features).argmax(dim=1)
            scores.append(float((guess == validation.targets).double().mean()))
        assert value == TAUS[int(np.argmax(scores))]
        assert value > 0


def test_bad_input_is_refused():
    data = features()
    layer = nn.Linear(5, 3).double()
    empty = FeatureSet(data.features[:0], data.targets[:0])
    with pytest.raises(ValueError, match="`kind` must be one of"):
        decouple("cRT", layer, data, data)
    with pytest.raises(ValueError, match="`head` must be a linear layer, got Identity"):
        decouple("crt", nn.Identity(), data, data)
    with pytest.raises(ValueError, match="`validation` must hold"):
        decouple("crt", layer, data, empty)
    with pytest.raises(ValueError, match="no sample of class 3"):
        retrain_classifier(data, 4, rng=rng())
    with pytest.raises(ValueError, match="no sample of class 3"):
        nearest_class_mean(data, 4)
    with pytest.raises(ValueError, match="`distance` must be one of"):
        nearest_class_mean(data, 3, "manhattan")
    with pytest.raises(ValueError, match="`learning_rate` must be"):
        retrain_classifier(data, 3, rng=rng(), learning_rate=0.0)
    with pytest.raises(ValueError, match="`epochs` must be"):
        retrain_classifier(data, 3, rng=rng(), epochs=0)


@pytest.mark.parametrize(
    ("targets", "error", "message"),
    [
        (torch.tensor([0, 1, 3]), ValueError, r"`data.targets` must be class indices in \[0, 2\], got 3"),
        (torch.tensor([0, -1, 2]), ValueError, r"`data.targets` must be class indices in \[0, 2\], got -1"),
        (torch.tensor([0.0, 1.0, 2.0]), TypeError, "`data.targets` must be int64, got torch.float32"),
        (torch.tensor([0, 1]), ValueError, r"`data.features` must have shape \(2, width\), got \(3, 5\)"),
    ],
)
def test_targets_that_do_not_fit_are_named(targets, error, message):
    data = FeatureSet(torch.eye(3, 5), targets)
    with pytest.raises(error, match=message):
        retrain_classifier(data, 3, rng=rng())
    with pytest.raises(error, match=message):
        retrain_classifier(data, 3, rng=rng(), balanced=False)
    with pytest.raises(error, match=message):
        nearest_class_mean(data, 3)
    with pytest.raises(error, match=message):
        learn_weight_scaling(torch.eye(3, 5), None, data, rng=rng())


def test_a_negative_decay_and_too_few_classes_are_named():
    with pytest.raises(ValueError, match="`weight_decay` must be a finite number of at least 0.0, got -1"):
        retrain_classifier(features(), 3, rng=rng(), weight_decay=-1)
    with pytest.raises(ValueError, match="`num_classes` must be an integer of at least 2, got 0"):
        nearest_class_mean(features(), 0)


def test_features_leave_a_frozen_part_frozen():
    model = CifarResNet(8, 3).train()
    model.bn.eval()
    extract_features(model, torch.randn(4, 3, 8, 8))
    assert model.training
    assert not model.bn.training
    with pytest.raises(RuntimeError):
        extract_features(model, torch.randn(4, 1, 8, 8))
    assert model.training
    assert not model.bn.training


def test_features_are_those_of_evaluation_mode():
    model = CifarResNet(8, 3)
    inputs = torch.randn(10, 3, 8, 8)
    model(inputs)
    statistics = model.bn.running_mean.clone()
    found = extract_features(model, inputs, batch_size=4)
    assert torch.equal(model.bn.running_mean, statistics)
    assert model.training
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(model.head(found), model(inputs))
    assert not found.requires_grad
