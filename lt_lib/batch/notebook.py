"""A notebook as a file: its code, its parameters and a digest of what decides its result."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lt_lib.batch.parameters import Parameter, read_parameters


@dataclass(frozen=True)
class Notebook:
    """What a batch needs to know about a notebook.

    Attributes:
        path: the file.
        code: sources of its code cells in order, with Unix line ends.
        parameters: what its cell tagged `parameters` declares.
        digest: SHA-256 of the code cells and their tags. Text cells, outputs and counts do not enter: executing a
            notebook or mending its prose keeps the digest.
    """

    path: Path
    code: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    digest: str

    @property
    def defaults(self) -> dict[str, Any]:
        """Values that hold where a grid says nothing."""
        return {parameter.name: parameter.default for parameter in self.parameters}


def load_notebook(path: Path) -> Notebook:
    """Read a notebook without a kernel.

    Args:
        path: a notebook of format 4.

    Returns:
        Its code and parameters.

    Raises:
        ValueError: the file is missing or no notebook, or does not have exactly one proper `parameters` cell.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
        code = tuple("".join(cell["source"]).replace("\r\n", "\n") for cell in cells)
        tags = [sorted(cell.get("metadata", {}).get("tags", [])) for cell in cells]
    except FileNotFoundError:
        raise ValueError(f"`notebook` must exist, got {str(path)!r}.") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"`notebook` must be a notebook of format 4, got {str(path)!r}: {error}") from error
    tagged = [source for source, tag in zip(code, tags, strict=True) if "parameters" in tag]
    if len(tagged) != 1:
        raise ValueError(f"`notebook` must have one cell tagged parameters, got {len(tagged)} in {path.name}.")
    try:
        parameters = tuple(read_parameters(tagged[0]))
    except (ValueError, TypeError, SyntaxError) as error:
        raise ValueError(f"`notebook` must have a proper parameters cell, in {path.name}: {error}") from error
    text = json.dumps([code, tags], ensure_ascii=True, allow_nan=False)
    return Notebook(path, code, parameters, hashlib.sha256(text.encode()).hexdigest())
