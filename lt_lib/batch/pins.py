"""Pins: copies of a notebook and its sources, named after what they hold, so that each can be checked by itself."""

import os
from collections.abc import Iterator
from pathlib import Path

from lt_lib.batch.identity import ID_LENGTH, digest_of
from lt_lib.batch.notebook import load_notebook
from lt_lib.batch.sources import SKIPPED, digest_files

NOTEBOOK, MODULES = "notebook.ipynb", "modules"


def pin_name(notebook_digest: str, sources_digest: str) -> str:
    """The name of the pin that holds this notebook and these sources."""
    return digest_of([notebook_digest, sources_digest])[:ID_LENGTH]


def pin_problem(folder: Path, pin: str) -> str:
    """What sets a pin apart from what its name says it holds; empty if nothing does.

    Args:
        folder: holds `notebook.ipynb` and `modules/`. What Python compiles there while runs execute does not count.
        pin: its name, from `pin_name`.

    Raises:
        OSError: the folder does not answer, which says nothing about the pin.
    """
    modules = folder / MODULES
    try:
        # Read here as well, because `load_notebook` takes a file that does not answer for one that is no notebook.
        (folder / NOTEBOOK).read_bytes()
        notebook = load_notebook(folder / NOTEBOOK).digest
        sources = digest_files({path.relative_to(modules).as_posix(): path for path in _files(modules)})
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
        return f"it cannot be read: {error}"
    found = pin_name(notebook, sources)
    return "" if found == pin else f"its notebook or its modules were changed: they give the name {found}"


def _files(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        # A notebook that imports nothing of ours has no modules.
        if not isinstance(error, FileNotFoundError):
            raise error

    for base, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if name not in SKIPPED]
        yield from (Path(base) / name for name in names)
