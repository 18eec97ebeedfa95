"""What every lecture does again and again: measure its claims once, show figures under its number, judge at the end."""

import os
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lt_lib import metrics
from lt_lib.claims.core import Check, Judgement, verdict_table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


def intervals(values: npt.ArrayLike, index: Any = None, *, level: float = 0.975) -> "pd.DataFrame":
    """Mean over the seeds with its t interval, one row per point: a table for `lt_lib.plotting.draw_series`.

    Args:
        values: shape (seeds, points). A NaN, such as the precision of a class that one network never predicts, is left
            out of the mean of its point.
        index: `pandas.Index` or a sequence, one entry per point; 0, 1, ... if None.
        level: one-sided level of either end, see `lt_lib.metrics.paired_interval`: 0.975 makes a 95 % interval.

    Returns:
        Columns mean, low and high.

    Raises:
        ValueError: if `values` is not two-dimensional, or a point has fewer than two known values.

    Examples:
        >>> intervals([[1.0, 4.0], [3.0, 4.0]], level=0.95).round(1).to_dict("list")
        {'mean': [2.0, 4.0], 'low': [-4.3, 4.0], 'high': [8.3, 4.0]}
    """
    import pandas as pd

    array = np.asarray(values, dtype=float)
    if array.ndim != 2:
        raise ValueError(f"`values` must have shape (seeds, points), got {array.shape}.")
    rows = [metrics.paired_interval(column[~np.isnan(column)], level=level) for column in array.T]
    return pd.DataFrame(rows, index=index, columns=["mean", "low", "high"])


class Lecture:
    """The claims of one notebook with their measurements, and the place of its figures.

    Every measurement is made once, with a generator of its own, however many claims rest on it; a lecture that has
    measured in another way hands that over with `know`.

    Args:
        notebook: its number, such as "040".
        checks: the checks of the claims it judges.
        profile: "quick", "small" or "paper".
        seed: seed of every measurement's generator.
        out_dir: folder for figures, see `lt_lib.plotting.show_figure`.

    Attributes:
        checks: ledger row -> check.

    Raises:
        ValueError: if two checks judge the same row.

    Examples:
        >>> from lt_lib.claims import gaussian_semi
        >>> lecture = Lecture("080", gaussian_semi.CHECKS, profile="quick", seed=0)
        >>> lecture.judge(110).verdict
        'holds'
    """

    def __init__(
        self, notebook: str, checks: Iterable[Check], *, profile: str, seed: int, out_dir: str | os.PathLike[str] = ""
    ) -> None:
        checks = list(checks)
        self.checks = {check.claim.id: check for check in checks}
        if len(self.checks) != len(checks):
            raise ValueError(f"`checks` must judge each row once, got rows {[c.claim.id for c in checks]}.")
        self.notebook, self.profile, self.seed, self.out_dir = notebook, profile, seed, out_dir
        self._known: dict[Callable[..., Any], Any] = {}

    def __str__(self) -> str:
        """One line for the head of a notebook."""
        rows = ", ".join(map(str, sorted(self.checks)))
        return f"notebook {self.notebook}, profile {self.profile}, seed {self.seed}, claims {rows}"

    def know(self, measure: Callable[..., Any], measurements: Any) -> Any:
        """Keep measurements made elsewhere as those of ``measure``, for every claim that rests on it.

        Args:
            measure: the function of a check that would have made them.
            measurements: what it would have returned.

        Returns:
            The measurements.

        Raises:
            ValueError: if no check of this lecture measures with that function.
        """
        if all(check.measure is not measure for check in self.checks.values()):
            raise ValueError(f"`measure` must belong to a check of notebook {self.notebook}, got {measure!r}.")
        self._known[measure] = measurements
        return measurements

    def measure(self, row: int) -> Any:
        """Measurements behind a row of the ledger, made at the first call; None where this profile makes none.

        Raises:
            ValueError: if this lecture does not judge the row.
        """
        check = self._check(row)
        if check.measure not in self._known:
            if self.profile not in check.profiles:
                return None
            self._known[check.measure] = check.measure(self.profile, np.random.default_rng(self.seed))
        return self._known[check.measure]

    def judge(self, row: int) -> Judgement:
        """Verdict on one row from its measurements, made if they are not known yet."""
        check = self._check(row)
        if self.profile not in check.profiles:
            return check.run(self.profile, np.random.default_rng(self.seed))
        return check.judge(self.measure(row))

    def verdicts(self) -> str:
        """Table of all verdicts, surprising ones first."""
        return verdict_table((check.claim, self.judge(row)) for row, check in self.checks.items())

    def show(self, fig: "Figure", name: str, data: "pd.DataFrame", alt: str, **about: Any) -> None:
        """Show a figure as ``n<notebook>_<name>``.

        Args:
            fig: the figure.
            name: unique within the notebook.
            data: what is drawn.
            alt: one sentence with the message.
            **about: ``seeds``, ``dataset``, ``digits``, or another ``profile`` of `lt_lib.plotting.show_figure`.
        """
        from lt_lib import plotting

        options = {"notebook": self.notebook, "profile": self.profile, "out_dir": self.out_dir} | about
        plotting.show_figure(fig, f"n{self.notebook}_{name}", data, alt, **options)

    def _check(self, row: int) -> Check:
        if row not in self.checks:
            raise ValueError(f"`row` must be one of {sorted(self.checks)}, got {row}.")
        return self.checks[row]
