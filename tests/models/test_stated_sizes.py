"""Every size that a model states a range for is checked before anything is built, and named."""

import pytest
from torch import nn

from lt_lib.models import (
    MLP,
    CifarResNet,
    CosineHead,
    ImageResNet,
    SmallCNN,
    TextLSTM,
    WideResNet,
    initialise_prior_bias,
    make_head,
)

# A call that fits, and the smallest value of each of its sizes.
MODELS = [
    (CosineHead, {"in_features": 4, "num_classes": 3}, {"in_features": 1, "num_classes": 2}),
    (make_head, {"kind": "linear", "in_features": 4, "num_classes": 3}, {"in_features": 1, "num_classes": 2}),
    (make_head, {"kind": "cosine", "in_features": 4, "num_classes": 3}, {"in_features": 1, "num_classes": 2}),
    (MLP, {"in_features": 4, "num_classes": 3, "hidden": 5}, {"in_features": 1, "num_classes": 2, "hidden": 1}),
    (SmallCNN, {"in_channels": 3, "num_classes": 3}, {"in_channels": 1, "num_classes": 2}),
    (CifarResNet, {"depth": 8, "num_classes": 3, "in_channels": 3}, {"num_classes": 2, "in_channels": 1}),
    (ImageResNet, {"depth": 18, "num_classes": 3}, {"num_classes": 2}),
    (
        WideResNet,
        {"depth": 10, "width": 2, "num_classes": 3, "in_channels": 3},
        {"width": 1, "num_classes": 2, "in_channels": 1},
    ),
    (
        TextLSTM,
        {"vocabulary": 9, "num_classes": 3, "hidden": 4},
        {"vocabulary": 1, "num_classes": 2, "hidden": 1},
    ),
    (initialise_prior_bias, {"head": nn.Linear(2, 2), "num_classes": 2}, {"num_classes": 2}),
]
SIZES = [(build, given, name, least) for build, given, limits in MODELS for name, least in limits.items()]


@pytest.mark.parametrize(("build", "given", "name", "least"), SIZES)
def test_a_size_out_of_range_is_refused_by_name(build, given, name, least):
    for wrong in (least - 1, -1):
        with pytest.raises(ValueError, match=f"`{name}` must be an integer of at least {least}, got {wrong}"):
            build(**given | {name: wrong})
    for wrong in (3.0, True, "3"):
        with pytest.raises(TypeError, match=f"`{name}` must be an integer, got {wrong!r}"):
            build(**given | {name: wrong})


@pytest.mark.parametrize(("build", "given", "limits"), MODELS)
def test_the_smallest_sizes_are_accepted(build, given, limits):
    build(**given | limits)


@pytest.mark.parametrize("build", [CifarResNet, WideResNet])
def test_a_depth_is_an_integer(build):
    with pytest.raises(TypeError, match=r"`depth` must be an integer, got 10\.0"):
        build(depth=10.0, num_classes=3)
