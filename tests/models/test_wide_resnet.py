import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lt_lib.models import MLP, CosineHead, WideResNet, decay_without_norm, seeded


def naive(net, images, strides, convolved):
    """The forward pass written out from the parameters alone, in training mode.

    Args:
        net: the network, for its parameters.
        images: the input.
        strides: of every block.
        convolved: whether the shortcut of a block is a convolution.
    """
    state = dict(net.named_parameters())

    def normalised(values, name):
        scaled = F.batch_norm(values, None, None, state[f"{name}.weight"], state[f"{name}.bias"], True, 0.0, 1e-3)
        return torch.where(scaled > 0, scaled, 0.1 * scaled)

    values = F.conv2d(images, state["stem.weight"], padding=1)
    for block, (stride, through) in enumerate(zip(strides, convolved, strict=True)):
        name = f"blocks.{block}"
        active = normalised(values, f"{name}.bn1")
        passed = F.conv2d(active, state[f"{name}.shortcut.weight"], stride=stride) if through else values
        hidden = F.conv2d(active, state[f"{name}.conv1.weight"], stride=stride, padding=1)
        values = F.conv2d(normalised(hidden, f"{name}.bn2"), state[f"{name}.conv2.weight"], padding=1) + passed
    pooled = normalised(values, "bn").mean(dim=(2, 3))
    return pooled @ state["head.weight"].T + state["head.bias"]


def test_the_size_is_that_of_the_papers():
    assert sum(parameter.numel() for parameter in WideResNet().parameters()) == 1_467_610
    assert sum(parameter.numel() for parameter in WideResNet(num_classes=100).parameters()) == 1_467_610 + 90 * 129


@pytest.mark.parametrize(
    ("depth", "width", "strides", "convolved"),
    [
        (10, 1, [1, 2, 2], [False, True, True]),
        (16, 2, [1, 1, 2, 1, 2, 1], [True, False, True, False, True, False]),
        (22, 1, [1, 1, 1, 2, 1, 1, 2, 1, 1], [False, False, False, True, False, False, True, False, False]),
    ],
)
def test_the_forward_pass_written_out(depth, width, strides, convolved):
    net = seeded(lambda: WideResNet(depth, width, 5, in_channels=2), 0).double()
    images = torch.randn(4, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(images), naive(net, images, strides, convolved))
    assert net.features(images).shape == (4, 64 * width)


def test_the_head_can_be_a_cosine():
    net = WideResNet(10, 1, 5, head="cosine")
    assert isinstance(net.head, CosineHead)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(net(images), net.head(net.features(images)))
    with pytest.raises(ValueError, match="`kind` must be one of 'linear', 'cosine', got 'none'"):
        WideResNet(10, 1, 5, head="none")


def test_the_batch_statistics_move_by_a_thousandth():
    net = seeded(lambda: WideResNet(10, 1, 3), 0)
    images = torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    hidden = net.stem(images)
    net(images)
    first = net.blocks[0].bn1
    torch.testing.assert_close(first.running_mean, 1e-3 * hidden.mean(dim=(0, 2, 3)).detach())
    layers = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {(layer.momentum, layer.eps) for layer in layers} == {(1e-3, 1e-3)}


def test_the_weights_start_he_normal_by_fan_out():
    net = seeded(lambda: WideResNet(), 0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 5000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert float(module.weight.detach().std()) == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_only_batch_normalisation_is_spared_from_decay():
    net = WideResNet(10, 1, 3)
    decayed, spared = decay_without_norm(net, 5e-4)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    assert (decayed["weight_decay"], spared["weight_decay"]) == (5e-4, 0.0)
    assert all("bn" in names[id(parameter)] for parameter in spared["params"])
    assert {names[id(parameter)] for parameter in decayed["params"]} == {
        name for name in names.values() if "bn" not in name
    }
    assert len(decay_without_norm(MLP(2, 2), 0.1)) == 1
    with pytest.raises(ValueError, match="`weight_decay` must be a finite number of at least 0.0, got -1"):
        decay_without_norm(net, -1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((12, 2), r"`depth` must be 6k \+ 4 .* got 12"),
        ((4, 2), "got 4"),
        ((28, 0), "`width` must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_sizes_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        WideResNet(*arguments)
