"""Tidy tables of batches: one row per run, the same bytes for the same place."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_lib._paths import write_whole
from lt_lib.batch.place import Place
from lt_lib.batch.states import RunState, survey

# What the engine says about a run; a result with the same name keeps it under `result_…`.
RUN_COLUMNS = (
    "grid", "run", "state", "complete", "attempts", "run_seconds", "peak_memory_mb", "host", "environment",
    "manifest_sha256",
)  # fmt: skip
_KINDS = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(frozen=True)
class Table:
    """Rows with typed columns.

    Attributes:
        columns: name to `str`, `int`, `float` or `bool`, in order.
        rows: one mapping per run of the grids; a value may be None.
        expected: runs that the grids have.
        got: runs that are done.
        missing: for each run that is not, its grid, id and state.
    """

    columns: Mapping[str, type]
    rows: Sequence[Mapping[str, Any]]
    expected: int
    got: int
    missing: Sequence[tuple[str, str, str]]

    @property
    def complete(self) -> bool:
        """Whether every run of every grid is done."""
        return self.got == self.expected


def collect(place: Place, grids: Sequence[str] = ()) -> Table:
    """Read the results of all runs of a place's grids.

    A run that is not done has a row too, with its parameters and without results, so that nothing that counts rows
    takes an incomplete grid for a complete one; besides, `complete` is false in every row of such a grid. Parameters
    and results share their names where they agree, as `seed`; where a result says something else than the parameter
    of that name, the parameter is in `parameter_…`.

    Args:
        place: the place.
        grids: names of grids; all if empty.

    Returns:
        The table, by grid and in grid order.

    Raises:
        ValueError: a grid is not in the place, or the `result.json` of a run is no JSON.
    """
    plans = place.plans()
    names = [plan["grid"] for plan in plans]
    for name in grids:
        if name not in names:
            raise ValueError(f"`grid` must be one of {', '.join(names) or 'none yet'}, got {name!r}.")
    chosen = [plan for plan in plans if not grids or plan["grid"] in grids]
    entries: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = []
    missing = []
    for plan in chosen:
        states = survey(place, plan)
        complete = all(state.state == "done" for state in states)
        for state in states:
            results = _results(place, state) if state.state == "done" else {}
            entries.append((_run_cells(place, plan["grid"], state, complete), dict(state.parameters), results))
            if state.state != "done":
                missing.append((plan["grid"], state.id, state.state))
    annotations = {name: kind for plan in chosen for name, kind in plan["annotations"].items()}
    columns, rows = _merge(entries, annotations)
    return Table(columns, rows, len(rows), len(rows) - len(missing), missing)


def write_table(table: Table, path: Path) -> None:
    """Write a table as CSV or Parquet, by the ending of the name, and beside it `<name>.json` on its completeness.

    Raises:
        ValueError: the name ends otherwise.
        ModuleNotFoundError: Parquet without its library.
    """
    if path.suffix == ".csv":
        content: str | bytes = csv_text(table)
    elif path.suffix == ".parquet":
        content = _parquet(table)
    else:
        raise ValueError(f"`output` must end in .csv or .parquet, got {str(path)!r}.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
    write_whole(path.with_name(f"{path.name}.json"), json.dumps(_about(table), indent=1) + "\n")


def csv_text(table: Table) -> str:
    """The table as CSV: numbers in the shortest form that reads back exactly, nothing for None."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(table.columns)
    for row in table.rows:
        writer.writerow([_cell(_typed(row.get(name), kind)) for name, kind in table.columns.items()])
    return stream.getvalue()


def _about(table: Table) -> dict[str, Any]:
    missing = [{"grid": grid, "run": run, "state": state} for grid, run, state in table.missing]
    return {"complete": table.complete, "expected": table.expected, "got": table.got, "missing": missing}


def _run_cells(place: Place, grid: str, state: RunState, complete: bool) -> dict[str, Any]:
    manifest = state.manifest
    cells = {"grid": grid, "run": state.id, "state": state.state, "complete": complete, "attempts": state.attempts}
    if not manifest:
        return cells
    provenance = manifest.get("provenance", {})
    content = (place.run_folder(state.id) / "manifest.json").read_bytes()
    return cells | {
        "run_seconds": float(manifest["seconds"]),
        "peak_memory_mb": float(manifest["peak_memory_mb"]),
        "host": provenance.get("host"),
        "environment": str(provenance.get("environment_digest"))[:12],
        "manifest_sha256": hashlib.sha256(content).hexdigest(),
    }


def _results(place: Place, state: RunState) -> dict[str, Any]:
    """The scalars of `result.json`: of its entry `row` if it has one, which is a row of a table already."""
    if "out/result.json" not in state.manifest["files"]:
        return {}
    try:
        content = json.loads((place.run_folder(state.id) / "out" / "result.json").read_bytes())
    except ValueError as error:
        raise ValueError(f"run {state.id}: out/result.json cannot be read: {error}") from error
    row = content.get("row") if isinstance(content, dict) else None
    chosen = row if isinstance(row, dict) else content
    if not isinstance(chosen, dict):
        return {}
    return {name: value for name, value in chosen.items() if value is None or isinstance(value, str | int | float)}


def _merge(
    entries: Sequence[tuple[dict[str, Any], dict[str, Any], dict[str, Any]]], annotations: Mapping[str, str]
) -> tuple[dict[str, type], list[dict[str, Any]]]:
    parameters = list(dict.fromkeys(name for _, settings, _ in entries for name in settings))
    results = list(dict.fromkeys(name for _, _, found in entries for name in found))
    differing = {
        name for _, settings, found in entries for name in found if name in settings and found[name] != settings[name]
    }
    rows = []
    for cells, settings, found in entries:
        row = dict(cells)
        for name in parameters:
            row[f"parameter_{name}" if name in differing or name in RUN_COLUMNS else name] = settings.get(name)
        for name in results:
            value = found.get(name, settings.get(name) if name not in differing else None)
            row[f"result_{name}" if name in RUN_COLUMNS else name] = value
        rows.append({name: _plain(value) for name, value in row.items()})
    names = list(dict.fromkeys([*RUN_COLUMNS, *(name for row in rows for name in row)]))
    return {name: _kind(name, rows, annotations) for name in names}, rows


def _plain(value: Any) -> Any:
    """Lists as JSON text; a number that is none as None."""
    if isinstance(value, list | dict):
        return json.dumps(value)
    return None if isinstance(value, float) and math.isnan(value) else value


def _kind(name: str, rows: Sequence[Mapping[str, Any]], annotations: Mapping[str, str]) -> type:
    """The type of a column: as the notebook annotates it, else the narrowest that holds all values."""
    annotated = annotations.get(name.removeprefix("parameter_"), "").replace(" ", "").removesuffix("|None")
    kinds = {type(row.get(name)) for row in rows} - {type(None)}
    if annotated in _KINDS and kinds <= {_KINDS[annotated], int if annotated == "float" else _KINDS[annotated]}:
        return _KINDS[annotated]
    if not kinds or kinds == {int, float}:
        return float
    return kinds.pop() if len(kinds) == 1 else str


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _parquet(table: Table) -> bytes:
    try:
        import pyarrow
        import pyarrow.parquet
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Parquet needs the extra `batch`: pip install 'lt-lib[batch]'.") from error
    kinds = {str: pyarrow.string(), int: pyarrow.int64(), float: pyarrow.float64(), bool: pyarrow.bool_()}
    about = {key.encode(): json.dumps(value).encode() for key, value in _about(table).items() if key != "missing"}
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in table.columns.items()], metadata=about)
    columns = [
        pyarrow.array([_typed(row.get(name), kind) for row in table.rows], kinds[kind])
        for name, kind in table.columns.items()
    ]
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(columns, schema=schema), stream)
    return stream.getvalue()


def _typed(value: Any, kind: type) -> Any:
    return None if value is None else kind(value)
