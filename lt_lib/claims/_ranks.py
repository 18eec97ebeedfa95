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
    from scipy import stats

    a, b = stats.rankdata(x), stats.rankdata(y)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    # Beyond 12 digits there is rounding, which differs between processors.
    return float(np.corrcoef(a, b)[0, 1].round(12))
