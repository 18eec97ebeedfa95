import numpy as np
import pytest

from lt_lib.counts import exponential_counts
from lt_lib.data import data_hash, load, long_tail_indices
from lt_lib.data.digits import spaced_indices

# Frozen: results name this hash, so the split may never change.
DIGITS_HASH = "1e93df7a3bd9bbaf098223401a0fd93a68b347a97ef97e303e26812b2da12dd9"


@pytest.fixture(scope="module")
def digits():
    return load("digits")


def test_images_and_split_are_frozen(digits):
    assert data_hash(digits) == DIGITS_HASH
    assert digits.train.inputs.dtype == digits.test.inputs.dtype == np.uint8
    assert digits.train.inputs.shape == (1297, 8, 8, 1)
    assert digits.class_names == tuple("0123456789")


def test_test_split_is_balanced_and_leaves_a_head_of_120(digits):
    assert np.bincount(digits.test.targets).tolist() == [50] * 10
    assert np.bincount(digits.train.targets).min() >= 120
    for ratio in (10, 20):
        counts = exponential_counts(120, 10, ratio)
        assert len(long_tail_indices(digits.train.targets, counts, seed=0)) == counts.sum()


def test_the_two_splits_are_all_of_the_digits_once(digits):
    from sklearn.datasets import load_digits

    bunch = load_digits()
    grey = np.array([round(255 * level / 16 + 1e-9) for level in range(17)], dtype=np.uint8)
    assert grey[[0, 8, 16]].tolist() == [0, 128, 255]
    expected = sorted(
        (label, grey[image.astype(int)].tobytes()) for image, label in zip(bunch.images, bunch.target, strict=True)
    )
    found = [
        (label, image.tobytes())
        for split in (digits.train, digits.test)
        for image, label in zip(split.inputs, split.targets, strict=True)
    ]
    assert sorted(found) == expected


def test_spaced_indices_agree_with_a_loop(rng):
    targets = rng.integers(3, size=50)
    expected = []
    for label in range(3):
        members = [position for position, target in enumerate(targets) if target == label]
        expected += [members[int((j + 0.5) * len(members) / 4)] for j in range(4)]
    assert spaced_indices(targets, 4).tolist() == sorted(expected)
