"""The scripts that keep notebooks, parameters and the index of figures in order."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lt_lib.batch.parameters import Parameter, check_type, check_values, parse_text, read_parameters
from lt_lib.plotting import show_figure
from tools import canonical, check, execute, figure_index, notebooks

GOOD = Path(__file__).parent / "notebooks" / "fixtures" / "good.ipynb"
CELL = """
profile: str = "quick"  # quick, small or paper
seed: int = 0  # seed
rate: float = 0.1  # learning rate
order: list[int] | None = None  # class order
"""


# Parameters


def test_parameters_are_read_with_types_defaults_and_comments():
    assert read_parameters(CELL) == [
        Parameter("profile", "str", "quick", "quick, small or paper"),
        Parameter("seed", "int", 0, "seed"),
        Parameter("rate", "float", 0.1, "learning rate"),
        Parameter("order", "list[int] | None", None, "class order"),
    ]


def test_a_hash_in_a_text_is_no_comment():
    assert read_parameters('colour: str = "#fff"')[0].comment == ""


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("seed = 0  # seed", "`parameters` must hold lines"),
        ("import os", "`parameters` must hold lines"),
        ("seed: int  # seed", "`parameters` must hold lines"),
        ("seed: int = len('a')  # seed", "`seed` must have a literal default"),
        ("world: dict = {}  # world", "`annotation` must be built from"),
        ('profile: str = "large"  # profile', "`profile` must be one of quick, small, paper, got 'large'"),
    ],
)
def test_an_improper_cell_is_refused(source, message):
    with pytest.raises(ValueError, match=message):
        read_parameters(source)


def test_a_default_of_another_type_is_refused():
    with pytest.raises(TypeError, match=r"`seed` must be int, got 0\.5 \(float\)"):
        read_parameters("seed: int = 0.5  # seed")


@pytest.mark.parametrize(
    ("annotation", "fits", "does_not"),
    [
        ("int", [0, -3], [True, 1.0, "1", None]),
        ("float", [0.5, 1], [True, "0.5"]),
        ("bool", [True], [0, "true"]),
        ("str", ["a"], [1]),
        ("int | None", [1, None], ["None"]),
        ("list[int]", [[], [1]], [(1,), [1.5], ["a"], 1]),
        ("tuple[float, ...]", [(1, 0.5)], [[1.0], ("a",)]),
    ],
)
def test_values_are_held_against_annotations(annotation, fits, does_not):
    for value in fits:
        check_type("x", annotation, value)
    for value in does_not:
        with pytest.raises(TypeError, match="`x` must be"):
            check_type("x", annotation, value)


@pytest.mark.parametrize(
    ("annotation", "text", "value"),
    [
        ("bool", "false", False),
        ("bool", "True", True),
        ("str", "007", "007"),
        ("str", "None", "None"),
        ("int", "7", 7),
        ("float", "1e-3", 0.001),
        ("float", "3", 3.0),
        ("int | None", "None", None),
        ("int | float", "2", 2),
        ("list[int]", "[1, 2]", [1, 2]),
        ("tuple[int, ...]", "[1, 2]", (1, 2)),
    ],
)
def test_texts_become_values_of_the_annotated_type(annotation, text, value):
    parsed = parse_text("x", annotation, text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("annotation", "text"), [("int", "3.0"), ("bool", "yes"), ("list[int]", "1"), ("float", "x")])
def test_texts_of_another_type_are_refused(annotation, text):
    with pytest.raises(TypeError, match=f"`x` must be .*got '{text}'"):
        parse_text("x", annotation, text)


def test_unknown_parameters_are_refused_with_the_nearest_names():
    with pytest.raises(
        ValueError, match=r"`sed` must be a parameter of the notebook \(profile, .*\), .* Nearest: seed"
    ):
        check_values(read_parameters(CELL), {"sed": 1})
    with pytest.raises(TypeError, match="`seed` must be int, got '1'"):
        check_values(read_parameters(CELL), {"seed": "1"})
    check_values(read_parameters(CELL), {"seed": 1, "profile": "paper"})


# Stored notebooks


@pytest.fixture
def good() -> nbformat.NotebookNode:
    return nbformat.read(GOOD, as_version=4)


def code(nb: nbformat.NotebookNode, index: int) -> nbformat.NotebookNode:
    return [cell for cell in nb.cells if cell.cell_type == "code"][index]


def test_the_good_fixture_keeps_all_rules():
    assert check.problems(GOOD) == []


def _set(nb, index, **fields):
    code(nb, index).update(fields)


def _stream(name, text):
    return nbformat.v4.new_output("stream", name=name, text=text)


BREAKS = {
    "counts": (lambda nb: _set(nb, 1, execution_count=5), "execution counts"),
    "stripped": (
        lambda nb: [cell.update(execution_count=None, outputs=[]) for cell in nb.cells[1:]],
        "execution counts",
    ),
    "tag": (lambda nb: code(nb, 1).metadata.update(tags=["nbval_ignore_output"]), "known are"),
    "kernel": (lambda nb: nb.metadata.kernelspec.update(name="mine"), "another kernel"),
    "error": (
        lambda nb: _set(
            nb, 1, outputs=[nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])]
        ),
        "stores the error ValueError",
    ),
    "stderr": (lambda nb: _set(nb, 1, outputs=[_stream("stderr", "old function\n")]), "stores a warning or log"),
    "path": (
        lambda nb: _set(nb, 1, outputs=[_stream("stdout", "in /home/me/x\n")]),
        "path of one machine: '/home/me/x'",
    ),
    "opening": (lambda nb: nb.cells.pop(0), "does not open with a text cell"),
    "order": (lambda nb: nb.cells.insert(1, nbformat.v4.new_markdown_cell("more")), "as its second cell"),
    "untagged": (lambda nb: code(nb, 0).metadata.pop("tags"), "must have one cell tagged parameters, got 0"),
    "bare": (lambda nb: _set(nb, 0, source="seed = 0"), "no proper parameters cell"),
    "uncommented": (lambda nb: _set(nb, 0, source=code(nb, 0).source.split("  #")[0]), "does not comment on"),
    "no seed": (lambda nb: _set(nb, 0, source=code(nb, 0).source.replace("seed:", "sd:")), "no parameter seed"),
    "no out_dir": (lambda nb: _set(nb, 0, source=code(nb, 0).source.replace("out_dir:", "o:")), "no parameter out_dir"),
    "profile": (lambda nb: _set(nb, 0, source=code(nb, 0).source.replace('"quick"', '"paper"')), "another profile"),
    "comment": (lambda nb: _set(nb, 1, source="#NBVAL_SKIP"), "switches the comparison off"),
    "semicolon": (lambda nb: _set(nb, 1, source="values.sort();"), "ends with a semicolon"),
    "picture": (lambda nb: code(nb, 2).outputs[0].data.update({"text/plain": "<Figure>"}), "without show_figure"),
    "size": (lambda nb: _set(nb, 1, outputs=[_stream("stdout", "x" * 1_000_001)]), "more than 1000000"),
    "long": (lambda nb: _set(nb, 1, source="\n".join(["x = 1"] * 16)), "cell 2 has 16 lines of code, more than 15"),
    "no id": (lambda nb: nb.cells[1].pop("id"), "cells without an id"),
    "ids": (lambda nb: nb.cells[1].update(id=nb.cells[0].id), "with the same id"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_broken_rule_is_named(tmp_path, good, name):
    damage, message = BREAKS[name]
    damage(good)
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(good), encoding="utf-8")
    assert message in "\n".join(check.problems(path))


@pytest.mark.parametrize("source", ['text = "a;"', "x = 1  # first;", "x = 1\n# done;"])
def test_a_semicolon_in_text_or_comment_is_none(tmp_path, good, source):
    _set(good, 1, source=source)
    canonical.write_canonical(good, tmp_path / "n.ipynb")
    assert check.problems(tmp_path / "n.ipynb") == []


def test_blank_lines_comments_and_parameters_do_not_make_a_cell_long(tmp_path, good):
    _set(good, 1, source="\n".join(["x = 1"] * 15 + ["", "    ", "  # why"]))
    lines = "\n".join(f"p{i}: int = 0  # number {i}" for i in range(16))
    _set(good, 0, source=f"{code(good, 0).source}\n{lines}")
    canonical.write_canonical(good, tmp_path / "n.ipynb")
    assert check.problems(tmp_path / "n.ipynb") == []


def test_canonical_form_is_the_only_form(tmp_path):
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(json.loads(GOOD.read_text(encoding="utf-8")), indent=4), encoding="utf-8")
    assert check.problems(path) == [
        "is not in canonical form; store it with `make nb-NNN` or `python -m tools.notebooks canonicalise`"
    ]
    assert notebooks.main(["canonicalise", str(path)]) == 0
    assert path.read_bytes() == GOOD.read_bytes()


def test_canonical_form_drops_the_traces_of_a_run_and_keeps_the_content(good):
    before = canonical.canonical_text(good)
    good.metadata.papermill = {"duration": 3}
    good.metadata.language_info.version = "3.11.7"
    good.cells[1].metadata.update(papermill={"status": "completed"}, execution={"start": 0}, collapsed=False)
    good.cells[0].metadata.tags = []
    code(good, 1).outputs = [_stream("stdout", "mean"), _stream("stdout", " 0.352\n")]
    assert canonical.canonical_text(good) == before
    assert before.endswith("}\n")
    assert json.loads(before)["cells"][2]["execution_count"] == 2
    good.cells[2].source += "\n"
    assert canonical.canonical_text(good) != before


def test_two_notebooks_may_not_show_one_figure(tmp_path):
    for name in ("010_a.ipynb", "020_b.ipynb"):
        shutil.copy(GOOD, tmp_path / name)
    found = check.all_problems(sorted(tmp_path.iterdir()))
    assert found == ["020_b.ipynb: shows the figure fixture, which 010_a.ipynb shows too"]


def test_what_is_no_notebook_is_named(tmp_path):
    (tmp_path / "x.ipynb").write_text("nothing")
    with pytest.raises(ValueError, match=r"`path` must be a notebook, got x\.ipynb"):
        check.read_notebook(tmp_path / "x.ipynb")


def test_stored_notebooks_of_the_repository_keep_the_rules(repository):
    assert check.all_problems(check.notebook_paths(repository)) == []


def test_notebooks_are_found_by_number_name_and_path(tmp_path):
    (tmp_path / "notebooks").mkdir()
    path = tmp_path / "notebooks" / "030_effective_number.ipynb"
    shutil.copy(GOOD, path)
    for name in ("030", "030_effective_number", str(path)):
        assert execute.find_notebook(name, tmp_path) == path
    with pytest.raises(ValueError, match=r"`notebook` must name one notebook, got '040'\. There are: 030_effective"):
        execute.find_notebook("040", tmp_path)
    with pytest.raises(ValueError, match="`notebook` must exist"):
        execute.find_notebook("none.ipynb", tmp_path)


# Runs


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        (
            "sed=1",
            "`sed` must be a parameter of the notebook (profile, seed, out_dir), got an unknown name. Nearest: seed",
        ),
        ("seed=1.5", "`seed` must be int, got '1.5'"),
        ("profile=large", "`profile` must be one of quick, small, paper, got 'large'"),
        ("seed", "`-p` must be name=value, got 'seed'"),
    ],
)
def test_wrong_input_is_refused_before_a_kernel_starts(tmp_path, capsys, assignment, message):
    target = tmp_path / "out.ipynb"
    assert notebooks.main(["run", str(GOOD), "-p", assignment, "--to", str(target)]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_paths_with_braces_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`path` must hold no braces"):
        execute.run_notebook(GOOD, tmp_path / "{x}.ipynb", {})


def test_long_notebooks_and_new_ones_start_first(monkeypatch):
    monkeypatch.setattr(execute, "_SECONDS", {"010": 3, "030": 20, "120": 7})
    paths = [Path(name) for name in ("010_a", "120_b", "030_c", "500_new")]
    assert [path.name for path in execute.longest_first(paths)] == ["500_new", "030_c", "120_b", "010_a"]


def test_every_notebook_has_a_time_that_orders_the_work():
    assert set(execute._SECONDS) == {path.name[:3] for path in check.notebook_paths(execute.ROOT)}


def run_tool(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "tools.notebooks", *arguments]
    variables = {**os.environ, **execute.QUICK_ENVIRONMENT, **environment}
    return subprocess.run(command, cwd=execute.ROOT, env=variables, capture_output=True, text=True, timeout=200)


def test_a_run_takes_parameters_and_reproduces_the_stored_notebook(tmp_path):
    done = run_tool("run", str(GOOD), "-p", "seed=0", "--to", str(tmp_path / "out.ipynb"), LT_OUT=str(tmp_path / "f"))
    assert done.returncode == 0, done.stderr
    nb = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert code(nb, 1).source.startswith("# Parameters")
    texts = [shown.digest for shown in check.shown_figures(nb)]
    assert texts == [shown.digest for shown in check.shown_figures(nbformat.read(GOOD, as_version=4))]
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["fixture.csv", "fixture.png", "fixture.svg"]


def test_a_failed_run_leaves_no_file_under_the_name_of_a_good_one(tmp_path, good):
    _set(good, 1, source="raise RuntimeError('broken on purpose')")
    nbformat.write(good, tmp_path / "bad.ipynb")
    done = run_tool("run", str(tmp_path / "bad.ipynb"), "--to", str(tmp_path / "out.ipynb"))
    assert done.returncode == 1
    assert "broken on purpose" in done.stderr
    assert not (tmp_path / "out.ipynb").exists()
    assert (tmp_path / "out.failed.ipynb").exists()


def test_the_process_of_one_notebook_leaves_out_what_it_does_not_need(tmp_path, good):
    _set(good, 1, source="raise RuntimeError('broken on purpose')")
    nbformat.write(good, tmp_path / "a bad one.ipynb")
    command = [sys.executable, "-m", "tools.run", str(tmp_path / "a bad one.ipynb")]
    command += ["--to", str(tmp_path / "out.ipynb")]
    variables = {**os.environ, **execute.QUICK_ENVIRONMENT, "PYTHONPROFILEIMPORTTIME": "1"}
    done = subprocess.run(command, cwd=execute.ROOT, env=variables, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert "a bad one.ipynb failed: " in done.stderr
    assert "broken on purpose" in done.stderr
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}
    assert "papermill" in loaded
    assert not loaded & {"rfc3987_syntax.syntax_helpers", "botocore"}


# Index of figures


@pytest.fixture
def tree(tmp_path, good) -> Path:
    """A source tree with one notebook and its figure."""
    import matplotlib.pyplot as plt

    data = pd.DataFrame({"x": [1, 2], "y": [0.5, 0.25]})
    figure = plt.figure()
    show_figure(
        figure, "fixture", data, "Halves | of “it”.", out_dir=tmp_path / "figures", notebook="010", dataset="digits"
    )
    (digest,) = [f for f in (tmp_path / "figures" / "fixture.csv").read_text("utf-8").split() if len(f) == 12]
    code(good, 2).outputs[0].data["text/plain"] = f"[fixture] Halves | of “it”. (data {digest})"
    (tmp_path / "notebooks").mkdir()
    canonical.write_canonical(good, tmp_path / "notebooks" / "010_a.ipynb")
    figure_index.write_index(tmp_path)
    return tmp_path


def test_index_lists_figure_notebook_data_profile_size_and_sentence(tree):
    assert figure_index.problems(tree) == []
    line = (tree / "figures" / "INDEX.md").read_text(encoding="utf-8").splitlines()[-1]
    size = round(sum(path.stat().st_size for path in (tree / "figures").glob("fixture.*")) / 1024)
    assert line == (
        "| [fixture](fixture.svg) | [010](../notebooks/010_a.ipynb) | quick | digits | [fixture.csv](fixture.csv) "
        rf"| 2 | {size} | Halves \| of “it”. |"
    )


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda t: (t / "figures" / "fixture.svg").unlink(), "fixture: fixture.svg missing"),
        (lambda t: _edit(t / "figures" / "fixture.csv", "0.25", "0.35"), "digest in the data file is not that of its"),
        (lambda t: _edit(t / "figures" / "fixture.csv", "Halves", "Thirds"), "the alt in the PNG is not"),
        (
            lambda t: _edit(t / "figures" / "fixture.svg", "<dc:identifier>", "<dc:identifier>0"),
            "the digest in the SVG",
        ),
        (lambda t: _edit(t / "notebooks" / "010_a.ipynb", "[fixture]", "[other]"), "no stored notebook shows it"),
        (lambda t: _edit(t / "notebooks" / "010_a.ipynb", "[fixture]", "[other]"), "other: shown by a stored notebook"),
        (lambda t: _edit(t / "notebooks" / "010_a.ipynb", "(data ", "(data 000000000000) ("), "no stored notebook"),
        (lambda t: _edit(t / "notebooks" / "010_a.ipynb", "Halves", "Parts"), "its alt in the stored notebook is not"),
        (lambda t: (t / "figures" / "notes.txt").touch(), "notes.txt: no part of a figure"),
        (lambda t: _edit(t / "figures" / "INDEX.md", "digits", "svhn"), "INDEX.md is not what the figures say"),
        (lambda t: (t / "figures" / "INDEX.md").unlink(), "INDEX.md is not what the figures say"),
        (
            lambda t: _edit(t / "figures" / "fixture.svg", "</svg>", "</svg>" + " " * 1_000_000),
            "more than 1000000 bytes",
        ),
    ],
)
def test_each_disagreement_is_found(tree, damage, message):
    damage(tree)
    assert message in "\n".join(figure_index.problems(tree))


def test_figures_and_index_of_the_repository_agree(repository):
    assert figure_index.problems(repository) == []


SOURCES = "source,kind,place,what,figures,notebooks,results,grids,published,reason\n"


@pytest.fixture
def sources(tree) -> Path:
    """The tree with one line on a figure of a source, and all published tables on another."""
    from lt_lib.claims import published, published_tables

    (tree / "tools").mkdir()
    (tree / "results").mkdir()
    (tree / "notebooks" / "grids").mkdir()
    (tree / "notebooks" / "grids" / "g.yaml").touch()
    tables = " ".join(sorted({table for name in published_tables() for table in published(name)["table"]}))
    lines = ["S0,figure,L1,A | picture,fixture,010,,g,,", f"Paper,table,table 1,Numbers,,,,,{tables},data withdrawn"]
    (tree / "tools" / "sources.csv").write_text(SOURCES + "\n".join(lines) + "\n", encoding="utf-8")
    figure_index.write_index(tree)
    return tree


def test_index_lists_what_the_sources_show_and_what_makes_it_again(sources):
    assert figure_index.problems(sources) == []
    text = (sources / "figures" / "INDEX.md").read_text(encoding="utf-8")
    here = "[fixture](fixture.svg), [010](../notebooks/010_a.ipynb), grid [g](../notebooks/grids/g.yaml)"
    assert rf"| S0 | L1 | A \| picture | {here} |  |" in text
    assert text.index("## Figures") < text.index("| S0 |") < text.index("## Tables") < text.index("| Paper |")
    assert "## Theorems" not in text
    assert text.count("data withdrawn") == 1
    # The table that a grid makes is named as soon as it is there, and the index is then out of date.
    (sources / "results" / "g.csv").touch()
    assert figure_index.problems(sources) == [
        "INDEX.md is not what the figures say; run `python -m tools.figure_index`"
    ]
    assert ", [g.csv](../results/g.csv), grid [g]" in figure_index.index_text(sources)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("fixture,010", "fixtur,010", "sources.csv, S0, L1: no figures fixtur"),
        ("fixture,010", "fixture,020", "sources.csv, S0, L1: no notebooks 020"),
        (",010,,g,,", ",010,r.csv,g,,", "sources.csv, S0, L1: no results r.csv"),
        (",010,,g,,", ",010,,h,,", "sources.csv, S0, L1: no grids h"),
        ("crest_readme", "crest_reedme", "sources.csv, Paper, table 1: no published crest_reedme"),
        ("crest_readme", "", "sources.csv: the published table crest_readme is not listed"),
        (
            "S0,figure",
            "S0,picture",
            "sources.csv, S0, L1: the kind must be one of figure, table, theorem",
        ),
        ("data withdrawn", "", "sources.csv, Paper, table 1: neither what reproduces it nor why nothing does"),
    ],
)
def test_a_line_on_the_sources_that_is_wrong_is_named(sources, old, new, message):
    _edit(sources / "tools" / "sources.csv", old, new)
    assert message in "\n".join(figure_index.problems(sources))


def test_every_source_of_the_repository_has_what_makes_it_again_or_a_reason(repository):
    assert figure_index.source_problems(repository) == []
    entries = figure_index.source_entries(repository)
    kinds = [entry["kind"] for entry in entries]
    # The notes have 18 places with figures; the papers' tables and theorems come on top.
    least = {"figure": 19, "table": 17, "theorem": 14}
    assert all(kinds.count(kind) >= number for kind, number in least.items())
    notes = {note for entry in entries for note in ("S0", "S1", "S2", "S3") if note in entry["source"]}
    assert notes == {"S0", "S1", "S2", "S3"}


# Makefile and scripts


def test_every_target_of_the_makefile_has_a_recipe_and_help(repository):
    text = (repository / "Makefile").read_text(encoding="utf-8")
    targets = next(line for line in text.splitlines() if line.startswith(".PHONY:")).split()[1:]
    shown = subprocess.run(["make", "help"], cwd=repository, capture_output=True, text=True, check=True).stdout
    for target in targets:
        assert f"  make {target} " in shown
    for target in [*targets, "fig-x", "nb-010"]:
        planned = subprocess.run(
            ["make", "-n", "--always-make", target], cwd=repository, capture_output=True, text=True
        )
        assert planned.returncode == 0, planned.stderr
        assert planned.stdout.strip()


@pytest.mark.parametrize("script", ["tools/env.sh", "tools/test.sh", "tools/lock.sh", ".ci/run"])
def test_scripts_can_be_run_and_stop_at_the_first_error(repository, script):
    path = repository / script
    assert path.stat().st_mode & stat.S_IXUSR
    assert "set -euo pipefail" in path.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_another_python_is_refused_in_words(repository, tmp_path):
    (tmp_path / "tools").mkdir()
    shutil.copy(repository / "tools" / "env.sh", tmp_path / "tools")
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = -c ] && exit 1\necho Python 3.9.0\n')
    old.chmod(0o755)
    command = ["bash", str(tmp_path / "tools" / "env.sh"), ".venv/stamp"]
    done = subprocess.run(command, env={**os.environ, "PYTHON": str(old)}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "No Python 3.11, 3.12 or 3.13 found" in done.stderr
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(old, tmp_path / ".venv" / "bin" / "python")
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert ".venv holds Python 3.9.0, but Python 3.11, 3.12 or 3.13 is needed" in done.stderr


@pytest.mark.parametrize(
    ("step", "code"),
    [("true", 0), ("echo more >> tracked", 1), ("touch new", 1), ("exit 3", 3)],
    ids=["harmless", "changes a file", "leaves a file", "fails"],
)
def test_the_test_script_fails_when_a_step_fails_or_changes_the_tree(repository, tmp_path, step, code):
    (tmp_path / "tools").mkdir()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(repository / "tools" / "test.sh", tmp_path / "tools")
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(f"#!/bin/sh\n{step}\n")
    python.chmod(0o755)
    (tmp_path / "tracked").write_text("changed before the tests, which is nobody's fault\n")
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for arguments in (["init", "-q"], ["add", "."], [*identity, "commit", "-qm", "all"]):
        subprocess.run(["git", *arguments], cwd=tmp_path, check=True)
    (tmp_path / "tracked").write_text("as it is edited\n")
    done = subprocess.run(["bash", "tools/test.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("the tests changed the source tree" in done.stderr) == (code == 1)
