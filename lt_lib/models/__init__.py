"""Networks: CIFAR ResNets, small networks for the quick profile, an LSTM for texts, heads, and the stacked form."""

from lt_lib.models.heads import CosineHead, initialise_prior_bias, make_head, parameter_groups
from lt_lib.models.resnet_cifar import CifarResNet
from lt_lib.models.resnet_image import ImageResNet, decay_kernels
from lt_lib.models.small import MLP, SmallCNN
from lt_lib.models.stacked import StackedModel, seeded
from lt_lib.models.text_lstm import TextLSTM
from lt_lib.models.wide_resnet import WideResNet, decay_without_norm

__all__ = [
    "MLP",
    "CifarResNet",
    "CosineHead",
    "ImageResNet",
    "SmallCNN",
    "StackedModel",
    "TextLSTM",
    "WideResNet",
    "decay_kernels",
    "decay_without_norm",
    "initialise_prior_bias",
    "make_head",
    "parameter_groups",
    "seeded",
]
