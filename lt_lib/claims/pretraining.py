r"""Self-supervised pre-training and decoupling: rows 104, 106, 128 to 133 of the ledger of claims.

A gain is the error of training from scratch minus that of training after pre-training, in points. It is judged against
training from scratch for as many epochs *in all*: the published tables compare with a shorter run, which leaves open
whether the task or the additional steps helped. `gain(..., against=SCRATCH)` gives the published comparison.

Rows 106, 130 and 131 have published cells behind them, whose gains are those of `printed_gains`. What our runs show
beside them is combined by `rules.published_and_ours`; rows 129 and 132 have none and rest on our runs alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from lt_lib.claims import _pretraining_runs as runs
from lt_lib.claims._agreement import agreed
from lt_lib.claims._pretraining_runs import CONTROL, SCRATCH, Array
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.measured import MINIMUM_PAIRS, measured_rows, recalls_by_count
from lt_lib.claims.published import published
from lt_lib.claims.rules import at_least, at_most, positive_effect, published_and_ours

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

Key = tuple[float, str, str]  # imbalance ratio, base method, start
MAIN = "rotation"
WORLDS = ("gaussian", "gaussian:0.20", "gaussian:0.05")  # balanced Bayes error 10, 20 and 5 %
EPOCHS = (10, 30)  # of decoupled training: in all worlds, and in the first one


@dataclass(frozen=True)
class Runs:
    """Trained models by imbalance ratio, base method and start; classes are numbered from frequent to rare.

    Attributes:
        recall: (ratio, base, start) -> test recall `(seeds, classes)`; a start is a pretext task, `SCRATCH` for as many
            epochs as after pre-training, or `CONTROL` for as many as pre-training and training together.
        score: (ratio, task) -> how well the task is done on test images `(seeds,)`.
        curve: (ratio, task) -> mean score on training batches by epoch `(epochs,)`.
        probe: (ratio, start) -> accuracy of a linear probe before any training with labels `(seeds,)`.
    """

    recall: Mapping[Key, Array]
    score: Mapping[tuple[float, str], Array] = field(default_factory=dict)
    curve: Mapping[tuple[float, str], Array] = field(default_factory=dict)
    probe: Mapping[tuple[float, str], Array] = field(default_factory=dict)

    def error(self, ratio: float, base: str, start: str) -> Array:
        """Balanced test error in percent `(seeds,)`."""
        return 100 * (1 - self.recall[ratio, base, start].mean(axis=1))

    def gain(self, ratio: float, base: str, start: str = MAIN, *, against: str = CONTROL) -> Array:
        """Points of balanced error that the start is better than `against` `(seeds,)`."""
        return self.error(ratio, base, against) - self.error(ratio, base, start)

    def class_gain(self, ratio: float, base: str, start: str = MAIN, *, against: str = CONTROL) -> Array:
        """The same for every class `(seeds, classes)`."""
        return 100 * (self.recall[ratio, base, start] - self.recall[ratio, base, against])

    def settings(self, start: str = MAIN, *, against: str = CONTROL) -> list[tuple[float, str]]:
        """Ratios and bases for which both sides of a gain were trained."""
        return sorted((r, b) for r, b, s in self.recall if s == start and (r, b, against) in self.recall)


def train_digits() -> Runs:
    """All trainings on the digits: three ratios, four tasks at the largest, four base methods at the two larger."""
    recall: dict[Key, Array] = {}
    score, curve, probe = {}, {}, {}
    for ratio in runs.RATIOS:
        world = runs.digit_world(ratio)
        tasks = tuple(runs.TASKS) if ratio == max(runs.RATIOS) else (MAIN,)
        starts: dict[str, runs.Pretrained | None] = {SCRATCH: None}
        starts |= {task: runs.pretrain_digits(world, task) for task in tasks}
        arms = {(ratio, "CE", name): runs.Arm("CE", start) for name, start in starts.items()}
        for base in runs.BASES if ratio > 1 else ("CE",):
            arms[ratio, base, CONTROL] = runs.Arm(base, None, runs.PRETRAIN_EPOCHS + runs.EPOCHS)
            arms[ratio, base, MAIN] = runs.Arm(base, starts[MAIN])
        recall |= runs.train_arms(world, arms)
        for name, start in starts.items():
            if ratio == max(runs.RATIOS):
                probe[ratio, name] = runs.probe_digits(world, start)
            if start is not None:
                score[ratio, name], curve[ratio, name] = start.score, start.curve
    return Runs(recall, score, curve, probe)


def recorded_rows(folder: str | os.PathLike[str] = "") -> pd.DataFrame:
    """Measured rows of `run_pretrain`: of all tables with its columns, empty when there is none.

    Args:
        folder: where the tables are; `results/` at the top of the source tree if empty.
    """
    import pandas as pd

    columns = "dataset profile model base pretext classifier imbalance_type imbalance_ratio n_max epochs".split()
    columns += ["pretrain_epochs", "seed"]
    rows = measured_rows(folder=folder)
    if {*columns} <= set(rows.columns):
        # Rows of self-training have a task too, and no classifier.
        kept = rows["pretext"].notna() & rows["classifier"].notna() & rows["imbalance_type"].notna()
        return rows[kept].dropna(axis=1, how="all").reset_index(drop=True)
    return pd.DataFrame(columns=columns)


def trained_rows(table: pd.DataFrame, profile: str) -> pd.DataFrame:
    """The rows of one profile on exponential counts and with the trained classifier, which the ledger speaks of.

    Args:
        table: from `recorded_rows`.
        profile: "small" or "paper".
    """
    kept = (table.profile == profile) & (table.classifier == "head") & (table.imbalance_type == "exponential")
    return table[kept]


def recorded_cells(table: pd.DataFrame, profile: str) -> dict[tuple[float, Key], dict[int, Array]]:
    """The rows of one profile by size of the labelled set and key of `Runs`: recall `(classes,)` by seed.

    Only `trained_rows` are taken. Rows without pre-training count as `CONTROL` where they are as long as pre-training
    and training of the others of their size together, as `SCRATCH` otherwise.

    Args:
        table: from `recorded_rows`, of one data set and one network.
        profile: "small" or "paper".

    Returns:
        (n_max, key) -> seed -> recall; n_max as in `measured.measured_rows`, 0 being the whole set.

    Raises:
        ValueError: rows of several data sets or networks, or two of the same seed.
    """
    rows = trained_rows(table, profile)
    kinds = rows[["dataset", "model"]].drop_duplicates()
    if len(kinds) > 1:
        raise ValueError(f"`table` must be of one data set and network, got {kinds.to_numpy().tolist()}.")
    found: dict[tuple[float, Key], dict[int, Array]] = {}
    by_size: Any = rows.groupby("n_max")
    for size, block in by_size:
        with_task = block[block.pretext != "none"]
        total = set(with_task.epochs + with_task.pretrain_epochs)
        for recall, (_, row) in zip(recalls_by_count(block), block.iterrows(), strict=True):
            start = row.pretext if row.pretext != "none" else CONTROL if row.epochs in total else SCRATCH
            base = str({"ERM": "CE"}.get(row.base, row.base))
            cell = found.setdefault((float(size), (float(row.imbalance_ratio), base, start)), {})
            if int(row.seed) in cell:
                raise ValueError(f"`table` must hold every run once, got seed {row.seed} twice for {base} + {start}.")
            cell[int(row.seed)] = recall
    return found


def recorded_runs(table: pd.DataFrame, profile: str) -> Runs:
    """The rows of one profile as `Runs`, with the seeds that all its arms have.

    An arm that is not done is left out rather than take the seeds of the others: from the arm with most seeds to that
    with fewest, one is taken if `MINIMUM_PAIRS` seeds are still shared with it. If no arm has as many, all are taken.

    Of several sizes of the labelled set the largest is taken: the rows of the ledger but 138 speak of a whole one.

    Args:
        table: as in `recorded_cells`.
        profile: "small" or "paper".

    Raises:
        ValueError: as `recorded_cells`.
    """
    cells = recorded_cells(table, profile)
    largest = max((size or np.inf for size, _ in cells), default=0.0)
    found = {key: cell for (size, key), cell in cells.items() if (size or np.inf) == largest}
    taken: dict[Key, dict[int, Array]] = {}
    for key, cell in sorted(found.items(), key=lambda each: (-len(each[1]), each[0])):
        if len(_shared([*taken.values(), cell])) >= MINIMUM_PAIRS:
            taken[key] = cell
    taken = taken or found
    seeds = _shared([*taken.values()])
    return Runs({key: np.stack([taken[key][seed] for seed in seeds]) for key in found if key in taken and seeds})


def _shared(cells: list[dict[int, Array]]) -> list[int]:
    """The seeds that all cells have, in their order."""
    return sorted(set.intersection(*map(set, cells))) if cells else []


def judged_world(table: pd.DataFrame, profile: str) -> pd.DataFrame:
    """The rows of the data set and network that the ledger speaks of, where several were run.

    CIFAR-10 and its copies come before all other data sets; of those, the data set and network with most rows is taken
    (`trained_rows`), and of equally many the first by name. No result decides.

    Args:
        table: from `recorded_rows`.
        profile: "small" or "paper".
    """
    rows = trained_rows(table, profile)
    main = rows.dataset.astype(str).str.fullmatch("cifar10(-.*)?")
    rows = rows[main] if main.any() else rows
    worlds = rows.groupby(["dataset", "model"]).size()
    if worlds.empty:
        return rows
    dataset, model = min(worlds.index, key=lambda world: (-worlds[world], world))
    return rows[(rows.dataset == dataset) & (rows.model == model)]


def measure_gains(profile: str, rng: np.random.Generator, *, folder: str | os.PathLike[str] = "") -> Runs:
    """Trainings on digits at quick, seeds 0 to 9 whatever `rng`; the rows of measured runs at small and paper.

    Of measured runs on several data sets or networks those of `judged_world` are taken.

    Args:
        profile: "quick", "small" or "paper".
        rng: not used; trainings are seeded by number.
        folder: of the rows; `results/` of the source tree if empty.
    """
    if profile == "quick":
        return train_digits()
    return recorded_runs(judged_world(recorded_rows(folder), profile), profile)


def _missing(measured: Runs, *needed: Key) -> Judgement | None:
    """A judgement that says which runs there are not enough of, or None."""
    for key in needed:
        pairs = len(measured.recall.get(key, ()))
        if pairs < MINIMUM_PAIRS:
            name = f"{key[1]}, {key[2]}, ratio {key[0]:g}"
            there = f"there {'is' if pairs == 1 else 'are'} {pairs}"
            return Judgement("not judged", why=f"needs {MINIMUM_PAIRS} measured seeds of {name}; {there}")
    return None


def _ratios(measured: Runs) -> list[float]:
    return sorted({ratio for ratio, base in measured.settings() if base == "CE"})


def printed_gains() -> pd.DataFrame:
    """Published gains of pre-training in points, as far as the error without it is printed for the same training.

    The baselines of CIFAR-10 with cross entropy, plain and balanced, are cells of Cui et al.: the plain softmax, and
    the lowest over beta of the class-balanced ones. The quoted tables have none for CIFAR-100, so that the same cells
    are taken there. On iNaturalist 2018 Cui et al. trained with other batches and rates, which makes no pair.

    Returns:
        Columns dataset, method, ratio, baseline (its method), before and after (errors in percent) and gain.
    """
    import pandas as pd

    def errors(table: str, method: str) -> pd.DataFrame:
        cells = published(table)
        return cells[(cells.method == method) & cells.setting.isna() & (cells.imbalance_type != "step")]

    plain = published("cb_cifar").query("method == 'plain' and loss == 'softmax'")
    labels = "value_of_labels"
    balanced = published("cb_cifar_grid").query("method == 'class_balanced' and loss == 'softmax'")
    balanced = balanced.groupby(["dataset", "ratio"], as_index=False).value.min().query("dataset == 'cifar100'")
    # Pre-trained -> the method without it, and its printed cells.
    pairs = {
        "CE+SSP": ("CE", plain),
        "LDAM-DRW+SSP": ("LDAM-DRW", errors(labels, "LDAM-DRW")),
        "CE(balanced)+SSP": ("CB-CE", pd.concat([errors(labels, "CB-CE"), balanced])),
        "cRT+SSP": ("cRT", errors(labels, "cRT")),
    }
    parts = []
    for method, (baseline, before) in pairs.items():
        joined = before.merge(errors(labels, method), on=["dataset", "ratio"], suffixes=("_before", "_after"))
        part = joined[["dataset", "ratio"]].assign(method=method, baseline=baseline)
        part["before"], part["after"] = joined.value_before, joined.value_after
        parts.append(part)
    found = pd.concat(parts, ignore_index=True)
    return found.assign(gain=found.before - found.after)[
        ["dataset", "method", "ratio", "baseline", "before", "after", "gain"]
    ]


def _printed() -> Judgement:
    gains = printed_gains().gain
    if gains.empty:
        raise ValueError("`printed_gains` must hold a gain, got none.")
    return at_least(int((gains > 0).sum()), len(gains), name=f"positive ones of {len(gains)} printed gains")


def _printed_ends() -> Judgement:
    """Every row in print with several ratios gains more at its largest than at its smallest."""
    gains = printed_gains().sort_values("ratio")
    ends = gains.groupby(["dataset", "method"]).gain.agg(["first", "last", "count"])
    ends = ends[ends["count"] > 1]
    if ends.empty:
        raise ValueError("`printed_gains` must hold a row with two ratios, got none.")
    more = int((ends["last"] > ends["first"]).sum())
    return at_least(more, len(ends), name=f"of {len(ends)} rows in print, those that gain more at the largest ratio")


def helps_here(measured: Runs, *, against: str = CONTROL) -> Judgement:
    """Our half of row 106: rotation, then cross entropy, beats training from scratch at every imbalanced ratio."""
    ratios = [ratio for ratio in _ratios(measured) if ratio > 1] or [100.0]
    lacking = _missing(measured, *((ratio, "CE", start) for ratio in ratios for start in (MAIN, against)))
    if lacking:
        return lacking
    return worst(
        positive_effect(
            measured.gain(ratio, "CE", against=against), unit=f"points (gain of rotation, CE, ratio {ratio:g})"
        )
        for ratio in ratios
    )


def judge_helps(measured: Runs) -> Judgement:
    """Row 106: every printed gain is positive, and rotation gains before cross entropy at every imbalanced ratio."""
    ours = helps_here(measured)
    return ours if ours.verdict == "not judged" else published_and_ours(_printed(), ours)


def judge_all_tasks(measured: Runs, *, against: str = CONTROL) -> Judgement:
    """Row 129: every task gains at the largest ratio, and the gains differ (Friedman test over seeds, p <= .05)."""
    from scipy import stats

    ratio = max(_ratios(measured), default=100.0)
    tasks = [task for task in runs.TASKS if (ratio, "CE", task) in measured.recall]
    if len(tasks) < 2:
        return Judgement("not judged", why=f"needs two tasks at ratio {ratio:g}; there is {', '.join(tasks) or 'none'}")
    lacking = _missing(measured, *((ratio, "CE", start) for start in (*tasks, against)))
    if lacking:
        return lacking
    gains = {task: measured.gain(ratio, "CE", task, against=against) for task in tasks}
    if len(tasks) > 2:
        p_value = float(stats.friedmanchisquare(*gains.values()).pvalue)
    else:
        p_value = float(stats.ttest_rel(*gains.values()).pvalue)
    # No difference shown is no proof of equality.
    spread = Judgement("holds" if p_value <= 0.05 else "inconclusive", p_value, threshold="p of equal gains <= 0.05")
    parts = [positive_effect(values, unit=f"points (gain of {task})") for task, values in gains.items()]
    return worst([*parts, spread])


def imbalance_here(measured: Runs, *, against: str = CONTROL) -> Judgement:
    """Our half of row 130: the gain at the largest ratio exceeds that at the smallest."""
    ratios = _ratios(measured)
    if len(ratios) < 2:
        return Judgement(
            "not judged", why=f"needs two imbalance ratios; there is {f'{ratios[0]:g}' if ratios else 'none'}"
        )
    lacking = _missing(measured, *((ratio, "CE", s) for ratio in (ratios[0], ratios[-1]) for s in (MAIN, against)))
    if lacking:
        return lacking
    low, high = (measured.gain(ratio, "CE", against=against) for ratio in (ratios[0], ratios[-1]))
    unit = f"points (gain at ratio {ratios[-1]:g} - gain at ratio {ratios[0]:g})"
    return positive_effect(high - low, unit=unit)


def judge_imbalance(measured: Runs) -> Judgement:
    """Row 130: the gain at the largest ratio exceeds that at the smallest, in print and in our runs.

    What lies between is not asked: that the printed gains are out of order there is erratum E73.
    """
    ours = imbalance_here(measured)
    return ours if ours.verdict == "not judged" else published_and_ours(_printed_ends(), ours)


def uniform_here(measured: Runs, *, against: str = CONTROL) -> Judgement:
    """Our half of row 131: every mean gain at an imbalanced ratio is >= 0, and at least 80 % hold by the rule.

    One setting whose gain is shown to be negative refutes it. The statistic is the share of settings that hold.
    """
    settings = [(ratio, base) for ratio, base in measured.settings(against=against) if ratio > 1]
    bases = sorted({base for _, base in settings})
    if len(bases) < 2:
        return Judgement("not judged", why=f"needs two base methods; there is {', '.join(bases) or 'none'}")
    lacking = _missing(measured, *((*setting, start) for setting in settings for start in (MAIN, against)))
    if lacking:
        return lacking
    parts = [positive_effect(measured.gain(*setting, against=against)) for setting in settings]
    share = float(np.mean([part.verdict == "holds" for part in parts]))
    if any(part.verdict == "refuted" for part in parts):
        verdict = "refuted"
    else:
        verdict = "holds" if share >= 0.8 and all(part.statistic >= 0 for part in parts) else "inconclusive"
    return Judgement(verdict, share, threshold=f"no mean gain < 0, >= 80 % of {len(parts)} settings hold by paired t")


def judge_uniform(measured: Runs) -> Judgement:
    """Row 131: every printed gain is positive, and so are ours over base methods and imbalanced ratios."""
    ours = uniform_here(measured)
    return ours if ours.verdict == "not judged" else published_and_ours(_printed(), ours)


def judge_classes(measured: Runs, *, against: str = CONTROL) -> Judgement:
    """Row 132: at least 80 % of the classes do not lose, and the rarest third gains more than the most frequent one."""
    ratio = max(_ratios(measured), default=100.0)
    lacking = _missing(measured, (ratio, "CE", MAIN), (ratio, "CE", against))
    if lacking:
        return lacking
    gains = measured.class_gain(ratio, "CE", against=against)
    third = gains.shape[1] // 3
    difference = gains[:, -third:].mean(axis=1) - gains[:, :third].mean(axis=1)
    share = float(np.mean(gains.mean(axis=0) >= 0))
    rarest = positive_effect(difference, unit="points (gain of the rarest third - of the most frequent)")
    return worst([rarest, at_least(share, 0.8, name="share of classes that do not lose")])


def report(measured: Runs) -> pd.DataFrame:
    """Mean error, worst-class error, and head and tail thirds in percent, one row per setting; means over seeds."""
    import pandas as pd

    rows = []
    for (ratio, base, start), recall in sorted(measured.recall.items()):
        third = recall.shape[1] // 3
        parts = {
            "error": recall.mean(axis=1),
            "worst class": recall.min(axis=1),
            "head third": recall[:, :third].mean(axis=1),
            "tail third": recall[:, -third:].mean(axis=1),
        }
        rows.append((ratio, base, start, *(100 * (1 - float(values.mean())) for values in parts.values())))
    return pd.DataFrame(rows, columns=["ratio", "base", "start", *parts] if rows else None)


@dataclass(frozen=True)
class Decoupled:
    """Joint training and new classifiers in Gaussian worlds at ratio 100.

    Attributes:
        class_counts: training samples per class.
        recall: (world, epochs) -> name -> test recall `(seeds, classes)`; see
            `lt_lib.claims._pretraining_runs.decoupled_runs`.
        chosen: kind -> what validation chose in the default world after `EPOCHS`, one per seed.
    """

    class_counts: Array
    recall: Mapping[tuple[str, int], Mapping[str, Array]]
    chosen: Mapping[str, list[Any]] = field(default_factory=dict)

    def gain(self, world: str, epochs: int) -> Array:
        """Points of balanced error that cRT is better than joint training with weights 1/n `(seeds,)`."""
        found = self.recall[world, epochs]
        return 100 * (found["crt"].mean(axis=1) - found["RW"].mean(axis=1))


def measure_decoupling(profile: str, rng: np.random.Generator) -> Decoupled:
    """Joint training, and cRT in three worlds; all four classifiers in the first, which is also trained for longer.

    Seeds 0 to 9 whatever `rng`.
    """
    from lt_lib.training.decoupling import CLASSIFIERS

    recall, (usual, longer) = {}, EPOCHS
    class_counts, recall[WORLDS[0], usual], chosen = runs.decoupled_runs(WORLDS[0], CLASSIFIERS, epochs=usual)
    for world in WORLDS[1:]:
        recall[world, usual] = runs.decoupled_runs(world, epochs=usual)[1]
    recall[WORLDS[0], longer] = runs.decoupled_runs(WORLDS[0], epochs=longer)[1]
    return Decoupled(class_counts, recall, chosen)


def judge_decoupling(measured: Decoupled) -> Judgement:
    """Row 104: cRT has a lower error than joint training with weights 1/n, with one verdict at each length."""
    found = {}
    for epochs in sorted({epochs for _, epochs in measured.recall}):
        worlds = [world for world, length in measured.recall if length == epochs]
        found[f"{epochs} epochs"] = worst(
            positive_effect(measured.gain(world, epochs), unit=f"points (RW - cRT, {world}, {epochs} epochs)")
            for world in worlds
        )
    return agreed(found, "RW - cRT > 0")


Transfer = Callable[["Mapping[str, Tensor]", Any], Any]


def measure_transfer(profile: str, rng: np.random.Generator, carry: Transfer | None = None) -> dict[str, int]:
    """Transfer from four-way rotation networks to ten-class ones, and count tensors; MLP, CNN and ResNet-8.

    Args:
        profile: the same at each.
        rng: makes every number of the source its own.
        carry: (source state, fresh model) -> changes the model; the library's `transfer` if None.

    Returns:
        "body": tensors outside the last layer; "copied": those equal to the source; "changed head": tensors of the
        last layer that are no longer those of the fresh model.
    """
    import torch

    from lt_lib import models
    from lt_lib.training import transfer

    carry = carry or transfer
    makers: list[Callable[[int], Any]] = [
        lambda n: models.MLP(64, n),
        lambda n: models.SmallCNN(1, n),
        lambda n: models.CifarResNet(8, n, in_channels=1),
        lambda n: models.CifarResNet(8, n, in_channels=1, head="cosine"),
    ]
    found = {"body": 0, "copied": 0, "changed head": 0}
    for number, make in enumerate(makers):
        for num_classes in (10, 4):  # a last layer of the same shape could be copied by mistake
            trained, fresh = (models.seeded(partial(make, n), number) for n in (4, num_classes))
            source = {
                name: torch.from_numpy(np.asarray(rng.normal(size=tuple(value.shape)))).to(value.dtype)
                for name, value in trained.state_dict().items()
            }
            before = {name: value.clone() for name, value in fresh.state_dict().items()}
            carry(source, fresh)
            for name, value in fresh.state_dict().items():
                if name.startswith("head."):
                    found["changed head"] += int(not torch.equal(value, before[name]))
                else:
                    found["body"] += 1
                    found["copied"] += int(torch.equal(value, source[name]))
    return found


def judge_transfer(measured: dict[str, int]) -> Judgement:
    """Row 128: all tensors outside the last layer are copied, none of the last layer is."""
    wrong = measured["body"] - measured["copied"] + measured["changed head"]
    return at_most(wrong, 0, name=f"of {measured['body']} tensors and the last layers, wrong ones")


# (images, positions of the labelled ones, labels of all) -> learned numbers
Learner = Callable[["Tensor", "Tensor", "Tensor"], "Tensor"]


def measure_label_use(
    profile: str, rng: np.random.Generator, learners: Mapping[str, Learner] | None = None
) -> dict[str, float]:
    """Both ways learn twice, the second time with the true labels of the pool shuffled.

    A fifth of the images is the labelled set; the rest is the pool. (For pre-training, all images are the pool.)

    Args:
        profile: the same at each.
        rng: shuffles the labels.
        learners: name -> what learns; the library's four pre-trainings and its pseudo-labelling if None.

    Returns:
        name -> largest change of any learned number.
    """
    import torch

    world = runs.digit_world(10.0, num_seeds=1)
    images, labels = world.images, world.targets
    labelled = torch.arange(0, len(images), 5)
    pool = torch.from_numpy(np.setdiff1d(np.arange(len(images)), labelled.numpy()))
    shuffled = labels.clone()
    shuffled[pool] = labels[pool[torch.from_numpy(rng.permutation(len(pool)))]]
    learners = learners or {**{task: _pretext_learner(task) for task in runs.TASKS}, "pseudo-labels": learn_with_pool}
    return {
        name: float((learn(images, labelled, labels) - learn(images, labelled, shuffled)).abs().max())
        for name, learn in learners.items()
    }


def judge_label_use(changes: dict[str, float]) -> Judgement:
    """Row 133: nothing that is learned depends on a label of the pool, to the last bit."""
    return at_most(max(changes.values()), 0.0, name="largest change when the pool's labels are shuffled")


def _pretext_learner(name: str) -> Learner:
    """Weights after two epochs of pre-training; no function behind it has an argument for labels."""
    import torch

    from lt_lib.training import pretraining

    def learn(images: Tensor, _labelled: Tensor, _labels: Tensor) -> Tensor:
        task, network = runs.task_and_network(name, 0)
        rng = torch.Generator().manual_seed(0)
        pretraining.pretrain(network.double(), images, task, learning_rate_at=lambda _: 0.1, epochs=2, rng=rng)
        return _weights(network)

    return learn


def learn_with_pool(images: Tensor, labelled: Tensor, labels: Tensor) -> Tensor:
    """Weights after a few steps of pseudo-labelling with a low threshold; it gets the labels of the labelled part."""
    import torch

    from lt_lib import models, training

    unlabelled = torch.from_numpy(np.setdiff1d(np.arange(len(images)), labelled.numpy()))
    stream = training.Stream(labelled, labels[labelled], unlabelled, torch.Generator().manual_seed(0))
    network = models.seeded(lambda: models.MLP(64, 10), 0).double()
    training.fit_semi(
        network, images, stream, rule=training.pseudo_label(0.3), weak=lambda x, _: x, strong=lambda x, _: x,
        learning_rate_at=lambda _: 0.05, epochs=1, steps_per_epoch=20, num_classes=10, unlabelled_ratio=2,
    )  # fmt: skip
    return _weights(network)


def _weights(network: Any) -> Tensor:
    import torch

    return torch.cat([value.detach().flatten() for value in network.state_dict().values()])


_RULE = "paired one-sided 95 % t against training from scratch of equal length in all"
_ALL = ("quick", "small", "paper")
CHECKS: tuple[Check, ...] = (
    Check(
        Claim(104, "S3 L45-52", "E", "Learning the representation first and the classifier afterwards is the best "
              "known way.", "cRT beats joint training with weights 1/n at 10 epochs in three worlds and at 30 in one, "
              "paired one-sided 95 % t; undecided where the lengths disagree"),
        measure_decoupling, judge_decoupling,
    ),
    Check(
        Claim(106, "S3 L59", "E", "Labels can also harm by their bias, and an initialisation that does not see them "
              "helps.", f"printed gains > 0; rotation, then cross entropy, gains at every imbalanced ratio, {_RULE}"),
        measure_gains, judge_helps, _ALL, recorded=True,
    ),
    Check(
        Claim(128, "S3 L175", "D", "Pre-train without labels, then train in any usual way.",
              "the last layer is new, all else is copied"),
        measure_transfer, judge_transfer, _ALL,
    ),
    Check(
        Claim(129, "S3 L177", "E", "Every self-supervised task helps, some more than others.",
              f"each gains, {_RULE}; the gains differ, Friedman p <= .05"),
        measure_gains, judge_all_tasks, _ALL, recorded=True,
    ),
    Check(
        Claim(130, "S3 L181", "E", "The more imbalanced the data, the larger the gain of pre-training.",
              f"gain at the largest ratio > gain at the smallest: in every row in print; of rotation, {_RULE}"),
        measure_gains, judge_imbalance, _ALL, recorded=True,
    ),
    Check(
        Claim(131, "S3 L182", "E", "Pre-training lifts every base method in every setting.",
              f"printed gains > 0; no mean gain of ours < 0, >= 80 % of the settings by the {_RULE}"),
        measure_gains, judge_uniform, _ALL, recorded=True,
    ),
    Check(
        Claim(132, "S3 L183", "E", "All classes gain from pre-training, the rare ones most.",
              ">= 80 % of the classes do not lose; rarest third > most frequent third, paired one-sided 95 % t"),
        measure_gains, judge_classes, _ALL, recorded=True,
    ),
    Check(
        Claim(133, "S3 L189-190", "Q", "Neither way asks for more labels by hand.",
              "nothing that is learned changes when the labels of the pool are shuffled"),
        measure_label_use, judge_label_use, _ALL,
    ),
)  # fmt: skip
