"""`SelfTrainConfig` and `run_self_train`: what is refused, what is equal, what depends on what."""

import json
from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from lt_lib import data, training
from lt_lib.data import Dataset, Extra, MissingDataError, Split
from lt_lib.data.pools import OUTSIDE, Pool
from lt_lib.recipes import (
    RunConfig,
    SelfTrainConfig,
    build,
    load_result,
    load_self_train_result,
    method_config,
    run,
    run_self_train,
)
from lt_lib.recipes.self_train import build_pool, judge_pool
from lt_lib.training import CheckpointError

FAST = {
    "dataset": "tiny",
    "n_max": 12,
    "imbalance_ratio": 4.0,
    "pool_amount": 2.0,
    "epochs": 3,
    "student_epochs": 2,
    "batch_size": 8,
    "student_batch_size": 16,
    "learning_rate": 0.05,
    "device": "cpu",
}
BASE = SelfTrainConfig(**FAST)
SVHN_ORDER = "1 2 3 4 5 6 7 8 9 0"


@pytest.fixture(autouse=True)
def _sets(loaded):
    """All runs here find their data by name, in memory."""


def exactly(one, two):
    """Equal to the last bit, the times apart."""
    for a, b in ((one.base, two.base), (one.trained, two.trained)):
        assert {**a.curves, "seconds": 0} == {**b.curves, "seconds": 0}
        np.testing.assert_array_equal(a.test_logits, b.test_logits)
        assert a.confusion == b.confusion


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pool_source": "holdouts"}, "Did you mean 'holdout'"),
        ({"pool_source": "cinic"}, "Did you mean 'cinic10'"),
        ({"counts_from": "both"}, "`counts_from` must be one of 'joined', 'labelled'"),
        ({"base_method": "LDAM-DRX"}, "Did you mean 'LDAM-DRW'"),
        ({"pool_amount": 0.0}, "`amount` must be a number above 0"),
        ({"pool_imbalance_ratio": 0.5}, "`imbalance_ratio` must be"),
        ({"relevance": 1.5}, "`relevance` must be"),
        ({"relevance": 0.6}, "`outside` must name a source where `relevance` is below 1, .* got '' with 0.6"),
        ({"outside": "noise"}, "be empty where it is 1, got 'noise' with 1"),
        ({"omega": -1.0}, "`omega` must be finite and >= 0, got -1.0"),
        ({"omega": float("nan")}, "`omega` must be finite"),
        ({"omega": 0.5, "sampling": "inverse"}, "`omega` must be 1 with sampling by class"),
        ({"student_epochs": 0}, "`student_epochs` must be 0 with pool_source 'none' and >= 1 .* got 0 with 'holdout'"),
        ({"pool_source": "none"}, "`student_epochs` must be 0 with pool_source 'none'"),
        ({"student_batch_size": 0}, "`student_batch_size` must be finite and >= 1, got 0"),
        ({"pool_source": "none", "student_epochs": 0, "omega": 2.0}, "`omega` must be left at 1.0 with pool_source"),
        ({"pool_source": "none", "student_epochs": 0, "pool_amount": 1.0}, "`pool_amount` must be left at 5.0"),
        ({"pretext": "rotate"}, "Did you mean 'rotation'"),
        ({"pretext": "rotation"}, "`pretrain_epochs` must be 0 with pretext 'none' and >= 1 with a task, got 0"),
        ({"pretrain_epochs": 3}, "got 3 with 'none'"),
        ({"class_order": "1 2 2"}, "`class_order` must hold each of 0 ... C - 1 once, got '1 2 2'"),
        ({"class_order": "one two"}, "`class_order` must hold each of"),
        ({"class_order": "1 0", "permute_classes": True}, "`permute_classes` must be False with a `class_order`"),
        ({"imbalance_type": "natural"}, "`imbalance_type` must be one that is drawn"),
        ({"num_devices": 2}, "`num_devices` must be 1 for self-training, got 2"),
        ({"bias_init": "prior", "base_method": "LDAM"}, "`base_method` must fit the other .*, got 'LDAM': `bias_init`"),
        ({"pretext": "rotation", "pretrain_epochs": 1, "optimizer": "adam"}, "`optimizer` must be 'sgd' for pre-train"),
        ({"epochs": 0}, "`epochs` must be"),
    ],
)
def test_bad_fields_are_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        SelfTrainConfig(**change)


def test_it_is_a_run_config_with_more_fields_and_a_hash_of_its_own():
    own = [field.name for field in fields(SelfTrainConfig) if field.name not in RunConfig.__dataclass_fields__]
    assert own[:2] == ["class_order", "pool_source"]
    hashes = {BASE.hash(), replace(BASE, omega=2.0).hash(), replace(BASE, class_order="2 1 0").hash()}
    assert len(hashes) == 3
    assert BASE.hash() == replace(BASE, device="auto", data_root="elsewhere").hash()
    with pytest.raises(TypeError, match="`student_epochs` must be of type int"):
        SelfTrainConfig(student_epochs=2.5)


def test_the_control_has_the_same_updates_and_no_pool():
    config = replace(BASE, loss="ldam", relevance=0.5, outside="noise", omega=0.5)
    plain, counted = config.control(), config.control(21)
    assert (plain.pool_source, plain.epochs, plain.loss, plain.outside) == ("none", 3 + 3, "ldam", "")
    # 21 samples are 3 steps of 8, 63 are 4 of 16.
    assert counted.epochs == 3 + round(2 * 4 / 3)
    found = run_self_train(config)
    control = run_self_train(counted)
    assert found.updates == 3 * 3 + 2 * 4
    assert abs(control.updates - found.updates) <= 3 / 2
    assert counted.control() == counted


def test_without_a_pool_it_is_the_plain_run(tiny):
    config = replace(BASE.control(), epochs=4)
    plain = {field.name: getattr(config, field.name) for field in fields(RunConfig)}
    expected = run(RunConfig(**plain), dataset=tiny)
    found = run_self_train(config)
    assert found.trained.confusion == expected.confusion
    assert found.trained.curves["train_loss"] == expected.curves["train_loss"]
    assert (found.base, found.pool, found.pool_error) == (None, {}, None)
    assert found.method == "ERM on labels alone"
    assert found.to_row()["pool_amount"] == 0.0


def test_a_number_counts_where_one_of_the_two_models_reads_it():
    config = replace(BASE, base_method="LDAM-DRW", max_margin=0.3, beta=0.9, pretext="rotation", pretrain_epochs=1)
    assert config.base_config.max_margin == 0.3
    assert (config.final_config.max_margin, config.final_config.beta) == (0.3, 0.9)
    # What does not have the base method does not have its numbers.
    for other in (config.control(), config.pretrain_config):
        assert (other.loss, other.max_margin, other.beta) == ("softmax", 0.5, 0.9999)
    final = replace(BASE, base_method="ERM", weighting="effective_number", beta=0.9, loss="focal", gamma=2.0)
    assert (final.beta, final.control().beta) == (0.9, 0.9)
    assert (final.base_config.beta, final.base_config.gamma) == (0.9999, 1.0)
    with pytest.raises(ValueError, match="`tau` must be left at 1.0 without loss 'logit_adjusted', got 2.0"):
        replace(config, tau=2.0)
    # The base method has its own gamma, whatever is said here.
    with pytest.raises(ValueError, match="`gamma` must be left at 1.0 without a focal loss, got 2.0"):
        replace(BASE, base_method="Focal", gamma=2.0)


@pytest.mark.parametrize("method", ["", "LDAM-DRW", "RS"])
def test_the_base_model_is_the_plain_run_of_its_method(tiny, method):
    config = replace(BASE, base_method=method, weighting="inverse", normalization="weights")
    named = method_config(method or "RW", RunConfig(**{k: v for k, v in FAST.items() if hasattr(RunConfig(), k)}))
    expected = run(named, dataset=tiny)
    found = run_self_train(config)
    assert found.base.config == config.base_config == named
    np.testing.assert_array_equal(found.base.test_logits, expected.test_logits)
    row = found.to_row()
    assert (row["method"], row["base"], row["base_method"]) == ("RW + pool", "RW", method or "RW")
    assert row["base_accuracy_last"] == expected.accuracy_last
    assert [row[f"base_recall_{c}"] for c in range(3)] == expected.recall.tolist()


@pytest.mark.parametrize(
    "change", [{}, {"model": "cnn", "augment": True, "precision": "float32"}, {"dataset": "vectors"}]
)
def test_pseudo_labels_are_the_predictions_of_the_base_model(loaded, change):
    """The test set as a pool: what the base model makes of it is known from its logits."""
    config = replace(BASE, **change)
    test = loaded[config.dataset].test
    found = run_self_train(config, pool=Pool(test.inputs, test.targets, 3, "holdout"))
    predicted = found.base.test_logits.argmax(axis=1)
    assert found.pool["predicted_counts"] == np.bincount(predicted, minlength=3).tolist()
    assert found.pool["recall"] == found.base.recall.tolist()
    assert found.pool_error == pytest.approx(1 - np.mean(predicted == test.targets))


@pytest.mark.parametrize("counts_from", ["joined", "labelled"])
def test_the_final_loss_is_given_the_counts_that_were_asked_for(monkeypatch, counts_from):
    seen = []
    real = build.build_loss
    monkeypatch.setattr(build, "build_loss", lambda c, counts, place: seen.append(counts) or real(c, counts, place))
    found = run_self_train(replace(BASE, loss="ldam", counts_from=counts_from))
    labelled, pseudo = np.array(found.trained.class_counts), np.array(found.pool["predicted_counts"])
    assert labelled.tolist() == [12, 6, 3]
    assert seen[0].tolist() == labelled.tolist()
    expected = labelled + (pseudo if counts_from == "joined" else 0)
    assert seen[1].tolist() == expected.tolist() == found.pool["loss_counts"]


def test_the_final_model_learns_from_labels_and_pseudo_labels(monkeypatch):
    seen = []
    real = training.fit

    def watched(model, inputs, targets, **options):
        seen.append((inputs, targets, {name: options[name] for name in ("epochs", "batch_size")}))
        return real(model, inputs, targets, **options)

    monkeypatch.setattr(training, "fit", watched)
    found = run_self_train(BASE)
    (inputs, targets, first), (joined, labels, second) = seen
    assert (first, second) == ({"epochs": 3, "batch_size": 8}, {"epochs": 2, "batch_size": 16})
    assert torch.equal(joined[:21], inputs)
    assert torch.equal(labels[:21], targets)
    assert torch.bincount(labels[21:], minlength=3).tolist() == found.pool["predicted_counts"]
    assert len(joined) == 21 + found.pool["size"] == 21 + 42
    assert found.trained.config == BASE
    assert len(found.trained.curves["train_loss"]) == 2


@pytest.mark.parametrize(
    ("change", "expected"), [({}, "all"), ({"omega": 0.25}, "omega"), ({"sampling": "inverse"}, "classes")]
)
def test_the_final_model_sees_the_shares_that_were_asked_for(monkeypatch, change, expected):
    orders = []
    real = training.fit

    def watched(model, inputs, targets, **options):
        rng = torch.Generator().manual_seed(0)
        orders.append((torch.cat([options["order_at"](1, rng) for _ in range(30)]), targets))
        return real(model, inputs, targets, **options)

    monkeypatch.setattr(training, "fit", watched)
    run_self_train(replace(BASE, **change))
    order, targets = orders[1]
    assert len(order) == 30 * 63
    if expected == "classes":
        shares = torch.bincount(targets[order], minlength=3) / len(order)
        assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.05)
    else:
        from_pool = float((order >= 21).double().mean())
        assert from_pool == pytest.approx(42 / 63 if expected == "all" else 0.25 * 42 / (21 + 0.25 * 42), abs=0.01)


@pytest.mark.parametrize("change", [{}, {"sampling": "inverse"}, {"loss": "ldam", "counts_from": "labelled"}])
def test_no_true_label_of_the_pool_is_read(tiny, change):
    config = replace(BASE, relevance=0.7, outside="noise", **change)
    pool = build_pool(config, tiny, build.draw_subset(config, tiny))
    plain = run_self_train(config, pool=pool)
    exactly(run_self_train(config), plain)
    shuffled = replace(pool, targets=np.random.default_rng(0).permutation(pool.targets))
    hidden = replace(pool, targets=np.full(len(pool), OUTSIDE))
    for other in (run_self_train(config, pool=shuffled), run_self_train(config, pool=hidden)):
        exactly(other, plain)
        assert other.trained.data_hash == plain.trained.data_hash
        assert other.pool["loss_counts"] == plain.pool["loss_counts"]
        # Only what is reported about the pool looks at them.
        assert other.pool["recall"] != plain.pool["recall"]
    assert run_self_train(config, pool=hidden).pool_error is None


DECISIONS = {
    "pool_amount": 1.0,
    "pool_imbalance_ratio": 3.0,
    "omega": 0.3,
    "base_method": "LDAM",
    "student_epochs": 3,
    "student_batch_size": 8,
    "class_order": "2 1 0",
    "split_seed": 1,
    "seed": 1,
    "permute_classes": True,
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_every_decision_changes_the_outcome(decision):
    base = replace(BASE, split_seed=2)
    plain, changed = run_self_train(base), run_self_train(replace(base, **{decision: DECISIONS[decision]}))
    assert not np.array_equal(plain.trained.test_logits, changed.trained.test_logits)


def test_counts_relevance_and_outside_change_the_outcome():
    drw = replace(BASE, loss="ldam")
    one, two = run_self_train(drw), run_self_train(replace(drw, counts_from="labelled"))
    assert not np.array_equal(one.trained.test_logits, two.trained.test_logits)
    mixed = [replace(BASE, relevance=r, outside=o) for r, o in ((0.5, "noise"), (0.7, "noise"), (0.5, "uneven"))]
    results = [run_self_train(config) for config in mixed]
    logits = {result.trained.test_logits.tobytes() for result in results}
    assert len(logits) == 3
    assert [result.pool["relevance"] for result in results] == pytest.approx([0.5, 0.7, 0.5], abs=0.03)
    assert all(sum(r.pool["outside_counts"]) == r.pool["size"] - sum(r.pool["class_counts"]) for r in results)


def interrupted_at(monkeypatch, stage, after):
    """Training of a stage stops after so many epochs, as if the machine had gone."""
    real = training.fit

    def fit(*arguments, **options):
        if options["identity"].endswith(".base") == (stage == "base"):
            real(*arguments, **options, stop_after=after)
            raise KeyboardInterrupt
        return real(*arguments, **options)

    monkeypatch.setattr(training, "fit", fit)


@pytest.mark.parametrize(("stage", "after"), [("base", 1), ("student", 0), ("student", 1)])
@pytest.mark.parametrize(
    "change", [{}, {"model": "resnet8", "augment": True, "precision": "float32", "pretext": "rotation"}]
)
def test_a_run_goes_on_to_the_same_bits(tmp_path, monkeypatch, stage, after, change):
    config = replace(BASE, **change, pretrain_epochs=1 if change else 0)
    whole = run_self_train(config)
    with monkeypatch.context() as context:
        interrupted_at(context, stage, after)
        with pytest.raises(KeyboardInterrupt):
            run_self_train(config, checkpoint=tmp_path / "state.pt")
    names = {"state.pt.base"} | ({"state.pt.pretext"} if change else set())
    names |= {"state.pt"} if (stage, after) == ("student", 1) else set()
    assert {path.name for path in tmp_path.iterdir()} == names
    epochs = []
    real = training.fit

    def counted(*arguments, **options):
        history = real(*arguments, **options)
        epochs.append((options["identity"].endswith(".base"), history.epochs))
        return history

    monkeypatch.setattr(training, "fit", counted)
    exactly(run_self_train(config, checkpoint=tmp_path / "state.pt"), whole)
    assert epochs == [(True, 3), (False, 2)]
    exactly(run_self_train(config, checkpoint=tmp_path / "state.pt"), whole)
    with pytest.raises(CheckpointError, match="`identity` must be"):
        run_self_train(replace(config, omega=0.5), checkpoint=tmp_path / "state.pt")


def test_a_finished_stage_is_not_trained_again(tmp_path, monkeypatch):
    first = run_self_train(BASE, checkpoint=tmp_path / "state.pt")
    monkeypatch.setattr(training.loop, "_train_epoch", None)
    exactly(run_self_train(BASE, checkpoint=tmp_path / "state.pt"), first)


def test_a_checkpoint_of_another_pool_is_refused(tmp_path, tiny):
    run_self_train(BASE, checkpoint=tmp_path / "state.pt")
    pool = build_pool(BASE, tiny, build.draw_subset(BASE, tiny))
    other = replace(pool, inputs=pool.inputs[::-1].copy())
    with pytest.raises(CheckpointError, match="`identity` must be"):
        run_self_train(BASE, checkpoint=tmp_path / "state.pt", pool=other)


def test_the_held_out_pool_has_neither_labelled_nor_validation_images(tiny):
    config = replace(BASE, validation_per_class=5)
    subset = build.draw_subset(config, tiny)
    pool = build_pool(config, tiny, subset)
    images = {image.tobytes(): position for position, image in enumerate(tiny.train.inputs)}
    rows = {images[image.tobytes()] for image in pool.inputs}
    assert len(rows) == len(pool) == 42
    assert not rows & {*subset.train.tolist(), *subset.validation.tolist()}
    assert pool.class_counts.tolist() == [14, 14, 14]
    result = run_self_train(config)
    assert result.trained.accuracy_validation is not None
    assert result.base.accuracy_validation is not None
    with pytest.raises(ValueError, match=r"class 0 has 28 free samples in 'holdout', got 70. A smaller `amount`"):
        run_self_train(replace(BASE, pool_amount=10.0))


def test_further_images_as_a_pool(monkeypatch, tiny):
    rng = np.random.default_rng(3)
    split = Split(rng.integers(256, size=(90, 8, 8, 1), dtype=np.uint8), np.repeat(np.arange(3), 30))
    asked = []

    def load_extra(name, root=None):
        asked.append((name, root))
        return Extra(name, split, names)

    names = tiny.class_names
    monkeypatch.setattr(data, "load_extra", load_extra)
    config = replace(BASE, pool_source="svhn_extra", pool_amount=4.0, data_root="there")
    found = run_self_train(config)
    assert asked == [("svhn_extra", "there")]
    assert (found.pool["source"], found.pool["class_counts"]) == ("svhn_extra", [28, 28, 28])
    names = ("0", "1", "2")
    with pytest.raises(ValueError, match=r"`pool_source` must have .* of 'tiny' \(a, b, c\), got 'svhn_extra'"):
        run_self_train(config)


def test_a_pool_that_is_not_on_disk_is_named(tmp_path):
    config = replace(BASE, pool_source="svhn_extra", data_root=str(tmp_path))
    with pytest.raises(MissingDataError, match="`svhn_extra` is missing: extra_32x32.mat not found"):
        run_self_train(config)


def test_the_order_of_the_classes_is_that_of_svhn_lt():
    config = SelfTrainConfig(dataset="svhn", n_max=1000, imbalance_ratio=50.0, class_order=SVHN_ORDER)
    targets = np.repeat(np.arange(10), 1200)
    inputs = np.zeros((12000, 1, 1, 1), dtype=np.uint8)
    svhn = Dataset("svhn", Split(inputs, targets), Split(inputs[:10], np.arange(10)), 10, tuple("0123456789"))
    subset = build.draw_subset(config, svhn, config.frequency_order(10))
    assert np.roll(subset.class_counts, -1).tolist() == [1000, 647, 419, 271, 175, 113, 73, 47, 30, 20]
    small = replace(config, pool_amount=0.2, pool_imbalance_ratio=10.0)
    pool = build_pool(small, svhn, subset)
    assert np.roll(pool.class_counts, -1).tolist() == sorted(pool.class_counts, reverse=True)
    assert pool.class_counts[1] > 5 * pool.class_counts[0]
    with pytest.raises(ValueError, match=r"`class_order` must hold each of 0 ... 2 once"):
        run_self_train(replace(BASE, class_order=SVHN_ORDER))


def test_the_order_of_the_classes_reaches_training_and_pool():
    found = run_self_train(replace(BASE, class_order="2 0 1", pool_imbalance_ratio=3.0, pool_amount=1.0))
    assert found.trained.class_counts == [6, 3, 12]
    assert np.argsort(found.pool["class_counts"]).tolist() == [1, 0, 2]
    permuted = replace(BASE, permute_classes=True, split_seed=3, pool_imbalance_ratio=3.0, pool_amount=1.0)
    found = run_self_train(permuted)
    order = np.random.default_rng(3).permutation(3)
    assert order.tolist() != [0, 1, 2]
    assert np.argsort(found.trained.class_counts)[::-1].tolist() == order.tolist()
    assert np.argsort(found.pool["class_counts"])[::-1].tolist() == order.tolist()


def test_the_final_model_has_random_weights_of_its_own(monkeypatch):
    real, starts = build.build_model, []

    def built(config, *arguments):
        model = real(config, *arguments)
        starts.append(torch.cat([value.flatten().double() for value in model.state_dict().values()]))
        return model

    monkeypatch.setattr(build, "build_model", built)
    for seed in (0, 1, 0):
        run_self_train(replace(BASE, seed=seed))
    base, student, other_base, other_student, same_base, same_student = starts
    for one, two in ((base, student), (base, other_base), (student, other_student), (other_base, student)):
        assert not torch.equal(one, two)
    assert torch.equal(base, same_base)
    assert torch.equal(student, same_student)
    run(BASE.base_config)
    assert torch.equal(starts[-1], base)


def test_a_state_of_a_final_model_with_other_weights_is_refused(tmp_path, monkeypatch):
    run_self_train(BASE, checkpoint=tmp_path / "state.pt")
    monkeypatch.setattr("lt_lib.recipes.self_train.student_seed", lambda seed: seed + 5)
    with pytest.raises(CheckpointError, match="`identity` must be"):
        run_self_train(BASE, checkpoint=tmp_path / "state.pt")


def test_pretraining_is_the_start_of_both_models(tmp_path):
    config = replace(BASE, pretext="rotation", pretrain_epochs=2)
    plain = run_self_train(BASE)
    found = run_self_train(config, checkpoint=tmp_path / "state.pt")
    assert len(found.pretext_curves["train_loss"]) == 2
    assert found.method == "ERM + rotation + pool"
    assert found.base.curves["train_loss"] != plain.base.curves["train_loss"]
    # Without any learning and without the pool, the first loss is that of the starting weights.
    still = [
        run_self_train(replace(c, learning_rate=1e-12, omega=0.0)).trained.curves["train_loss"][0]
        for c in (config, BASE)
    ]
    assert still[0] != still[1]
    control = config.control()
    assert (control.pretext, control.pretrain_epochs) == ("rotation", 2)
    assert run_self_train(control).method == "ERM + rotation on labels alone"


def test_diagnostics_are_those_of_a_plain_count():
    truth = np.array([0, 0, 0, 1, 1, 2, OUTSIDE, OUTSIDE])
    guess = np.array([0, 0, 1, 1, 0, 0, 1, 1])
    report = judge_pool(Pool(np.zeros((8, 1)), truth, 3, "made"), guess)
    assert report["precision"] == [2 / 4, 1 / 4, None]
    assert report["recall"] == [2 / 3, 1 / 2, 0.0]
    assert (report["predicted_counts"], report["outside_counts"]) == ([4, 4, 0], [0, 2, 0])
    assert (report["class_counts"], report["size"], report["right"], report["relevance"]) == ([3, 2, 1], 8, 3, 0.75)
    empty = judge_pool(Pool(np.zeros((2, 1)), np.array([0, OUTSIDE]), 2, "made"), np.array([0, 0]))
    assert empty["recall"] == [1.0, None]


def test_result_is_written_and_read_back_and_no_plain_result(tmp_path):
    found = run_self_train(replace(BASE, pretext="rotation", pretrain_epochs=1))
    found.save(tmp_path)
    loaded = load_self_train_result(tmp_path)
    assert loaded.to_row() == found.to_row()
    assert loaded.pool == found.pool
    content = json.loads((tmp_path / "result.json").read_text())
    assert content["row"]["pool_size"] == 42
    assert 0 <= content["row"]["pool_error"] <= 1
    assert load_result(tmp_path / "base").confusion == found.base.confusion
    lines = (tmp_path / "pool.csv").read_text().splitlines()
    assert lines[0] == "class,labelled,pool,predicted,precision,recall"
    assert lines[1].startswith(f"0,12,14,{found.pool['predicted_counts'][0]},")
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 1 + 2
    with pytest.raises(ValueError, match=r"whole result\.json"):
        load_result(tmp_path)
    (tmp_path / "base" / "result.json").unlink()
    with pytest.raises(ValueError, match=r"whole result\.json, got \S*base"):
        load_self_train_result(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match=r"whole result\.json"):
        load_self_train_result(tmp_path)


def test_a_save_writes_the_result_once_and_last(tmp_path, written_files):
    found = run_self_train(BASE)
    written_files.clear()
    found.save(tmp_path)
    assert written_files == ["base/curves.csv", "base/result.json", "curves.csv", "pool.csv", "result.json"]


def test_a_control_is_written_and_read_back(tmp_path):
    found = run_self_train(BASE.control())
    assert load_self_train_result(found.save(tmp_path)).to_row() == found.to_row()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.csv", "result.json"]


def test_what_does_not_fit_is_refused(tiny):
    with pytest.raises(ValueError, match="`outside` must name a data set where the samples are vectors, got 'noise'"):
        run_self_train(replace(BASE, dataset="vectors", relevance=0.5, outside="noise"))
    with pytest.raises(ValueError, match=r"`outside` must have samples of shape \(8, 8, 1\)"):
        run_self_train(replace(BASE, relevance=0.5, outside="vectors"))
    texts = Split(["a", "b", "c"] * 20, np.tile(np.arange(3), 20))
    with pytest.raises(ValueError, match="`dataset` must hold images or vectors .* got texts in 'tiny'"):
        run_self_train(BASE, dataset=replace(tiny, train=texts, test=texts))
    with pytest.raises(ValueError, match="`pool_source` must not be 'none' where a pool is drawn"):
        build_pool(BASE.control(), tiny, build.draw_subset(BASE, tiny))
    with pytest.raises(ValueError, match="`dataset` must hold images for pre-training, got vectors"):
        run_self_train(replace(BASE, dataset="vectors", pretext="rotation", pretrain_epochs=1))


def test_data_and_pools_that_the_row_would_not_name_are_refused(loaded, monkeypatch):
    pool = build_pool(BASE, loaded["tiny"], build.draw_subset(BASE, loaded["tiny"]))
    monkeypatch.setattr(training, "fit", None)
    with pytest.raises(ValueError, match="`dataset` must be that of the configuration, 'tiny', got 'uneven'"):
        run_self_train(BASE, dataset=loaded["uneven"])
    with pytest.raises(ValueError, match="`pool` must be left out with pool_source 'none', got one from 'holdout'"):
        run_self_train(BASE.control(), pool=pool)
    with pytest.raises(
        ValueError, match="`pool` must be from the source of the configuration, 'svhn_extra', got one f"
    ):
        run_self_train(replace(BASE, pool_source="svhn_extra"), pool=pool)


def test_the_final_model_is_named_by_its_own_length():
    config = replace(BASE, loss="ldam", weighting="effective_number", normalization="weights", defer_until=0.8)
    assert (config.epochs, config.student_epochs) == (3, 2)
    row = run_self_train(config).to_row()
    assert (row["method"], row["base"], row["base_method"]) == ("LDAM + pool", "LDAM", "LDAM-DRW")
    assert run_self_train(config.control()).method == "LDAM-DRW on labels alone"
