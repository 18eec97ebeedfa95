import pytest

from lt_lib.training import change_epoch, deferred, progress_learning_rate, step_learning_rate


def rates(epochs, **options):
    rate = step_learning_rate(epochs, 0.1, **options)
    return [rate(epoch) for epoch in range(epochs)]


def test_the_rates_of_the_200_epoch_recipe():
    expected = [0.02, 0.04, 0.06, 0.08, 0.1] + [0.1] * 155 + [1e-3] * 20 + [1e-5] * 20
    assert rates(200) == pytest.approx(expected, rel=1e-12)


def test_the_rates_scaled_to_40_epochs():
    assert rates(40) == pytest.approx([0.1] * 32 + [1e-3] * 4 + [1e-5] * 4, rel=1e-12)
    assert rates(80)[:3] == pytest.approx([0.05, 0.1, 0.1], rel=1e-12)


def test_every_option_changes_the_rates():
    assert rates(10, warmup=0.3)[:4] == pytest.approx([0.1 / 3, 0.2 / 3, 0.1, 0.1])
    assert rates(10, warmup=0)[0] == 0.1
    assert rates(10, milestones=(0.5,)) == pytest.approx([0.1] * 5 + [1e-3] * 5)
    assert rates(10, decay=0.5)[-1] == pytest.approx(0.025)
    assert step_learning_rate(10, 0.3)(3) == 0.3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"base": 0.0}, "`base` must be a number above 0, got 0.0"),
        ({"decay": 0.0}, r"`decay` must be in \(0, 1\], got 0.0"),
        ({"decay": 1.5}, r"`decay` must be in \(0, 1\], got 1.5"),
        ({"milestones": (0.9, 0.8)}, "`milestones` must increase"),
        ({"milestones": (1.2,)}, r"`milestones` must be a finite number in \[0.0, 1.0\], got 1.2"),
        ({"warmup": -0.1}, r"`warmup` must be a finite number in \[0.0, 1.0\], got -0.1"),
        ({"epochs": 0}, "`epochs` must be an integer of at least 1, got 0"),
    ],
)
def test_wrong_numbers_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        step_learning_rate(**{"epochs": 10, "base": 0.1, **change})


@pytest.mark.parametrize(("epochs", "change"), [(200, 160), (40, 32), (5, 4), (1, 1)])
def test_deferral_begins_at_its_epoch_and_not_one_off(epochs, change):
    stage = deferred(epochs, 0.8, "before", "after")
    assert [stage(epoch) for epoch in range(epochs)] == ["before"] * change + ["after"] * (epochs - change)


def test_deferral_reaches_both_ends():
    assert deferred(10, 0, "before", "after")(0) == "after"
    assert deferred(10, 1, "before", "after")(9) == "before"


def test_change_epoch_checks_its_fraction():
    assert change_epoch(200, 0.8) == 160
    with pytest.raises(ValueError, match=r"`fraction` must be a finite number in \[0.0, 1.0\], got 1.01"):
        change_epoch(10, 1.01)
    with pytest.raises(ValueError, match=r"`start` must be a finite number in \[0.0, 1.0\], got -1"):
        deferred(10, -1, "before", "after")


@pytest.mark.parametrize("schedule", [step_learning_rate, progress_learning_rate])
@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        *((name, float("nan"), ValueError) for name in ("base", "warmup", "decay")),
        *((name, "0.5", TypeError) for name in ("epochs", "base", "warmup", "decay")),
        *((name, True, TypeError) for name in ("epochs", "base", "warmup", "decay")),
        ("base", float("inf"), ValueError),
        ("epochs", 10.5, TypeError),
        ("milestones", (0.5, float("nan")), ValueError),
        ("milestones", (float("nan"), 0.5), ValueError),
    ],
)
def test_what_is_no_number_in_range_is_refused_by_name(schedule, name, value, error):
    with pytest.raises(error, match=f"`{name}` must"):
        schedule(**{"epochs": 10, "base": 0.1} | {name: value})


@pytest.mark.parametrize(
    ("arguments", "error", "name"),
    [
        ((10, float("nan")), ValueError, "fraction"),
        ((10, "half"), TypeError, "fraction"),
        ((float("nan"), 0.5), TypeError, "epochs"),
        ((10.0, 0.5), TypeError, "epochs"),
    ],
)
def test_a_change_is_checked_by_type(arguments, error, name):
    with pytest.raises(error, match=f"`{name}` must be"):
        change_epoch(*arguments)


def test_the_rate_of_a_step_follows_goyal_et_al():
    rate = progress_learning_rate(90, 1.6)
    assert [rate(progress) for progress in (0, 1, 4.5, 5)] == pytest.approx([0, 0.32, 1.44, 1.6])
    assert [rate(progress) for progress in (29.9, 30, 59.9, 60, 79.9, 80, 89.9)] == pytest.approx(
        [1.6, 0.16, 0.16, 0.016, 0.016, 0.0016, 0.0016]
    )
    short = progress_learning_rate(9, 1.0, warmup=1 / 9, milestones=(1 / 3, 2 / 3), decay=0.5)
    assert [short(progress) for progress in (0.25, 1, 3, 6, 8)] == pytest.approx([0.25, 1, 0.5, 0.25, 0.25])


def test_the_rate_of_a_step_may_be_half_a_cosine():
    rate = progress_learning_rate(90, 0.2, warmup=0, milestones=None)
    assert [rate(progress) for progress in (0, 30, 45, 60, 90)] == pytest.approx([0.2, 0.15, 0.1, 0.05, 0], abs=1e-12)
    assert progress_learning_rate(90, 0.2, warmup=0.1, milestones=None)(4.5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": 0}, "`base` must be a number above 0, got 0"),
        ({"decay": 0}, r"`decay` must be in \(0, 1\], got 0"),
        ({"milestones": (0.5, 0.2)}, r"`milestones` must increase, got \(0.5, 0.2\)"),
        ({"warmup": 2}, r"`warmup` must be a finite number in \[0.0, 1.0\], got 2"),
        ({"epochs": 0}, "`epochs` must be an integer of at least 1, got 0"),
    ],
)
def test_the_rate_of_a_step_is_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        progress_learning_rate(**{"epochs": 10, "base": 1.0} | changes)
