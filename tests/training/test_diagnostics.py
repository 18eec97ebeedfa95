import math

import numpy as np
import pytest
import torch

from lt_lib.training import (
    GenerationRecord,
    generation_rows,
    kl_divergence,
    pseudo_label_report,
    select_pseudo_labels,
    selection_precision,
)

PRIOR = [0.6, 0.3, 0.1]


@pytest.fixture
def world(rng):
    """A pool dominated by class 0 and a balanced test set, with predictions that lean to class 0."""

    def split(sizes):
        targets = np.repeat(np.arange(3), sizes)
        scores = rng.normal(size=(len(targets), 3)) + 1.5 * np.eye(3)[targets] + [0.8, 0, -0.8]
        powers = np.exp(2 * scores)
        return powers / powers.sum(axis=1, keepdims=True), targets

    return split([600, 300, 100]), split([200, 200, 200])


def report(world, **changes):
    (pool, pool_targets), (test, test_targets) = world
    arguments = {
        "test_probabilities": test,
        "test_targets": test_targets,
        "pool_probabilities": pool,
        "pool_targets": pool_targets,
        "prior": PRIOR,
        "threshold": 0.8,
    }
    return pseudo_label_report(**(arguments | changes))


def test_every_number_in_plain_python(world):
    found = report(world)
    for (table, targets), name in zip(world, ("pool", "test"), strict=True):
        guesses = [row.tolist().index(row.max()) for row in table]
        for label in range(3):
            hits = sum(g == y == label for g, y in zip(guesses, targets, strict=True))
            recall, precision = getattr(found, f"{name}_recall"), getattr(found, f"{name}_precision")
            assert recall[label] == pytest.approx(hits / sum(y == label for y in targets))
            assert precision[label] == pytest.approx(hits / sum(g == label for g in guesses))
    (table, _), _ = world
    for label in range(3):
        mine = [row.max() for row in table if row.argmax() == label]
        assert found.predicted[label] == pytest.approx(len(mine) / len(table))
        assert found.confidence[label] == pytest.approx(sum(mine) / len(mine))
        assert found.mask_rate[label] == pytest.approx(sum(value >= 0.8 for value in mine) / len(mine))
    assert found.mask_rate_all == pytest.approx(np.mean(table.max(axis=1) >= 0.8))
    assert found.mask_rate_all == pytest.approx(found.mask_rate @ found.predicted)
    mean = table.mean(axis=0)
    assert found.kl_to_prior == pytest.approx(sum(p * math.log(p / q) for p, q in zip(mean, PRIOR, strict=True)))


def test_the_two_precisions_can_reverse(world):
    found = report(world)
    assert found.test_precision[0] < found.test_precision[2]
    assert found.pool_precision[0] > found.pool_precision[2]


def test_tensors_and_arrays_give_the_same(world):
    (pool, _), _ = world
    one, two = report(world), report(world, pool_probabilities=torch.from_numpy(pool))
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(two, name))


def test_a_class_that_is_never_predicted_is_nan_and_the_rest_is_finite():
    table = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.9, 0.1, 0.0]])
    found = report(((table, np.array([0, 1, 2])), (table, np.array([0, 1, 2]))))
    for name in ("pool_precision", "test_precision", "confidence", "mask_rate"):
        assert np.isnan(getattr(found, name)).tolist() == [False, False, True], name
    assert found.pool_recall.tolist() == [1, 1, 0]
    assert found.predicted.tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert math.isfinite(found.kl_to_prior)


def test_divergence_of_equal_and_of_missing_classes():
    assert kl_divergence(PRIOR, PRIOR) == 0
    assert kl_divergence([1.0, 0.0], [0.5, 0.5]) == pytest.approx(math.log(2))
    assert kl_divergence([0.5, 0.5], [1.0, 0.0]) == math.inf


@pytest.mark.parametrize(
    ("model", "prior", "message"),
    [
        ([0.5, 0.6], [0.5, 0.5], "`model` must be non-negative numbers with sum 1"),
        ([0.5, 0.5], [1.5, -0.5], "`prior` must be non-negative numbers with sum 1"),
        ([0.5, 0.5], [0.2, 0.3, 0.5], r"`prior` must have one entry per class \(2\), got 3"),
    ],
)
def test_wrong_distributions_are_refused(model, prior, message):
    with pytest.raises(ValueError, match=message):
        kl_divergence(model, prior)


def test_wrong_reports_are_refused(world):
    with pytest.raises(ValueError, match=r"`threshold` must be a finite number in \[0.0, 1.0\]"):
        report(world, threshold=1.5)
    with pytest.raises(ValueError, match="`pool_probabilities` must have 3 classes, got 2"):
        report(world, pool_probabilities=np.full((5, 2), 0.5))
    with pytest.raises(ValueError, match="`test_probabilities` must be finite, got nan"):
        report(world, test_probabilities=np.full((5, 3), np.nan))

    (pool, targets), (test, _) = world
    for name, table in (("pool", pool), ("test", test)):
        with pytest.raises(ValueError, match=f"`{name}_probabilities` must be >= 0 .*logits need a softmax first"):
            report(world, **{f"{name}_probabilities": np.log(table)})
    with pytest.raises(ValueError, match=r"`pool_targets` must have one entry per sample \(1000\), got 999"):
        report(world, pool_targets=targets[1:])
    with pytest.raises(ValueError, match=r"`test_targets` must be class indices in \[0, 2\], got 3"):
        report(world, test_targets=np.full(600, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_predictions_of_a_network_are_judged_as_they_come(world, dtype):
    (pool, targets), (test, test_targets) = world
    tables = {"pool_probabilities": torch.from_numpy(pool), "test_probabilities": torch.from_numpy(test)}
    tables = {name: table.log().to(dtype).softmax(dim=1) for name, table in tables.items()}
    one = report(world, **{name: table.double().numpy() for name, table in tables.items()})
    two = report(world, **{name: table.requires_grad_() for name, table in tables.items()})
    for name, value in vars(one).items():
        np.testing.assert_array_equal(value, getattr(two, name))


@pytest.mark.parametrize(
    ("targets", "num_classes", "error", "message"),
    [
        (
            np.zeros(999, dtype=int),
            3,
            ValueError,
            r"`candidate_targets` must have one entry per sample \(1000\), got 999",
        ),
        (np.full(1000, 3), 3, ValueError, r"`candidate_targets` must be class indices in \[0, 2\], got 3"),
        (np.zeros(1000), 3, TypeError, "`candidate_targets` must be integer class indices, got float64"),
        (np.zeros(1000, dtype=int), 2, ValueError, "`num_classes` must be an integer of at least 3, got 2"),
    ],
)
def test_precision_of_a_selection_names_what_does_not_fit(world, targets, num_classes, error, message):
    chosen = select_pseudo_labels(world[0][0], [0.1, 0.5, 1.0])
    with pytest.raises(error, match=message):
        selection_precision(chosen, targets, num_classes)


def test_the_precision_of_what_was_selected(world):
    (pool, targets), _ = world
    chosen = select_pseudo_labels(pool, [0.1, 0.5, 1.0])
    found = selection_precision(chosen, targets, 3)
    for label in range(3):
        mine = chosen.indices[chosen.labels == label]
        assert found[label] == pytest.approx(np.mean(targets[mine] == label))
    np.testing.assert_array_equal(found, selection_precision(chosen, torch.from_numpy(targets), 3))
    # The most confident are more often right than all.
    everything = selection_precision(select_pseudo_labels(pool, [1, 1, 1]), targets, 3)
    assert found[0] > everything[0]


def test_rows_are_tidy(world):
    (pool, _), _ = world
    chosen = select_pseudo_labels(pool, [0.1, 0.5, 1.0])
    records = [GenerationRecord(g, 10 + g, chosen, {"recall": np.array([g, 0.5, 1.0]), "loss": 3.0}) for g in range(2)]
    rows = generation_rows(records, method="crest", seed=4)
    assert len(rows) == 6
    assert rows[3] == {
        "method": "crest",
        "seed": 4,
        "generation": 1,
        "class": 0,
        "predicted_count": int(chosen.predicted[0]),
        "selected_count": int(chosen.selected[0]),
        "recall": 1.0,
    }
