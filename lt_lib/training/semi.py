r"""Semi-supervised training: FixMatch, mean teacher and pseudo-labelling in one loop, alone and stacked.

Every step takes a labelled batch and an unlabelled batch that is :math:`\mu` times as large, makes the views that the
rule asks for, sends all of them through the network in one forward pass, and adds

.. math:: \ell = \frac1B \sum_{b} H(y_b, p(\cdot \mid \omega(x_b)))
                + \lambda_u\, \frac{1}{\mu B} \sum_{u} m_u\, \ell_u(q_u, p(\cdot \mid \Omega(x_u))).

The data lie on the device as one tensor; labelled and unlabelled sets are index lists into it, so that a generation of
self-training adds indices and no images. Labels are given for the labelled indices only: there is no argument through
which a true label of the unlabelled pool could come in.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lt_lib._checks import check_below_one, check_integer, check_positive, check_real
from lt_lib.training.checkpoint import load_checkpoint, save_checkpoint, set_generator
from lt_lib.training.consistency import DistributionAlignment, Rule, Target, cross_entropy
from lt_lib.training.descent import Descent
from lt_lib.training.ema import WeightAverage
from lt_lib.training.graphs import Recorded, recording, resolve_execution
from lt_lib.training.loop import (
    Exam,
    epoch_numbers,
    leave_after,
    load_optimizer,
    optimizer_state,
    require_finite,
    set_rate,
    update_kind,
)
from lt_lib.training.placement import make_fabric, number_format
from lt_lib.training.stacked import balanced_accuracies, predict_stacked
from lt_lib.training.unequal import whole_passes

View = Callable[[Tensor, torch.Generator], Tensor]  # (stored inputs, generator) -> what the network takes


def cosine_learning_rate(base: float, steps: int, *, level: float = 1.0) -> Callable[[int], float]:
    r"""Part of a cosine arc.

    .. math:: \eta(s) = \eta_0 \cos\!\left(\frac{\pi\,l}{16} \cdot \frac{s}{S}\right)

    Level 7 is FixMatch's schedule, which ends at 0.195 of the base. CReST's code runs at level 1, which is nearly
    constant: 0.03 ends at 0.0294. Level 0 is constant, level 8 ends at zero.

    Args:
        base: rate of the first step, > 0.
        steps: length of the run S, >= 1.
        level: l in [0, 8].

    Returns:
        A function 0-based step -> learning rate.

    Raises:
        ValueError: an argument is out of range.

    Example:
        >>> round(cosine_learning_rate(0.03, 65536)(65536), 4)
        0.0294
    """
    check_positive(base, "base")
    check_integer(steps, "steps", minimum=1)
    check_real(level, "level", minimum=0.0, maximum=8.0)
    return lambda step: base * math.cos(math.pi * level / 16 * step / steps)


def ramp_up(weight: float | Tensor, steps: int) -> Callable[[int], float | Tensor]:
    """Linear rise from 0 to `weight` over the first `steps` steps, then constant; at once with 0 steps.

    Example:
        >>> rising = ramp_up(2.0, 4)
        >>> [rising(step) for step in (0, 1, 4, 9)]
        [0.0, 0.5, 2.0, 2.0]
    """
    check_integer(steps, "steps", minimum=0)
    values = torch.as_tensor(weight)
    if not bool((values.ge(0) & values.isfinite()).all()):
        raise ValueError(f"`weight` must be finite and >= 0, got {weight}.")
    return lambda step: weight * min(step / steps, 1.0) if steps else weight


@dataclass(frozen=True, eq=False)
class Stream:
    """The data of one model: index lists into a shared pool of inputs, and the source of all its randomness.

    Attributes:
        labelled: int64 `(labelled,)`, positions in the pool; originals and pseudo-labelled ones alike.
        labels: int64 `(labelled,)`.
        unlabelled: int64 `(unlabelled,)`, positions in the pool; unused, and may be empty, without a rule.
        rng: generator on the device of the pool: sample order and views.
    """

    labelled: Tensor
    labels: Tensor
    unlabelled: Tensor
    rng: torch.Generator


@dataclass
class SemiHistory:
    """What semi-supervised training records: one entry per finished epoch, and per evaluated epoch and set.

    Attributes:
        labelled_loss: mean loss of the labelled batches.
        unlabelled_loss: mean loss of the unlabelled batches, before its weight; 0 without a rule.
        mask_rate: share of the unlabelled samples that counted; 0 without a rule.
        model_mean: mean prediction on the weak views before alignment, one list per epoch; empty without a rule.
        learning_rate: rate of the last step of each epoch.
        evaluated: 0-based epochs after which the averaged model was evaluated.
        accuracy: for each evaluation set, the balanced accuracy of the averaged model per evaluated epoch.
        starved: classes that the model hardly ever predicted in the last steps (`DistributionAlignment.starved`).
        seconds: wall time over all parts of a resumed run; for a stack, the member's share.
    """

    labelled_loss: list[float] = field(default_factory=list)
    unlabelled_loss: list[float] = field(default_factory=list)
    mask_rate: list[float] = field(default_factory=list)
    model_mean: list[list[float]] = field(default_factory=list)
    learning_rate: list[float] = field(default_factory=list)
    evaluated: list[int] = field(default_factory=list)
    accuracy: dict[str, list[float]] = field(default_factory=dict)
    starved: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def epochs(self) -> int:
        """Finished epochs."""
        return len(self.labelled_loss)


def fit_semi(
    model: nn.Module,
    pool: Tensor,
    stream: Stream,
    *,
    rule: Rule | None,
    weak: View,
    strong: View,
    learning_rate_at: Callable[[int], float],
    epochs: int,
    steps_per_epoch: int,
    num_classes: int,
    batch_size: int = 64,
    unlabelled_ratio: int = 7,
    unlabelled_weight_at: Callable[[int], float] = lambda _step: 1.0,
    alignment: Target = None,
    alignment_window: int = 128,
    ema_decay: float = 0.999,
    momentum: float = 0.9,
    parameters: list[dict] | None = None,
    one_forward: bool = True,
    evaluation: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    evaluate_every: int = 1,
    fabric: Any = None,
    execution: str = "auto",
    checkpoint: str | Path | None = None,
    identity: str = "",
    stop_after: int | None = None,
    progress: bool = False,
) -> tuple[SemiHistory, nn.Module]:
    """Train `model` in place by SGD with Nesterov momentum, on labelled and unlabelled samples.

    Args:
        model: module `(batch, ...) -> (batch, classes)`, moved to the device of `fabric`.
        pool: all inputs as stored `(pool, ...)`, on the device; the views make them fit the network.
        stream: labelled and unlabelled index lists, and the generator.
        rule: `fixmatch(...)`, `pseudo_label(...)`, `mean_teacher()`; None trains on the labelled samples alone.
        weak: view of labelled samples, and of unlabelled ones for the target.
        strong: view that FixMatch's student learns on.
        learning_rate_at: 0-based step of the whole run -> rate (`cosine_learning_rate`).
        epochs: length of the run, >= 1. An epoch is a number of steps, not a pass over the data.
        steps_per_epoch: steps between two entries of the history, and two checkpoints, >= 1.
        num_classes: C, >= 2.
        batch_size: labelled samples per step, >= 1. Each epoch begins a new pass over the shuffled samples and repeats
            passes as needed, so the set may be smaller than a batch.
        unlabelled_ratio: unlabelled samples per labelled one in a step, >= 1.
        unlabelled_weight_at: 0-based step of the whole run -> weight of the unlabelled loss, >= 0 (`ramp_up`).
        alignment: target of `DistributionAlignment`; None for no alignment.
        alignment_window: steps over which the model's own class distribution is averaged, >= 1.
        ema_decay: decay of the averaged model, in [0, 1].
        momentum: of SGD, in (0, 1).
        parameters: optimiser groups; all parameters without decay if not given.
        one_forward: labelled, weak and strong inputs share one forward pass, hence one set of batch statistics; False
            sends them through one after the other.
        evaluation: name -> (inputs as the network takes them, targets), for the averaged model.
        evaluate_every: epochs between evaluations, >= 1; the last epoch is always evaluated.
        fabric: `lt_lib.training.make_fabric(...)` for one device; CPU and float32 if not given.
        execution: how steps are run (`lt_lib.training.resolve_execution`); it changes results by rounding only. The
            views must not depend on anything but their arguments.
        checkpoint: file for the state after every epoch; if it exists, training goes on from it, and on a CPU ends in
            the same bits as without the break.
        identity: stored in the checkpoint and compared on resume.
        stop_after: leave after this many finished epochs in all; None to finish.
        progress: show a progress bar over epochs (tqdm).

    Returns:
        History of the whole run, and the averaged model.

    Raises:
        NonFiniteLossError: a step's loss is not finite; names epoch, step and the labelled pool indices.
        ValueError: an empty set, unequal lengths, sizes or `momentum` out of range.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    sizes = _check_sizes(epochs, steps_per_epoch, batch_size, unlabelled_ratio, evaluate_every)
    _check_stream(stream, rule)
    _check_momentum(momentum)
    fabric = fabric or make_fabric("cpu", "float32")
    execution = resolve_execution(execution, fabric.device.type, processes=fabric.world_size)
    network = torch.compile(model, dynamic=False) if execution == "compile" else model
    groups = parameters or [{"params": list(model.parameters())}]
    optimizer = _optimizer(groups, learning_rate_at, momentum, **update_kind(execution))
    trained, wrapped = fabric.setup(network, optimizer)
    average = WeightAverage(model, ema_decay)
    aligner = _aligner(alignment, num_classes, alignment_window, model)
    history = SemiHistory()
    if checkpoint is not None and Path(checkpoint).exists():
        saved = load_checkpoint(checkpoint, identity=identity)
        history = _restore(saved, model, average, optimizer, aligner, stream.rng)

    def teach(inputs: Tensor) -> Tensor:
        with fabric.autocast():
            return average.model(inputs)

    def learn(order: _Order, step: int | Tensor, rate: float | Tensor, weight: float | Tensor, record: _Record) -> None:
        set_rate(optimizer, rate)
        inputs, labels = _batch(pool, stream, order, step, rule, weak, strong)
        terms = _losses(trained, teach, inputs, labels, rule, aligner, one_forward=one_forward)
        total = terms.total(weight)
        fabric.backward(total)
        wrapped.step()
        wrapped.zero_grad(set_to_none=True)
        average.update(model)
        record.add(step, total, terms)

    recorded = None if execution == "plain" else _RecordedSteps(learn, steps_per_epoch, stream.rng, model)
    exams = [
        Exam(name, average.model, *held, fabric, stream.rng, execution) for name, held in (evaluation or {}).items()
    ]
    last = leave_after(epochs, stop_after)
    with recording([*exams, recorded] if recorded else exams, pool.device, execution):
        for epoch in epoch_numbers(history.epochs, last, show=progress):
            started = time.perf_counter()
            steps = range(epoch * steps_per_epoch, (epoch + 1) * steps_per_epoch)
            order = _draw(stream, rule, steps_per_epoch, sizes)
            rates = [learning_rate_at(step) for step in steps]
            weights = [unlabelled_weight_at(step) for step in steps]
            with number_format(fabric):
                if recorded:
                    record = recorded.run(order, rates, weights)
                else:
                    record = _Record(steps_per_epoch)
                    for step in range(steps_per_epoch):
                        learn(order, step, rates[step], weights[step], record)
            drawn = stream.labelled[order.labelled.flatten()]
            require_finite(record.columns["total"], drawn, batch_size, epoch)
            record.write([history], rates[-1])
            history.starved = _starved(aligner, rule)[0]
            if (epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs:
                history.evaluated.append(epoch)
                for exam in exams:
                    history.accuracy.setdefault(exam.name, []).append(exam.score())
            history.seconds += time.perf_counter() - started
            if checkpoint is not None:
                state = {
                    "identity": identity,
                    "history": dict(vars(history)),
                    "model": model.state_dict(),
                    "average": average.model.state_dict(),
                    "optimizer": optimizer_state(optimizer),
                    "alignment": aligner.state_dict(),
                    "rng": stream.rng.get_state(),
                }
                save_checkpoint(checkpoint, state)
    return history, average.model


def fit_semi_stacked(
    model: Any,
    pool: Tensor,
    streams: Sequence[Stream],
    *,
    rule: Rule | None,
    weak: View,
    strong: View,
    learning_rate_at: Callable[[int], float],
    epochs: int,
    steps_per_epoch: int,
    num_classes: int,
    batch_size: int = 64,
    unlabelled_ratio: int = 7,
    unlabelled_weight_at: Callable[[int], float | Tensor] = lambda _step: 1.0,
    alignment: Sequence[Target] | None = None,
    alignment_window: int = 128,
    ema_decay: float = 0.999,
    momentum: float = 0.9,
    parameters: list[dict] | None = None,
    evaluation: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    evaluate_every: int = 1,
) -> tuple[list[SemiHistory], Any]:
    """Train every member of a `StackedModel` exactly as `fit_semi` would train it alone.

    The members may differ in their data, also in the sizes of their sets, in seed and alignment, and, through tensors
    of one entry per member, in threshold and weight of the unlabelled loss. Batches, steps and rule are shared.

    Args:
        model: `lt_lib.models.StackedModel`, one member per stream.
        pool: inputs that all members draw from `(pool, ...)`, of the type that the views and the network compute in.
        streams: see `Stream`, one per member.
        rule: as for `fit_semi`; a threshold may be a tensor `(members, 1)`.
        weak: as for `fit_semi`.
        strong: as for `fit_semi`.
        learning_rate_at: as for `fit_semi`, for all members.
        epochs: as for `fit_semi`.
        steps_per_epoch: as for `fit_semi`.
        num_classes: as for `fit_semi`.
        batch_size: labelled samples per member and step.
        unlabelled_ratio: as for `fit_semi`.
        unlabelled_weight_at: as for `fit_semi`; may return a tensor `(members,)`.
        alignment: one target per member, or None for no alignment at all.
        alignment_window: as for `fit_semi`.
        ema_decay: as for `fit_semi`.
        momentum: as for `fit_semi`.
        parameters: optimiser groups (`StackedModel.parameter_groups`); no decay if not given.
        evaluation: name -> (inputs, targets) that all averaged members are evaluated on.
        evaluate_every: as for `fit_semi`.

    Returns:
        One history per member, and the stack of averaged models.

    Raises:
        ValueError: the number of streams or alignments is not that of the members; and as for `fit_semi`.
        NonFiniteLossError: a loss is not finite; the indices are those of the first member concerned.

    Example:
        A pool of 20 points in two classes, two seeds side by side.

        >>> from lt_lib.models import MLP, StackedModel, seeded
        >>> from lt_lib.training import fixmatch
        >>> pool = torch.cat([torch.randn(10, 2) + 3, torch.randn(10, 2) - 3])
        >>> parts = torch.tensor([0, 10]), torch.tensor([0, 1]), torch.arange(20)
        >>> streams = [Stream(*parts, torch.Generator().manual_seed(s)) for s in range(2)]
        >>> stack = StackedModel([seeded(lambda: MLP(2, 2, hidden=4), s) for s in range(2)])
        >>> noise = lambda x, rng: x + 0.1 * torch.randn(x.shape, generator=rng)
        >>> histories, averaged = fit_semi_stacked(
        ...     stack, pool, streams, rule=fixmatch(), weak=noise, strong=noise, epochs=1, steps_per_epoch=3,
        ...     learning_rate_at=cosine_learning_rate(0.03, 3), num_classes=2, batch_size=2)
        >>> len(histories), len(averaged)
        (2, 2)
    """
    sizes = _check_sizes(epochs, steps_per_epoch, batch_size, unlabelled_ratio, evaluate_every)
    if len(streams) != len(model):
        raise ValueError(f"`streams` must have one entry per model, got {len(streams)} for {len(model)} models.")
    targets = [None] * len(streams) if alignment is None else list(alignment)
    if len(targets) != len(streams):
        raise ValueError(f"`alignment` must have one entry per stream ({len(streams)}), got {len(targets)}.")
    for stream in streams:
        _check_stream(stream, rule)
    _check_momentum(momentum)
    descent = Descent(parameters or [{"params": list(model.parameters())}], momentum=momentum, nesterov=True)
    average = WeightAverage(model, ema_decay)
    aligner = _aligner(targets, num_classes, alignment_window, model)
    histories = [SemiHistory() for _ in streams]
    started = time.perf_counter()
    for epoch in range(epochs):
        orders = [_draw(stream, rule, steps_per_epoch, sizes) for stream in streams]
        drawn = list(zip(streams, orders, strict=True))
        rows = _Order(
            torch.stack([stream.labelled[order.labelled] for stream, order in drawn]),
            torch.stack([stream.unlabelled[order.unlabelled] for stream, order in drawn]),
        )
        labels_of_epoch = torch.stack([stream.labels[order.labelled] for stream, order in drawn])
        record = _Record(steps_per_epoch)
        for step in range(steps_per_epoch):
            number = epoch * steps_per_epoch + step
            inputs = _stacked_views(pool, streams, rows, step, rule, weak, strong)
            labels = labels_of_epoch[:, step]
            terms = _losses(model, average.model, inputs, labels, rule, aligner, one_forward=True)
            total = terms.total(unlabelled_weight_at(number))
            total.sum().backward()
            descent.step(learning_rate_at(number))
            average.update(model)
            record.add(step, total, terms)
        for row, stream, order in zip(record.columns["total"].unbind(dim=1), streams, orders, strict=True):
            require_finite(row, stream.labelled[order.labelled.flatten()], batch_size, epoch)
        record.write(histories, learning_rate_at((epoch + 1) * steps_per_epoch - 1))
        for history, classes in zip(histories, _starved(aligner, rule, len(streams)), strict=True):
            history.starved = classes
        if (epoch + 1) % evaluate_every == 0 or epoch + 1 == epochs:
            _evaluate(average.model, evaluation or {}, histories, epoch)
    for history in histories:
        history.seconds = (time.perf_counter() - started) / len(streams)
    return histories, average.model


@torch.no_grad()
def predict_pool(
    model: Any, pool: Tensor, rows: Sequence[Tensor], prepare: Callable[[Tensor], Tensor], *, batch_size: int = 1000
) -> list[Tensor]:
    """Predicted class distributions of pool entries that differ from member to member.

    Args:
        model: stacked model in evaluation mode; a single model goes through `predict` instead.
        pool: inputs as stored.
        rows: for each member the indices to predict, of any lengths.
        prepare: stored inputs `(members, batch, ...)` -> what the network takes, without randomness.
        batch_size: samples per member and forward pass.

    Returns:
        For each member `(indices, classes)`, float64 or the type of the network.
    """
    longest = max(len(row) for row in rows)
    # Shorter lists are filled up with an entry of their own, which is cut off again.
    filled = torch.stack([torch.cat([row, row[:1].expand(longest - len(row))]) for row in rows])
    parts = [model(prepare(pool[part])).softmax(dim=-1) for part in filled.split(batch_size, dim=1)]
    table = torch.cat(parts, dim=1)
    return [values[: len(row)] for values, row in zip(table, rows, strict=True)]


class _Order(NamedTuple):
    """Positions in the labelled and in the unlabelled index list, one row per step; of a stack, entries of the pool."""

    labelled: Tensor
    unlabelled: Tensor


def _draw(stream: Stream, rule: Rule | None, steps: int, sizes: tuple[int, int]) -> _Order:
    """One epoch of positions: whole random passes, cut to the number of samples needed."""
    rng = stream.rng

    def passes(available: int, size: int) -> Tensor:
        return whole_passes(available, steps * size)(0, rng).reshape(steps, size)

    labelled = passes(len(stream.labelled), sizes[0])
    return _Order(labelled, labelled[:, :0] if rule is None else passes(len(stream.unlabelled), sizes[1]))


def _batch(
    pool: Tensor, stream: Stream, order: _Order, step: int | Tensor, rule: Rule | None, weak: View, strong: View
) -> tuple[list[Tensor], Tensor]:
    """Views of one step, labelled first, then the teacher's, then the student's if it has its own; and the labels.

    The step is a number, or a tensor of one number: the latter can be part of a recorded step.
    """
    positions = order.labelled[step].flatten()
    views = _views(
        pool[stream.labelled[positions]],
        None if rule is None else pool[stream.unlabelled[order.unlabelled[step].flatten()]],
        rule,
        lambda stored: weak(stored, stream.rng),
        lambda stored: strong(stored, stream.rng),
    )
    return views, stream.labels[positions]


def _stacked_views(
    pool: Tensor, streams: Sequence[Stream], rows: _Order, step: int, rule: Rule | None, weak: View, strong: View
) -> list[Tensor]:
    """As the views of `_batch`, for all members: entries of the pool `(members, steps, batch)` are read at once."""

    def by_member(view: View) -> Callable[[Tensor], Tensor]:
        return lambda stored: torch.stack(
            [view(part, stream.rng) for part, stream in zip(stored, streams, strict=True)]
        )

    unlabelled = None if rule is None else pool[rows.unlabelled[:, step]]
    return _views(pool[rows.labelled[:, step]], unlabelled, rule, by_member(weak), by_member(strong))


def _views(
    labelled: Tensor,
    unlabelled: Tensor | None,
    rule: Rule | None,
    weak: Callable[[Tensor], Tensor],
    strong: Callable[[Tensor], Tensor],
) -> list[Tensor]:
    """Who sees what, in the order in which every generator draws."""
    seen = [weak(labelled)]
    if rule is not None and unlabelled is not None:
        seen.append(weak(unlabelled))
        if rule.student != "same":
            seen.append((strong if rule.student == "strong" else weak)(unlabelled))
    return seen


class _Terms(NamedTuple):
    """Losses of a step `(...)`; mask rate `(...)` and mean prediction `(..., classes)`, or None without a rule."""

    labelled: Tensor
    unlabelled: Tensor | None
    mask_rate: Tensor | None
    mean: Tensor | None

    def total(self, weight: float | Tensor) -> Tensor:
        return self.labelled if self.unlabelled is None else self.labelled + weight * self.unlabelled


def _losses(
    model: Callable[[Tensor], Tensor],
    teach: Callable[[Tensor], Tensor],
    views: list[Tensor],
    labels: Tensor,
    rule: Rule | None,
    aligner: DistributionAlignment,
    *,
    one_forward: bool,
) -> _Terms:
    axis = labels.ndim - 1  # of the samples: 0 for one model, 1 behind the members of a stack
    averaged = rule is not None and rule.teacher == "average"
    seen = views[:1] + views[2:] if averaged else views
    if one_forward:
        logits = list(model(torch.cat(seen, dim=axis)).split([view.shape[axis] for view in seen], dim=axis))
    else:
        logits = [model(view) for view in seen]
    labelled = cross_entropy(logits[0], labels).mean(dim=-1)
    if rule is None:
        return _Terms(labelled, None, None, None)
    with torch.no_grad():
        taught = (teach(views[1]) if averaged else logits[1]).to(labelled.dtype)
        probabilities = taught.softmax(dim=-1)
        target = aligner(probabilities)
    term = rule.loss(target, logits[-1])
    aligner.update(probabilities, labels)
    return _Terms(labelled, term.loss, term.mask.mean(dim=-1), probabilities.mean(dim=-2))


class _Record:
    """What happened in the steps of an epoch, kept on the device until its end."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.columns: dict[str, Tensor] = {}

    def add(self, step: int | Tensor, total: Tensor, terms: _Terms) -> None:
        for name, value in {"total": total, **terms._asdict()}.items():
            if value is not None:
                if name not in self.columns:
                    self.columns[name] = value.new_zeros((self.steps, *value.shape))
                self.columns[name][step] = value.detach()

    def write(self, histories: Sequence[SemiHistory], rate: float) -> None:
        """Add the means over the epoch to the history of each member."""
        means = {name: column.mean(dim=0).tolist() for name, column in self.columns.items()}
        if self.columns["labelled"].ndim == 1:
            means = {name: [value] for name, value in means.items()}
        for position, history in enumerate(histories):
            history.labelled_loss.append(means["labelled"][position])
            history.unlabelled_loss.append(means["unlabelled"][position] if "unlabelled" in means else 0.0)
            history.mask_rate.append(means["mask_rate"][position] if "mask_rate" in means else 0.0)
            if "mean" in means:
                history.model_mean.append(means["mean"][position])
            history.learning_rate.append(rate)


class _RecordedSteps:
    """The steps of an epoch on buffers that keep their place, so that one step can be recorded and replayed.

    All that changes between two steps is on the device: the order of the epoch, the number of the step, and, for each
    step of the epoch, the rate and the weight of the unlabelled loss.
    """

    def __init__(self, learn: Callable[..., None], steps: int, rng: torch.Generator, model: nn.Module) -> None:
        first = next(model.parameters())
        self.learn = learn
        self.record = _Record(steps)
        self.step = torch.zeros(1, dtype=torch.int64, device=first.device)
        self.rate = torch.zeros((), device=first.device)
        self.rates = torch.zeros(steps, device=first.device)
        self.weights = torch.zeros(steps, device=first.device, dtype=first.dtype)
        self.order: _Order | None = None
        self.recorded_step = Recorded(self._step, rng, first.device)
        self.graphs = [self.recorded_step]

    def run(self, order: _Order, rates: list[float], weights: list[float]) -> _Record:
        """One epoch; returns what happened, in buffers that the next epoch overwrites."""
        if self.order is None:
            self.order = _Order(*(torch.empty_like(part) for part in order))
        for mine, part in zip(self.order, order, strict=True):
            mine.copy_(part)
        self.rates.copy_(torch.tensor(rates, device="cpu"))
        self.weights.copy_(torch.tensor(weights, device="cpu", dtype=self.weights.dtype))
        self.step.zero_()
        for _ in range(self.record.steps):
            self.recorded_step()
        return self.record

    def _step(self) -> None:
        self.rate.copy_(self.rates[self.step].squeeze(0))
        self.learn(self.order, self.step, self.rate, self.weights[self.step].squeeze(0), self.record)
        self.step.add_(1)


def _evaluate(
    model: Any, evaluation: Mapping[str, tuple[Tensor, Tensor]], histories: Sequence[SemiHistory], epoch: int
) -> None:
    for history in histories:
        history.evaluated.append(epoch)
    for name, (inputs, targets) in evaluation.items():
        logits = predict_stacked(model, inputs)
        scores = balanced_accuracies(logits, targets.expand(len(histories), -1)).tolist()
        for history, score in zip(histories, scores, strict=True):
            history.accuracy.setdefault(name, []).append(score)


def _starved(aligner: DistributionAlignment, rule: Rule | None, members: int = 1) -> list[list[int]]:
    if rule is None:
        return [[] for _ in range(members)]
    found: Any = aligner.starved()
    return found if aligner.stacked else [found]


def _aligner(
    targets: Target | Sequence[Target], num_classes: int, window: int, model: nn.Module
) -> DistributionAlignment:
    first = next(model.parameters())
    check_integer(num_classes, "num_classes", minimum=2)
    return DistributionAlignment(targets, num_classes, window=window, device=first.device, dtype=first.dtype)


def _check_momentum(momentum: float) -> None:
    """Nesterov's gradient, which all of these methods use, looks ahead along the momentum: there must be some."""
    check_positive(check_below_one(momentum, "momentum"), "momentum")


def _optimizer(
    groups: list[dict], rate: Callable[[int], float], momentum: float, *, foreach: bool = True, fused: bool = False
) -> torch.optim.SGD:
    return torch.optim.SGD(groups, lr=rate(0), momentum=momentum, nesterov=True, foreach=foreach, fused=fused)


def _check_sizes(epochs: int, steps: int, batch_size: int, ratio: int, evaluate_every: int) -> tuple[int, int]:
    for name, number in (
        ("epochs", epochs),
        ("steps_per_epoch", steps),
        ("batch_size", batch_size),
        ("unlabelled_ratio", ratio),
        ("evaluate_every", evaluate_every),
    ):
        check_integer(number, name, minimum=1)
    return batch_size, batch_size * ratio


def _check_stream(stream: Stream, rule: Rule | None) -> None:
    if len(stream.labelled) != len(stream.labels) or len(stream.labelled) == 0:
        raise ValueError(
            "`labelled` and `labels` must be equally long, not empty, "
            f"got {len(stream.labelled)} and {len(stream.labels)}."
        )
    if rule is not None and len(stream.unlabelled) == 0:
        raise ValueError("`unlabelled` must hold at least one index, got an empty pool.")


def _restore(
    saved: dict[str, Any],
    model: nn.Module,
    average: WeightAverage,
    optimizer: torch.optim.Optimizer,
    aligner: DistributionAlignment,
    rng: torch.Generator,
) -> SemiHistory:
    set_generator(rng, saved["rng"])  # first: it can refuse, and then nothing else is changed
    model.load_state_dict(saved["model"])
    average.model.load_state_dict(saved["average"])
    load_optimizer(optimizer, saved["optimizer"])
    aligner.load_state_dict(saved["alignment"])
    return SemiHistory(**saved["history"])
