"""One row per public loss: how it is called, and the same number from plain Python, one sample at a time.

A new loss needs its row here; a test fails until it has one.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from lt_lib import counts, losses

COUNTS = [200, 40, 8, 3]
CLASSES = len(COUNTS)
PRIOR = [count / sum(COUNTS) for count in COUNTS]
MARGINS = [0.1, 0.2, 0.35, 0.5]


@dataclass(frozen=True)
class FunctionCase:
    """A loss function with its further arguments and its per-sample reference `(logits, target) -> float`."""

    name: str
    reference: Callable[[list[float], int], float]
    arguments: dict[str, Any] = field(default_factory=dict)
    shift_invariant: bool = False  # adding one number to all logits of a sample changes nothing
    label: str = ""

    def __call__(self, logits: torch.Tensor, targets: torch.Tensor, **changes: Any) -> torch.Tensor:
        per_class = {key: value.to(logits.device) for key, value in self.arguments.items() if torch.is_tensor(value)}
        return getattr(losses, self.name)(logits, targets, **{**self.arguments, **per_class, **changes})

    def __str__(self) -> str:
        return self.name + self.label


@dataclass(frozen=True)
class ModuleCase:
    """A Module and the function call that it must equal."""

    name: str
    build: Callable[..., torch.nn.Module]  # takes reduction and normalization
    function: str
    arguments: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def softmax(scores):
    exponentials = [math.exp(score) for score in scores]
    return [value / sum(exponentials) for value in exponentials]


def softmax_reference(scores, target):
    return -math.log(softmax(scores)[target])


def softmax_focal_reference(gamma):
    def reference(scores, target):
        p = softmax(scores)[target]
        return -((1 - p) ** gamma) * math.log(p)

    return reference


def sigmoid_focal_reference(gamma):
    def reference(scores, target):
        total = 0.0
        for i, score in enumerate(scores):
            p = 1 / (1 + math.exp(-score if i == target else score))
            total -= (1 - p) ** gamma * math.log(p)
        return total

    return reference


def ldam_reference(scale):
    def reference(scores, target):
        lowered = [score - (MARGINS[i] if i == target else 0.0) for i, score in enumerate(scores)]
        return softmax_reference([scale * score for score in lowered], target)

    return reference


def hinge_reference(margins):
    def reference(scores, target):
        rival = max(score for i, score in enumerate(scores) if i != target)
        return max(rival - scores[target] + margins[target], 0.0)

    return reference


def prior_reference(tau):
    def reference(scores, target):
        return softmax_reference([score + tau * math.log(p) for score, p in zip(scores, PRIOR, strict=True)], target)

    return reference


def doubles(values):
    return torch.tensor(values, dtype=torch.float64)


FUNCTIONS = [
    FunctionCase("softmax_loss", softmax_reference, shift_invariant=True),
    *(
        FunctionCase("softmax_focal_loss", softmax_focal_reference(gamma), {"gamma": gamma}, True, f"-{gamma}")
        for gamma in (0.0, 0.5, 1.0, 2.0)
    ),
    FunctionCase("sigmoid_loss", sigmoid_focal_reference(0.0)),
    *(
        FunctionCase("focal_loss", sigmoid_focal_reference(gamma), {"gamma": gamma}, label=f"-{gamma}")
        for gamma in (0.0, 0.5, 1.0, 2.0)
    ),
    *(
        FunctionCase(
            "ldam_loss", ldam_reference(scale), {"margins": doubles(MARGINS), "scale": scale}, True, f"-{scale}"
        )
        for scale in (1.0, 10.0)
    ),
    FunctionCase("hinge_loss", hinge_reference([0.7] * CLASSES), {"margins": 0.7}, True, "-one-margin"),
    FunctionCase("hinge_loss", hinge_reference(MARGINS), {"margins": doubles(MARGINS)}, True),
    FunctionCase("balanced_softmax_loss", prior_reference(1.0), {"class_prior": doubles(PRIOR)}, True),
    *(
        FunctionCase(
            "logit_adjusted_loss", prior_reference(tau), {"class_prior": doubles(PRIOR), "tau": tau}, True, f"-{tau}"
        )
        for tau in (0.0, 1.5)
    ),
]

BETA = 0.99
WEIGHT = doubles(counts.class_balanced_weights(COUNTS, BETA).tolist())
LDAM_MARGINS = doubles(counts.ldam_margins(COUNTS, 0.4).tolist())
GIVEN_WEIGHT = doubles([0.5, 1.0, 2.0, 0.0])

MODULES = [
    ModuleCase(
        "ClassBalancedSoftmaxLoss",
        lambda **k: losses.ClassBalancedSoftmaxLoss(COUNTS, BETA, **k),
        "softmax_loss",
        {"weight": WEIGHT},
    ),
    ModuleCase(
        "ClassBalancedSoftmaxFocalLoss",
        lambda **k: losses.ClassBalancedSoftmaxFocalLoss(COUNTS, BETA, 0.5, **k),
        "softmax_focal_loss",
        {"weight": WEIGHT, "gamma": 0.5},
    ),
    ModuleCase(
        "ClassBalancedSigmoidLoss",
        lambda **k: losses.ClassBalancedSigmoidLoss(COUNTS, BETA, **k),
        "sigmoid_loss",
        {"weight": WEIGHT},
    ),
    ModuleCase(
        "ClassBalancedFocalLoss",
        lambda **k: losses.ClassBalancedFocalLoss(COUNTS, BETA, 2.0, **k),
        "focal_loss",
        {"weight": WEIGHT, "gamma": 2.0},
    ),
    ModuleCase(
        "LDAMLoss",
        lambda **k: losses.LDAMLoss(COUNTS, 0.4, 20.0, GIVEN_WEIGHT, **k),
        "ldam_loss",
        {"margins": LDAM_MARGINS, "scale": 20.0, "weight": GIVEN_WEIGHT},
    ),
    ModuleCase(
        "MarginHingeLoss",
        lambda **k: losses.MarginHingeLoss(MARGINS, GIVEN_WEIGHT, **k),
        "hinge_loss",
        {"margins": doubles(MARGINS), "weight": GIVEN_WEIGHT},
    ),
    ModuleCase(
        "BalancedSoftmaxLoss",
        lambda **k: losses.BalancedSoftmaxLoss(COUNTS, GIVEN_WEIGHT, **k),
        "balanced_softmax_loss",
        {"class_prior": doubles(PRIOR), "weight": GIVEN_WEIGHT},
    ),
    ModuleCase(
        "LogitAdjustedLoss",
        lambda **k: losses.LogitAdjustedLoss(COUNTS, 0.5, GIVEN_WEIGHT, **k),
        "logit_adjusted_loss",
        {"class_prior": doubles(PRIOR), "tau": 0.5, "weight": GIVEN_WEIGHT},
    ),
]
NOT_LOSSES = {"adjust_logits"}
