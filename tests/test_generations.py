"""What finished semi-supervised runs leave is what the checks of the ledger read."""

import numpy as np
import pandas as pd
import pytest

from lt_lib.claims.ledger import check
from lt_lib.recipes import run_semi, semi_preset
from tools import generations

SHORT = {"epochs": 1, "steps_per_epoch": 5, "generations": 2, "evaluate_every": 1, "profile": "small"}


@pytest.fixture(scope="module")
def batch(tmp_path_factory):
    """Two seeds of three methods, a few steps each, saved as the notebook saves them; and a run that did not finish."""
    folder = tmp_path_factory.mktemp("batch")
    rows = []
    for method in ("supervised", "fixmatch", "crest"):
        for seed in (0, 1):
            fields = SHORT if method == "crest" else SHORT | {"generations": 1}
            result = run_semi(semi_preset("gaussian-quick", method, seed=seed, split_seed=seed, **fields))
            place = result.save(folder / "runs" / f"{method}-{seed}" / "out")
            pd.DataFrame(result.rows()).to_csv(place / "generations.csv", index=False)
            rows.append(result.to_row())
    (folder / "work" / "x").mkdir(parents=True)
    (folder / "work" / "x" / "generations.csv").write_text("method\ncrest+\n")
    return folder, rows


def test_every_generation_of_every_finished_run_is_taken(batch, tmp_path, capsys):
    folder, rows = batch
    target = tmp_path / "crest-small-generations.csv"
    assert generations.main([str(folder), str(target)]) == 0
    assert "80 rows of 6 runs" in capsys.readouterr().out
    table = pd.read_csv(target)
    assert table.method.value_counts().to_dict() == {"crest": 40, "fixmatch": 20, "supervised": 20}
    assert set(table.profile) == {"small"}
    last = table[(table.method == "crest") & (table.seed == 1) & (table.generation == 1)].test_recall
    expected = [rows[-1][f"recall_{label}"] for label in range(10)]
    np.testing.assert_allclose(last, expected, atol=1e-6)


def test_a_folder_without_runs_is_named(tmp_path, capsys):
    assert generations.main([str(tmp_path), str(tmp_path / "x.csv")]) == 2
    assert "`folder` must hold finished runs" in capsys.readouterr().err


def test_the_checks_read_what_the_runs_leave(batch, tmp_path):
    folder, rows = batch
    pd.DataFrame(rows).to_csv(tmp_path / "crest-small.csv", index=False)
    teacher, pattern = check(36), check(42)
    judged = teacher.judge(teacher.measure("small", np.random.default_rng(0), folder=tmp_path))
    gains = [100 * (rows[2 + seed]["accuracy_last"] - rows[seed]["accuracy_last"]) for seed in (0, 1)]
    assert judged.statistic == pytest.approx(np.mean(gains))
    assert (
        "hold no test precision"
        in pattern.judge(pattern.measure("small", np.random.default_rng(0), folder=tmp_path)).why
    )
    generations.main([str(folder), str(tmp_path / "crest-small-generations.csv")])
    measured = pattern.measure("small", np.random.default_rng(0), folder=tmp_path)
    assert measured.arms["crest"].test_recall.shape == (2, 2, 10)
    assert measured.arms["fixmatch"].pool_recall.shape == (2, 1, 10)
    # Five steps leave most classes unpredicted, so there may be nothing to rank; a verdict there is.
    assert pattern.judge(measured).verdict in ("refuted", "inconclusive", "holds")
