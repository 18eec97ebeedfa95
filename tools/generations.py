"""One table of all generations of a batch of semi-supervised runs, class by class.

``python -m tools.generations runs/crest-small results/crest-small-generations.csv`` after ``lt-lib collect``, which
takes one line per run and leaves out what a run says of its generations.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from lt_lib._paths import write_whole

LABELS = ("dataset", "profile", "model", "imbalance_ratio")
DIGITS = 6


def generation_table(folder: Path) -> pd.DataFrame:
    """The tables ``generations.csv`` of all finished runs below a folder, with what their results say of the run.

    Args:
        folder: Of a batch, or of one run.

    Returns:
        Columns ``LABELS``, then those that ``910_run_semi`` writes; by method, seed, generation and class.

    Raises:
        ValueError: No finished run has such a table.
    """
    parts = []
    for path in sorted(folder.rglob("generations.csv")):
        result = path.with_name("result.json")
        if result.is_file() and not {"work", "attempts", "quarantine"} & set(path.relative_to(folder).parts):
            row = json.loads(result.read_text(encoding="utf-8"))["row"]
            parts.append(pd.read_csv(path).assign(**{name: row[name] for name in LABELS}))
    if not parts:
        raise ValueError(f"`folder` must hold finished runs with a generations.csv, got {folder}.")
    table = pd.concat(parts, ignore_index=True)
    columns = [*LABELS, *(name for name in table.columns if name not in LABELS)]
    return table[columns].sort_values(["method", "seed", "generation", "class"], ignore_index=True).round(DIGITS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; 2 if there is nothing to write."""
    parser = argparse.ArgumentParser(prog="python -m tools.generations", description=__doc__)
    parser.add_argument("folder", type=Path, help="of the batch, such as runs/crest-small")
    parser.add_argument("out", type=Path, help="such as results/crest-small-generations.csv")
    options = parser.parse_args(arguments)
    try:
        table = generation_table(options.folder)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    write_whole(options.out, table.to_csv(index=False, lineterminator="\n"))
    print(f"wrote {options.out}: {len(table)} rows of {table.groupby(['method', 'seed']).ngroups} runs")
    return 0


if __name__ == "__main__":
    sys.exit(main())
