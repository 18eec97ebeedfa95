import pytest
import torch
from torch import nn

from lt_lib.models import MLP, StackedModel, seeded
from lt_lib.training import WeightAverage


def weights(net):
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()])


def moved(net, amount):
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(amount)


def test_the_average_follows_the_formula_and_starts_at_the_model():
    net = seeded(lambda: MLP(3, 2, hidden=4), 0).double()
    average = WeightAverage(net, 0.9)
    expected = weights(net)
    assert torch.equal(weights(average.model), expected)
    for step in range(4):
        moved(net, 0.1 * step)
        average.update(net)
        expected = 0.9 * expected + 0.1 * weights(net)
    torch.testing.assert_close(weights(average.model), expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_the_ends_follow_exactly_and_never_move(decay):
    net = seeded(lambda: MLP(3, 2, hidden=4), 0)
    average, start = WeightAverage(net, decay), weights(net)
    moved(net, 1.0)
    average.update(net)
    assert torch.equal(weights(average.model), start if decay else weights(net))


def test_buffers_are_copied_and_not_averaged():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    average = WeightAverage(net, 0.99)
    net(torch.randn(8, 3, generator=torch.Generator().manual_seed(0)))
    average.update(net)
    for mine, its in zip(average.model.buffers(), net.buffers(), strict=True):
        assert torch.equal(mine, its)
    assert int(average.model[1].num_batches_tracked) == 1


def test_the_average_is_apart_from_the_model():
    net = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).train()
    average = WeightAverage(net)
    assert not average.model.training
    assert net.training
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
    assert all(parameter.requires_grad for parameter in net.parameters())
    before = weights(average.model).clone()
    moved(net, 1.0)
    assert torch.equal(weights(average.model), before)


def test_a_stack_is_averaged_member_by_member():
    nets = [seeded(lambda: MLP(3, 2, hidden=4), seed).double() for seed in range(3)]
    stack = StackedModel(nets)
    average, alone = WeightAverage(stack, 0.8), [WeightAverage(net, 0.8) for net in nets]
    moved(stack, 0.5)
    average.update(stack)
    for position, (net, single) in enumerate(zip(nets, alone, strict=True)):
        moved(net, 0.5)
        single.update(net)
        for name, value in average.model.member(position).items():
            torch.testing.assert_close(value, single.model.state_dict()[name])


def test_a_decay_out_of_range_is_refused():
    for decay in (1.5, -0.1, float("nan")):
        with pytest.raises(ValueError, match=rf"`decay` must be a finite number in \[0.0, 1.0\], got {decay}"):
            WeightAverage(nn.Linear(1, 1), decay)
    for decay in (True, "0.9"):
        with pytest.raises(TypeError, match="`decay` must be a real number"):
            WeightAverage(nn.Linear(1, 1), decay)
