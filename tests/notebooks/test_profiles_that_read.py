"""At small and paper the lectures read measured rows: every cell must run with the stored rows and with none at all.

The gate runs the quick profile alone. Here the cells run in this process, without a kernel. Notebooks 070 and 090 are
left out: they train their toys, nearly a minute each, at every profile.
"""

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

LECTURES = ("020", "040", "060", "110", "120")
CASES = [(number, rows) for number in LECTURES for rows in ("stored", "none")]
CASES += [("130", "stored")]  # without a table of verdicts a scoreboard has nothing to show, and says so


def run_cells(path: Path, parameters: dict[str, Any]) -> dict[str, Any]:
    """Run all code cells of a notebook in a fresh namespace, with other values for its parameters."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for position, cell in enumerate(json.loads(path.read_text(encoding="utf-8"))["cells"]):
        if cell["cell_type"] != "code":
            continue
        exec(compile("".join(cell["source"]), f"{path.name}, cell {position}", "exec"), names)
        if "parameters" in cell["metadata"].get("tags", []):
            unknown = set(parameters) - set(names)
            assert not unknown, f"{path.name} has no parameters {unknown}"
            names |= parameters
        plt.close("all")
    return names


@pytest.mark.filterwarnings("default")  # as in a kernel, where a warning is no error
@pytest.mark.parametrize(("number", "rows"), CASES)
def test_a_lecture_runs_at_a_profile_that_reads(number, rows, repository, tmp_path, monkeypatch, capsys):
    (path,) = (repository / "notebooks").glob(f"{number}_*.ipynb")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    results = repository / "results" if rows == "stored" else tmp_path / "empty"
    profile = "small" if rows == "stored" else "paper"
    run_cells(path, {"profile": profile, "results_dir": str(results), "out_dir": str(tmp_path / "figures")})
    assert profile in capsys.readouterr().out
