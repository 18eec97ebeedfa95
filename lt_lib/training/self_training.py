r"""Self-training on unlabelled data: label the pool with a base model, then train from scratch on both.

.. math:: \min_\theta\; \frac{\sum_{i \in D_L} \ell(f_\theta(x_i), y_i)
                             + \omega \sum_{u \in D_U} \ell(f_\theta(x_u), \tilde y_u)}
                             {|D_L| + \omega\,|D_U|}, \qquad \tilde y_u = \arg\max_c f_{\text{base}}(x_u)_c

Every sample of the pool is labelled, however unsure the base model is. :math:`\omega = 1` gives every sample the same
weight, which is what joining the two sets does. The batches are drawn so that their mean loss has this expectation: the
share :math:`\omega |D_U| / (|D_L| + \omega |D_U|)` of each epoch comes from the pool.

Models, losses and the training itself come in as arguments. No function here has a parameter for a true label of the
pool.

References:
    Y. Yang and Z. Xu, "Rethinking the Value of Labels for Improving Class-Imbalanced Learning", NeurIPS 2020, section
    3.1; the paper does not give :math:`\omega`, the authors' code joins the sets.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from lt_lib._checks import check_integer, check_known, check_real
from lt_lib.training.loop import Order, predict
from lt_lib.training.stacked import MemberLoss
from lt_lib.training.unequal import TrainingSet, whole_passes

CountsFrom = Literal["labelled", "joined"]
# (inputs, targets, class_counts, order) -> trained model, freshly initialised
Train = Callable[[Tensor, Tensor, np.ndarray, Order], Any]


@dataclass(frozen=True, eq=False)
class SelfTrained:
    """Outcome of `self_train`.

    Attributes:
        base: the model that labelled the pool.
        model: the final one.
        pseudo_labels: what `base` made of the pool, int64 `(pool,)`.
        class_counts: what the loss of the final model was given, int64 `(classes,)`.
    """

    base: Any
    model: Any
    pseudo_labels: Tensor
    class_counts: np.ndarray


def self_train(
    labelled: tuple[Tensor, Tensor],
    pool: Tensor,
    *,
    num_classes: int,
    train: Train,
    omega: float = 1.0,
    counts_from: CountsFrom = "joined",
    epoch_size: int | None = None,
    base: Any = None,
) -> SelfTrained:
    r"""Self-train one model.

    Args:
        labelled: inputs `(labelled, ...)` and class indices `(labelled,)`.
        pool: unlabelled inputs `(pool, ...)`, prepared as those of `labelled`.
        num_classes: classes of the task.
        train: called once for the base model and once for the final one; it must start from fresh weights each time.
        omega: weight :math:`\omega \ge 0` of a pseudo-labelled sample in the order of the samples; with 0 all of them
            are labelled ones. The class counts do not depend on it.
        counts_from: class counts that the final training is given, for margins and deferred weights: of the "labelled"
            set alone or of labels and pseudo-labels "joined", which is the authors' choice. "joined" counts every
            pseudo-label as one, whatever `omega` is, 0 included: plain training with margins or weights takes omega 0
            and "labelled".
        epoch_size: samples per epoch of either training, so that both have equally many updates; if None, each model
            passes once over all that it is trained on, which gives the final one more.
        base: a trained base model; `train` makes it if None.

    Returns:
        Both models, the pseudo-labels and the class counts used.

    Raises:
        ValueError: an empty set, a class without a labelled sample, or an argument out of range.
    """
    inputs, targets = labelled
    counts = _class_counts(targets, num_classes)
    _check_pool(pool)
    order = mixed_order(len(targets), len(pool), omega, epoch_size)
    check_known(counts_from, "counts_from", get_args(CountsFrom))
    if base is None:
        base = train(inputs, targets, counts, whole_passes(len(targets), epoch_size or len(targets)))
    pseudo = hard_labels(predict(base, pool))
    if counts_from == "joined":
        counts = counts + np.bincount(pseudo.cpu().numpy(), minlength=num_classes)
    model = train(torch.cat([inputs, pool]), torch.cat([targets, pseudo]), counts, order)
    return SelfTrained(base, model, pseudo, counts)


def hard_labels(logits: Tensor) -> Tensor:
    """The most likely class of every sample, whatever its probability; the first one of equals.

    Args:
        logits: `(..., classes)`.
    """
    return logits.argmax(dim=-1)


def mixed_order(labelled: int, unlabelled: int, omega: float, epoch_size: int | None = None) -> Order:
    r"""Order over a labelled set followed by a pool, in which a pool sample counts :math:`\omega` times a labelled one.

    The number of positions from the pool is the same in every epoch,
    :math:`\mathrm{round}\bigl(E\, \omega U / (L + \omega U)\bigr)`; within a part every sample comes equally often, up
    to one. With :math:`\omega = 0` the order is `whole_passes` over the labelled set, draw for draw.

    Args:
        labelled: L, >= 1.
        unlabelled: U, >= 1.
        omega: :math:`\omega \ge 0`.
        epoch_size: E, positions per epoch; L + U if None.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> order = mixed_order(10, 50, omega=0.2, epoch_size=40)(0, torch.Generator().manual_seed(0))
        >>> int((order < 10).sum()), int((order >= 10).sum())
        (20, 20)
    """
    check_integer(labelled, "labelled", minimum=1)
    check_integer(unlabelled, "unlabelled", minimum=1)
    check_real(omega, "omega", minimum=0.0)
    size = labelled + unlabelled if epoch_size is None else check_integer(epoch_size, "epoch_size", minimum=1)
    from_pool = round(size * omega * unlabelled / (labelled + omega * unlabelled))
    known, guessed = whole_passes(labelled, size - from_pool), whole_passes(unlabelled, from_pool)

    def order(epoch: int, rng: torch.Generator) -> Tensor:
        if from_pool == 0:
            return known(epoch, rng)
        both = torch.cat([known(epoch, rng), labelled + guessed(epoch, rng)])
        return both[torch.randperm(len(both), generator=rng, device=rng.device)]

    return order


@dataclass(frozen=True, eq=False)
class Task:
    r"""One self-training among many that are computed side by side.

    Attributes:
        labelled: inputs and class indices.
        pool: unlabelled inputs.
        teacher: position of its base model in the stack of teachers; several tasks may share one.
        rng: generator of the order of the samples.
        omega: weight :math:`\omega \ge 0` of a pseudo-labelled sample, as in `self_train`.
    """

    labelled: tuple[Tensor, Tensor]
    pool: Tensor
    teacher: int
    rng: torch.Generator
    omega: float = 1.0


@dataclass(frozen=True, eq=False)
class Students:
    """Outcome of `self_train_stacked`, one entry per task.

    Attributes:
        stack: what `fit` returned: the final models.
        pseudo_labels: int64 `(pool,)` each.
        class_counts: what the losses were given.
    """

    stack: Any
    pseudo_labels: list[Tensor]
    class_counts: list[np.ndarray]


def self_train_stacked(
    teachers: Any,
    template: nn.Module,
    tasks: Sequence[Task],
    *,
    num_classes: int,
    fit: Callable[[list[TrainingSet]], Any],
    losses_for: Callable[[list[np.ndarray]], Sequence[Callable[[int], MemberLoss]]],
    epoch_size: int,
    counts_from: CountsFrom = "joined",
) -> Students:
    """Self-train many models side by side; each computes what `self_train` computes for it alone.

    Args:
        teachers: trained `StackedModel` of base models.
        template: a module of the teachers' architecture and number format; its own weights and mode do not matter.
        tasks: what is trained on what; pools may differ in size.
        num_classes: classes of the task.
        fit: training sets -> trained stack of fresh models, one per set (`fit_sets`).
        losses_for: class counts of all tasks -> their losses as functions of the epoch.
        epoch_size: samples per task and epoch.
        counts_from: as in `self_train`.

    Raises:
        ValueError: no task, a teacher that is not in the stack, or as `self_train`.
    """
    if not tasks:
        raise ValueError("`tasks` must hold at least one task, got none.")
    check_known(counts_from, "counts_from", get_args(CountsFrom))
    pseudo_labels, class_counts = [], []
    judging = copy.deepcopy(template).eval()
    for task in tasks:
        check_integer(task.teacher, "teacher", minimum=0, maximum=len(teachers) - 1)
        _check_pool(task.pool)
        with torch.no_grad():
            pseudo = hard_labels(functional_call(judging, teachers.member(task.teacher), (task.pool,)))
        counts = _class_counts(task.labelled[1], num_classes)
        if counts_from == "joined":
            counts = counts + np.bincount(pseudo.cpu().numpy(), minlength=num_classes)
        pseudo_labels.append(pseudo)
        class_counts.append(counts)
    sets = [
        TrainingSet(
            torch.cat([task.labelled[0], task.pool]),
            torch.cat([task.labelled[1], pseudo]),
            loss_at,
            task.rng,
            mixed_order(len(task.labelled[1]), len(task.pool), task.omega, epoch_size),
        )
        for task, pseudo, loss_at in zip(tasks, pseudo_labels, losses_for(class_counts), strict=True)
    ]
    return Students(fit(sets), pseudo_labels, class_counts)


def _class_counts(targets: Tensor, num_classes: int) -> np.ndarray:
    counts = np.bincount(targets.cpu().numpy(), minlength=num_classes)
    if len(counts) > num_classes:
        raise ValueError(f"`labelled` must have classes 0 ... {num_classes - 1}, got {len(counts) - 1}.")
    if not counts.all():
        raise ValueError(f"`labelled` must have a sample of every class, got none of class {int(counts.argmin())}.")
    return counts


def _check_pool(pool: Tensor) -> None:
    if len(pool) == 0:
        raise ValueError("`pool` must hold at least one sample, got none.")
