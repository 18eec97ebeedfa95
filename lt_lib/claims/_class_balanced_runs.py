"""Trainings behind the claims on the class-balanced losses: paired seeds at quick, stored rows at other profiles."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_lib import counts
from lt_lib.claims._class_balanced_tables import BETAS, PLAIN_LOSSES, SLIDE_LOSSES, Table, loss_label, measure_published
from lt_lib.claims.measured import MINIMUM_PAIRS, measured_rows, paired_differences, with_worlds

if TYPE_CHECKING:
    from lt_lib.recipes import RunConfig, RunResult

Measurements = dict[str, Any]
Trainer = Callable[[Sequence["RunConfig"]], "list[RunResult]"]

FAMILIES = ("softmax", "sigmoid", "focal")
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


def train_rows(configs: "Sequence[RunConfig]", *, train: Trainer | None = None) -> Table:
    """Train and tabulate: one row per run, errors in percent after the last epoch.

    Columns: world, loss, beta (0 for the plain loss), normalization, learning_rate, weight_decay, decay_on, seed,
    error, validation_error (NaN without hold-out).

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


def errors_of(rows: Table, **values: Any) -> np.ndarray:
    """Errors of the rows with these column values, in the order of their seeds.

    Raises:
        ValueError: no row has them, or a seed occurs twice (then they name more than one configuration).
    """
    for column, value in values.items():
        rows = rows[np.isclose(rows[column], value)] if isinstance(value, float) else rows[rows[column] == value]
    if rows.empty or rows.seed.duplicated().any():
        raise ValueError(f"`values` must name one configuration, got {values} with {len(rows)} rows.")
    return rows.sort_values("seed").error.to_numpy()


def main_rows(rows: Table) -> Table:
    """The sweep alone: the authors' normaliser and the full learning rate."""
    full = rows.groupby("world").learning_rate.transform("max")
    return rows[(rows.normalization == "batch") & np.isclose(rows.learning_rate, full)]


def paired_gains(rows: Table) -> Table:
    """What class balancing gains over the plain form of each loss.

    Args:
        rows: columns world, loss, beta (0 for the plain loss), seed, error; one row per run.

    Returns:
        Columns world, loss, beta, gain, low, high (points, two-sided 95 % t interval) and pairs, at least two.
    """
    import pandas as pd

    from lt_lib.metrics import paired_interval

    found = []
    for (world, loss), block in rows.groupby(["world", "loss"], sort=False):
        by_seed = block.pivot(index="seed", columns="beta", values="error")
        for beta in by_seed.columns.drop(0.0, errors="ignore"):
            gain = (by_seed[0.0] - by_seed[beta]).dropna() if 0.0 in by_seed else by_seed[beta].iloc[:0]
            if len(gain) > 1:
                found.append((world, loss, float(beta), *paired_interval(gain, level=0.975), len(gain)))
    return pd.DataFrame(found, columns=["world", "loss", "beta", "gain", "low", "high", "pairs"])


def nested_gain(runs: Table) -> np.ndarray:
    """Test error of the plain side minus that of the class-balanced side, loss chosen on validation samples, by seed.

    Both sides choose among the same losses, class-balanced at one beta: the luckiest of more runs would win without any
    effect, even when luck is measured on other samples than the test set.
    """
    rows = main_rows(runs[runs.world == "gaussian"])
    gains = []
    for _, block in rows.groupby("seed"):
        sides = [block[np.isclose(block.beta, beta)] for beta in (0.0, BETAS[-1])]
        plain, balanced = (side.error.loc[side.validation_error.idxmin()] for side in sides)
        gains.append(plain - balanced)
    return np.array(gains)


def gains_over_plain(runs: Table, world: str, beta: float, normalization: str = "batch") -> dict[str, np.ndarray]:
    """Paired gain of each slide loss at `beta` over its plain form at the full learning rate, in points, by seed."""
    rows = runs[runs.world == world]
    rate = float(rows.learning_rate.max())
    gains = {}
    for loss in SLIDE_LOSSES:
        plain = errors_of(rows, loss=loss, beta=0.0, learning_rate=rate)
        gains[loss] = plain - errors_of(rows, loss=loss, beta=beta, normalization=normalization)
    return gains


def measure_sweep(
    profile: str,
    rng: np.random.Generator,
    *,
    num_seeds: int = 10,
    train: Trainer | None = None,
    folder: str | os.PathLike[str] = "",
) -> Measurements:
    """The published tables, and "runs": the rows of `sweep_configs` for every world in paired seeds.

    Args:
        profile: at "quick" the worlds are trained; at the others "stored" has the rows of `stored_rows` by normaliser.
        rng: handed on; the trainings are seeded by number, so that pairs are pairs.
        num_seeds: seeds 0, 1, ... of subset and initial weights.
        train: replaces `lt_lib.recipes.run_many`.
        folder: of the stored rows; `results/` of the source tree if empty.
    """
    if profile != "quick":
        stored = {kind: stored_rows(profile, folder, normalization=kind) for kind in ("batch", "weights")}
        return {**measure_published(profile, rng), "stored": stored}
    configs = [config for world in WORLDS for config in sweep_configs(world, range(num_seeds))]
    return {**measure_published(profile, rng), "runs": train_rows(configs, train=train)}


def stored_gains(rows: Table) -> dict[str, dict[str, np.ndarray]]:
    """Paired gain of beta 0.9999 over the plain form of each loss in stored rows, in points, by seed.

    Args:
        rows: from `stored_rows`.

    Returns:
        Family of the loss ("softmax", "sigmoid", "focal") -> loss and world -> gains; empty without two pairs.
    """
    sides = np.select([rows.beta == 0, np.isclose(rows.beta.astype(float), BETAS[-1])], ["plain", "balanced"], "other")
    table = rows.assign(method=sides)
    found: dict[str, dict[str, np.ndarray]] = {family: {} for family in FAMILIES}
    for loss in sorted(set(table.loss)):
        pairs = paired_differences(table[table.loss == loss], "balanced", "plain")
        found[loss.partition(" ")[0]] |= {f"{loss}, {world}": gain for world, gain in pairs.items()}
    return found


def stored_nested_gain(rows: Table) -> dict[str, np.ndarray]:
    """As `nested_gain`, by world of stored rows, for seeds with a hold-out and every family of losses on both sides.

    Args:
        rows: from `stored_rows`.
    """
    found = {}
    for world, table in rows[rows.validation_error.notna()].groupby("world"):
        gains = []
        for _, block in table.groupby("seed"):
            sides = [block[np.isclose(block.beta.astype(float), beta)] for beta in (0.0, BETAS[-1])]
            if all({loss.partition(" ")[0] for loss in side.loss} == set(FAMILIES) for side in sides):
                plain, balanced = (side.error.loc[side.validation_error.idxmin()] for side in sides)
                gains.append(plain - balanced)
        if len(gains) >= MINIMUM_PAIRS:
            found[str(world)] = np.array(gains)
    return found


def measure_decay(
    _profile: str,
    _rng: np.random.Generator,
    *,
    weight_decays: Sequence[float] = (2e-4, 5e-3),
    num_seeds: int = 10,
    train: Trainer | None = None,
) -> Measurements:
    """Sigmoid loss under the three decay rules, in a world small enough that weight decay matters.

    Args:
        _profile: not used.
        _rng: not used; see `measure_sweep`.
        weight_decays: the recipe's coefficient, and a larger one at which the rules part.
        num_seeds: seeds 0, 1, ... of subset and initial weights.
        train: replaces `lt_lib.recipes.run_many`.
    """
    small = {"n_max": 60, "imbalance_ratio": 10.0, "epochs": 40, "evaluate_every": 40, "validation_per_class": 0}
    configs = [
        world_config("gaussian", "sigmoid", decay_on=rule, weight_decay=decay, seed=seed, split_seed=seed, **small)
        for decay in weight_decays
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
    orders = [torch.Generator().manual_seed(seed) for seed in range(num_seeds)]
    picks = torch.stack([torch.randint(inputs.shape[1], (steps, batch), generator=order) for order in orders])
    picks = picks.repeat(2, 1, 1)
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
        gradients = [parameter.grad for parameter in stack.parameters() if parameter.grad is not None]
        norm = torch.stack([gradient.flatten(1).square().sum(1) for gradient in gradients]).sum(0).sqrt()
        optimizer.step()
        loss_curve.append(loss.detach())
        norm_curve.append(norm)
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


# Methods of `lt_lib.recipes.METHODS` that stand in the sweep, and the normaliser of their weights.
_STORED_METHODS = {
    "ERM": "batch", "Sigmoid": "batch", "Focal": "batch", "CB-softmax": "batch", "CB-sigmoid": "batch",
    "CB-focal": "batch", "CB RW": "weights",
}  # fmt: skip


def stored_rows(profile: str, folder: str | os.PathLike[str] = "", *, normalization: str = "batch") -> Table:
    """Rows of measured runs for the sweep figures and checks at the profiles that train for hours.

    Args:
        profile: "small" or "paper".
        folder: where the tables `*.csv` are; `results/` at the top of the source tree if empty.
        normalization: of the weights, "batch" or "weights"; plain runs are among the rows of both.

    Returns:
        Columns world, loss, beta, seed, error as `train_rows` has them, validation_error and number_format: plain and
        class-balanced runs only, empty when nothing has been measured.
    """
    import pandas as pd

    rows = measured_rows(profile, folder)
    kept = [name for name, kind in _STORED_METHODS.items() if kind == normalization or not name.startswith("CB")]
    rows = with_worlds(rows[rows.method.isin(kept) & (rows.imbalance_type != "step")])
    columns = ["world", "loss", "beta", "seed", "error", "validation_error", "number_format"]
    if rows.empty:
        return pd.DataFrame(columns=columns)
    held = rows["accuracy_validation"] if "accuracy_validation" in rows else np.nan
    labels = [loss_label(loss, gamma) for loss, gamma in zip(rows.loss, rows.gamma, strict=True)]
    rows = rows.assign(loss=labels, beta=rows.beta.fillna(0.0), validation_error=100 * (1 - held))
    return rows[columns].reset_index(drop=True)
