"""Residual networks for 32x32 images, as both CIFAR tables of the papers use them."""

import torch.nn.functional as F
from torch import Tensor, nn

from lt_lib._checks import check_integer
from lt_lib.models.heads import make_head


class _PaddedShortcut(nn.Module):
    """Option A of He et al.: take every second pixel, pad the missing channels with zeros, no parameters."""

    def __init__(self, new_channels: int) -> None:
        super().__init__()
        self.before = new_channels // 2
        self.after = new_channels - self.before

    def forward(self, images: Tensor) -> Tensor:
        return F.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class _BasicBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = nn.Identity() if stride == 1 else _PaddedShortcut(out_channels - in_channels)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.relu(self.bn1(self.conv1(images)), inplace=True)
        return F.relu(self.bn2(self.conv2(hidden)) + self.shortcut(images), inplace=True)


class CifarResNet(nn.Module):
    r"""ResNet of depth 6k + 2 with 16, 32 and 64 channels (He et al. 2016, section 4.2).

    Depth 32 has 0.46 million parameters with ten classes. Convolutions and a linear head start from He-normal weights;
    the shortcut is option A (strided slicing and zero channels, no parameters). LDAM's code is the same; the code of
    the class-balanced loss pools the shortcut instead and starts from Glorot-uniform weights.

    Args:
        depth: 8, 14, 20, 32, 44, 56 or 110: any 6k + 2, k >= 1.
        num_classes: number of classes, >= 2.
        head: "linear" or "cosine" (`lt_lib.models.make_head`).
        in_channels: colour channels of the input, >= 1.

    Shapes:
        images `(batch, in_channels, height, width)` -> logits `(batch, num_classes)`; `features` gives `(batch, 64)`.

    Raises:
        ValueError: `depth` is not 6k + 2, a size is out of range, or `head` is unknown.

    Example:
        >>> net = CifarResNet(32, 10)
        >>> sum(parameter.numel() for parameter in net.parameters())
        464154
    """

    def __init__(self, depth: int, num_classes: int, *, head: str = "linear", in_channels: int = 3) -> None:
        super().__init__()
        if check_integer(depth, "depth") < 8 or (depth - 2) % 6:
            raise ValueError(f"`depth` must be 6k + 2 with k >= 1 (8, 14, 20, 32, 44, 56, 110 ...), got {depth}.")
        check_integer(num_classes, "num_classes", minimum=2)
        check_integer(in_channels, "in_channels", minimum=1)
        blocks_per_stage = (depth - 2) // 6
        self.stem = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        blocks: list[nn.Module] = []
        channels = 16
        for width in (16, 32, 64):
            for _ in range(blocks_per_stage):
                blocks.append(_BasicBlock(channels, width, stride=1 if width == channels else 2))
                channels = width
        self.blocks = nn.Sequential(*blocks)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
        self.head = make_head(head, channels, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations before the head, `(batch, 64)`."""
        hidden = self.blocks(F.relu(self.bn(self.stem(images)), inplace=True))
        return hidden.mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Logits or cosines `(batch, num_classes)`."""
        return self.head(self.features(images))
