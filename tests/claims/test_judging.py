"""Judging many claims: verdicts that depend on nothing else, broken checks, processes, digests and tables."""

import csv
import io
import json
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace

import numpy as np
import pytest

from lt_lib.claims import _digest, judging, report
from lt_lib.claims import ledger as ledger_module
from lt_lib.claims.core import Check, Claim, Judgement
from lt_lib.claims.errata import erratum
from lt_lib.claims.judging import Outcome, judge_errata, judge_rows
from lt_lib.claims.ledger import ledger, row, select
from lt_lib.claims.rules import at_least

TEMPLATE = row(62)
UNCHECKED = replace(row(137), check=None, module="", reason="needs a two-by-two design")


def made_up(number, measure, judge=lambda value: at_least(value, 0.0), *, seconds=0.0, profiles=("quick",)):
    """A row outside the ledger's own."""
    claim = Claim(number, "S0 L1", "T", f"claim {number}", "rule")
    return replace(TEMPLATE, claim=claim, check=Check(claim, measure, judge, profiles), seconds=seconds)


def constant(value):
    return lambda _profile, _rng: value


def judged(rows, **options):
    return {outcome.subject.id: outcome for outcome in judge_rows(rows, workers=1, **options)}


# What a verdict depends on


def test_a_row_is_judged_alike_alone_with_others_and_in_processes():
    alone = {number: judged([row(number)])[number].judgement for number in (2, 13, 15, 38)}
    together = judged(select([1, 2, 13, 14, 15, 38, 79]))
    spread = {outcome.subject.id: outcome for outcome in judge_rows(select([2, 13, 15, 38]), workers=2)}
    for number, judgement in alone.items():
        assert repr(together[number].judgement) == repr(spread[number].judgement) == repr(judgement)
    other = judged([row(13)], seed=1)[13].judgement
    assert other.verdict == alone[13].verdict
    assert other.statistic != alone[13].statistic


def test_rows_with_one_measurement_share_it_and_its_generator(monkeypatch):
    drawn = []

    def measure(_profile, rng):
        drawn.append(rng.random())
        return drawn[-1]

    rows = tuple(made_up(number, measure) for number in (5, 3, 9))
    monkeypatch.setattr(ledger_module, "ledger", lambda: rows)
    together = judged(rows)
    assert len(drawn) == 1
    assert {outcome.judgement.statistic for outcome in together.values()} == set(drawn)
    # Alone, the row still draws what the first of the three would draw.
    assert judged(rows[2:])[9].judgement.statistic == drawn[0]
    assert judging.first_sharing(rows[2]) == 3


def test_measurements_draw_independently_of_each_other():
    rows = [made_up(number, lambda _profile, rng, _own=number: rng.random()) for number in (1, 2, 3)]
    assert len({outcome.judgement.statistic for outcome in judged(rows).values()}) == 3


def test_the_longest_measurement_comes_first():
    rows = [made_up(1, constant(1.0), seconds=1), made_up(2, constant(1.0), seconds=9), made_up(3, constant(1.0))]
    assert [outcome.subject.id for outcome in judge_rows(rows, workers=1)] == [2, 1, 3]


def test_rows_without_a_check_or_for_another_profile_say_why():
    def never(_profile, _rng):
        raise AssertionError("must not be measured")

    outcomes = judged([UNCHECKED, made_up(200, never, profiles=("paper",))])
    assert {outcome.verdict for outcome in outcomes.values()} == {"not judged"}
    assert "two-by-two" in outcomes[137].judgement.why
    assert outcomes[200].judgement.why == "needs profile paper, this is quick"
    assert outcomes[137].digest == ""


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"profile": "fast"}, ValueError, "`profile` must be one of 'quick', 'small', 'paper', got 'fast'"),
        ({"seed": -1}, ValueError, "`seed` must be"),
        ({"workers": 0}, ValueError, "`workers` must be"),
        ({"workers": 1.5}, TypeError, "`workers` must be an integer"),
    ],
)
def test_options_are_checked_before_anything_runs(options, error, message):
    with pytest.raises(error, match=message):
        judge_rows([TEMPLATE], **options)


# Broken checks


def test_a_check_that_raises_is_broken_and_the_others_go_on():
    def fail(*_arguments):
        raise ZeroDivisionError("in the measurement")

    rows = [made_up(1, fail), made_up(2, constant(1.0), judge=fail), made_up(3, constant(1.0))]
    outcomes = judged(rows)
    assert [outcomes[number].verdict for number in (1, 2, 3)] == ["broken", "broken", "holds"]
    assert outcomes[1].error.startswith("Traceback")
    assert "ZeroDivisionError: in the measurement" in outcomes[2].error
    assert outcomes[3].error == ""


def test_one_broken_measurement_breaks_all_rows_that_share_it(monkeypatch):
    def fail(_profile, _rng):
        raise ValueError("no")

    rows = tuple(made_up(number, fail) for number in (1, 2))
    monkeypatch.setattr(ledger_module, "ledger", lambda: rows)
    assert {outcome.verdict for outcome in judged(rows).values()} == {"broken"}


def test_a_killed_process_takes_only_its_own_work_with_it():
    # A function that a new process finds by name; the second call ends the interpreter at once, as a kill does.
    calls = [("1 + 1",), ("import os; os._exit(3)",), ("2 + 2",)]
    results = dict(judging._in_processes(exec, calls, 2))
    assert results[0] is results[2] is None
    assert isinstance(results[1], BrokenProcessPool)


def test_rows_of_a_killed_process_are_broken(monkeypatch):
    died = BrokenProcessPool("gone")
    monkeypatch.setattr(
        judging, "_in_processes", lambda _function, calls, _workers: ((k, died) for k in range(len(calls)))
    )
    found = {outcome.subject.id: outcome for outcome in judge_rows(select([14, 15, 62]), workers=2)}
    assert {outcome.verdict for outcome in found.values()} == {"broken"}
    assert len(found) == 3
    assert found[15].error == "the process died: gone"


# Errata


def test_errata_shown_by_a_row_turn_its_verdict_around():
    shown = erratum("E21")

    def verdict(*claims):
        return judge_errata(claims, subjects=[shown])[0]

    refuted = Outcome(row(59), "quick", Judgement("refuted", -1.0), "abc")
    assert verdict(refuted).verdict == "holds"
    assert verdict(refuted).digest == "abc"
    assert verdict(replace(refuted, judgement=Judgement("holds", 1.0))).verdict == "refuted"
    assert verdict(replace(refuted, judgement=Judgement("inconclusive"))).verdict == "inconclusive"
    assert verdict(replace(refuted, judgement=None, error="x")).judgement.why == "row 59, which shows it, is broken"
    assert verdict().judgement.why == "row 59, which shows it, was not judged"


def test_errata_without_a_demonstration_give_the_reason_and_broken_ones_their_error():
    def fail(_statement, _rng):
        raise KeyError("gone")

    shown = erratum("E1")
    broken = replace(shown, demonstration=replace(shown.demonstration, deviation=fail))
    outcomes = judge_errata(subjects=[erratum("E9"), broken, shown])
    assert [outcome.verdict for outcome in outcomes] == ["not judged", "broken", "holds"]
    assert outcomes[0].judgement.why == erratum("E9").reason
    assert "KeyError" in outcomes[1].error


def test_an_erratum_is_judged_alike_alone_and_with_others():
    some = judge_errata(subjects=[erratum(name) for name in ("E11", "E22", "E36", "E59")])
    (alone,) = judge_errata(subjects=[erratum("E36")])
    # As text: from Python 3.13 on a judgement with a NaN equals no other, not even itself.
    assert repr(alone.judgement) == repr(some[2].judgement)
    other = judge_errata(subjects=[replace(erratum("E36"), id="E37")])
    assert other[0].judgement.statistic != alone.judgement.statistic


# Digests


def test_only_code_counts():
    code = "def f(x):\n    return x + 1\n"
    same = '"""Doc."""\n\n\ndef f(x):  # adds\n    """One\n    more."""\n    # here\n    return x + 1\n'
    assert _digest.bare(same) == _digest.bare(code)
    assert _digest.bare(code.replace("1", "2")) != _digest.bare(code)
    assert _digest.bare('x = "# no comment"') == 'x = "# no comment"'


def test_helpers_theory_and_tables_belong_to_a_check(monkeypatch):
    _digest._digest.cache_clear()
    real = _digest._text

    def digests(changed=""):
        _digest._digest.cache_clear()
        monkeypatch.setattr(_digest, "_text", lambda name: real(name) + ("\nCHANGED = 1\n" if name == changed else ""))
        return {number: judging.row_digest(row(number)) for number in (62, 83, 90, 23)}

    before = digests()
    assert len(set(before.values())) == 3  # 83 and 90 live in one module
    changes = {
        "lt_lib.claims._margin_worlds": {83, 90},
        "lt_lib.theory.margins": {83, 90},
        "lt_lib.claims.rules": {62, 83, 90, 23},
        "lt_lib.counts": {62, 83, 90, 23},
        "lt_lib.claims.federated": set(),
    }
    for name, expected in changes.items():
        after = digests(name)
        assert {number for number in before if before[number] != after[number]} == expected, name
    _digest._digest.cache_clear()


def test_modules_outside_are_not_followed():
    assert _digest.imported(
        "from lt_lib.recipes import run\nimport lt_lib.theory.margins\nfrom lt_lib import claims"
    ) == ["lt_lib.theory.margins"]
    assert judging.row_digest(UNCHECKED) == judging.erratum_digest(erratum("E9")) == ""
    assert judging.erratum_digest(erratum("E57")) != judging.erratum_digest(erratum("E1"))


# Tables


def outcomes():
    return [
        Outcome(row(4), "quick", Judgement("refuted", 0.64512345, threshold="share >= 0.8"), "d1"),
        Outcome(row(2), "quick", Judgement("holds", 1234.5, 1.0, 2.0, "a | b"), "d2"),
        Outcome(UNCHECKED, "quick", Judgement("not judged", why="later")),
        Outcome(row(3), "quick", None, "d3", "Traceback\nValueError: no\n"),
    ]


def test_the_csv_has_the_columns_in_the_order_of_the_ledger():
    lines = list(csv.DictReader(io.StringIO(report.claims_csv(outcomes()))))
    first = "id source type profile verdict statistic low high threshold notebook".split()
    assert list(lines[0])[:10] == first
    assert [line["id"] for line in lines] == ["2", "3", "4", "137"]
    assert [line["verdict"] for line in lines] == ["holds", "broken", "refuted", "not judged"]
    assert [lines[0][name] for name in ("statistic", "low", "high")] == ["1230", "1", "2"]
    assert [lines[2][name] for name in ("statistic", "low", "threshold", "digest")] == [
        "0.645",
        "",
        "share >= 0.8",
        "d1",
    ]
    assert lines[1]["reason"] == "ValueError: no"
    assert lines[3]["reason"] == "later"


def test_the_page_shows_surprises_first_and_keeps_its_columns():
    page = report.claims_markdown(outcomes(), judge_errata(subjects=[erratum("E11"), erratum("E9")]))
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[0] for line in rows[:6]] == ["| row", "| ---", "| 3", "| 4", "| 2", "| 137"]
    assert {line.replace("\\|", "").count("|") for line in rows} == {8}
    assert "1230 [1, 2]" in page
    assert "a \\| b" in page
    assert "ValueError: no" in page
    assert "Errata: 1 holds, 1 not judged." in page


def test_the_text_ends_with_the_counts():
    text = report.claims_text(outcomes(), judge_errata(subjects=[erratum("E11"), erratum("E9")]))
    assert text.startswith("row 3 is broken:\nTraceback")
    assert text.endswith("claims: 1 broken, 1 refuted, 1 holds, 1 not judged\nerrata: 1 holds, 1 not judged")
    assert " E11  holds" in text
    assert "E9 " not in text


def test_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = report.prepare_folder(tmp_path / "new", [])
    names = report.write_report(folder, outcomes(), seed=3)
    assert [path.name for path in names] == ["claims.csv", "claims.md", "claims.json"]
    before = names[0].read_text(encoding="utf-8")
    assert before == report.claims_csv(outcomes())
    about = json.loads(names[2].read_text(encoding="utf-8"))
    assert (about["seed"], about["profiles"]) == (3, ["quick"])
    assert about["device"].startswith("CPU (")
    assert "torch" in about["versions"]

    def fail(*_arguments):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report.write_report(folder, outcomes()[:1], seed=3)
    assert names[0].read_text(encoding="utf-8") == before
    assert sorted(path.name for path in folder.iterdir()) == ["claims.csv", "claims.json", "claims.md"]


def test_a_folder_is_refused_before_anything_is_judged(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="`out` must be a folder that can be written to, got .*file"):
        report.prepare_folder(tmp_path / "file", [])
    folder = report.prepare_folder(tmp_path / "new", [])
    report.write_report(folder, outcomes(), seed=0)
    with pytest.raises(ValueError, match="which would be lost; .*claims.csv has 3 besides these"):
        report.prepare_folder(folder, [outcomes()[0].subject])
    assert report.prepare_folder(folder, [outcome.subject for outcome in outcomes()]) == folder


def test_the_whole_ledger_fits_the_table():
    lines = list(
        csv.DictReader(io.StringIO(report.claims_csv([Outcome(r, "quick", Judgement("holds")) for r in ledger()])))
    )
    assert len(lines) == 139
    assert np.all([line["notebook"] for line in lines])


def test_stored_tables_are_read_by_profile(tmp_path):
    with pytest.raises(ValueError, match="`folder` must hold a table such as claims-quick.csv"):
        report.stored_tables(tmp_path)
    (tmp_path / "claims-small.csv").write_text(report.claims_csv(outcomes()[:1]))
    (tmp_path / "claims-quick.csv").write_text(report.claims_csv(outcomes()))
    tables = report.stored_tables(tmp_path)
    assert list(tables) == ["quick", "small"]
    assert tables["quick"].statistic.round(3).tolist()[:1] == [1230.0]
    assert tables["quick"].loc["137", "threshold"] == ""
    assert tables["quick"].loc["2", "notebook"] == "010"
    errata = judge_errata(subjects=[erratum("E11")])
    (tmp_path / "errata-quick.csv").write_text(report.claims_csv(errata, report.ERRATA_COLUMNS))
    assert report.stored_tables(tmp_path, "errata")["quick"].loc["E11", "verdict"] == "holds"
    with pytest.raises(
        ValueError, match="`name` must be one of 'claims', 'errata', got 'claim'. Did you mean 'claims'"
    ):
        report.stored_tables(tmp_path, "claim")
