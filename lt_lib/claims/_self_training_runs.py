"""Trainings behind the claims on self-training at the quick profile: ten paired seeds side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_lib import counts

if TYPE_CHECKING:
    from torch import Tensor, nn

    from lt_lib.data import GaussianWorld, Split
    from lt_lib.data.pools import Pool
    from lt_lib.models import StackedModel
    from lt_lib.training.stacked import MemberLoss
    from lt_lib.training.unequal import TrainingSet

Array = np.ndarray
NUM_SEEDS = 10
CLASSES, OUTSIDE_CLASSES = 10, 10
LOSSES = ("CE", "LDAM-DRW")
RATIOS = (100.0, 50.0, 10.0)
# One Gaussian per class: a small network gets within about a point of its limit in the updates that this profile has.
WORLD: dict[str, Any] = {"dim": 16, "clusters": 1}
BAYES_ERROR = 0.05
HEAD = 100
TEST_PER_CLASS = 200
HIDDEN = 32
# Standard deviation of the fresh noise on training inputs, which stands for the random crops of image recipes.
NOISE = 0.5
EPOCHS, STEPS, BATCH = 10, 300, 64
LEARNING_RATE, WEIGHT_DECAY = 0.1, 5e-4
# Members trained in one stack: more do not make it faster, and their pools need memory.
STACK = 60
MAX_MARGIN, SCALE, BETA, DEFER_UNTIL = 0.5, 30.0, 0.9999, 0.8


@dataclass(frozen=True, order=True)
class Setting:
    r"""One cell of an experiment; `amount` 0 is the base model.

    Attributes:
        loss: "CE" or "LDAM-DRW".
        ratio: :math:`\rho` of the labelled set.
        amount: size of the pool as a multiple of the labelled set.
        pool_ratio: :math:`\rho_U`.
        relevance: share of the pool from the classes of the task.
        omega: weight of a pseudo-labelled sample.
        labelled: size of the labelled set as a multiple of the default one.
        length: updates as a multiple of the default number.
        draw: 0 for the pool as specified; k > 0 for the k-th pool of random quality of each seed (`random_quality`).
    """

    loss: str = "CE"
    ratio: float = 50.0
    amount: float = 5.0
    pool_ratio: float = 50.0
    relevance: float = 1.0
    omega: float = 1.0
    labelled: float = 1.0
    length: float = 1.0
    draw: int = 0

    @property
    def base(self) -> Setting:
        """The setting whose model labels the pool."""
        return Setting(self.loss, self.ratio, amount=0.0, pool_ratio=1.0, labelled=self.labelled, length=self.length)


@dataclass(frozen=True)
class Runs:
    """Trained models, setting by setting.

    Attributes:
        recall: setting -> test recall, `(seeds, classes)`, most frequent class first.
        pool_error: setting -> share of the relevant pool samples that got a wrong label, `(seeds,)`.
        silhouette: setting -> mean silhouette of the test features of every class, `(seeds, classes)`; where measured.
        features: setting -> test features of the first seed, `(samples, hidden)`; where measured.
        control: setting with a pool -> test recall of its method on the labels alone, with as many updates as base and
            final model together, `(seeds, classes)`; where measured.
    """

    recall: dict[Setting, Array]
    pool_error: dict[Setting, Array] = field(default_factory=dict)
    silhouette: dict[Setting, Array] = field(default_factory=dict)
    features: dict[Setting, Array] = field(default_factory=dict)
    control: dict[Setting, Array] = field(default_factory=dict)

    def error(self, setting: Setting) -> Array:
        """Balanced test error in percent, `(seeds,)`."""
        return 100 * (1 - self.recall[setting].mean(axis=1))

    def reference(self, setting: Setting) -> Array:
        """Test recall that a gain is measured from: that of the base model, `(seeds, classes)`."""
        return self.recall[setting.base]

    def gain(self, setting: Setting) -> Array:
        """Error of the base model minus that of the self-trained one, in points, `(seeds,)`."""
        return 100 * (1 - self.reference(setting).mean(axis=1)) - self.error(setting)

    def class_gain(self, setting: Setting) -> Array:
        """Gain in recall per class, in points, `(seeds, classes)`."""
        return 100 * (self.recall[setting] - self.reference(setting))

    def over_controls(self) -> Runs:
        """The same runs, with every gain measured from the control of its setting in place of the base model."""
        return _OverControls(self.recall, self.pool_error, self.silhouette, self.features, self.control)


@dataclass(frozen=True)
class _OverControls(Runs):
    def reference(self, setting: Setting) -> Array:
        return self.control[setting]


def pool_ratios(ratio: float) -> tuple[float, ...]:
    """The pool ratios of the published table for a labelled ratio: 1, half of it, as much, twice as much."""
    return (1.0, ratio / 2, ratio, 2 * ratio)


def table_settings(losses: Sequence[str] = LOSSES, ratios: Sequence[float] = RATIOS) -> list[Setting]:
    """The cells of the published table with a pool."""
    return [Setting(loss, ratio, pool_ratio=each) for loss in losses for ratio in ratios for each in pool_ratios(ratio)]


@cache
def toy_world(bayes_error: float = BAYES_ERROR) -> GaussianWorld:
    """Ten classes of the task, then as many outside it, at the separation of the ten."""
    from lt_lib.data import gaussian_world
    from lt_lib.data.gaussian import find_separation

    directions = np.random.default_rng(0).standard_normal((CLASSES, WORLD["clusters"], WORLD["dim"]))
    return gaussian_world(
        num_classes=CLASSES + OUTSIDE_CLASSES, separation=find_separation(directions, bayes_error), **WORLD
    )


@cache
def test_set() -> Split:
    """Balanced test set of the ten classes."""
    per_class = np.repeat([TEST_PER_CLASS, 0], [CLASSES, OUTSIDE_CLASSES])
    return toy_world().sample(per_class, np.random.default_rng([0, 2]))


def labelled_set(setting: Setting, seed: int) -> Split:
    """The labelled set of a seed.

    Args:
        setting: its `ratio` and `labelled`.
        seed: of the draw.
    """
    sizes = counts.exponential_counts(round(HEAD * setting.labelled), CLASSES, setting.ratio)
    return toy_world().sample(np.r_[sizes, np.zeros(OUTSIDE_CLASSES, dtype=int)], np.random.default_rng([1, seed]))


def unlabelled_pool(setting: Setting, seed: int) -> Pool:
    """The pool of a seed.

    Args:
        setting: its `ratio`, `labelled`, `amount`, `pool_ratio` and `relevance`, or its `draw`.
        seed: of the draw.
    """
    from lt_lib.data.pools import PoolSpec, gaussian_pool

    relevance, ratio = setting.relevance, setting.pool_ratio
    if setting.draw:
        relevance, ratio = random_quality(setting.draw, seed)
    spec = PoolSpec(setting.amount, ratio, relevance)
    size = len(labelled_set(setting, seed))
    return gaussian_pool(toy_world(), CLASSES, size, spec, np.random.default_rng([2, seed]))


def random_quality(draw: int, seed: int) -> tuple[float, float]:
    r"""Relevance, uniform in [0, 1], and :math:`\rho_U`, log-uniform in [1, 200], of a random pool.

    Args:
        draw: number of the pool.
        seed: of the pair.
    """
    rng = np.random.default_rng([3, seed, draw])
    return float(rng.random()), float(200 ** rng.random())


def run_settings(
    settings: Sequence[Setting],
    *,
    seeds: Sequence[int] = range(NUM_SEEDS),
    features: Sequence[Setting] = (),
    pool_of: Callable[[Setting, int], Pool] = unlabelled_pool,
    counts_from: Any = "joined",
) -> Runs:
    """Train base models and students for all settings and seeds.

    Base and final model have the same number of updates and, in a pair, the same initial weights and labelled set.

    Args:
        settings: with a pool; their base models are added.
        seeds: of draws, initial weights and order.
        features: settings, base ones too, whose test features are scored by silhouettes.
        pool_of: (setting, seed) -> pool.
        counts_from: class counts for LDAM-DRW, as in `lt_lib.training.self_training`.
    """
    runs = Runs({})
    for loss, length in sorted({(setting.loss, setting.length) for setting in settings}):
        chosen = [setting for setting in settings if (setting.loss, setting.length) == (loss, length)]
        bases = sorted({setting.base for setting in chosen})
        teachers = _train_bases(bases, seeds)
        _record(runs, bases, teachers, seeds, features)
        per_stack = max(1, STACK // len(seeds))
        for start in range(0, len(chosen), per_stack):
            _train_students(
                runs, chosen[start : start + per_stack], bases, teachers, seeds, features, pool_of, counts_from
            )
    return runs


def _train_bases(bases: Sequence[Setting], seeds: Sequence[int]) -> StackedModel:
    import torch

    from lt_lib.training.unequal import TrainingSet

    drawn = [(setting, seed, labelled_set(setting, seed)) for setting in bases for seed in seeds]
    class_counts = [np.bincount(split.targets, minlength=CLASSES) for _, _, split in drawn]
    sets = [
        TrainingSet(*_tensors(split), loss_at, torch.Generator().manual_seed(seed))
        for (_, seed, split), loss_at in zip(drawn, losses_for(bases[0].loss, class_counts), strict=True)
    ]
    return fit_networks(sets, [seed for _, seed, _ in drawn], bases[0])


def _train_students(
    runs: Runs,
    settings: Sequence[Setting],
    bases: Sequence[Setting],
    teachers: StackedModel,
    seeds: Sequence[int],
    features: Sequence[Setting],
    pool_of: Callable[[Setting, int], Pool],
    counts_from: Any,
) -> None:
    import torch

    from lt_lib.training.self_training import Task, self_train_stacked

    pairs = [(setting, seed) for setting in settings for seed in seeds]
    pools = [pool_of(setting, seed) for setting, seed in pairs]
    tasks = [
        Task(
            _tensors(labelled_set(setting, seed)),
            torch.from_numpy(pool.inputs).double(),
            bases.index(setting.base) * len(seeds) + seeds.index(seed),
            torch.Generator().manual_seed(seed),
            setting.omega,
        )
        for (setting, seed), pool in zip(pairs, pools, strict=True)
    ]
    first = settings[0]
    students = self_train_stacked(
        teachers,
        network(first.loss, 0).double(),
        tasks,
        num_classes=CLASSES,
        fit=lambda sets: fit_networks(sets, [seed for _, seed in pairs], first),
        losses_for=lambda class_counts: losses_for(first.loss, class_counts),
        epoch_size=epoch_size(first),
        counts_from=counts_from,
    )
    wrong = [
        float(np.mean((pool.targets != labels.numpy())[pool.targets >= 0])) if pool.relevance else np.nan
        for pool, labels in zip(pools, students.pseudo_labels, strict=True)
    ]
    for setting, share in zip(settings, np.reshape(wrong, (len(settings), len(seeds))), strict=True):
        runs.pool_error[setting] = share
    _record(runs, settings, students.stack, seeds, features)


def fit_networks(
    sets: list[TrainingSet], seeds: Sequence[int], setting: Setting, networks: Sequence[nn.Module] | None = None
) -> StackedModel:
    """Networks, one per training set, trained side by side in float64.

    Args:
        sets: training sets.
        seeds: of the initial weights.
        setting: its `loss` and `length`.
        networks: what training starts from, left as they are; fresh ones of the seeds if None.
    """
    from lt_lib.models import StackedModel
    from lt_lib.training import step_learning_rate
    from lt_lib.training.unequal import fit_sets

    stack = StackedModel(networks or [network(setting.loss, seed) for seed in seeds]).double()
    fit_sets(
        stack,
        sets,
        epoch_size=epoch_size(setting),
        learning_rate_at=step_learning_rate(EPOCHS, LEARNING_RATE, warmup=0.1, decay=0.1),
        epochs=EPOCHS,
        parameters=stack.parameter_groups(WEIGHT_DECAY),
        batch_size=BATCH,
        noise=NOISE,
    )
    return stack


def network(loss: str, seed: int) -> Any:
    """The network for a loss, with initial weights from a seed; LDAM has cosine logits.

    Args:
        loss: one of `LOSSES`.
        seed: of the weights.
    """
    from lt_lib.models import MLP, seeded

    head = "cosine" if loss == "LDAM-DRW" else "linear"
    return seeded(lambda: MLP(WORLD["dim"], CLASSES, hidden=HIDDEN, head=head), seed)


def losses_for(loss: str, class_counts: Sequence[Array]) -> list[Callable[[int], MemberLoss]]:
    """Losses of all members of a stack as functions of the epoch; one object for all, hence one call.

    Args:
        loss: one of `LOSSES`.
        class_counts: of every member.
    """
    import torch

    from lt_lib import losses
    from lt_lib.training import deferred

    if loss == "CE":

        def plain(logits: Tensor, targets: Tensor) -> Tensor:
            return losses.softmax_loss(logits, targets, reduction="none").mean(dim=-1)

        return [lambda _epoch: plain] * len(class_counts)
    margins = torch.from_numpy(np.stack([counts.ldam_margins(each, MAX_MARGIN) for each in class_counts]))
    scheme: Any = "effective_number"
    weights = [counts.class_weights(each, scheme, beta=BETA, on_ineffective_beta="ignore") for each in class_counts]
    stage = deferred(
        EPOCHS, DEFER_UNTIL, stacked_ldam(margins, None), stacked_ldam(margins, torch.from_numpy(np.stack(weights)))
    )
    return [stage] * len(class_counts)


def stacked_ldam(margins: Tensor, weights: Tensor | None) -> MemberLoss:
    """LDAM with margins and class weights of each member, normalised by the weights of its batch.

    Args:
        margins: `(members, classes)`.
        weights: `(members, classes)`, or None.
    """
    from lt_lib import losses

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        index = targets.unsqueeze(-1)
        lowered = logits.scatter_add(2, index, -margins.gather(1, targets).unsqueeze(-1))
        each = losses.softmax_loss(SCALE * lowered, targets, reduction="none")
        if weights is None:
            return each.mean(dim=-1)
        weight = weights.gather(1, targets)
        return (each * weight).sum(dim=-1) / weight.sum(dim=-1)

    return loss


def epoch_size(setting: Setting) -> int:
    """Samples per epoch that make the updates of a setting.

    Args:
        setting: its `length`.
    """
    return round(STEPS * setting.length) * BATCH // EPOCHS


def _tensors(split: Split) -> tuple[Tensor, Tensor]:
    import torch

    return torch.from_numpy(np.asarray(split.inputs)).double(), torch.from_numpy(split.targets)


def _record(
    runs: Runs, settings: Sequence[Setting], stack: StackedModel, seeds: Sequence[int], features: Sequence[Setting]
) -> None:
    from lt_lib.training import predict_stacked

    test = test_set()
    logits = predict_stacked(stack, _tensors(test)[0])
    # One product for all members: a call of `metrics.per_class_recall` for each would cost a fifth of the training.
    hits = logits.argmax(dim=2).numpy() == test.targets
    recall = hits @ np.eye(CLASSES)[test.targets] / np.bincount(test.targets)
    for position, setting in enumerate(settings):
        rows = range(position * len(seeds), (position + 1) * len(seeds))
        runs.recall[setting] = recall[rows]
        if setting in features:
            runs.features[setting] = test_features(stack, rows[0], setting.loss)
            runs.silhouette[setting] = np.stack([class_silhouettes(stack, row, setting.loss) for row in rows])


def test_features(stack: StackedModel, member: int, loss: str) -> Array:
    """Penultimate features of the test set, `(samples, hidden)`.

    Args:
        stack: trained networks.
        member: position in the stack.
        loss: what the networks were trained with.
    """
    import torch

    model = network(loss, 0).double()
    model.load_state_dict(stack.member(member))
    with torch.no_grad():
        return model.features(_tensors(test_set())[0]).numpy()


def class_silhouettes(stack: StackedModel, member: int, loss: str) -> Array:
    """Mean silhouette of the test features of every class, `(classes,)`.

    Args:
        stack: trained networks.
        member: position in the stack.
        loss: what the networks were trained with.
    """
    from sklearn.metrics import silhouette_samples

    # Every other test sample: the cost grows with the square.
    targets = test_set().targets[::2]
    values = silhouette_samples(test_features(stack, member, loss)[::2], targets)
    return np.bincount(targets, weights=values) / np.bincount(targets)


def kmeans_error(setting: Setting, seeds: Sequence[int] = range(NUM_SEEDS)) -> Array:
    """Balanced test error in percent of clustering without any label, `(seeds,)`.

    k-means with as many clusters as classes on the pool and the labelled inputs; the clusters get the classes that suit
    the test set best, one each, which no real method could know.

    Args:
        setting: its labelled set and pool.
        seeds: of the draws.
    """
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    test, errors = test_set(), []
    for seed in seeds:
        inputs = np.concatenate([labelled_set(setting, seed).inputs, unlabelled_pool(setting, seed).inputs])
        found = KMeans(CLASSES, n_init=1, random_state=seed).fit(inputs).predict(np.asarray(test.inputs))
        table = np.zeros((CLASSES, CLASSES))
        np.add.at(table, (found, test.targets), 1)
        errors.append(100 * (1 - table[linear_sum_assignment(-table)].sum() / len(test)))
    return np.array(errors)
