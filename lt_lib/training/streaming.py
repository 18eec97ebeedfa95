"""The supervised loop for data sets that do not fit into memory: batches come from a stream, not from a tensor.

Beside `fit` because nothing of its inner loop carries over: here images arrive step by step from other processes, each
GPU computes its share of a batch, perhaps in several parts, and evaluation counts hits instead of keeping logits.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from lt_lib._checks import check_integer
from lt_lib.training.checkpoint import load_checkpoint, save_checkpoint
from lt_lib.training.descent import check_momentum
from lt_lib.training.loop import History, NonFiniteLossError, evaluating, leave_after, set_rate
from lt_lib.training.placement import make_fabric, number_format

TOP = 5


class BatchStream(Protocol):
    """Epochs of batches of which this process gets a share (`lt_lib.data.streaming.ImageStream`)."""

    steps: int

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the images of the share, the indices of their samples, and the indices of the whole batch."""
        ...


class SplitLoss(Protocol):
    """A weighted mean in two parts, so that a batch may be cut anywhere without a change of its loss."""

    def total(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Weighted sum of the losses of some samples of a batch, a scalar."""
        ...

    def divisor(self, targets: Tensor) -> Tensor | float:
        """What the sum over the whole batch is divided by; depends on its targets only."""
        ...


class HitCounts(NamedTuple):
    """What an evaluation counts per class, int64 `(classes,)`.

    Attributes:
        samples: samples of the class.
        top1: those of them whose class has the largest logit.
        top5: those of them whose class is among the five largest.
    """

    samples: np.ndarray
    top1: np.ndarray
    top5: np.ndarray

    @property
    def accuracy(self) -> float:
        """Share of samples that are right, as the papers report it."""
        return float(self.top1.sum() / self.samples.sum())

    @property
    def top5_accuracy(self) -> float:
        """Share of samples with their class among the first five."""
        return float(self.top5.sum() / self.samples.sum())

    @property
    def recall(self) -> np.ndarray:
        """Recall per class, float64; NaN for a class without samples."""
        with np.errstate(invalid="ignore"):
            return self.top1 / self.samples

    @property
    def mean_recall(self) -> float:
        """Mean recall over the classes that have samples: the accuracy on a balanced set."""
        return float(np.nanmean(self.recall))


@torch.no_grad()
def count_hits(
    model: nn.Module,
    stream: BatchStream,
    targets: Tensor,
    num_classes: int,
    *,
    prepare: Callable[[Tensor], Tensor],
    fabric: Any,
) -> HitCounts:
    """Evaluate on all samples of a stream, each counted once, whatever the number of processes.

    Args:
        model: the module itself, not what `fabric.setup` made of it: shares may have different numbers of batches.
        stream: batches with the share of this process; its epoch 0 is used.
        targets: class indices of all samples `(samples,)`, int64, on the CPU.
        num_classes: number of classes.
        prepare: batch of the stream, on the device -> what the model expects.
        fabric: `lt_lib.training.make_fabric(...)`.

    Returns:
        Counts over all processes, the same in each.
    """
    counts = torch.zeros(3, num_classes, dtype=torch.int64, device=fabric.device)
    with evaluating(model):
        for images, share, _batch in stream.epoch(0):
            if len(share) == 0:
                continue
            truth = targets[share].to(fabric.device, non_blocking=True)
            with fabric.autocast():
                logits = model(prepare(images.to(fabric.device, non_blocking=True)))
            best = logits.topk(min(TOP, num_classes), dim=1).indices == truth[:, None]
            hits = torch.stack([torch.ones_like(truth), best[:, 0].long(), best.any(dim=1).long()])
            counts.index_add_(1, truth, hits)
    if fabric.world_size > 1:
        counts = fabric.all_reduce(counts, reduce_op="sum")
    return HitCounts(*counts.cpu().numpy())


def fit_stream(
    model: nn.Module,
    stream: BatchStream,
    targets: Tensor,
    *,
    loss_at: Callable[[int], SplitLoss],
    learning_rate_at: Callable[[float], float],
    epochs: int,
    num_classes: int,
    prepare: Callable[[Tensor], Tensor],
    parameters: list[dict] | None = None,
    momentum: float = 0.9,
    nesterov: bool = False,
    micro_batch: int = 0,
    evaluation: Mapping[str, tuple[BatchStream, Tensor]] | None = None,
    evaluate_every: int = 1,
    fabric: Any = None,
    checkpoint: str | Path | None = None,
    identity: str = "",
    stop_after: int | None = None,
    report: Callable[[History], None] | None = None,
) -> History:
    """Train `model` in place by SGD on batches from a stream.

    With several processes the loss of a step is that of the whole batch, weights and all; batch normalisation sees the
    images of one forward pass, as in the papers' code. Its running statistics are those of the first process.

    Args:
        model: module `(batch, ...) -> (batch, classes)`, moved to the device of `fabric`.
        stream: training batches; its order and images depend on the epoch only.
        targets: class indices of all samples `(samples,)`, int64, on the CPU.
        loss_at: epoch -> loss; deferred re-weighting is a schedule of the loss.
        learning_rate_at: progress in epochs -> rate, asked in every step.
        epochs: length of the whole run, >= 1.
        num_classes: number of classes.
        prepare: images of the stream, on the device -> what the model expects.
        parameters: optimiser groups; all parameters without decay if not given.
        momentum: of SGD, in [0, 1).
        nesterov: whether the gradient is taken ahead of the momentum, which must be there.
        micro_batch: images of one forward pass, to fit memory; gradients add up to those of the batch. 0: the share.
        evaluation: name -> (stream, targets), evaluated every `evaluate_every` epochs and after the last one.
        evaluate_every: epochs between evaluations, >= 1.
        fabric: `lt_lib.training.make_fabric(...)`; CPU and float32 if not given.
        checkpoint: file for the state after every epoch; if it exists, training goes on from it.
        identity: stored in the checkpoint and compared on resume.
        stop_after: leave after this many finished epochs in all (the run can be resumed); None to finish.
        report: called in the first process after every epoch, for a line of a log.

    Returns:
        `History` of the whole run; `accuracy` has for each set NAME the accuracy under NAME, the top-5 accuracy under
        NAME_top5, and the mean recall of the classes under NAME_mean_recall.

    Raises:
        NonFiniteLossError: a step's loss is not finite; names epoch, step and sample indices.
        ValueError: a length or `momentum` out of range, or `nesterov` without momentum.
        TypeError: a length that is no integer.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    for name, number, low in (
        ("epochs", epochs, 1),
        ("evaluate_every", evaluate_every, 1),
        ("micro_batch", micro_batch, 0),
    ):
        check_integer(number, name, minimum=low)
    check_momentum(momentum, nesterov=nesterov)
    fabric = fabric or make_fabric("cpu", "float32")
    groups = parameters or [{"params": list(model.parameters())}]
    optimizer = torch.optim.SGD(groups, lr=learning_rate_at(0), momentum=momentum, nesterov=nesterov, foreach=True)
    trained, wrapped = fabric.setup(model, optimizer)
    history = History()
    if checkpoint is not None and Path(checkpoint).exists():
        state = load_checkpoint(checkpoint, identity=identity)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        history = History(**state["history"])
    last = leave_after(epochs, stop_after)
    for epoch in range(history.epochs, last):
        started = time.perf_counter()
        loss, batches = loss_at(epoch), []
        losses = torch.zeros(stream.steps, device=fabric.device)
        trained.train()
        with number_format(fabric):
            for step, (images, share, batch) in enumerate(stream.epoch(epoch)):
                set_rate(optimizer, learning_rate_at(epoch + step / stream.steps))
                divisor = loss.divisor(targets[batch].to(fabric.device, non_blocking=True))
                parts = range(0, len(share), micro_batch or len(share))
                for first in parts:
                    part = slice(first, first + (micro_batch or len(share)))
                    inputs = prepare(images[part].to(fabric.device, non_blocking=True))
                    truth = targets[share[part]].to(fabric.device, non_blocking=True)
                    # Processes exchange gradients once, with the last part.
                    with fabric.no_backward_sync(trained, enabled=first != parts[-1]):
                        value = loss.total(trained(inputs), truth) / divisor
                        # The exchange takes the mean over processes, and the loss is their sum.
                        fabric.backward(value * fabric.world_size)
                    losses[step] += value.detach()
                wrapped.step()
                wrapped.zero_grad(set_to_none=True)
                batches.append(batch)
        if fabric.world_size > 1:
            # All processes see a loss that is not finite, so all stop.
            losses = fabric.all_reduce(losses, reduce_op="sum")
            _take_buffers_of_first(model, fabric)
        _require_finite(losses, batches, epoch)
        history.train_loss.append(float(losses.mean()))
        history.learning_rate.append(learning_rate_at(epoch + (stream.steps - 1) / stream.steps))
        if (epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs:
            history.evaluated.append(epoch)
            for name, (held, held_targets) in (evaluation or {}).items():
                hits = count_hits(model, held, held_targets, num_classes, prepare=prepare, fabric=fabric)
                for suffix, score in (
                    ("", hits.accuracy), ("_top5", hits.top5_accuracy), ("_mean_recall", hits.mean_recall),
                ):  # fmt: skip
                    history.accuracy.setdefault(f"{name}{suffix}", []).append(score)
        history.seconds += time.perf_counter() - started
        if checkpoint is not None and fabric.is_global_zero:
            save_checkpoint(
                checkpoint,
                {
                    "identity": identity,
                    "history": dict(vars(history)),
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                },
            )
        if report is not None and fabric.is_global_zero:
            report(history)
    fabric.barrier()  # every process may count on the checkpoint
    return history


def _take_buffers_of_first(model: nn.Module, fabric: Any) -> None:
    """Running statistics as the checkpoint has them: every process has its own after the last step of an epoch."""
    buffers = dict(model.named_buffers())
    first = fabric.broadcast({name: value.cpu() for name, value in buffers.items()}, src=0)
    for name, value in buffers.items():
        value.copy_(first[name])


def _require_finite(losses: Tensor, batches: list[Tensor], epoch: int) -> None:
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        step = int(bad[0])
        raise NonFiniteLossError(epoch, step, batches[step].tolist())
