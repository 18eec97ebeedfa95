import json
import subprocess
import sys

import pytest


def call(repository, *arguments):
    command = [sys.executable, "tests/benchmarks/gpu.py", *map(str, arguments)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


def test_the_benchmark_of_the_gpu_runs_in_miniature(repository, tmp_path):
    """Every section, on a CPU. Times are not looked at."""
    out = tmp_path / "report.json"
    done = call(repository, "--smoke", "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["what"].startswith("CPU self-check")
    sections = report["sections"]
    assert list(sections) == ["device", "equality", "floors", "steps", "run", "together", "fixmatch", "precision"]
    assert sections["device"]["device"].startswith("CPU (")
    assert set(sections["equality"]["loss_difference"].values()) == {0.0}
    for name in ("images", "texts"):
        assert sections["equality"][name]["relative_drift_per_epoch"]["graph"] == pytest.approx([0] * 6, abs=1e-3)
    # Adam on the words of the texts learns them, so that the comparison is one of trainings.
    losses = sections["equality"]["texts"]["training_loss"]["plain"]
    assert losses[-1] < 0.5 * losses[0]
    assert sections["run"]["ways"]["graph"]["evaluations"] == 2
    assert set(sections["together"]["rows"]) == {"1 threads", "2 threads"}
    assert all(row["steps_per_second"] > 0 for row in sections["together"]["rows"].values())
    assert set(sections["fixmatch"]["ways"]) == set(sections["steps"]["ways"]) == {"plain", "graph"}
    low, high = sections["precision"]["interval_90"]
    assert low <= sections["precision"]["mean_difference_points"] <= high


def test_a_section_that_fails_does_not_take_the_others_with_it(repository, tmp_path):
    """Without a plain way, a floor and a full run are still measured; with only that way, the full run is not."""
    out = tmp_path / "report.json"
    done = call(repository, "--smoke", "--out", out, "--sections", "run", "floors", "--ways", "plain")
    report = json.loads(out.read_text())
    assert done.returncode == 1
    assert "failed: run" in done.stdout
    assert "error" in report["sections"]["run"]
    assert "supervised" in report["sections"]["floors"]
