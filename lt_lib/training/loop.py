"""The supervised loop: one function to train, one to predict.

The data set lies on the device as whole tensors, augmentation is a function of a batch, and nothing inside an epoch
waits for the device: per-step losses stay in a device buffer that is read once per epoch. On a GPU, whole steps are
recorded and replayed (`lt_lib.training.graphs`).
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lt_lib._checks import check_below_one, check_integer
from lt_lib.metrics import balanced_accuracy
from lt_lib.training.checkpoint import load_checkpoint, save_checkpoint, set_generator
from lt_lib.training.graphs import Recorded, give_up, recording, resolve_execution
from lt_lib.training.placement import make_fabric, number_format

Loss = Callable[[Tensor, Tensor], Tensor]  # (logits, targets) -> mean loss of the batch, a scalar
Order = Callable[[int, torch.Generator], Tensor]  # (epoch, generator) -> sample indices of that epoch


class NonFiniteLossError(ArithmeticError):
    """The loss became infinite or NaN. Carries `epoch`, `step` (both 0-based, step within the epoch) and `indices`."""

    def __init__(self, epoch: int, step: int, indices: list[int]) -> None:
        self.epoch, self.step, self.indices = epoch, step, indices
        shown = ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")
        super().__init__(
            f"the loss is not finite, first at epoch {epoch}, step {step} (sample indices {shown}); "
            "a checkpoint of an earlier epoch, if the run keeps one, is untouched."
        )


@dataclass
class History:
    """What `fit` records: one entry per finished epoch, and per evaluated epoch and set.

    Attributes:
        train_loss: mean training loss of each epoch, as optimised (weights included).
        learning_rate: rate used in each epoch.
        evaluated: 0-based epochs after which the sets were evaluated; the last epoch is always one.
        accuracy: for each evaluation set, the balanced accuracy (mean recall over its classes) per evaluated epoch.
        seconds: wall time spent, over all parts of a resumed run.
    """

    train_loss: list[float] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    accuracy: dict[str, list[float]] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.train_loss)


def shuffled(num_samples: int) -> Order:
    """Order that visits every sample once per epoch, in a new random order each time."""

    def order(_epoch: int, rng: torch.Generator) -> Tensor:
        return torch.randperm(num_samples, generator=rng, device=rng.device)

    return order


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into evaluation mode; afterwards, or after an error, every module is in the mode it was in.

    The mode of the whole is not enough: a batch normalisation that was frozen by `eval()` must stay frozen.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        # First by the method, which reaches what a model keeps out of sight, such as the template of a stack.
        model.train(modes[0][1])
        for module, mode in modes:
            module.training = mode


@torch.no_grad()
def predict(model: nn.Module, inputs: Tensor, *, batch_size: int = 1000) -> Tensor:
    """Logits of `inputs` in evaluation mode, float32 or wider, on the device of the model, `(samples, classes)`.

    Args:
        model: any module; the training mode of each of its parts is restored afterwards.
        inputs: `(samples, ...)`, prepared as the model expects.
        batch_size: samples per forward pass, >= 1.
    """
    with evaluating(model):
        logits = torch.cat([model(part) for part in inputs.split(batch_size)])
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def fit(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    loss_at: Callable[[int], Loss],
    learning_rate_at: Callable[[int], float],
    epochs: int,
    rng: torch.Generator,
    batch_size: int = 128,
    momentum: float = 0.9,
    make_optimizer: Callable[..., torch.optim.Optimizer] | None = None,
    parameters: list[dict] | None = None,
    order_at: Order | None = None,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    evaluation: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    evaluate_every: int = 1,
    fabric: Any = None,
    execution: str = "auto",
    checkpoint: str | Path | None = None,
    identity: str = "",
    snapshots: Collection[int] = (),
    stop_after: int | None = None,
    progress: bool = False,
) -> History:
    """Train `model` in place, by SGD with momentum if nothing else is asked for.

    Args:
        model: module `(batch, ...) -> (batch, classes)`, moved to the device of `fabric`.
        inputs: all training inputs `(samples, ...)`, on the device and prepared as the model expects.
        targets: class indices `(samples,)`, int64, on the device.
        loss_at: epoch -> loss function; deferred re-weighting is a schedule of the loss.
        learning_rate_at: epoch -> rate.
        epochs: length of the whole run, >= 1.
        rng: generator on the device of `inputs`; drives order and augmentation. Its state is part of a checkpoint.
        batch_size: samples per step over all processes; the last batch of an epoch may be smaller.
        momentum: of SGD, in [0, 1); without effect on another optimiser.
        make_optimizer: (groups, lr, foreach, fused) -> optimiser, the last three by name; SGD if not given.
        parameters: optimiser groups (`lt_lib.models.parameter_groups`); all parameters without decay if not given.
        order_at: (epoch, generator) -> indices for that epoch; `shuffled` if not given. Deferred re-sampling is a
            schedule of the order.
        augment: (batch, generator) -> batch, on the device.
        evaluation: name -> (inputs, targets), evaluated every `evaluate_every` epochs and after the last one.
        evaluate_every: epochs between evaluations, >= 1.
        fabric: `lt_lib.training.make_fabric(...)`; CPU and float32 if not given. Several processes share every batch;
            `loss` then averages over a share, so that division by the weights is by those of the share.
        execution: how steps are run (`lt_lib.training.resolve_execution`); it changes results by rounding only. A step
            is recorded anew for every new loss function, so `loss_at` should return the same object while nothing
            changes; and the loss and `augment` must not depend on anything but their arguments.
        checkpoint: file for the state after every epoch; if it exists, training goes on from it, and on a CPU ends in
            the same bits as without the break.
        identity: stored in the checkpoint and compared on resume.
        snapshots: numbers of finished epochs whose checkpoint is kept beside it as `NAME.epochN`; needs `checkpoint`.
        stop_after: leave after this many finished epochs in all (the run can be resumed); None to finish.
        progress: show a progress bar over epochs (tqdm).

    Returns:
        `History` of the whole run, resumed parts included.

    Raises:
        NonFiniteLossError: a step's loss is not finite; names epoch, step and sample indices.
        ValueError: sizes, lengths or `momentum` out of range.
        TypeError: a size that is no integer.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    if len(inputs) != len(targets) or len(inputs) == 0:
        raise ValueError(
            f"`inputs` and `targets` must be equally long, not empty, got {len(inputs)} and {len(targets)}."
        )
    for name, number in (("epochs", epochs), ("batch_size", batch_size), ("evaluate_every", evaluate_every)):
        check_integer(number, name, minimum=1)
    check_below_one(momentum, "momentum")
    if snapshots and checkpoint is None:
        raise ValueError(f"`snapshots` must be empty without a `checkpoint`, got {sorted(snapshots)}.")
    fabric = fabric or make_fabric("cpu", "float32")
    execution = resolve_execution(execution, fabric.device.type, processes=fabric.world_size)
    # Some optimisers look where the parameters are when they are made.
    model.to(fabric.device)
    network = torch.compile(model, dynamic=False) if execution == "compile" else model
    groups = parameters or [{"params": list(model.parameters())}]
    make_optimizer = make_optimizer or partial(torch.optim.SGD, momentum=momentum)
    optimizer = make_optimizer(groups, lr=learning_rate_at(0), **update_kind(execution))
    trained, wrapped = fabric.setup(network, optimizer)
    history = History()
    if checkpoint is not None and Path(checkpoint).exists():
        history = restore(checkpoint, identity, model, optimizer, rng)
    order_at = order_at or shuffled(len(inputs))
    # A compiled network would be compiled once more for the batches of the evaluation.
    judged = model if execution == "compile" else trained
    exams = [Exam(name, judged, *held, fabric, rng, execution) for name, held in (evaluation or {}).items()]
    recorded = None
    if execution != "plain":
        recorded = _RecordedEpoch(trained, wrapped, inputs, targets, batch_size, augment, rng, fabric)
    last = leave_after(epochs, stop_after)
    with recording([*exams, recorded] if recorded else exams, inputs.device, execution):
        for epoch in epoch_numbers(history.epochs, last, show=progress and fabric.is_global_zero):
            started = time.perf_counter()
            rate = learning_rate_at(epoch)
            order = order_at(epoch, rng)
            with number_format(fabric):
                if recorded:
                    losses = recorded.run(order, loss_at(epoch), rate)
                else:
                    set_rate(optimizer, rate)
                    losses = _train_epoch(
                        trained, wrapped, inputs, targets, order, loss_at(epoch), batch_size, augment, rng, fabric
                    )
            require_finite(losses, order, batch_size, epoch)
            history.train_loss.append(float(losses.mean()))
            history.learning_rate.append(rate)
            if (epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs:
                history.evaluated.append(epoch)
                for exam in exams:
                    history.accuracy.setdefault(exam.name, []).append(exam.score())
            history.seconds += time.perf_counter() - started
            if checkpoint is not None and fabric.is_global_zero:
                state = state_of(identity, history, model, optimizer, rng)
                # The snapshot first: a run that is killed in between repeats the epoch, and writes both.
                if history.epochs in snapshots:
                    save_checkpoint(f"{checkpoint}.epoch{history.epochs}", state)
                save_checkpoint(checkpoint, state)
    return history


def _train_epoch(
    model: nn.Module,
    optimizer: Any,
    inputs: Tensor,
    targets: Tensor,
    order: Tensor,
    loss: Loss,
    batch_size: int,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None,
    rng: torch.Generator,
    fabric: Any,
) -> Tensor:
    """One pass over `order`; returns the loss of every step, still on the device."""
    model.train()
    batches = order.split(batch_size)
    losses = torch.zeros(len(batches), device=inputs.device)
    for step, batch in enumerate(batches):
        mine, factor = _share(len(batch), fabric.global_rank, fabric.world_size)
        share = batch[mine]
        # All processes augment the whole batch: their generators stay in step, and the images are those of one process.
        images = inputs[share] if augment is None else augment(inputs[batch], rng)[mine]
        value = loss(model(images), targets[share])
        if fabric.world_size > 1:
            value = value * factor
        fabric.backward(value)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses[step] = value.detach()
    # The mean over processes is the mean over the batch; and all of them see a loss that is not finite, so all stop.
    return fabric.all_reduce(losses, reduce_op="mean") if fabric.world_size > 1 else losses


class _RecordedEpoch:
    """`_train_epoch` on buffers that keep their place, so that a step can be recorded and replayed.

    All that changes between two steps is on the device: the order of the epoch, the number of the step, the rate.
    Recorded are one step per size of batch, the usual one and that of the last batch of an epoch.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any,
        inputs: Tensor,
        targets: Tensor,
        batch_size: int,
        augment: Callable[[Tensor, torch.Generator], Tensor] | None,
        rng: torch.Generator,
        fabric: Any,
    ) -> None:
        self.model, self.optimizer, self.fabric = model, optimizer, fabric
        self.inputs, self.targets, self.batch_size = inputs, targets, batch_size
        self.augment, self.rng = augment, rng
        self.rate = torch.zeros((), device=inputs.device)
        set_rate(optimizer, self.rate)
        self.step = torch.zeros(1, dtype=torch.int64, device=inputs.device)
        self.order, self.losses = targets.new_empty(0), self.rate.new_empty(0)
        self.loss: Loss | None = None
        self.steps: dict[int, Recorded] = {}

    def run(self, order: Tensor, loss: Loss, rate: float) -> Tensor:
        """One pass over `order`; returns the loss of every step, in a buffer that the next pass overwrites."""
        self.model.train()
        sizes = [len(batch) for batch in order.split(self.batch_size)]
        if len(order) != len(self.order):
            self.order, self.losses = torch.empty_like(order), torch.zeros(len(sizes), device=order.device)
            self._begin_anew()
        if loss is not self.loss:
            self.loss = loss
            self._begin_anew()
        self.order.copy_(order)
        self.rate.fill_(rate)
        self.step.zero_()
        for size in sizes:
            if size not in self.steps:
                self.steps[size] = Recorded(partial(self._step, loss, size), self.rng, self.inputs.device)
            self.steps[size]()
        return self.losses

    @property
    def graphs(self) -> Iterable[Recorded]:
        """What is recorded at present."""
        return self.steps.values()

    def _begin_anew(self) -> None:
        give_up(self.graphs)
        self.steps = {}

    def _step(self, loss: Loss, size: int) -> None:
        batch = self.order[self.step * self.batch_size + torch.arange(size, device=self.order.device)]
        images = self.inputs[batch] if self.augment is None else self.augment(self.inputs[batch], self.rng)
        value = loss(self.model(images), self.targets[batch])
        self.fabric.backward(value)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.losses[self.step] = value.detach().to(self.losses.dtype)
        self.step.add_(1)


class Exam:
    """Balanced accuracy of a model on one held-out set; unless plain, the forward pass is recorded like a step."""

    def __init__(
        self,
        name: str,
        model: nn.Module,
        inputs: Tensor,
        targets: Tensor,
        fabric: Any,
        rng: torch.Generator,
        execution: str,
    ) -> None:
        self.name, self.model, self.inputs, self.targets, self.fabric = name, model, inputs, targets, fabric
        self.labels, self.classes = torch.empty_like(targets), 0
        self.graphs = [] if execution == "plain" else [Recorded(self._forward, rng, inputs.device)]
        self.forward: Callable[[], None] = self.graphs[0] if self.graphs else self._forward

    def score(self) -> float:
        """The accuracy of the model as it is now."""
        self.forward()
        return balanced_accuracy(self.targets, self.labels, num_classes=self.classes)

    def _forward(self) -> None:
        with self.fabric.autocast():
            logits = predict(self.model, self.inputs)
        self.classes = logits.shape[1]
        self.labels.copy_(logits.argmax(dim=1))


def update_kind(execution: str) -> dict[str, bool]:
    """Which of PyTorch's updates: only the fused one reads its rate on the device."""
    return {"foreach": execution == "plain", "fused": execution != "plain"}


def set_rate(optimizer: Any, rate: float | Tensor) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def _share(batch: int, rank: int, processes: int) -> tuple[slice, float]:
    """Positions of a batch that a process computes, and the weight of its mean loss in the mean over processes."""
    size = len(range(rank, batch, processes))
    if size:
        return slice(rank, None, processes), size * processes / batch
    # Without a sample of its own, a process still has to take part in the exchange of gradients.
    return slice(0, 1), 0.0


def require_finite(losses: Tensor, order: Tensor, batch_size: int, epoch: int) -> None:
    """Raise `NonFiniteLossError` for the first step whose loss is infinite or NaN."""
    bad = (~torch.isfinite(losses)).nonzero()
    if len(bad):
        step = int(bad[0])
        raise NonFiniteLossError(epoch, step, order[step * batch_size : (step + 1) * batch_size].tolist())


def leave_after(length: int, stop_after: int | None) -> int:
    """The number of epochs or generations after which a run of `length` is left; all of them if `stop_after` is None.

    Raises:
        ValueError: `stop_after` is negative.
        TypeError: it is not a whole number.
    """
    return length if stop_after is None else min(length, check_integer(stop_after, "stop_after", minimum=0))


def epoch_numbers(first: int, last: int, *, show: bool) -> Iterable[int]:
    """The epochs from `first` up to `last`, with a progress bar if wanted."""
    if not show:
        return range(first, last)
    from tqdm.auto import trange

    return trange(first, last, desc="epoch", initial=first, total=last)


def state_of(
    identity: str, history: History, model: nn.Module, optimizer: torch.optim.Optimizer, rng: torch.Generator
) -> dict[str, Any]:
    """What a checkpoint holds of a training between two epochs."""
    return {
        "identity": identity,
        "history": dict(vars(history)),
        "model": model.state_dict(),
        "optimizer": optimizer_state(optimizer),
        "rng": rng.get_state(),
    }


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What a checkpoint keeps of an optimiser: the same whether its steps are recorded or not."""
    state = optimizer.state_dict()
    groups = [group | {"lr": float(group["lr"])} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Continue from `optimizer_state`, with the settings that this run was started with."""
    own = [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]
    # PyTorch reads from the groups that it is given where a state belongs, such as the step count of Adam.
    saved = [group | settings for group, settings in zip(state["param_groups"], own, strict=True)]
    optimizer.load_state_dict({**state, "param_groups": saved})
    for group, settings in zip(optimizer.param_groups, own, strict=True):
        group.update(settings)


def restore(
    path: str | Path, identity: str, model: nn.Module, optimizer: torch.optim.Optimizer, rng: torch.Generator
) -> History:
    """Continue from `state_of` in a file: change all three objects, and return the history.

    Raises:
        CheckpointError: the file is damaged or belongs to another run.
    """
    state = load_checkpoint(path, identity=identity)
    set_generator(rng, state["rng"])  # first: it can refuse, and then nothing else is changed
    model.load_state_dict(state["model"])
    load_optimizer(optimizer, state["optimizer"])
    return History(**state["history"])
