"""`Descent` against `torch.optim.SGD`, bit for bit, and the library that it must not load."""

import subprocess
import sys

import pytest
import torch

from lt_lib.training.descent import Descent


def weights():
    rng = torch.Generator().manual_seed(0)
    return [
        torch.nn.Parameter(torch.randn(shape, generator=rng, dtype=torch.float64))
        for shape in ((3, 4, 2), (3, 2), (5,))
    ]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.9, 0.5])
def test_every_step_is_that_of_torch(momentum, nesterov):
    ours, theirs = weights(), weights()
    groups = [[{"params": each[:1], "weight_decay": 0.1}, {"params": each[1:]}] for each in (ours, theirs)]
    descent = Descent(groups[0], momentum=momentum, nesterov=nesterov)
    reference = torch.optim.SGD(groups[1], lr=1.0, momentum=momentum, nesterov=nesterov)
    for step in range(5):
        for each in (ours, theirs):
            sum((parameter**3).sum() for parameter in each).backward()
        rate = 0.05 / (1 + step)
        for group in reference.param_groups:
            group["lr"] = rate
        descent.step(rate)
        reference.step()
        reference.zero_grad()
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert all(parameter.grad is None for parameter in ours)


def test_without_momentum_it_is_the_gradient():
    (weight,) = weights()[:1]
    before = weight.detach().clone()
    weight.sum().backward()
    Descent([{"params": [weight]}], momentum=0.0).step(0.5)
    assert torch.equal(weight.detach(), before - 0.5)


def test_a_parameter_without_gradient_keeps_value_and_velocity():
    ours, theirs = weights(), weights()
    descent = Descent([{"params": ours, "weight_decay": 0.1}], momentum=0.9)
    reference = torch.optim.SGD([{"params": theirs, "weight_decay": 0.1}], lr=0.1, momentum=0.9)
    for used in (slice(0, 2), slice(1, 3), slice(0, 3)):
        for each in (ours, theirs):
            sum(parameter.square().sum() for parameter in each[used]).backward()
        descent.step(0.1)
        reference.step()
        reference.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("groups", "options", "error", "message"),
    [
        (lambda w: [{"params": w}], {"momentum": 1.5}, ValueError, "`momentum` must be"),
        (lambda w: [{"params": w}], {"momentum": -0.1}, ValueError, "`momentum` must be"),
        (
            lambda w: [{"params": w}],
            {"momentum": 0.0, "nesterov": True},
            ValueError,
            "`nesterov` must be False without",
        ),
        (lambda w: [{"params": w[0]}], {"momentum": 0.9}, TypeError, "`params` must be a sequence of tensors"),
        (lambda w: [{"params": w, "weight_decay": -1.0}], {"momentum": 0.9}, ValueError, "`weight_decay` must be"),
        (lambda w: [{"params": w, "lr": 0.1}], {"momentum": 0.9}, ValueError, "must hold `params` and .*, got lr"),
        (lambda w: [{"params": [w[0], w[0]]}], {"momentum": 0.9}, ValueError, "must hold every parameter once"),
        (lambda w: [{"params": w}, {"params": w[1:]}], {"momentum": 0.9}, ValueError, "must hold every parameter once"),
    ],
)
def test_bad_input_is_named(groups, options, error, message):
    with pytest.raises(error, match=message):
        Descent(groups(weights()), **options)


def test_a_stack_trains_without_the_compiler():
    program = """
import sys, torch
from lt_lib.models import MLP, StackedModel
from lt_lib.training import Member, fit_stacked
loss = lambda z, y: torch.nn.functional.cross_entropy(z.mT, y, reduction="none").mean(dim=1)
members = [Member(torch.arange(8), lambda epoch: loss, torch.Generator().manual_seed(seed)) for seed in range(2)]
stack = StackedModel([MLP(2, 3, hidden=4) for _ in members])
fit_stacked(stack, torch.randn(8, 2), torch.arange(8) % 3, members, learning_rate_at=lambda epoch: 0.1, epochs=1,
            parameters=stack.parameter_groups(0.0))
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False"]
