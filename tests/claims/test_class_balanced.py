"""Every check of notebook 040 must refuse a false world: a wrong formula, a reversed effect, no effect."""

import numpy as np
import pandas as pd
import pytest

from lt_lib import counts, losses
from lt_lib.claims import class_balanced as cb
from lt_lib.claims import published

CHECKS = {check.claim.id: check for check in cb.CHECKS}


def rng():
    return np.random.default_rng(0)


def judge(row, measured):
    return CHECKS[row].judge(measured).verdict


def test_the_rows_of_the_ledger_come_in_order_and_training_is_for_the_quick_profile():
    assert list(CHECKS) == [19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 51, 55, 56, 57, 58, 59, 60, 61, 82]
    assert [row for row, check in CHECKS.items() if check.profiles == ("quick",)] == [58, 59]
    assert [row for row, check in CHECKS.items() if check.recorded] == [21, 22, 55]


# --- formulas ------------------------------------------------------------------------------------------------------


@pytest.mark.false_world(19, 51)
def test_weights_true_and_wrong():
    def unscaled(sizes, beta, **_options):
        return 1 / counts.effective_number(sizes, beta)

    def by_count(sizes, _beta, **_options):
        return counts.inverse_frequency_weights(sizes)

    assert judge(19, cb.measure_weights("quick", rng())) == "holds"
    assert judge(51, cb.measure_weights("quick", rng())) == "refuted"
    for wrong in (unscaled, by_count):
        assert judge(19, cb.measure_weights("quick", rng(), weights=wrong)) == "refuted"
    assert judge(51, cb.measure_weights("quick", rng(), weights=by_count)) == "holds"


def without_minus(label, logits, target, weight):
    return -cb.naive_loss(label, logits, target, weight)


def without_weight(label, logits, target, weight):
    return cb.naive_loss(label, logits, target, 1.0)


def softmax_for_all(label, logits, target, weight):
    return cb.naive_loss("softmax", logits, target, weight)


def test_losses_true():
    assert judge(20, cb.measure_losses("quick", rng())) == "holds"


@pytest.mark.false_world(20)
@pytest.mark.parametrize("wrong", [without_minus, without_weight, softmax_for_all])
def test_losses_against_a_wrong_formula(wrong):
    assert judge(20, cb.measure_losses("quick", rng(), reference=wrong)) == "refuted"


def test_a_negative_loss_is_no_loss_even_where_it_equals_its_reference():
    assert judge(20, {"compared": 10, "apart": 0, "lowest": -0.1}) == "refuted"


@pytest.mark.false_world(56)
def test_the_printed_focal_formula_is_refuted_and_the_right_one_would_hold():
    assert judge(56, cb.measure_focal_descent("quick", rng())) == "refuted"
    right = cb.measure_focal_descent("quick", rng(), focal=lambda z, y: losses.focal_loss(z, y, 1.0, reduction="none"))
    assert judge(56, right) == "holds"
    assert right["curve"][-1] < right["curve"][0]
    # A constant is never negative either, but descending it teaches nothing.
    flat = cb.measure_focal_descent("quick", rng(), focal=lambda z, y: 0 * z.sum(dim=1))
    assert judge(56, flat) == "refuted"


@pytest.mark.false_world(28)
def test_balanced_counts_true_and_wrong():
    assert judge(28, cb.measure_balanced("quick", rng())) == "holds"
    wrong = cb.measure_balanced("quick", rng(), weights=lambda sizes, beta, **_: np.linspace(0.9, 1.1, len(sizes)))
    assert judge(28, wrong) == "refuted"


# --- published tables ----------------------------------------------------------------------------------------------


def altered(change):
    """Published tables with `change(name, frame)` applied to each."""

    def load(name):
        frame = published(name)
        frame["value"] = change(name, frame)
        return frame

    return cb.measure_published("quick", rng(), load=load)


def mirrored(_name, frame):
    """Differences change their sign."""
    return 100 - frame.value


def levelled(_name, frame):
    """Nothing makes a difference."""
    return frame.value * 0 + 50.0


def test_published_tables_as_they_are():
    measured = cb.measure_published("quick", rng())
    verdicts = {row: judge(row, measured) for row, check in CHECKS.items() if check.measure is cb.measure_published}
    assert verdicts == {
        23: "refuted", 24: "inconclusive", 25: "holds", 26: "holds", 27: "holds", 29: "inconclusive", 30: "holds",
        31: "holds", 57: "holds", 60: "refuted", 61: "holds", 82: "holds",
    }  # fmt: skip


@pytest.mark.false_world(23, 24, 25, 26, 29, 30, 60, 61)
@pytest.mark.parametrize("row", [23, 24, 25, 26, 29, 30, 60, 61])
@pytest.mark.parametrize("change", [mirrored, levelled])
def test_published_orderings_are_refused_when_reversed_or_absent(row, change):
    # Equal cells contradict no sign by what single runs can tell.
    assert judge(row, altered(change)) == ("inconclusive" if row in (24, 29) and change is levelled else "refuted")


@pytest.mark.false_world(24)
@pytest.mark.parametrize(
    ("effect", "scatter", "verdicts"),
    [(0.0, 1.0, {"inconclusive", "refuted"}), (-2.0, 1.0, {"refuted"}), (1.0, 0.1, {"holds"})],
)
def test_beta_is_judged_by_what_single_runs_can_tell(effect, scatter, verdicts):
    """Single runs that scatter around gains of `effect` times the place of beta, 0 for the plain loss."""
    found = set()
    for seed in range(10):
        noise = np.random.default_rng(seed)

        def change(_name, frame, noise=noise):
            place = frame.beta.map({beta: i + 1 for i, beta in enumerate(cb.BETAS)}).fillna(0.0)
            return 50.0 - effect * place + scatter * noise.standard_normal(len(frame))

        found.add(judge(24, altered(change)))
    assert found <= verdicts


@pytest.mark.parametrize(("wrong_by", "verdict"), [(0.1, "inconclusive"), (1.4, "inconclusive"), (1.6, "refuted")])
@pytest.mark.parametrize("beta", [0.9, 0.999])
def test_one_wrong_gain_or_one_fall_refutes_only_beyond_the_scatter(beta, wrong_by, verdict):
    """At 0.9 the gain is below zero, at 0.999 it falls below the one before."""

    def change(_name, frame):
        place = frame.beta.map({value: i + 1.0 for i, value in enumerate(cb.BETAS)}).fillna(0.0)
        bent = (frame.beta == beta) & (frame.loss == "sigmoid")
        return 50.0 - place.where(~bent, (place - 1) - wrong_by)

    outcome = CHECKS[24].judge(altered(change))
    assert outcome.verdict == verdict
    assert outcome.statistic == pytest.approx(-wrong_by)


@pytest.mark.false_world(25, 27)
def test_a_table_in_which_every_loss_beats_softmax_and_every_beta_helps_would_hold():
    def better(_name, frame):
        beta = frame.beta.fillna(0.0)
        return frame.value * 0 + 50.0 - 5 * beta - 1000 * (beta**2 > 0.99) * (beta - 0.99) - (frame.loss != "softmax")

    measured = altered(better)
    assert [judge(row, measured) for row in (23, 24, 26, 60)] == ["holds"] * 4
    assert judge(25, measured) == "refuted"
    # The same best beta at every ratio is not a best beta that depends on it.
    assert judge(27, measured) == "refuted"


def test_gains_on_large_data_hold_when_all_are_large():
    measured = altered(lambda _name, frame: frame.value - 3 * (frame.method == "class_balanced"))
    assert judge(29, measured) == "holds"


@pytest.mark.false_world(29)
@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(1.6, "holds"), (1.4, "inconclusive"), (-0.1, "inconclusive"), (-1.4, "inconclusive"), (-1.6, "refuted")],
)
def test_one_gain_on_large_data_decides_only_beyond_what_single_runs_tell(gain, verdict):
    def change(_name, frame):
        behind = (frame.dataset == "ilsvrc2012") & frame.setting.astype(str).str.startswith("ResNet-101")
        return 50.0 - (frame.method == "class_balanced") * np.where(behind, gain, 3.0)

    outcome = CHECKS[29].judge(altered(change))
    assert (outcome.verdict, outcome.statistic) == (verdict, pytest.approx(gain))


@pytest.mark.false_world(31)
def test_a_shallow_network_that_stays_behind_is_refused():
    measured = altered(lambda _name, frame: frame.value + 2 * (frame.method == "class_balanced"))
    assert judge(31, measured) == "refuted"


@pytest.mark.false_world(57, 82)
def test_a_missing_data_set_and_a_changed_cell_are_refused():
    measured = cb.measure_published("quick", rng())
    fewer = {**measured, "large": measured["large"].query("dataset != 'ilsvrc2012'")}
    assert judge(57, fewer) == "refuted"
    for position in (0, len(measured["table"]) - 2):
        table = measured["table"].copy()
        table.loc[position, "value"] += 0.01
        assert judge(82, {**measured, "table": table}) == "refuted"


# --- trainings -----------------------------------------------------------------------------------------------------


def made_up_runs(gain, on_digits=None, *, spread=0.2, seeds=10):
    """Rows as `measure_sweep` returns them, in which class balancing saves `gain` points at every beta.

    On the digits it saves `on_digits` if that is given.
    """
    noise = rng()
    saved = {"gaussian": gain, "digits": gain if on_digits is None else on_digits}
    rows = []
    for config in [config for world in saved for config in cb.sweep_configs(world, range(seeds))]:
        weighted = config.weighting == "effective_number"
        error = 45 - saved[config.dataset] * weighted + spread * noise.standard_normal()
        rows.append(
            {
                "world": config.dataset,
                "loss": cb.loss_label(config.loss, config.gamma),
                "beta": config.beta if weighted else 0.0,
                "normalization": config.normalization if weighted else "batch",
                "learning_rate": config.learning_rate,
                "seed": config.seed,
                "error": error,
                "validation_error": error + spread * noise.standard_normal(),
            }
        )
    return {**cb.measure_published("quick", rng()), "runs": pd.DataFrame(rows)}


@pytest.mark.false_world(21, 22, 55)
@pytest.mark.parametrize("row", [21, 22, 55])
def test_sweep_rows_follow_the_sign_of_the_effect(row):
    assert judge(row, made_up_runs(3.0)) == "holds"
    # The published half of row 21 still holds, and a small world cannot overturn it.
    assert judge(row, made_up_runs(-3.0)) == ("inconclusive" if row == 21 else "refuted")


@pytest.mark.false_world(21, 22, 55)
@pytest.mark.parametrize("row", [21, 22, 55])
def test_sweep_rows_do_not_hold_without_an_effect(row):
    assert judge(row, made_up_runs(0.0)) != "holds"


@pytest.mark.false_world(22, 55)
@pytest.mark.parametrize("row", [22, 55])
@pytest.mark.parametrize("gains", [(3.0, 0.0), (0.0, 3.0), (3.0, -3.0), (-3.0, 3.0)])
def test_an_effect_in_one_world_alone_decides_nothing(row, gains):
    outcome = CHECKS[row].judge(made_up_runs(*gains))
    assert outcome.verdict == "inconclusive"
    assert "digits" in outcome.threshold
    assert "gaussian" in outcome.threshold


@pytest.mark.false_world(22, 55)
@pytest.mark.parametrize("row", [22, 55])
@pytest.mark.parametrize("world", cb.WORLDS)
@pytest.mark.parametrize("loss", cb.SLIDE_LOSSES)
def test_one_loss_without_an_effect_in_one_world_is_enough(row, world, loss):
    measured = made_up_runs(3.0)
    runs = measured["runs"]
    runs.loc[(runs.world == world) & (runs.loss == loss) & (runs.beta > 0), "error"] += 3.0
    assert judge(row, measured) == "inconclusive"


def test_the_other_normaliser_counts_for_row_22_alone():
    measured = made_up_runs(3.0)
    measured["runs"].loc[measured["runs"].normalization == "weights", "error"] += 6.0
    assert (judge(55, measured), judge(22, measured)) == ("holds", "inconclusive")


def test_an_effect_below_one_point_counts_for_row_55_and_not_for_row_22():
    measured = made_up_runs(0.7)
    assert (judge(55, measured), judge(22, measured)) == ("holds", "refuted")


def test_selection_needs_the_published_columns_too():
    measured = made_up_runs(3.0)
    table = measured["table"].copy()
    table.loc[table.method == "class_balanced_best", "value"] += 10
    assert judge(21, {**measured, "table": table}) == "refuted"


@pytest.mark.false_world(55)
def test_swapping_plain_and_balanced_runs_end_to_end_is_refused():
    from lt_lib.recipes import run_many

    def swapped(configs):
        other = {"none": "effective_number", "effective_number": "none"}
        return run_many([config.changed(weighting=other[config.weighting], beta=0.9999) for config in configs])

    configs = [
        cb.world_config("gaussian", loss, beta, seed=seed, split_seed=seed, epochs=6, evaluate_every=6)
        for loss in cb.SLIDE_LOSSES
        for beta in (None, 0.9999)
        for seed in range(3)
    ]
    runs = cb.train_rows(configs, train=swapped)
    assert set(runs.validation_error.notna()) == {True}
    # The runs of the Gaussian world stand for both: three seeds of the digits decide nothing.
    assert judge(55, {"runs": pd.concat([runs, runs.assign(world="digits")])}) == "refuted"


def made_up_decay(gain, gain_of_recipe=None):
    """Rows as `measure_decay` returns them, in which decaying the bias alone saves `gain` points.

    At the recipe's coefficient it saves `gain_of_recipe` if that is given.
    """
    rows = [
        {"weight_decay": value, "decay_on": rule, "seed": seed, "error": 50.0 + seed}
        for value in (2e-4, 5e-3)
        for rule in ("all", "all_but_head_bias", "head_bias_only")
        for seed in range(10)
    ]
    runs = pd.DataFrame(rows)
    # The differences scatter around `gain` by one tenth, half of them to each side.
    alone = runs.decay_on == "head_bias_only"
    runs.loc[alone, "error"] += 0.1 * (-1.0) ** runs.seed[alone] - gain
    if gain_of_recipe is not None:
        runs.loc[alone & (runs.weight_decay == 2e-4), "error"] += gain - gain_of_recipe
    return {"runs": runs}


@pytest.mark.false_world(59)
def test_decaying_the_bias_alone_is_judged_by_its_effect():
    assert judge(59, made_up_decay(1.0)) == "holds"
    assert judge(59, made_up_decay(-1.0)) == "refuted"
    assert judge(59, made_up_decay(0.0)) == "inconclusive"


@pytest.mark.false_world(59)
@pytest.mark.parametrize(
    ("gain", "of_recipe", "verdict"),
    [
        (-1.0, 0.0, "refuted"),
        (1.0, 0.0, "holds"),
        (-1.0, 1.0, "inconclusive"),
        (1.0, -1.0, "inconclusive"),
        (0.0, -0.07, "inconclusive"),  # a difference of some hundredths of a point decides nothing
    ],
)
def test_the_larger_coefficient_decides_unless_the_recipes_own_opposes_it(gain, of_recipe, verdict):
    measured = made_up_decay(gain, of_recipe)
    outcome = CHECKS[59].judge(measured)
    assert outcome.verdict == verdict
    assert outcome.statistic == pytest.approx(gain, abs=1e-9)
    assert "weight decay 0.005" in outcome.threshold
    assert "recipe's 0.0002" in outcome.threshold


def test_swapping_the_decay_rules_end_to_end_turns_the_verdict():
    from lt_lib.recipes import run_many

    def swapped(configs):
        other = {"all": "all", "all_but_head_bias": "head_bias_only", "head_bias_only": "all_but_head_bias"}
        return run_many([config.changed(decay_on=other[config.decay_on]) for config in configs])

    measured = cb.measure_decay("quick", rng(), weight_decays=(5e-3,), num_seeds=3, train=swapped)
    assert judge(59, measured) == "holds"


@pytest.mark.false_world(58)
def test_the_prior_bias_with_the_wrong_sign_is_refused_end_to_end():
    import torch

    def wrong(head, num_classes):
        torch.nn.init.constant_(head.bias, float(np.log(num_classes - 1)))

    assert judge(58, cb.measure_prior_bias("quick", rng(), initialise=wrong, num_seeds=2, steps=10)) == "refuted"
    nothing = cb.measure_prior_bias("quick", rng(), initialise=lambda head, num_classes: None, num_seeds=2, steps=10)
    assert judge(58, nothing) == "refuted"


@pytest.mark.false_world(58)
def test_the_prior_bias_is_refused_when_it_costs_accuracy():
    curves = np.stack([np.full((10, 3), 70.0), np.full((10, 3), 7.0)])
    errors = 50 + rng().standard_normal((2, 10)) / 5
    assert judge(58, {"loss": curves, "error": errors}) == "holds"
    assert judge(58, {"loss": curves, "error": errors + np.array([[0.0], [3.0]])}) == "refuted"


# --- helpers -------------------------------------------------------------------------------------------------------


def test_errors_of_refuses_what_is_not_one_configuration():
    runs = made_up_decay(0.0)["runs"]
    with pytest.raises(ValueError, match="`values` must name one configuration, .* 20 rows"):
        cb.errors_of(runs, decay_on="all")
    with pytest.raises(ValueError, match="`values` must name one configuration, .* 0 rows"):
        cb.errors_of(runs, decay_on="nothing")


def test_paired_gains_pairs_by_seed():
    rows = pd.DataFrame(
        {
            "world": "w",
            "loss": "softmax",
            "beta": [0.0, 0.0, 0.9, 0.9, 0.99],
            "seed": [0, 1, 1, 0, 0],
            "error": [10.0, 20.0, 19.0, 8.0, 1.0],
        }
    )
    (gain,) = cb.paired_gains(rows).to_dict("records")
    assert (gain["beta"], gain["gain"], gain["pairs"]) == (0.9, 1.5, 2)
    assert cb.paired_gains(rows[rows.beta > 0]).empty


def test_mean_sample_weight_is_one_without_weights_and_small_with_them():
    assert cb.mean_sample_weight([100, 10], 0.0) == 1.0
    assert cb.mean_sample_weight([5000, 50], 0.9999) == pytest.approx(
        (5000 * 1 / counts.effective_number([5000], 0.9999)[0] + 50 / counts.effective_number([50], 0.9999)[0])
        * 2
        / (1 / counts.effective_number([5000, 50], 0.9999)).sum()
        / 5050
    )


def test_stored_rows_reads_only_plain_and_balanced_runs_of_the_profile(tmp_path):
    assert cb.stored_rows("small", tmp_path).empty
    rows = pd.DataFrame(
        {
            "dataset": "cifar10-jpeg",
            "imbalance_ratio": 100.0,
            "profile": ["small", "small", "paper", "small"],
            "method": ["ERM", "CB-softmax", "ERM", "LDAM-DRW"],
            "loss": ["softmax", "softmax", "softmax", "ldam"],
            "beta": [None, 0.9999, None, 0.9999],
            "gamma": None,
            "seed": 0,
            "accuracy_last": [0.7, 0.75, 0.8, 0.9],
        }
    )
    rows.to_csv(tmp_path / "runs.csv", index=False)
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    found = cb.stored_rows("small", tmp_path)
    assert found.world.tolist() == ["cifar10-jpeg, ratio 100"] * 2
    assert found.beta.tolist() == [0.0, 0.9999]
    assert found.error.tolist() == pytest.approx([30.0, 25.0])
