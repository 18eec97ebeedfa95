r"""Decoupling: keep the representation of a trained network, and choose the classifier on top of it anew.

Four classifiers on frozen features :math:`h`, all linear in them or in their direction:

* cRT, classifier re-training: new weights, trained with class-balanced draws;
* tau-normalisation: the trained weights, shortened by a power of their length, :math:`w_c / \lVert w_c \rVert^\tau`;
* LWS, learnable weight scaling: the trained weights, each times a learned number;
* NCM, nearest class mean: no weights, the class whose mean feature is nearest.

Whatever has to be chosen (:math:`\tau`, a learning rate, a distance) is chosen by the balanced accuracy on validation
samples.

References:
    B. Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020, section 4.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_lib._checks import check_class_indices, check_integer, check_known, check_positive, check_real
from lt_lib.metrics import balanced_accuracy
from lt_lib.training.loop import evaluating

CLASSIFIERS = ("crt", "tau", "lws", "ncm")
TAUS = tuple(round(0.1 * step, 1) for step in range(21))  # 0, 0.1 ... 2
LEARNING_RATES = (0.01, 0.1, 1.0)
Distance = Literal["cosine", "euclidean"]


@dataclass(frozen=True)
class FeatureSet:
    """Samples as a frozen backbone sees them: features `(samples, width)` and targets `(samples,)`, int64."""

    features: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Classifier:
    """A linear classifier, possibly on features of length 1.

    Attributes:
        weight: `(classes, width)`.
        bias: `(classes,)`, or None.
        normalise: divide every feature vector by its length first.
        chosen: what validation chose, by name.
        validation_accuracy: balanced accuracy of the choice; NaN where nothing had to be chosen.
    """

    weight: Tensor
    bias: Tensor | None = None
    normalise: bool = False
    chosen: Mapping[str, float | str] | None = None
    validation_accuracy: float = float("nan")

    def __call__(self, features: Tensor) -> Tensor:
        """Logits `(samples, classes)`."""
        values = F.normalize(features, dim=-1) if self.normalise else features
        return F.linear(values, self.weight, self.bias)


@torch.no_grad()
def extract_features(model: nn.Module, inputs: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Features of `inputs` before the last layer in evaluation mode, float32 or wider, `(samples, width)`.

    Args:
        model: module with a method `features`; the training mode of each of its parts is restored afterwards.
        inputs: `(samples, ...)`, prepared as the model expects and not augmented.
        batch_size: samples per forward pass.
    """
    encode: Any = model.features
    with evaluating(model):
        features = torch.cat([encode(part) for part in inputs.split(batch_size)])
    return features.float() if features.dtype in (torch.float16, torch.bfloat16) else features


def retrain_classifier(
    data: FeatureSet,
    num_classes: int,
    *,
    rng: torch.Generator,
    epochs: int = 10,
    learning_rate: float = 0.1,
    batch_size: int = 128,
    weight_decay: float = 5e-4,
    balanced: bool = True,
) -> Classifier:
    r"""cRT: a new linear layer on frozen features, by SGD with momentum 0.9 and a cosine rate that ends at 0.

    Every draw takes a class at random, then one of its samples: all classes count alike. An epoch draws as many samples
    as there are. With `balanced=False` every sample is visited once per epoch instead; on the features of a
    pre-trained network that never saw a label, this is the usual linear probe. The weights start at zero.

    The features are computed once, so the images of this stage are not augmented, unlike in the code of Kang et al.

    Args:
        data: training samples.
        num_classes: C, >= 2.
        rng: generator of the draws.
        epochs: passes, >= 1.
        learning_rate: of the first step, > 0.
        batch_size: samples per step.
        weight_decay: of weights and bias, >= 0.
        balanced: class-balanced draws.

    Raises:
        ValueError: features and targets that do not fit, a class without a sample where draws are balanced, a target or
            a number out of range.
        TypeError: targets that are not int64.
    """
    _check_data(data, num_classes)
    check_real(weight_decay, "weight_decay", minimum=0.0)
    weight = torch.zeros(num_classes, data.features.shape[1], dtype=data.features.dtype, device=data.features.device)
    bias = torch.zeros_like(weight[:, 0])
    _descend(
        [weight, bias], lambda h: F.linear(h, weight, bias), lambda h, slope: [slope.T @ h, slope.sum(dim=0)],
        data, num_classes,
        rng=rng, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, weight_decay=weight_decay,
        balanced=balanced,
    )  # fmt: skip
    return Classifier(weight, bias)


def tau_normalise(weight: Tensor, tau: float) -> Classifier:
    r"""Weights divided by a power of their length, without bias.

    .. math:: \tilde w_c = \frac{w_c}{\lVert w_c \rVert^{\tau}}

    Frequent classes tend to have longer weights. :math:`\tau = 0` leaves the trained weights, 1 makes all equally
    long. The bias is dropped, as in the paper.

    Args:
        weight: trained weights `(classes, width)`, none of them zero.
        tau: the power, >= 0.

    Raises:
        ValueError: `tau` < 0, or a weight of length zero.

    Example:
        >>> tau_normalise(torch.tensor([[3.0, 4.0], [0.0, 1.0]]), 1.0).weight.tolist()
        [[0.6000000238418579, 0.800000011920929], [0.0, 1.0]]
    """
    check_real(tau, "tau", minimum=0.0)
    length = weight.detach().norm(dim=1, keepdim=True)
    if bool((length == 0).any()):
        raise ValueError(
            f"`weight` must have no zero row, got one for class {int((length == 0).flatten().nonzero()[0])}."
        )
    return Classifier(weight.detach() / length**tau)


def learn_weight_scaling(
    weight: Tensor,
    bias: Tensor | None,
    data: FeatureSet,
    *,
    rng: torch.Generator,
    epochs: int = 10,
    learning_rate: float = 0.1,
    batch_size: int = 128,
) -> Classifier:
    r"""LWS: learn one factor per class, with class-balanced draws; weights and features stay.

    .. math:: z_c = f_c\,(w_c^\top h + b_c)

    All factors start at 1. Arguments and errors as for `retrain_classifier`, beside the trained `weight` and `bias`.
    """
    _check_data(data, len(weight))
    factors = torch.ones(len(weight), dtype=data.features.dtype, device=data.features.device)
    fixed = F.linear(data.features, weight.detach(), None if bias is None else bias.detach())
    _descend(
        [factors], lambda z: z * factors, lambda z, slope: [(slope * z).sum(dim=0)],
        FeatureSet(fixed, data.targets), len(weight),
        rng=rng, epochs=epochs, learning_rate=learning_rate, batch_size=batch_size, weight_decay=0.0, balanced=True,
    )  # fmt: skip
    return Classifier(weight.detach() * factors[:, None], None if bias is None else bias.detach() * factors)


def nearest_class_mean(data: FeatureSet, num_classes: int, distance: Distance = "cosine") -> Classifier:
    r"""NCM: the class whose mean feature is nearest, on features of length 1.

    .. math:: z_c = \frac{\mu_c^\top h}{\lVert\mu_c\rVert}
        \quad\text{or}\quad z_c = \mu_c^\top h - \tfrac12\lVert\mu_c\rVert^2,
        \qquad \mu_c = \frac1{n_c}\sum_{i: y_i = c} h_i

    The second orders the classes by the Euclidean distance. No learning, so the counts enter only through the noise of
    the means.

    Args:
        data: training samples, at least one of every class.
        num_classes: C, >= 2.
        distance: "cosine" or "euclidean".

    Raises:
        ValueError: features and targets that do not fit, a target out of range, a class without a sample, or an unknown
            distance.
        TypeError: targets that are not int64.
    """
    check_known(distance, "distance", ("cosine", "euclidean"))
    _check_data(data, num_classes)
    size = _class_sizes(data.targets, num_classes)
    unit = F.normalize(data.features, dim=1)
    means = torch.zeros(num_classes, unit.shape[1], dtype=unit.dtype, device=unit.device)
    means = means.index_add(0, data.targets, unit) / size[:, None].to(unit.dtype)
    if distance == "cosine":
        return Classifier(F.normalize(means, dim=1), normalise=True)
    return Classifier(means, -means.square().sum(dim=1) / 2, normalise=True)


def decouple(
    kind: str,
    head: nn.Linear,
    train: FeatureSet,
    validation: FeatureSet,
    *,
    seed: int = 0,
    epochs: int = 10,
    batch_size: int = 128,
) -> Classifier:
    """One of the four classifiers, with its free number chosen on validation samples.

    Args:
        kind: "crt" or "lws" (learning rate out of `LEARNING_RATES`), "tau" (out of `TAUS`), "ncm" (distance).
        head: last layer of the trained network.
        train: samples that the network was trained on.
        validation: samples that it was not trained on; balanced accuracy decides, the first of equals wins.
        seed: of the draws, the same for every candidate.
        epochs: passes of cRT and LWS.
        batch_size: samples per step of cRT and LWS.

    Raises:
        ValueError: unknown kind, a last layer that is not linear, or no validation sample.
    """
    check_known(kind, "kind", CLASSIFIERS)
    if not isinstance(head, nn.Linear):
        raise ValueError(f"`head` must be a linear layer, got {type(head).__name__}.")
    if len(validation.targets) == 0:
        raise ValueError("`validation` must hold samples to choose on, got none.")
    num_classes = len(head.weight)

    def rng() -> torch.Generator:
        return torch.Generator(train.features.device).manual_seed(seed)

    steps: dict[str, Any] = {"epochs": epochs, "batch_size": batch_size}
    candidates: dict[float | str, Classifier]
    weight = head.weight.detach().to(train.features.dtype)
    bias = None if head.bias is None else head.bias.detach().to(train.features.dtype)
    if kind == "tau":
        name, candidates = "tau", {tau: tau_normalise(weight, tau) for tau in TAUS}
    elif kind == "ncm":
        name = "distance"
        candidates = {"cosine": nearest_class_mean(train, num_classes, "cosine")}
        candidates["euclidean"] = nearest_class_mean(train, num_classes, "euclidean")
    elif kind == "crt":
        name = "learning_rate"
        candidates = {
            rate: retrain_classifier(train, num_classes, rng=rng(), learning_rate=rate, **steps)
            for rate in LEARNING_RATES
        }
    else:
        name = "learning_rate"
        candidates = {
            rate: learn_weight_scaling(weight, bias, train, rng=rng(), learning_rate=rate, **steps)
            for rate in LEARNING_RATES
        }
    scores = {
        value: balanced_accuracy(validation.targets, found(validation.features).argmax(dim=1), num_classes)
        for value, found in candidates.items()
    }
    best = max(scores, key=lambda value: scores[value])
    found = candidates[best]
    return Classifier(found.weight, found.bias, found.normalise, {name: best}, scores[best])


def _descend(
    parameters: list[Tensor],
    logits: Callable[[Tensor], Tensor],
    gradients: Callable[[Tensor, Tensor], list[Tensor]],
    data: FeatureSet,
    num_classes: int,
    *,
    rng: torch.Generator,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    weight_decay: float,
    balanced: bool,
) -> None:
    """Minimise the cross entropy by SGD with momentum and a cosine schedule, in place.

    The gradient of a linear layer is two products; automatic differentiation would cost ten times as much here.
    `gradients` maps (features, derivative of the loss by the logits) to one gradient per parameter.
    """
    check_integer(epochs, "epochs", minimum=1)
    check_integer(batch_size, "batch_size", minimum=1)
    check_positive(learning_rate, "learning_rate")
    samples = len(data.targets)
    chance = 1 / _class_sizes(data.targets, num_classes).double()[data.targets] if balanced else None
    answers = F.one_hot(data.targets, num_classes).to(data.features.dtype)
    velocities = [torch.zeros_like(parameter) for parameter in parameters]
    total, step = epochs * math.ceil(samples / batch_size), 0
    for _ in range(epochs):
        if chance is None:
            order = torch.randperm(samples, generator=rng, device=rng.device)
        else:
            order = torch.multinomial(chance, samples, replacement=True, generator=rng)
        for batch in order.split(batch_size):
            rate = learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            features = data.features[batch]
            slope = (logits(features).softmax(dim=1) - answers[batch]) / len(batch)
            for parameter, velocity, gradient in zip(parameters, velocities, gradients(features, slope), strict=True):
                velocity.mul_(0.9).add_(gradient).add_(parameter, alpha=weight_decay)
                parameter.sub_(velocity, alpha=rate)
            step += 1


def _check_data(data: FeatureSet, num_classes: int) -> None:
    check_integer(num_classes, "num_classes", minimum=2)
    if data.targets.dtype != torch.int64:
        raise TypeError(f"`data.targets` must be int64, got {data.targets.dtype}.")
    check_class_indices(data.targets, "data.targets", num_classes)
    if data.features.ndim != 2 or len(data.features) != len(data.targets):
        raise ValueError(
            f"`data.features` must have shape ({len(data.targets)}, width), got {tuple(data.features.shape)}."
        )


def _class_sizes(targets: Tensor, num_classes: int) -> Tensor:
    sizes = targets.bincount(minlength=num_classes)
    if bool((sizes == 0).any()):
        raise ValueError(f"`data` must hold every class, got no sample of class {int((sizes == 0).nonzero()[0])}.")
    return sizes
