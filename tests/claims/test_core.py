import numpy as np
import pytest

from lt_lib.claims import Check, Claim, Judgement, at_least, positive_effect, verdict_table, worst


def claim(number=1, **changes):
    values = {"id": number, "source": "S9 L1", "kind": "E", "statement": f"statement {number}", "rule": "the rule"}
    return Claim(**(values | changes))


def test_a_check_measures_and_then_judges():
    seen = []

    def measure(profile, rng):
        seen.append(profile)
        return rng.normal(3.0, 0.1, size=5)

    check = Check(claim(), measure, lambda values: at_least(values.mean(), 2.0))
    judged = check.run("quick", np.random.default_rng(0))
    assert (judged.verdict, seen) == ("holds", ["quick"])
    assert judged.statistic == pytest.approx(np.random.default_rng(0).normal(3.0, 0.1, size=5).mean())


def test_a_check_is_not_judged_at_a_profile_it_does_not_fit():
    def measure(_profile, _rng):
        raise AssertionError("must not be measured")

    check = Check(claim(), measure, lambda values: at_least(values, 2.0), profiles=("small", "paper"))
    judged = check.run("quick", np.random.default_rng(0))
    assert judged.verdict == "not judged"
    assert judged.why == "needs profile small or paper, this is quick"


@pytest.mark.parametrize(("effect", "verdict"), [(0.05, "holds"), (0.0, "inconclusive"), (-0.05, "refuted")])
def test_a_false_world_does_not_hold_from_measurement_to_verdict(effect, verdict):
    check = Check(
        claim(),
        lambda _profile, rng: effect + rng.normal(0, 0.02, size=10),
        lambda differences: positive_effect(differences),
    )
    assert check.run("quick", np.random.default_rng(1)).verdict == verdict


def test_unknown_kinds_and_verdicts_are_refused():
    with pytest.raises(ValueError, match="`kind` must be one of T, E, D, Q, O, got 'X'"):
        claim(kind="X")
    with pytest.raises(ValueError, match="`verdict` must be one of holds, .* got 'true'"):
        Judgement("true")
    with pytest.raises(ValueError, match="`why` must say why nothing was judged"):
        Judgement("not judged")


def rows(table):
    return [line.split()[0] for line in table.splitlines()[1:] if line[:4].strip()]


def test_the_table_puts_surprises_first_and_then_follows_the_ledger():
    judged = [
        (claim(7), Judgement("holds", 1.0)),
        (claim(3), Judgement("not judged", why="no GPU")),
        (claim(9), Judgement("refuted", 1.0)),
        (claim(5), Judgement("inconclusive", 1.0)),
        (claim(2), Judgement("holds", 1.0)),
        (claim(4), Judgement("refuted", 1.0)),
    ]
    assert rows(verdict_table(judged)) == ["4", "9", "5", "2", "7", "3"]
    assert verdict_table(judged) == verdict_table(reversed(judged))


def test_the_table_shows_statistic_interval_threshold_and_reason():
    text = verdict_table(
        [
            (claim(1), Judgement("holds", 0.12345, 0.1, 0.15, "mean > 0")),
            (claim(2), Judgement("holds", -0.0000, threshold="value >= 0")),
            (claim(3), Judgement("refuted", 2.0, 1.5, float("inf"))),
            (claim(4), Judgement("not judged", why="needs profile paper")),
        ]
    )
    assert "0.123 [0.1, 0.15]" in text
    assert "mean > 0" in text
    assert "2 [1.5, ..]" in text
    assert "the rule" in text  # what the claim says, where the judgement has no threshold
    assert "needs profile paper" in text
    (line,) = [line for line in text.splitlines() if "statement 2" in line]
    assert " 0 " in line
    assert "-0" not in line


def test_long_statements_are_wrapped_and_no_line_has_trailing_spaces():
    long = claim(1, statement="word " * 60)
    text = verdict_table([(long, Judgement("holds", 1.0, threshold="threshold " * 20))], width=30)
    assert text.count("word") == 60
    assert text.count("threshold") == 20
    assert all(line == line.rstrip() for line in text.splitlines())
    assert all(len(line) <= 4 + 2 + 12 + 2 + 30 + 2 + 28 + 2 + 44 for line in text.splitlines())
    with pytest.raises(ValueError, match="`width` must be >= 20, got 5"):
        verdict_table([], width=5)


HOLDS, REFUTED = Judgement("holds", 1.0), Judgement("refuted", 2.0, threshold="own")
UNSURE, UNJUDGED = Judgement("inconclusive", 3.0), Judgement("not judged", why="reason")


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, UNSURE], UNSURE),
        ([UNJUDGED, UNSURE, HOLDS], UNJUDGED),
        ([HOLDS, UNJUDGED, REFUTED], REFUTED),
    ],
)
def test_the_worst_part_decides(parts, expected):
    # As text: from Python 3.13 on a judgement with a NaN equals no other, not even itself.
    assert repr(worst(parts)) == repr(expected)
    assert repr(worst(reversed(parts))) == repr(expected)


def test_the_worst_part_keeps_its_threshold_unless_given_one():
    assert worst([HOLDS, REFUTED]).threshold == "own"
    assert worst([HOLDS, REFUTED], "both").threshold == "both"
    with pytest.raises(ValueError, match="`judgements` must hold at least one part"):
        worst([])


def part(verdict, distance, name):
    return Judgement(verdict, 1.0, threshold=name, distance=distance)


@pytest.mark.parametrize("verdict", ["holds", "inconclusive", "refuted"])
def test_among_equal_verdicts_the_part_with_the_least_distance_decides(verdict):
    parts = [part(verdict, 3.0, "far"), part(verdict, -2.0, "near"), part(verdict, 0.5, "middle")]
    for order in (parts, parts[::-1], parts[1:] + parts[:1]):
        assert worst(order).threshold == "near"
    if verdict != "holds":
        assert worst([part("holds", -9.0, "of a better verdict"), *parts]).threshold == "near"


def test_parts_without_a_distance_keep_their_order_behind_those_with_one():
    nan = float("nan")
    assert worst([part("holds", nan, "first"), part("holds", nan, "second")]).threshold == "first"
    assert worst([part("holds", nan, "first"), part("holds", 7.0, "measured")]).threshold == "measured"
    assert worst([part("holds", nan, "first"), part("holds", float("inf"), "sure")]).threshold == "first"
