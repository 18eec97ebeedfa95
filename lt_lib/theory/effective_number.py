r"""Expected covered volume of a class: closed form, recursion, and four simulations of what it stands for.

A class fills a space of volume $N \ge 1$; each sample covers a unit of it, placed at random. The expected volume that
$n$ samples cover is the effective number $E_n$. The closed form is exact for boxes (integer $N$) and on a circle (any
real $N$, partial overlaps included); it is too large near a boundary and for unequal prototypes.
"""

import math

import numpy as np
import numpy.typing as npt

from lt_lib import counts
from lt_lib._checks import check_fraction, check_integer, check_positive, check_real
from lt_lib.theory._arguments import check_above, check_whole

Volumes = npt.NDArray[np.float64]

_CHUNK = 2**22  # cells of one simulated block; keeps the memory of every simulation near 32 MB


def beta_of_volume(volume: float) -> float:
    r"""Effective-number parameter of a space of the given volume, $\beta = (N - 1)/N$.

    Args:
        volume: $N \ge 1$ in units of one sample's volume.

    Example:
        >>> beta_of_volume(10), beta_of_volume(1)
        (0.9, 0.0)

    References:
        Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019, proposition 1.
    """
    return 1.0 - 1.0 / _check_volume(volume)


def volume_of_beta(beta: float) -> float:
    r"""Volume that belongs to an effective-number parameter, $N = 1/(1 - \beta)$; infinite at $\beta = 1$.

    Args:
        beta: $\beta$ in [0, 1].

    Example:
        >>> volume_of_beta(0.75), volume_of_beta(1.0)
        (4.0, inf)
    """
    beta = check_fraction(beta, "beta")
    return np.inf if beta == 1.0 else 1.0 / (1.0 - beta)


def expected_volume(num_samples: npt.ArrayLike, volume: float) -> Volumes:
    r"""Expected covered volume in closed form.

    .. math:: E_n = N \Bigl(1 - \bigl(1 - 1/N\bigr)^n\Bigr)

    Model: $n$ unit-volume sets placed independently in a space of volume $N$.
    Assumptions: every point is covered by one sample with the same probability $1/N$.
    Status: exact under the assumption; no need that overlaps be complete.
    Source: Cui et al., CVPR 2019, proposition 1, whose proof assumes all-or-nothing overlap; the argument point by
        point (a point stays uncovered with probability $(1 - 1/N)^n$) does not.

    Args:
        num_samples: $n \ge 1$, whole numbers, shape `(k,)`.
        volume: $N \ge 1$. At 1 the result is 1 for every $n$; as $N \to \infty$ it tends to $n$.

    Returns:
        $E_n$, shape `(k,)`.

    Example:
        >>> expected_volume([1, 5, 1000], 10).round(4)
        array([ 1.    ,  4.0951, 10.    ])
    """
    n = check_whole(num_samples, "num_samples")
    if n.ndim != 1 or n.size == 0:
        raise ValueError(f"`num_samples` must have shape (k,), got {n.shape}.")
    return counts.effective_number(n, beta_of_volume(volume))


def recursive_volume(num_samples: int, volume: float) -> Volumes:
    r"""Expected covered volumes $E_1, \dots, E_n$ by the induction step of the proof.

    .. math:: E_1 = 1, \qquad E_n = p\,E_{n-1} + (1 - p)(E_{n-1} + 1), \quad p = E_{n-1}/N

    Model, assumptions, status: as `expected_volume`; the step is linear in the covered volume, so that the mean may
        stand for the random volume.
    Source: Cui et al., CVPR 2019, proof of proposition 1.

    Args:
        num_samples: $n \ge 1$.
        volume: $N \ge 1$.

    Returns:
        Shape `(num_samples,)`.

    Example:
        >>> recursive_volume(3, 2.0)
        array([1.  , 1.5 , 1.75])
    """
    volume = _check_volume(volume)
    volumes = np.ones(check_integer(num_samples, "num_samples", minimum=1))
    for n in range(1, num_samples):
        inside = volumes[n - 1] / volume
        volumes[n] = inside * volumes[n - 1] + (1.0 - inside) * (volumes[n - 1] + 1.0)
    return volumes


def volume_increments(num_samples: int, beta: float) -> Volumes:
    r"""What the $j$-th sample adds: $E_j - E_{j-1} = \beta^{j-1}$ for $j = 1, \dots, n$ (with $E_0 = 0$).

    Status: exact; strictly decreasing for $0 < \beta < 1$, constant at $\beta = 1$.
    Source: Cui et al., CVPR 2019, eq. (3).

    Args:
        num_samples: $n \ge 1$.
        beta: $\beta$ in [0, 1].

    Returns:
        Shape `(num_samples,)`; the cumulative sum is the effective number.

    Example:
        >>> volume_increments(4, 0.5)
        array([1.   , 0.5  , 0.25 , 0.125])
    """
    exponents = np.arange(check_integer(num_samples, "num_samples", minimum=1), dtype=np.float64)
    return np.power(check_fraction(beta, "beta"), exponents, dtype=np.float64)


def occupancy_naive(num_boxes: int, num_samples: int, repetitions: int, rng: np.random.Generator) -> Volumes:
    """Number of distinct boxes hit, one sample at a time: the text of the model as a loop.

    Model, assumptions and status: as `occupancy`, which is the fast version; the two agree in law, not draw by draw.

    Args:
        num_boxes: integer volume, >= 1.
        num_samples: samples per repetition, >= 1.
        repetitions: independent repetitions, >= 1.
        rng: generator.

    Returns:
        Covered volume of each repetition, shape `(repetitions,)`.

    Example:
        >>> occupancy_naive(1, 5, 2, np.random.default_rng(0))
        array([1., 1.])
    """
    _check_sizes(num_samples, repetitions)
    check_integer(num_boxes, "num_boxes", minimum=1)
    volumes = np.empty(repetitions)
    for repetition in range(repetitions):
        covered = set()
        for _ in range(num_samples):
            covered.add(int(rng.integers(num_boxes)))
        volumes[repetition] = len(covered)
    return volumes


def occupancy(num_boxes: int, num_samples: int, repetitions: int, rng: np.random.Generator) -> Volumes:
    r"""Number of distinct boxes hit by samples that fall into boxes uniformly, all repetitions at once.

    Model: $N$ boxes of unit volume; a sample covers exactly one, so it is either inside the covered part or outside.
    Assumptions: independent samples, equally likely boxes.
    Status: exact simulation; the mean is `expected_volume(n, N)`.
    Source: the all-or-nothing process of Cui et al., CVPR 2019, section 3.2, at integer $N$.

    Args:
        num_boxes: $N \ge 1$, an integer.
        num_samples: $n \ge 1$.
        repetitions: independent repetitions, >= 1.
        rng: generator.

    Returns:
        Covered volume of each repetition, shape `(repetitions,)`.

    Example:
        >>> hits = occupancy(10, 30, 5000, np.random.default_rng(0))
        >>> bool(abs(hits.mean() - expected_volume([30], 10)[0]) < 0.04)
        True
    """
    _check_sizes(num_samples, repetitions)
    check_integer(num_boxes, "num_boxes", minimum=1)
    volumes = np.empty(repetitions)
    for rows in _blocks(repetitions, max(num_boxes, num_samples)):
        # The smallest type that holds the labels: drawing 16-bit integers takes a quarter of the random bits.
        kind = np.uint16 if num_boxes <= 2**16 else np.int64
        draws = rng.integers(num_boxes, size=(rows.stop - rows.start, num_samples), dtype=kind)
        volumes[rows] = _count_distinct(draws, num_boxes)
    return volumes


def prototype_occupancy(
    probabilities: npt.ArrayLike, num_samples: int, repetitions: int, rng: np.random.Generator
) -> Volumes:
    r"""Number of distinct prototypes seen when prototypes are not equally likely.

    Model: each sample shows prototype $i$ with probability $p_i$.
    Assumptions: independent samples.
    Status: exact simulation; the mean is `prototype_volume(probabilities, n)`.

    Args:
        probabilities: $p_i \ge 0$, summing to 1, shape `(prototypes,)`.
        num_samples: $n \ge 1$.
        repetitions: independent repetitions, >= 1.
        rng: generator.

    Returns:
        Distinct prototypes of each repetition, shape `(repetitions,)`.

    Example:
        >>> prototype_occupancy([1.0, 0.0], 5, 2, np.random.default_rng(0))
        array([1., 1.])
    """
    p = _check_probabilities(probabilities)
    _check_sizes(num_samples, repetitions)
    volumes = np.empty(repetitions)
    for rows in _blocks(repetitions, max(len(p), num_samples)):
        draws = rng.choice(len(p), size=(rows.stop - rows.start, num_samples), p=p)
        volumes[rows] = _count_distinct(draws, len(p))
    return volumes


def prototype_volume(probabilities: npt.ArrayLike, num_samples: int) -> float:
    r"""Expected number of distinct prototypes.

    .. math:: \sum_i \bigl(1 - (1 - p_i)^n\bigr) \;\le\; E_n \text{ at } N = \text{number of prototypes}

    Model and assumptions: as `prototype_occupancy`.
    Status: exact. The inequality is Jensen's: $(1 - p)^n$ is convex, so unequal prototypes are always fewer.
    Source: elementary; it bounds where the closed form of Cui et al., CVPR 2019, may be used.

    Args:
        probabilities: $p_i \ge 0$, summing to 1, shape `(prototypes,)`; equal ones give `expected_volume`.
        num_samples: $n \ge 1$.

    Example:
        >>> prototype_volume([0.5, 0.5], 2)
        1.5
    """
    p = _check_probabilities(probabilities)
    return float(np.sum(1.0 - (1.0 - p) ** check_integer(num_samples, "num_samples", minimum=1)))


def dirichlet_prototypes(num_prototypes: int, concentration: float, rng: np.random.Generator) -> Volumes:
    """Random prototype probabilities from a symmetric Dirichlet law.

    Args:
        num_prototypes: number of prototypes, >= 1.
        concentration: > 0; large is nearly uniform, below 1 a few prototypes dominate.
        rng: generator.

    Returns:
        Probabilities that sum to 1, shape `(num_prototypes,)`.

    Example:
        >>> dirichlet_prototypes(4, 1e9, np.random.default_rng(0)).round(3)
        array([0.25, 0.25, 0.25, 0.25])
    """
    check_integer(num_prototypes, "num_prototypes", minimum=1)
    return rng.dirichlet(np.full(num_prototypes, check_positive(concentration, "concentration")))


def circle_coverage(volume: float, num_samples: int, repetitions: int, rng: np.random.Generator) -> Volumes:
    r"""Length of a circle covered by unit arcs, partial overlaps included.

    .. math:: V = \sum_i \min(g_i, 1) \quad \text{over the gaps } g_i \text{ between consecutive starts}

    Model: a circle (one-dimensional torus) of circumference $N$; each sample is an arc of length 1.
    Assumptions: independent, uniform starts; the space has no boundary.
    Status: exact simulation for any real $N \ge 1$; the mean is `expected_volume(n, N)`.
    Source: coverage of a circle by arcs (Stevens, "Solution to a geometrical problem in probability", 1939).

    Args:
        volume: $N \ge 1$, real.
        num_samples: $n \ge 1$.
        repetitions: independent repetitions, >= 1.
        rng: generator.

    Returns:
        Covered length of each repetition, shape `(repetitions,)`.

    Example:
        >>> circle_coverage(5.5, 1, 2, np.random.default_rng(0))
        array([1., 1.])
    """
    volume = _check_volume(volume)
    _check_sizes(num_samples, repetitions)
    lengths = np.empty(repetitions)
    for rows in _blocks(repetitions, num_samples):
        starts = np.sort(rng.random((rows.stop - rows.start, num_samples)) * volume, axis=1)
        around = starts[:, :1] + volume  # the first start once more, after a full turn
        lengths[rows] = np.minimum(np.diff(starts, axis=1, append=around), 1.0).sum(axis=1)
    return lengths


def interval_coverage(volume: float, num_samples: int, repetitions: int, rng: np.random.Generator) -> Volumes:
    r"""Length of an interval covered by unit segments that lie wholly inside it: where the closed form fails.

    Model: the interval $[0, N]$; each sample is a segment of length 1 with its start uniform on $[0, N - 1]$.
    Assumptions: independent samples. Points near the ends are covered less often, which the closed form ignores.
    Status: exact simulation; the mean is `interval_volume(n, N)`, below `expected_volume(n, N)` for large $n$.

    Args:
        volume: $N \ge 1$, real.
        num_samples: $n \ge 1$.
        repetitions: independent repetitions, >= 1.
        rng: generator.

    Returns:
        Covered length of each repetition, shape `(repetitions,)`.

    Example:
        >>> interval_coverage(1.0, 3, 2, np.random.default_rng(0))
        array([1., 1.])
    """
    volume = _check_volume(volume)
    _check_sizes(num_samples, repetitions)
    lengths = np.empty(repetitions)
    for rows in _blocks(repetitions, num_samples):
        starts = np.sort(rng.random((rows.stop - rows.start, num_samples)) * (volume - 1.0), axis=1)
        lengths[rows] = np.minimum(np.diff(starts, axis=1), 1.0).sum(axis=1) + 1.0
    return lengths


def interval_volume(num_samples: int, volume: float) -> float:
    r"""Expected length of an interval covered by unit segments inside it.

    .. math:: N - (N - 2)\Bigl(1 - \frac{1}{N - 1}\Bigr)^n
              - \frac{2 (N - 1)}{n + 1} \Bigl[1 - \Bigl(1 - \frac{1}{N - 1}\Bigr)^{n + 1}\Bigr] \quad (N \ge 2)

    and $N - 2 (N - 1)/(n + 1)$ for $1 \le N \le 2$.

    Model and assumptions: as `interval_coverage`.
    Status: exact; the probability that a point at distance $x$ from the nearer end is missed,
        $(1 - \min(x, 1, N - 1)/(N - 1))^n$, integrated over the interval.

    Args:
        num_samples: $n \ge 1$.
        volume: $N \ge 1$, real.

    Example:
        >>> round(interval_volume(30, 10.0), 3), round(interval_volume(1, 7.0), 12)
        (9.201, 1.0)
    """
    n = check_integer(num_samples, "num_samples", minimum=1)
    volume = _check_volume(volume)
    room = volume - 1.0
    if volume <= 2.0:
        return volume - 2.0 * room / (n + 1)
    # Powers less one, as they are next to one in a large space, where the volume cancels.
    log_missed = math.log1p(-1.0 / room)
    lost, lost_at_ends = math.expm1(n * log_missed), math.expm1((n + 1) * log_missed)
    return 2.0 - (volume - 2.0) * lost + 2.0 * room / (n + 1) * lost_at_ends


def two_outcome_process(volume: float, num_samples: int, repetitions: int, rng: np.random.Generator) -> Volumes:
    r"""The all-or-nothing process taken literally, for any real volume: a warning, not a model.

    .. math:: V_1 = 1, \qquad V_n = V_{n-1} + \mathbb 1[u_n \ge V_{n-1}/N], \quad u_n \sim U[0, 1)

    Model: with probability $V/N$ a new sample lies inside the covered part, else it adds a whole unit.
    Assumptions: there is always room for a whole unit, which holds only for integer $N$.
    Status: exact for integer $N$. Otherwise the covered volume climbs to $\lceil N \rceil > N$, the "probability"
        $V/N$ exceeds 1, and the mean is above the closed form. Use `circle_coverage` for real $N$.
    Source: the literal reading of Cui et al., CVPR 2019, section 3.2.

    Args:
        volume: $N \ge 1$, real.
        num_samples: $n \ge 1$.
        repetitions: independent repetitions, >= 1.
        rng: generator.

    Returns:
        Covered volume of each repetition, shape `(repetitions,)`.

    Example:
        >>> covered = two_outcome_process(2.5, 10, 10_000, np.random.default_rng(0))
        >>> float(covered.mean().round(1)), float((covered > 2.5).mean().round(1))
        (2.8, 0.8)
    """
    volume = _check_volume(volume)
    _check_sizes(num_samples, repetitions)
    covered = np.ones(repetitions)
    for _ in range(num_samples - 1):
        covered += rng.random(repetitions) >= covered / volume
    return covered


def _count_distinct(draws: np.ndarray, num_boxes: int) -> Volumes:
    # One scatter into a table of hits: no sort, and the cost does not depend on how often a box is hit.
    hit = np.zeros(len(draws) * num_boxes, dtype=bool)
    hit[draws + (np.arange(len(draws)) * num_boxes)[:, None]] = True
    return hit.reshape(len(draws), num_boxes).sum(axis=1).astype(np.float64)


def _blocks(repetitions: int, cells_per_row: int) -> list[slice]:
    rows = max(1, _CHUNK // cells_per_row)
    return [slice(start, min(start + rows, repetitions)) for start in range(0, repetitions, rows)]


def _check_volume(volume: float) -> float:
    return check_real(volume, "volume", minimum=1.0)


def _check_sizes(num_samples: int, repetitions: int) -> None:
    check_integer(num_samples, "num_samples", minimum=1)
    check_integer(repetitions, "repetitions", minimum=1)


def _check_probabilities(probabilities: npt.ArrayLike) -> Volumes:
    p = check_above(probabilities, "probabilities", inclusive=True)
    if p.ndim != 1 or p.size == 0 or not np.isclose(p.sum(), 1.0, rtol=0, atol=1e-8):
        raise ValueError(f"`probabilities` must be a vector that sums to 1, got sum {p.sum():.6g}, shape {p.shape}.")
    return p
