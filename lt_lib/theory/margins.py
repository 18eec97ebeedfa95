r"""Label-distribution-aware margins: the bound they come from, the optimal split, and what a bias shift gains.

All of it is about one trade: with the sum of the class margins fixed, a wider margin for the rare class costs the
frequent one little, because the uniform bound for class $j$ scales as $1/(\gamma_j \sqrt{n_j})$.
"""

import warnings
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from lt_lib._checks import check_counts, check_integer, check_known, check_positive, check_real, check_real_array

Array = npt.NDArray[np.float64]
Display = Literal["joint", "separate"]

_NEWTON_STEPS = 200  # of the numerical optimum; fewer than twenty are needed where BFGS gets near


def example_margins(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    r"""Margin of each example, $f(x)_y - \max_{j \ne y} f(x)_j$; positive exactly when it is classified correctly.

    Source: Cao et al., "Learning imbalanced datasets with label-distribution-aware margin loss", NeurIPS 2019, eq. (1).

    Args:
        scores: $f(x)$, shape `(samples, classes)`, at least two classes.
        targets: class indices, shape `(samples,)`.

    Returns:
        Shape `(samples,)`.

    Example:
        >>> example_margins([[2.0, 0.5, 1.0], [0.0, 1.0, 3.0]], [0, 1])
        array([ 1., -2.])
    """
    f, y = _check_scores(scores, targets)
    rows = np.arange(len(y))
    others = f.copy()
    others[rows, y] = -np.inf
    return f[rows, y] - others.max(axis=1)


def class_margins(scores: npt.ArrayLike, targets: npt.ArrayLike) -> Array:
    r"""Margin of each class, $\gamma_j = \min_{i: y_i = j}$ of the example margins.

    Source: Cao et al., NeurIPS 2019, eq. (2). All positive exactly when the training set is separated.

    Args:
        scores: $f(x)$, shape `(samples, classes)`.
        targets: class indices, shape `(samples,)`; every class must occur.

    Returns:
        Shape `(classes,)`.

    Example:
        >>> class_margins([[2.0, 0.0], [3.0, 0.0], [0.0, 0.5]], [0, 0, 1])
        array([2. , 0.5])
    """
    margins = example_margins(scores, targets)
    y = np.asarray(targets)
    num_classes = np.shape(scores)[1]
    missing = np.setdiff1d(np.arange(num_classes), y)
    if missing.size:
        raise ValueError(f"`targets` must hold every class at least once, got none of {missing.tolist()}.")
    return np.array([margins[y == j].min() for j in range(num_classes)])


def generalisation_bound(
    margins: npt.ArrayLike,
    class_counts: npt.ArrayLike,
    *,
    complexity: float = 1.0,
    margin_power: float = 1.0,
    count_power: float = 0.5,
) -> float:
    r"""Leading term of the bound on the balanced test error.

    .. math:: \frac{1}{k} \sum_{j=1}^{k} \frac{\sqrt{C}}{\gamma_j^{a}\, n_j^{b}}

    Model: hypothesis class of complexity $C$ with Rademacher complexity at most $\sqrt{C/n_j}$ on class $j$.
    Assumptions: separable training set; the class-conditional laws of training and test agree.
    Status: bound up to a constant; the low-order term $\log n / \sqrt{n_j}$ is left out.
    Source: Cao et al., NeurIPS 2019, theorem 1 at $a = 1$, $b = 1/2$; the fast rate of their remark is
        $a = 2$, $b = 1$.

    Args:
        margins: $\gamma_j > 0$, shape `(classes,)`.
        class_counts: $n_j \ge 1$, shape `(classes,)`.
        complexity: $C > 0$.
        margin_power: $a > 0$.
        count_power: $b > 0$.

    Returns:
        The mean over the classes; it does not depend on units only if margins and $\sqrt{C}$ share them.

    Example:
        >>> generalisation_bound([0.5, 1.0], [100, 25])
        0.2
    """
    g = _check_margins(margins)
    n = check_counts(class_counts, allow_empty_classes=False)
    if g.shape != n.shape:
        raise ValueError(f"`margins` must have one entry per class ({len(n)}), got shape {g.shape}.")
    rate = g ** check_positive(margin_power, "margin_power") * n ** check_positive(count_power, "count_power")
    return float(np.mean(np.sqrt(check_positive(complexity, "complexity")) / rate))


def optimal_split(n1: int, n2: int, margin_sum: float) -> tuple[float, float]:
    r"""Best two margins of a fixed sum.

    .. math:: \gamma_1^* = s\, \frac{n_2^{1/4}}{n_1^{1/4} + n_2^{1/4}}, \qquad
              \gamma_2^* = s\, \frac{n_1^{1/4}}{n_1^{1/4} + n_2^{1/4}}

    Model and assumptions: as `generalisation_bound` with two classes, whose bias can be shifted.
    Status: exact and unique minimiser of $1/(\gamma_1 \sqrt{n_1}) + 1/(\gamma_2 \sqrt{n_2})$ on $(0, s)$.
    Source: Cao et al., NeurIPS 2019, theorem 3 and eq. (8). Their "$\gamma_j = C / n_j^{1/4}$" has the same constant
        for both classes, $C = s (n_1 n_2)^{1/4} / (n_1^{1/4} + n_2^{1/4})$.

    Args:
        n1: samples of class 1, >= 1.
        n2: samples of class 2, >= 1.
        margin_sum: $s > 0$.

    Returns:
        $(\gamma_1^*, \gamma_2^*)$; equal for equal counts.

    Example:
        >>> optimal_split(16, 1, 3.0)
        (1.0, 2.0)
    """
    first, second = optimal_margins([n1, n2], margin_sum)
    return float(first), float(second)


def bias_shift(margins: tuple[float, float], target_margins: tuple[float, float]) -> tuple[float, float]:
    r"""Bias to add to the two scores so that the class margins become the target margins.

    .. math:: b_1 = (\gamma_1^* - \gamma_1)/2 = -b_2

    Status: exact, as a bias moves $\gamma_1 = \min (f_1 - f_2)$ up by as much as it moves $\gamma_2$ down.
    Source: Cao et al., NeurIPS 2019, proof of theorem 3.

    Args:
        margins: the margins $(\gamma_1, \gamma_2)$ now.
        target_margins: the margins wanted; must have the same sum.

    Example:
        >>> bias_shift((1.5, 1.5), (1.0, 2.0))
        (-0.25, 0.25)
    """
    for name, pair in (("margins", margins), ("target_margins", target_margins)):
        if check_real_array(pair, name).shape != (2,):
            raise ValueError(f"`{name}` must be two numbers, got {pair}.")
    if not np.isclose(sum(margins), sum(target_margins), rtol=1e-9, atol=0.0):
        raise ValueError(f"`target_margins` must have the sum of `margins`, {sum(margins)}, got {sum(target_margins)}.")
    shift = (target_margins[0] - margins[0]) / 2
    return shift, -shift


def optimal_margins(
    class_counts: npt.ArrayLike, margin_sum: float, *, margin_power: float = 1.0, count_power: float = 0.5
) -> Array:
    r"""Margins of a fixed sum that minimise $\sum_j 1/(\gamma_j^a n_j^b)$.

    .. math:: \gamma_j^* = s\, \frac{n_j^{-b/(1 + a)}}{\sum_i n_i^{-b/(1 + a)}}

    Model: one bound term per class; the sum $s$ of the margins is what the classes share.
    Assumptions: that a trade at fixed sum is possible, which a bias shift gives for two classes. For more classes this
        premise is an analogy.
    Status: exact minimiser (Lagrange: $\gamma_j^{1+a} n_j^b$ is constant; the objective is strictly convex).
    Source: Cao et al., NeurIPS 2019, eq. (9): $n^{-1/4}$ at $a = 1$, $b = 1/2$. Their fast-rate remark is $a = 2$,
        $b = 1$, which gives $n^{-1/3}$.

    Args:
        class_counts: $n_j \ge 1$, shape `(classes,)`.
        margin_sum: $s > 0$.
        margin_power: $a > 0$.
        count_power: $b > 0$.

    Returns:
        Margins that sum to $s$, shape `(classes,)`.

    Example:
        >>> optimal_margins([10_000, 16, 1], 1.6)
        array([0.1, 0.5, 1. ])
    """
    n, a, b, total = _check_split(class_counts, margin_sum, margin_power, count_power)
    shares = (n / n.min()) ** (-b / (1.0 + a))
    return total * shares / shares.sum()


def numeric_optimal_margins(
    class_counts: npt.ArrayLike, margin_sum: float, *, margin_power: float = 1.0, count_power: float = 0.5
) -> Array:
    r"""The minimiser of `optimal_margins` found numerically, without its formula, as a check.

    BFGS over $u$ with $\gamma = s\,\mathrm{softmax}(u)$, which keeps the sum and the sign, on the logarithm of the
    objective, which keeps the scale. In the direction of a very small margin the objective is flat to rounding; Newton
    steps on its gradient, which is not, finish the search.

    Status: numerical; relative error below 1e-9 for margins down to 1e-13 of their sum (tests).

    Args:
        class_counts: as in `optimal_margins`.
        margin_sum: as in `optimal_margins`.
        margin_power: as in `optimal_margins`.
        count_power: as in `optimal_margins`.

    Raises:
        RuntimeError: the search does not settle; margins below 1e-300 of their sum may do that.

    Example:
        >>> numeric_optimal_margins([10_000, 16, 1], 1.6).round(4)
        array([0.1, 0.5, 1. ])
    """
    from scipy.optimize import minimize
    from scipy.special import logsumexp, softmax

    n, a, b, total = _check_split(class_counts, margin_sum, margin_power, count_power)
    log_n = np.log(n)

    def objective(u: Array) -> tuple[float, Array]:
        log_share = u - logsumexp(u)
        terms = -a * log_share - b * log_n
        return float(logsumexp(terms)), -a * (softmax(terms) - softmax(u))

    u = minimize(objective, np.zeros(len(n)), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    free = np.arange(len(n)) != np.argmax(u)  # only differences count, so the largest stays
    for _ in range(_NEWTON_STEPS):
        share, term = softmax(u), softmax(-a * u - b * log_n)
        slope, curvature = share - term, np.diag(share + a * term) - np.outer(share, share) - a * np.outer(term, term)
        scale = np.diag(curvature)[free]
        if not np.all(scale > 0):
            break
        step = -np.linalg.solve(curvature[np.ix_(free, free)] / scale[:, None], slope[free] / scale)
        u[free] += np.clip(step, -1.0, 1.0)
        if np.max(np.abs(step), initial=0.0) < 1e-9:
            return total * np.asarray(softmax(u))
    raise RuntimeError(
        f"numeric_optimal_margins did not settle within {_NEWTON_STEPS} Newton steps; a margin may underflow."
    )


def confidence_term(
    margin: float, num_samples: int, *, max_score: float, num_classes: int, delta: float, display: Display = "joint"
) -> float:
    r"""Low-order term of the margin bound for one class.

    .. math:: \varepsilon_{\text{joint}} = \sqrt{\frac{p + u}{n}}, \quad
              \varepsilon_{\text{separate}} = \sqrt{\frac{p}{n}} + \sqrt{\frac{u}{n}}, \quad
              p = \log\log_2 (2M/\gamma), \; u = \log (2k/\delta)

    Status: bound. "joint" is the display in the theorem, "separate" the one that its proof arrives at and the larger.
    Source: Cao et al., NeurIPS 2019, theorem 2 and appendix A (the price of holding for all margins at once).

    Args:
        margin: $\gamma$ in $(0, M]$; the peeling over margins has no scale above $M$.
        num_samples: $n \ge 1$, of this class.
        max_score: $M = \max_{x, f, j} |f(x)_j|$.
        num_classes: $k \ge 2$.
        delta: probability of failure in (0, 1).
        display: "joint" or "separate".

    Example:
        >>> round(confidence_term(1.0, 100, max_score=1.0, num_classes=2, delta=0.05), 4)
        0.2093
    """
    check_known(display, "display", ("joint", "separate"))
    n = check_integer(num_samples, "num_samples", minimum=1)
    check_integer(num_classes, "num_classes", minimum=2)
    if not 0 < check_real(delta, "delta") < 1:
        raise ValueError(f"`delta` must be in (0, 1), got {delta}.")
    if not 0 < check_real(margin, "margin") <= check_positive(max_score, "max_score"):
        raise ValueError(f"`margin` must be in (0, {max_score}], got {margin}.")
    peeling = np.log(np.log2(2 * max_score / margin))
    union = np.log(2 * num_classes / delta)
    if display == "joint":
        return float(np.sqrt((peeling + union) / n))
    return float(np.sqrt(peeling / n) + np.sqrt(union / n))


def linear_rademacher_bound(inputs: npt.ArrayLike, norm_bound: float) -> float:
    r"""Bound on the Rademacher complexity of a norm-bounded linear class on the samples of one class.

    .. math:: \hat{\mathfrak R} = \frac{B}{n} \, \mathbb E_\sigma \Bigl\| \sum_i \sigma_i x_i \Bigr\|
              \;\le\; \frac{B}{n} \sqrt{\sum_i \|x_i\|^2}

    Model: two classes, $f(x) = (\langle w, x\rangle, -\langle w, x\rangle)/2$ with $\|w\| \le B$, whose margin is
        $\pm\langle w, x\rangle$.
    Status: bound (Jensen), at most a factor $\sqrt 2$ above the exact value (Khintchine).
    Source: standard; the form of theorem 2's $\hat{\mathfrak R}_j$ in Cao et al., NeurIPS 2019, for this class.

    Args:
        inputs: samples of one class, shape `(samples, dim)`.
        norm_bound: $B > 0$.

    Example:
        >>> linear_rademacher_bound([[3.0, 4.0]], 1.0)
        5.0
    """
    x = _check_inputs(inputs)
    return check_positive(norm_bound, "norm_bound") * float(np.sqrt(np.sum(x**2))) / len(x)


def linear_rademacher(
    inputs: npt.ArrayLike, norm_bound: float, num_draws: int, rng: np.random.Generator
) -> tuple[float, float]:
    r"""Rademacher complexity of the class in `linear_rademacher_bound`, estimated by drawing signs.

    Status: Monte Carlo; the supremum over $w$ is exact, $B \|\sum_i \sigma_i x_i\|$.

    Args:
        inputs: samples of one class, shape `(samples, dim)`.
        norm_bound: $B > 0$.
        num_draws: sign vectors, >= 2.
        rng: generator.

    Returns:
        Estimate and its standard error.

    Example:
        >>> linear_rademacher([[3.0, 4.0]], 1.0, 8, np.random.default_rng(0))
        (5.0, 0.0)
    """
    x = _check_inputs(inputs)
    check_integer(num_draws, "num_draws", minimum=2)
    signs = rng.choice([-1.0, 1.0], size=(num_draws, len(x)))
    draws = check_positive(norm_bound, "norm_bound") * np.linalg.norm(signs @ x, axis=1) / len(x)
    return float(draws.mean()), float(draws.std(ddof=1) / np.sqrt(num_draws))


class MarginBound(NamedTuple):
    """Margin bound on the balanced error and its three parts per class (class 1 first)."""

    total: float
    empirical: Array
    complexity: Array
    confidence: Array

    @property
    def vacuous(self) -> bool:
        """True where the bound says nothing: an error rate is at most 1 anyway."""
        return self.total >= 1


def linear_margin_bound(
    inputs: npt.ArrayLike,
    targets: npt.ArrayLike,
    weights: npt.ArrayLike,
    margins: tuple[float, float],
    *,
    norm_bound: float,
    max_norm: float,
    delta: float = 0.05,
    display: Display = "separate",
) -> MarginBound:
    r"""Margin bound on the balanced test error of a linear classifier, evaluated on data.

    .. math:: L_{\text{bal}}[f] \le \frac12 \sum_{j} \Bigl( \hat L_{\gamma_j, j}[f]
              + \frac{4}{\gamma_j} \hat{\mathfrak R}_j + \varepsilon_j(\gamma_j) \Bigr)

    with $\hat L_{\gamma, j}$ the fraction of class $j$ whose margin is below $\gamma$, $\hat{\mathfrak R}_j$ from
    `linear_rademacher_bound` and $\varepsilon_j$ from `confidence_term` with $M = B R / 2$.

    Model: as `linear_rademacher_bound`, with inputs in the ball of radius $R$.
    Assumptions: independent samples; the class-conditional laws of training and test agree.
    Status: bound; holds for all $w$ and all margins at once with probability $\ge 1 - \delta$ over the training set.
        Loose: above 1 unless each class has thousands of samples.
    Source: Cao et al., NeurIPS 2019, theorem 2.

    Args:
        inputs: training samples, shape `(samples, dim)`, none longer than `max_norm`.
        targets: 0 or 1, both present, shape `(samples,)`; class 0 is the positive side of $w$.
        weights: $w$, shape `(dim,)`, with $\|w\| \le B$.
        margins: $\gamma_1, \gamma_2$ in $(0, B R / 2]$.
        norm_bound: $B > 0$.
        max_norm: $R > 0$, radius of the input space, not of the sample.
        delta: probability of failure in (0, 1).
        display: as in `confidence_term`; "separate" is what the proof shows.

    Example:
        >>> x, y = np.array([[1.0], [-1.0]]).repeat(50_000, axis=0), np.repeat([0, 1], 50_000)
        >>> bound = linear_margin_bound(x, y, [1.0], (0.5, 0.5), norm_bound=1.0, max_norm=1.0)
        >>> round(bound.total, 3), bound.empirical.tolist()
        (0.045, [0.0, 0.0])
    """
    x, w, y = _check_inputs(inputs), check_real_array(weights, "weights"), np.asarray(targets)
    longest = check_positive(norm_bound, "norm_bound") * check_positive(max_norm, "max_norm") / 2
    g = check_real_array(margins, "margins")
    if g.shape != (2,) or not np.all((g > 0) & (g <= longest)):
        raise ValueError(f"`margins` must be two numbers in (0, {longest:g}], got {g.tolist()}.")
    if y.shape != (len(x),) or sorted(set(y.tolist())) != [0, 1]:
        raise ValueError(f"`targets` must hold 0 and 1, one per row of `inputs`, got {sorted(set(y.tolist()))[:5]}.")
    if w.shape != x.shape[1:] or np.linalg.norm(w) > norm_bound * (1 + 1e-9):
        raise ValueError(
            f"`weights` must have shape {x.shape[1:]} and norm <= {norm_bound}, got {w.shape}, {np.linalg.norm(w):.6g}."
        )
    if np.linalg.norm(x, axis=1).max() > max_norm * (1 + 1e-9):
        raise ValueError(
            f"`max_norm` must be at least the longest input, {np.linalg.norm(x, axis=1).max():.6g}, got {max_norm}."
        )
    sides = (x[y == 0], x[y == 1])
    projections = (sides[0] @ w, -(sides[1] @ w))
    empirical = np.array([np.mean(p < margin) for p, margin in zip(projections, g, strict=True)])
    complexity = np.array(
        [4.0 / margin * linear_rademacher_bound(side, norm_bound) for side, margin in zip(sides, g, strict=True)]
    )
    confidence = np.array(
        [
            confidence_term(margin, len(side), max_score=longest, num_classes=2, delta=delta, display=display)
            for side, margin in zip(sides, g, strict=True)
        ]
    )
    return MarginBound(float(np.mean(empirical + complexity + confidence)), empirical, complexity, confidence)


class BiasShift(NamedTuple):
    """Outcome of one bias-shift draw: balanced test error per fraction, and the margin that was shared out."""

    errors: Array
    margin_sum: float


def bias_shift_experiment(
    dim: int, separation: float, n1: int, n2: int, fractions: npt.ArrayLike, rng: np.random.Generator
) -> BiasShift:
    r"""Balanced test error of a hard-margin separator as its bias moves the margin between the classes.

    .. math:: \tfrac12 \Phi(t - \mu_1^\top w) + \tfrac12 \Phi(\mu_2^\top w - t), \qquad \|w\| = 1

    Model: two Gaussians $N(\pm (\text{separation}/2) e_1, I)$; $w$ is the direction of the hard-margin separator of
        $n_1 + n_2$ samples; the threshold $t$ leaves class 1 the fraction $\gamma_1/(\gamma_1 + \gamma_2)$.
    Assumptions: the draw is linearly separable.
    Status: exact test error for the drawn training set (no test sample); random through the training set.
    Source: the setting of theorem 3 in Cao et al., NeurIPS 2019, with the best fraction
        $n_2^{1/4}/(n_1^{1/4} + n_2^{1/4})$ by `optimal_split`.

    Args:
        dim: dimension, >= 1.
        separation: distance of the two means, > 0, in standard deviations.
        n1: training samples of class 1, >= 1.
        n2: training samples of class 2, >= 1.
        fractions: $\gamma_1/(\gamma_1 + \gamma_2)$ in [0, 1], shape `(k,)`; 0.5 is the plain separator.
        rng: generator.

    Returns:
        Errors, shape `(k,)`, and the geometric distance between the two margins' ends.

    Raises:
        ValueError: the drawn samples cannot be separated by a hyperplane.

    Example:
        >>> shift = bias_shift_experiment(2, 12.0, 50, 50, [0.5], np.random.default_rng(0))
        >>> bool(shift.errors[0] < 1e-6), bool(6 < shift.margin_sum < 12)
        (True, True)
    """
    from scipy.special import ndtr
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.svm import SVC

    check_integer(dim, "dim", minimum=1)
    check_positive(separation, "separation")
    check_integer(n1, "n1", minimum=1)
    check_integer(n2, "n2", minimum=1)
    shares = np.atleast_1d(np.asarray(fractions, dtype=np.float64))
    if shares.ndim != 1 or not np.all((shares >= 0) & (shares <= 1)):
        raise ValueError(f"`fractions` must be numbers in [0, 1], got {shares.tolist()}.")
    mean = np.zeros(dim)
    mean[0] = separation / 2
    x = rng.standard_normal((n1 + n2, dim))
    x[:n1] += mean
    x[n1:] -= mean
    y = np.repeat([1, -1], [n1, n2])
    # A cost this large is a hard margin: any slack would cost more than the whole norm. A separable draw needs some
    # hundred iterations; the cap ends the endless search in one that is not, which the next lines then refuse.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        machine = SVC(kernel="linear", C=1e6, tol=1e-5, max_iter=50_000).fit(x, y)
    if np.min(y * machine.decision_function(x)) < 0.99:
        raise ValueError(f"`separation` must be large enough to separate the draw, got {separation} at `dim` {dim}.")
    direction = machine.coef_[0] / np.linalg.norm(machine.coef_[0])
    projected = x @ direction
    upper, lower = projected[:n1].min(), projected[n1:].max()
    thresholds = upper - shares * (upper - lower)
    centre = mean @ direction
    errors = (ndtr(thresholds - centre) + ndtr(-centre - thresholds)) / 2
    return BiasShift(errors, float(upper - lower))


def _check_scores(scores: npt.ArrayLike, targets: npt.ArrayLike) -> tuple[Array, npt.NDArray[np.int64]]:
    f = check_real_array(scores, "scores")
    y = np.asarray(targets)
    if f.ndim != 2 or f.shape[0] == 0 or f.shape[1] < 2:
        raise ValueError(f"`scores` must have shape (samples, classes >= 2), got {f.shape}.")
    if y.shape != (len(f),) or not np.issubdtype(y.dtype, np.integer) or y.min() < 0 or y.max() >= f.shape[1]:
        raise ValueError(f"`targets` must be {len(f)} class indices in [0, {f.shape[1] - 1}], got {y.tolist()[:5]}.")
    return f, y.astype(np.int64)


def _check_margins(margins: npt.ArrayLike) -> Array:
    g = check_real_array(margins, "margins", finite=False)
    if g.ndim != 1 or not np.all((g > 0) & np.isfinite(g)):
        raise ValueError(f"`margins` must be a vector of positive numbers, got {g.tolist()}.")
    return g


def _check_split(
    class_counts: npt.ArrayLike, margin_sum: float, margin_power: float, count_power: float
) -> tuple[Array, float, float, float]:
    n = check_counts(class_counts, allow_empty_classes=False).astype(np.float64)
    a = check_positive(margin_power, "margin_power")
    b = check_positive(count_power, "count_power")
    return n, a, b, check_positive(margin_sum, "margin_sum")


def _check_inputs(inputs: npt.ArrayLike) -> Array:
    x = check_real_array(inputs, "inputs")
    if x.ndim != 2 or x.size == 0:
        raise ValueError(f"`inputs` must have shape (samples, dim), got {x.shape}.")
    return x
