"""The numbers printed in the papers. They live in `published/*.csv` and nowhere else."""

from importlib.resources import files
from typing import TYPE_CHECKING

from lt_lib._checks import check_known

if TYPE_CHECKING:
    import pandas as pd


def published_tables() -> list[str]:
    """Names of the tables, sorted."""
    folder = files("lt_lib.claims").joinpath("published")
    return sorted(entry.name.removesuffix(".csv") for entry in folder.iterdir() if entry.name.endswith(".csv"))


def published(name: str) -> "pd.DataFrame":
    """One table of published cells in long form.

    Columns: table, source, dataset, imbalance_type, ratio, method, loss, beta, gamma, setting, metric, value, std,
    inherited_from, note. Errors and accuracies are percentages, as printed; one row per printed cell.

    Args:
        name: one of `published_tables()`.

    Raises:
        ValueError: unknown name (with the nearest names).

    Example:
        >>> cells = published("cb_cifar")
        >>> plain = cells.query("dataset == 'cifar10' and method == 'plain' and loss == 'softmax'")
        >>> plain.set_index("ratio").value.loc[[200, 100, 1]].tolist()
        [34.32, 29.64, 6.61]
    """
    import pandas as pd

    check_known(name, "name", published_tables())
    with files("lt_lib.claims").joinpath("published", f"{name}.csv").open("rb") as file:
        return pd.read_csv(file)
