"""Rules that every stored notebook keeps; they need no kernel."""

import ast
import json
import re
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import nbformat
from nbformat.warnings import DuplicateCellId, MissingIDFieldWarning

from lt_lib.batch.parameters import read_parameters
from tools.canonical import TAGS, canonical_text

MAX_BYTES = 1_000_000
MAX_LINES = 15  # of code in one cell: what a reader takes in at a glance
_FIGURE = re.compile(r"\[([a-z0-9_-]+)\] (.+) \(data ([0-9a-f]{12})\)")
_MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|tmp|Users|private|var)/\S+")


class ShownFigure(NamedTuple):
    """What a stored output says about a figure."""

    name: str
    alt: str
    digest: str


def notebook_paths(root: Path) -> list[Path]:
    """All numbered notebooks, in order."""
    return sorted((root / "notebooks").glob("[0-9][0-9][0-9]_*.ipynb"))


def lecture_paths(root: Path) -> list[Path]:
    """The notebooks that are read as lectures and own the figures; 9xx are single runs, the units of a batch."""
    return [path for path in notebook_paths(root) if not path.name.startswith("9")]


def read_notebook(path: Path) -> Any:
    """Read a notebook, or say which file is not one.

    Raises:
        ValueError: If the file is no valid notebook.
    """
    try:
        with warnings.catch_warnings():
            # Reading repairs ids with a warning; `problems` looks at the ids in the file itself.
            warnings.simplefilter("ignore", DuplicateCellId)
            warnings.simplefilter("ignore", MissingIDFieldWarning)
            return nbformat.read(path, as_version=4)
    except (nbformat.reader.NotJSONError, nbformat.ValidationError) as error:
        raise ValueError(f"`path` must be a notebook, got {path.name}: {error}") from error


def parameters_source(notebook: Any) -> str:
    """The text of the cell tagged ``parameters``.

    Raises:
        ValueError: If not exactly one code cell has the tag.
    """
    cells = [c for c in notebook.cells if c.cell_type == "code" and "parameters" in c.metadata.get("tags", [])]
    if len(cells) != 1:
        raise ValueError(f"`notebook` must have one cell tagged parameters, got {len(cells)}.")
    return str(cells[0].source)


def shown_figures(notebook: Any) -> list[ShownFigure]:
    """The figures that the stored outputs show, in order."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            match = _FIGURE.fullmatch(output.get("data", {}).get("text/plain", "").strip())
            if match:
                found.append(ShownFigure(*match.groups()))
    return found


def problems(path: Path) -> list[str]:
    """What is wrong with a stored notebook; empty if nothing is.

    Args:
        path: The notebook.

    Returns:
        One sentence per problem.
    """
    nb = read_notebook(path)
    found = _layout_problems(nb) + _output_problems(nb)
    text = path.read_text(encoding="utf-8")
    ids = [cell.get("id") for cell in json.loads(text)["cells"]]
    if None in ids or len(set(ids)) != len(ids):
        found.append("has cells without an id, or with the same id")
    if len(text.encode()) > MAX_BYTES:
        found.append(f"has {len(text.encode())} bytes, more than {MAX_BYTES}")
    if text != canonical_text(nb):
        found.append(
            "is not in canonical form; store it with `make nb-NNN` or `python -m tools.notebooks canonicalise`"
        )
    return found


def all_problems(paths: list[Path]) -> list[str]:
    """What is wrong with a set of notebooks, including figure names that two of them use."""
    found = [f"{path.name}: {problem}" for path in paths for problem in problems(path)]
    owner: dict[str, str] = {}
    for path in paths:
        for figure in shown_figures(read_notebook(path)):
            if figure.name in owner:
                found.append(f"{path.name}: shows the figure {figure.name}, which {owner[figure.name]} shows too")
            owner[figure.name] = path.name
    return found


def code_lines(source: str) -> int:
    """Number of lines of code: neither blank nor only a comment."""
    lines = (line.strip() for line in source.splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def _layout_problems(nb: Any) -> list[str]:
    found = []
    if nb.metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("names another kernel than python3")
    for index, cell in enumerate(nb.cells):
        unknown = set(cell.metadata.get("tags", [])) - TAGS
        if unknown:
            found.append(f"cell {index} has the tags {sorted(unknown)}; known are {sorted(TAGS)}")
        number = code_lines(cell.source) if cell.cell_type == "code" else 0
        if number > MAX_LINES and "parameters" not in cell.metadata.get("tags", []):
            found.append(f"cell {index} has {number} lines of code, more than {MAX_LINES}")
    if len(nb.cells) < 2 or nb.cells[0].cell_type != "markdown":
        found.append("does not open with a text cell")
    elif "parameters" not in nb.cells[1].metadata.get("tags", []):
        found.append("does not have the parameters as its second cell")
    try:
        parameters = read_parameters(parameters_source(nb))
    except (ValueError, TypeError, SyntaxError) as error:
        return [*found, f"has no proper parameters cell: {error}"]
    names = {parameter.name for parameter in parameters}
    found.extend(f"does not comment on its parameter {p.name}" for p in parameters if not p.comment)
    found.extend(f"has no parameter {name}" for name in ("profile", "out_dir") if name not in names)
    if not names & {"seed", "seeds", "num_seeds"}:
        found.append("has no parameter seed, seeds or num_seeds")
    if any(p.name == "profile" and p.default != "quick" for p in parameters):
        found.append("is stored with another profile than quick")
    return found


def _output_problems(nb: Any) -> list[str]:
    found = []
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    counts = [cell.execution_count for cell in code]
    if counts != list(range(1, len(code) + 1)):
        found.append(f"has the execution counts {counts} instead of 1 to {len(code)}")
    for index, cell in enumerate(code, start=1):
        source = str(cell.source)
        if "NBVAL" in source:
            found.append(f"code cell {index} switches the comparison off by a comment")
        if _ends_with_semicolon(source):
            found.append(f"code cell {index} ends with a semicolon, which hides output only in some programs")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"code cell {index} stores the error {output.ename}: {output.evalue}")
            if output.output_type == "stream" and output.name == "stderr":
                found.append(f"code cell {index} stores a warning or log: {output.text.strip().splitlines()[0]!r}")
            texts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if k.startswith("text/"))]
            found.extend(
                f"code cell {index} prints a path of one machine: {match.group()!r}"
                for text in texts
                for match in _MACHINE_PATH.finditer(text)
            )
            data = output.get("data", {})
            if "image/png" in data and not _FIGURE.fullmatch(data.get("text/plain", "").strip()):
                found.append(f"code cell {index} shows a picture without show_figure, so nothing guards it")
    return found


def _ends_with_semicolon(source: str) -> bool:
    lines = source.rstrip().splitlines()
    if not lines or not lines[-1].rstrip().endswith(";"):
        return False
    # A comment or a text may end with a semicolon.
    try:
        last = ast.parse(source).body[-1]
    except SyntaxError:
        return True
    return not (ast.get_source_segment(source, last) or "").rstrip().endswith(";") and "#" not in lines[-1]
