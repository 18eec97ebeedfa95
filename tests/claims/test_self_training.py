"""The checks on self-training refuse false worlds."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lt_lib import counts, losses
from lt_lib.claims import _self_training_runs as runs
from lt_lib.claims import self_training
from lt_lib.claims._self_training_runs import Runs, Setting
from lt_lib.claims.self_training import CHECKS, DEFAULT, Training

BY_ROW = {check.claim.id: check for check in CHECKS}
SEEDS, CLASSES = 10, 10
TAIL = np.linspace(0.0, 1.0, CLASSES)
TRAINED = [row for row in BY_ROW if row != 133]
PRINTED = [107, 108, 117, 118, 119]
# A published gain by size of the pool in which row 119 holds.
SWEEP = {0.5: 3.0, 1.0: 4.5, 5.0: 6.5, 10.0: 8.0}


def rng():
    return np.random.default_rng(0)


def settings():
    found = [*self_training.TABLE, *self_training.amount_settings(), *self_training.omega_settings()]
    found += [each for loss in runs.LOSSES for each in self_training.relevance_settings(loss)]
    found += [*self_training.mixed_pool_settings((*self_training.POOL_RATIOS, *self_training.BETWEEN_RATIOS))]
    found += [*self_training.random_settings(), self_training.TWICE_LABELLED, *self_training.SAME_POOLS]
    found += [each for longer in self_training.LONG_RELEVANT.values() for each in longer]
    found += [*self_training.LONG_TABLE, self_training.LONG_MIXED]
    return list(dict.fromkeys(found))


def claimed_gain(setting):
    """A gain in points at which every row but 135 holds: it rises with balance, amount and relevance."""
    balance = 6.0 - 2.2 * np.log10(setting.pool_ratio) * np.log10(setting.ratio) / np.log10(50.0)
    amount = np.log1p(3 * setting.amount) / np.log1p(15.0)
    # Gone at 60 % relevance with a pool ratio of 50.
    outside = (1 - setting.relevance) / 0.4 * (6.0 - 2.2 * np.log10(50.0))
    return (balance - outside) * amount * setting.omega / (0.5 + 0.5 * setting.omega)


def training(*, effect=1.0, long_effect=None, random_harm=0.9, gain=claimed_gain, swap_thirds=False):
    """A `Training` whose gains are `effect` times the claimed ones, larger in the tail."""
    noise = np.random.default_rng(1)
    found = Runs({})
    profile = (0.2 + 1.6 * TAIL)[:: -1 if swap_thirds else 1]
    for setting in settings():
        found.recall.setdefault(setting.base, 0.9 - 0.4 * TAIL + noise.normal(scale=0.002, size=(SEEDS, CLASSES)))
        points = (long_effect if long_effect is not None and setting.length > 1 else effect) * gain(setting) / 100
        if setting.draw:
            harmful = np.arange(SEEDS) < random_harm * SEEDS
            points = effect * np.where(harmful, -0.02, 0.02)[:, None]
        shake = 0.0 if setting.omega == 0 else noise.normal(scale=0.0005, size=(SEEDS, CLASSES))
        found.recall[setting] = found.recall[setting.base] + points * profile + shake
    for setting, lift in ((DEFAULT.base, 0.0), (DEFAULT, 0.1 * effect)):
        found.silhouette[setting] = 0.3 - 0.2 * TAIL + lift * TAIL + noise.normal(scale=0.01, size=(SEEDS, CLASSES))
    clustering = found.error(DEFAULT) + 5.0 * effect + noise.normal(scale=0.1, size=SEEDS)
    return Training(found, printed(), dict(SWEEP), clustering)


def printed(gain=claimed_gain):
    """A published table in which the claims hold."""
    cells = {setting: 30.0 - gain(setting) for setting in self_training.TABLE}
    return cells | {setting.base: 30.0 for setting in self_training.TABLE}


def test_rows_are_those_of_the_notebook_in_order():
    assert [check.claim.id for check in CHECKS] == [105, 107, 108, 109, 115, *range(117, 123), 133, 135]


@pytest.mark.parametrize("row", TRAINED)
def test_claims_hold_in_their_world(row):
    assert BY_ROW[row].judge(training()).verdict == "holds"


@pytest.mark.false_world(105, 107, 108, 109, 115, 117, 118, 119, 120, 121, 122, 135)
@pytest.mark.parametrize("row", TRAINED)
def test_claims_do_not_hold_without_effect(row):
    assert BY_ROW[row].judge(training(effect=0.0, random_harm=0.5)).verdict in ("refuted", "inconclusive")


# A spread has no sign, see below.
@pytest.mark.false_world(105, 107, 108, 109, 115, 117, 119, 120, 121, 122, 135)
@pytest.mark.parametrize("row", [row for row in TRAINED if row != 118])
def test_claims_do_not_hold_with_reversed_effect(row):
    # Where cells are printed our runs alone cannot refute; pools that never pay say nothing of the relevance they need.
    expected = "inconclusive" if row in (*PRINTED, 121) else "refuted"
    assert BY_ROW[row].judge(training(effect=-1.0)).verdict == expected


@pytest.mark.false_world(107, 108, 117, 118, 119)
@pytest.mark.parametrize("row", PRINTED)
def test_printed_cells_refute(row):
    table = printed(lambda setting: -claimed_gain(setting) * (10.0 if setting.ratio == 10 else 1.0))
    found = replace(training(), printed=table, sweep={0.5: 8.0, 1.0: 7.0, 5.0: 6.0, 10.0: 5.0})
    assert BY_ROW[row].judge(found).verdict == "refuted"


@pytest.mark.false_world(119)
@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((3.4, 4.8, 6.8, 8.3), "holds"),
        ((3.4, 3.6, 4.0, 4.6), "inconclusive"),
        ((0.4, 0.9, 4.8, 9.9), "inconclusive"),
        ((-1.2, 0.9, 4.8, 9.9), "refuted"),
        ((5.0, 4.8, 4.0, 3.4), "refuted"),
    ],
)
def test_printed_amounts_must_bring_gain_and_less_and_less_of_it(gains, verdict):
    sweep = dict(zip(self_training.AMOUNTS, gains, strict=True))
    assert BY_ROW[119].judge(replace(training(), sweep=sweep)).verdict == verdict


def test_the_printed_table_is_complete():
    table = self_training.printed_errors()
    assert len(table) == 30
    assert table[Setting().base] == 25.19
    assert table[Setting("LDAM-DRW", 10.0, pool_ratio=5.0)] == 8.24
    gains = [table[setting.base] - table[setting] for setting in self_training.TABLE]
    assert min(gains) > 2.5


@pytest.mark.false_world(118)
def test_a_spread_that_grows_with_balance_is_refuted():
    def reversed_spread(setting):
        return claimed_gain(setting) * (0.1 if setting.ratio == 100 else 3.0 if setting.ratio == 10 else 1.0)

    assert BY_ROW[118].judge(training(gain=reversed_spread)).verdict == "inconclusive"
    table = printed(reversed_spread)
    assert BY_ROW[118].judge(replace(training(), printed=table)).verdict == "refuted"


@pytest.mark.false_world(118)
def test_our_half_of_the_spread_is_that_over_the_same_pools():
    """Labels at both ratios react alike to a pool; the table's pools still reach further at ratio 100."""

    def alike(setting):
        return 6.0 - 2.2 * np.log10(setting.pool_ratio)

    found = training(gain=alike)
    assert (
        self_training.spread(found.runs, "CE", 100.0).mean() > self_training.spread(found.runs, "CE", 10.0).mean() + 2
    )
    assert BY_ROW[118].judge(found).verdict == "inconclusive"
    assert "ours, inconclusive" in BY_ROW[118].judge(found).threshold


@pytest.mark.false_world(118)
@pytest.mark.parametrize("loss", runs.LOSSES)
@pytest.mark.parametrize(
    ("at_100", "at_10", "verdict"),
    [
        (-3.0, 0.5, "holds"),
        (3.0, -0.5, "holds"),
        (-0.5, 3.0, "refuted"),
        (0.5, -3.0, "refuted"),
    ],
)
def test_reactions_of_either_sign_are_compared_in_size(loss, at_100, at_10, verdict):
    """Points by which a pool of ratio 20 is worse than a balanced one, for one loss; less than none is better."""

    def reacting(setting):
        points = {100.0: at_100, 10.0: at_10}.get(setting.ratio, 0.0)
        return -points * np.log10(setting.pool_ratio) / np.log10(20.0)

    found = training(gain=lambda s: reacting(s) if s.loss == loss else claimed_gain(s))
    assert f"ours, {verdict}" in BY_ROW[118].judge(found).threshold
    size = self_training.excess_reaction(found.runs, loss)
    assert size.mean() == pytest.approx(abs(at_100) - abs(at_10), abs=0.15)


@pytest.mark.false_world(118)
def test_noise_of_single_seeds_is_no_reaction():
    """Neither labelled set reacts in the mean, and the one at 100 is noisier; the mean of sizes would differ."""
    found, noise = training(), np.random.default_rng(5).normal(size=SEEDS)
    noise = (noise - noise.mean())[:, None] / 100
    for setting in [each for each in found.runs.recall if each.pool_ratio == 20.0]:
        balanced = found.runs.recall[replace(setting, pool_ratio=1.0)]
        found.runs.recall[setting] = balanced + noise * (3.0 if setting.ratio == 100.0 else 0.1) + 1e-5
    sizes = [np.abs(self_training.reaction(found.runs, "CE", ratio)) for ratio in (100.0, 10.0)]
    assert self_training.positive_effect(sizes[0] - sizes[1]).verdict == "holds"
    assert "ours, inconclusive" in BY_ROW[118].judge(found).threshold


@pytest.mark.false_world(117)
@pytest.mark.parametrize("loss", runs.LOSSES)
def test_a_pool_between_those_of_the_table_that_is_better_than_the_balanced_one_is_seen(loss):
    def peaked(setting):
        between = (setting.loss, setting.ratio, setting.pool_ratio) == (loss, 100.0, 20.0)
        return claimed_gain(replace(setting, pool_ratio=1.0)) + 2.0 if between else claimed_gain(setting)

    found = training(gain=peaked)
    assert BY_ROW[117].judge(found).verdict == "inconclusive"
    assert f"ours, refuted: mean > 0 points (error at pool ratio 20 less at 1, {loss}, rho = 100)" in (
        BY_ROW[117].judge(found).threshold
    )
    del found.runs.recall[Setting(loss, 100.0, pool_ratio=20.0)]
    assert BY_ROW[117].judge(found).verdict == "holds"


@pytest.mark.parametrize(("points", "verdict"), [(1.4, "inconclusive"), (2.0, "refuted"), (-0.1, "holds")])
def test_a_printed_difference_that_two_runs_of_one_cell_have_decides_nothing(points, verdict):
    """Row 117: the balanced pool of one loss at one ratio is worse than all others. Row 118: a spread is larger."""
    table = printed()
    table[Setting("LDAM-DRW", 10.0, pool_ratio=1.0)] = table[Setting("LDAM-DRW", 10.0, pool_ratio=5.0)] + points
    assert BY_ROW[117].judge(replace(training(), printed=table)).verdict == verdict
    table, cells = printed(), runs.table_settings(("LDAM-DRW",), (10.0,))
    wide = np.ptp([table[setting] for setting in runs.table_settings(("LDAM-DRW",), (100.0,))])
    rising = dict(zip(cells, (20.0, 20.0, 20.0, 20.0 + wide + points), strict=True))
    expected = {1.4: "inconclusive", 2.0: "refuted", -0.1: "inconclusive"}[points]
    assert BY_ROW[118].judge(replace(training(), printed=table | rising)).verdict == expected


@pytest.mark.false_world(117)
@pytest.mark.parametrize("loss", runs.LOSSES)
def test_one_loss_with_which_balance_does_not_pay_is_enough(loss):
    def other(setting):
        return -claimed_gain(setting) if setting.loss == loss else claimed_gain(setting)

    assert BY_ROW[117].judge(training(gain=other)).verdict == "inconclusive"
    assert BY_ROW[117].judge(replace(training(), printed=printed(other))).verdict == "refuted"


@pytest.mark.parametrize(
    ("row", "effect"),
    [(105, 1), (107, 1), (107, -1), (108, 1), (108, -1), (120, 1), (120, -1), (121, 1), (121, -1), (122, 1)],
)
def test_a_verdict_that_longer_training_reverses_is_inconclusive(row, effect):
    found = BY_ROW[row].judge(training(effect=effect, long_effect=-effect))
    assert found.verdict == "inconclusive"
    assert "at twice the updates" in found.threshold


def test_a_verdict_without_longer_training_stands():
    found = training()
    for setting in [each for each in found.runs.recall if each.length > 1]:
        del found.runs.recall[setting]
    for row in (105, 107, 108, 120, 121, 122):
        assert BY_ROW[row].judge(found).verdict == "holds"


@pytest.mark.false_world(107, 108)
def test_one_cell_without_gain_is_enough():
    def one_loses(setting):
        return -2.0 if setting == self_training.TABLE[17] else claimed_gain(setting)

    for row in (107, 108):
        assert BY_ROW[row].judge(training(gain=one_loses)).verdict == "inconclusive"
        assert BY_ROW[row].judge(replace(training(), printed=printed(one_loses))).verdict == "refuted"
    # All gain, but cross entropy less than 3 points.
    assert BY_ROW[107].judge(training(effect=0.6)).verdict == "inconclusive"
    table = printed(lambda setting: 0.6 * claimed_gain(setting))
    assert BY_ROW[107].judge(replace(training(), printed=table)).verdict == "refuted"


@pytest.mark.false_world(115)
def test_a_changed_model_at_omega_zero_is_refuted():
    found = training()
    found.runs.recall[Setting(omega=0.0)] = found.runs.recall[DEFAULT.base] + 1e-3
    assert BY_ROW[115].judge(found).verdict == "refuted"


@pytest.mark.false_world(119)
def test_gain_in_proportion_to_the_pool_does_not_diminish():
    def proportional(setting):
        return 0.8 * setting.amount

    assert BY_ROW[119].judge(training(gain=proportional)).verdict != "holds"


@pytest.mark.false_world(120)
def test_gains_at_the_head_are_refused():
    assert BY_ROW[120].judge(training(swap_thirds=True)).verdict == "refuted"


@pytest.mark.false_world(121)
@pytest.mark.parametrize("where", [0.1, 0.95])
def test_a_crossing_elsewhere_is_refuted(where):
    def shifted(setting):
        return 10 * (setting.relevance - where)

    found = BY_ROW[121].judge(training(gain=shifted))
    assert found.verdict == "refuted"
    assert found.statistic == pytest.approx(where, abs=0.03)


@pytest.mark.false_world(121)
@pytest.mark.parametrize(("where", "verdict"), [(0.6, "holds"), (0.2, "refuted"), (1.5, "inconclusive")])
def test_a_loss_whose_relevant_pool_does_not_pay_says_nothing_of_the_relevance_it_needs(where, verdict):
    """Cross entropy never gains; the row is judged with LDAM-DRW, unless that does not gain either."""

    def only_one_pays(setting):
        return 10 * (setting.relevance - where) if setting.loss == "LDAM-DRW" else -2.0

    found = training(gain=only_one_pays)
    assert BY_ROW[121].judge(found).verdict == verdict
    alone = self_training.judge_relevance(found, "CE")
    assert alone.verdict == "inconclusive"
    assert "a fully relevant pool does not gain" in alone.threshold


@pytest.mark.false_world(122)
@pytest.mark.parametrize("where", [5.0, 120.0])
def test_a_gain_that_ends_elsewhere_is_refuted(where):
    def shifted(setting):
        return 5 * np.log(where / setting.pool_ratio)

    assert BY_ROW[122].judge(training(gain=shifted)).verdict == "refuted"


def test_pools_in_between_sharpen_where_a_gain_ends():
    def bent(setting):
        """Falls to zero at a ratio of 5, and further at once."""
        return 2.0 if setting.pool_ratio < 5 else 0.0 if setting.pool_ratio == 5 else -4.0

    found = training(gain=bent)
    assert BY_ROW[122].judge(found).statistic == pytest.approx(5.0, abs=0.2)
    for ratio in self_training.BETWEEN_RATIOS:
        del found.runs.recall[Setting(relevance=0.6, pool_ratio=ratio)]
    assert BY_ROW[122].judge(found).statistic == pytest.approx(25 ** (1 / 3), abs=0.2)


def test_the_printed_sweep_is_over_the_cell_without_a_pool():
    sweep = self_training.printed_sweep()
    assert list(sweep) == list(self_training.AMOUNTS)
    assert sweep[5.0] == pytest.approx(25.19 - 18.36)
    table = self_training.printed_errors()
    assert sweep[5.0] == pytest.approx(table[DEFAULT.base] - table[DEFAULT])


def test_crossing_reads_from_the_right():
    x = np.array([0.0, 1.0, 2.0, 3.0])
    assert self_training.crossing(x, np.array([-1.0, 1.0, -1.0, 3.0])) == pytest.approx(2.25)
    assert np.isnan(self_training.crossing(x, np.array([1.0, 1.0, 1.0, 1.0])))
    assert np.isnan(self_training.crossing(x, np.array([1.0, 1.0, 1.0, -1.0])))


def test_random_pools_near_one_half_decide_nothing():
    assert BY_ROW[135].judge(training(random_harm=0.5)).verdict == "inconclusive"
    assert BY_ROW[135].judge(training(random_harm=0.1)).verdict == "refuted"


@pytest.mark.false_world(133)
def test_audit_holds_and_finds_a_method_that_reads_classes():
    assert BY_ROW[133].run("quick", rng()).verdict == "holds"

    def peeking(pool):
        return pool.inputs + 0.1 * pool.targets[:, None].astype(np.float32)

    changed = self_training.measure_audit("quick", rng(), label=peeking)
    assert BY_ROW[133].judge(changed).verdict == "refuted"


@pytest.mark.false_world(105, 117)
def test_an_end_to_end_world_without_signal_gains_nothing():
    """Pools of noise in place of samples, through training and judges."""

    def noise_pool(setting, seed):
        from lt_lib.data.pools import Pool

        real = runs.unlabelled_pool(setting, seed)
        drawn = np.random.default_rng(seed).normal(scale=1.5, size=real.inputs.shape).astype(np.float32)
        return Pool(drawn, real.targets, real.num_classes, "noise")

    cells = [Setting(length=0.5), *runs.table_settings(("CE",), (50.0,))]
    cells = [Setting(pool_ratio=s.pool_ratio, length=0.5) for s in cells]
    found = runs.run_settings(list(dict.fromkeys(cells)), seeds=range(4), pool_of=noise_pool)
    moved = Runs({Setting(pool_ratio=s.pool_ratio, amount=s.amount): v for s, v in found.recall.items()})
    judged = Training(moved, printed(), SWEEP, np.full(4, 90.0))
    assert self_training.judge_value(judged).verdict == "refuted"
    slopes = self_training.log_slope(moved, runs.table_settings(("CE",), (50.0,)))
    assert abs(slopes.mean()) < 0.5


def test_stacked_loss_is_the_loss_of_every_member():
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(3, 7, CLASSES, dtype=torch.float64, generator=generator) * 2 - 1
    targets = torch.randint(CLASSES, (3, 7), generator=generator)
    sizes = [counts.exponential_counts(200, CLASSES, ratio) for ratio in (1.0, 10.0, 100.0)]
    stages = runs.losses_for("LDAM-DRW", sizes)
    assert len({id(stage) for stage in stages}) == 1
    for epoch in (0, runs.EPOCHS - 1):
        fast = stages[0](epoch)(logits, targets)
        for row, each in enumerate(sizes):
            margins = torch.from_numpy(counts.ldam_margins(each, runs.MAX_MARGIN))
            weight = None
            if epoch:
                scheme = "effective_number"
                weight = torch.from_numpy(
                    counts.class_weights(each, scheme, beta=runs.BETA, on_ineffective_beta="ignore")
                )
            naive = losses.ldam_loss(
                logits[row], targets[row], margins, scale=runs.SCALE, weight=weight, normalization="weights"
            )
            assert float(fast[row]) == pytest.approx(float(naive), rel=1e-12)


def test_worlds_are_what_the_settings_say():
    setting = Setting(ratio=10.0, pool_ratio=20.0, relevance=0.6, labelled=2.0)
    split, pool = runs.labelled_set(setting, 3), runs.unlabelled_pool(setting, 3)
    assert np.bincount(split.targets)[[0, 9]].tolist() == [200, 20]
    assert pool.relevance == pytest.approx(0.6, abs=0.01)
    assert len(pool) == pytest.approx(5 * len(split), abs=20)
    assert pool.class_counts[0] / pool.class_counts[9] == pytest.approx(20, rel=0.1)
    world = runs.toy_world()
    assert (world.num_classes, world.dim) == (20, 16)
    ten = type(world)(world.means[:10])
    assert ten.bayes_error(rng(), samples_per_class=2000)[0] == pytest.approx(0.05, abs=0.01)
    again = runs.unlabelled_pool(setting, 3)
    assert again.hash() == pool.hash() != runs.unlabelled_pool(setting, 4).hash()


NEVER = {105: "no clustering of the pool", 109: "no features", 135: "no pools drawn at random"}


def test_missing_rows_are_not_judged():
    few = Training(Runs({DEFAULT: np.full((3, 10), 0.9)}), printed(), SWEEP, equal_updates=False)
    for row in TRAINED:
        assert BY_ROW[row].judge(None).verdict == BY_ROW[row].judge(few).verdict == "not judged"
        if row not in NEVER:
            assert BY_ROW[row].judge(None).why.endswith("; there are fewer")
    assert "lacks CE, ratio 50, pool x 0.5 of ratio 50, relevance 1, omega 1" in BY_ROW[119].judge(few).why


@pytest.mark.parametrize("row", NEVER)
def test_rows_that_no_measured_run_can_decide_do_not_ask_for_runs(row):
    few = Training(Runs({DEFAULT: np.full((3, 10), 0.9)}), printed(), SWEEP, equal_updates=False)
    for measured in (None, few, replace(training(), clustering=None, equal_updates=False)):
        found = BY_ROW[row].judge(measured)
        assert (found.verdict, found.why) == ("not judged", f"measured rows hold {NEVER[row]}")


@pytest.mark.parametrize(("low", "high", "sign"), [(0.4, 0.8, 1), (0.57, 0.8, 1), (0.7, 0.8, -1)])
def test_a_crossing_says_how_far_it_is_from_the_ends_of_its_range(low, high, sign):
    x = np.linspace(0, 1, 6)
    gains = 10 * (x - 0.6) + np.random.default_rng(0).normal(scale=0.5, size=(SEEDS, 1))
    found = self_training.judge_crossing(x, gains, low, high, "x")
    width = (found.high - found.low) / 2
    assert found.distance == pytest.approx(min(found.statistic - low, high - found.statistic) / width)
    assert np.sign(found.distance) == sign
    never = self_training.judge_crossing(x, np.ones_like(gains) + gains * 0.01, low, high, "x")
    assert np.isnan(never.distance)
    # A resample in ten without a crossing leaves the interval open, and nothing to measure a distance in.
    some = self_training.judge_crossing(x, np.where(np.arange(SEEDS)[:, None] < 4, gains, 10.0), low, high, "x")
    assert np.isnan(some.distance)
