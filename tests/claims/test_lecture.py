"""A lecture measures each thing once, judges from what it has measured, and shows figures under its own number."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lt_lib.claims import Check, Claim, at_least
from lt_lib.claims.lecture import Lecture, intervals


class Counted:
    """A measurement that counts how often it is made."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __call__(self, profile: str, rng: np.random.Generator) -> dict[str, float]:
        self.calls.append((profile, int(rng.integers(1000))))
        return {"a": 1.0, "b": 3.0}


@pytest.fixture
def measure() -> Counted:
    return Counted()


@pytest.fixture
def checks(measure) -> list[Check]:
    def check(row, key, profiles):
        claim = Claim(row, "S2 L1", "E", f"statement {row}", "at least 2")
        return Check(claim, measure, lambda found: at_least(found[key], 2.0), profiles)

    return [check(7, "b", ("quick",)), check(3, "a", ("quick", "small"))]


def test_a_measurement_behind_two_rows_is_made_once(measure, checks):
    lecture = Lecture("050", checks, profile="quick", seed=5)
    assert lecture.measure(3) is lecture.measure(7)
    assert lecture.judge(7).verdict == "holds"
    assert lecture.judge(3).verdict == "refuted"
    assert measure.calls == [("quick", int(np.random.default_rng(5).integers(1000)))]


def test_what_a_profile_does_not_measure_is_not_judged(measure, checks):
    lecture = Lecture("050", checks[:1], profile="small", seed=0)
    assert lecture.measure(7) is None
    judged = lecture.judge(7)
    assert (judged.verdict, judged.why) == ("not judged", "needs profile quick, this is small")
    assert measure.calls == []


def test_measurements_known_from_elsewhere_are_used(measure, checks):
    lecture = Lecture("050", checks, profile="quick", seed=0)
    found = {"a": 9.0, "b": 0.0}
    assert lecture.know(measure, found) is found
    assert (lecture.judge(3).statistic, lecture.judge(7).verdict) == (9.0, "refuted")
    assert measure.calls == []
    with pytest.raises(ValueError, match="`measure` must belong to a check of notebook 050, got <built-in"):
        lecture.know(len, found)


def test_known_measurements_do_not_bring_a_verdict_to_a_profile_that_has_none(measure, checks):
    lecture = Lecture("050", checks, profile="paper", seed=0)
    lecture.know(measure, {"a": 9.0, "b": 9.0})
    assert {lecture.judge(row).verdict for row in (3, 7)} == {"not judged"}


def test_the_table_begins_with_what_surprises(checks):
    lines = Lecture("050", checks, profile="quick", seed=0).verdicts().splitlines()
    rows = [line.split()[0] for line in lines if line.split()[0].isdigit()]
    assert rows == ["3", "7"]
    assert "refuted" in lines[1]


def test_the_head_names_what_is_judged(checks):
    assert str(Lecture("050", checks, profile="quick", seed=4)) == "notebook 050, profile quick, seed 4, claims 3, 7"


@pytest.mark.parametrize("call", ["measure", "judge"])
def test_a_row_of_another_lecture_is_refused(checks, call):
    with pytest.raises(ValueError, match=r"`row` must be one of \[3, 7\], got 8"):
        getattr(Lecture("050", checks, profile="quick", seed=0), call)(8)


def test_a_row_is_judged_by_one_check(checks):
    with pytest.raises(ValueError, match=r"`checks` must judge each row once, got rows \[7, 3, 7\]"):
        Lecture("050", [*checks, checks[0]], profile="quick", seed=0)


def test_figures_carry_the_number_and_the_profile(checks, tmp_path):
    lecture = Lecture("050", checks, profile="small", seed=0, out_dir=tmp_path)
    data = pd.DataFrame({"x": [1], "y": [2]})
    lecture.show(plt.figure(), "points", data, "A point.", seeds=[3])
    lecture.show(plt.figure(), "toy", data, "A toy.", profile="quick")
    written = {path.stem: path.read_text() for path in tmp_path.glob("*.csv")}
    assert sorted(written) == ["n050_points", "n050_toy"]
    for name, lines in {
        "points": ["notebook: 050", "profile: small", "seeds: 3"],
        "toy": ["notebook: 050", "profile: quick"],
    }.items():
        head = written[f"n050_{name}"].splitlines()
        assert {f"# {line}" for line in lines} <= set(head)


def test_intervals_are_those_of_scipy_point_by_point():
    values = np.random.default_rng(0).normal(5, 2, (7, 3))
    values[2, 1] = np.nan
    found = intervals(values, pd.Index([10, 20, 30], name="n"))
    assert (found.index.name, list(found.index)) == ("n", [10, 20, 30])
    for row, column in zip(found.itertuples(index=False), values.T, strict=True):
        known = column[~np.isnan(column)]
        low, high = stats.t.interval(0.95, len(known) - 1, known.mean(), stats.sem(known))
        np.testing.assert_allclose(row, [known.mean(), low, high])
    narrow = intervals(values, level=0.95)
    assert (narrow.low.to_numpy() > found.low.to_numpy()).all()
    assert list(narrow.index) == [0, 1, 2]


@pytest.mark.parametrize(("values", "message"), [([1.0, 2.0], "`values` must have shape"), ([[1.0]], "`differences`")])
def test_intervals_need_a_table_of_at_least_two_seeds(values, message):
    with pytest.raises(ValueError, match=message):
        intervals(values)
