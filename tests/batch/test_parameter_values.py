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


def test_comments_of_texts_are_no_limits():
    assert parameter_problem(parameter('x: str = "a"  # a text, >= 1'), "b") == ""


def test_values_that_mean_the_same_are_one():
    assert type(resolve_value(parameter("x: float = 1.0  # x"), 100)) is float
    assert type(resolve_value(parameter("x: int | float = 1.0  # x"), 100)) is int
    assert type(resolve_value(parameter("x: bool = True  # x"), True)) is bool
    assert resolve_value(parameter('x: str = ""  # x'), "e\u0301") == "\u00e9"
