import copy

import numpy as np
import pytest
import torch
from torch import nn

from lt_lib.models import MLP, CifarResNet, SmallCNN, StackedModel, seeded


@pytest.fixture(params=["mlp", "mlp-cosine", "cnn"])
def models(request):
    make = {
        "mlp": lambda: MLP(64, 5),
        "mlp-cosine": lambda: MLP(64, 5, head="cosine"),
        "cnn": lambda: SmallCNN(1, 5),
    }[request.param]
    return [seeded(make, seed).double() for seed in range(3)]


@pytest.fixture
def inputs():
    return torch.randn(3, 6, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_every_member_computes_what_it_computes_alone(models, inputs):
    logits = StackedModel(models)(inputs)
    for position, model in enumerate(models):
        torch.testing.assert_close(logits[position], model(inputs[position]), rtol=1e-12, atol=1e-12)


def test_gradients_do_not_mix(models, inputs):
    stack = StackedModel(models)
    stack(inputs)[1].square().sum().backward()
    models[1](inputs[1]).square().sum().backward()
    expected = dict(models[1].named_parameters())
    for name, parameter in zip(stack.names, stack.stacked, strict=True):
        assert not parameter.grad[0].any()
        assert not parameter.grad[2].any()
        torch.testing.assert_close(parameter.grad[1], expected[name].grad, rtol=1e-10, atol=1e-10)


def test_the_stack_owns_its_parameters(models, inputs):
    before = [model(inputs[0]).detach() for model in models]
    stack = StackedModel(models)
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.zero_()
    for model, expected in zip(models, before, strict=True):
        torch.testing.assert_close(model(inputs[0]).detach(), expected, rtol=0, atol=0)
    assert len(stack) == 3
    assert sum(parameter.numel() for parameter in stack.parameters()) == sum(
        parameter.numel() for model in models for parameter in model.parameters()
    )


def test_a_member_can_be_taken_out(models, inputs):
    stack = StackedModel(models)
    models[0].load_state_dict(stack.member(2))
    torch.testing.assert_close(models[0](inputs[2]), stack(inputs)[2])


def test_groups_take_the_decay_off_every_head_bias():
    stack = StackedModel([MLP(4, 3) for _ in range(2)])
    rest, bias = stack.parameter_groups(0.1, decay_on="all_but_head_bias")
    assert [tuple(parameter.shape) for parameter in bias["params"]] == [(2, 3)]
    assert (rest["weight_decay"], bias["weight_decay"]) == (0.1, 0.0)
    assert len(rest["params"]) == 5


def test_models_that_cannot_be_stacked_are_refused():
    with pytest.raises(ValueError, match="`models` must hold at least one module"):
        StackedModel([])
    with pytest.raises(ValueError, match="equal parameter shapes, got a different one at position 1"):
        StackedModel([MLP(4, 3), MLP(4, 2)])
    with pytest.raises(ValueError, match="`models` must hold no buffers"):
        StackedModel([CifarResNet(8, 3)])
    plain, counting = nn.Linear(2, 2), nn.Linear(2, 2)
    counting.register_buffer("seen", torch.zeros(1))
    with pytest.raises(ValueError, match="`models` must hold no buffers"):
        StackedModel([plain, counting])


class Doubled(MLP):
    """An MLP that computes something else."""

    def forward(self, inputs):
        return 2 * super().forward(inputs)


class BiaslessHead(MLP):
    """An MLP whose head is linear without a bias, where the MLP of the library has a cosine."""

    def __init__(self):
        super().__init__(4, 3)
        self.head = nn.Linear(64, 3, bias=False)


@pytest.mark.parametrize("build", [lambda: Doubled(4, 3), BiaslessHead])
def test_what_a_member_computes_is_its_own(build):
    models = [seeded(build, seed).double() for seed in range(2)]
    if isinstance(models[0], BiaslessHead):
        for model in models:
            model.__class__ = MLP  # as if the head had been replaced after building
    inputs = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits = StackedModel(models)(inputs)
    for position, model in enumerate(models):
        torch.testing.assert_close(logits[position], model(inputs[position]))


def test_models_that_compute_different_things_are_refused():
    def with_activation(activation):
        return nn.Sequential(nn.Linear(4, 3), activation)

    with pytest.raises(
        ValueError, match=r"`models` must hold the same modules, got Sigmoid\(\) for ReLU\(\) at position 1\.$"
    ):
        StackedModel([with_activation(nn.ReLU()), with_activation(nn.Sigmoid())])
    with pytest.raises(ValueError, match=r"got LeakyReLU\(.*0.2\) for LeakyReLU\(.*0.1\) at position 2\.$"):
        StackedModel([with_activation(nn.LeakyReLU(slope)) for slope in (0.1, 0.1, 0.2)])
    with pytest.raises(ValueError, match=r"got Doubled.* for MLP.* at position 1\.$"):
        StackedModel([MLP(4, 3), Doubled(4, 3)])
    with pytest.raises(ValueError, match=r"got 3 modules for 2 at position 1\.$"):
        StackedModel([with_activation(nn.ReLU())[:1], with_activation(nn.ReLU())])


def test_seeded_leaves_the_generators_of_accelerators_alone(monkeypatch):
    def fail(seed):
        raise AssertionError(f"seeded by {seed}")

    monkeypatch.setattr("torch.cuda.manual_seed_all", fail)
    monkeypatch.setattr("torch.cuda.manual_seed", fail)
    drawn = seeded(lambda: MLP(4, 3), 5).layer1.weight
    monkeypatch.undo()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert torch.equal(MLP(4, 3).layer1.weight, drawn)
    assert torch.equal(seeded(lambda: MLP(4, 3), np.int64(5)).layer1.weight, drawn)


def test_seeded_is_reproducible_and_leaves_the_generator_alone():
    before = torch.get_rng_state()
    first, again, other = (seeded(lambda: MLP(4, 3), seed).layer1.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


class OnlyInTraining(nn.Module):
    """Doubles its input while training."""

    def forward(self, inputs):
        return 2 * inputs if self.training else inputs


def test_the_mode_of_the_stack_is_that_of_what_it_computes():
    models = [nn.Sequential(nn.Linear(4, 3), OnlyInTraining()) for _ in range(2)]
    inputs = torch.ones(2, 5, 4)
    stack = StackedModel(models)
    trained = stack(inputs)
    assert torch.equal(stack.eval()(inputs), trained / 2)
    assert not stack.training
    assert torch.equal(stack.train()(inputs), trained)
    assert torch.equal(copy.deepcopy(stack).eval()(inputs), trained / 2)
    assert torch.equal(stack(inputs), trained)


def test_the_stack_shares_nothing_with_the_models_it_is_made_of():
    models = [nn.Sequential(nn.Linear(4, 3), OnlyInTraining()) for _ in range(2)]
    inputs = torch.ones(2, 5, 4)
    stack = StackedModel(models)
    trained = stack(inputs)
    models[0].eval()
    assert torch.equal(stack(inputs), trained)
    stack.eval()
    assert models[1].training
    models[0].train()
    stack(inputs)
    assert models[0].training
    assert not StackedModel([model.eval() for model in models]).training
