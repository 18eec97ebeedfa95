"""What all configurations share: types, choices and ranges of their fields, and the hash that names an experiment."""

import ast
import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from lt_lib._checks import check_known

INFINITY = float("inf")
# Ends of open ranges: the nearest numbers within, which messages show as what they stand for.
ABOVE_ZERO, BELOW_ONE = math.nextafter(0, 1), math.nextafter(1, 0)
_LARGEST_SEED = 2**64 - 1  # that PyTorch's generators take
# Parameters of every notebook that runs something, besides its fields.
_BESIDE_FIELDS = ("out_dir", "checkpoint")
_INJECTED = "# Parameters\n"  # how the cell begins that papermill puts in
# What runs each kind of configuration.
_RUNNERS = {
    "RunConfig": "run",
    "SemiConfig": "run_semi",
    "SelfTrainConfig": "run_self_train",
    "PretrainConfig": "run_pretrain",
    "LargeConfig": "run_large",
}


def check_kind(config: Any, kind: type) -> None:
    """Refuse a configuration of another kind of run; fields that this kind does not have would not count.

    Args:
        config: what a caller wants to run.
        kind: class of the configurations that can be run here, and none derived from it.

    Raises:
        TypeError: naming what runs the other kind.
    """
    if type(config) is not kind:
        found = type(config).__name__
        hint = f": `{_RUNNERS[found]}` runs it" if found in _RUNNERS else ""
        raise TypeError(f"`config` must be a {kind.__name__}, got a {found}{hint}.")


def check_types(config: Any) -> None:
    """Refuse a field of another type than its annotation; whole numbers in fractional fields become fractional.

    Args:
        config: a frozen dataclass whose fields are text, numbers or Booleans.

    Raises:
        TypeError: naming the field.
    """
    for field in fields(config):
        _check_type(field.name, getattr(config, field.name), field.type)
        if field.type is float:
            object.__setattr__(config, field.name, float(getattr(config, field.name)))


def check_choices(config: Any, choices: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse a field that is none of its choices.

    Args:
        config: the configuration.
        choices: for each such field what it may be.

    Raises:
        ValueError: naming the field, its choices, and those nearest to what it is.
    """
    for name, options in choices.items():
        check_known(getattr(config, name), name, options)


def check_ranges(config: Any, ranges: Iterable[tuple[str, float, float]]) -> None:
    """Refuse a field outside its range, infinite or not a number.

    Args:
        config: the configuration.
        ranges: names, lowest and highest values; `INFINITY` for no highest one, `ABOVE_ZERO` and `BELOW_ONE` for ends
            that are not allowed themselves.

    Raises:
        ValueError: naming the field and its range.
    """
    for name, low, high in ranges:
        value = getattr(config, name)
        if not (low <= value <= high and value < INFINITY):
            first = "(0" if low == ABOVE_ZERO else f"[{low}"
            last = "1)" if high == BELOW_ONE else f"{high}]"
            bounds = f"in {first}, {last}" if high < INFINITY else f"finite and >= {low}"
            raise ValueError(f"`{name}` must be {bounds}, got {value}.")


def check_seed(config: Any) -> None:
    """Refuse a `seed` that PyTorch's generators do not take.

    Args:
        config: a configuration with that field.

    Raises:
        ValueError: naming it.
    """
    if config.seed > _LARGEST_SEED:
        raise ValueError(f"`seed` must be below 2**64, got {config.seed}.")


def check_left(config: Any, names: Iterable[str], where: str) -> None:
    """Refuse fields that were changed where they are without effect.

    Args:
        config: the configuration, a dataclass.
        names: its fields that must be at their defaults.
        where: the circumstance in which they say nothing, such as "with pool_source 'none'" or "without weighting".

    Raises:
        ValueError: naming the first field that is not.
    """
    for name, default in defaults_of(type(config), names).items():
        if getattr(config, name) != default:
            raise ValueError(f"`{name}` must be left at {default!r} {where}, got {getattr(config, name)!r}.")


def defaults_of(kind: Any, names: Iterable[str]) -> dict[str, Any]:
    """Defaults of some fields.

    Args:
        kind: class of a configuration, a dataclass.
        names: its fields.
    """
    return {name: kind.__dataclass_fields__[name].default for name in names}


def from_parameters(kind: Any, names: Mapping[str, Any], *, left_out: Collection[str] = ()) -> Any:
    """The configuration that the parameters of a notebook describe.

    papermill sets a name that no parameter has, a misspelt one, with no more than a line in its log; the run would be
    the default one under a false name. So the cell that papermill has put in is read again, where a kernel keeps it.

    Args:
        kind: class of the configuration, a dataclass.
        names: `globals()` of the notebook: its parameters, and in "In" the cells that were run.
        left_out: fields that the notebook does not have, which keep their defaults.

    Raises:
        ValueError: papermill set a name that is neither a field nor the output folder nor the checkpoint (with the
            nearest names), or what the configuration itself refuses.
    """
    wanted = [field.name for field in fields(kind) if field.name not in left_out]
    for cell in names.get("In", ()):
        for name in _assigned(cell) if cell.startswith(_INJECTED) else ():
            check_known(name, "parameters", [*wanted, *_BESIDE_FIELDS])
    return kind(**{name: names[name] for name in wanted})


def _assigned(source: str) -> list[str]:
    """Names that a cell of plain assignments sets."""
    targets = [target for line in ast.parse(source).body if isinstance(line, ast.Assign) for target in line.targets]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def parse_changes(config: type, pairs: Sequence[str]) -> dict[str, Any]:
    """Fields of a configuration as written on a command line.

    Args:
        config: the class of the configuration, a dataclass whose fields are text, numbers or Booleans.
        pairs: "field=value" each; Booleans are "true" or "false".

    Returns:
        Values by field, in the type of the field.

    Raises:
        ValueError: a pair without "=", an unknown field (with the nearest names), a field that is given twice, or a
            value of another type; it speaks of the option `set`, as both commands call it.

    Example:
        >>> from lt_lib.recipes import RunConfig
        >>> parse_changes(RunConfig, ["beta=0.99", "augment=false"])
        {'beta': 0.99, 'augment': False}
    """
    kinds: dict[str, Any] = {field.name: field.type for field in fields(config)}
    changes: dict[str, Any] = {}
    for pair in pairs:
        name, separator, text = pair.partition("=")
        if not separator:
            raise ValueError(f"`set` must be FIELD=VALUE, got {pair!r}.")
        kind = kinds[check_known(name, "set", kinds)]
        if name in changes:
            raise ValueError(f"`set` must name each field once, got `{name}` twice.")
        try:
            changes[name] = {"true": True, "false": False}[text] if kind is bool else kind(text)
        except (KeyError, ValueError) as error:
            raise ValueError(f"`{name}` must be of type {kind.__name__}, got {text!r}.") from error
    return changes


def experiment_hash(config: Any, *, placement: Collection[str], later: Mapping[str, Any]) -> str:
    """First 12 hexadecimal digits of the SHA-256 of a configuration's fields.

    Args:
        config: a dataclass.
        placement: fields that say where and how the run is placed, not what it computes; they do not count.
        later: fields that came after the first results, with the values at which the run is the one from before; they
            count at other values alone, so that older results keep their names.
    """
    values = asdict(config)
    unchanged = {name for name, value in later.items() if values[name] == value}
    kept = {name: value for name, value in values.items() if name not in unchanged | set(placement)}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:12]


def _check_type(name: str, value: Any, kind: Any) -> None:
    expected: Mapping[str, type | tuple[type, ...]] = {"str": str, "int": int, "float": (int, float), "bool": bool}
    label = kind if isinstance(kind, str) else kind.__name__
    wrong = not isinstance(value, expected[label]) or (label != "bool" and isinstance(value, bool))
    if wrong:
        raise TypeError(f"`{name}` must be of type {label}, got {value!r} ({type(value).__name__}).")
