"""The softmax gradient and who moves the weights: rows 64 and 67-69."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lt_lib.claims._worlds import NUM_SEEDS, RATIO, WORLDS, worlds_in_words
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.rules import at_most, positive_effect

if TYPE_CHECKING:
    from torch import Tensor

Array = npt.NDArray[np.float64]
Gradient = Callable[[Array, Array, Array, npt.NDArray[np.int64]], tuple[Array, Array]]
HEAD_CLASSES = 3


def softmax_gradient(
    weights: Array, biases: Array, inputs: Array, targets: npt.NDArray[np.int64]
) -> tuple[Array, Array]:
    r"""Gradient of the softmax loss of each sample in the weights and biases of a linear classifier.

    .. math:: \frac{\partial \ell}{\partial w_i} = (s_i - y_i)\,x, \qquad \frac{\partial \ell}{\partial b_i} = s_i - y_i

    Args:
        weights: (features, classes).
        biases: (classes,).
        inputs: (samples, features).
        targets: class indices (samples,).

    Returns:
        Gradients (samples, features, classes) and (samples, classes).
    """
    scores = inputs @ weights + biases
    probabilities = np.exp(scores - scores.max(axis=1, keepdims=True))
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    residual = probabilities - np.eye(weights.shape[1])[targets]
    return inputs[:, :, None] * residual[:, None, :], residual


def measure_softmax_gradient(
    _profile: str, rng: np.random.Generator, gradient: Gradient = softmax_gradient
) -> dict[str, Any]:
    """Formula against automatic differentiation, and the sign of each class's gradient along the input.

    Args:
        rng: source of weights, inputs and targets.
        gradient: the formula. Replaced by wrong ones in tests.

    Returns:
        "error": largest absolute difference. "along": coefficient of x in the gradient of each class's weights
        (samples, classes), from the formula. "true_class": mask of the same shape.
    """
    import torch

    features, classes, samples = 6, 5, 40
    weights, biases = rng.standard_normal((features, classes)), rng.standard_normal(classes)
    inputs, targets = rng.standard_normal((samples, features)), rng.integers(classes, size=samples)
    w, b = (torch.from_numpy(part).requires_grad_() for part in (weights, biases))
    by_torch = []
    for x, y in zip(torch.from_numpy(inputs), torch.from_numpy(targets), strict=True):
        by_torch.append(torch.autograd.grad(torch.nn.functional.cross_entropy(x @ w + b, y), (w, b)))
    by_formula = gradient(weights, biases, inputs, targets)
    differences = (
        ours - torch.stack(theirs).numpy() for ours, theirs in zip(by_formula, zip(*by_torch, strict=True), strict=True)
    )
    error = max(np.abs(difference).max() for difference in differences)
    along = np.einsum("sfc,sf->sc", by_formula[0], inputs) / (inputs**2).sum(axis=1, keepdims=True)
    return {"error": float(error), "along": along, "true_class": np.eye(classes, dtype=bool)[targets]}


def judge_formula(measured: dict[str, Any]) -> Judgement:
    """Row 67: formula and automatic differentiation agree to 1e-6."""
    error = measured["error"]
    # Below 1e-12 the value is rounding, which differs between processors.
    return at_most(0.0 if error < 1e-12 else error, 1e-6, name="largest difference")


def judge_direction(measured: dict[str, Any]) -> Judgement:
    """Row 68: as printed, the gradient of every class points against x."""
    share = float((measured["along"] < 0).mean())
    verdict = "holds" if share == 1 else "refuted"
    return Judgement(verdict, share, threshold="share of classes with a gradient against x = 1")


def measure_gradients(
    _profile: str,
    _rng: np.random.Generator,
    *,
    worlds: Iterable[str] = WORLDS,
    ratio: float = RATIO,
    num_seeds: int = NUM_SEEDS,
    epochs: int = 6,
) -> dict[str, dict[str, Array]]:
    """Who moves the weights: gradient norm by class, and alignment of single gradients, before and while training.

    Plain gradient descent without momentum, on the same subsets as `measure_long_tail_training`.

    Args:
        worlds: data sets.
        ratio: imbalance ratio.
        num_seeds: subsets and initial weights.
        epochs: measured after 0, 1, ... epochs.

    Returns:
        By world: "counts" (classes,); "share" (epochs + 1, seeds, classes), see `gradient_shares`; "within" and
        "between" (epochs + 1, seeds), the mean cosine of last-layer gradients of two samples of one and of different
        classes.
    """
    import torch

    from lt_lib import data, losses, models, recipes, training

    def loss(logits: "Tensor", targets: "Tensor") -> "Tensor":
        return losses.softmax_loss(logits, targets, reduction="none").mean(dim=-1)

    measured = {}
    for world in worlds:
        dataset = data.load(world)
        base = recipes.preset("gaussian-quick", dataset=world, imbalance_ratio=ratio, permute_classes=True)
        subsets = [recipes.draw_subset(base.changed(split_seed=k), dataset) for k in range(num_seeds)]
        sizes = np.sort(subsets[0].class_counts)[::-1]
        indices = torch.from_numpy(np.stack([subset.train for subset in subsets]))
        pool, targets = torch.from_numpy(dataset.train.inputs).double(), torch.from_numpy(dataset.train.targets)
        networks = [models.seeded(lambda: models.MLP(32, 10), seed) for seed in range(num_seeds)]
        stack = models.StackedModel(networks).double()
        members = [
            training.Member(row, lambda _epoch: loss, torch.Generator().manual_seed(seed))
            for seed, row in enumerate(indices)
        ]
        rows = []
        for epoch in range(epochs + 1):
            if epoch:
                training.fit_stacked(
                    stack,
                    pool,
                    targets,
                    members,
                    learning_rate_at=lambda _epoch: 0.1,
                    epochs=1,
                    parameters=stack.parameter_groups(0.0),
                    momentum=0.0,
                )
            inputs, labels = pool[indices], targets[indices]
            rows.append((gradient_shares(stack, inputs, labels, sizes), *_alignment(stack, inputs, labels, sizes)))
        share, within, between = (np.stack(part) for part in zip(*rows, strict=True))
        measured[world] = {"counts": sizes.astype(float), "share": share, "within": within, "between": between}
    return measured


def gradient_shares(stack: Any, inputs: "Tensor", targets: "Tensor", class_counts: npt.NDArray[np.int64]) -> Array:
    """Norm of each class's summed gradient over all parameters, divided by the sum of these norms.

    Args:
        stack: `StackedModel`.
        inputs: samples, class after class (members, samples, features).
        targets: (members, samples).
        class_counts: samples of each class in this order, the same for all members (classes,).

    Returns:
        Shares (members, classes).
    """
    import torch

    norms = []
    for x, y in zip(inputs.split(class_counts.tolist(), 1), targets.split(class_counts.tolist(), 1), strict=True):
        value = torch.nn.functional.cross_entropy(stack(x).flatten(0, 1), y.flatten(), reduction="sum")
        squares = [part.flatten(1).square().sum(dim=1) for part in torch.autograd.grad(value, list(stack.parameters()))]
        norms.append(torch.stack(squares).sum(dim=0).sqrt())
    stacked = torch.stack(norms, dim=1)
    return (stacked / stacked.sum(dim=1, keepdim=True)).numpy()


def _alignment(
    stack: Any, inputs: "Tensor", targets: "Tensor", class_counts: npt.NDArray[np.int64]
) -> tuple[Array, Array]:
    import torch

    from lt_lib import models

    # As many samples of every class as the rarest has: every class counts alike.
    starts = np.concatenate([[0], np.cumsum(class_counts)[:-1]])
    picked = torch.from_numpy((starts[:, None] + np.arange(class_counts.min())).ravel())
    network: Any = models.seeded(lambda: models.MLP(inputs.shape[2], len(class_counts)), 0).double()
    pairs = []
    for member in range(len(stack)):
        state = stack.member(member)
        network.load_state_dict(state)
        labels = targets[member, picked].numpy()
        with torch.no_grad():
            features = network.features(inputs[member, picked]).numpy()
        head = state["head.weight"].numpy().T, state["head.bias"].numpy()
        by_weight, by_bias = softmax_gradient(*head, features, labels)
        pairs.append(class_cosines(np.concatenate([by_weight.reshape(len(labels), -1), by_bias], axis=1), labels))
    within, between = np.array(pairs).T
    return within, between


def class_cosines(vectors: Array, labels: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Mean cosine between two vectors of the same class, and between two of different classes.

    Args:
        vectors: (samples, length), none zero.
        labels: (samples,).

    Example:
        >>> class_cosines(np.array([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0]]), np.array([0, 0, 1]))
        (1.0, 0.0)
    """
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosine, same = unit @ unit.T, labels[:, None] == labels
    return float(cosine[same & ~np.eye(len(labels), dtype=bool)].mean()), float(cosine[~same].mean())


def judge_gradient_share(measured: dict[str, dict[str, Array]]) -> Judgement:
    """Row 64: the head has more than half of the gradient, averaged over all times from the start on, in every world.

    The sentence says "most", and not "as much as its share of the samples"; that comparison is reported, not judged.
    The share falls as training goes on, so the verdict is one on the epochs that are measured.
    """
    parts = [
        positive_effect(100 * part["share"][..., :HEAD_CLASSES].sum(axis=2).mean(axis=0), minimum=50)
        for part in measured.values()
    ]
    times = max(len(part["share"]) for part in measured.values()) - 1
    words = f"% of the gradient of the {HEAD_CLASSES} largest classes, mean over epochs 0 to {times}"
    return worst(parts, threshold=f"{words}, > 50, one-sided 95% t, {worlds_in_words(measured)}")


def judge_similarity(measured: dict[str, dict[str, Array]]) -> Judgement:
    """Row 69: same-class gradients are more alike by .3, on average over the measured epochs, in every world."""
    parts = [
        positive_effect((part["within"] - part["between"]).mean(axis=0), minimum=0.3) for part in measured.values()
    ]
    return worst(parts, threshold=f"within - between > 0.3, one-sided 95% t, {worlds_in_words(measured)}")


_IN_WORLDS = "in each of three Gaussian worlds"
CHECKS: tuple[Check, ...] = (
    Check(
        Claim(
            64,
            "S2 L42",
            "E",
            "Gradient descent spends most of its updates on the majority",
            "in the first six epochs (mean of seven times, the start and the end of each) more than half of the "
            f"gradient is that of the {HEAD_CLASSES} largest of ten classes, {_IN_WORLDS}",
        ),
        measure_gradients,
        judge_gradient_share,
    ),
    Check(
        Claim(67, "S2 L52-64", "T", "Softmax gradient: (s_i - y_i) x for the weights, s_i - y_i for the bias", "1e-6"),
        measure_softmax_gradient,
        judge_formula,
        ("quick", "small", "paper"),
    ),
    Check(
        Claim(68, "S2 L68", "T", "The gradient of every class's weights is opposite to x", "share 1"),
        measure_softmax_gradient,
        judge_direction,
        ("quick", "small", "paper"),
    ),
    Check(
        Claim(69, "S2 L68", "E", "Samples of one class have similar gradients", _IN_WORLDS),
        measure_gradients,
        judge_similarity,
    ),
)
