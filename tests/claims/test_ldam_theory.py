"""The checks of the notebook on LDAM's theory: each is refused a false world, and accepts a true one."""

import numpy as np
import pytest

from lt_lib.claims import _margin_worlds as worlds
from lt_lib.claims import ldam_theory
from lt_lib.theory import margins

CHECKS = {check.claim.id: check for check in ldam_theory.CHECKS}


def test_all_rows_are_there_in_order():
    assert list(CHECKS) == [83, 84, 86, 87, 88, 89, 90, 102]


def test_hard_margin_agrees_with_a_search_over_all_angles(rng):
    z = worlds.signed_gaussians(2, 6.0, 30, rng)
    angles = np.linspace(0, 2 * np.pi, 100_001)
    directions = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    best = directions[np.argmax((z @ directions.T).min(axis=0))]
    assert worlds.hard_margin(z) == pytest.approx(best, abs=1e-4)
    with pytest.raises(ValueError, match="`z` must be separable"):
        worlds.hard_margin([[1.0, 0.0], [-1.0, 0.0]])


def test_sphere_error_agrees_with_a_sample(rng):
    direction = np.array([0.6, 0.8, 0.0])
    u = rng.standard_normal((200_000, 3))
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    u[:, 0] += 0.3
    wrong = np.mean(u @ direction < 0)
    assert worlds.sphere_error(direction, 0.3) == pytest.approx(wrong, abs=4 * np.sqrt(0.25 / 200_000))


# Row 83: an empirical claim


def correlated(rng, correlation, draws=100):
    x = rng.standard_normal(draws)
    y = correlation * x + np.sqrt(1 - correlation**2) * rng.standard_normal(draws)
    return {"margin": x, "error": y}


@pytest.mark.false_world(83)
@pytest.mark.parametrize(("correlation", "verdict"), [(-0.95, "holds"), (0.0, "refuted"), (0.9, "refuted")])
def test_margin_without_or_with_reversed_effect_is_refused(rng, correlation, verdict):
    measured = {world: correlated(rng, correlation) for world in worlds.MARGIN_WORLDS}
    assert CHECKS[83].judge(measured).verdict == verdict


def test_one_world_without_effect_is_enough_to_refuse(rng):
    measured = {world: correlated(rng, -0.95) for world in worlds.MARGIN_WORLDS}
    measured[worlds.MARGIN_WORLDS[-1]] = correlated(rng, 0.0)
    assert CHECKS[83].judge(measured).verdict == "refuted"


@pytest.mark.false_world(83)
def test_a_score_that_is_no_margin_is_refused_end_to_end(rng, monkeypatch):
    monkeypatch.setattr(worlds, "MARGIN_WORLDS", ((20, 5.0, 50),))
    measured = worlds.measure_margin_and_error("quick", rng, score=lambda w, z: -float(np.min(z @ w)))
    assert CHECKS[83].judge(measured).verdict == "refuted"


# Row 84


def descend(tail, steps=10):
    return worlds.measure_gradient_descent("quick", np.random.default_rng(0), tail=tail, num_draws=4, num_steps=steps)


def test_logistic_descent_turns_to_the_margin_and_follows_its_flow():
    measured = descend(worlds.logistic_tail, steps=3000)
    assert CHECKS[84].judge(measured).verdict == "holds"
    for draw in range(4):
        log_time = np.log10(measured["time"][-1, draw])
        flow = np.interp(log_time, measured["flow_decade"], measured["flow_angle"][:, draw])
        assert measured["angle"][-1, draw] == pytest.approx(flow, abs=0.5)


@pytest.mark.false_world(84)
def test_a_loss_with_a_polynomial_tail_is_refused():
    assert CHECKS[84].judge(descend(lambda m: -3 * np.log1p(np.logaddexp(0.0, m)))).verdict == "refuted"


# Rows 86 and 87


@pytest.fixture(scope="module")
def cells():
    return worlds.measure_bound_and_error("quick", np.random.default_rng(0))


def test_bound_and_error_hold_together_with_what_other_draws_would_give(cells):
    outcome = CHECKS[86].judge(cells)
    assert outcome.verdict == "holds"
    assert cells["bound_again"].shape == (worlds.RESAMPLES, len(cells["bound"]))
    assert 0.7 <= outcome.low < outcome.statistic <= 1
    # The means of the resamples lie around the means of the draws, bound with bound and error with error.
    for name in ("bound", "error"):
        assert cells[f"{name}_again"].mean(axis=0) == pytest.approx(cells[name], rel=0.03)


@pytest.mark.false_world(86)
@pytest.mark.parametrize(
    "bound",
    [
        lambda g, n, c: np.sqrt(c / n) * g,
        lambda g, n, c: np.sqrt(n / c) / g,
        lambda g, n, c: 1 / g,
        lambda g, n, c: np.sqrt(c / n),
        lambda g, n, c: n**-0.25 / g,
        lambda g, n, c: 1.0,
    ],
    ids=["margin above", "samples above", "no samples", "no margin", "another power", "constant"],
)
def test_a_wrong_bound_is_refused(bound, rng, monkeypatch):
    monkeypatch.setattr(worlds, "BOUND_DRAWS", 20)
    assert CHECKS[86].judge(worlds.measure_bound_and_error("quick", rng, bound=bound)).verdict == "refuted"


@pytest.mark.false_world(86)
def test_a_bound_shuffled_within_each_distance_does_not_hold_though_the_distance_orders_the_errors(cells, rng):
    lines = [np.flatnonzero(cells["separation"] == value) for value in worlds.SEPARATIONS]
    passes = 0
    for _ in range(40):
        order = np.concatenate([rng.permutation(line) for line in lines])
        shuffled = cells | {"bound": cells["bound"][order], "bound_again": cells["bound_again"][:, order]}
        passes += worlds.rank_correlation(shuffled["bound"], cells["error"]) >= 0.7
        outcome = CHECKS[86].judge(shuffled)
        assert outcome.verdict != "holds"
        assert "at equal distance" in outcome.threshold
    assert passes > 30


def test_order_along_lines_is_the_rank_correlation_of_each_line(rng):
    bound, error = rng.integers(3, size=(5, 12)), rng.random((5, 12))
    separation = np.tile([6.0, 5.0, 7.0], 4)
    bound[:, separation == 7.0] = 1
    found = worlds.order_along_lines(bound, error, separation)
    for i, j in np.ndindex(5, 3):
        line = separation == (5.0, 6.0, 7.0)[j]
        assert found[i, j] == pytest.approx(worlds.rank_correlation(bound[i, line], error[i, line]), abs=1e-11)
    assert (found[:, 2] == 0).all()


@pytest.mark.false_world(87)
@pytest.mark.parametrize("kept", [("empirical",), ("empirical", "confidence")])
def test_a_bound_without_its_complexity_is_refused(kept, rng):
    def total(bound):
        return float(sum(getattr(bound, name).mean() for name in kept))

    assert CHECKS[87].judge(worlds.measure_theorem_two("quick", rng, total=total, num_draws=3)).verdict == "refuted"


def test_the_whole_bound_is_accepted(rng):
    assert CHECKS[87].judge(worlds.measure_theorem_two("quick", rng, num_draws=3)).verdict == "holds"


# Rows 88, 89 and 102


def power(exponent):
    return lambda n, s: s * np.asarray(n, dtype=float) ** exponent / np.sum(np.asarray(n, dtype=float) ** exponent)


@pytest.mark.false_world(88, 89)
@pytest.mark.parametrize("exponent", [-1 / 3, -1 / 2, 1 / 4, -0.2501])
def test_a_wrong_exponent_is_refused(exponent, rng, monkeypatch):
    monkeypatch.setattr(ldam_theory, "SHIFT_WORLDS", ())
    measured = ldam_theory.measure_split("quick", rng, split=lambda a, b, s: tuple(power(exponent)([a, b], s)))
    assert CHECKS[88].judge(measured).verdict == "refuted"
    many = ldam_theory.measure_many_classes("quick", rng, closed=power(exponent))
    assert CHECKS[89].judge(many).verdict == "refuted"


@pytest.mark.false_world(102)
@pytest.mark.parametrize("exponent", [-1 / 4, -1 / 2, -0.3334])
def test_a_wrong_fast_rate_is_refused(exponent, rng):
    assert CHECKS[102].judge(ldam_theory.measure_fast_rate("quick", rng, closed=power(exponent))).verdict == "refuted"


@pytest.mark.parametrize("row", [89, 90, 102])
def test_the_true_formulas_are_accepted(row, rng):
    assert CHECKS[row].run("quick", rng).verdict == "holds"


def shifted(rng, half, rule, best):
    noise = 0.01 * rng.standard_normal(20)
    errors = np.full((20, 3), 0.5) + noise[:, None]
    errors[:, 1] = best + noise
    return {"half": half + noise, "rule": rule + noise, "errors": errors}


@pytest.mark.false_world(88)
@pytest.mark.parametrize(
    ("half", "rule", "best", "verdict"),
    [
        (0.4, 0.1, 0.1, "holds"),
        (0.1, 0.1 + 1e-9, 0.1, "refuted"),
        (0.1, 0.2, 0.18, "refuted"),
        (0.4, 0.2, 0.1, "refuted"),
    ],
)
def test_a_shift_that_gains_nothing_or_too_little_is_refused(rng, half, rule, best, verdict):
    measured = {"relative_error": 0.0, "shift": {(2, 6.0, 100, 10): shifted(rng, half, rule, best)}}
    assert CHECKS[88].judge(measured).verdict == verdict


def test_the_threshold_names_the_part_that_falls(rng):
    good, bad = (shifted(rng, 0.4, rule, 0.1) for rule in (0.1, 0.2))
    worlds_of = {(2, 6.0, 100, 10): good, (3, 6.0, 100, 10): bad}
    text = CHECKS[88].judge({"relative_error": 0.0, "shift": worlds_of}).threshold
    assert text.startswith("test error, 1.5 best - rule: ")
    assert text.endswith("(d 3, distance 6, 100:10); closed form holds")
    formula = CHECKS[88].judge({"relative_error": 0.1, "shift": {(2, 6.0, 100, 10): good}})
    assert formula.threshold == "closed form: relative error <= 1e-05"


@pytest.mark.false_world(88)
def test_the_reversed_split_is_refused_end_to_end(rng):
    world = ldam_theory.SHIFT_WORLDS[3]
    shift = ldam_theory.measure_bias_shift(world, rng, split=lambda a, b, s: margins.optimal_split(b, a, s))
    assert ldam_theory.judge_shift(shift)[0].verdict == "refuted"


# Row 90


@pytest.mark.false_world(90)
@pytest.mark.parametrize(
    "wrong",
    [
        lambda loss: lambda z, y, m, *, scale, **k: loss(z, y, m * 1.001, scale=scale, **k),
        lambda loss: lambda z, y, m, *, scale, **k: loss(z, y, m, scale=1.0, **k),
        lambda loss: lambda z, y, m, *, scale, **k: loss(z, y, m + 0.1, scale=scale, **k),
        lambda loss: lambda z, y, m, *, scale, **k: loss(-z, y, m, scale=scale, **k),
    ],
)
def test_a_wrong_loss_is_refused(wrong, rng):
    from lt_lib.losses import ldam_loss

    assert CHECKS[90].judge(ldam_theory.measure_loss("quick", rng, loss=wrong(ldam_loss))).verdict == "refuted"
