# ruff: noqa: NPY002 - the published draw runs on the legacy global generator
import hashlib

import numpy as np
import pytest

from lt_lib.counts import exponential_counts
from lt_lib.data import holdout_indices, long_tail_indices, split_hash


@pytest.fixture
def targets():
    return np.random.default_rng(7).permutation(np.repeat(np.arange(5), 40))


def published_draw(targets, class_counts, seed):
    # The authors' loop: the global generator, class after class in label order, prefix of each shuffle.
    np.random.seed(seed)
    chosen = []
    for label, count in zip(np.unique(targets), class_counts, strict=True):
        members = np.where(targets == label)[0]
        np.random.shuffle(members)
        chosen.extend(members[:count].tolist())
    return chosen


@pytest.mark.parametrize("seed", [0, 1, 3407])
def test_ldam_scheme_is_the_authors_draw_in_their_order(targets, seed):
    counts = exponential_counts(40, 5, 10)
    saved = np.random.get_state()
    try:
        expected = published_draw(targets, counts, seed)
    finally:
        np.random.set_state(saved)
    assert long_tail_indices(targets, counts, seed=seed, scheme="ldam").tolist() == expected


@pytest.mark.parametrize("scheme", ["numpy", "ldam"])
def test_draw_leaves_the_global_generator_alone(targets, scheme):
    np.random.seed(5)
    expected = np.random.random(3)
    np.random.seed(5)
    long_tail_indices(targets, [40, 20, 10, 5, 2], seed=0, scheme=scheme)
    holdout_indices(targets, np.arange(10), 5, seed=0)
    np.testing.assert_array_equal(np.random.random(3), expected)


@pytest.mark.parametrize("scheme", ["numpy", "ldam"])
def test_draw_has_the_counts_and_no_repetition(targets, scheme):
    chosen = long_tail_indices(targets, [40, 20, 10, 0, 2], seed=3, scheme=scheme)
    assert chosen.dtype == np.int64
    assert len(np.unique(chosen)) == len(chosen) == 72
    assert np.bincount(targets[chosen], minlength=5).tolist() == [40, 20, 10, 0, 2]
    np.testing.assert_array_equal(chosen, long_tail_indices(targets, [40, 20, 10, 0, 2], seed=3, scheme=scheme))
    assert not np.array_equal(chosen, long_tail_indices(targets, [40, 20, 10, 0, 2], seed=4, scheme=scheme))


@pytest.mark.parametrize("scheme", ["numpy", "ldam"])
def test_class_order_maps_rank_to_class(targets, scheme):
    order = [3, 0, 4, 1, 2]
    chosen = long_tail_indices(targets, [40, 20, 10, 5, 2], seed=0, class_order=order, scheme=scheme)
    assert targets[chosen[:40]].tolist() == [3] * 40
    assert np.bincount(targets[chosen])[order].tolist() == [40, 20, 10, 5, 2]


def test_numpy_scheme_nests_and_ignores_the_other_classes(targets):
    mild = long_tail_indices(targets, exponential_counts(40, 5, 4), seed=0)
    strong = long_tail_indices(targets, exponential_counts(40, 5, 20), seed=0)
    assert set(strong) < set(mild)
    alone = long_tail_indices(targets, [0, 0, 7, 0, 0], seed=0)
    with_others = long_tail_indices(targets, [9, 3, 7, 1, 40], seed=0, class_order=None)
    assert alone.tolist() == with_others[targets[with_others] == 2].tolist()


def test_numpy_scheme_shuffles_each_class_on_its_own():
    blocks = long_tail_indices(np.repeat([0, 1], 40), [40, 40], seed=0).reshape(2, 40)
    assert not np.array_equal(blocks[0], blocks[1] - 40)


def test_draws_of_seed_zero_are_frozen():
    # Result tables name these hashes; a NumPy that draws differently must not pass unnoticed.
    targets = np.arange(50_000) % 10
    counts = exponential_counts(5000, 10, 100)
    hashes = {
        scheme: split_hash(long_tail_indices(targets, counts, seed=0, scheme=scheme)) for scheme in ("numpy", "ldam")
    }
    assert hashes == {
        "numpy": "f30ad14f86f66d15c815bf6d45dba1209be93fc4306c9b2b091351d7d47c7cd7",
        "ldam": "61a0415afd0ed75c69bbab44ab2eeba292306444a3d30c9dc9f4ecb1e3eb03b0",
    }


def test_only_the_legacy_stream_limits_the_seed(targets):
    counts = [30, 20, 10, 5, 2]
    large, other = (long_tail_indices(targets, counts, seed=seed) for seed in (2**32, 2**80 + 1))
    assert np.bincount(targets[large]).tolist() == counts
    assert set(large) != set(other)
    assert len(long_tail_indices(targets, counts, seed=2**32 - 1, scheme="ldam")) == sum(counts)
    with pytest.raises(ValueError, match=r"`seed` must be an integer in \[0, 4294967295\], got 4294967296"):
        long_tail_indices(targets, counts, seed=2**32, scheme="ldam")


def test_draw_does_not_change_its_arguments(targets):
    before = targets.copy()
    counts = np.array([40, 20, 10, 5, 2])
    long_tail_indices(targets, counts, seed=0, scheme="ldam")
    np.testing.assert_array_equal(targets, before)
    assert counts.tolist() == [40, 20, 10, 5, 2]


def test_draw_refuses_what_cannot_be(targets):
    with pytest.raises(ValueError, match=r"`class_counts` must not ask for more than class 3 has \(40\), got 41"):
        long_tail_indices(targets, [40, 20, 10, 41, 2], seed=0)
    with pytest.raises(ValueError, match=r"more than class 3 has \(40\), got 41"):
        long_tail_indices(targets, [41, 20, 10, 5, 2], seed=0, class_order=[3, 0, 1, 2, 4])
    with pytest.raises(ValueError, match="`class_counts` must have one entry per class, 5 or more, got 4"):
        long_tail_indices(targets, [4, 3, 2, 1], seed=0)
    with pytest.raises(ValueError, match="`class_counts` must be non-negative, got"):
        long_tail_indices(targets, [4, 3, 2, 1, -1], seed=0)
    with pytest.raises(ValueError, match="`class_counts` must have at least one sample"):
        long_tail_indices(targets, [0] * 5, seed=0)
    with pytest.raises(ValueError, match="`class_order` must hold each of 0 … 4 once"):
        long_tail_indices(targets, [1] * 5, seed=0, class_order=[0, 1, 2, 3, 3])
    with pytest.raises(ValueError, match="`scheme` must be one of 'numpy', 'ldam', got 'ldan'. Did you mean 'ldam'"):
        long_tail_indices(targets, [1] * 5, seed=0, scheme="ldan")
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0, got -1"):
        long_tail_indices(targets, [1] * 5, seed=-1)
    with pytest.raises(TypeError, match="`targets` must be integer class indices, got float64"):
        long_tail_indices(targets.astype(float), [1] * 5, seed=0)
    with pytest.raises(ValueError, match="`targets` must be class indices >= 0, got -1"):
        long_tail_indices(targets - 1, [1] * 5, seed=0)
    with pytest.raises(ValueError, match="`targets` must be a non-empty vector of class indices"):
        long_tail_indices([], [1] * 5, seed=0)


def test_holdout_takes_discarded_samples_first(targets):
    train = long_tail_indices(targets, [30, 20, 10, 5, 38], seed=0)
    remaining, validation, counts = holdout_indices(targets, train, 8, seed=0)
    np.testing.assert_array_equal(remaining, train)
    assert counts.tolist() == [30, 20, 10, 5, 38]
    # Class 4 discarded only two samples, so it gives two.
    assert np.bincount(targets[validation]).tolist() == [8, 8, 8, 8, 2]
    assert not set(validation) & set(train)


def test_holdout_of_a_class_that_uses_everything_is_recorded(targets):
    train = long_tail_indices(targets, [40, 20, 10, 5, 2], seed=0)
    remaining, validation, counts = holdout_indices(targets, train, 8, seed=0)
    assert counts.tolist() == [32, 20, 10, 5, 2]
    assert np.bincount(targets[remaining]).tolist() == counts.tolist()
    assert np.bincount(targets[validation]).tolist() == [8] * 5
    assert not set(validation) & set(remaining)
    # The order of the draw survives.
    assert remaining.tolist() == [index for index in train if index not in set(validation)]


def test_holdout_depends_on_its_seed_alone(targets):
    train = long_tail_indices(targets, [30, 20, 10, 5, 2], seed=0)
    first, again, other = (holdout_indices(targets, train, 8, seed=seed)[1] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


def test_holdout_default_is_one_hundred_per_class():
    targets = np.repeat([0, 1], 300)
    _, validation, counts = holdout_indices(targets, np.arange(310), seed=0)
    assert len(validation) == 200
    assert counts.tolist() == [200, 10]


def test_holdout_skips_labels_without_samples():
    remaining, validation, counts = holdout_indices([0, 0, 0, 2, 2, 2], [0, 1, 3], 1, seed=0)
    assert remaining.tolist() == [0, 1, 3]
    assert counts.tolist() == [2, 0, 1]
    assert len(validation) == 2


def test_holdout_refuses_what_cannot_be(targets):
    everything = np.arange(len(targets))
    with pytest.raises(ValueError, match="`per_class` must be below 40, all that class 0 has, got 40"):
        holdout_indices(targets, everything, 40, seed=0)
    with pytest.raises(ValueError, match="`per_class` must be .*1.*got 0"):
        holdout_indices(targets, everything, 0, seed=0)
    with pytest.raises(ValueError, match="`train_indices` must lie in 0 … 199, got values from 0 to 200"):
        holdout_indices(targets, [0, 200], 5, seed=0)
    with pytest.raises(TypeError, match="`train_indices` must be one-dimensional integers, got bool"):
        holdout_indices(targets, targets == 0, 5, seed=0)
    with pytest.raises(ValueError, match="`train_indices` must not repeat an index, got 3 more than once"):
        holdout_indices(targets, [1, 3, 3], 5, seed=0)


def test_split_hash_is_a_plain_digest_that_sees_the_order():
    assert split_hash([2, 1]) != split_hash([1, 2])
    assert split_hash(np.array([1, 2], dtype=np.int32)) == split_hash(np.array([1, 2], dtype=np.int64))
    assert split_hash([]) != split_hash([0])
    expected = hashlib.sha256(b"<i8(2,)" + (1).to_bytes(8, "little") + (2).to_bytes(8, "little")).hexdigest()
    assert split_hash([1, 2]) == expected
    with pytest.raises(TypeError, match="`indices` must be one-dimensional integers, got float64"):
        split_hash([0.5])
