"""``figures/INDEX.md``: every figure with its notebook, data, profile and alt text, and what the sources show.

The second part is ``tools/sources.csv``: every figure, table and theorem of the four notes and their papers, with what
reproduces it here, or why nothing does.

``python -m tools.figure_index`` writes it, ``--check`` compares it with the files.
"""

import argparse
import csv
import re
import sys
from collections.abc import Sequence
from html import unescape
from pathlib import Path

from lt_lib.claims import published, published_tables
from lt_lib.plotting import data_digest, read_figure_data
from tools.check import lecture_paths, read_notebook, shown_figures

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 1_000_000
_SUFFIXES = (".svg", ".png", ".csv")
# Kinds of entries of sources.csv, and the columns that hold names, several of them parted by blanks.
_KINDS = {
    "figure": "Figures",
    "table": "Tables",
    "theorem": "Theorems and formulas",
    "question": "Questions that the notes leave open",
}
_NAMED = ("figures", "notebooks", "results", "grids", "published")


def index_text(root: Path) -> str:
    """The index, made from the provenance that the data files carry.

    Args:
        root: Top of the source tree.

    Returns:
        Markdown text.
    """
    owners = {f.name: path for path in lecture_paths(root) for f in shown_figures(read_notebook(path))}
    lines = [
        "# Figures",
        "",
        "Made by `make figures`; `make fig-NAME` makes one. Each picture has its data beside it, as a table that",
        "starts with where the data come from.",
        "",
        "| figure | notebook | profile | data set | data | rows | KiB | what it shows |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for path in sorted((root / "figures").glob("*.csv")):
        provenance, table = read_figure_data(path)
        owner = owners.get(path.stem)
        notebook = f"[{owner.stem[:3]}](../notebooks/{owner.name})" if owner else provenance["notebook"]
        size = sum(path.with_suffix(suffix).stat().st_size for suffix in _SUFFIXES if path.with_suffix(suffix).exists())
        cells = [
            f"[{path.stem}]({path.stem}.svg)",
            notebook,
            provenance["profile"],
            provenance["dataset"],
            f"[{path.name}]({path.name})",
            str(len(table)),
            str(round(size / 1024)),
            provenance["alt"],
        ]
        lines.append(_table_line(cells))
    return "\n".join([*lines, *_sources_lines(root)]) + "\n"


def source_entries(root: Path) -> list[dict[str, str]]:
    """Lines of ``tools/sources.csv``; none without the file.

    Args:
        root: Top of the source tree.
    """
    path = root / "tools" / "sources.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def source_problems(root: Path) -> list[str]:
    """Names in ``tools/sources.csv`` that do not exist, published tables that it leaves out, and empty lines.

    Args:
        root: Top of the source tree.

    Returns:
        One sentence per problem.
    """
    entries = source_entries(root)
    tables = {table for name in published_tables() for table in published(name)["table"]}
    known = {
        "figures": {path.stem for path in (root / "figures").glob("*.svg")},
        "notebooks": {path.name[:3] for path in lecture_paths(root)},
        "results": {path.name for path in (root / "results").glob("*.csv")},
        "grids": {path.stem for path in (root / "notebooks" / "grids").glob("*.yaml")},
        "published": tables,
    }
    found: list[str] = []
    for entry in entries:
        where = f"sources.csv, {entry['source']}, {entry['place']}"
        if entry["kind"] not in _KINDS:
            found.append(f"{where}: the kind must be one of {', '.join(_KINDS)}, got {entry['kind']!r}")
        for column, names in known.items():
            found.extend(f"{where}: no {column} {name}" for name in entry[column].split() if name not in names)
        if not entry["reason"] and not any(entry[column] for column in _NAMED if column != "published"):
            found.append(f"{where}: neither what reproduces it nor why nothing does")
    listed = {name for entry in entries for name in entry["published"].split()}
    found.extend(f"sources.csv: the published table {name} is not listed" for name in sorted(tables - listed))
    return found if entries else []


def _sources_lines(root: Path) -> list[str]:
    """The second part of the index, as lines; none without ``tools/sources.csv``."""
    entries = source_entries(root)
    if not entries:
        return []
    notebooks = {path.name[:3]: path.name for path in lecture_paths(root)}
    lines = ["", "# The sources' figures and tables", ""]
    lines += [
        "What the four notes (S0 to S3) and their papers show, and where it is made again here. A measured table has",
        "the name of the grid that makes it; a grid without one has not been run, or not in full.",
    ]
    for kind, title in _KINDS.items():
        if all(entry["kind"] != kind for entry in entries):
            continue
        lines += ["", f"## {title}", "", "| source | where | what | here | remarks |", "|---|---|---|---|---|"]
        for entry in entries:
            if entry["kind"] != kind:
                continue
            measured = [
                f"{grid}.csv" for grid in entry["grids"].split() if (root / "results" / f"{grid}.csv").is_file()
            ]
            here = [f"[{name}]({name}.svg)" for name in entry["figures"].split()]
            here += [f"[{name}](../notebooks/{notebooks.get(name, name)})" for name in entry["notebooks"].split()]
            here += [f"[{name}](../results/{name})" for name in dict.fromkeys([*entry["results"].split(), *measured])]
            here += [f"grid [{name}](../notebooks/grids/{name}.yaml)" for name in entry["grids"].split()]
            here += [f"printed: `{name}`" for name in entry["published"].split()]
            lines.append(
                _table_line([entry["source"], entry["place"], entry["what"], ", ".join(here), entry["reason"]])
            )
    return lines


def _table_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def write_index(root: Path) -> None:
    """Write ``figures/INDEX.md``; without figures there is nothing to write."""
    if any((root / "figures").glob("*.csv")):
        (root / "figures" / "INDEX.md").write_text(index_text(root), encoding="utf-8", newline="\n")


def problems(root: Path) -> list[str]:
    """What does not agree between index, images, data files and stored notebooks.

    Args:
        root: Top of the source tree.

    Returns:
        One sentence per problem; empty if everything agrees.
    """
    folder = root / "figures"
    found = []
    files = {path.name for path in folder.glob("*") if not path.name.startswith(".")} - {"INDEX.md"}
    names = sorted({Path(name).stem for name in files})
    shown = {f.name: f for path in lecture_paths(root) for f in shown_figures(read_notebook(path))}
    for name in names:
        missing = [name + suffix for suffix in _SUFFIXES if name + suffix not in files]
        if missing:
            found.append(f"{name}: {', '.join(missing)} missing")
        else:
            found.extend(f"{name}: {problem}" for problem in _figure_problems(folder, name))
        if name not in shown:
            found.append(f"{name}: no stored notebook shows it")
        elif not missing:
            provenance = read_figure_data(folder / f"{name}.csv")[0]
            for key in ("alt", "digest"):
                if getattr(shown[name], key) != provenance[key]:
                    found.append(f"{name}: its {key} in the stored notebook is not that of the data file")
    found.extend(f"{name}: shown by a stored notebook, but not in figures/" for name in sorted(set(shown) - set(names)))
    found.extend(f"{name}: no part of a figure" for name in sorted(files) if Path(name).suffix not in _SUFFIXES)
    found.extend(source_problems(root))
    index = folder / "INDEX.md"
    if not found and names and (not index.is_file() or index.read_text(encoding="utf-8") != index_text(root)):
        found.append("INDEX.md is not what the figures say; run `python -m tools.figure_index`")
    return found


def _figure_problems(folder: Path, name: str) -> list[str]:
    from PIL import Image

    found = []
    provenance, table = read_figure_data(folder / f"{name}.csv")
    if data_digest(table, digits=int(provenance["digest_digits"])) != provenance["digest"]:
        found.append("the digest in the data file is not that of its data")
    with Image.open(folder / f"{name}.png") as image:
        stored = dict(getattr(image, "text", {}))
    svg = (folder / f"{name}.svg").read_text(encoding="utf-8")
    for key, tag in (("digest", "identifier"), ("alt", "description")):
        if stored.get(key) != provenance[key]:
            found.append(f"the {key} in the PNG is not that of the data file")
        match = re.search(rf"<dc:{tag}>(.*?)</dc:{tag}>", svg, flags=re.DOTALL)
        if match is None or unescape(match.group(1)) != provenance[key]:
            found.append(f"the {key} in the SVG is not that of the data file")
    found.extend(
        f"{name}{suffix} has more than {MAX_BYTES} bytes"
        for suffix in _SUFFIXES
        if (folder / f"{name}{suffix}").stat().st_size > MAX_BYTES
    )
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the index, or with ``--check`` print what does not agree and return 1."""
    parser = argparse.ArgumentParser(prog="python -m tools.figure_index", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, report what does not agree")
    if not parser.parse_args(arguments).check:
        write_index(ROOT)
        return 0
    found = problems(ROOT)
    print("\n".join(found) if found else "figures, data, index and notebooks agree")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
