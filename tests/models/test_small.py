import pytest
import torch
import torch.nn.functional as F

from lt_lib.models import MLP, CosineHead, SmallCNN


def test_mlp_equals_its_matrix_products():
    torch.manual_seed(0)
    net = MLP(12, 5, hidden=7).double()
    inputs = torch.randn(3, 3, 4, dtype=torch.float64)
    hidden = inputs.reshape(3, 12)
    for layer in (net.layer1, net.layer2):
        hidden = (hidden @ layer.weight.T + layer.bias).clamp_min(0)
    torch.testing.assert_close(net(inputs), hidden @ net.head.weight.T + net.head.bias)
    torch.testing.assert_close(net.features(inputs), hidden)


def test_cnn_equals_its_convolutions_and_quarter_averages():
    torch.manual_seed(0)
    net = SmallCNN(1, 5).double()
    images = torch.randn(3, 1, 8, 8, dtype=torch.float64)
    hidden = F.conv2d(images, net.conv1.weight, net.conv1.bias, padding=1).clamp_min(0)
    hidden = F.conv2d(hidden, net.conv2.weight, net.conv2.bias, padding=1, stride=2).clamp_min(0)
    pooled = hidden.reshape(3, 32, 2, 2, 2, 2).mean(dim=(3, 5)).flatten(1)
    torch.testing.assert_close(net.features(images), pooled)
    torch.testing.assert_close(net(images), pooled @ net.head.weight.T + net.head.bias)


@pytest.mark.parametrize("net", [MLP(8, 5, head="cosine"), SmallCNN(2, 5, head="cosine")])
def test_the_head_can_be_a_cosine_and_no_state_is_held_back(net):
    assert isinstance(net.head, CosineHead)
    assert list(net.buffers()) == []


def test_layers_start_with_the_variance_of_he():
    torch.manual_seed(0)
    layer = MLP(300, 5, hidden=400).layer1
    assert float(layer.weight.detach().var()) == pytest.approx(2 / 300, rel=0.03)
    assert not layer.bias.any()
    assert float(SmallCNN(16, 5).conv2.weight.detach().var()) == pytest.approx(2 / 144, rel=0.1)
