"""Trainings behind the claims on LDAM-DRW in practice: paired seeds at the quick profile, stored rows at the others."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_lib.claims.measured import measured_rows, recalls_by_count, with_worlds
from lt_lib.claims.published import published

if TYPE_CHECKING:
    from lt_lib.recipes import RunConfig, RunResult

Measurements = dict[str, Any]
Trainer = Callable[[Sequence["RunConfig"]], "list[RunResult]"]
# A pandas table. Its stubs cannot follow labels with several levels, so it is not checked further.
Table = Any

# Name in this notebook -> name in `lt_lib.recipes.METHODS`; the order of the published table, then two more.
METHODS = {
    "ERM": "ERM",
    "Focal": "Focal",
    "LDAM": "LDAM",
    "CB RS": "CB RS",
    "CB RW": "CB RW",
    "CB-focal": "CB-focal",
    "HG-DRS": "HG-DRS",
    "LDAM-HG-DRS": "LDAM-HG-DRS",
    "M-DRW": "M-DRW",
    "LDAM-DRW": "LDAM-DRW",
    "DRW": "DRW",
    "LDAM-RW": "LDAM-RW",
}
TYPES = ("exponential", "step")
FRACTIONS = (0.25, 0.5)  # further switches of the sweep, besides 0, 0.8 and never
# Arms with a uniform margin, which the authors tuned, and the margins that are tried: (name, imbalance type).
UNIFORM = (("M-DRW", "exponential"), ("M-DRW", "step"), ("uniform margin", "step"))
MARGINS = (0.1, 0.2, 0.3, 0.5)
TUNING_SEEDS = 3
NUM_SEEDS = 10
# A stage after the switch lasts some 45 steps here and 1,940 on CIFAR: with the papers' factor 0.01 it could not move
# the weights, so the rate falls by 10 at each step. The step profile has twice the samples, hence half the epochs.
_WORLD: dict[str, Any] = {"n_max": 400, "imbalance_ratio": 100.0, "batch_size": 64, "lr_decay": 0.1}
_EPOCHS = {"exponential": 16, "step": 8}
# Epochs of the two-class runs: as the exponential runs, and a shorter length in which LDAM is not yet trained.
REVIEW_EPOCHS = (16, 10)
# Methods of which the three accuracies are compared, and how they are evaluated for it.
SELECTED = ("ERM", "LDAM-DRW")
_SELECTION: dict[str, Any] = {"evaluate_every": 2, "validation_per_class": 20}
_REVIEWS = {"ERM": "ERM", "RS": "RS", "RW": "RW", "LDAM-DRW": "LDAM-DRW"}
# The arm of row 85 that has no name of its own among `lt_lib.recipes.METHODS`.
_UNIFORM = "loss=ldam, margin_rule=uniform"


def world_config(method: str, imbalance_type: str, **changes: Any) -> "RunConfig":
    """Configuration of a method on the Gaussian world, one evaluation after the last epoch.

    Args:
        method: key of `METHODS`.
        imbalance_type: one of `TYPES`.
        changes: further fields of `RunConfig`, applied last.
    """
    from lt_lib.recipes import preset

    epochs = _EPOCHS[imbalance_type]
    fields = {**_WORLD, "imbalance_type": imbalance_type, "epochs": epochs, "evaluate_every": epochs, **changes}
    return preset("gaussian-quick", METHODS[method], **fields)


def uniform_config(name: str, imbalance_type: str, margin: float, **changes: Any) -> "RunConfig":
    """Configuration of an arm of `UNIFORM`; arguments as of `world_config`."""
    method = "LDAM" if name == "uniform margin" else name
    return world_config(method, imbalance_type, margin_rule="uniform", max_margin=margin, **changes)


def tune_margins(train: Trainer) -> Table:
    """Accuracy of every arm of `UNIFORM` on validation, by margin: 100 samples per class of those left undrawn.

    Args:
        train: such as `lt_lib.recipes.run_many`.

    Returns:
        Columns method, imbalance_type, margin, validation: per cent after the last epoch, mean over `TUNING_SEEDS`.
    """
    import pandas as pd

    arms = [(*arm, margin) for arm in UNIFORM for margin in MARGINS]
    configs = [
        uniform_config(*arm, validation_per_class=100, seed=seed, split_seed=seed)
        for arm in arms
        for seed in range(TUNING_SEEDS)
    ]
    scores = [100 * result.curves["accuracy"]["validation"][-1] for result in train(configs)]
    means = np.reshape(scores, (len(arms), TUNING_SEEDS)).mean(axis=1)
    rows = [(*arm, float(mean)) for arm, mean in zip(arms, means, strict=True)]
    return pd.DataFrame(rows, columns=["method", "imbalance_type", "margin", "validation"])


def chosen_margins(tuned: Table) -> dict[tuple[str, str], float]:
    """The margin with the best accuracy on validation for every arm of `UNIFORM`; of equal ones the smallest.

    Args:
        tuned: from `tune_margins`.
    """
    best = tuned.loc[tuned.groupby(["method", "imbalance_type"]).validation.idxmax()]
    return {(row.method, row.imbalance_type): row.margin for row in best.itertuples()}


def plan(margins: Mapping[tuple[str, str], float]) -> "list[tuple[str, RunConfig]]":
    """All (name, configuration) pairs of the notebook, seed 0.

    Plain training and LDAM-DRW under exponential imbalance are evaluated along the way and on a hold-out, which takes
    no sample from the training set.

    Args:
        margins: uniform margin of each arm of `UNIFORM`.
    """
    made = [(name, world_config(name, kind)) for kind in TYPES for name in METHODS if name != "M-DRW"]
    made = [
        (name, config.changed(**_SELECTION) if config.imbalance_type == "exponential" and name in SELECTED else config)
        for name, config in made
    ]
    made += [(name, uniform_config(name, kind, margins[name, kind])) for name, kind in UNIFORM]
    made += [
        (f"{name} at {fraction:g}", world_config(name, "exponential", defer_until=fraction))
        for name in ("DRW", "LDAM-DRW")
        for fraction in FRACTIONS
    ]
    made.append(("CB RW, warm-up", world_config("CB RW", "step", warmup=0.25)))
    for name in ("CB RW", "DRW"):
        made.append((f"{name}, twice the rate", world_config(name, "exponential", learning_rate=0.1)))
        made.append(
            (f"{name}, twice the batch", world_config(name, "step", batch_size=128, epochs=16, evaluate_every=16))
        )
    return made


def measure_runs(
    profile: str,
    rng: np.random.Generator,
    *,
    num_seeds: int = NUM_SEEDS,
    train: Trainer | None = None,
    folder: str | os.PathLike[str] = "",
) -> Measurements:
    """The published tables, "runs": one row per training, errors in percent after the last epoch, and "tuned".

    Columns of "runs": method, imbalance_type, defer_until, seed, error, majority and minority (mean errors over the
    five most and the five least frequent classes), recall_0 to recall_9, and last, validation and best on test
    (accuracies in percent after the last epoch, chosen on validation where there is a hold-out, best on test). Uniform
    margins are chosen on validation; "tuned" is what `tune_margins` found, and is absent at the other profiles, where
    a uniform margin is what the run had.

    Args:
        profile: at "quick" the Gaussian world is trained; at the others the rows of `stored_runs` are taken.
        rng: handed on; the trainings are seeded by number, so that pairs are pairs.
        num_seeds: seeds 0, 1, ... of subset and initial weights.
        train: replaces `lt_lib.recipes.run_many`.
        folder: of the stored rows; `results/` of the source tree if empty.
    """
    import pandas as pd

    if profile != "quick":
        return {**measure_published(profile, rng), "runs": stored_runs(profile, folder)}
    from lt_lib.recipes import run_many

    train = train or run_many
    tuned = tune_margins(train)
    made = plan(chosen_margins(tuned))
    planned = [(name, config.changed(seed=seed, split_seed=seed)) for name, config in made for seed in range(num_seeds)]
    results = train([config for _, config in planned])
    rows = []
    for (name, config), result in zip(planned, results, strict=True):
        recall = np.asarray(result.recall)
        rows.append(
            {
                "method": name,
                "imbalance_type": config.imbalance_type,
                "defer_until": config.defer_until,
                "seed": config.seed,
                "error": 100 * (1 - recall.mean()),
                "majority": 100 * (1 - recall[:5].mean()),
                "minority": 100 * (1 - recall[5:].mean()),
                **{f"recall_{label}": float(value) for label, value in enumerate(recall)},
                "last": 100 * result.accuracy_last,
                "validation": 100 * (result.accuracy_validation or np.nan),
                "best on test": 100 * result.accuracy_best_on_test,
            }
        )
    return {**measure_published(profile, rng), "runs": pd.DataFrame(rows), "tuned": tuned}


def stored_runs(profile: str, folder: str | os.PathLike[str] = "") -> Table:
    """Measured rows of long-tailed CIFAR, with the columns of "runs" and "world", see `measured.with_worlds`.

    Methods have their names in this notebook. Majority and minority are the halves of the classes in the order of
    their counts. Methods of other tables are left out, and so are other values of beta and gamma than the paper's code
    has: 0.9999 and 1.

    Args:
        profile: "small" or "paper".
        folder: of the tables; `results/` of the source tree if empty.
    """
    names = {library: name for name, library in METHODS.items()} | {_UNIFORM: "uniform margin"}
    rows = measured_rows(profile, folder)
    rows = rows[rows.dataset.astype(str).str.startswith("cifar") & rows.method.isin(names)]
    for column, value in (("beta", 0.9999), ("gamma", 1.0)):
        number = rows[column].astype(float)
        rows = rows[number.isna() | np.isclose(number, value)]
    recall = recalls_by_count(rows)
    classes = np.isfinite(recall).sum(axis=1)
    halves = [(row[: n // 2], row[n // 2 : n]) for row, n in zip(recall, classes, strict=True)]
    return with_worlds(rows).assign(
        method=rows.method.map(names),
        majority=[100 * (1 - float(head.mean())) for head, _ in halves],
        minority=[100 * (1 - float(tail.mean())) for _, tail in halves],
    )


def measure_published(
    _profile: str, _rng: np.random.Generator, *, load: Callable[[str], Table] = published
) -> Measurements:
    """The published tables: "cifar" (with the appendix), "imdb", "inat" and "grid" (that of Cui et al.).

    Args:
        _profile: not used; printed numbers do not depend on it.
        _rng: not used.
        load: where the tables come from.
    """
    names = {"cifar": "ldam_cifar", "imdb": "ldam_imdb", "inat": "ldam_inat18", "grid": "cb_cifar_grid"}
    return {key: load(name) for key, name in names.items()}


def measure_reviews(
    profile: str,
    rng: np.random.Generator,
    *,
    num_seeds: int = NUM_SEEDS,
    train: Trainer | None = None,
    folder: str | os.PathLike[str] = "",
) -> Measurements:
    """The published tables and "reviews": a two-class Gaussian world at ratio 10, class 0 playing the positives.

    Columns of "reviews": epochs, method, seed, positive, negative and mean error in percent.

    Args:
        profile: at "quick" the Gaussian world is trained; at the others the rows of `stored_reviews` are taken.
        rng: handed on; see `measure_runs`.
        num_seeds: seeds 0, 1, ... of subset and initial weights.
        train: replaces `lt_lib.recipes.run_many`.
        folder: of the stored rows; `results/` of the source tree if empty.
    """
    import pandas as pd

    if profile != "quick":
        return {**measure_published(profile, rng), "reviews": stored_reviews(profile, folder)}
    from lt_lib import data
    from lt_lib.recipes import preset, run_many

    world = data.gaussian_world(num_classes=2)
    splits = [world.sample(size, np.random.default_rng([0, stream])) for stream, size in ((60, 1000), (61, 2000))]
    dataset = data.Dataset("two classes", splits[0], splits[1], 2, ("positive", "negative"))
    base = {"dataset": dataset.name, "n_max": 300, "imbalance_ratio": 10.0, "batch_size": 64, "lr_decay": 0.1}
    planned = [
        (
            name,
            preset("gaussian-quick", method, **base, epochs=epochs, evaluate_every=epochs, seed=seed, split_seed=seed),
        )
        for epochs in REVIEW_EPOCHS
        for name, method in _REVIEWS.items()
        for seed in range(num_seeds)
    ]
    configs = [config for _, config in planned]
    results = train(configs) if train else run_many(configs, dataset=dataset)
    rows = []
    for (name, config), result in zip(planned, results, strict=True):
        positive, negative = 100 * (1 - np.asarray(result.recall))
        rows.append((config.epochs, name, config.seed, positive, negative, (positive + negative) / 2))
    table = pd.DataFrame(rows, columns=["epochs", "method", "seed", "positive", "negative", "mean"])
    return {**measure_published(profile, rng), "reviews": table}


def stored_reviews(profile: str, folder: str | os.PathLike[str] = "") -> Table:
    """Measured rows of IMDB as a whole, with the columns of "reviews".

    Args:
        profile: "small" or "paper".
        folder: of the tables; `results/` of the source tree if empty.
    """
    import pandas as pd

    rows = measured_rows(profile, folder)
    rows = rows[(rows.dataset == "imdb") & rows.method.isin([*_REVIEWS]) & (rows.n_max == 0)]
    if rows.empty:
        return pd.DataFrame(columns=["epochs", "method", "seed", "positive", "negative", "mean"])
    # In the library negative is class 0 and positive, which keeps all its reviews, class 1.
    negative, positive = (100 * (1 - rows[f"recall_{label}"].astype(float)) for label in (0, 1))
    table = rows[["method", "seed", "number_format"]]
    table = table.assign(positive=positive, negative=negative, mean=(positive + negative) / 2)
    # Tables of other notebooks have that column, this one may not.
    return table.assign(epochs=rows["epochs"].fillna(0).astype(int) if "epochs" in rows else 0)


def selection(runs: Table) -> Table:
    """One training, three numbers, for the methods of `SELECTED` under exponential imbalance.

    Args:
        runs: from `measure_runs` at the quick profile.

    Returns:
        Columns method, seed, last, validation, best on test: accuracy in percent after the last epoch, chosen on
        validation, best on test.
    """
    rows = runs[runs.method.isin(SELECTED) & (runs.imbalance_type == "exponential")]
    return rows[["method", "seed", "last", "validation", "best on test"]].reset_index(drop=True)


def values_of(table: Table, method: str, column: str = "error", **where: Any) -> np.ndarray:
    """One column of the rows of a method, in the order of their seeds.

    Raises:
        ValueError: no row fits, or a seed occurs twice (then the rows are of more than one configuration).
    """
    rows = table[table.method == method]
    for name, value in where.items():
        rows = rows[rows[name] == value]
    if rows.empty or rows.seed.duplicated().any():
        raise ValueError(f"`method` must name one configuration, got {method!r} and {where} with {len(rows)} rows.")
    return rows.sort_values("seed")[column].to_numpy()


def image_rows(folder: str | os.PathLike[str] = "") -> Table:
    """Rows of `measured.measured_rows` from the tables `cifar10-jpeg-*.csv`, of any profile; none without a table.

    Args:
        folder: where the tables are; `results/` at the top of the source tree if empty.
    """
    rows = measured_rows(folder=folder)
    names = ["model", "imbalance_type", "accuracy_validation", "accuracy_best_on_test", "device"]
    rows = rows.reindex(columns=list(dict.fromkeys([*rows.columns, *names])))
    return rows[rows["table"].astype(str).str.match(r"cifar10-jpeg-.*\.csv$")].reset_index(drop=True)
