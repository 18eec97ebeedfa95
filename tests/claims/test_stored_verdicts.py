"""The verdicts stored in the notebooks and those of the table of claims must be the same."""

import csv
import json
import re
from collections import Counter

import pytest

from lt_lib.claims.judging import judge_rows
from lt_lib.claims.ledger import recorded
from lt_lib.claims.report import claims_csv

LINE = re.compile(r"^ *(\d+)  (refuted|inconclusive|holds|not judged) ", re.MULTILINE)


def stored_verdicts(path):
    """Row of the ledger -> verdict, from the outputs of the cells that print a table of verdicts."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = [
        "".join(output.get("text", ""))
        for cell in cells
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
        if "row  verdict" in "".join(output.get("text", ""))
    ]
    return {int(row): verdict for text in texts for row, verdict in LINE.findall(text)}


def table_of_claims(repository):
    with open(repository / "results" / "claims-quick.csv", newline="", encoding="utf-8") as file:
        return {int(line["id"]): line for line in csv.DictReader(file)}


def test_notebooks_and_table_agree(repository):
    table, seen = table_of_claims(repository), set()
    for path in sorted((repository / "notebooks").glob("*.ipynb")):
        found = stored_verdicts(path)
        assert found == {row: table[row]["verdict"] for row in found}, path.name
        assert {row for row, line in table.items() if line["notebook"] == path.name[:3] and line["digest"]} <= {*found}
        seen |= {*found}
    assert {row for row, line in table.items() if line["digest"]} <= seen


@pytest.mark.parametrize("profile", ["small", "paper"])
def test_tables_of_measured_runs_hold_what_the_rows_say_now(repository, profile):
    """Rows are read in seconds, so the whole table is made again, digests included."""
    path = repository / "results" / f"claims-{profile}.csv"
    outcomes = list(judge_rows(recorded(), profile, workers=1)) if path.is_file() else []
    made = claims_csv(outcomes) if outcomes else ""
    assert made == (path.read_text(encoding="utf-8") if path.is_file() else ""), (
        f"run `lt-lib claims --profile {profile}` and store its table as results/claims-{profile}.csv and .json"
    )


PRINTED = [("  15  holds         x", {15: "holds"}), (" 100  refuted       x", {100: "refuted"})]


@pytest.mark.parametrize(("printed", "verdict"), PRINTED)
def test_a_verdict_is_read_from_a_stored_table(tmp_path, printed, verdict):
    output = {"text": [" row  verdict       claim\n", printed + "\n"]}
    (tmp_path / "n.ipynb").write_text(json.dumps({"cells": [{"cell_type": "code", "outputs": [output]}]}))
    assert stored_verdicts(tmp_path / "n.ipynb") == verdict


def counted(lines):
    return Counter(line["verdict"] for line in lines)


def test_the_readme_counts_the_stored_verdicts(repository):
    quick = [*table_of_claims(repository).values()]
    with open(repository / "results" / "claims-small.csv", newline="", encoding="utf-8") as file:
        small = [*csv.DictReader(file)]
    every, formal = counted(quick), counted(line for line in quick if line["type"] in "TD")
    other, images = counted(line for line in quick if line["type"] not in "TD"), counted(small)
    text = " ".join((repository / "README.md").read_text(encoding="utf-8").split())
    for sentence in (
        f"Of the {len(quick)} claims of the notes, {every['holds']} hold, {every['refuted']} are refuted, "
        f"{every['inconclusive']} are inconclusive and {every['not judged']} are not judged.",
        f"theory and the definitions stand ({formal['holds']} of {formal.total()}).",
        f"Of the {other.total()} statements about trainings and printed tables {other['holds']} hold;",
        f"{images.total() - images['not judged']} of the {images.total()} claims on which such runs bear could be "
        f"judged so far: {images['holds']} hold, {images['refuted']} is refuted, {images['inconclusive']} are open.",
    ):
        assert sentence in text, sentence
