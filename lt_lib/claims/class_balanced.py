"""Checks of the claims about the class-balanced losses (Cui et al., CVPR 2019), judged by notebook 040.

Three sources of evidence, one `measure` each or shared: formulas, arithmetic on the published tables, and paired
trainings on two small worlds. Checks that share a `measure` share its measurements, so nothing is trained twice.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from lt_lib import counts
from lt_lib.claims._agreement import agreed
from lt_lib.claims._class_balanced_runs import (
    FAMILIES,
    WORLDS,
    Measurements,
    errors_of,
    gains_over_plain,
    main_rows,
    mean_sample_weight,
    measure_decay,
    measure_prior_bias,
    measure_sweep,
    nested_gain,
    paired_gains,
    stored_gains,
    stored_nested_gain,
    stored_rows,
    sweep_configs,
    train_rows,
    world_config,
)
from lt_lib.claims._class_balanced_tables import (
    BETAS,
    PLAIN_LOSSES,
    SLIDE_LOSSES,
    best_balanced,
    error_grid,
    large_pairs,
    loss_label,
    measure_published,
    panel_gains,
    share_better,
)
from lt_lib.claims._printed import SINGLE_RUN, printed_difference
from lt_lib.claims.core import Check, Claim, Judgement, worst
from lt_lib.claims.measured import lacking, together
from lt_lib.claims.rules import at_least, at_most, positive_effect, published_and_ours

__all__ = [
    "BETAS",
    "CHECKS",
    "FAMILIES",
    "PLAIN_LOSSES",
    "SLIDE_LOSSES",
    "WORLDS",
    "best_balanced",
    "error_grid",
    "errors_of",
    "gains_over_plain",
    "large_pairs",
    "loss_label",
    "main_rows",
    "mean_sample_weight",
    "measure_balanced",
    "measure_decay",
    "measure_focal_descent",
    "measure_losses",
    "measure_prior_bias",
    "measure_published",
    "measure_sweep",
    "measure_weights",
    "naive_loss",
    "nested_gain",
    "paired_gains",
    "panel_gains",
    "printed_focal",
    "share_better",
    "stored_rows",
    "stored_gains",
    "stored_nested_gain",
    "sweep_configs",
    "train_rows",
    "world_config",
]

_ALL = ("quick", "small", "paper")


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
    differences, lowest, step = [], np.inf, 1e-5
    for label, module in modules.items():
        z = torch.tensor(logits, requires_grad=True)
        loss = module(z, torch.from_numpy(targets))
        (gradient,) = torch.autograd.grad(loss.sum(), z)
        for row, y, fast, grad in zip(logits, targets, loss.tolist(), gradient.numpy(), strict=True):
            naive = partial(reference, label, target=int(y), weight=float(weight[y]))
            differences.append(naive(row) - fast)
            for axis in (0, 5, 9):
                move = step * np.eye(10)[axis]
                differences.append((naive(row + move) - naive(row - move)) / (2 * step) - grad[axis])
        lowest = min(lowest, float(loss.detach().min()))
    return {"compared": len(differences), "apart": _number_above(differences, 1e-6), "lowest": lowest}


def _number_above(differences: Sequence[float], tolerance: float) -> int:
    """How many differ; NaN does. The size of what is mere rounding would not print the same on another processor."""
    return int((~(np.abs(np.asarray(differences)) <= tolerance)).sum())


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
    differences = [weights(sizes, beta, on_ineffective_beta="ignore") - 1 for beta in BETAS]
    configs = [
        world_config("digits", "softmax", beta, imbalance_type="balanced", n_max=60, epochs=4)
        for beta in (None, BETAS[-1])
    ]
    plain, balanced = (np.array(result.curves["train_loss"]) for result in run_many(configs))
    values = np.concatenate([*differences, plain - balanced])
    return {"compared": values.size, "apart": _number_above(list(values), 1e-12)}


def _decide(passed: bool, statistic: float, threshold: str) -> Judgement:
    return Judgement("holds" if passed else "refuted", float(statistic), threshold=threshold)


def _judge_weights(measured: Measurements) -> Judgement:
    largest = max(measured["deviation"], measured["flat"], measured["inverse"])
    return at_most(largest, 1e-6, name="largest relative deviation, ends of beta included,")


def _judge_inverse_to_count(measured: Measurements) -> Judgement:
    return at_most(measured["against_inverse"], 0.01, name="least spread of weight x count over the usual beta")


def _judge_losses(measured: Measurements) -> Judgement:
    sign = at_least(measured["lowest"], 0.0, name="lowest loss")
    number = measured["compared"]
    return worst([at_most(measured["apart"], 0, name=f"values and slopes of {number} more than 1e-6 apart"), sign])


def _judge_printed_focal(measured: Measurements) -> Judgement:
    learns = at_least(measured["accuracy"], 0.5, name="accuracy after descent")
    return worst([at_least(measured["lowest"], 0.0, name="lowest value"), learns])


def _judge_balanced(measured: Measurements) -> Judgement:
    number = measured["compared"]
    return at_most(measured["apart"], 0, name=f"weights and training losses of {number} more than 1e-12 apart")


def _judge_selection(measured: Measurements) -> Judgement:
    table = error_grid(measured["table"])[0.0].unstack("loss")
    best = measured["table"].query("method == 'class_balanced_best' and ratio > 1").set_index(["dataset", "ratio"])
    below = sum(bool((value < table.loc[key]).all()) for key, value in best.value.items())
    return published_and_ours(
        at_least(below, 8, name="columns of 10, selected on the test set,"), _selected_on_validation(measured)
    )


def _selected_on_validation(measured: Measurements) -> Judgement:
    rule = "points, both sides selected on validation"
    if "stored" not in measured:
        return positive_effect(nested_gain(measured["runs"]), unit=rule)
    found = stored_nested_gain(measured["stored"]["batch"])
    parts = [positive_effect(gain, unit=f"{rule} ({world})") for world, gain in found.items()]
    return worst(parts) if parts else lacking("all plain", "all class-balanced losses", "with a hold-out")


def _judge_stored(measured: Measurements, minimum: float) -> Judgement:
    """Every family of losses with the authors' normaliser; with the other one, what there is."""
    parts = []
    for normalization, rows in measured["stored"].items():
        for family, found in stored_gains(rows).items():
            parts += [
                positive_effect(gain, minimum=minimum, unit=f"points ({label}, mean over {normalization})")
                for label, gain in found.items()
            ]
            if not found and normalization == "batch":
                parts.append(lacking(f"class-balanced {family}", "the plain loss", f"at beta {BETAS[-1]:g}"))
    return together(parts)


def _judge_worlds(measured: Measurements, minimum: float, normalizations: Mapping[str, Sequence[str]]) -> Judgement:
    """Every loss in each world, with each normaliser that is asked for there; the worlds must agree."""
    parts = {
        world: worst(
            positive_effect(gain, minimum=minimum, unit=f"points ({loss}, {world}, mean over {normalization})")
            for normalization in kinds
            for loss, gain in gains_over_plain(measured["runs"], world, BETAS[-1], normalization).items()
        )
        for world, kinds in normalizations.items()
    }
    return agreed(parts, f"each loss gains > {minimum:g} points, one-sided 95 % t")


def _judge_significant(measured: Measurements) -> Judgement:
    if "stored" in measured:
        return _judge_stored(measured, 1.0)
    # The runs that divide by the sum of weights are those of section 6 of the notebook, in one of the worlds.
    return _judge_worlds(measured, 1.0, {"digits": ("batch",), "gaussian": ("batch", "weights")})


def _judge_all_losses(measured: Measurements) -> Judgement:
    if "stored" in measured:
        return _judge_stored(measured, 0.0)
    return _judge_worlds(measured, 0.0, dict.fromkeys(WORLDS, ("batch",)))


def _judge_beats_softmax(measured: Measurements) -> Judgement:
    share = share_better(measured["table"])
    return _decide(bool((share > 0.5).all()), share.min(), "share of columns > 0.5 for each loss; least share shown")


def _judge_cifar10_betas(measured: Measurements) -> Judgement:
    """A gain or a rise of the wrong sign contradicts only where it is more than single runs scatter."""
    gains = panel_gains(measured["grid"], "cifar10")
    least = float(min(gains.min(), np.diff(gains, axis=1).min()))
    verdict = "holds" if least > 0 else "refuted" if least <= -SINGLE_RUN else "inconclusive"
    rule = f"least of 12 gains and 9 rises > 0; refuted if <= -{SINGLE_RUN:g} points, what single runs can tell"
    return Judgement(verdict, least, threshold=rule)


def _judge_cifar100_betas(measured: Measurements) -> Judgement:
    pattern = (panel_gains(measured["grid"], "cifar100") > 0) == np.array([True, True, False, False])
    return at_least(int(pattern.all(axis=1).sum()), 2, name="losses of 3 with the pattern + + - -")


def _best_betas(measured: Measurements, dataset: str) -> np.ndarray:
    best = best_balanced(error_grid(measured["grid"]))
    return best[best.dataset == dataset].beta.to_numpy()


def _judge_best_beta_cifar10(measured: Measurements) -> Judgement:
    return at_least(int((_best_betas(measured, "cifar10") == BETAS[-1]).sum()), 4, name="columns of 5 best at 0.9999")


def _judge_best_beta_cifar100(measured: Measurements) -> Judgement:
    betas = _best_betas(measured, "cifar100")
    below = int((betas < BETAS[-1]).sum())
    varied = np.unique(betas).size > 1
    return _decide(below >= 4 and varied, below, "best beta below 0.9999 in >= 4 of 5 columns, and not constant")


def _judge_best_beta(measured: Measurements) -> Judgement:
    return worst([_judge_best_beta_cifar10(measured), _judge_best_beta_cifar100(measured)])


def _judge_large_margin(measured: Measurements) -> Judgement:
    errors = large_pairs(measured["large"])
    least = float((errors[("plain", 224)] - errors[("class_balanced", 224)]).min())
    return printed_difference(least, "least of 9 gains")


def _judge_depth(measured: Measurements) -> Judgement:
    right, total = 0, 0
    for metric in ("top1_error_percent", "top5_error_percent"):
        errors = large_pairs(measured["large"], metric)
        for _, block in errors.groupby(level="dataset"):
            right += int((block.sort_index().diff().iloc[1:] < 0).all().sum())
        total += 3 * errors.shape[1]
        right += int((errors[("class_balanced", 320)] < errors[("class_balanced", 224)]).sum())
        total += len(errors)
    return _decide(right == total, right / total, f"all of {total} comparisons (depth in 18 groups, size in 18 pairs)")


def _judge_shallow_equals_deep(measured: Measurements) -> Judgement:
    errors = large_pairs(measured["large"])
    balanced = errors[("class_balanced", 224)].xs(50, level="depth")
    deep = {"inaturalist2017": 152, "inaturalist2018": 152, "ilsvrc2012": 101}
    gaps = [abs(balanced[name] - errors.loc[(name, depth), ("plain", 224)]) for name, depth in deep.items()]
    return at_most(max(gaps), 1.0, name="largest difference in points")


def _judge_data_sets(measured: Measurements) -> Judgement:
    named = {*measured["table"].dataset, *measured["large"].dataset}
    wanted = {"cifar10", "cifar100", "inaturalist2017", "inaturalist2018", "ilsvrc2012"}
    return _decide(named == wanted, len(named & wanted), "the published tables name these 5 data sets and no other")


def _judge_same_table(measured: Measurements) -> Judgement:
    grid = error_grid(measured["grid"])
    table = error_grid(measured["table"].query("ratio > 1"))[0.0]
    best = (
        measured["table"].query("method == 'class_balanced_best' and ratio > 1").set_index(["dataset", "ratio"]).value
    )
    from_grid = best_balanced(grid).set_index(["dataset", "ratio"])["best CB"]
    unequal = int((table - grid[0.0]).ne(0).sum() + (best - from_grid).ne(0).sum())
    return at_most(unequal, 0, name=f"cells of {len(table) + len(best)} that differ from the paper's appendix")


def _judge_decay(measured: Measurements) -> Judgement:
    """Judged at the larger coefficient, and inconclusive where the recipe's own shows the opposite.

    At the recipe's coefficient the rules differ by less than a tenth of a point: too little to decide anything.
    """
    decays = sorted(float(value) for value in measured["runs"].weight_decay.unique())
    found = {}
    for decay in decays:
        paper = errors_of(measured["runs"], weight_decay=decay, decay_on="all_but_head_bias")
        printed = errors_of(measured["runs"], weight_decay=decay, decay_on="head_bias_only")
        found[decay] = positive_effect(
            paper - printed, unit=f"points gained by decaying the bias alone, weight decay {decay:g}"
        )
    judged, beside = found[decays[-1]], found[decays[0]]
    opposed = {judged.verdict, beside.verdict} == {"holds", "refuted"}
    rule = f"{judged.threshold}; inconclusive if the recipe's {decays[0]:g} shows the opposite"
    return replace(judged, verdict="inconclusive" if opposed else judged.verdict, threshold=rule)


def _judge_prior_bias(measured: Measurements) -> Judgement:
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
    quick_only = measure in (measure_decay, measure_prior_bias)
    return Check(
        Claim(row, source, kind, statement, rule),
        measure,
        judge,
        ("quick",) if quick_only else _ALL,
        recorded=measure is measure_sweep,
    )


CHECKS: tuple[Check, ...] = (
    _check(
        19, "S0 L202-206", "D",
        "A class is weighted by the inverse of its effective number; beta = 0 gives no weights and beta -> 1 inverse "
        "frequency.",
        "exact to 1e-6, both ends included", measure_weights, _judge_weights,
    ),
    _check(
        20, "S0 L212-226", "D", "The three class-balanced losses are the weighted softmax, sigmoid and focal losses.",
        "value and slope equal a term-by-term reference to 1e-6; never negative", measure_losses, _judge_losses,
    ),
    _check(
        21, "S0 L233-238", "E",
        "In all ten imbalanced columns of the CIFAR table the lowest class-balanced error is below each plain one.",
        "published: at least 8 of 10 columns; ours: a paired gain when both sides are selected on validation",
        measure_sweep, _judge_selection,
    ),
    _check(
        22, "S0 L246", "E", "Class balancing improves the error significantly, for all three losses.",
        "paired gain above 1 point for each loss in each world, with each normaliser that was run", measure_sweep,
        _judge_significant,
    ),
    _check(
        23, "S0 L247", "E", "Sigmoid and focal losses beat softmax in most cases.",
        "lower error in more than half of the columns, for each loss", measure_published, _judge_beats_softmax,
    ),
    _check(
        24, "S0 L259", "E", "CIFAR-10 at ratio 50: class balancing helps at every beta, the more the larger beta.",
        "published gains positive and rising for the three losses; refuted where the sign is wrong by 1.5 points",
        measure_published, _judge_cifar10_betas,
    ),
    _check(
        25, "S0 L260", "E", "CIFAR-100 at ratio 50: beta of 0.9 and 0.99 help, larger ones hurt.",
        "published signs + + - - for two of three losses", measure_published, _judge_cifar100_betas,
    ),
    _check(
        26, "S0 L240", "E", "On CIFAR-10 the best beta is 0.9999 at every ratio.",
        "best cell at 0.9999 in 4 of 5 columns", measure_published, _judge_best_beta_cifar10,
    ),
    _check(
        27, "S0 L240", "E", "On CIFAR-100 the best beta is smaller and depends on the ratio.",
        "best cell below 0.9999 in 4 of 5 columns, and not constant", measure_published, _judge_best_beta_cifar100,
    ),
    _check(
        28, "S0 L238", "T", "With balanced data a class-balanced loss is the plain loss.",
        "weights 1 and equal training curves to 1e-12", measure_balanced, _judge_balanced,
    ),
    _check(
        29, "S0 L265-277", "E", "On the large data sets the class-balanced focal loss is far better than softmax.",
        "least published gain at least 1.5 points; refuted where it is a loss of as many", measure_published,
        _judge_large_margin,
    ),
    _check(
        30, "S0 L267-275", "E", "Deeper networks and larger inputs lower the error.",
        "in every published comparison", measure_published, _judge_depth,
    ),
    _check(
        31, "S0 L267-272", "E",
        "ResNet-50 with the class-balanced focal loss equals softmax at depth 152 (iNaturalist) and 101 (ILSVRC).",
        "published difference at most 1 point", measure_published, _judge_shallow_equals_deep,
    ),
    _check(
        51, "S1 L10, L27", "D", "Class-balanced weights are inversely proportional to the class count.",
        "weight x count constant to 1 % at some usual beta", measure_weights, _judge_inverse_to_count,
    ),
    _check(
        55, "S1 L20-21", "E", "Class balancing can be applied to softmax, sigmoid and focal losses.",
        "each beats its plain form in paired seeds, in each world", measure_sweep, _judge_all_losses,
    ),
    _check(
        56, "S1 L29-41", "D", "The focal formula as S1 prints it, without the minus, is a loss.",
        "never negative, and descending it learns", measure_focal_descent, _judge_printed_focal,
    ),
    _check(
        57, "S1 L45", "D", "The method is evaluated on long-tailed CIFAR, iNaturalist 2017 and 2018, ILSVRC 2012.",
        "the published tables name them", measure_published, _judge_data_sets,
    ),
    _check(
        58, "S1 L47", "E", "Starting the last bias at -log((1-pi)/pi), pi = 1/C, steadies sigmoid training.",
        "initial loss at least 5 times lower at C = 100, error not worse", measure_prior_bias, _judge_prior_bias,
    ),
    _check(
        59, "S1 L47", "D", "Weight decay belongs on the last layer's bias alone.",
        "paired gain over the paper's rule (everywhere but there) at 25 times the recipe's coefficient, where the two "
        "part; the recipe's own must not show the opposite", measure_decay, _judge_decay,
    ),
    _check(
        60, "S1 L51", "E", "Sigmoid and focal losses with that start surpass softmax.",
        "as row 23", measure_published, _judge_beats_softmax,
    ),
    _check(
        61, "S1 L53", "E", "beta = 0.9999 is best on CIFAR-10, a beta of its own per ratio on CIFAR-100.",
        "as rows 26 and 27", measure_published, _judge_best_beta,
    ),
    _check(
        82, "S2 L154-162", "D", "S2's table of CIFAR errors is that of S0, and both are the paper's.",
        "every cell equal", measure_published, _judge_same_table,
    ),
)  # fmt: skip
