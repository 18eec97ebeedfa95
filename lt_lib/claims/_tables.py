"""Reading the ledger's own tables, and where measured ones lie."""

import csv
import os
from importlib.resources import files
from pathlib import Path

from lt_lib._paths import source_tree


def results_folder(folder: str | os.PathLike[str] = "") -> Path:
    """A folder of measured tables; `results/` of the source tree, or of the working directory, if empty."""
    return Path(folder) if os.fspath(folder) else (source_tree() or Path()) / "results"


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of `lt_lib/claims/<name>.csv`, all texts."""
    text = files("lt_lib.claims").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
