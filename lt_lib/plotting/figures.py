"""Show a figure, save it with the data drawn, and guard both by a digest."""

import csv
import hashlib
import io
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np

from lt_lib._paths import source_tree, write_whole
from lt_lib.plotting._drawings import same_drawing, same_pixels

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# Entries that share a mean in a digest: fewer notice smaller moves, and put more numbers at risk of rounding.
_BLOCK = 8
_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2
_NAME = re.compile(r"[a-z0-9]+(?:[_-][a-z0-9]+)*")


def show_figure(
    fig: "Figure",
    name: str,
    data: "pd.DataFrame",
    alt: str,
    *,
    notebook: str = "",
    profile: str = "quick",
    out_dir: str | os.PathLike[str] = "",
    seeds: Sequence[int] | None = None,
    dataset: str | None = None,
    digits: int = 3,
) -> None:
    """Write ``<name>.svg``, ``<name>.png`` and ``<name>.csv``, display the figure with its sentence, and close it.

    The text output is ``[name] alt (data digest)``. The digest stands for the data drawn, so a comparison of stored and
    new text outputs guards the picture. The files are the same bytes on every run with the same data and libraries:
    where the table is the same and the drawing differs by no more than another processor's rounding, they stay as they
    are. Each is replaced in one step: a reader never meets half a file.

    Where the files go: ``out_dir`` if given (relative to the working directory), else the environment variable
    ``LT_OUT``, else ``figures/`` at the top of the source tree that holds the working directory or, failing that, this
    package, else ``figures/`` in the working directory.

    Args:
        fig: The figure.
        name: Lower-case letters, digits, ``_`` and ``-``. Unique among all notebooks.
        data: What is drawn, one row per mark, one column per variable; the index is not kept. Floats are stored with
            six significant digits.
        alt: One sentence with the message of the figure, for those who do not see it.
        notebook: Number of the notebook which owns the figure, such as ``"030"``.
        profile: ``"quick"``, ``"small"`` or ``"paper"``.
        out_dir: Folder for the files.
        seeds: Seeds behind the data.
        dataset: Name of the data set behind the data.
        digits: Significant digits of the digest, see `data_digest`.

    Raises:
        TypeError: If ``data`` is not a DataFrame.
        ValueError: If the name is malformed or taken by another notebook, ``alt`` is empty or has line breaks, the
            profile is unknown, ``data`` has no rows, or a text in it cannot be stored (`data_csv`).
    """
    import pandas as pd

    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"`name` must be lower-case words joined by _ or -, got {name!r}.")
    if not isinstance(alt, str) or not alt.strip() or "\n" in alt:
        raise ValueError(f"`alt` must be one sentence on one line, got {alt!r}.")
    if profile not in ("quick", "small", "paper"):
        raise ValueError(f"`profile` must be 'quick', 'small' or 'paper', got {profile!r}.")
    if not isinstance(data, pd.DataFrame):
        raise TypeError(f"`data` must be a pandas DataFrame, got {type(data).__name__}.")
    if data.empty:
        raise ValueError(f"`data` must have rows and columns, got shape {data.shape}.")

    folder = figure_folder(out_dir)
    owner = _owner(folder / f"{name}.csv")
    if owner and notebook and owner != notebook:
        raise ValueError(
            f"`name` must be unique among notebooks, got {name!r}, which notebook {owner} has drawn already."
        )

    digest = data_digest(data, digits=digits)
    provenance = {
        "figure": name,
        "notebook": notebook,
        "profile": profile,
        "seeds": " ".join(str(seed) for seed in seeds) if seeds is not None else "",
        "dataset": dataset or "",
        "lt_lib": version("lt-lib"),
        "digest_digits": str(digits),
        "digest": digest,
        "alt": alt,
    }
    svg, png = io.BytesIO(), io.BytesIO()
    fig.savefig(png, format="png", metadata={"Title": name, "Software": None, **provenance})
    # Axes are placed once: it takes as long as to draw them, and both files shall have them in the same places.
    with plt.rc_context({"figure.constrained_layout.use": False, "figure.autolayout": False}):
        fig.set_layout_engine(None)
    with plt.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        # SVG metadata has a fixed vocabulary, hence one field with everything; the date would change the bytes.
        fig.savefig(
            svg,
            format="svg",
            metadata={
                "Title": name,
                "Description": alt,
                "Identifier": digest,
                "Source": json.dumps(provenance, ensure_ascii=False),
                "Creator": f"lt-lib {provenance['lt_lib']}",
                "Date": None,
            },
        )
    plt.close(fig)

    folder.mkdir(parents=True, exist_ok=True)
    # matplotlib ends some path lines with a blank, which text tools complain about.
    tidy_svg = "\n".join(line.rstrip() for line in svg.getvalue().decode().splitlines()) + "\n"
    table = data_csv(data, provenance).encode()
    files = {suffix: folder / f"{name}.{suffix}" for suffix in ("svg", "png", "csv")}
    if not _drawn_before(files, table, tidy_svg, png.getvalue()):
        write_whole(files["svg"], tidy_svg.encode())
        write_whole(files["png"], png.getvalue())
        write_whole(files["csv"], table)
    _display(files["png"].read_bytes(), f"[{name}] {alt} (data {digest})", alt)


def figure_folder(out_dir: str | os.PathLike[str] = "") -> Path:
    """The folder that `show_figure` writes to; see there.

    Args:
        out_dir: An explicit choice, which wins.

    Returns:
        An absolute path; it may not exist yet.
    """
    chosen = os.fspath(out_dir) or os.environ.get("LT_OUT", "")
    if chosen:
        return Path(chosen).resolve()
    return (source_tree() or Path.cwd()) / "figures"


def data_digest(data: "pd.DataFrame", *, digits: int = 3) -> str:
    r"""Twelve hexadecimal digits that stand for a table, blind to numerical noise but not to a visible change.

    What counts is the table as `data_csv` stores it, so floats have six significant digits. A text or Boolean column
    counts with all its values in order. A numerical column counts with its number of finite, missing and infinite
    entries, with minimum and maximum, and, for every eight finite entries in a row, with their mean and a mean under
    unequal weights, which notices a change of order, each to ``digits`` significant digits; absolute values below 1e-9
    count as zero. Rounding twice keeps noise of 1e-9 from moving a short decimal such as 0.1235 across an edge. Means
    are rounded on the grid of the largest absolute value, because a mean near zero is mostly rounding noise: of one
    entry alone, a move by more than ``8 * 10**(1 - digits)`` of that value is always seen.

    Args:
        data: Tidy table; the index does not count.
        digits: 1 to 6; 0 counts only columns, text and the number of entries, for numbers that depend on the machine.

    Returns:
        The digest.

    Raises:
        ValueError: If ``digits`` is outside 0 … 6.

    Examples:
        >>> import pandas as pd
        >>> table = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
        >>> data_digest(table) == data_digest(table + 1e-9)
        True
        >>> data_digest(table) == data_digest(table + 0.1)
        False
    """
    if digits not in range(7):
        raise ValueError(f"`digits` must be between 0 and 6, got {digits!r}.")
    stored = _parse(data_csv(data, {}))
    summary: list[Any] = [list(stored.columns), len(stored)]
    for column in stored.columns:
        values = stored[column]
        if values.dtype.kind in "iuf":
            summary.append(_numeric_summary(values.to_numpy(dtype=float), digits))
        else:
            summary.append([str(value) for value in values])
    return hashlib.sha256(json.dumps(summary).encode()).hexdigest()[:12]


def data_csv(data: "pd.DataFrame", provenance: Mapping[str, str]) -> str:
    r"""A table as CSV text below ``# key: value`` lines; `pandas.read_csv` reads it with ``comment="#"``.

    Args:
        data: Tidy table; the index is not kept. Floats are written with six significant digits.
        provenance: Written first, in order.

    Returns:
        The text, with ``\n`` line ends on every system.

    Raises:
        ValueError: If a text in the table holds ``#`` or a line break, which would read back as something else.
    """
    texts = [str(column) for column in data.columns]
    for column in data.columns:
        if data[column].dtype.kind not in "iufb":
            texts.extend(str(value) for value in data[column])
    for text in texts:
        if "#" in text or "\n" in text or "\r" in text:
            raise ValueError(f"`data` must hold no '#' and no line break in its texts, got {text!r}.")
    header = "".join(f"# {key}: {value}".rstrip() + "\n" for key, value in provenance.items())
    return header + data.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def read_figure_data(path: str | os.PathLike[str]) -> "tuple[dict[str, str], pd.DataFrame]":
    """Read back the provenance and the table that `show_figure` wrote.

    Args:
        path: The ``.csv`` file.

    Returns:
        Provenance and table.

    Raises:
        ValueError: If the file has no provenance lines.
    """
    text = Path(path).read_text(encoding="utf-8")
    head = [line[2:] for line in text.splitlines() if line.startswith("# ")]
    provenance = {key: value for key, _, value in (line.partition(":") for line in head)}
    if "digest" not in provenance:
        raise ValueError(f"`path` must be a table written by show_figure, got {os.fspath(path)!r} without provenance.")
    return {key: value.strip() for key, value in provenance.items()}, _parse(text)


def _parse(text: str) -> "pd.DataFrame":
    import pandas as pd

    # A missing number is written as nothing; "n/a" and "None" are texts like any other.
    return pd.read_csv(io.StringIO(text), comment="#", keep_default_na=False, na_values=[""])


def _numeric_summary(values: np.ndarray, digits: int) -> list[Any]:
    finite = values[np.isfinite(values)]
    counts = [finite.size, int(np.isnan(values).sum()), int((values == np.inf).sum()), int((values == -np.inf).sum())]
    if finite.size == 0 or digits == 0:
        return counts
    rounded = np.where(np.abs(finite) < 1e-9, 0.0, finite)
    scale = float(np.abs(rounded).max())
    decimals = digits - 1 - math.floor(math.log10(scale)) if scale > 0 else 0
    means = [mean for start in range(0, rounded.size, _BLOCK) for mean in _two_means(rounded[start : start + _BLOCK])]
    # Adding 0.0 turns -0.0 into 0.0, which would print differently.
    on_grid = [f"{round(float(f'{mean:.6g}'), decimals) + 0.0:.{digits}g}" for mean in means]
    return [*counts, f"{rounded.min():.{digits}g}", f"{rounded.max():.{digits}g}", *on_grid]


def _two_means(values: np.ndarray) -> tuple[float, float]:
    """The mean, and the mean under the fractional parts of multiples of the golden ratio: no two orders weigh alike."""
    weights = np.arange(1, values.size + 1) * _GOLDEN_RATIO % 1
    return math.fsum(values) / values.size, math.fsum(values * weights) / values.size


def _owner(path: Path) -> str:
    if not path.is_file():
        return ""
    return read_figure_data(path)[0].get("notebook", "")


def _drawn_before(files: Mapping[str, Path], table: bytes, svg: str, png: bytes) -> bool:
    """Whether the files hold this table and, but for rounding, this drawing."""
    if not all(path.is_file() for path in files.values()) or not _same_table(files["csv"].read_bytes(), table):
        return False
    return same_pixels(files["png"].read_bytes(), png) and same_drawing(
        files["svg"].read_text(encoding="utf-8", errors="replace"), svg
    )


def _same_table(one: bytes, other: bytes) -> bool:
    """Whether two stored tables have the same provenance and, but for the last digit or 1e-9, the same entries."""
    lines = [content.decode(errors="replace").splitlines() for content in (one, other)]
    if one == other or len(lines[0]) != len(lines[1]):
        return one == other
    return all(a == b or (not a.startswith("#") and _same_cells(a, b)) for a, b in zip(*lines, strict=True))


def _same_cells(one: str, other: str) -> bool:
    parts = [next(csv.reader([line])) for line in (one, other)]
    if len(parts[0]) != len(parts[1]):
        return False
    try:
        return all(
            a == b or math.isclose(float(a), float(b), rel_tol=2e-5, abs_tol=1e-9) for a, b in zip(*parts, strict=True)
        )
    except ValueError:  # words, and not the same
        return False


def _display(png: bytes, text: str, alt: str) -> None:
    # Only a running kernel has the module loaded; a script must not pay for importing it.
    ipython = sys.modules.get("IPython")
    if ipython is None or ipython.get_ipython() is None:
        print(text)
        return
    from IPython.display import display

    display({"image/png": png, "text/plain": text}, raw=True, metadata={"image/png": {"alt": alt}})
