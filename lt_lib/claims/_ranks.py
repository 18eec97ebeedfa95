"""Rank correlation, as all checks use it."""

import numpy as np
import numpy.typing as npt


def rank_correlation(x: npt.ArrayLike, y: npt.ArrayLike) -> float:
    """Spearman's correlation, ties at their mean rank; 0 if one side is constant, because then it orders nothing.

    Args:
        x: values.
        y: as many values.

    Example:
        >>> rank_correlation([1, 2, 3], [10, 20, 15])
        0.5
    """
    return float(rank_correlations(np.ravel(x), np.ravel(y)))


def rank_correlations(x: npt.ArrayLike, y: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """As `rank_correlation`, along the last axis.

    Args:
        x: values, shape (..., n).
        y: the same.

    Returns:
        Shape (...).

    Example:
        >>> rank_correlations([[1, 2, 3], [1, 2, 3]], [[10, 20, 15], [4, 4, 4]]).tolist()
        [0.5, 0.0]
    """
    from scipy import stats

    ranks = (np.asarray(stats.rankdata(part, axis=-1)) for part in (x, y))
    a, b = (part - (part.shape[-1] + 1) / 2 for part in ranks)
    size = np.sqrt(np.sum(a**2, axis=-1) * np.sum(b**2, axis=-1))
    # Beyond 12 digits there is rounding, which differs between processors.
    return np.asarray((np.sum(a * b, axis=-1) / np.where(size == 0, 1.0, size)).round(12))
