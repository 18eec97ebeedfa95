import math

import pytest
import torch
from torch import nn

from lt_lib.losses import sigmoid_loss
from lt_lib.models import MLP, CosineHead, StackedModel, initialise_prior_bias, make_head, parameter_groups
from lt_lib.models.heads import unit_vectors


def test_cosine_head_is_the_cosine_of_every_angle():
    torch.manual_seed(0)
    head = CosineHead(6, 4).double()
    features = torch.randn(5, 6, dtype=torch.float64)
    for row in range(5):
        for label in range(4):
            x, w = features[row].tolist(), head.weight[label].tolist()
            cosine = sum(a * b for a, b in zip(x, w, strict=True)) / (math.hypot(*x) * math.hypot(*w))
            assert head(features)[row, label].item() == pytest.approx(cosine, abs=1e-12)


def test_cosine_head_ignores_lengths_and_has_no_bias():
    head = CosineHead(6, 4)
    features = torch.randn(5, 6)
    before = head(features)
    with torch.no_grad():
        head.weight.mul_(torch.tensor([[0.1], [3.0], [10.0], [0.5]]))
    torch.testing.assert_close(head(features * 7), before)
    assert [name for name, _ in head.named_parameters()] == ["weight"]


def test_cosine_head_starts_from_unit_directions_and_survives_zero_features():
    head = CosineHead(6, 4)
    torch.testing.assert_close(head.weight.detach().norm(dim=1), torch.ones(4))
    assert not head(torch.zeros(2, 6)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cosines_of_half_precision_are_those_of_single_precision(dtype):
    head = CosineHead(64, 4).to(dtype)
    features = torch.randn(6, 64, generator=torch.Generator().manual_seed(0))
    features = torch.cat([features, 5e3 * features, torch.zeros(1, 64), torch.full((1, 64), 6e4)]).to(dtype)
    found = head(features)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), head.float()(features.float()), atol=0.01, rtol=0)
    stack = StackedModel([MLP(64, 4, head="cosine").to(dtype) for _ in range(2)])
    assert torch.isfinite(stack(torch.zeros(2, 3, 64, dtype=dtype))).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_wide_unit_vectors_keep_every_bit_of_torch(dtype):
    values = torch.randn(50, 7, generator=torch.Generator().manual_seed(0)).to(dtype)
    assert torch.equal(unit_vectors(values), torch.nn.functional.normalize(values, dim=-1))


def test_linear_head_has_he_variance_and_zero_bias():
    torch.manual_seed(0)
    head = make_head("linear", 200, 500)
    assert float(head.weight.detach().var()) == pytest.approx(2 / 200, rel=0.02)
    assert not head.bias.any()
    assert head.weight.shape == (500, 200)


def test_unknown_head_is_refused():
    with pytest.raises(ValueError, match="`kind` must be one of 'linear', 'cosine', got 'round'"):
        make_head("round", 2, 2)


@pytest.mark.parametrize("num_classes", [2, 10, 100])
def test_prior_bias_starts_every_sigmoid_at_one_over_the_classes(num_classes):
    head = make_head("linear", 3, num_classes)
    initialise_prior_bias(head, num_classes)
    torch.testing.assert_close(torch.sigmoid(head.bias.detach()), torch.full((num_classes,), 1 / num_classes))


def test_prior_bias_lowers_the_first_sigmoid_loss_from_69_to_6():
    head = make_head("linear", 3, 100)
    target = torch.zeros(1, dtype=torch.int64)
    assert sigmoid_loss(head(torch.zeros(1, 3)), target).item() == pytest.approx(69.31, abs=0.01)
    initialise_prior_bias(head, 100)
    assert sigmoid_loss(head(torch.zeros(1, 3)), target).item() == pytest.approx(
        math.log(100) - 99 * math.log(0.99), rel=1e-5
    )


def test_prior_bias_needs_a_bias():
    with pytest.raises(ValueError, match="`head` must be a linear layer with a bias, got CosineHead"):
        initialise_prior_bias(CosineHead(3, 4), 4)


def test_prior_bias_needs_the_heads_own_number_of_classes():
    with pytest.raises(ValueError, match="`num_classes` must be the 10 outputs of `head`, got 100"):
        initialise_prior_bias(nn.Linear(2, 10), 100)


@pytest.mark.parametrize("decay_on", ["all", "all_but_head_bias", "head_bias_only"])
def test_groups_hold_every_parameter_once(decay_on):
    model = MLP(4, 3)
    groups = parameter_groups(model, 0.1, decay_on=decay_on)
    held = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in model.parameters())
    assert len(set(held)) == len(held)


@pytest.mark.parametrize(
    ("decay_on", "decayed"),
    [
        ("all", lambda name: True),
        ("all_but_head_bias", lambda name: name != "head.bias"),
        ("head_bias_only", lambda name: name == "head.bias"),
    ],
)
def test_one_step_shrinks_exactly_the_decayed_parameters(decay_on, decayed):
    model = MLP(4, 3).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(parameter_groups(model, 0.01, decay_on=decay_on), lr=0.5, momentum=0.9)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in model.named_parameters():
        factor = 1 - 0.5 * 0.01 if decayed(name) else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * factor, rtol=1e-14, atol=0)


def test_wrong_groups_are_refused():
    for decay in (-0.1, math.nan, math.inf):
        with pytest.raises(ValueError, match=f"`weight_decay` must be a finite number of at least 0.0, got {decay}"):
            parameter_groups(MLP(4, 3), decay)
        with pytest.raises(ValueError, match="`weight_decay` must be a finite number"):
            StackedModel([MLP(4, 3)]).parameter_groups(decay)
    with pytest.raises(TypeError, match="`weight_decay` must be a real number, got True"):
        parameter_groups(MLP(4, 3), True)
    with pytest.raises(ValueError, match="`decay_on` must be one of 'all', .* got 'some'"):
        parameter_groups(MLP(4, 3), 0.1, decay_on="some")
    with pytest.raises(ValueError, match="`decay_on='head_bias_only'` needs a model whose `head` has a bias"):
        parameter_groups(MLP(4, 3, head="cosine"), 0.1, decay_on="head_bias_only")
