"""Reading the ledger's own tables."""

import csv
from importlib.resources import files


def read_table(name: str) -> list[dict[str, str]]:
    """Rows of `lt_lib/claims/<name>.csv`, all texts."""
    text = files("lt_lib.claims").joinpath(f"{name}.csv").read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
