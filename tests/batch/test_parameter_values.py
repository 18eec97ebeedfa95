"""Values for parameters: limits stated in comments, and one form for values that mean the same."""

import pytest

from lt_lib.batch.parameters import parameter_problem, read_parameters, resolve_value


def parameter(line):
    return read_parameters(line)[0]


@pytest.mark.parametrize(
    ("line", "good", "bad", "message"),
    [
        ("x: float = 1.0  # ratio, >= 1", [1, 1.0, 7.5], [0.99, -1], "`x` must be >= 1, got"),
        ("x: float = 1.0  # rate, > 0", [1e-9], [0, 0.0, -1], "`x` must be > 0, got"),
        ("x: int = 1  # fewer, < 3 of them", [2, -5], [3, 4], "`x` must be < 3, got"),
        ("x: float = 0.5  # share, in [0, 1]", [0, 1, 0.3], [-0.1, 1.1], "`x` must be [<>]= [01], got"),
        ("x: float = 0.5  # between, in [-1e-3, 2.5]", [-1e-3, 2.5], [-0.002, 2.6], "`x` must be"),
        ("x: float = 0.5  # not none, in (0, 1]", [1e-9, 1], [0, 1.1], "`x` must be (>|<=) [01], got"),
        ("x: float = 0.5  # not all, in [0, 1)", [0, 0.999], [1.0, -0.1], "`x` must be (>=|<) [01], got"),
        ("x: float = 0.5  # anything", [-1e9], [float("nan"), float("inf")], "`x` must be finite, got"),
        ("x: float | None = None  # >= 0", [None, 0.0], [-1.0], "`x` must be >= 0"),
        ("x: int = 1  # whole", [3], [1.5, True, "1"], "`x` must be int, got"),
    ],
)
def test_limits_in_comments_hold(line, good, bad, message):
    assert [parameter_problem(parameter(line), value) for value in good] == [""] * len(good)
    for value in bad:
        with pytest.raises(AssertionError, match=message):
            raise AssertionError(parameter_problem(parameter(line), value))


@pytest.mark.parametrize(
    ("comment", "choices"),
    [
        ("a, b or c", ("a", "b", "c")),
        ("a or b_2: what each means", ("a", "b_2")),
        ("a, b, or c; a is usual", ("a", "b", "c")),
        ("a, b or c (see there)", ("a", "b", "c")),
        ("a or b are fine", ()),
        ("see there: a, b or c", ()),
        ("b, c or d", ()),  # the default is none of them, so this is no list of what may be
        ("a, or the name of a file", ()),
        ("A-DEPTH, a or b", ()),
    ],
)
def test_a_list_at_the_beginning_of_a_comment_holds_all_choices(comment, choices):
    text = parameter(f'x: str = "a"  # {comment}')
    assert text.choices == choices
    assert all(parameter_problem(text, choice) == "" for choice in choices)
    expected = f"`x` must be one of {', '.join(choices)}, got 'z'." if choices else ""
    assert parameter_problem(text, "z") == expected


def test_a_list_restricts_texts_only():
    assert parameter("x: int = 1  # 1, 2 or 3").choices == ()
    assert parameter_problem(parameter('x: str | None = "a"  # a or b'), None) == ""


def test_comments_of_texts_are_no_limits():
    assert parameter_problem(parameter('x: str = "a"  # a text, >= 1'), "b") == ""


def test_values_that_mean_the_same_are_one():
    assert type(resolve_value(parameter("x: float = 1.0  # x"), 100)) is float
    assert type(resolve_value(parameter("x: int | float = 1.0  # x"), 100)) is int
    assert type(resolve_value(parameter("x: bool = True  # x"), True)) is bool
    assert resolve_value(parameter('x: str = ""  # x'), "e\u0301") == "\u00e9"
