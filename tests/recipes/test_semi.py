import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from lt_lib import metrics, training
from lt_lib.recipes import SemiConfig, build_semi_problem, load_semi_result, run_semi, run_semi_many, semi_config
from lt_lib.recipes import semi as module
from lt_lib.training import CheckpointError, consistency

FAST = {
    "dataset": "vectors",
    "profile": "quick",
    "n_max": 30,
    "label_fraction": 0.2,
    "imbalance_ratio": 5.0,
    "model": "mlp-8",
    "generations": 3,
    "epochs": 2,
    "steps_per_epoch": 4,
    "batch_size": 6,
    "unlabelled_ratio": 2,
    "threshold": 0.5,
    "learning_rate": 0.1,
    "ema_decay": 0.7,
    "alignment_window": 3,
}
BASE = SemiConfig(**FAST)


@pytest.fixture(autouse=True)
def _sets(loaded):
    """All runs here find their data by name, in memory."""


def same(one, two, rel=1e-9):
    assert one.config == two.config
    assert (one.data_hash, one.protocol, one.class_counts) == (two.data_hash, two.protocol, two.class_counts)
    assert len(one.records) == len(two.records)
    for a, b in zip(one.records, two.records, strict=True):
        assert a.training_size == b.training_size
        np.testing.assert_array_equal(a.selection.indices, b.selection.indices)
        np.testing.assert_array_equal(a.selection.labels, b.selection.labels)
        for key in ("labelled_loss", "unlabelled_loss", "mask_rate"):
            assert a.report["history"][key] == pytest.approx(b.report["history"][key], rel=rel)
        for key in ("test_recall", "pool_precision", "confidence", "kl_to_prior", "selected_precision"):
            np.testing.assert_allclose(a.report[key], b.report[key], rtol=max(rel, 1e-9) if rel else 0)
    assert one.accuracy_last == pytest.approx(two.accuracy_last)


def exactly(one, two):
    """Equal to the last bit, the times apart."""
    for a, b in zip(one.records, two.records, strict=True):
        assert {**a.report["history"], "seconds": 0} == {**b.report["history"], "seconds": 0}
        np.testing.assert_array_equal(a.report["confidence"], b.report["confidence"])
        np.testing.assert_array_equal(a.selection.indices, b.selection.indices)
        np.testing.assert_array_equal(a.selection.labels, b.selection.labels)
    assert one.accuracy_last == two.accuracy_last


METHODS = ("supervised", "pseudo-label", "mean teacher", "fixmatch", "fixmatch equal-compute", "crest", "crest+")


@pytest.mark.parametrize("method", METHODS)
def test_side_by_side_is_as_one_by_one(method):
    configs = [semi_config(method, BASE, seed=s, split_seed=s, label_fraction=f) for s, f in ((0, 0.2), (1, 0.3))]
    configs.append(
        semi_config(method, BASE, seed=2, subset_seed=2, permute_classes=True, imbalance_ratio=3.0, threshold=0.6)
    )
    for one, config in zip(run_semi_many(configs), configs, strict=True):
        same(one, run_semi(config))


def test_configurations_of_all_kinds_side_by_side():
    changes = (
        {"alignment": "constant"},
        {"alignment": "adaptive", "prior": "estimated"},
        {"alignment": "running"},
        {"selection": "random"},
        {"keep": "accumulate"},
        {"source": "model"},
        {"align_selection": True, "alignment": "adaptive"},
        {"labelled_in_stream": False},
        {"alpha": 0.0},
        {"unlabelled_weight": 0.3},
    )
    configs = [BASE.changed(**change) for change in changes]
    for one, config in zip(run_semi_many(configs), configs, strict=True):
        same(one, run_semi(config))


def test_unlike_lengths_and_models_go_into_stacks_of_their_own():
    configs = [BASE, BASE.changed(generations=2), BASE.changed(model="mlp-4"), BASE.changed(seed=5)]
    results = run_semi_many(configs)
    assert [len(result.generations) for result in results] == [3, 2, 3, 3]
    assert [result.config for result in results] == configs


def test_fixmatch_is_the_first_generation_of_crest():
    alone, crest = run_semi(semi_config("fixmatch", BASE)), run_semi(semi_config("crest", BASE))
    assert alone.records[0].report["history"]["labelled_loss"] == crest.records[0].report["history"]["labelled_loss"]
    np.testing.assert_array_equal(alone.records[0].selection.indices, crest.records[0].selection.indices)
    assert alone.accuracy_last == crest.generations[0]["accuracy"]


# Every decision that published ports take differently. All must matter.
DECISIONS = {
    "prior": {"prior": "estimated", "alignment": "adaptive"},
    "labelled_in_stream": {"labelled_in_stream": False},
    "source": {"source": "model", "ema_decay": 0.95},
    "selection": {"selection": "random"},
    "keep": {"keep": "accumulate"},
    "initialise": {"initialise": "continue"},
    "align_selection": {"align_selection": True, "alignment": "constant"},
    "alignment": {"alignment": "constant"},
    "alpha": {"alpha": 3.0},
    "target_temperature": {"target_temperature": 1.0},
    "unlabelled_ratio": {"unlabelled_ratio": 1},
    "lr_level": {"lr_level": 7.0},
    "t_min": {"t_min": 0.9, "alignment": "adaptive"},
    "alignment_window": {"alignment_window": 128, "alignment": "adaptive"},
    "generations": {"generations": 2},
    "ramp_up": {"ramp_up": 0.5},
    "rounding": {"rounding": "floor"},
    "seed": {"seed": 1},
    "split_seed": {"split_seed": 1},
    "subset_seed": {"subset_seed": 1},
    "permute_classes": {"permute_classes": True, "subset_seed": 2},
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_every_port_decision_changes_the_outcome(decision):
    changed = BASE.changed(**DECISIONS[decision])
    plain = changed.changed(**{decision: getattr(BASE, decision)})
    assert changed != plain
    one, two = run_semi(changed), run_semi(plain)
    losses = [[g["history"]["labelled_loss"] for g in result.generations] for result in (one, two)]
    assert losses[0] != losses[1]


def test_alignment_is_none_constant_or_adaptive(monkeypatch):
    given = []
    real = training.semi.fit_semi
    monkeypatch.setattr(
        module.semi, "fit_semi", lambda *args, **options: given.append(options["alignment"]) or real(*args, **options)
    )
    profile = 5.0 ** -np.array([0, 0.5, 1])
    for alignment, exponents in (("constant", [0.5] * 3), ("adaptive", [1, 0.75, 0.5])):
        given.clear()
        run_semi(BASE.changed(alignment=alignment))
        for target, exponent in zip(given, exponents, strict=True):
            np.testing.assert_allclose(target.numpy(), profile**exponent / (profile**exponent).sum())
    for alignment, expected in (("none", None), ("running", "running")):
        given.clear()
        run_semi(BASE.changed(alignment=alignment))
        assert given == [expected] * 3
    given.clear()
    run_semi(BASE.changed(alignment="adaptive", generations=1))
    np.testing.assert_allclose(given[0].numpy(), profile / profile.sum())
    given.clear()
    run_semi(BASE.changed(alignment="constant", t_min=1.0, prior="estimated"))
    np.testing.assert_allclose(given[0].numpy(), np.array([6, 3, 2]) / 11)


@pytest.mark.parametrize("method", ["crest", "crest+"])
def test_no_true_label_of_the_pool_is_read(method):
    config = semi_config(method, BASE)
    problem = build_semi_problem(config)
    plain = run_semi(config, problem=problem)
    permuted = replace(problem, candidate_targets=np.random.default_rng(0).permutation(problem.candidate_targets))
    hidden = replace(problem, candidate_targets=np.zeros_like(problem.candidate_targets))
    for other in (run_semi(config, problem=permuted), run_semi(config, problem=hidden)):
        exactly(other, plain)
        # Only what is reported about the pool looks at them.
        assert not np.array_equal(other.records[0].report["pool_recall"], plain.records[0].report["pool_recall"])


def test_the_selection_is_part_of_the_pool_and_of_the_right_size():
    result = run_semi(BASE)
    problem = build_semi_problem(BASE)
    rates = training.inclusion_rates(problem.profile, BASE.alpha)
    sizes = [len(problem.labelled)]
    for record in result.records:
        chosen = record.selection
        assert set(chosen.indices) <= set(range(len(problem.candidates)))
        np.testing.assert_array_equal(chosen.selected, np.floor(chosen.predicted * rates + 1e-9))
        sizes.append(len(problem.labelled) + len(chosen.indices))
    assert [g["training_size"] for g in result.generations] == sizes[:-1]


def test_alpha_zero_trains_on_the_whole_pool():
    result = run_semi(BASE.changed(alpha=0.0))
    total = sum(result.class_counts) + sum(result.unlabelled_counts)
    assert [g["training_size"] for g in result.generations] == [sum(result.class_counts), total, total]


def test_the_split_is_fixed_over_the_generations(monkeypatch):
    seen = []
    real = training.semi.fit_semi

    def watched(model, pool, stream, **options):
        seen.append((pool.data_ptr(), stream.unlabelled.clone(), stream.labelled.clone(), stream.labels.clone()))
        return real(model, pool, stream, **options)

    monkeypatch.setattr(module.semi, "fit_semi", watched)
    result = run_semi(BASE)
    number = sum(result.class_counts)
    for pointer, unlabelled, labelled, labels in seen:
        # The same memory: a generation adds indices and copies nothing.
        assert pointer == seen[0][0]
        assert torch.equal(unlabelled, seen[0][1])
        assert torch.equal(labelled[:number], seen[0][2])
        assert torch.equal(labels[:number], seen[0][3])


@pytest.mark.parametrize("initialise", ["fresh", "continue"])
@pytest.mark.parametrize("stop", [1, 2])
def test_a_run_goes_on_in_any_generation_to_the_same_bits(tmp_path, stop, initialise):
    config = semi_config("crest+", BASE, initialise=initialise, selection="random")
    whole = run_semi(config)
    run_semi(config, checkpoint=tmp_path, stop_after=stop)
    exactly(run_semi(config, checkpoint=tmp_path), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["generations.pt"]
    with pytest.raises(CheckpointError, match="`identity` must be"):
        run_semi(config.changed(seed=1), checkpoint=tmp_path)


@pytest.mark.parametrize("generation", [0, 1, 2])
def test_a_run_goes_on_inside_a_generation_to_the_same_bits(tmp_path, monkeypatch, generation):
    """An interruption after the first epoch of a generation costs no more than what followed that epoch."""
    config = semi_config("crest+", BASE)
    whole = run_semi(config)
    real = training.semi.fit_semi
    epochs = []

    def interrupted(*arguments, **options):
        if options["identity"].endswith(f"generation{generation}"):
            real(*arguments, **options, stop_after=1)
            raise KeyboardInterrupt
        return real(*arguments, **options)

    def counted(*arguments, **options):
        epochs.append(options["checkpoint"].exists())
        return real(*arguments, **options)

    monkeypatch.setattr(module.semi, "fit_semi", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_semi(config, checkpoint=tmp_path)
    monkeypatch.setattr(module.semi, "fit_semi", counted)
    exactly(run_semi(config, checkpoint=tmp_path), whole)
    assert epochs == [True] + [False] * (2 - generation)


def test_a_class_that_is_never_predicted_is_finite_and_named(monkeypatch):
    config = semi_config("crest+", BASE, learning_rate=1e-6, align_selection=True)

    def build(*_arguments):
        net = real(*_arguments)
        with torch.no_grad():
            net.head.bias[1] -= 60
        return net

    real = module._model
    monkeypatch.setattr(module, "_model", build)
    result = run_semi(config)
    for generation in result.generations:
        assert generation["never_predicted"] == [1]
        assert generation["starved"] == [1]
        assert generation["selected_counts"][1] == 0
        assert generation["selected_precision"][1] is None
        assert np.isfinite(generation["history"]["labelled_loss"]).all()
    assert "class 1" in result.records[0].selection.describe()
    assert np.isfinite(result.accuracy_last)


def test_a_result_says_what_the_averaged_model_does(vectors):
    problem = build_semi_problem(BASE)
    result = run_semi(BASE, problem=problem)
    last = result.generations[-1]
    assert result.accuracy_last == last["accuracy"] == pytest.approx(np.mean(last["test_recall"]))
    assert result.accuracy_last == last["history"]["accuracy"]["test"][-1]
    assert result.accuracy_best_on_test == max(last["history"]["accuracy"]["test"])
    assert result.class_counts == [6, 3, 2]
    assert result.unlabelled_counts == [24, 10, 4]
    assert result.precision == "float64"
    assert result.protocol == "crest (30, 20 %)"
    row = result.to_row()
    assert (row["method"], row["protocol"], row["steps"], row["generations"]) == ("crest", result.protocol, 24, 3)
    assert row["accuracy_validation"] is None
    rows = result.rows(world="tiny")
    assert len(rows) == 9
    assert {"world", "method", "generation", "class", "pool_precision", "test_precision", "mask_rate"} <= set(rows[0])


def test_the_reported_precision_is_that_of_the_pseudo_labels(monkeypatch):
    tables = []
    real = training.crest.select_pseudo_labels
    monkeypatch.setattr(
        training.crest, "select_pseudo_labels", lambda table, *a, **k: tables.append(table) or real(table, *a, **k)
    )
    problem = build_semi_problem(BASE)
    result = run_semi(BASE, problem=problem)
    for table, generation in zip(tables, result.generations, strict=True):
        guesses = np.asarray(table).argmax(axis=1)
        expected = metrics.per_class_precision(problem.candidate_targets, guesses, 3)
        found = [np.nan if value is None else value for value in generation["pool_precision"]]
        np.testing.assert_allclose(found, expected)


def test_a_result_survives_its_file(tmp_path):
    result = run_semi(BASE)
    loaded = load_semi_result(result.save(tmp_path))
    assert loaded.generations == result.generations
    assert loaded.to_row() == result.to_row()
    (tmp_path / "result.json").write_text("{")
    with pytest.raises(ValueError, match="`folder` must hold a whole result.json"):
        load_semi_result(tmp_path)


def test_a_result_from_before_the_hold_out_is_read(tmp_path):
    result = run_semi(BASE)
    file = result.save(tmp_path) / "result.json"
    content = json.loads(file.read_text())
    del content["accuracy_validation"], content["config"]["validation_per_class"]
    file.write_text(json.dumps(content))
    assert load_semi_result(tmp_path).to_row() == result.to_row()


HELD_OUT = BASE.changed(validation_per_class=4, epochs=3, evaluate_every=1)


def test_the_hold_out_is_what_the_draw_discarded(vectors):
    problem = build_semi_problem(HELD_OUT)
    inputs, targets = problem.validation
    assert torch.bincount(targets).tolist() == [4, 4, 4]
    rows = {row.tobytes(): label for row, label in zip(vectors.train.inputs, vectors.train.targets, strict=True)}
    held = [row.astype(np.float32).tobytes() for row in inputs.numpy()]
    assert [rows[row] for row in held] == targets.tolist()
    used = {row.astype(np.float32).tobytes() for row in problem.pool.numpy()}
    assert len(set(held)) == 12
    assert not used & set(held)
    # The split is that of the run without it, and 10 are left of the largest class.
    plain = build_semi_problem(BASE)
    assert plain.split.hash == problem.split.hash
    assert plain.data_hash != problem.data_hash
    assert plain.validation is None
    many = build_semi_problem(HELD_OUT.changed(validation_per_class=100))
    assert torch.bincount(many.validation[1]).tolist() == [10, 27, 34]


def test_the_hold_out_selects_and_changes_no_training(monkeypatch):
    plain, held = run_semi(HELD_OUT.changed(validation_per_class=0)), run_semi(HELD_OUT)
    for a, b in zip(plain.generations, held.generations, strict=True):
        assert a["history"]["labelled_loss"] == b["history"]["labelled_loss"]
        assert a["history"]["accuracy"]["test"] == b["history"]["accuracy"]["test"]
    assert (plain.accuracy_validation, plain.to_row()["accuracy_validation"]) == (None, None)
    scores = held.generations[-1]["history"]["accuracy"]
    assert len(scores["validation"]) == 3
    assert held.accuracy_validation == scores["test"][int(np.argmax(scores["validation"]))]
    # Epochs are chosen by the hold-out: one that is best in the middle of the run chooses the middle.
    real = training.semi.fit_semi

    def crowned(*arguments, **options):
        history, average = real(*arguments, **options)
        history.accuracy["validation"], history.accuracy["test"] = [0.1, 0.9, 0.2], [0.3, 0.4, 0.5]
        return history, average

    monkeypatch.setattr(module.semi, "fit_semi", crowned)
    row = run_semi(HELD_OUT).to_row()
    assert (row["accuracy_validation"], row["accuracy_best_on_test"]) == (0.4, 0.5)


def test_a_run_with_a_hold_out_goes_on_and_is_not_stacked(tmp_path):
    whole = run_semi(HELD_OUT)
    run_semi(HELD_OUT, checkpoint=tmp_path, stop_after=1)
    again = run_semi(HELD_OUT, checkpoint=tmp_path)
    exactly(again, whole)
    assert again.accuracy_validation == whole.accuracy_validation
    pair = run_semi_many([HELD_OUT, HELD_OUT.changed(seed=1, subset_seed=1, split_seed=1)])
    exactly(pair[0], whole)
    assert pair[1].accuracy_validation is not None
    assert load_semi_result(whole.save(tmp_path / "out")).accuracy_validation == whole.accuracy_validation


def test_a_hold_out_without_anything_left_is_refused():
    with pytest.raises(ValueError, match=r"`validation_per_class` must be 0 where .* got 4 with none left of class 0"):
        build_semi_problem(HELD_OUT.changed(n_max=40))


@pytest.mark.parametrize("model", ["cnn", "wrn-10-1", "mlp-8"])
def test_images_train_with_their_own_views(tmp_path, model):
    config = semi_config("crest+", BASE, dataset="tiny", model=model, flip=False, generations=2, precision="float32")
    whole = run_semi(config)
    run_semi(config, checkpoint=tmp_path, stop_after=1)
    exactly(run_semi(config, checkpoint=tmp_path), whole)
    assert build_semi_problem(config).pool.dtype == torch.uint8
    noisy = run_semi(config.changed(views="noise"))
    assert noisy.generations[0]["history"] != whole.generations[0]["history"]


def test_images_side_by_side():
    configs = [semi_config("crest", BASE, dataset="tiny", seed=s, split_seed=s) for s in range(2)]
    for one, config in zip(run_semi_many(configs), configs, strict=True):
        same(one, run_semi(config))


def test_the_passes_matter_where_there_are_batch_statistics():
    config = semi_config("fixmatch", BASE, dataset="tiny", model="wrn-10-1", precision="float32")
    one, two = run_semi(config), run_semi(config.changed(one_forward=False))
    assert one.generations[0]["history"]["labelled_loss"] != two.generations[0]["history"]["labelled_loss"]


def test_the_other_families():
    config = BASE.changed(family="daso", n_max=0, n_labelled=8, n_unlabelled=20)
    result = run_semi(config.changed(generations=2))
    assert (result.class_counts, result.unlabelled_counts) == ([8, 3, 1], [20, 8, 4])
    turned = build_semi_problem(config.changed(reversed_unlabelled=True, unlabelled_imbalance_ratio=2.0))
    assert turned.split.unlabelled_counts.tolist() == [10, 14, 20]


def test_the_rare_class_can_be_any():
    problem = build_semi_problem(BASE.changed(permute_classes=True, subset_seed=2))
    order = np.random.default_rng(2).permutation(3)
    assert order.tolist() != [0, 1, 2]
    assert np.argsort(-problem.split.class_counts).tolist() == order.tolist()
    assert np.argsort(-problem.profile).tolist() == order.tolist()


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="`views` must be 'noise' for a data set of vectors, got 'image'"):
        run_semi(BASE.changed(views="image"))
    with pytest.raises(ValueError, match="`model` must be an 'mlp' for a data set of vectors, got 'cnn'"):
        run_semi(BASE.changed(model="cnn"))
    with pytest.raises(ValueError, match="must not ask for more than class 0 has"):
        run_semi(BASE.changed(n_max=1000))
    with pytest.raises(ValueError, match=r"`label_fraction` must leave an unlabelled sample, got 0\.99 of 36"):
        run_semi(BASE.changed(label_fraction=0.99, imbalance_ratio=30.0))
    with pytest.raises(ValueError, match="leave a labelled image in every class"):
        run_semi(BASE.changed(label_fraction=0.05, rounding="floor"))


def test_the_learner_is_what_the_configuration_says():
    assert module._rule(BASE.changed(learner="supervised"), 0.9) is None
    for learner, rule in (("fixmatch", consistency.fixmatch()), ("pseudo_label", consistency.pseudo_label())):
        found = module._rule(BASE.changed(learner=learner), 0.9)
        assert (found.student, found.teacher) == (rule.student, rule.teacher)
    assert module._rule(BASE.changed(learner="mean_teacher"), 0.9).teacher == "average"


def test_views_that_do_not_fit_are_refused_with_the_data():
    with pytest.raises(ValueError, match="`views` must be 'noise' for a data set of vectors, got 'image'"):
        build_semi_problem(BASE.changed(views="image"))
    with pytest.raises(ValueError, match="`views` must be 'noise' for a data set of vectors, got 'image'"):
        run_semi(BASE.changed(views="image"), problem=build_semi_problem(BASE))


def test_more_samples_than_there_are_is_refused_in_the_words_of_the_configuration():
    with pytest.raises(ValueError, match=r"`n_max` must not ask for more than class 0 has \(40\), got 1000\."):
        build_semi_problem(BASE.changed(n_max=1000))


def test_data_of_another_name_or_draw_are_refused(loaded, monkeypatch):
    monkeypatch.setattr(training, "run_generations", None)
    message = "`dataset` must be that of the configuration, 'tiny', got 'vectors'"
    with pytest.raises(ValueError, match=message):
        build_semi_problem(BASE.changed(dataset="tiny"), dataset=loaded["vectors"])
    with pytest.raises(ValueError, match=message):
        run_semi_many([BASE, BASE.changed(dataset="tiny")], dataset=loaded["vectors"])
    problem = build_semi_problem(BASE)
    for name, value in (("imbalance_ratio", 3.0), ("dataset", "tiny"), ("validation_per_class", 2), ("split_seed", 1)):
        drawn = getattr(BASE, name)
        with pytest.raises(ValueError, match=f"`problem` must be drawn with `{name}` {value!r}, got {drawn!r}"):
            run_semi(BASE.changed(**{name: value}), problem=problem)


def test_a_problem_serves_other_methods_on_the_same_data():
    problem = build_semi_problem(BASE.changed(data_root="elsewhere"))
    assert run_semi(semi_config("supervised", BASE), problem=problem).data_hash == problem.data_hash


def test_a_class_without_test_samples_is_reported_and_written(monkeypatch, loaded, tmp_path):
    vectors = loaded["vectors"]
    kept = vectors.test.targets != 1
    test = replace(vectors.test, inputs=vectors.test.inputs[kept], targets=vectors.test.targets[kept])
    monkeypatch.setitem(loaded, "vectors", replace(vectors, test=test))
    result = run_semi(BASE)
    assert np.isnan(result.recall).tolist() == [False, True, False]
    assert np.isnan(result.to_row()["recall_1"])
    folder = result.save(tmp_path)
    assert json.loads((folder / "result.json").read_text())["row"]["recall_1"] is None
    np.testing.assert_array_equal(load_semi_result(folder).recall, result.recall)
    assert np.isfinite(result.accuracy_last)


def test_a_run_that_is_left_early_has_no_result(tmp_path):
    assert run_semi(BASE, checkpoint=tmp_path, stop_after=1) is None
    assert run_semi(BASE, checkpoint=tmp_path, stop_after=3).config == BASE
    for stop in (0, -1):
        with pytest.raises(ValueError, match=f"`stop_after` must be an integer of at least 1, got {stop}"):
            run_semi(BASE, stop_after=stop)
