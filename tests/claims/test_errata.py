"""The errata: complete, and each demonstration accepts the corrected statement."""

import re
from dataclasses import replace

import numpy as np
import pytest

from lt_lib.claims.core import Judgement
from lt_lib.claims.errata import KINDS, errata, erratum, opposite

SHOWN = [found for found in errata() if found.demonstration is not None]


def test_the_list_is_complete():
    assert [found.number for found in errata()] == [n for n in range(1, 76) if n != 20]
    assert len(SHOWN) >= 35


@pytest.mark.parametrize("found", errata(), ids=lambda found: found.id)
def test_every_erratum_is_in_order(found, repository):
    assert found.kind in KINDS
    assert re.fullmatch(r"S\d(, S\d)*", found.source)
    assert "L" in found.lines
    assert found.says != found.right
    assert found.rows
    assert set(found.rows) <= set(range(1, 140))
    # Shown by a demonstration, by a row, or with a reason why not; never two of them.
    assert [found.demonstration is not None, found.shown_by is not None, bool(found.reason)].count(True) == 1
    for path in (repository / "notebooks").glob(f"{found.notebook}_*.ipynb"):
        if found.notebook != "130":
            assert re.search(rf"\b{found.id}\b", path.read_text(encoding="utf-8")), path.name


@pytest.mark.parametrize("found", SHOWN, ids=lambda found: found.id)
def test_the_printed_statement_is_wrong_and_the_corrected_one_stands(found, rng):
    assert found.demonstration.run(rng).verdict == "holds"
    corrected = found.demonstration.judge(found.demonstration.right, rng)
    assert corrected.verdict == "refuted"
    assert f"> {found.demonstration.tolerance:g}" in corrected.threshold


@pytest.mark.parametrize("seed", range(1, 4))
def test_demonstrations_that_draw_do_not_hang_on_the_draw(seed):
    for name in ("E22", "E29", "E36", "E59"):
        shown = erratum(name).demonstration
        assert shown.run(np.random.default_rng(seed)).verdict == "holds"
        assert shown.judge(shown.right, np.random.default_rng(seed)).verdict == "refuted"


@pytest.mark.parametrize(
    ("name", "statement", "verdict"),
    [
        ("E1", (0.9,), "refuted"),
        ("E1", (0.9999,), "holds"),
        ("E2", (0.99,), "holds"),
        ("E3", ("focal 2",), "holds"),
        ("E4", (20,), "holds"),
        ("E17", ("ilsvrc2012",), "holds"),
        ("E25", 5, "refuted"),
        ("E28", "oversample", "holds"),
        ("E36", 4, "holds"),
        ("E44", 0.5, "holds"),
        ("E60", lambda _model, quality: -quality.recall_plus, "refuted"),
        ("E64", 0.5, "refuted"),
        ("E68", (-1.0, 0.0), "refuted"),
        ("E71", (50, 10), "holds"),
        ("E73", ((100, 10),), "refuted"),
    ],
)
def test_a_demonstration_judges_what_it_is_given(name, statement, verdict, rng):
    assert erratum(name).demonstration.judge(statement, rng).verdict == verdict


def test_a_deviation_that_is_no_number_is_refused(rng):
    broken = replace(erratum("E1").demonstration, deviation=lambda _statement, _rng: float("nan"))
    with pytest.raises(ValueError, match="`deviation` of E1 must be a number, got NaN"):
        broken.run(rng)


def test_rounding_is_no_deviation(rng):
    tiny = replace(erratum("E1").demonstration, deviation=lambda _statement, _rng: 1e-12)
    # As text: from Python 3.13 on a judgement with a NaN equals no other, not even itself.
    assert repr(tiny.run(rng)) == repr(Judgement("refuted", 0.0, threshold=f"{tiny.words} > 0"))


def test_an_unknown_erratum_brings_the_nearest():
    with pytest.raises(ValueError, match="`name` must be one of .* got 'E76'. Did you mean"):
        erratum("E76")


@pytest.mark.parametrize(
    ("verdict", "turned"),
    [("holds", "refuted"), ("refuted", "holds"), ("inconclusive", "inconclusive"), ("not judged", "not judged")],
)
def test_a_claim_that_is_the_printed_statement_shows_its_erratum(verdict, turned):
    assert opposite(Judgement(verdict, 1.5, why="why")).verdict == turned


def test_the_opposite_of_a_claim_has_the_opposite_rule():
    judged = opposite(Judgement("refuted", -0.5, threshold="mean > 0 points", distance=-2.0))
    assert (judged.threshold, judged.distance) == ("unless mean > 0 points", 2.0)
    assert opposite(Judgement("not judged", why="why")).threshold == ""


def test_a_source_is_named_once():
    assert f"{erratum('E53').source} {erratum('E53').lines}" == "S0 L231-241, S2 L152-162"
