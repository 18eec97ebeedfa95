"""One canonical text per notebook, so that a stored notebook changes only where its content does."""

import hashlib
from pathlib import Path
from typing import Any

import nbformat

from lt_lib._paths import write_whole

# The only tags a cell may carry. Every other word is a misspelling or switches a check off.
TAGS = frozenset({"parameters", "claims", "exercise", "solution"})


def canonical_text(notebook: Any) -> str:
    """The canonical text of a notebook: outputs and counts kept, all traces of one particular run removed.

    Dropped are papermill's and the front end's metadata, timings and versions; neighbouring pieces of one stream are
    joined, because how a stream is cut into messages depends on timing.

    Args:
        notebook: A notebook node; it is not changed.

    Returns:
        JSON text with sorted keys, one blank of indentation and a final line end.
    """
    nb = nbformat.from_dict(nbformat.v4.upgrade(nbformat.from_dict(notebook)))
    seen: set[str] = set()
    for index, cell in enumerate(nb.cells):
        tags = sorted(cell.metadata.get("tags", []))
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if not cell.get("id") or cell.id in seen:
            cell.id = hashlib.sha256(f"{index} {cell.source}".encode()).hexdigest()[:8]
        seen.add(cell.id)
        if cell.cell_type == "code":
            cell.outputs = _joined_streams(cell.outputs)
    nb.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "pygments_lexer": "ipython3"},
        }
    )
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nbformat.writes(nb, version=4).rstrip("\n") + "\n"


def write_canonical(notebook: Any, path: Path) -> None:
    """Replace a file by the canonical text of a notebook, in one step."""
    write_whole(path, canonical_text(notebook))


def _joined_streams(outputs: list[Any]) -> list[Any]:
    joined: list[Any] = []
    for output in outputs:
        output.pop("transient", None)
        before = joined[-1] if joined else None
        if before is not None and output.output_type == before.output_type == "stream" and output.name == before.name:
            before.text += output.text
        else:
            joined.append(output)
    return joined
