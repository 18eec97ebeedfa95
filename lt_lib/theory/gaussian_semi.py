r"""Self-training on two Gaussians: pseudo-labels, the midpoint they estimate, and how surely it is hit.

Balanced classes $X \mid Y{=}{\pm}1 \sim N(\mu_{1,2}, \sigma^2)$ are best told apart at $(\mu_1 + \mu_2)/2$. A base
classifier labels unlabelled points, and half the sum of the two groups' means estimates that midpoint. Its bias is set
by the precisions of the two kinds of pseudo-label, its spread by how many there are of each.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from lt_lib._checks import check_all, check_integer, check_real_array
from lt_lib.theory._arguments import check_above, check_extended, check_open_shares, check_shares, check_whole

Array = npt.NDArray[np.float64]

_NODES = 256  # nodes of the inversion integral that are held at once
_TAIL = 9.0  # standard deviations beyond which a Gaussian counts as nothing: 2e-19


@dataclass(frozen=True, eq=False)
class TwoGaussians:
    r"""The model: $X \mid Y{=}{+}1 \sim N(\mu_1, \sigma^2)$ and $X \mid Y{=}{-}1 \sim N(\mu_2, \sigma^2)$.

    Source: Yang & Xu, "Rethinking the value of labels for improving class-imbalanced learning", NeurIPS 2020,
        section 2. Their text needs $\mu_1 > \mu_2$, which the notes leave out (erratum E57).

    Attributes:
        mu1: mean of the positive class; numbers or arrays that broadcast.
        mu2: mean of the negative class, below `mu1`.
        sigma: standard deviation of both, > 0.

    Raises:
        ValueError: `mu1` is not above `mu2`, `sigma` is not positive, or one of them is not finite.

    Example:
        >>> TwoGaussians(3.0, 1.0, 1.0).midpoint
        2.0
    """

    mu1: Any = 1.0
    mu2: Any = -1.0
    sigma: Any = 1.0

    def __post_init__(self) -> None:
        mu1, mu2 = check_real_array(self.mu1, "mu1"), check_real_array(self.mu2, "mu2")
        check_all(mu1 > mu2, "mu1", "be above `mu2`", np.broadcast_arrays(mu1, mu2)[0])
        object.__setattr__(self, "sigma", check_above(self.sigma, "sigma")[()])
        object.__setattr__(self, "mu1", mu1[()])
        object.__setattr__(self, "mu2", mu2[()])

    @property
    def midpoint(self) -> Any:
        r"""The target, $(\mu_1 + \mu_2)/2$."""
        return _plain((self.mu1 + self.mu2) / 2)

    @property
    def half_distance(self) -> Any:
        r"""Half the distance of the means, $(\mu_1 - \mu_2)/2$."""
        return _plain((self.mu1 - self.mu2) / 2)


class LabelQuality(NamedTuple):
    """What pseudo-labels are worth.

    Attributes:
        precision_plus: $p$, share of the points labelled + that are +.
        precision_minus: $q$, share of the points labelled - that are -.
        recall_plus: share of the + points that are labelled +.
        recall_minus: share of the - points that are labelled -.
        labelled_plus: share of all points that are labelled +.
    """

    precision_plus: Any
    precision_minus: Any
    recall_plus: Any
    recall_minus: Any
    labelled_plus: Any


class ProbabilityBound(NamedTuple):
    """Lower bound on a probability and the three failures that it subtracts from one.

    Attributes:
        value: one minus the three terms; may be below zero.
        gaussian: term of the noise in the inputs.
        plus: term of the share of right labels in the + group.
        minus: the same for the - group.
        vacuous: where `value` is not above zero, so that it says nothing. It cannot exceed one.
    """

    value: Any
    gaussian: Any
    plus: Any
    minus: Any
    vacuous: Any


def bayes_threshold(model: TwoGaussians, positive_share: npt.ArrayLike = 0.5) -> Any:
    r"""Threshold of the best classifier "positive exactly when $x > \tau$".

    .. math:: \tau = \frac{\mu_1 + \mu_2}{2} + \frac{\sigma^2}{\mu_1 - \mu_2} \ln \frac{1 - \pi}{\pi}

    Status: exact, the posterior of the two classes is equal there. At $\pi = 1/2$ it is the midpoint.
    Source: Yang & Xu, NeurIPS 2020, section 2: $\mathrm{sign}(x - (\mu_1 + \mu_2)/2)$. The notes print
        $\mathrm{sign}(x (\mu_1 + \mu_2)/2)$ (erratum E57). The second term is standard.

    Args:
        model: the two classes.
        positive_share: $\pi = P(Y = +1)$ in [0, 1]; at 0 the threshold is infinite, at 1 minus infinite.

    Returns:
        Threshold, in the unit of $x$; broadcast shape.

    Example:
        >>> bayes_threshold(TwoGaussians(2.0, 0.0, 1.0)), round(bayes_threshold(TwoGaussians(), 1 / 101), 3)
        (1.0, 2.303)
    """
    share = check_shares(positive_share, "positive_share")
    with np.errstate(divide="ignore"):
        log_odds = np.log1p(-share) - np.log(share)
    return _plain(model.midpoint + model.sigma**2 / (2 * model.half_distance) * log_odds)


def threshold_error(model: TwoGaussians, threshold: npt.ArrayLike, positive_share: npt.ArrayLike = 0.5) -> Any:
    r"""Error of the classifier "positive exactly when $x > \tau$".

    .. math:: \pi\, \Phi\Bigl(\frac{\tau - \mu_1}{\sigma}\Bigr)
              + (1 - \pi)\, \Phi\Bigl(\frac{\mu_2 - \tau}{\sigma}\Bigr)

    Status: exact.

    Args:
        model: the two classes.
        threshold: $\tau$; infinite values are the two constant classifiers.
        positive_share: $\pi$ in [0, 1]; 1/2 gives the balanced error.

    Example:
        >>> round(threshold_error(TwoGaussians(), 0.0), 4)
        0.1587
    """
    from scipy.special import ndtr

    tau, share = check_extended(threshold, "threshold"), check_shares(positive_share, "positive_share")
    # Both tails directly: one minus a recall would lose an error below 1e-16.
    missed, mistaken = ndtr((tau - model.mu1) / model.sigma), ndtr((model.mu2 - tau) / model.sigma)
    return _plain(share * missed + (1 - share) * mistaken)


def label_quality(model: TwoGaussians, threshold: npt.ArrayLike, positive_share: npt.ArrayLike = 0.5) -> LabelQuality:
    r"""Precision and recall of the pseudo-labels "+ exactly when $x > \tau$".

    .. math:: p = \frac{\pi r_+}{\pi r_+ + (1 - \pi)(1 - r_-)}, \qquad
              q = \frac{(1 - \pi) r_-}{(1 - \pi) r_- + \pi (1 - r_+)}

    with the recalls $r_+ = \Phi((\mu_1 - \tau)/\sigma)$ and $r_- = \Phi((\tau - \mu_2)/\sigma)$.

    Status: exact.
    Source: Bayes' rule. The theorem of Yang & Xu means the precisions (erratum E61); for balanced classes
        $p - q$ and $r_+ - r_-$ have opposite signs.

    Args:
        model: the two classes.
        threshold: $\tau$, finite.
        positive_share: $\pi = P(Y = +1)$ among the points that are labelled, in [0, 1].

    Example:
        >>> p, q, recall_plus, recall_minus, _ = label_quality(TwoGaussians(), 0.6)
        >>> round(p - q, 3), round(recall_plus - recall_minus, 3)
        (0.19, -0.29)
    """
    from scipy.special import expit, log_ndtr, ndtr

    tau, share = check_real_array(threshold, "threshold"), check_shares(positive_share, "positive_share")
    up, down = (tau - model.mu1) / model.sigma, (tau - model.mu2) / model.sigma
    with np.errstate(divide="ignore"):
        prior = np.log(share) - np.log1p(-share)
    # Differences of logarithms, because both tails underflow far from the classes while their ratio does not.
    precision_plus = expit(prior + log_ndtr(-up) - log_ndtr(-down))
    precision_minus = expit(-prior + log_ndtr(down) - log_ndtr(up))
    labelled = share * ndtr(-up) + (1 - share) * ndtr(-down)
    return LabelQuality(*(_plain(v) for v in (precision_plus, precision_minus, ndtr(-up), ndtr(down), labelled)))


def estimate_theta(inputs: npt.ArrayLike, pseudo_labels: npt.ArrayLike) -> float:
    r"""The estimator of the midpoint from pseudo-labelled points.

    .. math:: \hat\theta = \frac12 \Bigl( \frac{1}{\tilde n_+} \sum_{i: \tilde y_i = +1} x_i
              + \frac{1}{\tilde n_-} \sum_{i: \tilde y_i = -1} x_i \Bigr)

    Source: Yang & Xu, NeurIPS 2020, section 2. $\tilde n_\pm$ count the points *labelled* $\pm$, not the points that
        are $\pm$ (erratum E59).

    Args:
        inputs: $x_i$, shape `(samples,)`.
        pseudo_labels: +1 or -1 each, shape `(samples,)`; both must occur.

    Example:
        >>> estimate_theta([1.0, 3.0, -4.0], [1, 1, -1])
        -1.0
    """
    x, label = _check_sample(inputs, pseudo_labels, "pseudo_labels")
    return float((x[label > 0].mean() + x[label < 0].mean()) / 2)


def theorem_centre(model: TwoGaussians, p: npt.ArrayLike, q: npt.ArrayLike) -> Any:
    r"""Where the estimator concentrates, $(\mu_1 + \mu_2)/2 + \Delta (\mu_1 - \mu_2)/2$ with $\Delta = p - q$.

    Model: a point labelled + is $N(\mu_1, \sigma^2)$ with probability $p$ and else $N(\mu_2, \sigma^2)$; a point
        labelled - is $N(\mu_2, \sigma^2)$ with probability $q$ and else $N(\mu_1, \sigma^2)$; all independent.
    Status: exact expectation of the estimator in this model.
    Source: Yang & Xu, NeurIPS 2020, theorem 1; $\Delta$ carries the imbalance, the first term is the target (E60, E61).

    Args:
        model: the two classes.
        p: probability that a + label is right (a precision), in [0, 1].
        q: the same of a - label.

    Example:
        >>> round(theorem_centre(TwoGaussians(), 0.9, 0.7), 6)
        0.2
    """
    return _plain(model.midpoint + (check_shares(p, "p") - check_shares(q, "q")) * model.half_distance)


def pair_size(n_plus: npt.ArrayLike, n_minus: npt.ArrayLike) -> Any:
    r"""What two groups are worth together, $n_+ n_- / (n_+ + n_-)$: half their harmonic mean.

    Half the sum of two group means has the variance $\sigma^2 / (4 n_+ n_- / (n_+ + n_-))$. At a fixed total it is
    largest for equal groups and, far from that, about the size of the smaller one.

    Args:
        n_plus: points labelled +, >= 1.
        n_minus: points labelled -, >= 1.

    Example:
        >>> pair_size(500, 500), round(pair_size(990, 10), 1)
        (250.0, 9.9)
    """
    plus, minus = (
        check_above(n_plus, "n_plus", 1.0, inclusive=True),
        check_above(n_minus, "n_minus", 1.0, inclusive=True),
    )
    return _plain(plus * minus / (plus + minus))


def probability_bound(
    model: TwoGaussians, n_plus: npt.ArrayLike, n_minus: npt.ArrayLike, delta: npt.ArrayLike
) -> ProbabilityBound:
    r"""Lower bound on the probability that the estimator lies within $\delta$ of `theorem_centre`.

    .. math:: 1 - 2 e^{-\frac{2 \delta^2}{9 \sigma^2} \frac{n_+ n_-}{n_+ + n_-}}
              - 2 e^{-\frac{8 n_+ \delta^2}{9 (\mu_1 - \mu_2)^2}} - 2 e^{-\frac{8 n_- \delta^2}{9 (\mu_1 - \mu_2)^2}}

    Model: that of `theorem_centre`, the numbers of labels fixed.
    Status: bound, for every $p$ and $q$; vacuous for small $\delta$. It grows to one with $\delta$.
    Source: Yang & Xu, NeurIPS 2020, theorem 1 (the notes' print is damaged, erratum E62). A third of $\delta$ each goes
        to the Gaussian noise (its tail) and to the two shares of right labels (Hoeffding).

    Args:
        model: the two classes.
        n_plus: points labelled +, >= 1.
        n_minus: points labelled -, >= 1.
        delta: $\delta > 0$, in the unit of $x$.

    Returns:
        Everything in the broadcast shape of all arguments.

    Example:
        >>> bound = probability_bound(TwoGaussians(), 2000, 2000, 0.2)
        >>> round(bound.value, 4), bool(bound.vacuous)
        (0.9997, False)
    """
    plus, minus = (
        check_above(n_plus, "n_plus", 1.0, inclusive=True),
        check_above(n_minus, "n_minus", 1.0, inclusive=True),
    )
    third = check_above(delta, "delta") / 3
    gaussian = 2 * np.exp(-2 * (third / model.sigma) ** 2 * pair_size(plus, minus))
    rates = (2 * n * (third / model.half_distance) ** 2 for n in (plus, minus))
    first, second = (2 * np.exp(-rate) for rate in rates)
    value = 1 - gaussian - first - second
    return ProbabilityBound(*(_plain(part) for part in np.broadcast_arrays(value, gaussian, first, second, value <= 0)))


def coverage(
    model: TwoGaussians,
    n_plus: npt.ArrayLike,
    n_minus: npt.ArrayLike,
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    delta: npt.ArrayLike,
    *,
    gap: npt.ArrayLike | None = None,
) -> Any:
    r"""Exact probability that the estimator lies within $\delta$ of its centre.

    Around the centre the estimator is $Z = \frac{\sigma}{2}\sqrt{1/n_+ + 1/n_-}\; G + h (\hat p - p) - h (\hat q - q)$
    with $h = (\mu_1 - \mu_2)/2$, $G$ standard normal and $n_+ \hat p$, $n_- \hat q$ binomial, all independent. Its
    characteristic function $\varphi$ is a product of three known ones, so

    .. math:: P(|Z + s| \le \delta) = \frac{2}{\pi} \int_0^\infty \mathrm{Re}\bigl(\varphi(t) e^{i t s}\bigr)
              \frac{\sin \delta t}{t}\, dt

    where $s = h (p - q - \Delta)$ is zero for the right $\Delta$. The trapezoid rule errs only by the mass of $Z$
    beyond one period, which is chosen below 1e-16.

    Model: that of `theorem_centre`.
    Status: exact; absolute error about 1e-13 up to a million points. The time grows with $\delta/\sqrt{1/n_+ + 1/n_-}$
        up to where the coverage is one, not with $n$: this is the fast version of `coverage_by_sum`.
    Source: the inversion formula of Lévy; own derivation.

    Args:
        model: the two classes.
        n_plus: points labelled +, whole, >= 1.
        n_minus: points labelled -, whole, >= 1.
        p: precision of the + labels, in [0, 1].
        q: precision of the - labels, in [0, 1].
        delta: half-width of the interval, > 0.
        gap: $\Delta$ at which the interval is centred; None means $p - q$, the right one.

    Returns:
        Probabilities in the broadcast shape of all arguments.

    Example:
        >>> round(coverage(TwoGaussians(), 100, 100, 1.0, 1.0, 0.1), 4)
        0.8427
    """
    plus, minus = check_whole(n_plus, "n_plus"), check_whole(n_minus, "n_minus")
    right = (check_shares(p, "p"), check_shares(q, "q"))
    width = check_above(delta, "delta")
    centre = right[0] - right[1] if gap is None else check_real_array(gap, "gap")
    h, spread = model.half_distance, model.sigma / 2 * np.sqrt(1 / plus + 1 / minus)
    offset = h * (right[0] - right[1] - centre)
    # Hoeffding: a share strays further than this with a probability below 1e-17.
    stray = sum(np.minimum(1.0, np.sqrt(np.log(2e17) / (2 * n))) for n in (plus, minus))
    reach = _TAIL * spread + h * stray + np.abs(offset)
    width = np.minimum(width, reach)  # beyond it the probability is one
    arrays = np.broadcast_arrays(plus, minus, *right, width, offset, h, spread, width + reach)
    n1, n2, p1, q1, d, s, h, spread, period = (array[..., None] for array in arrays)
    step = 2 * np.pi / period
    last = int(np.ceil(np.max(_TAIL / (spread * step))))
    total = d[..., 0].copy()
    for start in range(1, last + 1, _NODES):
        t = step * np.arange(start, min(start + _NODES, last + 1))
        size1, phase1 = _binomial_share(t * h, n1, p1)
        size2, phase2 = _binomial_share(t * h, n2, q1)
        modulus = np.exp(-((spread * t) ** 2) / 2 + size1 + size2)
        total = total + 2 * np.sum(modulus * np.cos(phase1 - phase2 + t * s) * np.sin(d * t) / t, axis=-1)
    return _plain(np.clip(total * step[..., 0] / np.pi, 0.0, 1.0))


def coverage_by_sum(
    model: TwoGaussians, n_plus: int, n_minus: int, p: float, q: float, delta: float, *, gap: float | None = None
) -> float:
    r"""The probability of `coverage`, added up over all numbers of right labels.

    .. math:: \sum_{a=0}^{n_+} \sum_{b=0}^{n_-} \mathrm{Bin}(a; n_+, p)\, \mathrm{Bin}(b; n_-, q)
              \Bigl[ \Phi\Bigl(\frac{\delta - m_{ab}}{\varsigma}\Bigr)
              - \Phi\Bigl(\frac{-\delta - m_{ab}}{\varsigma}\Bigr) \Bigr]

    with $m_{ab} = h (a/n_+ - b/n_- - \Delta)$ and $\varsigma = \frac{\sigma}{2} \sqrt{1/n_+ + 1/n_-}$.

    Status: exact; time and memory $n_+ n_-$.

    Args:
        model: the two classes, of numbers.
        n_plus: points labelled +, >= 1.
        n_minus: points labelled -, >= 1.
        p: precision of the + labels.
        q: precision of the - labels.
        delta: half-width of the interval, > 0.
        gap: as in `coverage`.

    Example:
        >>> round(coverage_by_sum(TwoGaussians(), 100, 100, 1.0, 1.0, 0.1), 4)
        0.8427
    """
    from scipy.special import ndtr
    from scipy.stats import binom

    plus, minus = check_integer(n_plus, "n_plus", minimum=1), check_integer(n_minus, "n_minus", minimum=1)
    right = (float(check_shares(p, "p")), float(check_shares(q, "q")))
    width = float(check_above(delta, "delta"))
    a, b = np.arange(plus + 1), np.arange(minus + 1)
    shift = a[:, None] / plus - b / minus - (right[0] - right[1] if gap is None else float(gap))
    mean, spread = model.half_distance * shift, model.sigma / 2 * np.sqrt(1 / plus + 1 / minus)
    inside = ndtr((width - mean) / spread) - ndtr((-width - mean) / spread)
    return float(binom.pmf(a, plus, right[0]) @ inside @ binom.pmf(b, minus, right[1]))


def sample_theta(
    model: TwoGaussians,
    n_plus: npt.ArrayLike,
    n_minus: npt.ArrayLike,
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    draws: int,
    rng: np.random.Generator,
) -> Array:
    r"""Draws of the estimator, through its sufficient statistics: two binomials and one normal number each.

    Model: that of `theorem_centre`.
    Status: exact law of $\hat\theta$; costs three numbers a draw instead of $n_+ + n_-$.

    Args:
        model: the two classes.
        n_plus: points labelled +, whole, >= 1.
        n_minus: points labelled -, whole, >= 1.
        p: precision of the + labels, in [0, 1].
        q: precision of the - labels, in [0, 1].
        draws: number of estimates, >= 1.
        rng: generator.

    Returns:
        Shape `(draws, ...)`, the broadcast shape of the other arguments last.

    Example:
        >>> sample_theta(TwoGaussians(), 10**6, 10**6, 0.9, 0.7, 3, np.random.default_rng(0)).round(1)
        array([0.2, 0.2, 0.2])
    """
    check_integer(draws, "draws", minimum=1)
    plus, minus = check_whole(n_plus, "n_plus"), check_whole(n_minus, "n_minus")
    right = (check_shares(p, "p"), check_shares(q, "q"))
    spread = model.sigma / 2 * np.sqrt(1 / plus + 1 / minus)
    mid, h = model.midpoint, model.half_distance
    shape = (draws, *np.broadcast_shapes(*(np.shape(v) for v in (plus, minus, *right, spread, mid, h))))
    shares = (rng.binomial(n.astype(np.int64), r, size=shape) / n for n, r in zip((plus, minus), right, strict=True))
    return np.asarray(mid + h * (next(shares) - next(shares)) + spread * rng.standard_normal(shape))


def expected_theta(model: TwoGaussians, threshold: npt.ArrayLike, positive_share: npt.ArrayLike = 0.5) -> Any:
    r"""Expectation of the estimator when the pseudo-labels really are "+ exactly when $x > \tau$".

    .. math:: T(\tau) = \tfrac12 \bigl( E[X \mid X > \tau] + E[X \mid X \le \tau] \bigr)

    Then the group labelled + holds no point below $\tau$: right and wrong points are truncated normals, which the model
    of `theorem_centre` leaves out.

    Status: exact, given that both labels occur. $T$ is one step of two-means clustering (Lloyd's map) on the line.
    Source: means of truncated normals; own derivation.

    Args:
        model: the two classes.
        threshold: $\tau$, finite.
        positive_share: $\pi$ among the unlabelled points, in [0, 1].

    Example:
        >>> expected_theta(TwoGaussians(), [0.3, 0.6, 1.0]).round(3)
        array([0.17 , 0.342, 0.575])
    """
    from scipy.special import log_ndtr

    tau = check_real_array(threshold, "threshold")
    quality = label_quality(model, tau, positive_share)

    def tail(mean: Any, side: int) -> Any:
        """Mean of the normal numbers beyond the threshold, above it for side 1, below it for side -1."""
        z = side * (tau - mean) / model.sigma
        return mean + side * model.sigma * np.exp(-(z**2) / 2 - log_ndtr(-z)) / np.sqrt(2 * np.pi)

    p, q = quality.precision_plus, quality.precision_minus
    above = p * tail(model.mu1, 1) + (1 - p) * tail(model.mu2, 1)
    below = q * tail(model.mu2, -1) + (1 - q) * tail(model.mu1, -1)
    return _plain((above + below) / 2)


def self_training_path(
    model: TwoGaussians, threshold: npt.ArrayLike, steps: int, positive_share: npt.ArrayLike = 0.5
) -> Array:
    r"""Thresholds of repeated self-training on unlimited data, $\tau_{t+1} = T(\tau_t)$ by `expected_theta`.

    Args:
        model: the two classes.
        threshold: $\tau_0$.
        steps: repetitions, >= 0.
        positive_share: $\pi$ among the unlabelled points, in [0, 1].

    Returns:
        Shape `(steps + 1, ...)`, first the start.

    Example:
        >>> self_training_path(TwoGaussians(), 1.0, 3).round(3)
        array([1.   , 0.575, 0.327, 0.185])
    """
    check_integer(steps, "steps", minimum=0)
    start = check_real_array(threshold, "threshold")
    parts = (start, positive_share, model.midpoint, model.sigma)
    shape = np.broadcast_shapes(*(np.shape(part) for part in parts))
    path = np.empty((steps + 1, *shape))
    path[0] = start
    for step in range(steps):
        path[step + 1] = expected_theta(model, path[step], positive_share)
    return path


def self_training_limits(model: TwoGaussians, positive_share: float = 0.5) -> Array:
    r"""Thresholds that self-training leaves as they are, $T(\tau) = \tau$: splits of two-means clustering.

    There is at least one, since $T(\tau)$ lies below $\tau$ far to the right and above it far to the left. Where the
    means are at most $2\sigma$ apart the mixture is log-concave, both means in $T$ move by less than $\tau$ does, and
    so the one limit attracts every start. Further apart and with very unequal shares there may be three limits.

    Status: exact to 1e-10; two limits would be missed if both lay in one of the 4000 cells between $\mu_2 - 3 \sigma$
        and $\mu_1 + 3 \sigma$ in which changes of sign are looked for.
    Source: own derivation; self-training read as Lloyd's two-means.

    Args:
        model: the two classes, of numbers.
        positive_share: $\pi$ among the unlabelled points, in (0, 1).

    Returns:
        The limits, in ascending order: the first attracts, the next repels, and so on in turn.

    Example:
        >>> self_training_limits(TwoGaussians(), 0.1).round(3)
        array([-0.664])
        >>> self_training_limits(TwoGaussians(3.0, -3.0, 1.0), 0.02).round(2)
        array([-2.63, -1.05, -0.13])
    """
    from scipy.optimize import brentq

    share = check_open_shares(positive_share, "positive_share")
    # Ends that are not symmetric keep the grid off the midpoint, which is itself the limit for equal shares.
    grid = np.linspace(model.mu2 - 3 * model.sigma, model.mu1 + 3.01 * model.sigma, 4001)
    move = expected_theta(model, grid, share) - grid
    cells = np.flatnonzero(np.sign(move[:-1]) != np.sign(move[1:]))
    found = [
        brentq(lambda tau: float(expected_theta(model, tau, share) - tau), grid[i], grid[i + 1], xtol=1e-12)
        for i in cells
    ]
    return np.array(found)


def base_threshold(inputs: npt.ArrayLike, targets: npt.ArrayLike) -> float:
    r"""Threshold of linear discriminant analysis learnt from labelled points, class shares included.

    .. math:: \hat\tau = \frac{\bar x_+ + \bar x_-}{2} + \frac{s^2}{\bar x_+ - \bar x_-} \ln \frac{n_-}{n_+}

    with the pooled variance $s^2$.

    Why this learner: it is maximum likelihood in the model, it has a closed form, and its limit is `bayes_threshold` at
    the share of the *training* set, which is also the limit of logistic regression and of the threshold with fewest
    training errors. So the imbalance enters in the way it would for any of them: through the prior.

    Source: Fisher's discriminant with empirical priors, standard.

    Args:
        inputs: $x_i$, shape `(samples,)`, at least three.
        targets: +1 or -1 each; both must occur.

    Raises:
        ValueError: the mean of the positive class does not exceed that of the negative, so no rule $x > \tau$ follows.

    Example:
        >>> base_threshold([1.0, 3.0, -1.0, -3.0], [1, 1, -1, -1])
        0.0
    """
    x, label = _check_sample(inputs, targets, "targets")
    plus, minus = x[label > 0], x[label < 0]
    if len(x) < 3:
        raise ValueError(f"`inputs` must hold at least 3 points, got {len(x)}.")
    if plus.mean() <= minus.mean():
        raise ValueError(
            f"`targets` must give class +1 the larger mean, got {plus.mean():.6g} against {minus.mean():.6g}."
        )
    scatter = np.sum((plus - plus.mean()) ** 2) + np.sum((minus - minus.mean()) ** 2)
    return float(_lda(plus.mean(), minus.mean(), scatter / (len(x) - 2), len(plus), len(minus)))


def sample_base_thresholds(
    model: TwoGaussians, n_plus: npt.ArrayLike, n_minus: npt.ArrayLike, draws: int, rng: np.random.Generator
) -> Array:
    r"""Draws of `base_threshold` over labelled sets, from their sufficient statistics.

    Two normal means and one chi-squared variance with $n_+ + n_- - 2$ degrees of freedom, all independent.

    Status: exact law of $\hat\tau$.

    Args:
        model: the two classes.
        n_plus: labelled points of class +1, whole, >= 1.
        n_minus: labelled points of class -1, whole, >= 1; three points at least in all.
        draws: number of labelled sets, >= 1.
        rng: generator.

    Returns:
        Shape `(draws, ...)`; NaN where the sample means come in the wrong order, as no rule $x > \tau$ follows then.

    Example:
        >>> sample_base_thresholds(TwoGaussians(), 10**4, 10**6, 2, np.random.default_rng(0)).round(1)
        array([2.3, 2.3])
    """
    check_integer(draws, "draws", minimum=1)
    plus, minus = check_whole(n_plus, "n_plus"), check_whole(n_minus, "n_minus")
    check_all(plus + minus >= 3, "n_plus", "give at least 3 points together with `n_minus`", plus + minus)
    shape = (draws, *np.broadcast_shapes(plus.shape, minus.shape, np.shape(model.midpoint), np.shape(model.sigma)))
    upper = model.mu1 + model.sigma / np.sqrt(plus) * rng.standard_normal(shape)
    lower = model.mu2 + model.sigma / np.sqrt(minus) * rng.standard_normal(shape)
    freedom = plus + minus - 2
    variance = model.sigma**2 * rng.chisquare(freedom, size=shape) / freedom
    gap = np.where(upper > lower, upper - lower, np.nan)
    return np.asarray(_lda(lower + gap, lower, variance, plus, minus))


def _lda(upper: Any, lower: Any, variance: Any, n_plus: Any, n_minus: Any) -> Any:
    return (upper + lower) / 2 + variance / (upper - lower) * np.log(n_minus / n_plus)


def _binomial_share(u: Array, n: Array, share: Array) -> tuple[Array, Array]:
    """Logarithm of the modulus, and the phase, of E exp(i u (K/n - share)) for a binomial K of n trials.

    The modulus comes from sin^2, which keeps its distance from one exact where u/n is small and the power n large.
    """
    v = u / n
    with np.errstate(divide="ignore"):
        modulus = n / 2 * np.log1p(-np.minimum(4 * share * (1 - share) * np.sin(v / 2) ** 2, 1.0))
    angle = np.arctan2(share * np.sin(v), 1 - 2 * share * np.sin(v / 2) ** 2)
    return modulus, n * (angle - share * v)


def _plain(value: Any) -> Any:
    """A number for a result without axes, else the array."""
    array = np.asarray(value)
    return array.item() if array.ndim == 0 else array


def _check_sample(inputs: npt.ArrayLike, labels: npt.ArrayLike, argument: str) -> tuple[Array, npt.NDArray[np.int64]]:
    x, label = check_real_array(inputs, "inputs"), np.asarray(labels)
    if x.ndim != 1:
        raise ValueError(f"`inputs` must have shape (samples,), got {x.shape}.")
    if label.shape != x.shape or set(np.unique(label).tolist()) != {-1, 1}:
        found = np.unique(label).tolist()[:5]
        raise ValueError(f"`{argument}` must hold -1 and +1, one per input and each at least once, got {found}.")
    return x, label.astype(np.int64)
