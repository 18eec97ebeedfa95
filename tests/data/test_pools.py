import numpy as np
import pytest

from lt_lib.data import Split, gaussian_world
from lt_lib.data.pools import OUTSIDE, Pool, PoolSpec, drawn_pool, gaussian_pool, pool_counts


@pytest.fixture(scope="module")
def world():
    return gaussian_world(num_classes=6, dim=4, clusters=1, separation=2.0)


@pytest.fixture
def recorded():
    """Sixty samples of each of four classes; the input is the position."""
    targets = np.repeat(np.arange(4), 60)
    return Split(np.arange(240.0)[:, None], targets)


def authors_counts(total, num_classes, ratio):
    """One class after the other as in the authors' code: cut to whole samples twice, without any slack."""
    first = total // num_classes
    raw = [int(first * (1 / ratio) ** (rank / (num_classes - 1.0))) for rank in range(num_classes)]
    factor = total / sum(raw)
    return [int(number * factor) for number in raw]


@pytest.mark.parametrize("total", [50, 997, 62030, 69980])
@pytest.mark.parametrize("ratio", [1.0, 5.0, 50.0, 100.0])
def test_counts_are_those_of_the_authors_loop(total, ratio):
    assert pool_counts(total, 10, ratio).tolist() == authors_counts(total, 10, ratio)


def test_a_whole_count_is_not_cut_to_the_number_below():
    # 49 times 1/49 is just below 1 in binary: the authors' loop leaves the class empty.
    assert authors_counts(490, 10, 49.0)[-1] == 0
    assert pool_counts(490, 10, 49.0)[-1] > 0


def test_counts_of_the_published_pools():
    assert pool_counts(69980, 10, 1.0).tolist() == [6998] * 10
    assert pool_counts(69980, 10, 100.0)[[0, 9]].tolist() == [28208, 278]
    assert pool_counts(62030, 10, 1.0).sum() == 62030


@pytest.mark.parametrize("relevance", [0.0, 0.2, 0.6, 1.0])
@pytest.mark.parametrize("amount", [0.5, 5.0, 10.0])
def test_a_made_pool_is_what_was_asked(world, amount, relevance, rng):
    pool = gaussian_pool(world, 4, 200, PoolSpec(amount, 1.0, relevance), rng)
    assert abs(len(pool) - 200 * amount) <= 4
    assert pool.relevance == pytest.approx(relevance, abs=0.01)
    assert np.ptp(pool.class_counts) == 0
    assert pool.inputs.shape == (len(pool), 4)
    assert pool.source == "Gaussian world"


def test_a_made_pool_has_the_imbalance_asked_and_the_outside_in_equal_parts(world, rng):
    pool = gaussian_pool(world, 4, 1000, PoolSpec(5.0, 10.0, 0.8), rng)
    counts = pool.class_counts
    assert counts[0] / counts[3] == pytest.approx(10, rel=0.02)
    outside = pool.inputs[pool.targets == OUTSIDE]
    # The nearest class mean tells which of the two outside classes a sample is from.
    nearest = np.linalg.norm(outside[:, None] - world.means[4:, 0], axis=2).argmin(axis=1)
    assert len(outside) == 1000
    assert np.bincount(nearest).tolist() == pytest.approx([500, 500], abs=60)


def test_drawn_samples_are_free_distinct_and_of_their_class(recorded):
    used = np.r_[0:20, 60:70]
    pool = drawn_pool(recorded, 4, 60, PoolSpec(1.5, 2.0), seed=3, source="rest", exclude=used)
    rows = pool.inputs[:, 0].astype(int)
    assert len(set(rows)) == len(rows)
    assert not set(rows) & set(used)
    assert (recorded.targets[rows] == pool.targets).all()
    assert pool.class_counts.tolist() == pool_counts(90, 4, 2.0).tolist()
    again = drawn_pool(recorded, 4, 60, PoolSpec(1.5, 2.0), seed=3, source="rest", exclude=used)
    other = drawn_pool(recorded, 4, 60, PoolSpec(1.5, 2.0), seed=4, source="rest", exclude=used)
    assert pool.hash() == again.hash() != other.hash()


def test_class_order_says_who_is_largest(recorded):
    pool = drawn_pool(recorded, 4, 60, PoolSpec(1.5, 2.0), seed=0, source="rest", class_order=[3, 2, 1, 0])
    assert pool.class_counts.tolist() == pool_counts(90, 4, 2.0).tolist()[::-1]


def test_outside_samples_come_from_outside_and_do_not_move_the_others(recorded):
    outside = np.arange(1000.0, 1100.0)[:, None]
    mixed = drawn_pool(recorded, 4, 100, PoolSpec(1.0, 1.0, 0.4), seed=0, source="rest", outside=outside)
    assert (mixed.inputs[mixed.targets == OUTSIDE] >= 1000).all()
    assert mixed.relevance == pytest.approx(0.4)
    plain = drawn_pool(recorded, 4, 40, PoolSpec(1.0), seed=0, source="rest")
    assert (mixed.inputs[mixed.targets != OUTSIDE] == plain.inputs).all()
    nothing = drawn_pool(recorded, 4, 100, PoolSpec(0.5, 1.0, 0.0), seed=0, source="rest", outside=outside)
    assert nothing.relevance == 0.0
    assert nothing.class_counts.tolist() == [0] * 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"relevance": 1.2}, r"`relevance` must be a finite number in \[0.0, 1.0\], got 1.2"),
        ({"relevance": -0.1}, r"`relevance` must be a finite number in \[0.0, 1.0\], got -0.1"),
        ({"amount": 0.0}, "`amount` must be a number above 0"),
        ({"imbalance_ratio": 0.5}, "`imbalance_ratio` must be"),
    ],
)
def test_specs_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        PoolSpec(**fields)


def test_an_empty_pool_is_refused():
    with pytest.raises(ValueError, match="`amount` must leave at least one sample in the pool"):
        PoolSpec(amount=0.01).sizes(10, 4)
    with pytest.raises(ValueError, match="equally long, not empty"):
        Pool(np.empty((0, 2)), np.empty(0, dtype=np.int64), 4, "nothing")
    few = r"`relevance` must leave at least one sample per class \(10\) or none, got {} of a pool of {}\."
    with pytest.raises(ValueError, match=few.format(1, 3)):
        PoolSpec(amount=1.0).sizes(3, 10)
    with pytest.raises(ValueError, match=few.format(0.05, 100)):
        PoolSpec(amount=1.0, relevance=0.05).sizes(100, 10)
    assert PoolSpec(amount=1.0, relevance=0.1).sizes(100, 10)[0].tolist() == [1] * 10
    with pytest.raises(ValueError, match=r"`total` must be at least one sample per class \(10\), got 5"):
        pool_counts(5, 10, 1.0)


def test_a_pool_smaller_than_asked_is_refused(recorded):
    with pytest.raises(ValueError, match=r"class 0 has 60 free samples in 'rest', got 100"):
        drawn_pool(recorded, 4, 80, PoolSpec(5.0), seed=0, source="rest")
    with pytest.raises(ValueError, match="`outside` must hold at least 50 samples for this relevance, got 0"):
        drawn_pool(recorded, 4, 100, PoolSpec(1.0, 1.0, 0.5), seed=0, source="rest")
    with pytest.raises(ValueError, match="shape"):
        drawn_pool(recorded, 4, 100, PoolSpec(1.0, 1.0, 0.5), seed=0, source="rest", outside=np.zeros((60, 2)))


def test_a_world_without_outside_has_only_relevant_pools(world, rng):
    with pytest.raises(ValueError, match=r"`spec.relevance` must be 1"):
        gaussian_pool(world, 6, 100, PoolSpec(1.0, 1.0, 0.5), rng)


@pytest.mark.parametrize(
    ("exclude", "error", "message"),
    [
        (np.arange(240) % 2 == 0, TypeError, "`exclude` must be one-dimensional integers, got bool"),
        ([0.9, 1.2], TypeError, "`exclude` must be one-dimensional integers, got float64"),
        ([3, 240], ValueError, "`exclude` must lie in 0 … 239, got values from 3 to 240"),
        ([-1, 3], ValueError, "`exclude` must lie in 0 … 239, got values from -1 to 3"),
    ],
)
def test_what_names_no_sample_excludes_none(recorded, exclude, error, message):
    with pytest.raises(error, match=message):
        drawn_pool(recorded, 4, 60, PoolSpec(1.0), seed=0, source="rest", exclude=exclude)


def test_excluded_samples_may_come_one_by_one_and_twice(recorded):
    listed = drawn_pool(recorded, 4, 60, PoolSpec(1.0), seed=0, source="rest", exclude=np.array([0, 5, 7]))
    for same in ((index for index in (7, 0, 5, 5)), {0, 5, 7}, [0, 5, 7]):
        assert drawn_pool(recorded, 4, 60, PoolSpec(1.0), seed=0, source="rest", exclude=same).hash() == listed.hash()


@pytest.mark.parametrize("relevance", [1.0, 0.0])
def test_orders_and_seeds_out_of_range_are_refused(recorded, relevance):
    spec, outside = PoolSpec(1.0, 1.0, relevance), np.zeros((60, 1))
    for order in ([0], [0, 1, 2, 5], [0, 1, 1, 2]):
        with pytest.raises(ValueError, match="`class_order` must hold each of 0 … 3 once, got"):
            drawn_pool(recorded, 4, 60, spec, seed=0, source="rest", outside=outside, class_order=order)
    with pytest.raises(ValueError, match="`seed` must be an integer of at least 0, got -1"):
        drawn_pool(recorded, 4, 60, spec, seed=-1, source="rest", outside=outside)


def test_targets_of_a_pool_are_int64():
    for wrong in (np.array([np.nan, 1.0]), np.array([0, 1], dtype=np.int32), [0, 1]):
        with pytest.raises(ValueError, match="`targets` must be a one-dimensional int64 array, got"):
            Pool(np.zeros((2, 1)), wrong, 4, "x")


def test_classes_out_of_range_are_refused():
    with pytest.raises(ValueError, match="`targets` must lie in -1"):
        Pool(np.zeros((2, 1)), np.array([0, 4]), 4, "x")
