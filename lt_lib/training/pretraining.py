r"""Self-supervised pre-training: tasks whose answers are made from the images, alone and stacked; and the transfer.

A task turns a batch of images into inputs and answers of its own making; the network learns to give the answers; then
everything but its last layer becomes the start of ordinary training. No function here takes a label: what a network
learns before the transfer cannot depend on one.

Training twice costs twice. A comparison with training from scratch is fair only at equal length in all, see
`equal_length`.

References:
    Y. Yang and Z. Xu, "Rethinking the Value of Labels for Improving Class-Imbalanced Learning", NeurIPS 2020;
    S. Gidaris et al., "Unsupervised Representation Learning by Predicting Image Rotations", ICLR 2018; M. Noroozi and
    P. Favaro, "Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles", ECCV 2016; P. Vincent et
    al., "Extracting and Composing Robust Features with Denoising Autoencoders", ICML 2008; X. Chen and K. He,
    "Exploring Simple Siamese Representation Learning", CVPR 2021.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lt_lib._checks import check_below_one, check_integer, check_real
from lt_lib.training.checkpoint import save_checkpoint
from lt_lib.training.consistency import cross_entropy
from lt_lib.training.descent import Descent
from lt_lib.training.loop import (
    History,
    Order,
    epoch_numbers,
    evaluating,
    leave_after,
    require_finite,
    restore,
    set_rate,
    shuffled,
    state_of,
)
from lt_lib.training.placement import make_fabric, number_format

View = Callable[[Tensor, torch.Generator], Tensor]  # (stored images, generator) -> images as the network takes them


@dataclass(frozen=True)
class PretextTask:
    """A task that a batch of images sets itself.

    Attributes:
        name: "rotation", "jigsaw", "autoencoder" or "simsiam".
        outputs: numbers that the network has to give per input.
        views: (images `(batch, channels, height, width)`, generator) -> inputs `(views, ...)` and answers
            `(views, ...)`; the number of views may exceed the batch.
        loss: (outputs `(..., views, outputs)`, answers `(..., views, ...)`) -> mean loss `(...)`.
        score: same arguments -> how well the task is done, `(...)`: 1 is best, see the task for what 0 means.
    """

    name: str
    outputs: int
    views: Callable[[Tensor, torch.Generator], tuple[Tensor, Tensor]]
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


def rotate(images: Tensor, turns: Tensor) -> Tensor:
    """Turn every image by its own multiple of 90 degrees, counter-clockwise.

    Args:
        images: square images `(batch, channels, size, size)`.
        turns: quarter turns `(batch,)`, 0 to 3.

    Raises:
        ValueError: the images are not square.

    Example:
        >>> rotate(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([1])).tolist()
        [[[[2, 4], [1, 3]]]]
    """
    if images.ndim != 4 or images.shape[2] != images.shape[3]:
        raise ValueError(f"`images` must have shape (batch, channels, size, size), got {tuple(images.shape)}.")
    sources = _quarter_turns(images.shape[2], images.device)[turns]
    return images.flatten(2).gather(2, sources[:, None].expand(-1, images.shape[1], -1)).reshape(images.shape)


@cache
def _quarter_turns(size: int, device: torch.device) -> Tensor:
    """Where every pixel of a turned image comes from, `(turns, pixels)`."""
    places = torch.arange(size * size, device=device).reshape(size, size)
    return torch.stack([torch.rot90(places, quarter).flatten() for quarter in range(4)])


def balanced_answers(batch: int, choices: int, rng: torch.Generator) -> Tensor:
    """One answer per image, each of `choices` as often as any other in the batch, at random places.

    Where the batch is no multiple of `choices`, the surplus goes to random answers.

    Example:
        >>> balanced_answers(8, 4, torch.Generator().manual_seed(0)).bincount().tolist()
        [2, 2, 2, 2]
    """
    order = torch.randperm(choices, generator=rng, device=rng.device)
    answers = order[torch.arange(batch, device=rng.device) % choices]
    return answers[torch.randperm(batch, generator=rng, device=rng.device)]


def rotation_task() -> PretextTask:
    r"""Which way is up? Every image is turned once, by 0, 90, 180 or 270 degrees; four outputs, cross entropy.

    .. math:: \ell = -\log p_{a}(\mathrm{rot}_{a \cdot 90°}(x)), \qquad a \in \{0, 1, 2, 3\}

    One turn per image, the four turns equally frequent in a batch, as in the code of Yang and Xu; Gidaris et al. show
    all four turns of every image. The score is the share of right answers: chance 1/4, and images that look alike
    upside down keep it below 1.
    """

    def views(images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        turns = balanced_answers(len(images), 4, rng)
        return rotate(images, turns), turns

    return PretextTask("rotation", 4, views, _cross_entropy, _accuracy)


def jigsaw_task() -> PretextTask:
    r"""In which order were the quarters? The four quarters of every image change places; 24 outputs, cross entropy.

    A small puzzle: two by two pieces and all :math:`4! = 24` orders, instead of three by three and a selection of
    orders, and the pieces go through the network as one image. The score is the share of right answers, chance 1/24.
    """
    orders = torch.tensor(list(itertools.permutations(range(4))))

    def views(images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        answers = balanced_answers(len(images), len(orders), rng)
        return shuffle_quarters(images, orders.to(images.device)[answers]), answers

    return PretextTask("jigsaw", len(orders), views, _cross_entropy, _accuracy)


def shuffle_quarters(images: Tensor, orders: Tensor) -> Tensor:
    """Put quarter `orders[i, k]` of image i at place k; places go row by row.

    Args:
        images: `(batch, channels, height, width)`, both sides even.
        orders: `(batch, 4)`, a permutation of 0 to 3 in each row.

    Raises:
        ValueError: a side is odd.

    Example:
        >>> shuffle_quarters(torch.tensor([[[[1, 2], [3, 4]]]]), torch.tensor([[3, 2, 1, 0]])).tolist()
        [[[[4, 3], [2, 1]]]]
    """
    if images.ndim != 4 or images.shape[2] % 2 or images.shape[3] % 2:
        raise ValueError(f"`images` must be four-dimensional with even sides, got {tuple(images.shape)}.")
    batch, channels, height, width = images.shape
    pieces = images.reshape(batch, channels, 2, height // 2, 2, width // 2).permute(0, 2, 4, 1, 3, 5)
    pieces = pieces.reshape(batch, 4, channels, height // 2, width // 2)
    moved = pieces[torch.arange(batch, device=images.device)[:, None], orders]
    moved = moved.reshape(batch, 2, 2, channels, height // 2, width // 2).permute(0, 3, 1, 4, 2, 5)
    return moved.reshape(images.shape)


def autoencoder_task(num_values: int, noise: float = 0.5) -> PretextTask:
    r"""What was it before the noise? The network gives back the clean image; one output per pixel, squared error.

    .. math:: \ell = \frac1P \lVert W h(x + \sigma\varepsilon) + b - x \rVert^2, \qquad \varepsilon \sim N(0, I)

    A denoising auto-encoder with a linear decoder, which is the last layer and is thrown away; `start_decoder` gives it
    a start at zero. The score is the share
    of the variance over the batch that is explained: 0 for answering with the mean image, NaN for equal images.

    Args:
        num_values: P, channels times height times width.
        noise: :math:`\sigma \ge 0`, on the scale of the inputs.
    """
    check_integer(num_values, "num_values", minimum=1)
    check_real(noise, "noise", minimum=0.0)

    def views(images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        return images + noise * _normal(images, rng), images.flatten(1)

    def loss(outputs: Tensor, answers: Tensor) -> Tensor:
        return (outputs - answers).square().mean(dim=(-2, -1))

    def score(outputs: Tensor, answers: Tensor) -> Tensor:
        total = (answers - answers.mean(dim=-2, keepdim=True)).square().mean(dim=(-2, -1))
        # Of a single image there is no variance to explain.
        return torch.where(total > 0, 1 - loss(outputs, answers) / total, torch.nan)

    return PretextTask("autoencoder", num_values, views, loss, score)


def start_decoder(task: PretextTask, model: nn.Module, *, head: str = "head") -> None:
    """Let an auto-encoder start from the mean image: zero weights in its last layer. Other tasks are left alone.

    Behind a decoder of He-normal weights, the first squared errors are so large that in a small network most units die.

    Args:
        task: what is learned.
        model: network whose last layer is changed in place.
        head: name of the last layer.
    """
    if task.name == "autoencoder":
        nn.init.zeros_(getattr(model, head).weight)


def simsiam_task(view: View, dim: int = 64) -> PretextTask:
    r"""Do two views of one image look alike? SimSiam: predict the embedding of the other view, gradient on one side.

    .. math:: \ell = -\frac12 \cos(q_1, \mathrm{sg}[z_2]) - \frac12 \cos(q_2, \mathrm{sg}[z_1])

    :math:`z` is the projection of the features, :math:`q` the prediction made from it, sg stops the gradient. No
    negative pairs and no queue. The constant embedding is a perfect solution that training has to miss. The
    score shows whether it does: the mean cosine between :math:`q_1` and :math:`z_2` of the same image minus that of
    different images, 0 after collapse, NaN for a single image.

    The network is a `SiameseNet`.

    Args:
        view: random view of a batch of images, drawn twice.
        dim: length of z and q.
    """
    check_integer(dim, "dim", minimum=2)

    def views(images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        inputs = torch.cat([view(images, rng), view(images, rng)])
        return inputs, torch.zeros(len(inputs), dtype=torch.int64, device=inputs.device)

    def loss(outputs: Tensor, _answers: Tensor) -> Tensor:
        (z1, z2), (q1, q2) = (part.chunk(2, dim=-2) for part in outputs.split(dim, dim=-1))
        likeness = F.cosine_similarity(q1, z2.detach(), dim=-1) + F.cosine_similarity(q2, z1.detach(), dim=-1)
        return -likeness.mean(dim=-1) / 2

    def score(outputs: Tensor, _answers: Tensor) -> Tensor:
        (_, z2), (q1, _) = (F.normalize(part, dim=-1).chunk(2, dim=-2) for part in outputs.split(dim, dim=-1))
        pairs = z2.shape[-2]
        matching = (q1 * z2).sum(dim=-1).mean(dim=-1)
        # The sum over all pairs is the product of the sums.
        everything = (q1.sum(dim=-2) * z2.sum(dim=-2)).sum(dim=-1)
        if pairs == 1:
            return torch.full_like(matching, torch.nan)
        return matching - (everything - pairs * matching) / (pairs * (pairs - 1))

    return PretextTask("simsiam", 2 * dim, views, loss, score)


class SiameseNet(nn.Module):
    """An encoder with the two small networks of SimSiam behind it: projection to z, prediction q of the other z.

    Both have one hidden layer with batch normalisation; z is normalised too, without scale and shift. The statistics
    are those of the batch, also in evaluation, so that there are no buffers and many copies can be stacked.

    Args:
        encoder: model with `features` and a last layer `head`, which is replaced by nothing.
        num_features: length of the feature vector.
        dim: length of z and q; the hidden layer of the prediction is a quarter as wide.

    Shapes:
        inputs `(views, ...)` -> `(views, 2 dim)`: z, then q.
    """

    def __init__(self, encoder: nn.Module, num_features: int, dim: int = 64) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder.head = nn.Identity()

        def normed(width: int, **options: Any) -> nn.Module:
            return nn.BatchNorm1d(width, track_running_stats=False, **options)

        self.projection = nn.Sequential(
            nn.Linear(num_features, dim, bias=False), normed(dim), nn.ReLU(),
            nn.Linear(dim, dim, bias=False), normed(dim, affine=False),
        )  # fmt: skip
        hidden = max(dim // 4, 1)
        self.prediction = nn.Sequential(
            nn.Linear(dim, hidden, bias=False), normed(hidden), nn.ReLU(), nn.Linear(hidden, dim)
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Projection and prediction, side by side."""
        z = self.projection(self.encoder(inputs))
        return torch.cat([z, self.prediction(z)], dim=-1)


def shift_and_noise(images: Tensor, rng: torch.Generator, *, pixels: int = 1, noise: float = 0.3) -> Tensor:
    """A random view of small images without colour: shifted by up to `pixels` in each direction, with normal noise.

    What moves in is what stood at the border.

    Args:
        images: floating-point batch `(batch, channels, height, width)`.
        rng: generator on the same device.
        pixels: largest shift, >= 0.
        noise: standard deviation, on the scale of the images.
    """
    batch, _, height, width = images.shape
    shift = torch.randint(-pixels, pixels + 1, (2, batch), generator=rng, device=images.device)
    rows = (torch.arange(height, device=images.device) + shift[0, :, None]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + shift[1, :, None]).clamp(0, width - 1)
    place = torch.arange(batch, device=images.device)[:, None, None]
    moved = images.permute(0, 2, 3, 1)[place, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return moved + noise * _normal(images, rng)


def crop_and_jitter(
    images: Tensor,
    rng: torch.Generator,
    *,
    area: tuple[float, float] = (0.2, 1.0),
    strength: float = 0.4,
    grey: float = 0.2,
) -> Tensor:
    """A random view of photographs: crop resized to the full image, mirror, brightness and contrast, sometimes grey.

    The crop keeps the proportions. Hue, saturation and blur of MoCo v2's views are left out.

    Args:
        images: floating-point batch `(batch, channels, height, width)` on the scale 0 to 1.
        rng: generator on the same device.
        area: smallest and largest share of the image in the crop.
        strength: brightness and contrast change by factors in [1 - strength, 1 + strength], with probability 0.8.
        grey: probability that the colours are replaced by their mean.
    """
    batch = len(images)
    draw = torch.rand(8, batch, generator=rng, device=images.device)
    side = (area[0] + (area[1] - area[0]) * draw[0]).sqrt()
    mirrored = torch.where(draw[1] < 0.5, -1.0, 1.0)
    centre = (1 - side) * (2 * draw[2:4] - 1)
    zero = torch.zeros_like(side)
    rows = [torch.stack([side * mirrored, zero, centre[0]], 1), torch.stack([zero, side, centre[1]], 1)]
    grid = F.affine_grid(torch.stack(rows, 1).to(images.dtype), list(images.shape), align_corners=False)
    values = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    factors = torch.where(draw[6] < 0.8, 1 + strength * (2 * draw[4:6] - 1), torch.ones_like(draw[4:6]))
    brightness, contrast = factors.to(images.dtype)[:, :, None, None, None]
    values = (values * brightness).clamp(0, 1)
    middle = values.mean(dim=(1, 2, 3), keepdim=True)
    values = (middle + contrast * (values - middle)).clamp(0, 1)
    return torch.where((draw[7] < grey)[:, None, None, None], values.mean(dim=1, keepdim=True), values)


def equal_length(pretrain_epochs: int, epochs: int) -> int:
    """Epochs of training from scratch that cost as many passes over the data as pre-training and training together.

    Every task here looks at one input per image and epoch, but SimSiam at two: it is the method that then gets more.

    Example:
        >>> equal_length(200, 200)
        400
    """
    check_integer(pretrain_epochs, "pretrain_epochs", minimum=0)
    return pretrain_epochs + check_integer(epochs, "epochs", minimum=1)


def pretrain(
    model: nn.Module,
    images: Tensor,
    task: PretextTask,
    *,
    learning_rate_at: Callable[[int], float],
    epochs: int,
    rng: torch.Generator,
    batch_size: int = 128,
    momentum: float = 0.9,
    parameters: list[dict] | None = None,
    augment: View | None = None,
    fabric: Any = None,
    checkpoint: str | Path | None = None,
    identity: str = "",
    stop_after: int | None = None,
    progress: bool = False,
) -> History:
    """Train `model` in place on a task, by SGD with momentum.

    Args:
        model: module that gives `task.outputs` numbers per input, moved to the device of `fabric`.
        images: all images `(samples, channels, height, width)`, on the device; there is no argument for labels.
        task: what is learned.
        learning_rate_at: epoch -> rate.
        epochs: length of the run, >= 1.
        rng: generator on the device of `images`: order, augmentation and answers. Part of a checkpoint.
        batch_size: images per step.
        momentum: of SGD, in [0, 1).
        parameters: optimiser groups; all parameters without decay if not given.
        augment: (batch, generator) -> batch, before the task makes its views.
        fabric: `lt_lib.training.make_fabric(...)` for one device; CPU and float32 if not given.
        checkpoint: file for the state after every epoch; an existing one of this run is continued.
        identity: stored in the checkpoint and compared on resume.
        stop_after: leave after this many finished epochs in all; None to finish.
        progress: show a progress bar over epochs.

    Returns:
        `History` with the loss and, as `accuracy["pretext"]`, the task's score of every epoch on its own batches.

    Raises:
        NonFiniteLossError: a step's loss is not finite.
        ValueError: no image, or a size or `momentum` out of range.
        CheckpointError: the checkpoint is damaged or belongs to another run.
    """
    _check_sizes(len(images), epochs, batch_size)
    check_below_one(momentum, "momentum")
    fabric = fabric or make_fabric("cpu", "float32")
    groups = parameters or [{"params": list(model.parameters())}]
    optimizer = torch.optim.SGD(groups, lr=learning_rate_at(0), momentum=momentum, foreach=True)
    trained, wrapped = fabric.setup(model, optimizer)
    history = History()
    if checkpoint is not None and Path(checkpoint).exists():
        history = restore(checkpoint, identity, model, optimizer, rng)
    order_at = shuffled(len(images))
    last = leave_after(epochs, stop_after)
    for epoch in epoch_numbers(history.epochs, last, show=progress):
        started = time.perf_counter()
        set_rate(optimizer, learning_rate_at(epoch))
        model.train()
        order = order_at(epoch, rng)
        steps = []
        with number_format(fabric):
            for batch in order.split(batch_size):
                part = images[batch] if augment is None else augment(images[batch], rng)
                inputs, answers = task.views(part, rng)
                outputs = trained(inputs)
                value = task.loss(outputs, answers)
                fabric.backward(value)
                wrapped.step()
                wrapped.zero_grad(set_to_none=True)
                steps.append(torch.stack([value.detach(), task.score(outputs.detach(), answers)]))
        _record([history], torch.stack(steps)[:, :, None], [order], batch_size, epoch, learning_rate_at(epoch))
        history.seconds += time.perf_counter() - started
        if checkpoint is not None:
            save_checkpoint(checkpoint, state_of(identity, history, model, optimizer, rng))
    return history


@dataclass(frozen=True)
class PretextMember:
    """One model of a stack in pre-training.

    Attributes:
        indices: its images as positions in a shared pool, int64 `(images,)`.
        rng: its generator, of order and answers.
        order_at: (epoch, generator) -> positions in `indices`; each image once, `shuffled`, if None.
    """

    indices: Tensor
    rng: torch.Generator
    order_at: Order | None = None


def pretrain_stacked(
    model: Any,
    pool: Tensor,
    members: Sequence[PretextMember],
    task: PretextTask,
    *,
    learning_rate_at: Callable[[int], float],
    epochs: int,
    parameters: list[dict],
    batch_size: int = 128,
    momentum: float = 0.9,
) -> list[History]:
    """Train every member of a `StackedModel` on a task, exactly as `pretrain` would train it alone.

    Args:
        model: `lt_lib.models.StackedModel`, one member per entry of `members`.
        pool: images that all members draw from `(pool, channels, height, width)`.
        members: all with equally many images per epoch; with orders of their own, their sets may differ in size.
        task: what is learned.
        learning_rate_at: epoch -> rate, for all members.
        epochs: length of the run.
        parameters: optimiser groups (`StackedModel.parameter_groups`).
        batch_size: images per member and step.
        momentum: of SGD, in [0, 1).

    Returns:
        One `History` per member, as from `pretrain`; `seconds` is the member's share of the time.

    Raises:
        ValueError: the number of members and of models differ, or their numbers of images per epoch do.
        NonFiniteLossError: a loss is not finite.
    """
    if len(members) != len(model):
        raise ValueError(f"`members` must have one entry per model, got {len(members)} for {len(model)} models.")
    _check_sizes(min(len(member.indices) for member in members), epochs, batch_size)
    orders = [member.order_at or shuffled(len(member.indices)) for member in members]
    descent = Descent(parameters, momentum=momentum)
    histories = [History() for _ in members]
    started = time.perf_counter()
    for epoch in range(epochs):
        picked = [member.indices[order(epoch, member.rng)] for member, order in zip(members, orders, strict=True)]
        sizes = {len(rows) for rows in picked}
        if len(sizes) != 1:
            raise ValueError(f"`members` must have equally many images per epoch, got {sorted(sizes)}.")
        steps = []
        for batch in zip(*(rows.split(batch_size) for rows in picked), strict=True):
            made = [task.views(pool[rows], member.rng) for rows, member in zip(batch, members, strict=True)]
            inputs, answers = (torch.stack(parts) for parts in zip(*made, strict=True))
            outputs = model(inputs)
            values = task.loss(outputs, answers)
            values.sum().backward()
            descent.step(learning_rate_at(epoch))
            steps.append(torch.stack([values.detach(), task.score(outputs.detach(), answers)]))
        _record(histories, torch.stack(steps), picked, batch_size, epoch, learning_rate_at(epoch))
    for history in histories:
        history.seconds = (time.perf_counter() - started) / len(members)
    return histories


@torch.no_grad()
def pretext_score(model: Any, images: Tensor, task: PretextTask, rng: torch.Generator, *, members: int = 0) -> Tensor:
    """How well a network does a task on images, usually ones that it was not trained on.

    Args:
        model: as for `pretrain`, or a stack.
        images: `(samples, channels, height, width)`, one batch.
        task: the task.
        rng: generator of the answers and views.
        members: models of a stack, all of which get the same inputs; 0 for a single model.

    Returns:
        The task's score, a scalar or `(members,)`.
    """
    inputs, answers = task.views(images, rng)
    if members:
        inputs, answers = (part.expand(members, *part.shape) for part in (inputs, answers))
        return task.score(model(inputs), answers)
    with evaluating(model):
        return task.score(model(inputs), answers)


class Transferred(NamedTuple):
    """What `transfer` did with the entries of the model: names copied from the source, and names left as they were."""

    copied: tuple[str, ...]
    fresh: tuple[str, ...]


def transfer(source: Mapping[str, Tensor], model: nn.Module, *, head: str = "head", prefix: str = "") -> Transferred:
    """Copy everything but the last layer into a freshly initialised model: weights, and buffers such as statistics.

    Args:
        source: state dictionary of the pre-trained network.
        model: target, changed in place; its last layer keeps its own new weights.
        head: name of the last layer in both.
        prefix: in front of the names in the source, such as "encoder." for a `SiameseNet`.

    Returns:
        Names in the target, copied and fresh.

    Raises:
        ValueError: the source lacks an entry that is no part of the last layer, or has another shape; or `model` has
            no last layer of that name.

    Example:
        >>> a, b = (nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, n)}) for n in (4, 10))
        >>> transfer(a.state_dict(), b)
        Transferred(copied=('body.weight', 'body.bias'), fresh=('head.weight', 'head.bias'))
    """
    state = model.state_dict()
    fresh = tuple(name for name in state if name.startswith(f"{head}."))
    if not fresh:
        raise ValueError(f"`head` must name the last layer of the model, got {head!r}; it has {', '.join(state)}.")
    copied = tuple(name for name in state if name not in fresh)
    for name in copied:
        given = source.get(f"{prefix}{name}")
        if given is None or given.shape != state[name].shape:
            found = "nothing" if given is None else f"shape {tuple(given.shape)}"
            raise ValueError(f"`source` must hold {prefix + name!r} of shape {tuple(state[name].shape)}, got {found}.")
    chosen = {name: source[f"{prefix}{name}"] for name in copied}
    model.load_state_dict({**state, **chosen})
    return Transferred(copied, fresh)


def _record(
    histories: Sequence[History], steps: Tensor, orders: Sequence[Tensor], batch_size: int, epoch: int, rate: float
) -> None:
    """Add an epoch to the histories; `steps` holds loss and score, `(steps, 2, members)`.

    Steps without a defined score, such as a last batch of one image, are left out of its mean.
    """
    for history, row, order in zip(histories, steps.permute(2, 1, 0), orders, strict=True):
        require_finite(row[0], order, batch_size, epoch)
        history.train_loss.append(float(row[0].mean()))
        history.learning_rate.append(rate)
        history.evaluated.append(epoch)
        history.accuracy.setdefault("pretext", []).append(float(row[1].nanmean()))


def _check_sizes(images: int, epochs: int, batch_size: int) -> None:
    if images == 0:
        raise ValueError("`images` must hold at least one image, got none.")
    for name, number in (("epochs", epochs), ("batch_size", batch_size)):
        check_integer(number, name, minimum=1)


def _cross_entropy(outputs: Tensor, answers: Tensor) -> Tensor:
    return cross_entropy(outputs, answers).mean(dim=-1)


def _accuracy(outputs: Tensor, answers: Tensor) -> Tensor:
    return (outputs.argmax(dim=-1) == answers).to(outputs.dtype).mean(dim=-1)


def _normal(like: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=rng, device=like.device, dtype=like.dtype)
