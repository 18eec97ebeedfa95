"""Rows of measured runs: reading, pairing, and every rule that judges them, in a true, a null and a reversed world."""

import json

import numpy as np
import pandas as pd
import pytest

from lt_lib.claims import Judgement, crest, ldam_practice, measured
from lt_lib.claims.ledger import check, recorded, row

SEEDS = 3


def rng():
    return np.random.default_rng(0)


def recalls(accuracy, slope=0.0, classes=10):
    """Recalls with this mean; a positive slope gives the later, rarer classes more."""
    return {f"recall_{k}": accuracy + slope * (2 * k / (classes - 1) - 1) for k in range(classes)}


def run(method, seed, accuracy, *, slope=0.0, **fields):
    base = {"dataset": "cifar10-jpeg", "profile": "small", "model": "resnet32", "method": method, "seed": seed}
    base |= {"imbalance_type": "exponential", "imbalance_ratio": 100.0, "loss": "softmax", "beta": None, "gamma": None}
    return base | {"accuracy_last": accuracy} | recalls(accuracy, slope) | fields


def judged(number, folder, profile="small"):
    subject = check(number)
    return subject.judge(subject.measure(profile, rng(), folder=folder))


def write(folder, rows, name="rows.csv"):
    folder.mkdir(exist_ok=True)
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return folder


def jitter(*key):
    return 0.002 * np.random.default_rng(key).standard_normal()


# Reading and pairing


def test_rows_come_from_every_table_that_has_the_shared_columns(tmp_path):
    assert measured.measured_rows("small", tmp_path).empty
    write(tmp_path, [run("ERM", 0, 0.5), run("LDAM", 0, 0.5) | {"accuracy_last": None}])
    write(tmp_path, [run("ERM", 1, 0.6, profile="paper", protocol="p")], "more.csv")
    (tmp_path / "zipf.csv").write_text("rank,word\n1,the\n")
    rows = measured.measured_rows(folder=tmp_path)
    assert rows.method.tolist() == ["ERM", "ERM"]
    assert rows.table.tolist() == ["more.csv", "rows.csv"]
    assert rows.gamma.isna().all()
    # A run without a result is no row.
    small = measured.measured_rows("small", tmp_path)
    assert small.accuracy_last.tolist() == [0.5]
    assert measured.with_worlds(small).world.tolist() == ["cifar10-jpeg, resnet32, ratio 100"]


def test_sizes_are_numbers_and_zero_is_the_whole_set(tmp_path):
    write(tmp_path, [run("ERM", 0, 0.5)], "a.csv")  # as tables were before the column
    write(tmp_path, [run("ERM", seed, 0.5, n_max=size) for seed, size in ((1, 0), (2, 5000), (3, 250))], "b.csv")
    write(tmp_path, [run("ERM", 4, 0.5, n_max=5000, dataset="svhn")], "c.csv")
    rows = measured.measured_rows(folder=tmp_path).set_index("seed")
    assert rows.n_max.to_dict() == {0: 0, 1: 0, 2: 0, 3: 250, 4: 5000}
    sizes = {seed: measured.class_sizes(row, 10) for seed, row in rows.iterrows()}
    assert [(sizes[seed][0], sizes[seed][9]) for seed in (0, 2, 3)] == [(5000, 50), (5000, 50), (250, 2)]
    counted = rows.loc[4].copy()
    counted["class_counts"] = "3 9 5"
    assert measured.class_sizes(counted, 3).tolist() == [9, 5, 3]
    step = rows.loc[3].copy()
    step["imbalance_type"] = "step"
    assert measured.class_sizes(step, 10) is None
    unknown = rows.loc[4].copy()
    unknown["n_max"] = 0.0
    assert measured.class_sizes(unknown, 10) is None


def test_recalls_stand_in_the_order_of_the_counts(tmp_path):
    lines = [run("ERM", 0, 0.5, class_counts="1 2 4 2"), run("ERM", 1, 0.5)]
    lines = [{k: v for k, v in line.items() if "recall" not in k} for line in lines]
    lines = [line | {f"recall_{label}": label / 10 for label in range(4)} | {"recall_many": 1.0} for line in lines]
    rows = measured.measured_rows(folder=write(tmp_path, lines))
    assert measured.recall_columns(rows) == [f"recall_{label}" for label in range(4)]
    np.testing.assert_allclose(measured.recalls_by_count(rows), [[0.2, 0.1, 0.3, 0.0], [0.0, 0.1, 0.2, 0.3]])


def test_a_run_that_stands_in_two_tables_counts_once(tmp_path):
    lines = [run("ERM", seed, 0.5, config_hash=f"c{seed}", data_hash="d") for seed in (0, 1)]
    write(tmp_path, lines, "a.csv")
    write(tmp_path, [*lines[:1], run("ERM", 2, 0.5)], "b.csv")
    assert measured.measured_rows(folder=tmp_path).seed.tolist() == [0, 1, 2]


@pytest.mark.parametrize("change", [{"accuracy_last": 0.7}, {"recall_3": 0.7}, {"device": "gpu", "accuracy_last": 0.7}])
def test_two_results_of_one_run_are_refused(tmp_path, change):
    line = run("ERM", 0, 0.5, config_hash="c0", data_hash="d", device="cpu")
    write(tmp_path, [line], "a.csv")
    # A table without recalls agrees with one that has them.
    write(tmp_path, [{name: value for name, value in line.items() if "recall" not in name}], "b.csv")
    write(tmp_path, [line | {"device": "gpu", "seconds": 1.0}], "c.csv")
    assert measured.measured_rows(folder=tmp_path).table.tolist() == ["a.csv"]
    # The first table need not be one of the two.
    write(tmp_path, [{name: value for name, value in line.items() if "recall" not in name}], "a.csv")
    write(tmp_path, [line], "b.csv")
    write(tmp_path, [line | change], "c.csv")
    with pytest.raises(ValueError, match="must hold one result per run, got two of configuration c0 in [ab].csv and c"):
        measured.measured_rows(folder=tmp_path)


@pytest.mark.parametrize("number", [5, 10, 92, 96, 22])
def test_rows_of_a_smaller_set_do_not_change_a_verdict_on_the_whole_one(number, tmp_path):
    make = {5: ldam_world, 96: ldam_world, 92: review_world, 10: lambda to: weighted_world(to, 0.04)}
    folder = make.get(number, lambda to: balanced_world(to, 0.03))(tmp_path)
    before = judged(number, folder)
    rows = pd.read_csv(folder / "rows.csv").copy()
    rows.assign(n_max=60).to_csv(folder / "smaller.csv", index=False)
    after = judged(number, folder)
    assert after.verdict == before.verdict != "not judged"
    assert after.statistic == pytest.approx(before.statistic)


def formats_of(folder, formats, name="rows"):
    """Provenance beside a table: number format of each configuration."""
    known = {key: {"precision": value} for key, value in formats.items()}
    (folder / f"{name}.json").write_text(json.dumps(known))
    return folder


def test_number_formats_come_from_the_provenance_beside_a_table(tmp_path):
    lines = [run("ERM", seed, 0.5, config_hash=f"c{seed}", data_hash="d") for seed in (0, 1, 2)]
    formats_of(write(tmp_path, lines), {"c0": "bfloat16", "c1": "float32"})
    write(tmp_path, [run("ERM", 3, 0.5, precision="auto")], "grid.csv")
    found = measured.measured_rows(folder=tmp_path).set_index("seed").number_format
    assert found.dropna().to_dict() == {0: "bfloat16", 1: "float32"}
    assert found.isna().sum() == 2


def test_runs_in_two_number_formats_are_no_pair():
    cells = [(method, seed, 5.0 + seed) for method in ("ERM", "LDAM") for seed in (0, 1, 2)]
    table = pd.DataFrame(cells, columns=["method", "seed", "error"])
    # Seed 0 differs, seed 1 agrees, and of seed 2 one side is not known.
    table["number_format"] = ["bfloat16", "float32", None, "float32", "float32", "float32"]
    erm, ldam = (table[table.method == name] for name in ("ERM", "LDAM"))
    assert measured.differences_by_seed(erm, ldam).index.tolist() == [1, 2]
    assert measured.differences_by_seed(erm, ldam, any_format=True).index.tolist() == [0, 1, 2]
    assert measured.number_of_pairs(table, "LDAM", "ERM") == 2
    assert measured.number_of_pairs(table, "LDAM", "ERM", any_format=True) == 3
    assert measured.paired_differences(table[table.seed < 2], "LDAM", "ERM") == {}


@pytest.mark.parametrize("number", [91, 95, 96])
def test_no_row_is_judged_from_runs_in_two_number_formats(number, tmp_path):
    rows = pd.read_csv(ldam_world(tmp_path, seeds=2) / "rows.csv")
    rows["config_hash"] = [f"c{line}" for line in range(len(rows))]
    rows["data_hash"] = "d"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    late = rows.method.isin(["DRW", "M-DRW", "LDAM"])
    formats_of(tmp_path, dict(zip(rows.config_hash, np.where(late, "float32", "bfloat16"), strict=True)))
    outcome = judged(number, tmp_path)
    assert outcome.verdict == "not judged"
    assert "there are none (number formats differ in 2)" in outcome.why
    # No weaker rival takes the place of the best one.
    assert number != 95 or outcome.why.startswith("needs 2 paired seeds of LDAM-DRW and M-DRW under ")
    formats_of(tmp_path, dict.fromkeys(rows.config_hash, "float32"))
    # The best rival of row 95 has a margin that nobody tuned.
    assert judged(number, tmp_path).verdict == ("inconclusive" if number == 95 else "holds")


def test_reviews_in_two_number_formats_are_not_compared(tmp_path):
    rows = pd.read_csv(review_world(tmp_path) / "rows.csv")
    rows["config_hash"], rows["data_hash"] = [f"c{line}" for line in range(len(rows))], "d"
    rows.to_csv(tmp_path / "rows.csv", index=False)
    formats = np.where((rows.method == "RW") & (rows.seed > 0), "bfloat16", "float32")
    formats_of(tmp_path, dict(zip(rows.config_hash, formats, strict=True)))
    assert [judged(number, tmp_path).verdict for number in (92, 93)] == ["not judged"] * 2


def test_differences_are_taken_between_equal_seeds_of_one_world():
    cells = [("a", "ERM", 0, 5.0), ("a", "ERM", 1, 7.0), ("a", "LDAM", 1, 3.0), ("a", "LDAM", 0, 4.0)]
    cells += [("a", "ERM", 2, 9.0), ("b", "ERM", 0, 1.0), ("b", "LDAM", 0, 0.0)]
    table = pd.DataFrame(cells, columns=["world", "method", "seed", "error"])
    found = measured.paired_differences(table, "LDAM", "ERM")
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1.0, 4.0]}
    assert measured.number_of_pairs(table, "LDAM", "ERM") == 2
    assert measured.number_of_pairs(table[table.world == "b"], "LDAM", "ERM") == 1
    assert measured.number_of_pairs(table[:0], "LDAM", "ERM") == 0
    with pytest.raises(ValueError, match="must hold every seed once, got 'ERM' with one twice"):
        measured.paired_differences(pd.concat([table, table[:1]]), "LDAM", "ERM")


def test_a_lack_does_not_hide_a_refutation_nor_what_was_measured():
    lack, good = measured.lacking("A", "B", "at step"), Judgement("holds", 2.0, 1.0, 3.0, threshold="mean > 0")
    shown = measured.together([good, lack])
    assert (shown.verdict, shown.statistic, shown.low) == ("not judged", 2.0, 1.0)
    assert shown.why.endswith("measured so far, holds: mean > 0")
    assert measured.together([lack, Judgement("refuted", -2.0)]).verdict == "refuted"
    # As text: from Python 3.13 on a judgement with a NaN equals no other, not even itself.
    assert repr(measured.together([lack])) == repr(lack)
    assert repr(measured.together([good])) == repr(good)


def test_only_rows_that_read_measured_runs_are_recorded():
    numbers = [entry.id for entry in recorded()]
    assert numbers == sorted(numbers)
    assert {5, 22, 36, 45, 92, 95, 106, 132} <= set(numbers)
    assert not {7, 15, 24, 48, 62, 104, 133} & set(numbers)
    # Each of them says at every profile without rows why it is not judged.
    with pytest.raises(ValueError, match="`profiles` must include small and paper"):
        type(check(62))(check(62).claim, check(62).measure, check(62).judge, ("quick",), recorded=True)


@pytest.mark.parametrize("number", [entry.id for entry in recorded()])
def test_without_rows_nothing_is_judged(number, tmp_path):
    outcome = judged(number, tmp_path)
    assert outcome.verdict == "not judged"
    assert outcome.why


# LDAM-DRW on images

# Accuracy over ERM in a world where every claim is true, and what else is true under step imbalance.
LDAM_GAINS = {
    "ERM": 0.0, "Focal": -0.01, "LDAM": 0.10, "CB RS": -0.06, "CB RW": -0.07, "CB-focal": 0.02, "HG-DRS": -0.05,
    "LDAM-HG-DRS": -0.02, "M-DRW": 0.12, "LDAM-DRW": 0.16, "DRW": 0.05, "LDAM-RW": 0.08,
    "loss=ldam, margin_rule=uniform": 0.06,
}  # fmt: skip
AT_STEP = {"CB-focal": -0.08, "LDAM-DRW": 0.20}
LDAM_ROWS = [85, 91, 95, 96, 97, 98, 99, 100, 101]


def ldam_world(folder, true=1.0, kinds=("exponential", "step"), seeds=SEEDS, methods=tuple(LDAM_GAINS)):
    rows = []
    for k, kind in enumerate(kinds):
        for m, name in enumerate(methods):
            gain = AT_STEP.get(name, LDAM_GAINS[name]) if kind == "step" else LDAM_GAINS[name]
            for seed in range(seeds):
                accuracy = 0.5 + true * gain + jitter(k, m, seed)
                # All that is gained is gained by the rarer half.
                line = run(name, seed, accuracy, imbalance_type=kind)
                rows.append(line | {f"recall_{c}": 0.8 if c < 5 else 2 * accuracy - 0.8 for c in range(10)})
    return write(folder, rows)


@pytest.mark.false_world(85, 91, 95, 96, 97, 98, 99, 100, 101)
@pytest.mark.parametrize("number", LDAM_ROWS)
def test_rows_on_images_hold_only_in_the_true_world(number, tmp_path):
    true = judged(number, ldam_world(tmp_path / "true"))
    # Against a uniform margin that nobody tuned nothing can hold; in row 95 it is the best rival.
    assert true.verdict == ("inconclusive" if number in (85, 95, 99) else "holds")
    assert ("uniform margin not tuned" in true.threshold) == (number in (85, 95, 99))
    assert judged(number, ldam_world(tmp_path / "null", 0.0)).verdict != "holds"
    reversed_ = judged(number, ldam_world(tmp_path / "reversed", -1.0))
    assert reversed_.verdict == ("refuted" if number in (85, 91) else "inconclusive")
    assert f"{SEEDS} pairs" in reversed_.threshold


def test_a_uniform_margin_that_is_not_the_best_rival_decides_nothing(tmp_path):
    rows = pd.read_csv(ldam_world(tmp_path) / "rows.csv")
    rows.loc[rows.method == "M-DRW", "accuracy_last"] -= 0.05
    rows.to_csv(tmp_path / "rows.csv", index=False)
    outcome = judged(95, tmp_path)
    assert outcome.verdict == "holds"
    assert "uniform margin" not in outcome.threshold
    # It can still refute our half, tuned or not.
    rows.loc[rows.method == "M-DRW", "accuracy_last"] += 0.3
    rows.to_csv(tmp_path / "rows.csv", index=False)
    assert "ours, refuted: mean > 0 points (M-DRW - LDAM-DRW" in judged(95, tmp_path).threshold


@pytest.mark.parametrize("number", LDAM_ROWS)
def test_one_seed_is_no_pair_and_another_profile_is_another_table(number, tmp_path):
    outcome = judged(number, ldam_world(tmp_path, seeds=1))
    assert outcome.verdict == "not judged"
    assert outcome.why.startswith("needs 2 paired seeds of ")
    assert judged(number, ldam_world(tmp_path), "paper").verdict == "not judged"


def test_a_row_on_all_columns_needs_both_types_and_says_what_one_type_shows(tmp_path):
    half = ldam_world(tmp_path, kinds=("exponential",))
    for number in (95, 96, 99):
        outcome = judged(number, half)
        assert outcome.verdict == "not judged"
        so_far = "holds" if number == 96 else "inconclusive"
        assert f"under step imbalance; there are none; measured so far, {so_far}: mean > 0 points" in outcome.why
        assert outcome.statistic > 0
    # Rows that name no column are judged on what there is.
    assert judged(91, half).verdict == judged(101, half).verdict == "holds"
    few = ldam_world(tmp_path, kinds=("exponential",), methods=("ERM", "LDAM", "LDAM-DRW"), true=-1.0)
    assert judged(96, few).verdict == "inconclusive"
    assert "ours, refuted: mean > 0 points (ERM - LDAM, exponential, cifar10-jpeg" in judged(96, few).threshold


def test_worlds_are_not_mixed(tmp_path):
    ldam_world(tmp_path)
    again = pd.read_csv(tmp_path / "rows.csv").assign(imbalance_ratio=10.0)
    again.loc[again.method == "LDAM", "accuracy_last"] -= 0.3
    again.to_csv(tmp_path / "ten.csv", index=False)
    outcome = judged(96, tmp_path)
    assert outcome.verdict == "inconclusive"
    assert "resnet32, ratio 10)" in outcome.threshold
    assert judged(97, tmp_path).verdict == "holds"


def test_a_fourth_of_hundred_classes_is_no_half(tmp_path):
    line = run("ERM", 0, 0.5) | recalls(0.5, 0.2, classes=100) | {"dataset": "cifar100"}
    write(tmp_path, [line, run("ERM", 0, 0.5, slope=0.2)])
    halves = ldam_practice.stored_runs("small", tmp_path)
    assert (halves.majority > 50).all()
    np.testing.assert_allclose(halves.majority + halves.minority, 100)


# IMDB


def review_world(folder, true=1.0, seeds=SEEDS, epochs=(8,)):
    rows = []
    for e in epochs:
        for m, (name, step) in enumerate({"ERM": 0, "RS": 1, "RW": 2, "LDAM-DRW": 4}.items()):
            for seed in range(seeds):
                positive = 0.95 - true * 0.03 * (step > 0) + jitter(e, m, seed)
                negative = 0.45 + true * 0.06 * step + jitter(e, m, seed, 9)
                fields = {"recall_0": negative, "recall_1": positive, "epochs": e}
                accuracy = (positive + negative) / 2
                rows.append({k: v for k, v in run(name, seed, accuracy).items() if "recall" not in k} | fields)
    return write(folder, [line | {"dataset": "imdb", "imbalance_ratio": 10.0, "model": "lstm"} for line in rows])


@pytest.mark.false_world(92, 93)
@pytest.mark.parametrize("number", [92, 93])
def test_rows_on_reviews_hold_only_in_the_true_world(number, tmp_path):
    assert judged(number, review_world(tmp_path / "true")).verdict == "holds"
    assert judged(number, review_world(tmp_path / "null", 0.0)).verdict != "holds"
    reversed_ = judged(number, review_world(tmp_path / "reversed", -1.0))
    assert reversed_.verdict == "inconclusive"
    assert "; ours, refuted: " in reversed_.threshold
    assert judged(number, review_world(tmp_path / "one", seeds=1)).why.startswith("needs 2 paired seeds")


def test_reviews_are_read_beside_tables_that_know_epochs(tmp_path):
    folder = review_world(tmp_path)
    pd.read_csv(folder / "rows.csv").drop(columns="epochs").to_csv(folder / "rows.csv", index=False)
    write(folder, [run("ERM + rotation", 0, 0.5, epochs=20)], "ssp.csv")
    assert set(ldam_practice.stored_reviews("small", folder).epochs) == {0}


def test_negative_is_the_class_that_lost_its_reviews(tmp_path):
    table = ldam_practice.stored_reviews("small", review_world(tmp_path))
    erm = table[table.method == "ERM"]
    assert (erm.negative > erm.positive).all()
    np.testing.assert_allclose(erm["mean"], (erm.negative + erm.positive) / 2)


# The class-balanced losses

PLAIN = {"ERM": ("softmax", None), "Sigmoid": ("sigmoid", None), "Focal": ("focal", 1.0)}
BALANCED = {"CB-softmax": "ERM", "CB-sigmoid": "Sigmoid", "CB-focal": "Focal", "CB RW": "ERM"}


def balanced_world(folder, gain, methods=(*PLAIN, *BALANCED), beta=0.9999, held=True, seeds=SEEDS):
    rows = []
    for m, name in enumerate(methods):
        loss, gamma = PLAIN[BALANCED.get(name, name)]
        for seed in range(seeds):
            accuracy = 0.6 + gain * (name in BALANCED) + jitter(m, seed)
            fields = {"loss": loss, "gamma": gamma, "beta": beta if name in BALANCED else None}
            rows.append(run(name, seed, accuracy, accuracy_validation=accuracy if held else None, **fields))
    return write(folder, rows)


@pytest.mark.false_world(21, 22, 55)
@pytest.mark.parametrize("number", [21, 22, 55])
def test_rows_on_class_balancing_hold_only_in_the_true_world(number, tmp_path):
    assert judged(number, balanced_world(tmp_path / "true", 0.03)).verdict == "holds"
    assert judged(number, balanced_world(tmp_path / "null", 0.0)).verdict != "holds"
    reversed_ = judged(number, balanced_world(tmp_path / "reversed", -0.03))
    assert reversed_.verdict == ("inconclusive" if number == 21 else "refuted")


def test_class_balancing_needs_all_losses_a_hold_out_and_the_right_beta(tmp_path):
    some = balanced_world(tmp_path / "some", 0.03, methods=("ERM", "CB-softmax"))
    for number in (22, 55):
        outcome = judged(number, some)
        assert outcome.verdict == "not judged"
        assert "class-balanced sigmoid" in outcome.why
        assert "measured so far, holds" in outcome.why
    assert judged(55, balanced_world(tmp_path / "beta", 0.03, beta=0.99)).verdict == "not judged"
    assert judged(21, balanced_world(tmp_path / "held", 0.03, held=False)).verdict == "not judged"
    # Half a point counts for row 55 and not for row 22; the other normaliser counts in both.
    half = balanced_world(tmp_path / "half", 0.006)
    assert [judged(number, half).verdict for number in (55, 22)] == ["holds", "refuted"]
    rows = pd.read_csv(half / "rows.csv")
    rows.loc[rows.method == "CB RW", "accuracy_last"] -= 0.1
    rows.to_csv(half / "rows.csv", index=False)
    assert judged(55, half).verdict == "refuted"
    assert "mean over weights" in judged(55, half).threshold


# Inverse frequency


def weighted_world(folder, harm, *, spread=0.2, method="CB RW", sizes=(10, 100), seeds=SEEDS):
    """Weights that cost `harm` and leave recalls that spread less by `spread` than those of plain training."""
    rows = []
    for classes in sizes:
        for name in ("ERM", method):
            for seed in range(seeds):
                plain = name == "ERM"
                accuracy = 0.5 - (0 if plain else harm) + jitter(classes, seed, plain)
                fields = {"dataset": f"cifar{classes}", "beta": None if plain else 0.9999}
                line = run(name, seed, accuracy, **fields)
                line = {k: v for k, v in line.items() if "recall" not in k}
                rows.append(line | recalls(accuracy, -0.3 if plain else spread - 0.3, classes))
    return write(folder, rows)


@pytest.mark.false_world(10, 54, 76)
def test_rows_on_inverse_frequency_hold_only_in_the_true_world(tmp_path):
    true, null = weighted_world(tmp_path / "true", 0.04), weighted_world(tmp_path / "null", 0.0, spread=0.0)
    reversed_ = weighted_world(tmp_path / "reversed", -0.04, spread=-0.1)
    for number in (10, 54, 76):
        assert judged(number, true).verdict == "holds"
        assert judged(number, null).verdict != "holds"
        assert judged(number, reversed_).verdict == "refuted"


def test_inverse_frequency_needs_a_hundred_classes_for_two_rows_and_pairs_for_all(tmp_path):
    ten = weighted_world(tmp_path / "ten", 0.04, sizes=(10,))
    assert [judged(number, ten).verdict for number in (10, 54, 76)] == ["not judged", "not judged", "holds"]
    assert "with a hundred classes at ratio 100; there are none; measured so far, holds" in judged(10, ten).why
    one = weighted_world(tmp_path / "one", 0.04, seeds=1)
    assert {judged(number, one).verdict for number in (10, 54, 76)} == {"not judged"}
    # The method that was run stands in the rule; one of another beta is no inverse frequency.
    softmax = weighted_world(tmp_path / "softmax", 0.04, method="CB-softmax")
    assert "ratio 100, CB-softmax" in judged(76, softmax).threshold
    rows = pd.read_csv(softmax / "rows.csv").replace({"beta": {0.9999: 0.99}})
    rows.to_csv(softmax / "rows.csv", index=False)
    assert judged(76, softmax).verdict == "not judged"


# FixMatch and CReST

CREST_GAINS = {
    "supervised": 0.0, "mean teacher": 0.015, "fixmatch": 0.03, "fixmatch equal-compute": 0.05, "self-training": 0.02,
    "crest": 0.10, "crest, constant": 0.11, "crest+": 0.16,
}  # fmt: skip
CREST_ROWS = [36, 37, 44, 45, 46, 50, 116]


def crest_world(folder, true=1.0, *, seeds=SEEDS, profile="small", methods=tuple(CREST_GAINS), base=0.0):
    """`base` is what FixMatch and all that builds on it have over the labels alone in any world."""
    rows = []
    for m, name in enumerate(methods):
        for seed in range(seeds):
            gain = true * CREST_GAINS[name] + base * (name != "supervised") + jitter(m, seed)
            fields = {"protocol": "crest 10 %", "model": "wrn-10-1", "profile": profile}
            rows.append(run(name, seed, 0.4 + gain, slope=gain, **fields))
    return write(folder, rows)


@pytest.mark.false_world(36, 37, 44, 45, 46, 50, 116)
@pytest.mark.parametrize("number", CREST_ROWS)
def test_rows_on_pseudo_labels_hold_only_in_the_true_world(number, tmp_path):
    assert judged(number, crest_world(tmp_path / "true")).verdict == "holds"
    assert judged(number, crest_world(tmp_path / "null", 0.0)).verdict != "holds"
    # Where pseudo-labels help at all, but CReST less than FixMatch.
    base = 0.0 if number in (36, 116) else 0.3
    outcome = judged(number, crest_world(tmp_path / "reversed", -1.0, base=base))
    # What others measured, or print, holds in these rows: one world of ours cannot overturn it.
    assert outcome.verdict == ("inconclusive" if number in (36, 45, 46) else "refuted")
    assert "under-trained" not in outcome.threshold


@pytest.mark.parametrize("number", [37, 44, 45, 46, 50])
def test_pseudo_labels_without_effect_leave_crest_undecided(number, tmp_path):
    folder = crest_world(tmp_path / "small", -1.0)
    outcome = judged(number, folder)
    assert outcome.verdict == "inconclusive"
    assert outcome.threshold.startswith("under-trained: ")
    assert outcome.statistic < 0
    # One seed in which they do not help is enough.
    rows = pd.read_csv(crest_world(tmp_path / "true") / "rows.csv")
    rows.loc[(rows.method == "fixmatch") & (rows.seed == 1), ["accuracy_last", *recalls(0)]] = 0.2
    rows.to_csv(tmp_path / "true" / "rows.csv", index=False)
    assert judged(number, tmp_path / "true").threshold.startswith("under-trained: ")
    # A full protocol has no such excuse.
    full = judged(number, crest_world(tmp_path / "paper", -1.0, profile="paper"), "paper")
    assert full.verdict == ("inconclusive" if number in (45, 46) else "refuted")
    assert "under-trained" not in full.threshold


@pytest.mark.parametrize("number", CREST_ROWS)
def test_an_arm_with_one_seed_or_none_is_named(number, tmp_path):
    assert judged(number, crest_world(tmp_path, seeds=1)).why.endswith("there is 1")
    only = judged(number, crest_world(tmp_path, methods=("supervised",)))
    assert only.verdict == "not judged"
    assert only.why.endswith("there are none")


def test_rows_of_two_protocols_are_not_judged_together(tmp_path):
    rows = pd.read_csv(crest_world(tmp_path) / "rows.csv")
    pd.concat([rows, rows.assign(protocol="other", seed=9)]).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ValueError, match="`folder` must hold rows of one protocol, got"):
        judged(36, tmp_path)
    pd.concat([rows, rows]).to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(ValueError, match="must hold every run once, got supervised"):
        judged(36, tmp_path)


def test_of_the_settings_of_the_table_the_one_of_the_ledger_is_taken(tmp_path):
    rows = pd.read_csv(crest_world(tmp_path) / "rows.csv").assign(protocol="crest (5000, 10 %)")
    others = [rows.assign(protocol="crest (5000, 30 %)"), rows.assign(imbalance_ratio=50.0)]
    others.append(rows.assign(dataset="cifar100"))
    worse = pd.concat(others).assign(**dict.fromkeys([*recalls(0), "accuracy_last"], 0.1))
    pd.concat([worse, rows]).to_csv(tmp_path / "rows.csv", index=False)
    assert judged(45, tmp_path).verdict == "holds"


def generations(folder, pattern=1.0, rise=0.1):
    """A table by generation and class that fits the rows: precision against recall, and a pool that improves."""
    rows = pd.read_csv(folder / "rows.csv")
    rarer = np.linspace(-1, 1, 10)
    lines = []
    for line in rows.itertuples():
        for generation in range(2 if "crest" in line.method else 1):
            for label in range(10):
                last = getattr(line, f"recall_{label}")
                pool = 0.4 + rise * generation + jitter(line.seed, generation, label)
                lines.append(
                    {"dataset": line.dataset, "model": line.model, "protocol": line.protocol, "profile": line.profile,
                     "imbalance_ratio": line.imbalance_ratio, "method": line.method, "seed": line.seed,
                     "generation": generation, "class": label, "test_recall": last,
                     "test_precision": 0.5 + pattern * 0.3 * rarer[label], "pool_recall": pool,
                     "pool_precision": pool, "predicted_count": 10, "selected_count": 5}
                )  # fmt: skip
    pd.DataFrame(lines).to_csv(folder / "crest-small-generations.csv", index=False)
    return folder


@pytest.mark.false_world(32, 33, 42, 43)
def test_patterns_and_generations_are_judged_where_the_diagnostics_were_kept(tmp_path):
    folder = crest_world(tmp_path)
    rows = pd.read_csv(folder / "rows.csv")
    for name in ("supervised", "fixmatch"):  # frequent classes are found more often
        rows.loc[rows.method == name, list(recalls(0))] += -0.3 * np.linspace(-1, 1, 10)
    rows.to_csv(folder / "rows.csv", index=False)
    for number in (32, 33, 42, 43):
        assert "hold no" in judged(number, folder).why
        assert judged(number, generations(folder)).verdict == "holds"
        assert judged(number, generations(folder, 0.0, 0.0)).verdict != "holds"
        assert judged(number, generations(folder, -1.0, -0.1)).verdict == "refuted"
        (folder / "crest-small-generations.csv").unlink()
    other = pd.read_csv(generations(folder) / "crest-small-generations.csv").assign(test_recall=0.5)
    other.to_csv(folder / "crest-small-generations.csv", index=False)
    with pytest.raises(ValueError, match="rows and generations of the same runs"):
        judged(42, folder)


@pytest.mark.parametrize(
    "other", [{"dataset": "cifar100"}, {"model": "wrn-28-2"}, {"protocol": "crest 30 %"}, {"imbalance_ratio": 50.0}]
)
def test_generations_of_other_runs_are_not_mixed_in(other, tmp_path):
    folder = crest_world(tmp_path)
    before = judged(43, generations(folder))
    assert before.verdict == "holds"
    table = pd.read_csv(folder / "crest-small-generations.csv")
    falling = table.assign(pool_recall=0.9 - table.pool_recall, pool_precision=0.9 - table.pool_precision, **other)
    pd.concat([table, falling]).to_csv(folder / "crest-small-generations.csv", index=False)
    assert judged(43, folder) == before
    # The runs have no generations then, and what is there is not taken for theirs.
    falling.to_csv(folder / "crest-small-generations.csv", index=False)
    assert "hold no pool precision" in judged(43, folder).why
    table.drop(columns=[*other]).to_csv(folder / "crest-small-generations.csv", index=False)
    with pytest.raises(ValueError, match=rf"hold generations with the columns .* without \['{next(iter(other))}'\]"):
        judged(43, folder)


def test_the_arms_of_a_row_are_those_its_rule_compares():
    assert set(crest._NEEDS) == {entry.id for entry in recorded() if row(entry.id).module == "crest"}


# Pre-training


RATIOS, BASES, TASKS = (10.0, 100.0), ("ERM", "LDAM"), ("rotation", "jigsaw")


def pretraining_world(folder, gain, *, ratios=RATIOS, bases=BASES, tasks=TASKS, seeds=SEEDS):
    rows = []
    for ratio in ratios:
        for base in bases:
            arms = [("none", 0, 40, 0.0), ("none", 0, 20, 0.0)]
            arms += [(task, 20, 20, gain * (1 + t) * np.log10(ratio)) for t, task in enumerate(tasks)]
            for a, (task, before, epochs, better) in enumerate(arms):
                for seed in range(seeds):
                    accuracy = 0.5 + better + jitter(int(ratio), a, seed, len(base))
                    fields = {"base": base, "pretext": task, "classifier": "head", "epochs": epochs, "model": "resnet8"}
                    fields |= {"pretrain_epochs": before, "total_epochs": before + epochs, "imbalance_ratio": ratio}
                    method = base + (" from scratch" if task == "none" else f" + {task}")
                    rows.append(run(method, seed, accuracy, slope=better, **fields))
    return write(folder, rows, "ssp-small.csv")


@pytest.mark.false_world(106, 129, 130, 131, 132)
@pytest.mark.parametrize("number", [106, 129, 130, 131, 132])
def test_rows_on_pre_training_hold_only_in_the_true_world(number, tmp_path):
    assert judged(number, pretraining_world(tmp_path / "true", 0.05)).verdict == "holds"
    assert judged(number, pretraining_world(tmp_path / "null", 0.0)).verdict != "holds"
    reversed_ = judged(number, pretraining_world(tmp_path / "reversed", -0.05))
    if number in (106, 130, 131):  # of the rows with published cells only our half
        assert (reversed_.verdict, "ours, refuted" in reversed_.threshold) == ("inconclusive", True)
    else:
        assert reversed_.verdict == "refuted"


# Module -> a world in which its rows are judged; those on self-training and on sizes are tested with theirs.
WORLDS = {
    "frequency_bias": ldam_world,
    "ldam_practice": ldam_world,
    "class_balanced": lambda to, seeds: balanced_world(to, 0.03, seeds=seeds),
    "resampling": lambda to, seeds: weighted_world(to, 0.04, seeds=seeds),
    "crest": lambda to, seeds: generations(crest_world(to, seeds=seeds)),
    "pretraining": lambda to, seeds: pretraining_world(to, 0.05, seeds=seeds),
}


def test_every_row_has_a_world():
    assert {row(entry.id).module for entry in recorded()} == {*WORLDS, "self_training", "open_questions"}


@pytest.mark.parametrize("number", [entry.id for entry in recorded() if row(entry.id).module in WORLDS])
def test_no_row_is_judged_from_one_seed(number, tmp_path):
    make = review_world if number in (92, 93) else WORLDS[row(number).module]
    one, more = (judged(number, make(tmp_path / str(seeds), seeds=seeds)) for seeds in (1, SEEDS))
    assert one.verdict == "not judged"
    assert more.verdict != "not judged"


def test_one_ratio_one_base_and_one_task_judge_what_they_can(tmp_path):
    folder = pretraining_world(tmp_path, 0.05, ratios=(100.0,), bases=("ERM",), tasks=("rotation",))
    found = {number: judged(number, folder).verdict for number in (106, 129, 130, 131, 132)}
    assert found == {106: "holds", 129: "not judged", 130: "not judged", 131: "not judged", 132: "holds"}
    reasons = {129: "two tasks at ratio 100; there is rotation", 130: "two imbalance ratios; there is 100"}
    reasons[131] = "two base methods; there is CE"
    assert {number: judged(number, folder).why for number in reasons} == {n: f"needs {r}" for n, r in reasons.items()}


def test_of_several_data_sets_the_one_of_the_ledger_is_taken(tmp_path):
    pretraining_world(tmp_path, 0.05)
    rows = pd.read_csv(tmp_path / "ssp-small.csv")
    other = rows.assign(dataset="cifar100", **dict.fromkeys(recalls(0), 0.1))
    pd.concat([rows, other]).to_csv(tmp_path / "ssp-small.csv", index=False)
    assert judged(106, tmp_path).verdict == "holds"
    assert judged(106, tmp_path, "paper").verdict == "not judged"


def test_the_rows_of_real_runs_have_what_the_rules_read(tmp_path):
    from lt_lib.recipes import PretrainConfig, RunConfig, run_pretrain
    from lt_lib.recipes import run as train

    short = {"n_max": 30, "imbalance_ratio": 10.0, "batch_size": 32, "profile": "small", "device": "cpu"}
    rows = []
    for seed in (0, 1):
        for pretext, before, epochs in (("rotation", 1, 1), ("none", 0, 2), ("none", 0, 1)):
            fields = short | {"pretext": pretext, "pretrain_epochs": before, "epochs": epochs, "evaluate_every": epochs}
            rows.append(run_pretrain(PretrainConfig(dataset="digits", seed=seed, **fields)).to_row())
    write(tmp_path, rows, "ssp-small.csv")
    outcome = judged(106, tmp_path)
    assert outcome.verdict != "not judged"
    errors = {(row["pretext"], row["epochs"], row["seed"]): 100 * (1 - row["accuracy_last"]) for row in rows}
    gains = [errors["none", 2, seed] - errors["rotation", 1, seed] for seed in (0, 1)]
    assert outcome.statistic == pytest.approx(np.mean(gains))
    # A row of `run` has the shared columns and those that worlds are named by.
    plain = train(RunConfig(dataset="digits", epochs=1, evaluate_every=1, **short)).to_row()
    found = measured.with_worlds(measured.measured_rows("small", write(tmp_path / "run", [plain])))
    assert found.world.tolist() == [f"digits, {plain['model']}, ratio 10, 30 in the largest class"]
    assert plain["class_counts"].split()[0] == "30"
