"""Small networks for the quick profile: vectors and 8x8 images, seconds on a CPU.

Neither holds batch statistics, so many copies can be trained as one stacked model (`lt_lib.models.StackedModel`).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from lt_lib._checks import check_integer
from lt_lib.models.heads import make_head


class MLP(nn.Module):
    """Two hidden layers with ReLU, He-normal weights; images are flattened.

    Args:
        in_features: number of input values per sample, >= 1.
        num_classes: number of classes, >= 2.
        hidden: width of both hidden layers, >= 1.
        head: "linear" or "cosine".

    Shapes:
        inputs `(batch, ...)` with `in_features` values each -> logits `(batch, num_classes)`; `features` gives
        `(batch, hidden)`.

    Raises:
        ValueError: a size is out of range, or `head` is unknown.
    """

    def __init__(self, in_features: int, num_classes: int, *, hidden: int = 64, head: str = "linear") -> None:
        super().__init__()
        check_integer(in_features, "in_features", minimum=1)
        check_integer(num_classes, "num_classes", minimum=2)
        check_integer(hidden, "hidden", minimum=1)
        self.layer1 = nn.Linear(in_features, hidden)
        self.layer2 = nn.Linear(hidden, hidden)
        for layer in (self.layer1, self.layer2):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.zeros_(layer.bias)
        self.head = make_head(head, hidden, num_classes)

    def features(self, inputs: Tensor) -> Tensor:
        """Activations before the head, `(batch, hidden)`."""
        return F.relu(self.layer2(F.relu(self.layer1(inputs.flatten(1)))))

    def forward(self, inputs: Tensor) -> Tensor:
        """Logits or cosines `(batch, num_classes)`."""
        return self.head(self.features(inputs))


class SmallCNN(nn.Module):
    """Two 3x3 convolutions (16 and 32 channels, the second with stride 2), average pooling to 2x2, one head.

    Args:
        in_channels: channels of the input, >= 1.
        num_classes: number of classes, >= 2.
        head: "linear" or "cosine".

    Shapes:
        images `(batch, in_channels, height, width)`, height and width >= 4 -> logits `(batch, num_classes)`.

    Raises:
        ValueError: a size is out of range, or `head` is unknown.
    """

    def __init__(self, in_channels: int, num_classes: int, *, head: str = "linear") -> None:
        super().__init__()
        check_integer(in_channels, "in_channels", minimum=1)
        check_integer(num_classes, "num_classes", minimum=2)
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        for layer in (self.conv1, self.conv2):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        self.head = make_head(head, 32 * 4, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Activations before the head, `(batch, 128)`."""
        hidden = F.relu(self.conv2(F.relu(self.conv1(images))))
        return F.adaptive_avg_pool2d(hidden, 2).flatten(1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits or cosines `(batch, num_classes)`."""
        return self.head(self.features(images))
