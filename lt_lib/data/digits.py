"""scikit-learn's 1,797 real hand-written digits, embedded: the set that works everywhere."""

from __future__ import annotations

import numpy as np

from lt_lib.data.base import Dataset, Split

NAME = "digits"
TEST_PER_CLASS = 50
GREY_LEVELS = 16  # pixels are ink counts 0 … 16


def load_digits() -> Dataset:
    r"""Load the 8×8 digits with a fixed balanced test split.

    Pixels are ink counts :math:`v \in \{0,…,16\}`; they are stored as ``uint8`` grey values
    :math:`\lfloor 255\,v/16 + 1/2 \rfloor`, so that digits and photographs share one format.

    The test split takes 50 evenly spaced images of every class, in the order scikit-learn stores them. No random
    number is involved, so the split never changes; each class keeps 124 to 133 training images, enough for a
    long-tailed draw with 120 images in the largest class.

    Returns:
        Data set with images ``uint8`` (samples, 8, 8, 1): 1,297 for training, 500 for the test.

    Example:
        >>> digits = load_digits()
        >>> digits.train.inputs.shape, digits.test.inputs.shape
        ((1297, 8, 8, 1), (500, 8, 8, 1))

    References:
        E. Alpaydin, C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998.
    """
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = np.floor(bunch.images * (255 / GREY_LEVELS) + 0.5).astype(np.uint8)[..., np.newaxis]
    targets = bunch.target.astype(np.int64)
    test = spaced_indices(targets, TEST_PER_CLASS)
    train = np.setdiff1d(np.arange(len(targets)), test)
    return Dataset(
        name=NAME,
        train=Split(images[train], targets[train]),
        test=Split(images[test], targets[test]),
        num_classes=10,
        class_names=tuple(str(digit) for digit in range(10)),
    )


def spaced_indices(targets: np.ndarray, per_class: int) -> np.ndarray:
    r"""Pick evenly spaced members of every class: positions :math:`\lfloor (j + 1/2)\, n / m \rfloor`.

    Args:
        targets: class indices (samples,).
        per_class: :math:`m`, images taken from each class, at most the size of the smallest class.

    Returns:
        Sorted indices into ``targets``, ``per_class`` for every class.

    Example:
        >>> spaced_indices(np.array([0, 0, 0, 0, 1, 1]), per_class=2)
        array([1, 3, 4, 5])
    """
    chosen = []
    for label in np.unique(targets):
        members = np.flatnonzero(targets == label)
        positions = ((2 * np.arange(per_class) + 1) * len(members)) // (2 * per_class)
        chosen.append(members[positions])
    return np.sort(np.concatenate(chosen))
