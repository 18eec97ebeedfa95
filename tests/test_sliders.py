"""Sliders: driven by program inside a pretended kernel, and the one drawing that is left without one."""

import sys
from types import SimpleNamespace

import IPython
import IPython.display
import ipywidgets
import pytest

from lt_lib import plotting


@pytest.fixture
def kernel(monkeypatch):
    """What is displayed while IPython seems to run a kernel."""
    shown = []
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setattr(IPython.display, "display", shown.append)
    return shown


@pytest.fixture
def calls():
    return []


@pytest.fixture
def draw(calls):
    return lambda **values: calls.append(values)


def test_controls_call_the_drawing_at_once_and_after_every_change(kernel, draw, calls):
    controls = plotting.explore(draw, delta=(0.0, 1.0, 0.05, 0.2), n=(1, 9, 2, 3), world=["near", "far"])
    assert calls == [{"delta": 0.2, "n": 3, "world": "near"}]
    controls["delta"].value = 0.75
    controls["n"].value = 5
    controls["world"].value = "far"
    assert calls[1:] == [
        {"delta": 0.75, "n": 3, "world": "near"},
        {"delta": 0.75, "n": 5, "world": "near"},
        {"delta": 0.75, "n": 5, "world": "far"},
    ]
    controls["delta"].value = 0.75
    assert len(calls) == 4


def test_controls_have_the_ranges_asked_for_and_are_shown_once(kernel, draw):
    controls = plotting.explore(draw, delta=(0.0, 1.0, 0.05, 0.2), n=(1, 9, 2, 3), world=["near", "far"])
    delta, n, world = controls.values()
    assert isinstance(delta, ipywidgets.FloatSlider)
    assert (delta.min, delta.max, delta.step, delta.readout_format, delta.description) == (0, 1, 0.05, ".2f", "delta")
    assert isinstance(n, ipywidgets.IntSlider)
    assert (n.min, n.max, n.step) == (1, 9, 2)
    assert isinstance(world, ipywidgets.Dropdown)
    assert world.options == ("near", "far")
    assert not delta.continuous_update
    (panel,) = kernel
    assert panel.children[:3] == (delta, n, world)
    assert isinstance(panel.children[3], ipywidgets.Output)


def test_values_beyond_the_ends_are_clipped(kernel, draw, calls):
    plotting.explore(draw, n=(1, 9, 2, 3))["n"].value = 100
    assert calls[-1] == {"n": 9}


def test_without_a_kernel_it_says_so_and_draws_once(draw, calls, capsys):
    assert plotting.explore(draw, delta=(0.0, 1.0, 0.05, 0.2), world=["near", "far"]) == {}
    assert calls == [{"delta": 0.2, "world": "near"}]
    assert capsys.readouterr().out == "no live front end: drawn once with delta = 0.2, world = near\n"


def test_in_a_terminal_it_says_so_and_draws_once(monkeypatch, draw, calls, capsys):
    monkeypatch.setattr(IPython, "get_ipython", lambda: SimpleNamespace())
    assert plotting.explore(draw, n=(1, 9, 2, 3)) == {}
    assert (len(calls), capsys.readouterr().out) == (1, "no live front end: drawn once with n = 3\n")


def test_without_ipywidgets_it_says_so_and_draws_once(kernel, monkeypatch, draw, calls, capsys):
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert plotting.explore(draw, n=(1, 9, 2, 3)) == {}
    assert calls == [{"n": 3}]
    assert capsys.readouterr().out == "ipywidgets is not installed: drawn once with n = 3\n"
    assert kernel == []


@pytest.mark.parametrize(
    ("choice", "error", "message"),
    [
        ("abc", TypeError, r"`n` must be \(low, high, step, start\) or a list of choices, got 'abc'"),
        ([], ValueError, "`n` must offer at least one choice"),
        ((1, 2, 3), ValueError, "`n` must be four finite numbers"),
        ((1, 2, "x", 1), ValueError, "`n` must be four finite numbers"),
        ((0.0, float("inf"), 0.1, 1.0), ValueError, "`n` must be four finite numbers"),
        ((2, 1, 1, 1), ValueError, "`n` must have low < high"),
        ((1, 2, 0, 1), ValueError, "`n` must have low < high"),
        ((1, 2, 1, 3), ValueError, "`n` must have low < high"),
    ],
)
def test_ranges_that_are_none_are_refused_before_anything_is_drawn(choice, error, message, draw, calls):
    with pytest.raises(error, match=message):
        plotting.explore(draw, n=choice)
    assert calls == []


def test_nothing_to_draw_or_to_vary_is_refused(draw):
    with pytest.raises(TypeError, match="`draw` must be callable, got 3"):
        plotting.explore(3, n=[1])
    with pytest.raises(ValueError, match="`ranges` must name at least one argument"):
        plotting.explore(draw)


def test_the_module_does_not_bring_ipywidgets_along(repository):
    import subprocess

    code = "import sys, lt_lib.plotting; print([m for m in ('ipywidgets', 'IPython') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
