"""``figures/INDEX.md``: every figure with its notebook, data, profile and alt text.

``python -m tools.figure_index`` writes it, ``--check`` compares it with the files.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from html import unescape
from pathlib import Path

from lt_lib.plotting import data_digest, read_figure_data
from tools.check import lecture_paths, read_notebook, shown_figures

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 1_000_000
_SUFFIXES = (".svg", ".png", ".csv")


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
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


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
