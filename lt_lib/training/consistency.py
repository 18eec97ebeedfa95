r"""What a semi-supervised method does with its unlabelled batch: the loss, who teaches, and distribution alignment.

All functions take any number of leading axes, so that one model and a stack of models are computed by the same lines.

References:
    K. Sohn et al., "FixMatch", NeurIPS 2020; A. Tarvainen and H. Valpola, "Mean teachers", NIPS 2017; D.-H. Lee,
    "Pseudo-Label", ICML workshops 2013; D. Berthelot et al., "ReMixMatch", ICLR 2020 (alignment); C. Wei et al.,
    "CReST", CVPR 2021 (alignment to a tempered distribution).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from lt_lib._checks import check_integer, check_known, check_real

_FLOOR = 1e-6  # keeps the ratio of two class distributions finite where the model never predicts a class


class UnlabelledTerm(NamedTuple):
    """Loss of an unlabelled batch `(...)`, averaged over all its samples, and which samples counted `(..., batch)`."""

    loss: Tensor
    mask: Tensor


@dataclass(frozen=True)
class Rule:
    """What a method does with an unlabelled batch.

    Attributes:
        loss: (target distributions `(..., batch, classes)`, logits of the student of the same shape) ->
            `UnlabelledTerm`. The targets carry no gradient.
        student: view that the student learns on: "strong"; "weak" for a second weak view; "same" for the very view,
            and the very forward pass, that the target comes from.
        teacher: who makes the target: the "student" itself or its weight "average".
    """

    loss: Callable[[Tensor, Tensor], UnlabelledTerm]
    student: Literal["strong", "weak", "same"]
    teacher: Literal["student", "average"]


def fixmatch(threshold: float | Tensor = 0.95, *, temperature: float = 0.0) -> Rule:
    r"""Learn on the strong view what is confidently predicted on the weak one.

    .. math:: \ell_u = \mathbf 1\{\max_c q_c \ge \tau\}\; H(\hat q, p(\cdot \mid \Omega(x_u))),
              \qquad \hat q = \text{one-hot}(\arg\max_c q_c)

    The sum is divided by the number of all unlabelled samples in the batch, not of the confident ones.

    Args:
        threshold: :math:`\tau` in [0, 1]; for a stack also a tensor `(members, 1)`.
        temperature: 0 for hard targets; T > 0 learns the soft target :math:`q^{1/T} / \sum q^{1/T}` (1 was the default
            of CReST's code until a fix).

    Raises:
        ValueError: a number out of range.
    """
    _check_threshold(threshold)
    check_real(temperature, "temperature", minimum=0.0)
    return Rule(_Confident(threshold, temperature), "strong", "student")


def pseudo_label(threshold: float | Tensor = 0.95, *, temperature: float = 0.0) -> Rule:
    """Learn one's own confident predictions on the same weak view; arguments as for `fixmatch`."""
    _check_threshold(threshold)
    check_real(temperature, "temperature", minimum=0.0)
    return Rule(_Confident(threshold, temperature), "same", "student")


def mean_teacher() -> Rule:
    r"""Stay close to the predictions that the averaged weights make on another weak view; no threshold.

    .. math:: \ell_u = \frac1C \sum_c \left(p_c(\omega'(x_u)) - \bar p_c(\omega(x_u))\right)^2

    The teacher predicts in evaluation mode, with running statistics.
    """

    def loss(target: Tensor, logits: Tensor) -> UnlabelledTerm:
        distance = (logits.softmax(dim=-1) - target).square().mean(dim=-1)
        return UnlabelledTerm(distance.mean(dim=-1), torch.ones_like(distance))

    return Rule(loss, "weak", "average")


def _check_threshold(threshold: float | Tensor) -> None:
    values = threshold if isinstance(threshold, Tensor) else torch.tensor(float(threshold))
    if not bool(((values >= 0) & (values <= 1)).all()):
        raise ValueError(f"`threshold` must be in [0, 1], got {values.tolist()}.")


@dataclass(frozen=True, eq=False)
class _Confident:
    """Cross entropy with the hard or sharpened target, where the target is confident."""

    threshold: float | Tensor
    temperature: float

    def __call__(self, target: Tensor, logits: Tensor) -> UnlabelledTerm:
        confidence, label = target.max(dim=-1)
        if self.temperature == 0:
            each = cross_entropy(logits, label)
        else:
            soft = (target.clamp_min(torch.finfo(target.dtype).tiny).log() / self.temperature).softmax(dim=-1)
            each = -(soft * logits.log_softmax(dim=-1)).sum(dim=-1)
        mask = (confidence >= self.threshold).to(each.dtype)
        return UnlabelledTerm((each * mask).mean(dim=-1), mask)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy of each sample, `(..., batch, classes)` and `(..., batch)` -> `(..., batch)`."""
    flat = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction="none")
    return flat.reshape(targets.shape)


Target = Tensor | Literal["running"] | None


class DistributionAlignment:
    r"""Correction of predictions by the ratio of a wanted class distribution to the model's own.

    .. math:: \tilde q_c \propto q_c\, \frac{10^{-6} + t_c}{10^{-6} + \hat p_c}

    :math:`\hat p` is the mean, over the last steps, of the mean prediction on the weak views before correction; it
    starts uniform. The small constant keeps a class that is never predicted finite; `starved` names such classes.

    Args:
        targets: t: a distribution `(classes,)`; "running" for the running mean of the labels in the labelled batches
            (decay 0.999, from uniform); None for no correction, only the record of :math:`\hat p`. A list of these
            makes one alignment for a stack, with a first axis of members.
        num_classes: C.
        window: number of steps in :math:`\hat p`, >= 1.
        device: where the numbers live.
        dtype: their type.

    Raises:
        ValueError: `window` < 1, or a target that is no distribution over the classes.

    Example:
        >>> even = DistributionAlignment(torch.tensor([0.5, 0.5]), 2)
        >>> even(torch.tensor([[0.8, 0.2]]))
        tensor([[0.8000, 0.2000]])
        >>> for _ in range(128):
        ...     even.update(torch.tensor([[0.8, 0.2]]), torch.tensor([0]))
        >>> even(torch.tensor([[0.8, 0.2]]))
        tensor([[0.5000, 0.5000]])
    """

    def __init__(
        self,
        targets: Target | Sequence[Target],
        num_classes: int,
        *,
        window: int = 128,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        check_integer(window, "window", minimum=1)
        single = targets is None or isinstance(targets, str | Tensor)
        wanted: list[Any] = [targets] if single else list(targets)  # type: ignore[arg-type]
        place: Any = {"device": device, "dtype": dtype}
        rows = [_target_row(target, num_classes) for target in wanted]
        fixed = torch.stack(rows).to(**place)
        active = torch.tensor([target is not None for target in wanted], device=device)
        running = torch.tensor([isinstance(target, str) for target in wanted], device=device)
        shape = (num_classes,) if single else (len(wanted), num_classes)
        self.fixed = fixed.reshape(shape)
        self.active = active.reshape(() if single else (-1, 1, 1))
        self.running = running.reshape(() if single else (-1, 1))
        self.stacked = not single
        self.applies = any(target is not None for target in wanted)
        self.labels_mean = torch.full(shape, 1 / num_classes, **place)
        self.recent = torch.full((window, *shape), 1 / num_classes, **place)
        self.classes = torch.arange(num_classes, device=device)
        self.step = torch.zeros(1, dtype=torch.int64, device=device)  # there, so that a recorded step can count it

    @property
    def model_mean(self) -> Tensor:
        r""":math:`\hat p` `(..., classes)`."""
        return self.recent.mean(dim=0)

    def __call__(self, probabilities: Tensor) -> Tensor:
        """Corrected predictions `(..., batch, classes)`; unchanged where there is no target."""
        if not self.applies:
            return probabilities
        target = torch.where(self.running, self.labels_mean, self.fixed)
        ratio = (_FLOOR + target) / (_FLOOR + self.model_mean)
        corrected = probabilities * ratio.unsqueeze(-2)
        corrected = corrected / corrected.sum(dim=-1, keepdim=True)
        return torch.where(self.active, corrected, probabilities)

    def update(self, probabilities: Tensor, labels: Tensor) -> None:
        """Record the uncorrected predictions on the weak views and the labels of a step."""
        self.recent.index_copy_(0, self.step % len(self.recent), probabilities.mean(dim=-2).unsqueeze(0))
        self.step.add_(1)
        # Unlike `one_hot`, a comparison does not look at the values, for which the host would have to wait.
        shares = (labels.unsqueeze(-1) == self.classes).to(self.labels_mean.dtype).mean(dim=-2)
        self.labels_mean.mul_(0.999).add_(shares, alpha=0.001)

    def starved(self) -> list[int] | list[list[int]]:
        """Classes to which the model gives less than 1e-6 on average; a list of lists for a stack."""
        few = self.model_mean < _FLOOR
        if few.ndim == 1:
            return few.nonzero().flatten().tolist()
        return [row.nonzero().flatten().tolist() for row in few]

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"labels_mean": self.labels_mean.clone(), "recent": self.recent.clone(), "step": int(self.step)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.labels_mean.copy_(state["labels_mean"])
        self.recent.copy_(state["recent"])
        self.step.fill_(state["step"])


def align_predictions(probabilities: Tensor, target: Tensor) -> Tensor:
    """Correct finished predictions by the ratio of a wanted class distribution to their own mean.

    Args:
        probabilities: `(samples, classes)`.
        target: distribution `(classes,)`. Its values are looked at, for which the host waits for the device: this is
            for once after a training, while a step that may be recorded uses `DistributionAlignment`.

    Returns:
        Corrected predictions of the same shape; a class that is never predicted stays finite.

    Raises:
        ValueError: predictions of another shape, or a target that is no distribution over their classes.

    Example:
        >>> align_predictions(torch.tensor([[0.8, 0.2], [0.8, 0.2]]), torch.tensor([0.5, 0.5]))
        tensor([[0.5000, 0.5000],
                [0.5000, 0.5000]])
    """
    if probabilities.ndim != 2:
        raise ValueError(f"`probabilities` must have shape (samples, classes), got {tuple(probabilities.shape)}.")
    _distribution(target, "target", probabilities.shape[1])
    corrected = probabilities * (_FLOOR + target) / (_FLOOR + probabilities.mean(dim=0))
    return corrected / corrected.sum(dim=1, keepdim=True)


def _target_row(target: Target, num_classes: int) -> Tensor:
    if target is None:
        return torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    if isinstance(target, str):
        check_known(target, "targets", ("running",))
        return torch.full((num_classes,), 1 / num_classes, dtype=torch.float64)
    return _distribution(target, "targets", num_classes)


def _distribution(values: Tensor, argument: str, num_classes: int) -> Tensor:
    """The numbers in float64 on the CPU; their sum may miss 1 by what their own type rounds to."""
    row = values.detach().double().cpu()
    missing = max(1e-6, torch.finfo(values.dtype).eps if values.is_floating_point() else 0.0)
    # Written so that NaN, which compares false with everything, is refused too.
    if row.shape != (num_classes,) or not bool((row >= 0).all()) or not abs(float(row.sum()) - 1) <= missing:
        raise ValueError(f"`{argument}` must be {num_classes} non-negative numbers with sum 1, got {row.tolist()}.")
    return row
