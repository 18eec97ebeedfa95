"""Sliders around a drawing function, for a live JupyterLab; elsewhere the drawing function is called once."""

import math
import sys
from collections.abc import Callable
from typing import Any

Range = tuple[float, float, float, float] | list[Any]


def explore(draw: Callable[..., object], /, **ranges: Range) -> dict[str, Any]:
    """Show one control per argument of ``draw`` and call it with their values, at once and after every change.

    Controls need ipywidgets and a kernel that a front end is connected to. Without ipywidgets, or outside a kernel, one
    printed line says so and ``draw`` is called once with the start values. A kernel cannot tell whether anybody is
    looking: a notebook that also runs unattended calls this function only if its parameter says so.

    Args:
        draw: Called with keywords only; what it prints and shows appears below the controls.
        **ranges: Argument of ``draw`` → ``(low, high, step, start)`` for a slider, of whole numbers if all four are, or
            a list of choices of which the first is the start.

    Returns:
        Argument → widget, whose ``value`` a program may set too; empty if there are none.

    Raises:
        TypeError: ``draw`` cannot be called, or a range is neither a tuple nor a list.
        ValueError: There is no range, a list is empty, or a tuple is not four numbers with ``low < high``, a positive
            step and a start between the ends.

    Examples:
        >>> explore(lambda delta, n: print(f"delta {delta}, n {n}"), delta=(0.0, 1.0, 0.1, 0.2), n=[10, 100])
        no live front end: drawn once with delta = 0.2, n = 10
        delta 0.2, n 10
        {}
    """
    if not callable(draw):
        raise TypeError(f"`draw` must be callable, got {draw!r}.")
    if not ranges:
        raise ValueError("`ranges` must name at least one argument of `draw`, got none.")
    starts = {name: _start(name, choice) for name, choice in ranges.items()}
    missing = _missing()
    if missing:
        print(f"{missing}: drawn once with {', '.join(f'{name} = {value}' for name, value in starts.items())}")
        draw(**starts)
        return {}
    import ipywidgets
    from IPython.display import display

    controls = {name: _control(name, choice) for name, choice in ranges.items()}
    display(ipywidgets.VBox([*controls.values(), ipywidgets.interactive_output(draw, controls)]))
    return controls


def _missing() -> str:
    """What stands in the way of controls, in words; empty if nothing."""
    # Only a running kernel has IPython loaded; a script must not pay for importing it.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None:
        return "no live front end"
    try:
        import ipywidgets  # noqa: F401
    except ImportError:
        return "ipywidgets is not installed"
    return ""


def _start(name: str, choice: Range) -> Any:
    """The start value of a range that has been checked."""
    if isinstance(choice, list):
        if not choice:
            raise ValueError(f"`{name}` must offer at least one choice, got an empty list.")
        return choice[0]
    if not isinstance(choice, tuple):
        raise TypeError(f"`{name}` must be (low, high, step, start) or a list of choices, got {choice!r}.")
    if len(choice) != 4 or not all(_is_number(value) for value in choice):
        raise ValueError(f"`{name}` must be four finite numbers (low, high, step, start), got {choice!r}.")
    low, high, step, start = choice
    if not (low < high and step > 0 and low <= start <= high):
        raise ValueError(f"`{name}` must have low < high, step > 0 and start between them, got {choice!r}.")
    return start


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _control(name: str, choice: Range) -> Any:
    import ipywidgets

    # Without continuous updates: one drawing per movement, not one per pixel.
    common: dict[str, Any] = {"description": name, "style": {"description_width": "8em"}, "layout": {"width": "30em"}}
    if isinstance(choice, list):
        return ipywidgets.Dropdown(options=choice, value=choice[0], **common)
    low, high, step, start = choice
    slider = ipywidgets.IntSlider if all(isinstance(value, int) for value in choice) else ipywidgets.FloatSlider
    # The number is shown with the digits of its step.
    if slider is ipywidgets.FloatSlider:
        common["readout_format"] = f".{max(0, math.ceil(-math.log10(step)))}f"
    return slider(min=low, max=high, step=step, value=start, continuous_update=False, **common)
