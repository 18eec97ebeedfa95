"""The ``parameters`` cell of a notebook: read by its syntax tree, and values for it checked before a kernel starts.

papermill itself accepts unknown names with a warning and guesses types from spelling (``false`` becomes a text); here
an unknown name or a wrong type is an error. So is a value that the comment of the parameter rules out: of a number by
limits, as in ``# share of the run, in [0, 1)`` or ``# ratio, ≥ 1``, of a text by a list at the beginning of the
comment that the default is in, as in ``# step, cosine or constant: shape of the schedule``.
"""

import ast
import json
import math
import operator
import re
import tokenize
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from typing import Any

PROFILES = ("quick", "small", "paper")
_NUMBER = r"(-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
_BOUND = re.compile(rf"(>=|<=|≥|≤|>|<) {_NUMBER}")
# papermill's own reader drops a parameter with a second "=" in its line, so the cells write the limits in one sign.
_ASCII = {"≥": ">=", "≤": "<="}
_COMPARE = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_INTERVAL = re.compile(rf"\bin ([\[(]){_NUMBER}, {_NUMBER}([\])])")
_CHOICES = re.compile(r"([a-z0-9_]+(?:, [a-z0-9_]+)*),? or ([a-z0-9_]+)(?=$|[:;]| \()")


@dataclass(frozen=True)
class Parameter:
    """One line ``name: annotation = default  # comment``."""

    name: str
    annotation: str
    default: Any
    comment: str

    @property
    def bounds(self) -> list[tuple[str, float]]:
        """Limits that the comment of a number states: ``≥ 0`` or ``>= 0``, ``< 1``, ``in [0, 1]`` or ``in (0, 1]``."""
        if not {"int", "float"} & _kinds(self.annotation):
            return []
        found = [(_ASCII.get(sign, sign), float(number)) for sign, number in _BOUND.findall(self.comment)]
        for left, low, high, right in _INTERVAL.findall(self.comment):
            found += [(">=" if left == "[" else ">", float(low)), ("<=" if right == "]" else "<", float(high))]
        return found

    @property
    def choices(self) -> tuple[str, ...]:
        """Values that the comment of a text lists at its beginning: ``a, b or c``; empty if it lists none."""
        match = _CHOICES.match(self.comment) if "str" in _kinds(self.annotation) else None
        listed = (*match.group(1).split(", "), match.group(2)) if match else ()
        return listed if self.default in listed else ()


def read_parameters(source: str) -> list[Parameter]:
    """Read the parameters that a cell declares.

    Args:
        source: Text of the cell.

    Returns:
        Parameters in order.

    Raises:
        ValueError: If a statement is no annotated assignment of a literal, or a default does not fit its annotation.
    """
    statements = ast.parse(source).body
    comments = {
        token.start[0]: token.string.lstrip("# ").strip()
        for token in tokenize.generate_tokens(StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    parameters = []
    for node in statements:
        line = ast.get_source_segment(source, node)
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.value is None:
            raise ValueError(f"`parameters` must hold lines `name: type = default  # comment`, got {line!r}.")
        try:
            default = ast.literal_eval(node.value)
        except ValueError:
            raise ValueError(f"`{node.target.id}` must have a literal default, got {line!r}.") from None
        annotation = ast.unparse(node.annotation)
        comment = comments.get(node.end_lineno or node.lineno, "")
        check_type(node.target.id, annotation, default)
        parameters.append(Parameter(node.target.id, annotation, default, comment))
    return parameters


def check_type(name: str, annotation: str, value: object) -> None:
    """Refuse a value that does not fit an annotation.

    Args:
        name: Name of the parameter, for the message.
        annotation: ``str``, ``int``, ``float``, ``bool``, ``None``, ``list[…]``, ``tuple[…, ...]`` or a union of these.
        value: What is given. An ``int`` fits ``float``; a ``bool`` fits only ``bool``.

    Raises:
        TypeError: If it does not fit.
        ValueError: If the annotation is none of these, or ``profile`` is no profile.
    """
    if not _fits(ast.parse(annotation, mode="eval").body, value):
        raise TypeError(f"`{name}` must be {annotation}, got {value!r} ({type(value).__name__}).")
    if name == "profile" and value not in PROFILES:
        raise ValueError(f"`profile` must be one of {', '.join(PROFILES)}, got {value!r}.")


def parse_text(name: str, annotation: str, text: str) -> Any:
    """Turn a text from the command line into a value of the annotated type.

    Args:
        name: Name of the parameter, for the message.
        annotation: See `check_type`.
        text: A number for ``int`` and ``float``, ``true`` or ``false`` for ``bool``, JSON for lists, ``None`` where the
            annotation allows it, anything for ``str``.

    Returns:
        The value.

    Raises:
        TypeError: If the text does not say a value of that type.
    """
    options = [ast.unparse(option) for option in _options(ast.parse(annotation, mode="eval").body)]
    candidates: list[Any] = []
    if "None" in options and text == "None":
        return None
    if "bool" in options and text.lower() in ("true", "false"):
        candidates.append(text.lower() == "true")
    for kind, convert in (("int", int), ("float", float)):
        if kind in options:
            try:
                candidates.append(convert(text))
            except ValueError:
                continue
    if any(option.startswith(("list", "tuple")) for option in options):
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = None
        if isinstance(value, list):
            candidates.append(tuple(value) if any(option.startswith("tuple") for option in options) else value)
    if "str" in options:
        candidates.append(text)
    if not candidates:
        raise TypeError(f"`{name}` must be {annotation}, got {text!r}.")
    check_type(name, annotation, candidates[0])
    return candidates[0]


def check_values(parameters: list[Parameter], values: Mapping[str, object]) -> None:
    """Refuse values for parameters that do not exist, or of the wrong type.

    Args:
        parameters: What the notebook declares.
        values: What is asked for.

    Raises:
        ValueError: For an unknown name; the message gives the nearest names.
        TypeError: For a wrong type.
    """
    known = {parameter.name: parameter for parameter in parameters}
    for name, value in values.items():
        if name not in known:
            raise ValueError(unknown_name(name, list(known)))
        check_type(name, known[name].annotation, value)


def unknown_name(name: str, known: list[str]) -> str:
    """The message for a parameter that a notebook does not have."""
    near = get_close_matches(name, known, n=3)
    hint = f" Nearest: {', '.join(near)}." if near else ""
    return f"`{name}` must be a parameter of the notebook ({', '.join(known)}), got an unknown name.{hint}"


def parameter_problem(parameter: Parameter, value: object) -> str:
    """What is wrong with a value: its type, a number that is not finite, or one that the comment rules out.

    Returns:
        One sentence, empty if nothing is wrong.
    """
    try:
        check_type(parameter.name, parameter.annotation, value)
    except (TypeError, ValueError) as error:
        return str(error)
    if isinstance(value, str) and parameter.choices and value not in parameter.choices:
        return f"`{parameter.name}` must be one of {', '.join(parameter.choices)}, got {value!r}."
    if not _is_finite(value):
        return f"`{parameter.name}` must be finite, got {value!r}."
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    for sign, limit in parameter.bounds:
        if not _COMPARE[sign](value, limit):
            return f"`{parameter.name}` must be {sign} {limit:g}, got {value!r}."
    return ""


def _is_finite(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def resolve_value(parameter: Parameter, value: Any) -> Any:
    """The value as the notebook will see it: an ``int`` for a ``float`` is widened, texts are in Unicode's NFC form."""
    kinds = _kinds(parameter.annotation)
    if "float" in kinds and "int" not in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return unicodedata.normalize("NFC", value) if isinstance(value, str) else value


def _kinds(annotation: str) -> set[str]:
    return {ast.unparse(option) for option in _options(ast.parse(annotation, mode="eval").body)}


def _options(annotation: ast.expr) -> list[ast.expr]:
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        return [*_options(annotation.left), *_options(annotation.right)]
    return [annotation]


def _fits(annotation: ast.expr, value: object) -> bool:
    return any(_fits_one(option, value) for option in _options(annotation))


def _fits_one(annotation: ast.expr, value: object) -> bool:
    text = ast.unparse(annotation)
    if text == "None":
        return value is None
    if text == "bool":
        return isinstance(value, bool)
    if text == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    if text == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if text == "str":
        return isinstance(value, str)
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("list", "tuple"):
        inner = annotation.slice.elts[0] if isinstance(annotation.slice, ast.Tuple) else annotation.slice
        if not isinstance(value, list | tuple) or type(value).__name__ != ast.unparse(annotation.value):
            return False
        return all(_fits(inner, item) for item in value)
    raise ValueError(f"`annotation` must be built from str, int, float, bool, None, list and tuple, got {text!r}.")
