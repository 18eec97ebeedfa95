"""Put the finished runs of a batch into a results table.

    python -m tools.gather runs/imdb-small --out results/imdb-small.csv

For batches of ``notebooks/900_run.ipynb``. The table has the columns that all result tables share, and where its rows
come from goes to a JSON file of the same name beside it. Runs that are not finished are left out and counted; a second
call adds what has been finished since.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lt_lib import recipes
from tools.measure import append_row


def finished(place: Path) -> list[recipes.RunResult]:
    """Results of the finished runs below `place`, by seed and then in the order of `lt_lib.recipes.METHODS`.

    Raises:
        ValueError: a run of another notebook, or two results of one configuration.
    """
    results: list[recipes.RunResult] = []
    folders: dict[str, str] = {}
    for file in sorted(place.glob("runs/*/out/result.json")):
        run, result = file.parent.parent.name, recipes.load_result(file.parent)
        earlier = folders.setdefault(result.config.hash(), run)
        if earlier != run:
            raise ValueError(
                f"`place` must hold one result of a configuration, got runs {earlier} and {run} of the same, as where "
                "the code changed between them; move one of the two folders away."
            )
        results.append(result)
    order = {name: position for position, name in enumerate(recipes.METHODS)}
    return sorted(results, key=lambda result: (result.config.seed, order.get(result.method, len(order))))


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table; the exit code is 0, or 2 if there is no finished run or `finished` refuses them."""
    parser = argparse.ArgumentParser(prog="python -m tools.gather", description=__doc__)
    parser.add_argument("place", type=Path, help="what `lt-lib batch` wrote to")
    parser.add_argument("--out", type=Path, required=True, help="results table (CSV), made or extended")
    options = parser.parse_args(arguments)
    try:
        results = finished(options.place)
    except ValueError as error:
        print(
            f"not runs of notebooks/900_run.ipynb as they should be, take `lt-lib collect` for others: {error}",
            file=sys.stderr,
        )
        return 2
    if not results:
        print(f"no finished run of notebooks/900_run.ipynb in {options.place}", file=sys.stderr)
        return 2
    for result in results:
        append_row(options.out, result)
    print(f"{len(results)} finished runs in {options.out}; `lt-lib status {options.place}` says what is missing")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
