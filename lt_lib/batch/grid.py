"""Grid files: one YAML 1.2 file says which runs of one notebook there are. All of its faults are reported at once."""

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lt_lib.batch.identity import canonical_json
from lt_lib.batch.notebook import Notebook, load_notebook
from lt_lib.batch.parameters import Parameter, parameter_problem, resolve_value, unknown_name

KEYS = (
    "name", "notebook", "profile", "fixed", "axes", "seeds", "exclude", "points", "done", "sources", "resources",
    "limits", "estimate",
)  # fmt: skip
# Parameters that a notebook may have and that the engine fills in: where its results and its checkpoint go.
FILLED = ("out_dir", "checkpoint")
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_UNITS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?) ?(s|min|h|d|)")


class GridError(ValueError):
    """A grid file has faults. The message lists all of them, one per line."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        super().__init__("\n".join([f"{path} has {len(problems)} fault{'s' * (len(problems) > 1)}:", *problems]))
        self.problems = problems


@dataclass(frozen=True)
class Metric:
    """What a number in `result.json` must satisfy; it must always be finite."""

    minimum: float = -math.inf
    maximum: float = math.inf


@dataclass(frozen=True)
class Done:
    """What makes a run done, beyond that every cell ran.

    Attributes:
        files: names of files that must lie in the run's output folder.
        metrics: numbers that `result.json` must hold, as `a` or `a.b`.
    """

    files: tuple[str, ...] = ()
    metrics: Mapping[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class Limits:
    """How long and how often.

    Attributes:
        run_timeout: seconds for one attempt, None for no limit.
        cell_timeout: seconds for one cell, None for no limit.
        attempts: how often a run may lose its kernel or its worker before it counts as failed.
        max_failures: failed runs after which no further run is started.
        max_runs: largest size of the grid.
    """

    run_timeout: float | None = None
    cell_timeout: float | None = None
    attempts: int = 3
    max_failures: int = 10
    max_runs: int = 5000


@dataclass(frozen=True)
class Resources:
    """What one run occupies: threads of its kernel, and GPUs, where a fraction lets several runs share one."""

    cpus: int = 1
    gpus: float = 0.0


@dataclass(frozen=True)
class Grid:
    """A checked grid.

    Attributes:
        name: names its folder in a place.
        path: the file.
        text: its content.
        notebook: what is run.
        points: for each run all parameters of the notebook but those that the engine fills in, in grid order, each
            combination once.
        varied: names of the parameters that differ between runs.
        merged: how many points were dropped because they say the same as an earlier one.
        done: what makes a run done.
        sources: patterns of files beside the notebook that decide its result.
        resources: what one run occupies.
        limits: how long and how often.
        estimate: seconds that one run is expected to take; None if the file does not say.
    """

    name: str
    path: Path
    text: str
    notebook: Notebook
    points: tuple[dict[str, Any], ...]
    varied: tuple[str, ...]
    merged: int
    done: Done
    sources: tuple[str, ...]
    resources: Resources
    limits: Limits
    estimate: float | None


def load_grid(path: Path) -> Grid:
    """Read and check a grid file. No kernel is started.

    Args:
        path: a YAML 1.2 file: `1e-3` is a number, `no` is a text, a key may stand once.

    Returns:
        The grid.

    Raises:
        GridError: the file has faults; the message lists all of them.
        ModuleNotFoundError: the YAML library is not installed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise GridError(path, [f"the file cannot be read: {error}"]) from error
    content = _load_yaml(path, text)
    reader = _Reader(path, content)
    grid = reader.read(text)
    if grid is None:
        raise GridError(path, reader.problems)
    return grid


def parse_duration(value: Any) -> float | None:
    """Seconds from `90`, `90s`, `30min`, `2h` or `1d`; None if the value says no time above zero.

    Example:
        >>> parse_duration("1.5h"), parse_duration("soon")
        (5400.0, None)
    """
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 < value < math.inf else None
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(match.group(1)) * _UNITS[match.group(2)] if match else 0.0
    return seconds or None


def _load_yaml(path: Path, text: str) -> dict[str, Any]:
    try:
        from ruamel.yaml import YAML
        from ruamel.yaml.error import YAMLError
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("Grids need the extra `batch`: pip install 'lt-lib[batch]'.") from error
    try:
        content = YAML(typ="safe", pure=True).load(text)
    # A date that no calendar has is an error of the library that reads dates.
    except (YAMLError, ValueError) as error:
        raise GridError(path, [f"no valid YAML 1.2: {' '.join(str(error).split())}"]) from error
    if not isinstance(content, dict):
        raise GridError(path, [f"the file must hold a mapping with the keys {', '.join(KEYS)}"])
    return content


class _Reader:
    """Reads the keys of one file and collects what is wrong with them."""

    def __init__(self, path: Path, content: dict[str, Any]) -> None:
        self.path = path
        self.content = content
        self.problems: list[str] = []

    def read(self, text: str) -> Grid | None:
        self._known_keys("", self.content, KEYS)
        notebook = self._notebook()
        name = self.content.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            self._fault(f"`name` must be up to 40 lower-case letters, digits and hyphens, got {name!r}")
        done, limits, resources = self._done(), self._limits(), self._resources()
        sources = self._texts("sources")
        estimate = self._duration("estimate", self.content.get("estimate"))
        if notebook is None:
            return None
        points, varied, merged = self._points(notebook, limits)
        if self.problems or name is None:
            return None
        return Grid(
            str(name), self.path, text, notebook, points, varied, merged, done, sources, resources, limits, estimate
        )

    def _fault(self, text: str) -> None:
        if text not in self.problems:
            self.problems.append(text)

    def _known_keys(self, where: str, mapping: Mapping[Any, Any], known: tuple[str, ...]) -> None:
        for key in mapping:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(known)}"
                self._fault(f"`{where}{key}` is no key of a grid{hint}")

    def _mapping(self, key: str) -> dict[Any, Any]:
        value = self.content.get(key, {})
        if isinstance(value, dict):
            return value
        self._fault(f"`{key}` must be a mapping, got {value!r}")
        return {}

    def _list(self, key: str) -> list[Any]:
        value = self.content.get(key, [])
        if isinstance(value, list):
            return value
        self._fault(f"`{key}` must be a list, got {value!r}")
        return []

    def _texts(self, key: str) -> tuple[str, ...]:
        values = self._list(key)
        for value in values:
            if not isinstance(value, str):
                self._fault(f"`{key}` must hold texts, got {value!r}")
        return tuple(value for value in values if isinstance(value, str))

    def _notebook(self) -> Notebook | None:
        value = self.content.get("notebook")
        if not isinstance(value, str):
            self._fault(f"`notebook` must be a path relative to the grid file, got {value!r}")
            return None
        try:
            notebook = load_notebook((self.path.parent / value).resolve())
        except ValueError as error:
            self._fault(str(error).rstrip("."))
            return None
        declared = {parameter.name: parameter.annotation for parameter in notebook.parameters}
        if declared.get("out_dir") != "str":
            self._fault("`notebook` must have a parameter `out_dir: str`, which tells it where results go")
        if declared.get("checkpoint", "str") != "str":
            self._fault("`checkpoint` of the notebook must be a str: it is the path of the file that a run continues")
        return notebook

    def _done(self) -> Done:
        mapping = self._mapping("done")
        self._known_keys("done.", mapping, ("files", "metrics"))
        files, metrics = mapping.get("files", ["result.json"]), mapping.get("metrics", {})
        if not isinstance(files, list) or not all(isinstance(f, str) and _is_inside(f) for f in files):
            self._fault(f"`done.files` must be a list of names inside the output folder, got {files!r}")
            files = []
        if not isinstance(metrics, dict):
            self._fault(f"`done.metrics` must be a mapping, got {metrics!r}")
            metrics = {}
        limits = {}
        for metric, bounds in metrics.items():
            bounds = {} if bounds is None else bounds
            if not isinstance(bounds, dict) or not all(_is_number(value) for value in bounds.values()):
                self._fault(f"`done.metrics.{metric}` must be a mapping of `min` and `max` to numbers, got {bounds!r}")
                continue
            self._known_keys(f"done.metrics.{metric}.", bounds, ("min", "max"))
            low, high = float(bounds.get("min", -math.inf)), float(bounds.get("max", math.inf))
            if low > high:
                self._fault(f"`done.metrics.{metric}` must have a `min` of at most its `max`, got {bounds!r}")
            limits[str(metric)] = Metric(low, high)
        return Done(tuple(files), limits)

    def _limits(self) -> Limits:
        mapping = self._mapping("limits")
        self._known_keys("limits.", mapping, ("run_timeout", "cell_timeout", "attempts", "max_failures", "max_runs"))
        counts = {}
        for key in ("attempts", "max_failures", "max_runs"):
            value = mapping.get(key, getattr(Limits, key))
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                self._fault(f"`limits.{key}` must be a whole number of at least 1, got {value!r}")
                value = getattr(Limits, key)
            counts[key] = value
        run, cell = (self._duration(f"limits.{key}", mapping.get(key)) for key in ("run_timeout", "cell_timeout"))
        return Limits(run, cell, **counts)

    def _duration(self, key: str, value: Any) -> float | None:
        seconds = parse_duration(value)
        if value is not None and seconds is None:
            self._fault(f"`{key}` must be a time such as 90s, 30min or 2h, got {value!r}")
        return seconds

    def _resources(self) -> Resources:
        mapping = self._mapping("resources")
        self._known_keys("resources.", mapping, ("cpus", "gpus"))
        cpus, gpus = mapping.get("cpus", 1), mapping.get("gpus", 0)
        if not isinstance(cpus, int) or isinstance(cpus, bool) or cpus < 1:
            self._fault(f"`resources.cpus` must be a whole number of at least 1, got {cpus!r}")
            cpus = 1
        if not _is_number(gpus) or gpus < 0 or (gpus > 1 and gpus != int(gpus)):
            self._fault(f"`resources.gpus` must be 0, a fraction of one GPU or a whole number, got {gpus!r}")
            gpus = 0
        return Resources(cpus, float(gpus))

    def _points(self, notebook: Notebook, limits: Limits) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...], int]:
        known = {parameter.name: parameter for parameter in notebook.parameters}
        fixed = self._fixed(known)
        axes = self._axes(known)
        seeds = self._seeds(known)
        excludes = self._assignments("exclude", known)
        extra = self._assignments("points", known)
        names = [name for axis in axes for name in axis.names] + ["seed"] * (seeds is not None)
        for name in sorted({name for name in names if names.count(name) > 1}):
            self._fault(f"`{name}` is set by more than one axis")
        for name in sorted(set(names) & set(fixed)):
            self._fault(f"`{name}` is both fixed and varied")
        size = math.prod(len(axis) for axis in axes) * len(seeds or [0]) if axes or seeds or not extra else 0
        if size + len(extra) > limits.max_runs:
            self._fault(f"the grid has {size + len(extra)} points, more than `limits.max_runs`, {limits.max_runs}")
        if self.problems:
            return (), (), 0
        combined = list(_product(axes, seeds)) if size else []
        for position, exclude in enumerate(excludes):
            kept = [point for point in combined if not _matches({**fixed, **point}, exclude, known)]
            if len(kept) == len(combined):
                self._fault(f"`exclude[{position}]` matches no point: {exclude!r}")
            combined = kept
        for point in extra:
            takes_seeds = seeds is not None and "seed" not in point
            combined += [point | {"seed": seed} for seed in seeds or []] if takes_seeds else [point]
        if not combined:
            self._fault("the grid has no points")
        return self._resolved(combined, fixed, notebook, known)

    def _resolved(
        self, combined: list[dict[str, Any]], fixed: dict[str, Any], notebook: Notebook, known: dict[str, Parameter]
    ) -> tuple[tuple[dict[str, Any], ...], tuple[str, ...], int]:
        base = {name: value for name, value in notebook.defaults.items() if name not in FILLED}
        points: dict[str, dict[str, Any]] = {}
        for point in combined:
            values = {name: resolve_value(known[name], value) for name, value in {**base, **fixed, **point}.items()}
            points.setdefault(canonical_json(values), values)
        resolved = tuple(points.values())
        varied = tuple(name for name in base if len({canonical_json(point[name]) for point in resolved}) > 1)
        return resolved, varied, len(combined) - len(resolved)

    def _check(self, where: str, name: Any, value: Any, known: Mapping[str, Parameter]) -> bool:
        if name in FILLED:
            self._fault(f"`{where}{name}` is filled in by the engine and cannot be set")
            return False
        if name not in known:
            self._fault(f"{where}{unknown_name(str(name), [n for n in known if n not in FILLED]).rstrip('.')}")
            return False
        problem = parameter_problem(known[name], value)
        if problem:
            self._fault(f"{where}{problem.rstrip('.')}")
        return not problem

    def _fixed(self, known: Mapping[str, Parameter]) -> dict[str, Any]:
        fixed = dict(self._mapping("fixed"))
        if "profile" in self.content:
            if "profile" in fixed:
                self._fault("`profile` is given twice, as a key of its own and under `fixed`")
            fixed["profile"] = self.content["profile"]
        return {name: value for name, value in fixed.items() if self._check("", name, value, known)}

    def _axes(self, known: Mapping[str, Parameter]) -> list["_Axis"]:
        axes = []
        for axis, values in self._mapping("axes").items():
            if not isinstance(values, list) or not values:
                self._fault(f"`axes.{axis}` must be a list with at least one value, got {values!r}")
                continue
            if all(isinstance(value, dict) for value in values):
                # Parameters that go together: the name of the axis is free.
                for value in values:
                    for name, item in value.items():
                        self._check(f"axes.{axis}: ", name, item, known)
                axes.append(_Axis(values))
                continue
            for value in values:
                self._check("axes: ", axis, value, known)
            axes.append(_Axis([{axis: value} for value in values]))
        for axis in axes:
            plain = [canonical_json(value) for value in axis.values if _is_plain(value)]
            if len(set(plain)) < len(plain):
                self._fault(f"`axes` holds a value twice for {', '.join(map(str, axis.names))}")
        return axes

    def _seeds(self, known: Mapping[str, Parameter]) -> list[int] | None:
        if "seeds" not in self.content:
            return None
        seeds = self._listed_seeds(self.content["seeds"])
        # One bad seed says enough about all of them.
        all(self._check("seeds: ", "seed", seed, known) for seed in seeds)
        return seeds or None

    def _listed_seeds(self, seeds: Any) -> list[int]:
        if isinstance(seeds, int) and not isinstance(seeds, bool) and seeds > 0:
            return list(range(seeds))
        if not isinstance(seeds, list) or not seeds or not all(type(seed) is int and seed >= 0 for seed in seeds):
            self._fault(f"`seeds` must be a number of seeds or a list of whole numbers, got {seeds!r}")
            return []
        if len(set(seeds)) < len(seeds):
            self._fault(f"`seeds` must be different numbers, got {seeds!r}")
            return []
        return seeds

    def _assignments(self, key: str, known: Mapping[str, Parameter]) -> list[dict[str, Any]]:
        found = []
        for position, values in enumerate(self._list(key)):
            if not isinstance(values, dict) or not values:
                self._fault(f"`{key}[{position}]` must be a mapping of parameters to values, got {values!r}")
                continue
            checks = [self._check(f"{key}[{position}]: ", name, value, known) for name, value in values.items()]
            if all(checks):
                found.append(values)
        return found


class _Axis:
    """The settings of one axis, each a mapping of parameters."""

    def __init__(self, values: list[dict[str, Any]]) -> None:
        self.values = values
        self.names = list(dict.fromkeys(name for value in values for name in value))

    def __len__(self) -> int:
        return len(self.values)


def _product(axes: list[_Axis], seeds: list[int] | None) -> Iterator[dict[str, Any]]:
    settings = [axis.values for axis in axes]
    if seeds is not None:
        settings.append([{"seed": seed} for seed in seeds])
    for combination in itertools.product(*settings):
        yield {name: value for setting in combination for name, value in setting.items()}


def _matches(point: Mapping[str, Any], exclude: Mapping[str, Any], known: Mapping[str, Parameter]) -> bool:
    defaults = {name: parameter.default for name, parameter in known.items()}
    full = defaults | dict(point)
    return all(resolve_value(known[name], full[name]) == resolve_value(known[name], exclude[name]) for name in exclude)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_plain(value: Any) -> bool:
    try:
        canonical_json(value)
    except (TypeError, ValueError):
        return False
    return True


def _is_inside(name: str) -> bool:
    return bool(name) and not Path(name).is_absolute() and ".." not in Path(name).parts
