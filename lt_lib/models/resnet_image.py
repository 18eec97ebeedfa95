"""Residual networks for photographs: torchvision's, with the heads and the decay of the large-scale recipes."""

from torch import Tensor, nn

from lt_lib._checks import check_integer, check_real
from lt_lib.models.heads import make_head

DEPTHS = (18, 50, 101, 152)
_HEAD_DEVIATION = 0.01


class ImageResNet(nn.Module):
    """ResNet of torchvision with a head of our own (He et al. 2016).

    Convolutions start from He-normal weights, as torchvision builds them. A linear head starts from a normal
    distribution of deviation 0.01 and a bias of zero, as in Goyal et al. 2017 and in the code of Cui et al. The strides
    of the deeper networks lie in their 3x3 convolutions, as in every network called ResNet-50 today; in the papers'
    first version they lay in the 1x1 convolutions before them.

    Args:
        depth: 18, 50, 101 or 152.
        num_classes: number of classes, >= 2.
        head: "linear" or "cosine" (`lt_lib.models.make_head`).

    Shapes:
        images `(batch, 3, height, width)` -> logits `(batch, num_classes)`; `features` gives `(batch, 2048)`, 512 for
        depth 18.

    Raises:
        ValueError: unknown `depth` or `head`, or `num_classes` < 2.

    Example:
        >>> net = ImageResNet(50, 1000)
        >>> sum(parameter.numel() for parameter in net.parameters())
        25557032
    """

    def __init__(self, depth: int, num_classes: int, *, head: str = "linear") -> None:
        super().__init__()
        if check_integer(depth, "depth") not in DEPTHS:
            raise ValueError(f"`depth` must be one of {', '.join(map(str, DEPTHS))}, got {depth}.")
        check_integer(num_classes, "num_classes", minimum=2)
        from torchvision import models

        self.body = getattr(models, f"resnet{depth}")(weights=None)
        width = self.body.fc.in_features
        self.body.fc = nn.Identity()
        self.head = make_head(head, width, num_classes)
        if head == "linear":
            nn.init.normal_(self.head.weight, std=_HEAD_DEVIATION)  # type: ignore[arg-type]

    def features(self, images: Tensor) -> Tensor:
        """Pooled activations before the head."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        """Logits or cosines `(batch, num_classes)`."""
        return self.head(self.features(images))


def decay_kernels(model: nn.Module, weight_decay: float) -> list[dict]:
    """Optimiser groups that decay kernels and matrices, and spare biases and the parameters of batch normalisation.

    What Cui et al. do on iNaturalist and ILSVRC. The parameters are told apart by their axes: those that are spared
    have one.

    Args:
        model: any module.
        weight_decay: coefficient of half the squared norm, >= 0.

    Returns:
        Two dictionaries for `torch.optim.SGD`; together they hold every parameter once.

    Raises:
        ValueError: `weight_decay` negative or not finite.

    Example:
        >>> [len(group["params"]) for group in decay_kernels(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)), 1e-4)]
        [1, 3]
    """
    check_real(weight_decay, "weight_decay", minimum=0.0)
    parameters = list(model.parameters())
    kernels = [parameter for parameter in parameters if parameter.ndim > 1]
    spared = [parameter for parameter in parameters if parameter.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
