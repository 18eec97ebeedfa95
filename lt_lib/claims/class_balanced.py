"""Checks of the claims about the class-balanced losses (Cui et al., CVPR 2019), judged by notebook 040.

Three sources of evidence, one `measure` each or shared: formulas, arithmetic on the published tables, and paired
trainings on two small worlds. Checks that share a `measure` share its measurements, so nothing is trained twice.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_lib import counts
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.published import published
from lt_lib.claims.rules import at_least, at_most, positive_effect

if TYPE_CHECKING:
    import pandas as pd

    from lt_lib.recipes import RunConfig, RunResult

Measurements = dict[str, Any]
Trainer = Callable[[Sequence["RunConfig"]], "list[RunResult]"]

BETAS = (0.9, 0.99, 0.999, 0.9999)
# The three losses of the slides' panels; the grid of the appendix also has focal exponents 1 and 2.
SLIDE_LOSSES = ("softmax", "sigmoid", "focal 0.5")
PLAIN_LOSSES = (*SLIDE_LOSSES, "focal 1", "focal 2")
# Two worlds in which a small network neither memorises everything nor learns nothing, so that weights can matter.
WORLDS: dict[str, dict[str, Any]] = {
    "digits": {"preset": "digits-quick", "epochs": 20},
    "gaussian": {
        "preset": "gaussian-quick",
        "n_max": 500,
        "imbalance_ratio": 50.0,
        "epochs": 8,
        "learning_rate": 0.1,
        "validation_per_class": 100,
    },
}
_ALL = ("quick", "small", "paper")


# --- configurations and rows of the paired trainings ---------------------------------------------------------------


def loss_label(loss: str, gamma: float | None = None) -> str:
    """Name of a loss in the tables: the focal exponent belongs to it.

    Example:
        >>> loss_label("focal", 0.5), loss_label("softmax")
        ('focal 0.5', 'softmax')
    """
    return f"{loss} {gamma:g}" if loss == "focal" and gamma is not None else loss


def world_config(world: str, label: str, beta: float | None = None, **changes: Any) -> "RunConfig":
    """Configuration of one loss in one of `WORLDS`, class-balanced if `beta` is given.

    Args:
        world: key of `WORLDS`.
        label: loss as `loss_label` names it.
        beta: effective-number parameter, or None for the plain loss.
        changes: further fields of `RunConfig`.
    """
    from lt_lib.recipes import preset

    loss, _, gamma = label.partition(" ")
    fields = {key: value for key, value in WORLDS[world].items() if key != "preset"}
    fields |= {"loss": loss, "evaluate_every": fields["epochs"]}
    if gamma:
        fields["gamma"] = float(gamma)
    if beta is not None:
        fields |= {"weighting": "effective_number", "beta": beta}
    return preset(WORLDS[world]["preset"], **{**fields, **changes})


def mean_sample_weight(class_counts: Any, beta: float) -> float:
    r"""Mean weight of a training *sample* under class-balanced weights that sum to the number of classes.

    .. math:: \bar w = \frac{\sum_c n_c w_c}{\sum_c n_c}

    Example:
        >>> round(mean_sample_weight(counts.exponential_counts(5000, 10, 100), 0.9999), 3)
        0.171
    """
    sizes = np.asarray(class_counts)
    weights = counts.class_balanced_weights(sizes, beta, on_ineffective_beta="ignore")
    return float((sizes * weights).sum() / sizes.sum())


def sweep_configs(world: str, seeds: Sequence[int]) -> "list[RunConfig]":
    """All runs of the beta and gamma sweeps, and on the Gaussian world those that take the normaliser apart."""
    from lt_lib.recipes import class_profile

    make = partial(world_config, world)
    cells = [make(label, beta) for label in SLIDE_LOSSES for beta in (None, *BETAS)]
    cells += [make(label, beta) for label in PLAIN_LOSSES[3:] for beta in (None, BETAS[-1])]
    if world == "gaussian":
        profile = class_profile(cells[0], np.full(10, cells[0].n_max))
        factor = mean_sample_weight(profile, BETAS[-1])
        for label in SLIDE_LOSSES:
            cells.append(make(label, BETAS[-1], normalization="weights"))
            cells.append(make(label, learning_rate=factor * cells[0].learning_rate))
    return [cell.changed(seed=seed, split_seed=seed) for cell in cells for seed in seeds]


def train_rows(configs: "Sequence[RunConfig]", *, train: Trainer | None = None) -> "pd.DataFrame":
    """Train and tabulate: one row per run, errors in percent after the last epoch.

    Columns: world, loss, beta (0 for the plain loss), normalization, learning_rate, weight_decay, decay_on, seed, error,
    validation_error (NaN without hold-out).

    Args:
        configs: the runs.
        train: replaces `lt_lib.recipes.run_many`.
    """
    import pandas as pd

    from lt_lib.recipes import run_many

    rows = []
    for config, result in zip(configs, (train or run_many)(configs), strict=True):
        held = result.curves["accuracy"].get("validation")
        weighted = config.weighting == "effective_number"
        rows.append(
            {
                "world": config.dataset,
                "loss": loss_label(config.loss, config.gamma),
                "beta": config.beta if weighted else 0.0,
                "normalization": config.normalization if weighted else "batch",
                "learning_rate": config.learning_rate,
                "weight_decay": config.weight_decay,
                "decay_on": config.decay_on,
                "seed": config.seed,
                "error": 100 * (1 - result.accuracy_last),
                "validation_error": float("nan") if held is None else 100 * (1 - held[-1]),
            }
        )
    return pd.DataFrame(rows)


def errors_of(rows: "pd.DataFrame", **values: Any) -> np.ndarray:
    """Errors of the rows with these column values, in the order of their seeds.

    Raises:
        ValueError: no row has them, or a seed occurs twice (then they name more than one configuration).
    """
    for column, value in values.items():
        rows = rows[np.isclose(rows[column], value)] if isinstance(value, float) else rows[rows[column] == value]
    if rows.empty or rows.seed.duplicated().any():
        raise ValueError(f"`values` must name one configuration, got {values} with {len(rows)} rows.")
    return rows.sort_values("seed").error.to_numpy()


def main_rows(rows: "pd.DataFrame") -> "pd.DataFrame":
    """The sweep alone: the authors' normaliser and the full learning rate."""
    full = rows.groupby("world").learning_rate.transform("max")
    return rows[(rows.normalization == "batch") & np.isclose(rows.learning_rate, full)]


# --- measurements --------------------------------------------------------------------------------------------------


def measure_weights(
    _profile: str, _rng: np.random.Generator, *, weights: Callable[..., np.ndarray] = counts.class_balanced_weights
) -> Measurements:
    """Class-balanced weights of CIFAR-10-LT and CIFAR-100-LT counts against sums of powers, and at both ends of beta.

    Args:
        _profile: not used; weights cost nothing.
        _rng: not used; nothing is random.
        weights: the formula under test.
    """
    profiles = [counts.exponential_counts(5000, 10, 100), counts.exponential_counts(500, 100, 100)]
    spread, against_inverse = [], []
    for sizes in profiles:
        for beta in BETAS:
            w = weights(sizes, beta, on_ineffective_beta="ignore")
            # E_n = 1 + beta + ... + beta^(n-1), summed term by term: independent of the closed form.
            product = w * np.cumsum(beta ** np.arange(sizes.max()))[sizes - 1]
            spread.append(np.ptp(product) / product.mean() + abs(w.sum() - sizes.size))
            inverse = w * sizes
            against_inverse.append(np.ptp(inverse) / inverse.mean())
    sizes = profiles[0]
    near_one = weights(sizes, 1 - 1e-12, on_ineffective_beta="ignore")
    return {
        "deviation": float(max(spread)),
        "flat": float(np.abs(weights(sizes, 0.0, on_ineffective_beta="ignore") - 1).max()),
        "inverse": float(abs(near_one[-1] / near_one[0] / (sizes[0] / sizes[-1]) - 1)),
        "against_inverse": float(min(against_inverse)),
    }


def naive_loss(label: str, logits: Sequence[float], target: int, weight: float) -> float:
    """One sample's class-balanced loss in plain Python: the formula, term by term.

    Args:
        label: loss as `loss_label` names it.
        logits: scores of one sample.
        target: its class.
        weight: the weight of that class.
    """
    from math import exp, log

    if label == "softmax":
        return -weight * log(exp(logits[target]) / sum(exp(z) for z in logits))
    gamma = float(label.partition(" ")[2] or 0)
    total = 0.0
    for i, z in enumerate(logits):
        p = 1 / (1 + exp(-z if i == target else z))
        total += (1 - p) ** gamma * log(p)
    return -weight * total


def measure_losses(
    _profile: str, rng: np.random.Generator, *, reference: Callable[..., float] = naive_loss
) -> Measurements:
    """Library losses against `reference`, value and slope, on random logits.

    Args:
        _profile: not used.
        rng: draws logits and targets.
        reference: the formula that the library is held against, arguments as `naive_loss`.
    """
    import torch

    from lt_lib import losses

    sizes = counts.exponential_counts(5000, 10, 100)
    weight = counts.class_balanced_weights(sizes, 0.999)
    modules = {
        "softmax": losses.ClassBalancedSoftmaxLoss(sizes, 0.999, reduction="none"),
        "sigmoid": losses.ClassBalancedSigmoidLoss(sizes, 0.999, reduction="none"),
        "focal 2": losses.ClassBalancedFocalLoss(sizes, 0.999, 2.0, reduction="none"),
    }
    logits, targets = 3 * rng.standard_normal((20, 10)), rng.integers(10, size=20)
    value, slope, lowest, step = 0.0, 0.0, np.inf, 1e-5
    for label, module in modules.items():
        z = torch.tensor(logits, requires_grad=True)
        loss = module(z, torch.from_numpy(targets))
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        for row, y, fast, grad in zip(logits, targets, loss.tolist(), gradient.numpy(), strict=True):
            naive = partial(reference, label, target=int(y), weight=float(weight[y]))
            value = max(value, abs(naive(row) - fast))
            moved = [naive(row + step * e) - naive(row - step * e) for e in np.eye(10)[[0, 5, 9]]]
            slope = max(slope, float(np.abs(np.array(moved) / (2 * step) - grad[[0, 5, 9]]).max()))
        lowest = min(lowest, float(loss.min()))
    return {"value": value, "slope": slope, "lowest": lowest}


def printed_focal(logits: Any, targets: Any, gamma: float = 1.0) -> Any:
    r"""The focal loss as one note prints it, without the leading minus: :math:`\sum_i (1-p_i^t)^\gamma \log p_i^t`."""
    from lt_lib import losses

    return -losses.focal_loss(logits, targets, gamma, reduction="none")


def measure_focal_descent(
    _profile: str, rng: np.random.Generator, *, focal: Callable[..., Any] = printed_focal, steps: int = 60
) -> Measurements:
    """Descend along a focal loss from zero weights: a linear classifier of the digits, full batches.

    Args:
        _profile: not used.
        rng: draws the logits on which the sign is looked at.
        focal: (logits, targets) -> per-sample values.
        steps: of gradient descent.
    """
    import torch

    from lt_lib import data, models

    lowest = float(focal(torch.from_numpy(rng.standard_normal((50, 10))), torch.arange(50) % 10).min())
    digits = data.load("digits")
    x, x_test = (torch.from_numpy(part.inputs).flatten(1).double() / 255 - 0.3 for part in (digits.train, digits.test))
    y, y_test = torch.from_numpy(digits.train.targets), torch.from_numpy(digits.test.targets)
    head = torch.nn.Linear(64, 10).double()
    torch.nn.init.zeros_(head.weight)
    models.initialise_prior_bias(head, 10)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.5)
    curve = []
    for _ in range(steps):
        loss = focal(head(x), y).mean()
        curve.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = float((head(x_test).argmax(1) == y_test).double().mean())
    return {"lowest": lowest, "accuracy": accuracy, "curve": curve}


def measure_balanced(
    _profile: str, _rng: np.random.Generator, *, weights: Callable[..., np.ndarray] = counts.class_balanced_weights
) -> Measurements:
    """Equal counts: the weights, and the training curves of a class-balanced and a plain run with one seed.

    Args:
        _profile: not used.
        _rng: not used; the seed is the same by intention.
        weights: the formula under test.
    """
    from lt_lib.recipes import run_many

    sizes = np.full(10, 500)
    off = max(float(np.abs(weights(sizes, beta, on_ineffective_beta="ignore") - 1).max()) for beta in BETAS)
    configs = [
        world_config("digits", "softmax", beta, imbalance_type="balanced", n_max=60, epochs=4)
        for beta in (None, BETAS[-1])
    ]
    plain, balanced = (np.array(result.curves["train_loss"]) for result in run_many(configs))
    return {"weight": off, "loss": float(np.abs(plain - balanced).max())}


def measure_published(
    _profile: str, _rng: np.random.Generator, *, load: Callable[[str], "pd.DataFrame"] = published
) -> Measurements:
    """The published tables: "table" (notes), "grid" (appendix of the paper) and "large" (large data sets).

    Args:
        _profile: not used; printed numbers do not depend on it.
        _rng: not used.
        load: where the tables come from.
    """
    return {"table": load("cb_cifar"), "grid": load("cb_cifar_grid"), "large": load("cb_large")}


def measure_sweep(
    profile: str, rng: np.random.Generator, *, num_seeds: int = 10, train: Trainer | None = None
) -> Measurements:
    """The published tables, and "runs": the rows of `sweep_configs` for every world in paired seeds.

    Args:
        profile: handed on.
        rng: handed on; the trainings are seeded by number, so that pairs are pairs.
        num_seeds: seeds 0, 1, ... of subset and initial weights.
        train: replaces `lt_lib.recipes.run_many`.
    """
    configs = [config for world in WORLDS for config in sweep_configs(world, range(num_seeds))]
    return {**measure_published(profile, rng), "runs": train_rows(configs, train=train)}


def measure_decay(
    _profile: str, _rng: np.random.Generator, *, num_seeds: int = 10, train: Trainer | None = None
) -> Measurements:
    """Sigmoid loss under the three decay rules, in a world small enough that weight decay matters.

    Args:
        _profile: not used.
        _rng: not used; see `measure_sweep`.
        num_seeds: seeds 0, 1, ... of subset and initial weights.
        train: replaces `lt_lib.recipes.run_many`.
    """
    small = {"n_max": 60, "imbalance_ratio": 10.0, "epochs": 40, "evaluate_every": 40, "validation_per_class": 0}
    configs = [
        world_config("gaussian", "sigmoid", decay_on=rule, weight_decay=decay, seed=seed, split_seed=seed, **small)
        for decay in (2e-4, 5e-3)
        for rule in ("all", "all_but_head_bias", "head_bias_only")
        for seed in range(num_seeds)
    ]
    return {"runs": train_rows(configs, train=train)}


def measure_prior_bias(
    _profile: str,
    _rng: np.random.Generator,
    *,
    initialise: Callable[[Any, int], None] | None = None,
    num_seeds: int = 10,
    steps: int = 100,
) -> Measurements:
    """First steps of a sigmoid loss with 100 classes, last bias at zero against `initialise`.

    Args:
        _profile: not used.
        _rng: not used; see `measure_sweep`.
        initialise: (head, classes) -> None; `lt_lib.models.initialise_prior_bias` if None.
        num_seeds: seeds 0, 1, ... of samples, initial weights and batches; the two starts share them.
        steps: of SGD with momentum; the rate rises over the first fifth.

    Returns:
        "loss" and "norm" (gradient norm): `(2, seeds, steps)`, zero bias first; "error" in percent: `(2, seeds)`.
    """
    import torch

    from lt_lib import data, losses, models

    num_classes, batch = 100, 128
    world = data.gaussian_world(num_classes=num_classes, separation=1.2)
    class_counts = counts.exponential_counts(100, num_classes, 20)

    def network(seed: int, prior: bool) -> torch.nn.Module:
        model = models.seeded(lambda: models.MLP(world.dim, num_classes), seed)
        if prior:
            (initialise or models.initialise_prior_bias)(model.head, num_classes)  # type: ignore[arg-type]
        return model

    draws = [world.sample(class_counts, np.random.default_rng([seed, 40])) for seed in range(num_seeds)]
    inputs = torch.stack([torch.from_numpy(draw.inputs).double() for draw in draws]).repeat(2, 1, 1)
    targets = torch.stack([torch.from_numpy(draw.targets) for draw in draws]).repeat(2, 1)
    picks = torch.stack(
        [torch.randint(inputs.shape[1], (steps, batch), generator=torch.Generator().manual_seed(k)) for k in range(num_seeds)]
    ).repeat(2, 1, 1)  # fmt: skip
    stack = models.StackedModel([network(seed, prior) for prior in (False, True) for seed in range(num_seeds)]).double()
    optimizer = torch.optim.SGD(stack.parameters(), lr=0.1, momentum=0.9)
    members = torch.arange(2 * num_seeds)[:, None]
    loss_curve, norm_curve = [], []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 0.1 * min(1.0, 5 * (step + 1) / steps)
        rows = picks[:, step]
        loss = losses.sigmoid_loss(stack(inputs[members, rows]), targets[members, rows], reduction="none").mean(dim=1)
        optimizer.zero_grad()
        loss.sum().backward()
        square = sum(parameter.grad.flatten(1).square().sum(1) for parameter in stack.parameters())  # type: ignore[union-attr]
        optimizer.step()
        loss_curve.append(loss.detach())
        norm_curve.append(torch.as_tensor(square).sqrt())
    test = world.sample(20, np.random.default_rng([0, 41]))
    with torch.no_grad():
        scores = stack(torch.from_numpy(test.inputs).double().expand(2 * num_seeds, -1, -1))
    wrong = (scores.argmax(-1) != torch.from_numpy(test.targets)).double().mean(1)
    shape = (2, num_seeds, steps)
    return {
        "loss": torch.stack(loss_curve, 1).reshape(shape).numpy(),
        "norm": torch.stack(norm_curve, 1).reshape(shape).numpy(),
        "error": 100 * wrong.reshape(2, num_seeds).numpy(),
    }


# --- arithmetic on the published tables ----------------------------------------------------------------------------


def error_grid(table: "pd.DataFrame") -> "pd.DataFrame":
    """Published CIFAR errors as a matrix: rows (dataset, ratio, loss), columns beta, 0 for the plain loss."""
    plain_or_balanced = table[table.method != "class_balanced_best"]
    labels = [
        loss_label(loss, gamma) for loss, gamma in zip(plain_or_balanced.loss, plain_or_balanced.gamma, strict=True)
    ]
    tidy = plain_or_balanced.assign(loss=labels, beta=plain_or_balanced.beta.fillna(0.0))
    return tidy.pivot(index=["dataset", "ratio", "loss"], columns="beta", values="value")


def best_balanced(grid: "pd.DataFrame") -> "pd.DataFrame":
    """Per column (dataset, ratio) of `error_grid`: lowest class-balanced error, where, and lowest plain error."""
    import pandas as pd

    rows = []
    for (dataset, ratio), block in grid.groupby(level=["dataset", "ratio"]):
        cells = block.drop(columns=0.0).stack()
        loss, beta = cells.idxmin()[-2:]
        plain = block[0.0].min()
        rows.append((dataset, ratio, loss, beta, cells.min(), plain, plain - cells.min()))
    return pd.DataFrame(rows, columns=["dataset", "ratio", "loss", "beta", "best CB", "best plain", "margin"])


def large_pairs(table: "pd.DataFrame", metric: str = "top1_error_percent") -> "pd.DataFrame":
    """Large data sets as a matrix: rows (dataset, depth), columns (method, pixels)."""
    tidy = table[table.metric == metric].copy()
    tidy["depth"] = tidy.setting.str.extract(r"ResNet-(\d+)", expand=False).astype(int)
    tidy["pixels"] = tidy.setting.str.extract(r"(\d+)×", expand=False).astype(int)
    return tidy.pivot(index=["dataset", "depth"], columns=["method", "pixels"], values="value")


def share_better(table: "pd.DataFrame") -> "pd.Series":
    """Share of the columns of the CIFAR table in which each plain loss has a lower error than plain softmax."""
    plain = error_grid(table)[0.0].unstack("loss")
    return plain.drop(columns="softmax").lt(plain["softmax"], axis=0).mean()


# --- judgements ----------------------------------------------------------------------------------------------------


def _decide(passed: bool, statistic: float, threshold: str) -> Judgement:
    return Judgement("holds" if passed else "refuted", float(statistic), threshold=threshold)


def judge_weights(measured: Measurements) -> Judgement:
    largest = max(measured["deviation"], measured["flat"], measured["inverse"])
    return at_most(largest, 1e-6, name="largest relative deviation, ends of beta included,")


def judge_inverse_to_count(measured: Measurements) -> Judgement:
    return at_most(measured["against_inverse"], 0.01, name="least spread of weight x count over the usual beta")


def judge_losses(measured: Measurements) -> Judgement:
    sign = at_least(measured["lowest"], 0.0, name="lowest loss")
    return worst([at_most(max(measured["value"], measured["slope"]), 1e-6, name="value and slope deviation"), sign])


def judge_printed_focal(measured: Measurements) -> Judgement:
    learns = at_least(measured["accuracy"], 0.5, name="accuracy after descent")
    return worst([at_least(measured["lowest"], 0.0, name="lowest value"), learns])


def judge_balanced(measured: Measurements) -> Judgement:
    return at_most(max(measured["weight"], measured["loss"]), 1e-12, name="deviation of weights and training losses")


def judge_selection(measured: Measurements) -> Judgement:
    table = error_grid(measured["table"])[0.0].unstack("loss")
    best = measured["table"].query("method == 'class_balanced_best' and ratio > 1").set_index(["dataset", "ratio"])
    below = sum(bool((value < table.loc[key]).all()) for key, value in best.value.items())
    return worst(
        [
            at_least(below, 8, name="columns of 10, selected on the test set,"),
            positive_effect(nested_gain(measured["runs"]), unit="points, both sides selected on validation"),
        ]
    )


def nested_gain(runs: "pd.DataFrame") -> np.ndarray:
    """Test error of the plain loss minus that of the class-balanced one, each chosen on the validation samples; by seed."""
    rows = main_rows(runs[runs.world == "gaussian"])
    gains = []
    for _, block in rows.groupby("seed"):
        plain, balanced = block[block.beta == 0], block[block.beta > 0]
        chosen = [part.error.loc[part.validation_error.idxmin()] for part in (plain, balanced)]
        gains.append(chosen[0] - chosen[1])
    return np.array(gains)


def gains_over_plain(
    runs: "pd.DataFrame", world: str, beta: float, normalization: str = "batch"
) -> dict[str, np.ndarray]:
    """Paired gain of each slide loss at `beta` over its plain form at the full learning rate, in points, by seed."""
    rows = runs[runs.world == world]
    rate = float(rows.learning_rate.max())
    gains = {}
    for loss in SLIDE_LOSSES:
        plain = errors_of(rows, loss=loss, beta=0.0, learning_rate=rate)
        gains[loss] = plain - errors_of(rows, loss=loss, beta=beta, normalization=normalization)
    return gains


def judge_significant(measured: Measurements) -> Judgement:
    parts = [
        positive_effect(gain, minimum=1.0, unit=f"points ({loss}, mean over {normalization})")
        for normalization in ("batch", "weights")
        for loss, gain in gains_over_plain(measured["runs"], "gaussian", BETAS[-1], normalization).items()
    ]
    return _weakest(parts)


def judge_all_losses(measured: Measurements) -> Judgement:
    gains = gains_over_plain(measured["runs"], "gaussian", BETAS[-1])
    return _weakest([positive_effect(gain, unit=f"points ({loss})") for loss, gain in gains.items()])


def _weakest(parts: list[Judgement]) -> Judgement:
    """As `worst`, with the least lower bound deciding among equal verdicts."""
    return worst(sorted(parts, key=lambda part: part.low))


def judge_beats_softmax(measured: Measurements) -> Judgement:
    share = share_better(measured["table"])
    return _decide(bool((share > 0.5).all()), share.min(), "share of columns > 0.5 for each loss; least share shown")


def _panel_gains(measured: Measurements, dataset: str) -> np.ndarray:
    """Gains at ratio 50, `(slide losses, betas)`."""
    block = error_grid(measured["grid"]).loc[(dataset, 50)].loc[list(SLIDE_LOSSES)]
    return block[[0.0]].to_numpy() - block[list(BETAS)].to_numpy()


def judge_cifar10_betas(measured: Measurements) -> Judgement:
    gains = _panel_gains(measured, "cifar10")
    rising = bool((np.diff(gains, axis=1) > 0).all())
    return _decide(bool((gains > 0).all()) and rising, gains.min(), "all 12 gains > 0 and rising; least gain shown")


def judge_cifar100_betas(measured: Measurements) -> Judgement:
    pattern = (_panel_gains(measured, "cifar100") > 0) == np.array([True, True, False, False])
    return at_least(int(pattern.all(axis=1).sum()), 2, name="losses of 3 with the pattern + + - -")


def _best_betas(measured: Measurements, dataset: str) -> np.ndarray:
    best = best_balanced(error_grid(measured["grid"]))
    return best[best.dataset == dataset].beta.to_numpy()


def judge_best_beta_cifar10(measured: Measurements) -> Judgement:
    return at_least(int((_best_betas(measured, "cifar10") == BETAS[-1]).sum()), 4, name="columns of 5 best at 0.9999")


def judge_best_beta_cifar100(measured: Measurements) -> Judgement:
    betas = _best_betas(measured, "cifar100")
    below = int((betas < BETAS[-1]).sum())
    varied = np.unique(betas).size > 1
    return _decide(below >= 4 and varied, below, "best beta below 0.9999 in >= 4 of 5 columns, and not constant")


def judge_best_beta(measured: Measurements) -> Judgement:
    return worst([judge_best_beta_cifar10(measured), judge_best_beta_cifar100(measured)])


def judge_large_margin(measured: Measurements) -> Judgement:
    errors = large_pairs(measured["large"])
    least = float((errors[("plain", 224)] - errors[("class_balanced", 224)]).min())
    verdict = "refuted" if least <= 0 else "holds" if least >= 1.5 else "inconclusive"
    rule = "least of 9 gains >= 1.5 points, what single runs can tell; refuted if <= 0"
    return Judgement(verdict, least, threshold=rule)


def judge_depth(measured: Measurements) -> Judgement:
    right, total = 0, 0
    for metric in ("top1_error_percent", "top5_error_percent"):
        errors = large_pairs(measured["large"], metric)
        for _, block in errors.groupby(level="dataset"):
            right += int((block.sort_index().diff().iloc[1:] < 0).all().sum())
        total += 3 * errors.shape[1]
        right += int((errors[("class_balanced", 320)] < errors[("class_balanced", 224)]).sum())
        total += len(errors)
    return _decide(right == total, right / total, f"all of {total} comparisons (depth in 18 groups, size in 18 pairs)")


def judge_shallow_equals_deep(measured: Measurements) -> Judgement:
    errors = large_pairs(measured["large"])
    balanced = errors[("class_balanced", 224)].xs(50, level="depth")
    deep = {"inaturalist2017": 152, "inaturalist2018": 152, "ilsvrc2012": 101}
    gaps = [abs(balanced[name] - errors.loc[(name, depth), ("plain", 224)]) for name, depth in deep.items()]
    return at_most(max(gaps), 1.0, name="largest difference in points")


def judge_data_sets(measured: Measurements) -> Judgement:
    named = {*measured["table"].dataset, *measured["large"].dataset}
    wanted = {"cifar10", "cifar100", "inaturalist2017", "inaturalist2018", "ilsvrc2012"}
    return _decide(named == wanted, len(named & wanted), "the published tables name these 5 data sets and no other")


def judge_same_table(measured: Measurements) -> Judgement:
    grid = error_grid(measured["grid"])
    table = error_grid(measured["table"].query("ratio > 1"))[0.0]
    best = (
        measured["table"].query("method == 'class_balanced_best' and ratio > 1").set_index(["dataset", "ratio"]).value
    )
    from_grid = best_balanced(grid).set_index(["dataset", "ratio"])["best CB"]
    unequal = int((table - grid[0.0]).ne(0).sum() + (best - from_grid).ne(0).sum())
    return at_most(unequal, 0, name=f"cells of {len(table) + len(best)} that differ from the paper's appendix")


def judge_decay(measured: Measurements) -> Judgement:
    decay = float(measured["runs"].weight_decay.max())
    paper = errors_of(measured["runs"], weight_decay=decay, decay_on="all_but_head_bias")
    printed = errors_of(measured["runs"], weight_decay=decay, decay_on="head_bias_only")
    return positive_effect(paper - printed, unit="points gained by decaying the bias alone")


def judge_prior_bias(measured: Measurements) -> Judgement:
    start = measured["loss"][:, :, 0].mean(axis=1)
    error = measured["error"]
    harm = positive_effect(error[0] - error[1], unit="points of error saved")
    # "Not worse" fails only when harm is shown, so an inconclusive difference passes.
    not_worse = Judgement("refuted" if harm.verdict == "refuted" else "holds", harm.statistic, harm.low, harm.high, "")
    return worst([at_least(start[0] / start[1], 5.0, name="ratio of initial losses"), not_worse])


def _check(
    row: int,
    source: str,
    kind: str,
    statement: str,
    rule: str,
    measure: Callable[[str, np.random.Generator], Measurements],
    judge: Callable[[Measurements], Judgement],
) -> Check:
    trains = measure in (measure_sweep, measure_decay, measure_prior_bias)
    return Check(Claim(row, source, kind, statement, rule), measure, judge, ("quick",) if trains else _ALL)


CHECKS: tuple[Check, ...] = (
    _check(19, "S0 L202-206", "D", "The loss of a class is weighted by the inverse of its effective number; beta = 0 gives "
           "no weights and beta -> 1 inverse frequency.", "exact to 1e-6, both ends included",
           measure_weights, judge_weights),
    _check(20, "S0 L212-226", "D", "The three class-balanced losses are the weighted softmax, sigmoid and focal losses.",
           "value and slope equal a term-by-term reference to 1e-6; never negative", measure_losses, judge_losses),
    _check(21, "S0 L233-238", "E", "The best class-balanced cell beats every plain loss in all ten imbalanced columns.",
           "at least 8 of 10 published columns, and a paired gain when both sides are selected on validation",
           measure_sweep, judge_selection),
    _check(22, "S0 L246", "E", "Class balancing improves the error significantly, for all three losses.",
           "paired gain above 1 point for each loss, whatever the mean is divided by", measure_sweep, judge_significant),
    _check(23, "S0 L247", "E", "Sigmoid and focal losses beat softmax in most cases.",
           "lower error in more than half of the table's columns, for each loss", measure_published, judge_beats_softmax),
    _check(24, "S0 L259", "E", "CIFAR-10 at ratio 50: class balancing helps at every beta, and the more the larger beta.",
           "published gains positive and rising for the three losses", measure_published, judge_cifar10_betas),
    _check(25, "S0 L260", "E", "CIFAR-100 at ratio 50: beta of 0.9 and 0.99 help, larger ones hurt.",
           "published signs + + - - for two of three losses", measure_published, judge_cifar100_betas),
    _check(26, "S0 L240", "E", "On CIFAR-10 the best beta is 0.9999 at every ratio.",
           "best cell at 0.9999 in 4 of 5 columns", measure_published, judge_best_beta_cifar10),
    _check(27, "S0 L240", "E", "On CIFAR-100 the best beta is smaller and depends on the ratio.",
           "best cell below 0.9999 in 4 of 5 columns, and not constant", measure_published, judge_best_beta_cifar100),
    _check(28, "S0 L238", "T", "With balanced data a class-balanced loss is the plain loss.",
           "weights 1 and equal training curves to 1e-12", measure_balanced, judge_balanced),
    _check(29, "S0 L265-277", "E", "Class-balanced focal loss beats softmax by a large margin on iNaturalist and ILSVRC.",
           "least published gain at least 1.5 points", measure_published, judge_large_margin),
    _check(30, "S0 L267-275", "E", "Deeper networks and larger inputs lower the error.",
           "in every published comparison", measure_published, judge_depth),
    _check(31, "S0 L267-272", "E", "ResNet-50 with the class-balanced focal loss equals softmax at depth 152 (iNaturalist) and "
           "101 (ILSVRC).", "published difference at most 1 point", measure_published, judge_shallow_equals_deep),
    _check(51, "S1 L10, L27", "D", "Class-balanced weights are inversely proportional to the class count.",
           "weight x count constant to 1 % at some usual beta", measure_weights, judge_inverse_to_count),
    _check(55, "S1 L20-21", "E", "Class balancing can be applied to softmax, sigmoid and focal losses.",
           "each beats its plain form in paired seeds", measure_sweep, judge_all_losses),
    _check(56, "S1 L29-41", "D", "The focal formula as S1 prints it, without the minus, is a loss.",
           "never negative, and descending it learns", measure_focal_descent, judge_printed_focal),
    _check(57, "S1 L45", "D", "The method is evaluated on long-tailed CIFAR, iNaturalist 2017 and 2018, and ILSVRC 2012.",
           "the published tables name them", measure_published, judge_data_sets),
    _check(58, "S1 L47", "E", "Starting the last bias at -log((1-pi)/pi), pi = 1/C, steadies sigmoid training.",
           "initial loss at least 5 times lower at C = 100, error not worse", measure_prior_bias, judge_prior_bias),
    _check(59, "S1 L47", "D", "Weight decay belongs on the last layer's bias alone.",
           "paired gain over the paper's rule (everywhere but there)", measure_decay, judge_decay),
    _check(60, "S1 L51", "E", "Sigmoid and focal losses with that start surpass softmax.",
           "as row 23", measure_published, judge_beats_softmax),
    _check(61, "S1 L53", "E", "beta = 0.9999 is best on CIFAR-10, a beta of its own per ratio on CIFAR-100.",
           "as rows 26 and 27", measure_published, judge_best_beta),
    _check(82, "S2 L154-162", "D", "S2's table of CIFAR errors is that of S0, and both are the paper's.",
           "every cell equal", measure_published, judge_same_table),
)  # fmt: skip
