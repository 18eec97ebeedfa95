import pytest
import torch
import torch.nn.functional as F

from lt_lib.models import CifarResNet, CosineHead


def counted_by_hand(depth, num_classes, in_channels=3):
    # Per convolution 9 * in * out, per normalisation two numbers a channel, no shortcut parameters.
    total, channels = 9 * in_channels * 16 + 2 * 16, 16
    for width in (16, 32, 64):
        for _ in range((depth - 2) // 6):
            total += 9 * channels * width + 9 * width * width + 4 * width
            channels = width
    return total + 64 * num_classes + num_classes


@pytest.mark.parametrize("depth", [8, 14, 20, 32, 44, 56, 110])
def test_the_number_of_parameters_follows_from_the_depth(depth):
    net = CifarResNet(depth, 10)
    assert sum(parameter.numel() for parameter in net.parameters()) == counted_by_hand(depth, 10)


def test_depth_32_has_0_46_million_parameters_and_31_convolutions():
    net = CifarResNet(32, 10)
    assert round(sum(parameter.numel() for parameter in net.parameters()) / 1e6, 2) == 0.46
    assert sum(isinstance(module, torch.nn.Conv2d) for module in net.modules()) == 31


def test_classes_channels_and_head_reach_the_layers():
    net = CifarResNet(8, 7, head="cosine", in_channels=1)
    assert isinstance(net.head, CosineHead)
    assert net(torch.zeros(2, 1, 8, 8)).shape == (2, 7)
    assert net.features(torch.zeros(2, 1, 8, 8)).shape == (2, 64)


def test_the_shortcut_takes_every_second_pixel_and_pads_channels_with_zeros():
    shortcut = CifarResNet(8, 10).blocks[1].shortcut
    images = torch.randn(2, 16, 6, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.zeros(2, 32, 3, 3)
    for channel in range(16):
        for row in range(3):
            for column in range(3):
                expected[:, 8 + channel, row, column] = images[:, channel, 2 * row, 2 * column]
    torch.testing.assert_close(shortcut(images), expected, rtol=0, atol=0)
    assert list(shortcut.parameters()) == []


def plain_forward(net, images):
    """The network written down once more, from its weights only."""

    def normalised(name, hidden):
        layer = net.get_submodule(name)
        mean, var = layer.running_mean[:, None, None], layer.running_var[:, None, None]
        return (hidden - mean) / (var + 1e-5).sqrt() * layer.weight[:, None, None] + layer.bias[:, None, None]

    def convolved(name, hidden, stride=1):
        return F.conv2d(hidden, net.get_submodule(name).weight, stride=stride, padding=1)

    hidden = normalised("bn", convolved("stem", images)).clamp_min(0)
    for position in range(len(net.blocks)):
        stride = 2 if position in (len(net.blocks) // 3, 2 * len(net.blocks) // 3) else 1
        inner = normalised(f"blocks.{position}.bn1", convolved(f"blocks.{position}.conv1", hidden, stride)).clamp_min(0)
        inner = normalised(f"blocks.{position}.bn2", convolved(f"blocks.{position}.conv2", inner))
        if stride == 2:
            extra = torch.zeros_like(hidden[:, ::2, ::2, ::2])
            hidden = torch.cat([extra, hidden[:, :, ::2, ::2], extra], dim=1)
        hidden = (inner + hidden).clamp_min(0)
    return hidden.flatten(2).mean(dim=2) @ net.head.weight.T + net.head.bias


def test_the_forward_pass_equals_one_written_from_the_weights():
    torch.manual_seed(0)
    net = CifarResNet(14, 5).double()
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64)
    for _ in range(3):
        net(images + torch.randn_like(images))  # moves the running statistics away from 0 and 1
    net.eval()
    torch.testing.assert_close(net(images), plain_forward(net, images), rtol=1e-10, atol=1e-10)


def test_channels_last_gives_the_same_logits():
    torch.manual_seed(0)
    net, images = CifarResNet(8, 10).eval(), torch.randn(2, 3, 32, 32)
    expected = net(images)
    found = net.to(memory_format=torch.channels_last)(images.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_weights_start_with_the_variance_of_he():
    torch.manual_seed(0)
    net = CifarResNet(32, 100)
    for name, module in net.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            fan_in = module.weight[0].numel()
            relative_error = 5 * (2 / module.weight.numel()) ** 0.5  # of a variance estimated from that many numbers
            assert float(module.weight.detach().var()) == pytest.approx(2 / fan_in, rel=relative_error), name
    assert float(net.head.weight.detach().var()) == pytest.approx(2 / 64, rel=0.1)
    assert not net.head.bias.any()


@pytest.mark.parametrize("depth", [0, 2, 7, 9, 33, -4])
def test_a_depth_that_no_such_network_has_is_refused(depth):
    with pytest.raises(ValueError, match=rf"`depth` must be 6k \+ 2 .* got {depth}"):
        CifarResNet(depth, 10)
