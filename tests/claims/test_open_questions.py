"""The checks on the open questions refuse false worlds; arms are what their names say."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lt_lib.claims import _open_question_runs as runs_of
from lt_lib.claims import open_questions, pretraining
from lt_lib.claims._open_question_runs import LABELLED, POOL, RANDOM, Arm, Runs
from lt_lib.claims._self_training_runs import Setting
from lt_lib.claims.measured import measured_rows
from lt_lib.claims.open_questions import BAD, CHECKS, DIGITS, GOOD, TEACHERS, TOGETHER, Sizes

BY_ROW = {check.claim.id: check for check in CHECKS}
SEEDS, CLASSES = 10, 10
SHORT = Setting(labelled=0.5, amount=1.0, pool_ratio=1.0, length=0.1)


def rng():
    return np.random.default_rng(0)


def gain_of(arm):
    """Points at which rows 136 and 137 hold: 2 by pre-training, 3 by a good pool, 6 by both."""
    if not arm.teacher:
        return 0.0 if arm.start == RANDOM else 2.0
    if arm.data == BAD:
        return -4.0
    return 3.0 if arm.start == RANDOM else 6.0


def together(effect=1.0, gain=gain_of):
    """Runs with `effect` times the wanted gains."""
    noise, found = np.random.default_rng(1), Runs({})
    for arm in {each: None for one in open_questions.together_arms() for each in (one.baseline, one)}:
        shake = noise.normal(scale=0.002, size=(SEEDS, CLASSES))
        found.recall[arm] = 0.7 + effect * gain(arm) / 100 + shake
    return found


def sizes(side=1.0, slope=1.0, smallest=60.0, effect=1.0):
    """Gains that are zero at `smallest` times ratio ** `slope`, positive above it for `side` 1."""
    ratio = np.repeat([1.0, 10.0, 50.0], 5)
    largest = np.tile([50.0, 100.0, 250.0, 500.0, 1000.0], 3)
    gain = side * effect * (np.log(largest / smallest) - slope * np.log(ratio))
    noise = np.random.default_rng(2).normal(scale=0.05, size=(SEEDS, len(gain)))
    return Sizes(largest, largest / ratio, ratio, gain + noise, np.full((SEEDS, len(gain)), 20.0))


def test_rows_are_those_of_the_notebook_in_order():
    assert [check.claim.id for check in CHECKS] == [136, 137, 138]
    assert BY_ROW[137].run("small", rng()).verdict == "not judged"


@pytest.mark.parametrize("row", [136, 137])
def test_claims_hold_in_their_world(row):
    assert BY_ROW[row].judge(together()).verdict == "holds"


@pytest.mark.false_world(136, 137)
@pytest.mark.parametrize("row", [136, 137])
@pytest.mark.parametrize("effect", [0.0, -1.0])
def test_claims_do_not_hold_without_or_with_reversed_effect(row, effect):
    verdict = BY_ROW[row].judge(together(effect)).verdict
    assert verdict == "refuted" if effect < 0 else verdict in ("refuted", "inconclusive")


@pytest.mark.false_world(136)
def test_a_bad_pool_on_which_self_training_is_better_refutes_the_preference():
    bad = open_questions.task_on_pool("gaussian", BAD)
    found = BY_ROW[136].judge(together(gain=lambda each: -6.0 if each == bad else gain_of(each)))
    assert found.verdict == "refuted"
    assert "bad pool" in found.threshold

    def harmless(arm):  # self-training gains on every pool
        return abs(gain_of(arm))

    assert BY_ROW[136].judge(together(gain=harmless)).verdict == "refuted"


@pytest.mark.false_world(136)
def test_a_preference_that_the_pool_does_not_make_is_refused():
    def anywhere(arm, good=0.0):  # pre-training is as much better, or more, on the good pool
        if arm == open_questions.self_trained("gaussian"):
            return -4.0 - good
        return gain_of(arm)

    found = BY_ROW[136].judge(together(gain=anywhere))
    assert found.verdict == "inconclusive"
    assert "bad pool less good pool" in found.threshold
    assert BY_ROW[136].judge(together(gain=lambda arm: anywhere(arm, 3.0))).verdict == "refuted"


@pytest.mark.parametrize("arm", open_questions.preferred())
def test_a_loss_of_pre_training_stands_beside_the_row(arm):
    runs = together(gain=lambda each: -2.0 if each == arm else gain_of(each))
    refuted = [name for name, part in open_questions.beside_preference(runs).items() if part.verdict == "refuted"]
    assert len(refuted) == 1
    assert refuted[0].startswith(f"{arm.world}: pre-training on")
    assert len(open_questions.beside_preference(together())) == 8


def test_no_loss_shown_and_a_point_ruled_out():
    noise = np.random.default_rng(0).normal(size=10)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    verdicts = [open_questions.never_worse(mean + spread * noise).verdict
                for mean, spread in ((0.0, 1.0), (-0.5, 0.1), (0.0, 4.0), (-3.0, 1.0))]  # fmt: skip
    assert verdicts == ["holds", "refuted", "inconclusive", "refuted"]


@pytest.mark.false_world(137)
@pytest.mark.parametrize("world", TOGETHER)
@pytest.mark.parametrize("teacher", TEACHERS)
def test_one_world_and_teacher_without_an_addition_is_enough(world, teacher):
    def gain(arm, value=3.0):
        return value if arm == open_questions.both(world, teacher) else gain_of(arm)

    assert BY_ROW[137].judge(together(gain=gain)).verdict == "inconclusive"
    found = BY_ROW[137].judge(together(gain=lambda arm: gain(arm, 1.0)))
    assert found.verdict == "refuted"
    assert f"({world}, {TEACHERS[teacher]} teacher)" in found.threshold


def test_interaction_is_what_both_bring_beyond_the_sum():
    values = open_questions.interaction(together(), "digits", RANDOM)
    assert values.shape == (SEEDS,)
    assert values.mean() == pytest.approx(6 - 3 - 2, abs=0.3)


def test_sizes_hold_in_their_world():
    found = BY_ROW[138].judge({"a": sizes(), "b": sizes(smallest=80.0)})
    assert found.verdict == "holds"


@pytest.mark.false_world(138)
@pytest.mark.parametrize(
    ("wrong", "verdict", "words"),
    [
        (sizes(side=-1.0), "refuted", "mean > 0 points per factor e"),
        (sizes(slope=0.0, smallest=200.0), "refuted", "slope"),
        (sizes(effect=0.0), "inconclusive", "crossing in range"),
        (sizes(smallest=1e-6), "inconclusive", "open: no crossing in range"),
        (sizes(side=-1.0, smallest=1e9), "inconclusive", "open: no crossing in range"),
    ],
)
def test_a_contour_elsewhere_or_of_another_shape_is_refused(wrong, verdict, words):
    found = BY_ROW[138].judge({"right": sizes(), "wrong": wrong})
    assert found.verdict == verdict
    assert words in found.threshold
    assert found.threshold.endswith("(wrong)")


def test_the_contour_is_found_where_it_was_put():
    for ratio, size in ((1.0, 60.0), (10.0, 600.0)):
        found = open_questions.contour(sizes(), ratio)
        assert found.size == pytest.approx(size, rel=0.1)
        assert found.low < size < found.high
        assert found.inside == 1.0
    assert open_questions.contour(sizes(), 50.0).inside == 0.0  # at 3000, beyond what was measured
    assert open_questions.contour_slope(sizes())[0] == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(sizes().coefficients.mean(axis=0), [-np.log(60), 1, -1, 0], atol=0.15)
    assert open_questions.rise(sizes(side=-2.0)).mean() == pytest.approx(-2.0, abs=0.05)


def test_the_distance_says_how_near_a_contour_is_to_failing():
    near, far = open_questions.judge_shape(sizes(slope=0.6)), open_questions.judge_shape(sizes(slope=1.0))
    assert 0 < near.distance < far.distance
    assert near.distance == pytest.approx((near.statistic - 0.5) / ((near.high - near.low) / 2))
    assert open_questions.judge_shape(sizes(slope=0.0, smallest=200.0)).distance < 0
    inside, beyond = (open_questions.judge_crossing(each) for each in (sizes(), sizes(smallest=1e-6)))
    assert inside.distance == pytest.approx(0.05 / 0.95)
    assert beyond.distance < 0


def test_the_contour_may_bend():
    ratio, largest = np.repeat([1.0, 10.0], 2), np.array([50.0, 1000.0] * 2)
    # Zero at 100 for ratio 1, at 400 for ratio 10, with different slopes.
    gain = np.where(ratio == 1, np.log(largest / 100), 3 * np.log(largest / 400))
    noise = np.random.default_rng(3).normal(scale=0.01, size=(SEEDS, 4))
    bent = Sizes(largest, largest / ratio, ratio, gain + noise, np.zeros((SEEDS, 4)))
    assert open_questions.contour(bent, 1.0).size == pytest.approx(100, rel=0.02)
    assert open_questions.contour(bent, 10.0).size == pytest.approx(400, rel=0.02)
    assert open_questions.contour_slope(bent)[0] == pytest.approx(np.log10(4), abs=0.02)


@pytest.mark.false_world(138)
def test_a_verdict_that_half_as_many_updates_do_not_give_is_inconclusive():
    found = BY_ROW[138].judge({"gaussian": sizes(), open_questions.SHORTER: sizes(side=-1.0)})
    assert found.verdict == "inconclusive"
    assert found.threshold.endswith("(gaussian); half as long refuted")
    same = {"gaussian": sizes(side=-1.0), open_questions.SHORTER: sizes(side=-1.0)}
    assert BY_ROW[138].judge(same).verdict == "refuted"


THREE_SEEDS = (0, 1, 2)


def recorded(folder, gain, *, ratios=(1.0, 10.0, 50.0), sizes=(250, 1250, 0), seeds=THREE_SEEDS, **fields):
    """Rows of rotation and of its control; `gain` makes points of the largest class and the ratio."""
    noise, rows = np.random.default_rng(4), []
    for ratio in ratios:
        for size in sizes:
            points = gain(size or 5000.0, ratio)
            for pretext, before, epochs, better in (("rotation", 20, 20, points), ("none", 0, 40, 0.0)):
                for seed in seeds:
                    accuracy = 0.5 + (better + noise.normal(scale=0.05)) / 100
                    row = {
                        "dataset": "cifar10-jpeg",
                        "profile": "small",
                        "model": "resnet8",
                        "base": "ERM",
                        "seed": seed,
                    }
                    row |= {"method": f"ERM {pretext}", "imbalance_type": "exponential", "imbalance_ratio": ratio}
                    row |= {"n_max": size, "pretext": pretext, "classifier": "head", "pretrain_epochs": before}
                    row |= {"epochs": epochs, "accuracy_last": accuracy}
                    rows.append(row | {f"recall_{label}": accuracy for label in range(10)} | fields)
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / "sizes.csv", index=False)
    return folder


def judged(folder, profile="small"):
    return BY_ROW[138].judge(BY_ROW[138].measure(profile, rng(), folder=folder))


def rare_samples(largest, ratio, side=1.0, slope=1.0):
    return side * 2 * (np.log(largest / 400) - slope * np.log(ratio))


@pytest.mark.false_world(138)
def test_rows_on_images_of_several_sizes_have_a_contour(tmp_path):
    true = judged(recorded(tmp_path / "true", rare_samples))
    assert true.verdict == "holds"
    assert true.threshold.endswith("(cifar10-jpeg, resnet8)")
    wrong = judged(recorded(tmp_path / "side", lambda n, ratio: rare_samples(n, ratio, -1.0)))
    assert (wrong.verdict, wrong.threshold[:8]) == ("refuted", "mean > 0")
    # Without the column the sizes are those that n_max and the ratio ask for.
    found = BY_ROW[138].measure("small", rng(), folder=tmp_path / "true")["cifar10-jpeg, resnet8"]
    assert sorted(zip(found.ratio, found.largest, found.rarest, strict=True))[3:6] == [
        (10.0, 250.0, 25.0), (10.0, 1250.0, 125.0), (10.0, 5000.0, 500.0),
    ]  # fmt: skip
    np.testing.assert_allclose(
        found.gain.mean(axis=0),
        [rare_samples(*each) for each in zip(found.largest, found.ratio, strict=True)],
        atol=0.2,
    )
    recorded(tmp_path / "none", lambda n, ratio: 0.0)
    assert judged(tmp_path / "none").verdict == "inconclusive"
    assert judged(tmp_path / "true", "paper").verdict == "not judged"


def test_rows_of_one_size_are_not_taken_for_several(tmp_path):
    with pytest.raises(ValueError, match="`table` must hold every run once, got seed 0 twice for CE"):
        judged(recorded(tmp_path, rare_samples, n_max=250))


@pytest.mark.parametrize("fields", [{"ratios": (10.0,)}, {"sizes": (250,)}, {"seeds": (0,)}, {"seeds": (0, 1)}])
def test_a_contour_needs_three_seeds_at_two_sizes_and_ratios(tmp_path, fields):
    outcome = judged(recorded(tmp_path, rare_samples, **fields))
    assert (outcome.verdict, outcome.why[:24]) == ("not judged", "needs 3 measured seeds o")


def missing(folder, repository, capsys):
    """What section 8 of the notebook prints for the rows of a folder."""
    cells = json.loads((repository / "notebooks" / "120_open_questions.ipynb").read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    (first,) = [k for k, text in enumerate(texts) if text.startswith("## 8 ·") or "\n## 8 ·" in text]
    (last,) = [k for k, text in enumerate(texts) if text.startswith("## 9 ·")]
    code = [text for text, cell in zip(texts, cells, strict=True) if cell["cell_type"] == "code"]
    source = "\n".join(text for text in texts[first + 1 : last] if text in code)
    names = {"pretraining": pretraining, "measured_rows": measured_rows, "results_dir": str(folder)}
    exec(source, names)
    return capsys.readouterr().out


def test_the_notebook_names_what_is_missing_and_nothing_else(tmp_path, repository, capsys):
    (tmp_path / "none").mkdir()
    printed = missing(tmp_path / "none", repository, capsys)
    assert printed.count("n_max 250, 1250, 0 (all there are)") == 3
    assert "920_run_pretrain" not in missing(recorded(tmp_path / "true", rare_samples), repository, capsys)
    rows = pd.read_csv(tmp_path / "true" / "sizes.csv")
    control = (rows.pretext == "none") & (rows.n_max == 250) & (rows.imbalance_ratio == 10)
    # What stands for a control without being one: another length, base, classifier or kind of counts.
    for change in ({"epochs": 20}, {"base": "LDAM"}, {"classifier": "crt"}, {"imbalance_type": "step"}):
        wrong = rows.copy()
        for name, value in change.items():
            wrong.loc[control, name] = value
        (tmp_path / "wrong").mkdir(exist_ok=True)
        wrong.to_csv(tmp_path / "wrong" / "sizes.csv", index=False)
        printed = missing(tmp_path / "wrong", repository, capsys)
        assert "missing on cifar10-jpeg, resnet8, small: 920_run_pretrain" in printed
        assert "imbalance_ratio 10: n_max 250\n" in printed
        assert printed.count("n_max") == 1
    # Seeds of several data sets, networks and profiles do not add up.
    for name, value in (("dataset", "cifar10"), ("model", "resnet32"), ("profile", "paper")):
        parts = [rows[rows.seed < 2], rows[rows.seed == 2].assign(**{name: value})]
        pd.concat(parts).to_csv(tmp_path / "wrong" / "sizes.csv", index=False)
        assert missing(tmp_path / "wrong", repository, capsys).count("missing on") == 2


def test_sizes_are_those_that_were_trained_on(tmp_path):
    folder = recorded(tmp_path, rare_samples)
    rows = pd.read_csv(folder / "sizes.csv")
    held = {0: "4900" + " 30" * 9, 250: "250" + " 9" * 9, 1250: "1250" + " 19" * 9}
    rows.assign(class_counts=rows.n_max.map(held)).to_csv(folder / "sizes.csv", index=False)
    (found,) = BY_ROW[138].measure("small", rng(), folder=folder).values()
    assert {*zip(found.largest, found.rarest, strict=True)} == {(4900.0, 30.0), (250.0, 9.0), (1250.0, 19.0)}
    # Rows of step counts or of another classifier, though they come first, say nothing of them.
    good = rows.assign(class_counts=rows.n_max.map(held))
    others = [good.assign(class_counts="7 7 7 7 7 7 7 7 7 1", **each)
              for each in ({"imbalance_type": "step"}, {"classifier": "crt"})]  # fmt: skip
    pd.concat([*others, good]).to_csv(folder / "sizes.csv", index=False)
    (again,) = BY_ROW[138].measure("small", rng(), folder=folder).values()
    assert {*zip(again.largest, again.rarest, strict=True)} == {(4900.0, 30.0), (250.0, 9.0), (1250.0, 19.0)}
    # Digits have no known full size, so a row that does not say how many there were is left out.
    rows.assign(dataset="digits").to_csv(folder / "sizes.csv", index=False)
    (found,) = BY_ROW[138].measure("small", rng(), folder=folder).values()
    assert {*found.largest} == {250.0, 1250.0}


def test_real_rows_of_two_sizes_are_kept_apart_and_judged(tmp_path, monkeypatch):
    from lt_lib.recipes import PretrainConfig, pretrain, run_pretrain

    monkeypatch.setattr(pretrain, "_probe_accuracy", lambda *_: 0.5)  # most of the time, and no row is judged by it
    short = {"dataset": "digits", "batch_size": 64, "profile": "small", "device": "cpu", "evaluate_every": 2}
    rows = []
    for ratio in (2.0, 5.0):
        for size in (20, 60):
            for seed in THREE_SEEDS:
                config = PretrainConfig(
                    **short, n_max=size, imbalance_ratio=ratio, seed=seed, pretrain_epochs=1, epochs=1
                )
                rows += [run_pretrain(each).to_row() for each in (config, config.control())]
    pd.DataFrame(rows).to_csv(tmp_path / "sizes.csv", index=False)
    outcome = judged(tmp_path)
    assert outcome.verdict != "not judged"
    (found,) = BY_ROW[138].measure("small", rng(), folder=tmp_path).values()
    assert {*zip(found.ratio, found.largest, found.rarest, strict=True)} == {
        (2.0, 20.0, 10.0), (2.0, 60.0, 30.0), (5.0, 20.0, 4.0), (5.0, 60.0, 12.0),
    }  # fmt: skip
    place = int(np.flatnonzero((found.ratio == 5) & (found.largest == 60))[0])
    errors = {(row["pretext"], row["seed"]): 100 * (1 - np.mean([row[f"recall_{k}"] for k in range(10)]))
              for row in rows if (row["imbalance_ratio"], row["n_max"]) == (5.0, 60)}  # fmt: skip
    gains = [errors["none", seed] - errors["rotation", seed] for seed in THREE_SEEDS]
    np.testing.assert_allclose(found.gain[:, place], gains)


def test_grids_hold_all_sizes_that_leave_every_class_a_sample():
    cells = {
        name: [runs_of.class_counts(grid.world, arm.data) for arm in open_questions.size_arms(grid)]
        for name, grid in open_questions.GRIDS.items()
    }
    assert [int(each[0]) for each in cells["gaussian"]] == [50, 250, 1000] * 3
    assert [int(each[0]) for each in cells[open_questions.SHORTER]] == [50, 1000] * 2
    assert [int(each[0]) for each in cells["digits"]] == [6, 30, 120, 30, 120]
    assert min(each.min() for each in (*cells["gaussian"], *cells["digits"])) == 1
    lengths = {arm.length for name in ("gaussian", open_questions.SHORTER)
               for arm in open_questions.size_arms(open_questions.GRIDS[name])}  # fmt: skip
    assert lengths == {1.0, 0.5}


def test_arms_say_where_they_come_from_and_get_equally_many_updates():
    arm = Arm("gaussian", GOOD, LABELLED, POOL)
    assert arm.source == Arm("gaussian", GOOD.base, LABELLED)
    assert arm.labelling == Arm("gaussian", GOOD, POOL)
    assert arm.baseline == Arm("gaussian", GOOD.base)
    for world in TOGETHER:
        assert Arm(world, start=RANDOM).length == 2 * Arm(world, start=LABELLED).length
    assert Arm("gaussian").length == 2 * Arm("digits").length == 2.0


@pytest.mark.parametrize("world", TOGETHER)
def test_arms_are_trained_alike_in_any_company(world):
    data = replace(SHORT, ratio=10.0)
    arms = [Arm(world, data, LABELLED), Arm(world, data, POOL, RANDOM), Arm(world, data, RANDOM, LABELLED)]
    many = runs_of.run_arms(arms, seeds=range(2))
    assert {*arms, arms[0].baseline, arms[0].source} <= {*many.recall}
    for arm in arms:
        alone = runs_of.run_arms([arm], seeds=range(2))
        np.testing.assert_allclose(alone.recall[arm], many.recall[arm])
    assert not np.allclose(many.recall[arms[0]], many.recall[arms[0].baseline])
    assert ((many.pool_error[arms[1]] > 0) & (many.pool_error[arms[1]] < 1)).all()
    assert set(many.score) == {arms[0].source, arms[1].source}


def test_a_start_is_the_pre_trained_network_but_for_its_last_layer():
    seen = runs_of.labelled_set("digits", SHORT.base, 0)[0]
    (state,), score = runs_of.pretrain("digits", [seen], [0], length=0.1)
    network = runs_of.start_network("digits", 0, state)
    fresh = runs_of.network("digits", CLASSES, 0)
    assert torch.equal(network.layer1.weight, state["layer1.weight"])
    assert not torch.equal(network.layer1.weight, fresh.layer1.weight)
    assert torch.equal(network.head.weight, fresh.head.weight)
    assert score.shape == (1,)
    again = runs_of.pretrain("digits", [seen, seen[:30]], [0, 1], length=0.1)[0][0]
    torch.testing.assert_close(again["layer2.weight"], state["layer2.weight"])


def test_a_pool_of_digits_is_what_the_labelled_draw_left_over():
    inputs, targets = runs_of.labelled_set("digits", DIGITS, 3)
    pool, classes = runs_of.unlabelled_pool("digits", DIGITS, 3)
    assert targets.bincount().tolist() == runs_of.class_counts("digits", DIGITS).tolist()
    assert len(pool) == pytest.approx(2 * len(inputs), abs=10)
    assert len(set(np.bincount(classes))) == 1
    known = {row.tobytes() for row in inputs.numpy()}
    assert not any(row.tobytes() in known for row in pool.numpy())
    assert not np.array_equal(runs_of.test_sets("digits", 0)[1], runs_of.test_sets("digits", 1)[1])


@pytest.mark.false_world(136, 137)
def test_dead_networks_are_refused_end_to_end():
    """False world: what was learned without labels is thrown away, and all units are off."""

    def dead(state):
        return {**state, "layer2.bias": torch.full_like(state["layer2.bias"], -100.0)}

    arms = [open_questions.pretrained("gaussian"), open_questions.self_trained("gaussian")]
    found = runs_of.run_arms([*arms, open_questions.both("gaussian", RANDOM)], seeds=range(3), states_of=dead)
    assert found.error(arms[0].baseline).mean() < 40
    assert open_questions.complementary(found, "gaussian", RANDOM).verdict == "refuted"
    assert open_questions.never_worse(found.gain(arms[0])).verdict == "refuted"


@pytest.mark.false_world(138)
def test_dead_networks_have_no_contour_end_to_end():
    def dead(state):
        return {**state, "layer2.bias": torch.full_like(state["layer2.bias"], -100.0)}

    arms = [
        replace(arm, data=replace(arm.data, length=0.2))
        for arm in open_questions.size_arms(open_questions.GRIDS[open_questions.SHORTER])
    ]
    found = open_questions.gathered(runs_of.run_arms(arms, seeds=range(3), states_of=dead), arms)
    assert (found.gain < 0).all()
    assert open_questions.judge_crossing(found).verdict == "inconclusive"


def test_labels_alone_learn_the_two_gaussians_with_enough_samples():
    inputs, targets = runs_of.two_gaussians(2000, 500, rng())
    assert np.bincount(targets).tolist() == [2000, 500]
    ratio = inputs[targets == 0].var() / inputs[targets == 1].var()
    assert ratio == pytest.approx(runs_of.FEATURE_VARIANCE, rel=0.1)
    errors = runs_of.feature_runs([(16, 16), (2000, 2000)], seeds=range(2), steps=100)
    assert errors.shape == (2, 2)
    assert (errors[:, 0] > errors[:, 1] + 15).all()
    # The adjusted loss is the plain one where the classes are equal, and saves rare samples where they are not.
    plain, free = (runs_of.feature_runs([(64, 64), (640, 64)], seeds=range(2), steps=100, adjusted=each)
                   for each in (False, True))  # fmt: skip
    np.testing.assert_allclose(plain[:, 0], free[:, 0], atol=0.2)
    assert (free[:, 1] < plain[:, 1] - 3).all()
