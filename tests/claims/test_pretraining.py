"""The checks on pre-training and decoupling refuse false worlds."""

import numpy as np
import pandas as pd
import pytest
import torch

from lt_lib.claims import _pretraining_runs as runs
from lt_lib.claims import pretraining, published
from lt_lib.claims._pretraining_runs import CONTROL, SCRATCH
from lt_lib.claims.pretraining import CHECKS, Decoupled, Runs

BY_ROW = {check.claim.id: check for check in CHECKS}
HEAD_TO_TAIL = np.linspace(0.0, 1.0, 10)
BASES = tuple(runs.BASES)
TASKS = tuple(runs.TASKS)
# Rows with published cells -> their other half.
PRINTED = {106: pretraining.helps_here, 130: pretraining.imbalance_here, 131: pretraining.uniform_here}


def noise(number):
    """Small and different for every arm, the same on every call."""
    return np.random.default_rng(number).normal(scale=0.002, size=(10, 10))


def rng():
    return np.random.default_rng(0)


def world(*, effect=1.0):
    """Runs in which every claim holds; `effect` 0 or -1 removes or reverses what pre-training does."""
    recall, number = {}, 0
    for ratio, size in ((1.0, 0.02), (10.0, 0.05), (20.0, 0.08)):
        for base in BASES if ratio > 1 else ("CE",):
            falling = 0.9 - 0.5 * (ratio > 1) * HEAD_TO_TAIL
            gain = effect * size * (0.2 + HEAD_TO_TAIL)
            arms = {CONTROL: 0 * gain, SCRATCH: -0.01 + 0 * gain, "rotation": gain}
            if base == "CE" and ratio == 20:
                arms |= {task: gain * (0.5 + 0.2 * place) for place, task in enumerate(TASKS) if task != "rotation"}
            for start, change in arms.items():
                recall[ratio, base, start] = falling + change + noise(number)
                number += 1
    return Runs(recall)


def without(measured, *, key=None, keep=None):
    """The same runs, without one arm or with fewer seeds."""
    return Runs({k: v[:keep] for k, v in measured.recall.items() if k != key})


def test_rows_are_those_of_the_notebook_in_order():
    assert [check.claim.id for check in CHECKS] == [104, 106, *range(128, 134)]
    assert BY_ROW[104].run("paper", rng()).verdict == "not judged"


@pytest.mark.parametrize("row", [106, 129, 130, 131, 132])
def test_training_claims_hold_in_their_world(row):
    assert BY_ROW[row].judge(world()).verdict == "holds"


@pytest.mark.false_world(106, 129, 130, 131, 132)
@pytest.mark.parametrize("row", [106, 129, 130, 131, 132])
@pytest.mark.parametrize("effect", [0.0, -1.0])
def test_training_claims_do_not_hold_without_or_with_reversed_effect(row, effect):
    found = BY_ROW[row].judge(world(effect=effect))
    if effect < 0 and row in PRINTED:  # a small world does not overturn a published table
        assert (found.verdict, "ours, refuted" in found.threshold) == ("inconclusive", True)
    else:
        assert found.verdict == "refuted" if effect < 0 else found.verdict in ("refuted", "inconclusive")


def changed(measured, key, change):
    return Runs({**measured.recall, key: measured.recall[key] + change})


@pytest.mark.false_world(106, 129, 131)
def test_one_failing_setting_is_enough():
    good = world()
    assert PRINTED[106](changed(good, (10.0, "CE", "rotation"), -0.2)).verdict == "refuted"
    assert BY_ROW[129].judge(changed(good, (20.0, "CE", "jigsaw"), -0.2)).verdict == "refuted"
    assert PRINTED[131](changed(good, (20.0, "LDAM", "rotation"), -0.2)).verdict == "refuted"
    # Two of eight settings without a gain leave 75 %.
    flat = good
    for base in ("RW", "DRW"):
        flat = Runs({**flat.recall, (20.0, base, "rotation"): flat.recall[20.0, base, CONTROL] + noise(77)})
    assert BY_ROW[131].judge(flat).verdict in ("inconclusive", "refuted")


@pytest.mark.false_world(106, 131)
@pytest.mark.parametrize("row", [106, 131])
def test_a_printed_loss_refutes_whatever_our_runs_show(row, monkeypatch):
    cells = pretraining.printed_gains()
    monkeypatch.setattr(
        pretraining, "printed_gains", lambda: cells.assign(gain=cells.gain.where(cells.index != 5, -0.1))
    )
    found = BY_ROW[row].judge(world())
    assert (found.verdict, found.statistic) == ("refuted", len(cells) - 1)


@pytest.mark.false_world(130)
@pytest.mark.parametrize("dataset", ["cifar10", "cifar100"])
def test_one_row_in_print_that_gains_less_at_the_largest_ratio_refutes(dataset, monkeypatch):
    cells = pretraining.printed_gains()
    worse = (cells.dataset == dataset) & (cells.method == "CE+SSP") & (cells.ratio == 100)
    monkeypatch.setattr(pretraining, "printed_gains", lambda: cells.assign(gain=cells.gain.where(~worse, 0.5)))
    found = BY_ROW[130].judge(world())
    assert (found.verdict, found.statistic) == ("refuted", 4)
    # What lies between the ends is not asked.
    between = cells.assign(gain=cells.gain.where(cells.ratio != 50, -5.0))
    monkeypatch.setattr(pretraining, "printed_gains", lambda: between)
    assert BY_ROW[130].judge(world()).verdict == "holds"


@pytest.mark.parametrize("row", sorted(PRINTED))
def test_an_empty_table_supports_nothing(row, monkeypatch):
    cells = pretraining.printed_gains()
    monkeypatch.setattr(pretraining, "printed_gains", lambda: cells[:0])
    with pytest.raises(ValueError, match="`printed_gains` must hold a"):
        BY_ROW[row].judge(world())


def test_the_balanced_baseline_of_cifar100_is_chosen_as_that_of_cifar10_was():
    grid = published("cb_cifar_grid").query("method == 'class_balanced' and loss == 'softmax'")
    lowest = grid.groupby(["dataset", "ratio"]).value.min()
    quoted = published("value_of_labels").query("method == 'CB-CE'").set_index("ratio").value
    assert quoted.to_dict() == {ratio: lowest["cifar10", ratio] for ratio in (100, 50, 10)}
    gains = pretraining.printed_gains().query("dataset == 'cifar100' and baseline == 'CB-CE'")
    assert gains.set_index("ratio").before.to_dict() == {100: 61.44, 50: 55.45, 10: 42.88}


def test_printed_gains_are_those_whose_baseline_is_printed_too():
    gains = pretraining.printed_gains().set_index(["dataset", "method", "ratio"]).gain.sort_index().round(2)
    assert len(gains) == 16
    assert gains["cifar10", "CE+SSP"].tolist() == [1.33, 3.39, 3.14]
    assert gains["cifar10", "LDAM-DRW+SSP"].tolist() == [0.37, 1.19, 0.80]
    assert gains["cifar10", "CE(balanced)+SSP"].tolist() == [1.66, 2.35, 4.16]
    assert gains["cifar100", "CE+SSP"].tolist() == [1.36, 1.19, 2.08]
    assert gains["cifar100", "CE(balanced)+SSP"].tolist() == [0.94, 2.54, 4.50]
    assert gains["inaturalist2018", "cRT+SSP"].tolist() == [2.9]


@pytest.mark.false_world(129)
def test_equal_gains_of_all_tasks_are_not_different_amounts():
    same = world()
    recall = dict(same.recall)
    for place, task in enumerate(TASKS):
        recall[20.0, "CE", task] = recall[20.0, "CE", CONTROL] + 0.05 + noise(200 + place)
    judged = BY_ROW[129].judge(Runs(recall))
    assert judged.verdict == "inconclusive"
    assert judged.statistic > 0.05


@pytest.mark.false_world(132)
def test_gains_of_the_head_alone_are_refused():
    turned = world()
    recall = dict(turned.recall)
    recall[20.0, "CE", "rotation"] = recall[20.0, "CE", CONTROL] + 0.05 * HEAD_TO_TAIL[::-1] + noise(9)
    assert BY_ROW[132].judge(Runs(recall)).verdict == "refuted"
    # The tail gains more than the head, but half of the classes lose.
    recall[20.0, "CE", "rotation"] = recall[20.0, "CE", CONTROL] + 0.1 * (HEAD_TO_TAIL - 0.5) + noise(9)
    assert BY_ROW[132].judge(Runs(recall)).verdict == "refuted"


def test_the_longer_baseline_decides_and_the_shorter_can_be_asked_for():
    recall = dict(world().recall)
    for ratio in (10.0, 20.0):
        recall[ratio, "CE", CONTROL] = recall[ratio, "CE", "rotation"] + 0.05 + noise(3)
    measured = Runs(recall)
    assert pretraining.helps_here(measured).verdict == "refuted"
    assert pretraining.judge_helps(measured).verdict == "inconclusive"
    assert pretraining.helps_here(measured, against=SCRATCH).verdict == "holds"


def test_report_takes_the_worst_class_of_every_seed():
    recall = np.array([[0.9, 0.5, 0.7], [0.9, 0.8, 0.4]])
    row = pretraining.report(Runs({(20.0, "CE", CONTROL): recall})).iloc[0]
    assert row["worst class"] == pytest.approx(55.0)
    assert row["error"] == pytest.approx(30.0)
    assert (row["head third"], row["tail third"]) == (pytest.approx(10.0), pytest.approx(45.0))


@pytest.mark.parametrize("row", [106, 129, 130, 131, 132])
def test_too_few_runs_are_said_to_be_missing(row):
    judged = BY_ROW[row].judge(without(world(), keep=1))
    assert judged.verdict == "not judged"
    assert judged.why.startswith("needs 2 measured seeds")
    assert judged.why.endswith("there is 1")
    assert BY_ROW[row].judge(Runs({})).verdict == "not judged"
    gone = without(world(), key=(20.0, "CE", CONTROL))
    assert BY_ROW[row].judge(gone).verdict in ("not judged", "holds")


def decoupled(effect):
    recall = {}
    settings = [*((name, 10) for name in pretraining.WORLDS), (pretraining.WORLDS[0], 30)]
    for number, setting in enumerate(settings):
        base = 0.6 + noise(number)
        recall[setting] = {"RW": base, "crt": base + effect + noise(number + 10)}
    return Decoupled(np.arange(10, 0, -1), recall)


@pytest.mark.false_world(104)
@pytest.mark.parametrize(
    ("effect", "verdicts"),
    [(0.02, ("holds",)), (0.0, ("inconclusive", "refuted")), (-0.02, ("refuted",))],
)
def test_decoupling_needs_a_lower_error(effect, verdicts):
    assert BY_ROW[104].judge(decoupled(effect)).verdict in verdicts


@pytest.mark.false_world(104)
def test_decoupling_needs_all_three_worlds():
    good, bad = decoupled(0.02), decoupled(-0.02)
    short = {setting: values for setting, values in good.recall.items() if setting[1] == 10}
    mixed = {**short, ("gaussian:0.05", 10): bad.recall["gaussian:0.05", 10]}
    refuted = BY_ROW[104].judge(Decoupled(good.class_counts, mixed))
    assert refuted.verdict == "refuted"
    assert "(RW - cRT, gaussian:0.05, 10 epochs)" in refuted.threshold
    assert BY_ROW[104].judge(Decoupled(good.class_counts, short)).verdict == "holds"


@pytest.mark.false_world(104)
@pytest.mark.parametrize(("short", "long"), [(-0.02, 0.02), (0.02, -0.02), (0.02, 0.0)])
def test_lengths_of_training_that_disagree_decide_nothing(short, long):
    recall = {**decoupled(short).recall, ("gaussian", 30): decoupled(long).recall["gaussian", 30]}
    found = BY_ROW[104].judge(Decoupled(np.arange(10, 0, -1), recall))
    assert found.verdict == "inconclusive"
    assert "same verdict in each setting; found 10 epochs" in found.threshold


def copy_everything(source, model):
    state = model.state_dict()
    model.load_state_dict({name: source[name] if source[name].shape == value.shape else value
                           for name, value in state.items()})  # fmt: skip


def copy_nothing(_source, _model):
    pass


def copy_parameters_only(source, model):
    kept = {name: source[name] for name, _ in model.named_parameters() if not name.startswith("head.")}
    model.load_state_dict({**model.state_dict(), **kept})


def test_transfer_holds():
    assert BY_ROW[128].run("quick", rng()).verdict == "holds"


@pytest.mark.false_world(128)
@pytest.mark.parametrize("carry", [copy_everything, copy_nothing, copy_parameters_only])
def test_other_transfers_are_refused(carry):
    measured = pretraining.measure_transfer("quick", rng(), carry)
    assert pretraining.judge_transfer(measured).verdict == "refuted"


def test_no_label_of_the_pool_is_used():
    measured = pretraining.measure_label_use("quick", rng())
    assert set(measured) == {*TASKS, "pseudo-labels"}
    assert pretraining.judge_label_use(measured).verdict == "holds"


@pytest.mark.false_world(133)
def test_a_learner_that_reads_labels_of_the_pool_is_found():
    def class_means(images, _labelled, labels):
        return torch.stack([images[labels == label].mean(dim=0) for label in range(10)])

    def selected_by_label(images, labelled, labels):
        keep = labels == 3  # a pool chosen by its true labels
        keep[labelled] = True
        return images[keep].mean(dim=0)

    def honest(images, labelled, labels):
        return images.mean(dim=0) + labels[labelled].double().mean()

    for learn, verdict in ((class_means, "refuted"), (selected_by_label, "refuted"), (honest, "holds")):
        measured = pretraining.measure_label_use("quick", rng(), {"it": learn, "fine": honest})
        assert pretraining.judge_label_use(measured).verdict == verdict


def table(*cells):
    """Recorded rows: (base, pretext, epochs, pretrain_epochs, ratio, recalls by seed)."""
    rows = []
    for base, pretext, epochs, before, ratio, recalls in cells:
        for seed, value in enumerate(recalls):
            row = {"dataset": "cifar10-jpeg", "profile": "small", "model": "resnet32", "base": base, "seed": seed}
            row |= {"classifier": "head", "method": f"{base} + {pretext}", "accuracy_last": value}
            row |= {
                "pretext": pretext,
                "epochs": epochs,
                "pretrain_epochs": before,
                "imbalance_ratio": ratio,
                "n_max": 0,
                "imbalance_type": "exponential",
            }
            rows.append(row | {f"recall_{label}": value for label in range(10)})
    return pd.DataFrame(rows)


def test_recorded_rows_are_told_apart_by_their_length():
    found = pretraining.recorded_runs(
        table(
            ("ERM", "rotation", 40, 40, 100, [0.72, 0.73, 0.74]),
            ("ERM", "none", 40, 0, 100, [0.69, 0.70, 0.71]),
            ("ERM", "none", 80, 0, 100, [0.70, 0.71, 0.73, 0.74]),
        ),
        "small",
    )
    assert set(found.recall) == {(100.0, "CE", "rotation"), (100.0, "CE", SCRATCH), (100.0, "CE", CONTROL)}
    np.testing.assert_allclose(found.gain(100.0, "CE"), [2, 2, 1])
    np.testing.assert_allclose(found.gain(100.0, "CE", against=SCRATCH), [3, 3, 3])
    assert pretraining.judge_helps(found).verdict == "holds"
    assert pretraining.judge_all_tasks(found).why.startswith("needs two tasks")
    assert pretraining.judge_imbalance(found).why.startswith("needs two imbalance ratios")
    assert pretraining.judge_uniform(found).why.startswith("needs two base methods")
    assert pretraining.recorded_runs(table(("ERM", "none", 40, 0, 100, [0.7])), "paper").recall == {}


def test_of_recorded_rows_of_several_sizes_the_largest_are_judged(tmp_path):
    arms = [("rotation", 40, 40, 0.05), ("none", 80, 0, 0.0)]
    seeds = np.array([0.70, 0.71, 0.73])
    parts = []
    for size, lift in ((250, -1.0), (1250, -1.0), (0, 1.0)):
        cells = [("ERM", task, epochs, before, 100, seeds + lift * gain) for task, epochs, before, gain in arms]
        parts.append(table(*cells).assign(n_max=size, imbalance_type="exponential"))
    # As long in all as the short runs at another size, which makes it no control at this one; and those.
    parts.append(table(("ERM", "none", 40, 0, 100, seeds - 0.2)).assign(n_max=250, imbalance_type="exponential"))
    short = table(("ERM", "rotation", 20, 20, 100, seeds), ("ERM", "none", 40, 0, 100, seeds))
    parts.append(short.assign(n_max=50, imbalance_type="exponential"))
    pd.concat(parts).to_csv(tmp_path / "sizes.csv", index=False)
    rows = pretraining.recorded_rows(tmp_path)
    np.testing.assert_allclose(pretraining.recorded_runs(rows, "small").gain(100.0, "CE"), 5)
    np.testing.assert_allclose(pretraining.recorded_runs(rows[rows.n_max > 0], "small").gain(100.0, "CE"), -5)
    cells = pretraining.recorded_cells(rows, "small")
    assert {(size, start) for size, (_, _, start) in cells} == {
        *((size, start) for size in (0, 50, 250, 1250) for start in ("rotation", CONTROL)),
        (250, SCRATCH),
    }
    # A full size that is written out is the whole set.
    again = pd.concat(parts[:3]).replace({"n_max": {0: 5000}})
    again.to_csv(tmp_path / "sizes.csv", index=False)
    rows = pretraining.recorded_rows(tmp_path)
    np.testing.assert_allclose(pretraining.recorded_runs(rows, "small").gain(100.0, "CE"), 5)


def test_recorded_rows_that_do_not_fit_are_refused(tmp_path):
    good = table(("ERM", "rotation", 40, 40, 100, [0.72]))
    with pytest.raises(ValueError, match="got seed 0 twice"):
        pretraining.recorded_runs(pd.concat([good, good]), "small")
    with pytest.raises(ValueError, match="one data set and network"):
        pretraining.recorded_runs(pd.concat([good, good.assign(model="resnet8", seed=1)]), "small")
    assert len(pretraining.recorded_rows(tmp_path)) == 0
    good.to_csv(tmp_path / "pretrain-small.csv", index=False)
    assert len(pretraining.recorded_rows(tmp_path)) == 1
    assert pretraining.recorded_runs(pretraining.recorded_rows(tmp_path / "empty"), "small").recall == {}
    both = pd.concat([good, good.assign(classifier="crt")])
    assert len(pretraining.recorded_runs(both, "small").recall) == 1


@pytest.mark.parametrize("seeds", [[9], [8, 9], [2, 9]])
def test_an_arm_that_is_not_done_takes_no_seeds_from_the_others(seeds):
    arms = [("ERM", "rotation", 40, 40, 100, [0.72, 0.73, 0.74]), ("ERM", "none", 80, 0, 100, [0.70, 0.71, 0.72])]
    other = table(("ERM", "simsiam", 40, 40, 100, [0.5] * len(seeds))).assign(seed=seeds)
    found = pretraining.recorded_runs(pd.concat([other, table(*arms)]), "small")
    np.testing.assert_allclose(found.gain(100.0, "CE"), [2, 2, 2])
    assert pretraining.judge_helps(found).verdict == "holds"
    assert pretraining.judge_all_tasks(found).why == "needs two tasks at ratio 100; there is rotation"
    # With enough seeds in common it takes part, paired by seed.
    other = table(("ERM", "simsiam", 40, 40, 100, [0.71, 0.73, 0.9])).assign(seed=[0, 2, 9])
    found = pretraining.recorded_runs(pd.concat([other, table(*arms)]), "small")
    np.testing.assert_allclose(found.gain(100.0, "CE", "simsiam"), [1, 1])
    # Where nothing is done the reason says how much there is.
    found = pretraining.recorded_runs(table(*((*arm[:5], arm[5][:1]) for arm in arms)), "small")
    assert pretraining.judge_helps(found).why.endswith("there is 1")


def test_rows_of_other_counts_or_classifiers_are_left_out(tmp_path):
    cells = [("ERM", "rotation", 40, 40, 100, [0.72, 0.73]), ("ERM", "none", 80, 0, 100, [0.70, 0.71])]
    good = table(*cells)
    step = table(*cells[:1], ("ERM", "none", 80, 0, 100, [0.9, 0.91])).assign(imbalance_type="step")
    step.to_csv(tmp_path / "rows.csv", index=False)
    assert pretraining.judge_helps(pretraining.measure_gains("small", rng(), folder=tmp_path)).verdict == "not judged"
    pd.concat([step, good, good.assign(classifier="crt")]).to_csv(tmp_path / "rows.csv", index=False)
    measured = pretraining.measure_gains("small", rng(), folder=tmp_path)
    np.testing.assert_allclose(measured.gain(100.0, "CE"), 2)


def test_of_several_worlds_that_with_most_rows_is_judged(tmp_path):
    def gains():
        pd.concat(parts).to_csv(tmp_path / "rows.csv", index=False)
        return pretraining.measure_gains("small", rng(), folder=tmp_path).gain(100.0, "CE").round(6).tolist()

    def part(gain, seeds, **fields):
        start = np.full(seeds, 0.7)
        cells = ("ERM", "rotation", 40, 40, 100, start + gain), ("ERM", "none", 80, 0, 100, start)
        return table(*cells).assign(**fields)

    parts = [part(0.01, 2, model="resnet8"), part(0.03, 3, model="resnet32"), part(0.5, 9, dataset="cifar100")]
    assert gains() == [3, 3, 3]
    # Step counts and other classifiers do not make a world larger.
    parts += [part(0.5, 9, model="resnet8", imbalance_type="step"), part(0.5, 9, model="resnet8", classifier="crt")]
    assert gains() == [3, 3, 3]
    parts.append(part(0.02, 3, dataset="cifar10", model="wrn"))  # as many: the first by name
    assert gains() == [2, 2, 2]
    parts = parts[2:3]
    assert gains() == [50] * 9


def test_a_world_of_digits_is_the_same_problem_for_every_seed():
    world_ = runs.digit_world(20.0, num_seeds=3)
    assert world_.rows.shape == (3, int(world_.class_counts.sum()))
    for rows, test_targets in zip(world_.rows, world_.test_targets, strict=True):
        assert world_.targets[rows].bincount().tolist() == world_.class_counts.tolist()
        assert np.bincount(test_targets).tolist() == [50] * 10
    assert not np.array_equal(world_.test_targets[0], world_.test_targets[1])


@pytest.mark.false_world(106)
def test_training_on_wrong_answers_is_refused_end_to_end():
    # False world: the "pre-trained" networks are dead, all units off, so training cannot start from them.
    world_ = runs.digit_world(10.0, num_seeds=3)
    pretrained = runs.pretrain_digits(world_, "rotation", epochs=2)
    dead = [{name: -value.abs() if name != "head.weight" else value for name, value in state.items()}
            for state in pretrained.states]  # fmt: skip
    dead = [{**state, "layer2.bias": torch.full_like(state["layer2.bias"], -100.0)} for state in dead]
    broken = runs.Pretrained(dead, "", pretrained.score, pretrained.curve)
    arms = {(10.0, "CE", "rotation"): runs.Arm("CE", broken, 4), (10.0, "CE", CONTROL): runs.Arm("CE", None, 6)}
    measured = Runs(runs.train_arms(world_, arms))
    assert measured.error(10.0, "CE", CONTROL).mean() < 60
    assert pretraining.helps_here(measured).verdict == "refuted"


def test_arms_are_trained_alike_in_any_company():
    world_ = runs.digit_world(20.0, num_seeds=2)
    start = runs.pretrain_digits(world_, "jigsaw", epochs=1)
    arms = {"a": runs.Arm("RW", None, 2), "b": runs.Arm("LDAM", start, 2), "c": runs.Arm("CE", start, 2)}
    together = runs.train_arms(world_, arms)
    for name, arm in arms.items():
        np.testing.assert_allclose(runs.train_arms(world_, {name: arm})[name], together[name])


def test_decoupled_runs_have_all_classifiers():
    class_counts, recall, chosen = runs.decoupled_runs("gaussian", ("crt", "ncm"), num_seeds=2, epochs=1)
    assert class_counts[[0, -1]].tolist() == [980, 10]  # the largest class has no other samples for validation
    assert {name: values.shape for name, values in recall.items()} == dict.fromkeys(
        ("ERM", "RW", "crt", "ncm"), (2, 10)
    )
    assert [len(values) for values in chosen.values()] == [2, 2]


def test_probe_prefers_features_to_noise():
    world_ = runs.digit_world(10.0, num_seeds=2)
    accuracy = runs.probe_digits(world_, None, epochs=5)
    assert ((accuracy > 0.5) & (accuracy < 1)).all()
