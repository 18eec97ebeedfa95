"""Where the source tree lies, for everything whose place is relative to it: data sets, figures, runs."""

from pathlib import Path


def source_tree() -> Path | None:
    """The checkout that holds the working directory, else the one that holds this file; None for an installed package.

    A notebook's kernel works in `notebooks/`, a script at the top: both find the same folders.
    """
    for start in (Path.cwd(), Path(__file__).resolve().parent):
        for folder in (start, *start.parents):
            if (folder / "pyproject.toml").is_file() and (folder / "lt_lib").is_dir():
                return folder
    return None
