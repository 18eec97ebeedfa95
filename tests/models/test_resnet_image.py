import pytest
import torch
import torchvision
from torch import nn

from lt_lib.models import ImageResNet, decay_kernels, seeded


@pytest.mark.parametrize(("depth", "blocks"), [(50, 16), (101, 33), (152, 50)])
def test_the_network_is_torchvisions_with_its_own_head(depth, blocks):
    with torch.device("meta"):
        ours, theirs = ImageResNet(depth, 1000), getattr(torchvision.models, f"resnet{depth}")(num_classes=1000)
    shapes = {name.removeprefix("body."): value.shape for name, value in ours.state_dict().items()}
    expected = {name.replace("fc.", "head."): value.shape for name, value in theirs.state_dict().items()}
    assert shapes == expected
    assert sum(name.endswith("conv3.weight") for name in shapes) == blocks


def test_it_computes_what_torchvision_computes():
    ours, theirs = ImageResNet(18, 7).eval(), torchvision.models.resnet18(num_classes=7).eval()
    theirs.load_state_dict(
        {name.removeprefix("body.").replace("head.", "fc."): value for name, value in ours.state_dict().items()}
    )
    images = torch.randn(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(images), theirs(images))
        assert ours.features(images).shape == (2, 512)


def test_heads_are_linear_or_cosine():
    linear = seeded(lambda: ImageResNet(18, 200), 0).head
    assert linear.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not linear.bias.any()
    cosine = ImageResNet(18, 4, head="cosine").eval()
    with torch.no_grad():
        assert cosine(torch.randn(3, 3, 32, 32)).abs().max() <= 1 + 1e-5
    with pytest.raises(ValueError, match="`kind` must be one of 'linear', 'cosine', got 'none'"):
        ImageResNet(18, 4, head="none")


def test_a_depth_is_one_of_four_integers():
    with pytest.raises(ValueError, match="`depth` must be one of 18, 50, 101, 152, got 34"):
        ImageResNet(34, 4)
    for wrong in ("18", 50.0, True):
        with pytest.raises(TypeError, match=f"`depth` must be an integer, got {wrong!r}"):
            ImageResNet(wrong, 4)


def test_only_kernels_and_matrices_are_decayed():
    model = ImageResNet(18, 5)
    kernels, spared = decay_kernels(model, 1e-4)
    assert (kernels["weight_decay"], spared["weight_decay"]) == (1e-4, 0.0)
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert {id(parameter) for parameter in kernels["params"]} == {id(layer.weight) for layer in layers}
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    expected = {id(parameter) for norm in norms for parameter in norm.parameters()} | {id(model.head.bias)}
    assert {id(parameter) for parameter in spared["params"]} == expected
    assert len(kernels["params"]) + len(spared["params"]) == len(list(model.parameters()))
    with pytest.raises(ValueError, match="`weight_decay` must be a finite number of at least 0.0, got -1"):
        decay_kernels(model, -1)
