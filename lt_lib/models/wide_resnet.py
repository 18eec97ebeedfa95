"""Wide residual networks for 32x32 images, the backbone of FixMatch and CReST."""

import torch.nn.functional as F
from torch import Tensor, nn

from lt_lib._checks import check_integer, check_real
from lt_lib.models.heads import make_head

_SLOPE = 0.1  # of the leaky ReLU


def _norm(channels: int) -> nn.BatchNorm2d:
    # The authors keep 0.999 of the old running statistics per step; PyTorch counts what is taken from the new batch.
    return nn.BatchNorm2d(channels, momentum=1e-3, eps=1e-3)


class _PreActivationBlock(nn.Module):
    """Normalise, activate, convolve, twice; where the shape changes, the shortcut convolves the activated input."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.bn1 = _norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        same = in_channels == out_channels
        self.shortcut = None if same else nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.leaky_relu(self.bn1(images), _SLOPE, inplace=True)
        passed = images if self.shortcut is None else self.shortcut(hidden)
        hidden = F.leaky_relu(self.bn2(self.conv1(hidden)), _SLOPE, inplace=True)
        return self.conv2(hidden) + passed


class WideResNet(nn.Module):
    r"""Pre-activation wide ResNet of depth 6k + 4 with 16, 16w, 32w and 64w channels (Zagoruyko and Komodakis 2016).

    After FixMatch's and CReST's code: leaky ReLU with slope 0.1, batch statistics that move by 0.001 a step with
    :math:`\epsilon = 10^{-3}`, He-normal weights by fan-out, no dropout, a linear head with bias. Depth 28 and width 2
    with ten classes have 1.47 million parameters. At width 2 and more the blocks are CReST's; the rest departs from
    them as follows.

    - The shortcut of the first block of every stage takes the activated input, as in CReST; in FixMatch that of the
      first stage only, of the others the raw input. At width 1 the first stage passes its raw input on, which both
      codes activate.
    - FixMatch's convolutions have biases, and with stride 2 they pad at the far edges only; here and in CReST there are
      no biases and both sides are padded.
    - Convolutions start from normal numbers, in CReST from truncated ones. A linear head starts He-normal by fan-in
      (`make_head`), in FixMatch Glorot-normal, in CReST Glorot-uniform, the default of Keras.

    Args:
        depth: 10, 16, 22, 28, 34 or 40: any 6k + 4, k >= 1.
        width: factor w on the channels of the three stages, >= 1.
        num_classes: number of classes, >= 2.
        in_channels: colour channels of the input, >= 1.
        head: "linear" or "cosine" (`lt_lib.models.make_head`).

    Shapes:
        images `(batch, in_channels, height, width)` -> logits `(batch, num_classes)`; `features` gives
        `(batch, 64 w)`.

    Raises:
        ValueError: `depth` is not 6k + 4, a size is out of range, or `head` is unknown.

    Example:
        >>> sum(parameter.numel() for parameter in WideResNet().parameters())
        1467610
    """

    def __init__(
        self, depth: int = 28, width: int = 2, num_classes: int = 10, *, in_channels: int = 3, head: str = "linear"
    ) -> None:
        super().__init__()
        if check_integer(depth, "depth") < 10 or (depth - 4) % 6:
            raise ValueError(f"`depth` must be 6k + 4 with k >= 1 (10, 16, 22, 28, 34, 40 ...), got {depth}.")
        check_integer(width, "width", minimum=1)
        check_integer(num_classes, "num_classes", minimum=2)
        check_integer(in_channels, "in_channels", minimum=1)
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        blocks: list[nn.Module] = []
        channels = 16
        for stage, base in enumerate((16, 32, 64)):
            for position in range((depth - 4) // 6):
                stride = 2 if stage > 0 and position == 0 else 1
                blocks.append(_PreActivationBlock(channels, base * width, stride))
                channels = base * width
        self.blocks = nn.Sequential(*blocks)
        self.bn = _norm(channels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                # The slope stays out of the gain, as in the published code.
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.head = make_head(head, channels, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations before the head, `(batch, 64 w)`."""
        hidden = self.blocks(self.stem(images))
        return F.leaky_relu(self.bn(hidden), _SLOPE, inplace=True).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits `(batch, num_classes)`."""
        return self.head(self.features(images))


def decay_without_norm(model: nn.Module, weight_decay: float) -> list[dict]:
    """Optimiser groups that decay all but the parameters of batch normalisation.

    What CReST's code does: every variable whose name lacks "bn" is decayed, the bias of the head included. FixMatch's
    decays kernels only (`decay_kernels`).

    Args:
        model: any module; its `BatchNorm` layers are found by type.
        weight_decay: coefficient of half the squared norm, >= 0.

    Returns:
        One or two dictionaries for `torch.optim.SGD`; together they hold every parameter once.

    Raises:
        ValueError: `weight_decay` negative or not finite.

    Example:
        >>> [group["weight_decay"] for group in decay_without_norm(WideResNet(10, 1), 5e-4)]
        [0.0005, 0.0]
    """
    check_real(weight_decay, "weight_decay", minimum=0.0)
    norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
    spared = [parameter for module in model.modules() if isinstance(module, norms) for parameter in module.parameters()]
    known = set(map(id, spared))
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in known]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
