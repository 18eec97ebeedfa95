"""Every check on FixMatch and CReST against worlds in which its claim is false."""

from dataclasses import replace

import numpy as np
import pytest

from lt_lib.claims import _crest_runs as runs
from lt_lib.claims import crest, published

CHECKS = {check.claim.id: check for check in crest.CHECKS}
TRAINED = [32, 33, 36, 37, 42, 43, 44, 45, 46, 50, 116]
# Accuracy in points over training on the labels alone, last generation, in a world where every claim is true.
TRUE_GAINS = {
    "supervised": 0.0, "mean teacher": 1.5, "fixmatch": 2.0, "fixmatch equal-compute": 3.0,
    "self-training": 2.5, "crest": 5.0, "crest, constant": 6.0, "crest+": 8.0,
}  # fmt: skip
COUNTS = np.array([100, 65, 42, 28, 18, 12, 8, 5, 3, 2], dtype=float)
TO_RARE = np.linspace(0, 2, 10)


def arm(gain, true, pattern, rng):
    """Ten seeds, two generations; the last one has gained, the rare classes most of all."""
    shape = (10, 2, 10)
    level = np.array([0.0, 1.0])[:, None] * true * gain / 100 * TO_RARE
    noise = rng.normal(0, 0.002, (2, *shape))
    noise -= noise.mean(axis=1, keepdims=True)  # without effect all means are equal, and not by chance different
    recall = 0.5 - 0.2 * pattern * (TO_RARE - 1) + level + noise[0]
    precision = 0.5 + 0.2 * pattern * (TO_RARE - 1) + level + noise[1]
    both, flat = np.zeros(shape), np.zeros(shape[:2])
    return runs.Arm(recall, precision, recall, precision, both, both, both, both, flat, flat, flat)


def world(true=1.0, pattern=None, **changes):
    """`true` scales all gains over the labels alone, `pattern` the spread of recall and precision over classes."""
    rng = np.random.default_rng(0)
    pattern = true if pattern is None else pattern
    arms = {name: arm(gain, true, pattern, rng) for name, gain in TRUE_GAINS.items()}
    rates = (COUNTS[::-1] / COUNTS[0]) ** (true / 3)
    cells = runs.crest_tables.measure_table("quick", rng)
    return replace(runs.Measured(arms, COUNTS, 9 * COUNTS, rates, 0.0, cells, true * np.array([5.0, 12.0])), **changes)


@pytest.mark.false_world(32, 33, 36, 37, 42, 43, 44, 45, 46, 50, 116)
@pytest.mark.parametrize("row", TRAINED)
def test_trained_rows_hold_only_in_the_true_world(row):
    judge = CHECKS[row].judge
    assert judge(world(1.0)).verdict == "holds"
    assert judge(world(0.0)).verdict != "holds"
    # One small world cannot overturn the published table, of which rows 45 and 46 speak.
    assert judge(world(-1.0)).verdict == ("inconclusive" if row in (45, 46) else "refuted")


@pytest.mark.false_world(36)
def test_a_world_that_was_set_so_that_fixmatch_gains_does_not_show_that_it_does():
    judge, lost = CHECKS[36].judge, np.array([12.0, -2.0])
    chosen = world(chosen=True)
    chosen.arms["fixmatch"] = arm(-20.0, 1.0, 1.0, np.random.default_rng(1))
    assert judge(chosen).verdict == "holds"
    assert judge(replace(chosen, chosen=False)).verdict == "inconclusive"
    for gains, verdict in ((lost, "refuted"), (lost + 2.5, "inconclusive"), (lost + 4, "holds")):
        assert judge(world(chosen=True, teachers=gains)).verdict == verdict
    assert judge(world(teachers=lost)).verdict == "refuted"
    assert runs.measure_runs("paper", rng(), folder="/nowhere").chosen is False


@pytest.mark.false_world(36)
def test_teachers_are_compared_within_one_source_and_setting():
    gains = runs.crest_tables.measure_teachers()
    assert len(gains) == 7
    assert gains.min() == pytest.approx(69.95 - 63.89)  # the reversed pool
    cells = published("independent")
    swapped = cells.assign(method=cells.method.replace({"supervised": "fixmatch", "fixmatch": "supervised"}))
    found = runs.crest_tables.measure_teachers(load=lambda _name: swapped)
    assert CHECKS[36].judge(world(chosen=True, teachers=found)).verdict == "refuted"


@pytest.mark.false_world(116)
def test_a_loss_that_was_not_tuned_decides_nothing():
    measured = world()
    measured.arms["mean teacher"] = arm(-5.0, 1.0, 1.0, np.random.default_rng(1))
    found = CHECKS[116].judge(measured)
    assert (found.verdict, found.threshold.endswith("a loss without tuning")) == ("inconclusive", True)
    measured.arms["fixmatch"] = arm(-5.0, 1.0, 1.0, np.random.default_rng(2))
    assert CHECKS[116].judge(measured).verdict == "refuted"


@pytest.mark.false_world(116)
def test_what_fixmatch_gains_in_a_world_that_was_set_is_read_off_the_runs_of_others():
    chosen = world(chosen=True)
    chosen.arms["fixmatch"] = arm(-20.0, 1.0, 1.0, np.random.default_rng(1))
    assert CHECKS[116].judge(chosen).verdict == "holds"
    for gains, verdict in (([12.0, -2.0], "refuted"), ([12.0, 0.5], "inconclusive"), ([12.0, 2.0], "holds")):
        assert CHECKS[116].judge(world(chosen=True, teachers=np.array(gains))).verdict == verdict
    assert CHECKS[116].judge(world(teachers=np.array([-2.0]))).verdict == "holds"


@pytest.mark.false_world(45, 46)
@pytest.mark.parametrize("row", [45, 46])
def test_a_published_table_without_the_gain_refutes(row):
    cells = world().cells
    for wrong in (100 - cells, cells * 0 + 50):
        assert CHECKS[row].judge(world(cells=wrong)).verdict == "refuted"
    one = cells.copy()
    one.iloc[list(one.index).index("CReST"), 3] += 50.0 if row == 46 else -50.0
    assert CHECKS[row].judge(world(cells=one)).verdict == "refuted"


@pytest.mark.false_world(32, 33, 42)
def test_recall_without_precision_is_not_the_pattern():
    measured = world()
    for name in ("supervised", "fixmatch"):
        one = measured.arms[name]
        measured.arms[name] = replace(one, test_precision=one.test_recall)
    assert {CHECKS[row].judge(measured).verdict for row in (32, 33, 42)} == {"refuted"}


def test_the_pool_does_not_decide_the_pattern():
    measured = world()
    one = measured.arms["fixmatch"]
    measured.arms["fixmatch"] = replace(one, pool_precision=one.test_recall)
    assert CHECKS[42].judge(measured).verdict == "holds"


@pytest.mark.false_world(37, 45, 46, 50)
@pytest.mark.parametrize(
    ("row", "reference", "verdict"),
    [
        (37, "self-training", "refuted"),
        (45, "fixmatch equal-compute", "inconclusive"),
        (46, "crest", "inconclusive"),
        (50, "crest, constant", "refuted"),
    ],
)
def test_each_gain_is_over_its_own_control(row, reference, verdict):
    measured = world()
    measured.arms[reference] = arm(20.0, 1.0, 1.0, np.random.default_rng(1))
    assert CHECKS[row].judge(measured).verdict == verdict


@pytest.mark.false_world(37)
def test_rates_that_fall_with_rarity_are_refused():
    assert CHECKS[37].judge(world(rates=world().rates[::-1])).verdict == "refuted"


@pytest.mark.parametrize(("row", "name"), [(43, "crest"), (43, "crest+"), (44, "crest"), (44, "crest+")])
def test_both_methods_must_gain(row, name):
    measured = world()
    measured.arms[name] = arm(-5.0, 1.0, 1.0, np.random.default_rng(1))
    assert CHECKS[row].judge(measured).verdict == "refuted"


@pytest.mark.false_world(50)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda g, generations, t_min: t_min,
        lambda g, generations, t_min: 1 - g / generations * (1 - t_min),
        lambda g, generations, t_min: t_min ** (g / max(generations - 1, 1)),
        lambda g, generations, t_min: t_min + g / max(generations - 1, 1) * (1 - t_min),
    ],
)
def test_other_schedules_are_refused(wrong):
    apart = runs.schedule_deviation(wrong)
    assert apart > 0.01
    assert CHECKS[50].judge(world(schedule=apart)).verdict == "refuted"


def rng():
    return np.random.default_rng(0)


@pytest.mark.false_world(35)
def test_only_plain_self_training_has_its_training_sets():
    assert CHECKS[35].run("small", rng()).verdict == "holds"
    for wrong in ({"alpha": 1 / 3}, {"keep": "accumulate"}, {"generations": 1}):
        assert CHECKS[35].judge(runs.measure_trace("quick", rng(), **wrong)).verdict == "refuted", wrong


@pytest.mark.false_world(49)
def test_folds_that_draw_another_set_or_nothing_new_are_refused():
    from lt_lib.data import protocols

    def other(fold, subset_seed=0, label_fraction=0.1):
        protocol = protocols.Protocol("crest", n_max=400, label_fraction=label_fraction)
        targets = np.repeat(np.arange(10), 500)
        return protocols.make_split(protocol, targets, 10, 100.0, subset_seed=subset_seed, split_seed=fold)

    def no_deviation(name):
        table = published(name)
        return table.assign(std=table["std"].where(table.method != "CReST+"))

    assert CHECKS[49].run("paper", rng()).verdict == "holds"
    wrong = [
        {"split": lambda fold: other(fold, subset_seed=fold)},
        {"split": lambda fold: other(fold, label_fraction=0.1 + fold / 50)},
        {"split": lambda fold: other(0)},
        {"load": no_deviation},
    ]
    for change in wrong:
        assert CHECKS[49].judge(runs.measure_folds("quick", rng(), **change)).verdict == "refuted"


@pytest.mark.false_world(32, 33, 36, 37, 42, 43, 44, 45, 46, 50, 116)
def test_trainings_that_know_no_method_and_no_imbalance_support_no_claim():
    from lt_lib.recipes import run_semi_many, semi_preset

    def plain(configs):
        # All arms of a seed are the same short run on balanced data, which is trained once.
        seeds = sorted({config.seed for config in configs})
        short = {"n_max": 100, "imbalance_ratio": 1.0, "epochs": 1, "evaluate_every": 1, "steps_per_epoch": 3}
        made = [semi_preset("gaussian-quick", "supervised", seed=seed, split_seed=seed, **short) for seed in seeds]
        results = dict(zip(seeds, run_semi_many(made), strict=True))
        return [results[config.seed] for config in configs]

    measured = runs.measure_runs("quick", rng(), num_seeds=2, train=plain)
    assert set(measured.arms) == set(TRUE_GAINS)
    for row in TRAINED:  # row 36 does not look at trainings in a world that was set
        assert CHECKS[row].judge(replace(measured, chosen=False)).verdict != "holds", row


def test_arms_differ_in_what_their_names_say():
    configs = {name: runs.arm_configs(name, 1)[0] for name in runs.ARMS}
    assert configs["self-training"] == configs["crest"].changed(alpha=0.0, label="self-training")
    assert configs["crest, constant"] == configs["crest"].changed(alignment="constant", label="crest, constant")
    assert configs["crest+"] == configs["crest"].changed(alignment="adaptive", label="crest+")
    assert configs["fixmatch equal-compute"].steps == configs["crest"].steps == 4 * configs["supervised"].steps
    assert {config.label for config in configs.values()} == set(runs.ARMS)


def test_what_the_runs_lack_becomes_nan():
    class Result:
        def __init__(self, value):
            one = {name: [0.5, value] for name in list(runs.Arm.__dataclass_fields__)[:8]}
            self.generations = [{**one, "mask_rate_all": 0.1, "kl_to_prior": 0.2, "training_size": 7}]

    found = runs.gather([Result(None), Result(0.25)])
    assert found.test_precision.shape == (2, 1, 2)
    assert np.isnan(found.test_precision[0, 0, 1])
    assert found.pool_recall[1, 0, 1] == 0.25
    assert found.accuracy().tolist()[1] == 37.5
    assert found.first().training_size.tolist() == [[7], [7]]


def test_f1_against_its_definition():
    rng = np.random.default_rng(3)
    precision, recall = rng.random((2, 4, 5))
    precision[0, 2], recall[0, 2] = np.nan, 0.0
    recall[1, 1] = precision[1, 1] = 0.0
    for p_row, r_row, found in zip(precision, recall, crest.macro_f1(precision, recall), strict=True):
        each = [0.0 if np.isnan(p) or p + r == 0 else 2 / (1 / p + 1 / r) for p, r in zip(p_row, r_row, strict=True)]
        assert found == pytest.approx(100 * sum(each) / 5)


def test_classes_without_precision_are_left_out_of_the_rank():
    values = np.array([[0.1, 0.2, np.nan, 0.3], [0.3, 0.2, 0.1, np.nan]])
    assert crest.count_correlation(np.array([4.0, 3.0, 2.0, 1.0]), values).tolist() == [-1.0, 1.0]
