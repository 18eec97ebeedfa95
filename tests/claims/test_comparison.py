"""Measured cells beside published ones: which are compared, which are judged, and which orders hold."""

import json

import numpy as np
import pandas as pd
import pytest

from lt_lib import recipes
from lt_lib.claims import comparison, published, published_tables
from lt_lib.claims.ledger import row


def run(method, seed, error, **fields):
    base = {"dataset": "cifar10", "profile": "paper", "model": "resnet32", "method": method, "seed": seed}
    base |= {"imbalance_type": "exponential", "imbalance_ratio": 100.0, "loss": "softmax", "beta": None, "gamma": None}
    return base | {"accuracy_last": 1 - error / 100, "seconds": 10.0, "device": "CPU"} | fields


def write(folder, rows, name="rows.csv"):
    pd.DataFrame(rows).to_csv(folder / name, index=False)
    return folder


def cells(folder, errors, **fields):
    """Rows of methods in as many seeds as they have errors."""
    return write(folder, [run(m, s, e, **fields) for m, values in errors.items() for s, e in enumerate(values)])


def test_every_name_is_one_of_ours_and_one_of_theirs():
    ours = {*recipes.METHODS, *recipes.SEMI_METHODS}
    everything = pd.concat([published(name) for name in published_tables()])
    for line in comparison.method_names():
        name = line["method"].removesuffix(" from scratch").removesuffix(" on labels alone")
        base, _, addition = name.partition(" + ")
        assert base in ours, line
        assert addition in ("", "rotation", "pool")
        chosen = everything[(everything.table == line["table"]) & (everything.method == line["published_method"])]
        assert len(chosen), line
    pairs = [(line["method"], line["table"]) for line in comparison.method_names()]
    assert len(pairs) == len({*pairs})


def test_a_cell_stands_beside_print_and_re_runs(tmp_path):
    line = comparison.compare(cells(tmp_path, {"ERM": [29.0, 30.0, 31.0]})).iloc[0]
    assert (line.published, line.table, line.seeds) == (29.64, "ldam_cifar", 3)
    assert line.ours == pytest.approx(30.0)
    assert line.difference == pytest.approx(0.36)
    # Two-sided 95 % t with two degrees of freedom: 4.3027 / sqrt(3).
    assert line.high - line.ours == pytest.approx(2.4841, abs=1e-3)
    assert line.independent == "26.8 to 29.7 (5)"
    assert line.verdict == "holds"


@pytest.mark.parametrize(
    ("errors", "verdict"), [([31.6] * 3, "holds"), ([31.7] * 3, "refuted"), ([27.0] * 3, "refuted")]
)
def test_a_full_cell_is_held_to_the_tolerance(tmp_path, errors, verdict):
    assert comparison.compare(cells(tmp_path, {"ERM": errors})).verdict.tolist() == [verdict]
    assert [comparison.tolerance(ratio) for ratio in (10, 99, 100)] == [1.5, 1.5, 2.0]


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"dataset": "cifar10-jpeg"}, "JPEG copy of the data"),
        ({"profile": "small"}, "reduced protocol"),
        ({"dataset": "cifar10-jpeg", "profile": "small"}, "JPEG copy of the data, reduced protocol"),
        ({"imbalance_ratio": 30.0}, "nothing published"),
        ({"dataset": "svhn"}, "nothing published"),
    ],
)
def test_other_data_and_shorter_runs_get_no_verdict(tmp_path, fields, why):
    line = comparison.compare(cells(tmp_path, {"ERM": [29.64] * 3}, **fields)).iloc[0]
    assert (line.verdict, line.why) == ("", why)
    assert np.isnan(line.difference) == (why == "nothing published")


def test_pools_that_differ_are_cells_of_their_own(tmp_path):
    pools = [{"pool_imbalance_ratio": ratio, "pool_source": "holdout"} for ratio in (1.0, 50.0)]
    for number, pool in enumerate(pools):
        table = pd.DataFrame([run("ERM", seed, 30.0 + number, **pool) for seed in (0, 1)])
        table.to_csv(tmp_path / f"pool-{number}.csv", index=False)
    found = comparison.compare(tmp_path)
    assert found.method.tolist() == ["ERM, pool holdout, pool ratio 1", "ERM, pool holdout, pool ratio 50"]
    assert found.ours.tolist() == pytest.approx([30.0, 31.0])


POOL = {
    "base_method": "ERM", "pool_source": "holdout", "pool_amount": 5.0, "pool_imbalance_ratio": 50.0, "relevance": 1.0,
    "omega": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(("ratio", "method", "printed"), [(50.0, "ERM", 18.36), (25.0, "LDAM-DRW", 14.70)])
def test_a_pool_stands_beside_the_cell_of_its_imbalance(tmp_path, ratio, method, printed):
    pool = POOL | {"pool_imbalance_ratio": ratio, "base_method": method}
    rows = [run(f"{method} + pool", seed, 18.0, imbalance_ratio=50.0, **pool) for seed in (0, 1, 2)]
    rows += [run("ERM on labels alone", 0, 25.0, imbalance_ratio=50.0, pool_source="none", pool_amount=0.0)]
    found = comparison.compare(write(tmp_path, rows)).set_index("published")
    assert found.method[25.19] == "ERM on labels alone"
    assert found.seeds[printed] == 3
    # The published pool cannot be had any more, so no cell is judged.
    assert (found.verdict[printed], found.why[printed]) == ("", "pool of another source")


@pytest.mark.parametrize(
    "change",
    [
        {"pool_amount": 3.0}, {"relevance": 0.6}, {"omega": 0.5}, {"pool_imbalance_ratio": 5.0},
        {"base_method": "LDAM-DRW"}, {"n_max": 500},
    ],
)  # fmt: skip
def test_another_pool_or_labelled_set_has_no_published_cell(tmp_path, change):
    folder = write(tmp_path, [run("ERM + pool", 0, 18.0, imbalance_ratio=50.0, **POOL | change)])
    assert np.isnan(comparison.compare(folder).published).tolist() == [True]


def test_two_sizes_of_the_labelled_set_are_cells_of_their_own(tmp_path):
    sizes = [(size, seed) for size in (0, 250) for seed in (0, 1)]
    write(tmp_path, [run("ERM", seed, 30.0 + size / 10, n_max=size) for size, seed in sizes])
    # A table without the column is of whole data sets, and so is the full size of CIFAR-10.
    write(tmp_path, [run("ERM", 2, 30.0)], "older.csv")
    write(tmp_path, [run("ERM", 3, 30.0, n_max=5000)], "full.csv")
    found = comparison.compare(tmp_path).set_index("method")
    assert found.seeds.to_dict() == {"ERM": 4, "ERM, 250 in the largest class": 2}
    assert found.ours.to_dict() == pytest.approx({"ERM": 30.0, "ERM, 250 in the largest class": 55.0})
    small = found.loc["ERM, 250 in the largest class"]
    assert np.isnan(small.published)
    assert (small.independent, small.why) == ("", "nothing published")
    assert found.independent["ERM"] == "26.8 to 29.7 (5)"


def test_a_run_that_stands_in_two_tables_counts_once(tmp_path):
    hashes = {"config_hash": "c", "data_hash": "d"}
    write(tmp_path, [run("ERM", 0, 30.0, **hashes)])
    write(tmp_path, [run("ERM", 0, 30.0, **hashes), run("ERM", 1, 32.0, config_hash="e", data_hash="d")], "more.csv")
    assert comparison.compare(tmp_path)[["seeds", "ours"]].to_numpy().tolist() == [[2, pytest.approx(31.0)]]


@pytest.mark.parametrize(
    ("beta", "found"),
    [(0.9999, "20.8 (1)"), (0.9, ""), (None, "")],
)
def test_re_runs_of_another_beta_are_left_out(tmp_path, beta, found):
    folder = write(tmp_path, [run("CB-softmax", 0, 21.0, imbalance_ratio=50.0, beta=beta)])
    assert comparison.compare(folder).independent.tolist() == [found]


def test_a_re_run_stands_beside_the_normaliser_that_it_used(tmp_path):
    rows = [run(method, 0, 30.0, beta=0.9999) for method in ("CB RW", "CB-softmax")]
    rows += [run("CB RW", 0, 30.0, beta=0.9)]
    rows += [run("Focal", 0, 30.0, loss="focal", gamma=gamma) for gamma in (1.0, 2.0)]
    found = comparison.compare(write(tmp_path, rows)).independent.tolist()
    # In the order of the labels: CB RW with beta 0.9 and 0.9999, CB-softmax, Focal with gamma 1 and 2.
    assert found == ["", "29.5 (1)", "", "", "28.4 (1)"]


def test_re_runs_of_another_gamma_are_left_out(tmp_path):
    rows = [run("CB-focal", 0, 21.0, imbalance_ratio=50.0, loss="focal", beta=0.9999, gamma=g) for g in (1.0, 2.0)]
    found = comparison.compare(write(tmp_path, rows)).set_index("method").independent
    assert found["CB-focal, gamma 1, beta 0.9999"] == ""
    assert found["CB-focal, gamma 2, beta 0.9999"] == "21.0 (1)"


def test_too_few_seeds_get_no_verdict_and_one_no_interval(tmp_path):
    line = comparison.compare(cells(tmp_path, {"ERM": [29.64]})).iloc[0]
    assert (line.verdict, line.why) == ("", "1 of 3 seeds")
    assert np.isnan(line.low)
    with pytest.raises(ValueError, match="must hold every run once, got a seed twice in cifar10, paper, resnet32, ERM"):
        comparison.compare(write(tmp_path, [run("ERM", 0, 30.0)] * 2))


def test_loss_beta_and_gamma_choose_the_cell_of_the_grid(tmp_path):
    weighted = {"loss": "focal", "gamma": 1.0, "beta": 0.9999}
    rows = [
        run("CB-sigmoid", 0, 27.0, loss="sigmoid", beta=0.9999),
        run("CB-sigmoid", 0, 29.0, loss="sigmoid", beta=0.9),
    ]
    rows += [run("Sigmoid", 0, 30.0, loss="sigmoid"), run("CB-focal", 0, 25.0, **weighted)]
    rows += [run("CB-softmax", 0, 28.0, beta=0.5)]
    found = comparison.compare(write(tmp_path, rows)).set_index("method")
    assert found.published["CB-sigmoid, beta 0.9999"] == 27.19
    assert found.published["CB-sigmoid, beta 0.9"] == 29.89
    assert found.published["Sigmoid"] == 29.55
    # The LDAM paper's table comes first.
    assert found.table["CB-focal, gamma 1, beta 0.9999"] == "ldam_cifar"
    assert np.isnan(found.published["CB-softmax, beta 0.5"])


@pytest.mark.parametrize(
    ("method", "dataset", "ratio", "beta", "gamma", "cells"),
    [
        ("CB-focal", "cifar10", 100, 0.9999, 1.0, {"ldam_cifar": 25.43, "cb_cifar_grid": 25.43}),
        ("CB-focal", "cifar10", 100, 0.9, 0.5, {"cb_cifar_grid": 28.23}),
        ("CB-focal", "cifar10", 10, 0.9999, 1.0, {"cb_cifar_grid": 13.08}),
        ("CB-focal", "cifar10", 10, 0.999, 1.0, {"ldam_cifar": 12.90, "cb_cifar_grid": 12.90}),
        ("CB-focal", "cifar100", 10, 0.999, 0.5, {"ldam_cifar": 42.01, "cb_cifar_grid": 42.01}),
        ("CB-focal", "cifar100", 100, 0.999, 1.0, {"ldam_cifar": 63.98, "cb_cifar_grid": 63.98}),
        ("Focal", "cifar10", 100, None, 1.0, {"ldam_cifar": 29.62, "cb_cifar_grid": 29.62, "cb_cifar": 29.62}),
        ("Focal", "cifar10", 100, None, 2.0, {"cb_cifar_grid": 30.41, "cb_cifar": 30.41}),
        ("Softmax focal", "cifar10", 100, None, 1.0, {}),
        ("CB RW", "cifar10", 100, 0.9999, None, {"ldam_cifar": 27.63}),
        ("CB RW", "cifar10", 100, 0.9, None, {}),
        ("CB RS", "cifar10", 100, 0.99, None, {}),
        ("LDAM-DRW", "cifar10", 100, 0.999, None, {}),
        ("DRW", "cifar10", 100, 0.9999, None, {"ldam_cifar": 25.14}),
    ],
)
def test_a_copied_cell_keeps_the_loss_beta_and_gamma_it_was_measured_with(method, dataset, ratio, beta, gamma, cells):
    loss = recipes.METHODS[method].get("loss", "softmax")
    key = dict.fromkeys(comparison._CELL) | {"method": method, "dataset": dataset, "imbalance_ratio": float(ratio)}
    key |= {"imbalance_type": "exponential", "loss": loss, "beta": beta, "gamma": gamma}
    assert {cell["file"]: cell["error"] for cell in comparison._published_cells(key)} == cells


def test_the_step_cells_of_focal_loss_are_of_the_softmax_form(tmp_path):
    rows = [run("Focal", 0, 36.0, loss="focal", gamma=1.0, imbalance_type="step")]
    rows += [run("CB-focal", 0, 39.0, loss="focal", beta=0.9999, gamma=1.0, imbalance_type="step")]
    rows += [run("Softmax focal", 0, 36.0, loss="softmax_focal", gamma=1.0, imbalance_type="step")]
    found = comparison.compare(write(tmp_path, rows)).set_index("method").published
    assert np.isnan(found["Focal, gamma 1"])
    assert np.isnan(found["CB-focal, gamma 1, beta 0.9999"])
    assert found["Softmax focal, gamma 1"] == 36.09


def test_a_cell_with_another_normaliser_gets_no_verdict(tmp_path):
    rows = [
        run("CB RW", seed, 27.63, beta=0.9999, imbalance_type=k) for seed in (0, 1, 2) for k in ("exponential", "step")
    ]
    found = comparison.compare(write(tmp_path, rows)).set_index("imbalance_type")
    assert found.verdict.to_dict() == {"exponential": "", "step": "refuted"}
    assert found.why["exponential"] == "printed cell divided by the batch size"
    assert found.published.to_dict() == {"exponential": 27.63, "step": 38.06}


def test_step_and_exponential_cells_are_not_mixed(tmp_path):
    fields = {"loss": "ldam", "beta": 0.9999}
    rows = [run("LDAM-DRW", 0, 20.0, imbalance_type=kind, **fields) for kind in ("exponential", "step")]
    found = comparison.compare(write(tmp_path, rows)).set_index("imbalance_type").published
    assert found.to_dict() == {"exponential": 22.97, "step": 23.08}


def test_reviews_have_three_cells(tmp_path):
    fields = {"dataset": "imdb", "imbalance_type": "reversed_step", "imbalance_ratio": 10.0, "model": "lstm128"}
    rows = [run("ERM", 0, 36.0, recall_0=0.30, recall_1=0.98, **fields)]
    found = comparison.compare(write(tmp_path, rows)).set_index("metric")
    assert found.ours.round(6).to_dict() == {"error on positives": 2.0, "error on negatives": 70.0, "error": 36.0}
    assert found.published.to_dict() == {"error on positives": 2.86, "error on negatives": 70.78, "error": 36.82}


def test_semi_supervised_cells_need_the_protocol_of_the_table(tmp_path):
    rows = [
        run("fixmatch", seed, 40.0, protocol=protocol, loss=None)
        for seed, protocol in enumerate(["crest (5000, 10 %)", "crest (5000, 30 %)", "daso (500 + 4000)"])
    ]
    found = comparison.compare(write(tmp_path, rows))
    assert found.published.tolist()[:2] == pytest.approx([100 - 66.3, 100 - 73.1])
    assert np.isnan(found.published.iloc[2])
    assert found.independent.tolist() == ["", "", ""]
    rows = [run("crest", 0, 60.0, dataset="cifar100", imbalance_ratio=50.0, protocol="crest (500, 30 %)", loss=None)]
    assert comparison.compare(write(tmp_path, rows)).published.tolist() == pytest.approx([100 - 45.6])


def test_pre_training_is_told_apart_by_its_length(tmp_path):
    fields = {"pretext": "rotation"}
    rows = [run("ERM + rotation", s, 40.0 + s, total_epochs=40, pretrain_epochs=20, **fields) for s in (0, 1)]
    rows += [
        run("ERM from scratch", s, error + s, total_epochs=n, pretrain_epochs=0)
        for s in (0, 1) for n, error in ((20, 42.0), (30, 50.0), (40, 38.0))
    ]  # fmt: skip
    folder = write(tmp_path, rows)
    found = comparison.compare(folder).set_index("method").published
    assert found.to_dict() == {
        "ERM + rotation, 40 epochs in all": 26.5,
        "ERM from scratch, 20 epochs in all": 29.64,
        "ERM from scratch, 30 epochs in all": 29.64,
        "ERM from scratch, 40 epochs in all": 29.64,
    }
    order = comparison.orderings(folder).set_index("worse")
    # Print adds pre-training to a run of the same length; an equally long one in all is the stricter comparison.
    assert order.control.to_dict() == {
        "ERM from scratch, 20 epochs in all": "",
        "ERM from scratch, 40 epochs in all": "equal length",
    }
    assert order.verdict.tolist() == ["holds", "refuted"]
    of_row = comparison.row_orders(folder).set_index("row").loc[106]
    assert (of_row.ours, of_row.verdict) == (pytest.approx(2.0), "holds")


@pytest.mark.parametrize(
    ("method", "epochs", "published", "verdict"),
    [
        ("ERM from scratch", 200, 29.64, "holds"), ("ERM from scratch", 400, 29.64, ""),
        ("ERM on labels alone", 600, 29.64, ""), ("ERM on labels alone", 200, 29.64, ""),
        ("ERM + rotation", 400, 26.5, "refuted"),
    ],
)  # fmt: skip
def test_controls_longer_than_the_published_run_get_no_verdict(tmp_path, method, epochs, published, verdict):
    fields = {"total_epochs": epochs, "pool_source": "none" if method.endswith("alone") else None}
    folder = write(tmp_path, [run(method, s, 29.64, **fields) for s in range(3)])
    (line,) = comparison.compare(folder).itertuples()
    assert (line.published, line.verdict) == (pytest.approx(published, abs=0.01), verdict)
    assert line.why == ("" if verdict else "longer than the published run")
    assert line.difference == pytest.approx(29.64 - published, abs=0.01)


def test_orders_pair_equally_long_runs_and_no_controls(tmp_path):
    lengths = [("ERM from scratch", 200), ("ERM from scratch", 400), ("LDAM-DRW from scratch", 200)]
    lengths += [("LDAM-DRW from scratch", 400), ("ERM on labels alone", 600), ("LDAM-DRW on labels alone", 600)]
    rows = [
        run(method, s, 30.0 + s, imbalance_ratio=50.0, dataset="svhn", total_epochs=epochs)
        for method, epochs in lengths for s in (0, 1, 2)
    ]  # fmt: skip
    found = comparison.orderings(write(tmp_path, rows))
    rows = [row | {"dataset": "cifar10", "imbalance_ratio": 100.0} for row in rows]
    found = pd.concat([found, comparison.orderings(write(tmp_path, rows))])
    pairs = {*zip(found.better, found.worse, strict=True)}
    assert pairs == {("LDAM-DRW from scratch, 200 epochs in all", "ERM from scratch, 200 epochs in all")}


def test_a_pool_is_paired_with_a_run_as_long_as_its_last_model(tmp_path):
    rows = [
        run("ERM + pool", s, 20.0 + s, imbalance_ratio=50.0, total_epochs=400, student_epochs=200, **POOL)
        for s in (0, 1)
    ]  # fmt: skip
    alone = {"imbalance_ratio": 50.0, "student_epochs": 0, "pool_source": "none"}
    rows += [
        run("ERM from scratch", s, 25.0 + s, total_epochs=epochs, **alone)
        for s in (0, 1) for epochs in (200, 400)
    ]  # fmt: skip
    found = comparison.orderings(write(tmp_path, rows)).set_index("worse").control
    assert found.to_dict() == {
        "ERM from scratch, 200 epochs in all": "", "ERM from scratch, 400 epochs in all": "equal length",
    }  # fmt: skip


def test_two_pre_trained_cells_of_other_lengths_are_no_control(tmp_path):
    lengths = {"ERM + rotation": 200, "RS + rotation": 300}
    rows = [
        run(method, s, 26.0 + s, total_epochs=400, pretrain_epochs=before)
        for method, before in lengths.items() for s in (0, 1)
    ]  # fmt: skip
    assert comparison.orderings(write(tmp_path, rows)).empty


@pytest.mark.parametrize(("gain", "verdict"), [(3.0, "holds"), (0.0, "inconclusive"), (-3.0, "refuted")])
def test_orders_of_print_are_judged_in_paired_seeds(tmp_path, gain, verdict):
    errors = {"ERM": [43.0, 45.0, 44.0], "LDAM": [43.1 - gain, 44.9 - gain, 44.0 - gain]}
    folder = cells(tmp_path, errors, dataset="cifar10-jpeg", profile="small")
    (line,) = comparison.orderings(folder).itertuples()
    assert (line.better, line.worse, line.pairs, line.verdict) == ("LDAM", "ERM", 3, verdict)
    assert line.published == pytest.approx(29.64 - 26.65)
    assert line.ours == pytest.approx(gain)


def test_orders_of_runs_in_two_number_formats_are_shown_and_not_judged(tmp_path):
    formats = {"ERM": "bfloat16", "LDAM": "float32", "DRW": "bfloat16"}
    rows = [
        run(method, seed, 30.0 - 4 * place + 0.1 * place * seed, config_hash=f"{method}{seed}", data_hash="d",
            beta=0.9999 if method == "DRW" else None)
        for place, method in enumerate(formats) for seed in (0, 1)
    ]  # fmt: skip
    known = {f"{method}{seed}": {"precision": name} for method, name in formats.items() for seed in (0, 1)}
    (write(tmp_path, rows) / "rows.json").write_text(json.dumps(known))
    found = comparison.orderings(tmp_path).set_index(["better", "worse"])
    mixed, alike = found.loc["LDAM", "ERM"], found.loc["DRW", "ERM"]
    assert (mixed.verdict, mixed.why, mixed.pairs) == ("not judged", "number formats differ", 2)
    assert (mixed.ours, alike.ours) == (pytest.approx(3.95), pytest.approx(7.9))
    assert mixed.low < mixed.ours < mixed.high
    assert (alike.verdict, alike.why) == ("holds", "")
    # With a third seed in one format there is one pair, still too few.
    more = [run(method, 2, 30.0, config_hash=f"{method}2", data_hash="d") for method in formats]
    write(tmp_path, [*rows, *more])
    assert comparison.orderings(tmp_path).set_index(["better", "worse"]).verdict["LDAM", "ERM"] == "not judged"


def test_a_pair_that_two_tables_print_alike_counts_once(tmp_path):
    # Plain softmax and sigmoid stand in the table of best cells and in the grid behind it.
    rows = [run("ERM", seed, 30.0) for seed in (0, 1)]
    rows += [run("Sigmoid", seed, 33.0 + seed, loss="sigmoid") for seed in (0, 1)]
    found = comparison.orderings(write(tmp_path, rows))
    assert found[["better", "worse"]].to_numpy().tolist() == [["Sigmoid", "ERM"]]
    assert found.published.item() == pytest.approx(0.09)


def test_orders_need_two_pairs_and_one_setting(tmp_path):
    folder = cells(tmp_path, {"ERM": [30.0], "LDAM": [29.0]})
    assert comparison.orderings(folder).why.tolist() == ["1 of 2 pairs"]
    rows = [run("ERM", s, 30.0 + s) for s in (0, 1)] + [run("LDAM", s, 20.0, imbalance_type="step") for s in (0, 1)]
    assert comparison.orderings(write(tmp_path, rows)).empty


def test_tables_can_be_narrowed_and_may_be_missing(tmp_path):
    for table in (comparison.compare(tmp_path), comparison.orderings(tmp_path), comparison.costs(tmp_path)):
        assert table.empty
    rows = [run("ERM", 0, 30.0), run("ERM", 0, 40.0, dataset="imdb"), run("ERM", 0, 50.0, profile="small")]
    write(tmp_path, rows)
    assert comparison.compare(tmp_path, datasets=["imdb"]).ours.tolist() == pytest.approx([40.0])
    assert comparison.compare(tmp_path, profile="small").ours.tolist() == pytest.approx([50.0])
    assert set(comparison.orderings(tmp_path, datasets=["svhn"]).columns) >= {"better", "worse", "verdict"}


def test_rows_of_the_ledger_have_their_order_in_print_and_ours(tmp_path):
    found = comparison.row_orders(tmp_path)
    assert {row(number).id for number in found.row} == {*found.row}
    assert (found.published > 0).all()
    assert found.ours.isna().all()
    gaps = {10: 4.33, 22: 2.01, 45: 9.6, 91: 2.49, 92: 18.98, 95: 6.67, 100: 13.62, 101: 10.86, 106: 3.14}
    printed = found.set_index("row").published
    assert {number: round(printed[number], 2) for number in gaps} == gaps
    cells(tmp_path, {"ERM": [43.0, 44.0], "LDAM": [46.0, 46.5]}, dataset="cifar10-jpeg", profile="small")
    found = comparison.row_orders(tmp_path).set_index("row")
    assert found.loc[96, ["dataset", "pairs", "ours"]].tolist() == ["cifar10-jpeg", 2, pytest.approx(-2.75)]
    assert found.drop(96).ours.isna().all()


def test_an_interval_of_errors_ends_at_0_and_100(tmp_path):
    found = comparison.compare(write(tmp_path, [run("ERM", 0, 2.0), run("ERM", 1, 4.0), run("ERM", 2, 2.0)])).iloc[0]
    assert (found.low, found.high) == (0.0, pytest.approx(2.6667 + 2.8683, abs=1e-3))
    found = comparison.compare(write(tmp_path, [run("ERM", seed, 98.0 - seed) for seed in range(2)])).iloc[0]
    assert found.high == 100.0


def test_costs_are_counted_by_device(tmp_path):
    rows = [run("ERM", 0, 30.0), run("ERM", 1, 30.0, seconds=30.0), run("LDAM", 0, 30.0, device="GPU", seconds=1.0)]
    found = comparison.costs(write(tmp_path, rows)).set_index("device")
    assert found.loc["CPU", ["runs", "median", "total"]].tolist() == [2, 20.0, 40.0]
    assert found.loc["GPU", "total"] == 1.0
