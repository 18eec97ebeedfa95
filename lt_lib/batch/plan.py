"""From a grid to runs: which runs there are, and the name under which each is known everywhere."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_lib.batch.grid import Grid
from lt_lib.batch.identity import ID_LENGTH, run_digest
from lt_lib.batch.pins import MODULES, NOTEBOOK, pin_name, pin_problem
from lt_lib.batch.sources import copy_files, digest_files, find_sources

PACKAGE = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Run:
    """One run of a notebook.

    Attributes:
        id: the first 20 hexadecimal digits of `digest`; names its folder.
        digest: SHA-256 of the notebook's code, the parameters and the sources they use. Where, when and how fast a run
            is executed does not enter.
        parameters: all parameters of the notebook but those that the engine fills in.
    """

    id: str
    digest: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """The runs of a grid, in grid order, with the state of the sources for which they hold.

    Attributes:
        grid: the checked grid.
        runs: one per point.
        notebook_digest: see `lt_lib.batch.notebook.Notebook`.
        sources: files that the notebook depends on, by the name under which it imports them.
        sources_digest: SHA-256 of their names and contents.
    """

    grid: Grid
    runs: tuple[Run, ...]
    notebook_digest: str
    sources: Mapping[str, Path]
    sources_digest: str

    @property
    def pin(self) -> str:
        """Names the copy of the notebook and its sources that the runs execute."""
        return pin_name(self.notebook_digest, self.sources_digest)


def make_plan(grid: Grid) -> Plan:
    """Name every run of a grid.

    Args:
        grid: from `lt_lib.batch.grid.load_grid`.

    Returns:
        The plan.

    Raises:
        ValueError: a pattern of `sources` matches no file, or data that no run would find.
    """
    notebook = grid.notebook
    sources = find_sources(notebook.code, notebook.path.parent, PACKAGE, grid.sources)
    sources_digest = digest_files(sources)
    runs = []
    for parameters in grid.points:
        digest = run_digest(notebook.digest, parameters, sources_digest)
        runs.append(Run(digest[:ID_LENGTH], digest, parameters))
    return Plan(grid, tuple(runs), notebook.digest, sources, sources_digest)


def write_pin(plan: Plan, target: Path) -> None:
    """Copy the notebook and its sources, and make sure that the copy is what was planned.

    Args:
        plan: from `make_plan`.
        target: folder to make; it receives `notebook.ipynb` and `modules/`.

    Raises:
        ValueError: a file was edited since the plan was made.
    """
    target.mkdir(parents=True)
    shutil.copyfile(plan.grid.notebook.path, target / NOTEBOOK)
    copy_files(plan.sources, target / MODULES)
    if pin_problem(target, plan.pin):
        raise ValueError("`grid` must not change while it is planned: its notebook or its sources were just edited.")


def plan_content(plan: Plan) -> dict[str, Any]:
    """The plan for readers who have no access to the sources, as `lt_lib.batch.place.Place.plans` gives it back."""
    grid = plan.grid
    content = {
        "version": 1,
        "grid": grid.name,
        "notebook": grid.notebook.path.name,
        "notebook_digest": plan.notebook_digest,
        "sources_digest": plan.sources_digest,
        "pin": plan.pin,
        "varied": list(grid.varied),
        "annotations": {
            parameter.name: parameter.annotation
            for parameter in grid.notebook.parameters
            if grid.points and parameter.name in grid.points[0]
        },
        "attempts": grid.limits.attempts,
        "estimate": grid.estimate,
        "runs": [{"id": run.id, "digest": run.digest, "parameters": dict(run.parameters)} for run in plan.runs],
    }
    return dict(json.loads(json.dumps(content, allow_nan=False)))


def plan_text(plan: Plan) -> str:
    """The content of a plan as JSON."""
    return json.dumps(plan_content(plan), ensure_ascii=True, allow_nan=False) + "\n"
