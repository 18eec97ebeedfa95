"""Training of a stacked model: seeds and configurations side by side, one forward pass for all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lt_lib._checks import check_integer
from lt_lib.training.descent import Descent
from lt_lib.training.loop import History, Order, require_finite, shuffled

MemberLoss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Member:
    """What distinguishes one model of a stack.

    Attributes:
        indices: int64 `(samples,)`, this member's training samples in the shared pool.
        loss_at: epoch -> loss function that averages over the last axis of `targets` only:
            `(members, batch, classes)`, `(members, batch)` -> `(members,)`. Neighbours that return the same object are
            computed in one call.
        rng: this member's generator (order of the samples).
        order_at: (epoch, generator) -> positions in `indices`; `shuffled` if None.
        validation: indices of its validation samples in the pool, or None; all members have one, or none has.
    """

    indices: Tensor
    loss_at: Callable[[int], MemberLoss]
    rng: torch.Generator
    order_at: Order | None = None
    validation: Tensor | None = None


def fit_stacked(
    model: Any,
    pool: Tensor,
    pool_targets: Tensor,
    members: Sequence[Member],
    *,
    learning_rate_at: Callable[[int], float],
    epochs: int,
    parameters: list[dict],
    batch_size: int = 128,
    momentum: float = 0.9,
    test: tuple[Tensor, Tensor] | None = None,
    evaluate_every: int = 1,
) -> tuple[list[History], Tensor | None]:
    """Train every member of a `StackedModel` exactly as `fit` would train it alone.

    Each member has its own samples, order and loss. The members' losses are added, so that every slice of the stacked
    parameters gets its own gradient; the number of samples per epoch must be the same for all.

    Args:
        model: `lt_lib.models.StackedModel`, one member per entry of `members`.
        pool: inputs that all members draw from, `(pool, ...)`.
        pool_targets: class indices `(pool,)`.
        members: see `Member`; all `indices` equally long, and all `validation`.
        learning_rate_at: epoch -> rate, for all members.
        epochs: length of the run, >= 1.
        parameters: optimiser groups (`StackedModel.parameter_groups`).
        batch_size: samples per member and step, >= 1.
        momentum: of SGD, in [0, 1).
        test: inputs and targets that all members are evaluated on.
        evaluate_every: epochs between evaluations, >= 1; the last epoch is always evaluated.

    Returns:
        One `History` per member, with sets "test" and, where given, "validation"; `seconds` is the member's share of
        the time. And the logits of the test set after the last epoch, `(members, samples, classes)`, or None.

    Raises:
        ValueError: the number of members and of models differ, or their numbers of samples do; only some have
            validation samples; a length is out of range.
        NonFiniteLossError: a loss is not finite; the indices are those of the first member concerned, in the pool.
    """
    if len(members) != len(model):
        raise ValueError(f"`members` must have one entry per model, got {len(members)} for {len(model)} models.")
    for name, number in (("epochs", epochs), ("batch_size", batch_size), ("evaluate_every", evaluate_every)):
        check_integer(number, name, minimum=1)
    samples = _check_samples(members)
    orders = [member.order_at or shuffled(samples) for member in members]
    descent = Descent(parameters, momentum=momentum)
    histories = [History() for _ in members]
    logits = None
    started = time.perf_counter()
    for epoch in range(epochs):
        picked = torch.stack(
            [member.indices[order(epoch, member.rng)] for member, order in zip(members, orders, strict=True)]
        )
        groups = _groups([member.loss_at(epoch) for member in members])
        steps = []
        for batch in picked.split(batch_size, dim=1):  # (members, batch)
            outputs = model(pool[batch])
            targets = pool_targets[batch]
            values = torch.cat([loss(outputs[part], targets[part]) for loss, part in groups])
            values.sum().backward()
            descent.step(learning_rate_at(epoch))
            steps.append(values.detach())
        losses = torch.stack(steps, dim=1)  # (members, steps)
        for history, row, order in zip(histories, losses, picked, strict=True):
            require_finite(row, order, batch_size, epoch)
            history.train_loss.append(float(row.mean()))
            history.learning_rate.append(learning_rate_at(epoch))
        if (epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs:
            logits = _evaluate(model, pool, pool_targets, members, test, histories, epoch)
    for history in histories:
        history.seconds = (time.perf_counter() - started) / len(members)
    return histories, logits


def _check_samples(members: Sequence[Member]) -> int:
    """The number of training samples, which all members share; hold-outs must be equally long too, or not be there."""
    sizes = {len(member.indices) for member in members}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"`members` must have equally many samples, not none, got {sorted(sizes)}.")
    held = [member.validation for member in members if member.validation is not None]
    if held and len(held) != len(members):
        raise ValueError(f"`members` must all have validation samples or none, got {len(held)} of {len(members)}.")
    if len({len(rows) for rows in held}) > 1:
        raise ValueError(f"`members` must have equally many validation samples, got {sorted(map(len, held))}.")
    return sizes.pop()


@torch.no_grad()
def predict_stacked(model: Any, inputs: Tensor, *, batch_size: int = 250) -> Tensor:
    """Logits of every member on the same inputs, `(members, samples, classes)`."""
    parts = [model(part.expand(len(model), *part.shape)) for part in inputs.split(batch_size)]
    return torch.cat(parts, dim=1)


def _groups(losses: list[MemberLoss]) -> list[tuple[MemberLoss, slice]]:
    """Runs of neighbours with the same loss object, as (loss, slice of members)."""
    runs: list[tuple[MemberLoss, slice]] = []
    for position, loss in enumerate(losses):
        if runs and runs[-1][0] is loss:
            runs[-1] = (loss, slice(runs[-1][1].start, position + 1))
        else:
            runs.append((loss, slice(position, position + 1)))
    return runs


def _evaluate(
    model: Any,
    pool: Tensor,
    pool_targets: Tensor,
    members: Sequence[Member],
    test: tuple[Tensor, Tensor] | None,
    histories: list[History],
    epoch: int,
) -> Tensor | None:
    """Add an evaluation to the histories and return the logits of the test set, if there is one."""
    for history in histories:
        history.evaluated.append(epoch)
    logits = None if test is None else predict_stacked(model, test[0])
    if test is not None and logits is not None:
        _record(histories, "test", logits, test[1].expand(len(model), -1))
    held = [member.validation for member in members if member.validation is not None]
    if held:
        rows = torch.stack(held)
        with torch.no_grad():
            held_logits = model(pool[rows])
        _record(histories, "validation", held_logits, pool_targets[rows])
    return logits


def _record(histories: list[History], name: str, logits: Tensor, targets: Tensor) -> None:
    for history, score in zip(histories, balanced_accuracies(logits, targets).tolist(), strict=True):
        history.accuracy.setdefault(name, []).append(score)


def balanced_accuracies(logits: Tensor, targets: Tensor) -> Tensor:
    """`lt_lib.metrics.balanced_accuracy` of all members, `(members,)`: one call each would cost more than training."""
    hits = (logits.argmax(dim=2) == targets).double()
    empty = torch.zeros(len(targets), logits.shape[2], dtype=torch.float64, device=logits.device)
    size = empty.scatter_add(1, targets, torch.ones_like(hits))
    return (empty.scatter_add(1, targets, hits) / size).nanmean(dim=1)
