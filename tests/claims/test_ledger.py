"""The ledger: complete, consistent with the checks, and with a stored table of verdicts that the code still gives."""

import ast
import csv
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from lt_lib.claims import ledger as module
from lt_lib.claims._tables import read_table
from lt_lib.claims.judging import judge_errata, judge_rows, row_digest
from lt_lib.claims.ledger import PROFILES, check, ledger, row, select, shared_measure


def stored(repository, name):
    with (repository / "results" / f"{name}-quick.csv").open(encoding="utf-8", newline="") as file:
        return {entry["id"]: entry for entry in csv.DictReader(file)}


def test_the_ledger_is_complete():
    assert [entry.id for entry in ledger()] == list(range(1, 140))
    # Row 134 is words: a check of it could not fail.
    assert [entry.id for entry in ledger() if entry.check is None] == [134]


@pytest.mark.parametrize("entry", ledger(), ids=lambda entry: entry.id)
def test_every_row_is_in_order(entry, repository):
    table = {int(line["id"]): line for line in read_table("ledger")}
    line = table[entry.id]
    # What stands at the check stands there alone; source and type, which stand in both places, agree.
    assert (entry.id, line["source"], line["type"]) == (entry.claim.id, entry.claim.source, entry.claim.kind)
    assert bool(line["statement"]) == bool(line["rule"]) == bool(line["reason"]) == (entry.check is None)
    assert bool(entry.reason) == (entry.check is None)
    assert entry.claim.statement
    assert entry.claim.rule
    assert entry.profile in PROFILES
    if entry.check is not None:
        assert entry.profile == entry.check.profiles[0]
    assert re.fullmatch(r"S\d L\d+(-\d+)?(, L\d+(-\d+)?)*( \(\*\))?", entry.claim.source), entry.claim.source
    assert entry.notebook in {f"{number:03d}" for number in range(10, 130, 10)}
    known = (repository / "references.bib").read_text(encoding="utf-8")
    assert all(f"{{{key}," in known for key in entry.papers)
    assert all(other < entry.id and row(other) for other in entry.same_as)
    assert entry.seconds >= 0


def test_rows_name_their_errata():
    assert row(25).errata == ("E1",)
    assert row(105).errata == ("E74",)
    assert row(62).errata == ("E51",)


def test_a_check_is_found_by_its_number():
    assert check(62).claim.id == 62
    assert check(137).claim.kind == "O"


@pytest.mark.parametrize(("number", "nearest"), [(140, "137, 138, 139"), (0, "1, 2, 3"), (-5, "1, 2, 3")])
def test_an_unknown_row_brings_the_nearest(number, nearest):
    with pytest.raises(
        ValueError, match=f"`id` must be a row of the ledger, 1 to 139, got {number}. Nearest: {nearest}"
    ):
        check(number)


@pytest.mark.parametrize("number", ["62", 62.0, True])
def test_a_row_has_a_whole_number(number):
    with pytest.raises(TypeError, match="`id` must be a whole number, got"):
        row(number)


def test_selected_rows_come_once_and_in_order():
    assert [entry.id for entry in select([64, 7, 120, 7, 1])] == [1, 7, 64, 120]
    assert select([]) == []


def test_rows_that_share_a_measurement_know_each_other():
    assert [entry.id for entry in shared_measure(row(79))] == [14, 15, 79]
    assert [entry.id for entry in shared_measure(row(62))] == [62]
    with pytest.raises(ValueError, match="`entry` must have a check, got row 137: later"):
        shared_measure(replace(row(137), check=None, reason="later"))


def test_the_ledger_loads_without_torch(tmp_path):
    code = f"import sys\nfrom {module.__name__} import ledger\nledger()\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


# Every check refuses a false world


def false_worlds(folder):
    """Rows named by the marker `false_world`, read from the source of the tests."""
    rows = set()
    for path in folder.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.false_world":
                        rows |= {argument.value for argument in mark.args}
    return rows


def test_every_check_is_shown_to_refuse_a_false_world(repository):
    found = false_worlds(repository / "tests" / "claims")
    assert found == {entry.id for entry in ledger() if entry.check is not None}


def test_a_check_without_a_false_world_would_be_found(tmp_path):
    (tmp_path / "test_x.py").write_text(
        "@pytest.mark.false_world(3, 4)\ndef test_a():\n    pass\n\ndef test_b():\n    pass\n"
    )
    assert false_worlds(tmp_path) == {3, 4}


# The stored table


def test_the_stored_table_is_of_this_ledger_and_this_code(repository):
    table = stored(repository, "claims")
    expected = {
        str(entry.id): (entry.claim.source, entry.claim.kind, entry.notebook, row_digest(entry)) for entry in ledger()
    }
    found = {name: tuple(line[k] for k in ("source", "type", "notebook", "digest")) for name, line in table.items()}
    stale = {name for name in expected if found.get(name) != expected[name]}
    assert not stale, (
        f"run `make claims`: rows {sorted(map(int, stale))} changed since results/claims-quick.csv was made"
    )
    assert set(found) == set(expected)
    assert {line["profile"] for line in table.values()} == {"quick"}
    assert "broken" not in {line["verdict"] for line in table.values()}


# Rows that take more than two seconds each, nine tenths of the time of all. Notebooks judge them too, and the gate
# runs those again; `test_stored_verdicts.py` holds what they print against the table.
SLOW = {6, 50, 56, 59, 75, 84, 87, 88}


def test_theory_and_definitions_still_get_their_stored_verdicts(repository):
    table = stored(repository, "claims")
    rows = [entry for entry in ledger() if entry.claim.kind in ("T", "D") and entry.id not in SLOW]
    outcomes = {str(outcome.subject.id): outcome for outcome in judge_rows(rows, "quick", workers=1)}
    assert "".join(outcome.error for outcome in outcomes.values()) == ""
    assert {name: outcome.verdict for name, outcome in outcomes.items()} == {
        name: table[name]["verdict"] for name in outcomes
    }
    assert len(outcomes) == len(rows) >= 45


def test_errata_still_get_their_stored_verdicts(repository):
    table = stored(repository, "errata")
    outcomes = {outcome.subject.id: outcome for outcome in judge_errata()}
    assert list(table) == list(outcomes)
    for name, outcome in outcomes.items():
        if outcome.subject.shown_by is None:
            assert (outcome.verdict, outcome.digest) == (table[name]["verdict"], table[name]["digest"]), name
        else:
            shown = stored(repository, "claims")[str(outcome.subject.shown_by)]
            assert {shown["verdict"], table[name]["verdict"]} in ({"holds", "refuted"}, {shown["verdict"]})
