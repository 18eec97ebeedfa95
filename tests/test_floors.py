import pytest
import torch
import torch.nn.functional as F
from benchmarks.floors import Ceilings, Layer, count, floor_seconds, measure_ceilings
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lt_lib.models import CifarResNet, WideResNet


@pytest.mark.parametrize(
    ("model", "batch"),
    [
        (lambda: CifarResNet(32, 10), (128, 3, 32, 32)),
        (lambda: CifarResNet(8, 5, in_channels=1), (7, 1, 9, 9)),
        (lambda: WideResNet(28, 2, 10), (64, 3, 32, 32)),
    ],
)
def test_operations_agree_with_the_counter_of_pytorch(model, batch):
    """Our count takes the shapes of the layers; PyTorch's takes the operations that run, forward and backward."""
    layers = count(model(), batch)
    network = model().to("meta")
    with FlopCounterMode(display=False) as counter:
        logits = network(torch.empty(batch, device="meta"))
        F.cross_entropy(logits, torch.empty(batch[0], dtype=torch.int64, device="meta")).backward()
    assert sum(layer.flops for layer in layers) == counter.get_total_flops()


def test_resnet_32_has_the_operations_of_its_published_size():
    """69 million multiplications with additions per image (He et al.), three times for a training step."""
    flops = sum(layer.flops for layer in count(CifarResNet(32, 10), (1, 3, 32, 32)))
    assert flops / (2 * 3 * 69e6) == pytest.approx(1, abs=0.02)


class Tiny(nn.Module):
    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 1, bias=False)

    def forward(self, images):
        return F.relu(self.convolution(images)).mean(dim=(2, 3))


def test_bytes_of_a_layer_are_those_counted_by_hand():
    layers = {layer.name: layer for layer in count(Tiny(), (2, 3, 8, 8))}
    pixels, small, large, weights = 2 * 8 * 8, 3 * 2, 4 * 2, 4 * 3 * 2  # two bytes a number
    forward = pixels * (small + large) + weights
    # The backward pass reads gradient, images and weights, and writes the gradient of the weights: images ask for none.
    backward = pixels * (large + small) + 2 * weights
    assert layers["convolution"].bytes == forward + backward
    assert layers["convolution"].flops == 2 * 2 * pixels * 3 * 4
    assert layers["update"].bytes == 5 * 4 * 12
    # ReLU forward and backward, the mean and its spreading back: seven passes over the activation, and small change.
    assert layers["model"].bytes == pytest.approx(7 * pixels * large, rel=0.05)


def test_bytes_and_operations_grow_with_the_batch():
    small, large = (count(CifarResNet(8, 10), (batch, 3, 32, 32)) for batch in (64, 128))
    for name in ("flops", "bytes"):
        one, two = (sum(getattr(layer, name) for layer in layers) for layers in (small, large))
        assert 1.95 < two / one <= 2


def test_the_floor_is_the_larger_of_two_times():
    layers = [Layer("a", 100, 10), Layer("b", 100, 30)]
    assert floor_seconds(layers, Ceilings(100.0, 100.0)) == {"arithmetic": 2.0, "traffic": 0.4, "floor": 2.0}
    assert floor_seconds(layers, Ceilings(100.0, 10.0)) == {"arithmetic": 2.0, "traffic": 4.0, "floor": 4.0}


def test_ceilings_are_measured():
    ceilings = measure_ceilings("cpu", size=64, gigabytes=0.001)
    assert ceilings.flops > 0
    assert ceilings.bytes > 0
