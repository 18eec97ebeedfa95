import argparse
import importlib
import json
import subprocess
import sys

import pytest

SECTIONS = ["device", "equality", "floors", "steps", "trial", "run", "together", "fixmatch", "precision"]


def call(repository, *arguments):
    command = [sys.executable, "tests/benchmarks/gpu.py", *map(str, arguments)]
    return subprocess.run(command, cwd=repository, capture_output=True, text=True)


def test_the_benchmark_of_the_gpu_runs_in_miniature(repository, tmp_path):
    """Every section, on a CPU. Times are not looked at."""
    out = tmp_path / "report.json"
    done = call(repository, "--smoke", "--here", "--out", out, "--sections", *SECTIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    assert report["what"].startswith("CPU self-check")
    sections = report["sections"]
    assert list(sections) == SECTIONS
    assert [*tmp_path.iterdir()] == [out]
    assert sections["device"]["device"].startswith("CPU (")
    assert set(sections["equality"]["loss_difference"].values()) == {0.0}
    for name in ("images", "texts"):
        drift = sections["equality"][name]["graph"]["relative_drift_per_epoch"]
        assert drift == pytest.approx([0] * 6, abs=1e-3)
    # Adam on the words of the texts learns them, so that the comparison is one of trainings.
    losses = sections["equality"]["texts"]["plain"]["training_loss"]
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
    assert "must have one besides 'plain'" in report["sections"]["run"]["error"]
    assert "supervised" in report["sections"]["floors"]


@pytest.fixture
def gpu(repository, monkeypatch):
    """The benchmark as a module."""
    monkeypatch.syspath_prepend(str(repository / "tests" / "benchmarks"))
    return importlib.import_module("gpu")


def arguments(folder, **changes):
    settings = {"smoke": True, "here": True, "dataset": "", "ways": ["plain", "graph"], "out": folder / "report.json"}
    return argparse.Namespace(**(settings | changes))


def test_what_a_section_found_before_an_error_is_kept(gpu, tmp_path, monkeypatch):
    def section(_bench):
        yield {"row": 1}
        raise ArithmeticError("the second row")

    monkeypatch.setitem(gpu._FUNCTIONS, "device", section)
    monkeypatch.setattr(gpu, "_bench", lambda _arguments: None)
    found = gpu._measured("device", arguments(tmp_path), 60)
    assert (found["row"], found["error"]) == (1, "ArithmeticError: the second row")
    assert gpu._measured("device", arguments(tmp_path), 0) == {"error": "no time was left"}


@pytest.mark.parametrize(
    ("alive", "exitcode", "said"), [(True, None, "ended after 60 s"), (False, -9, "ended with -9")]
)
def test_what_a_section_found_before_its_process_ended_is_kept(gpu, tmp_path, monkeypatch, alive, exitcode, said):
    class Process:
        def __init__(self, *, target, args, daemon):
            assert daemon  # it goes with the process that started it
            self.kept, self.exitcode, self.killed = args[2], exitcode, False

        def start(self):
            self.kept.write_text(json.dumps({"row": 1}))

        def join(self, limit=None):
            assert limit in (None, gpu.LIMITS["device"])

        def is_alive(self):
            return alive and not self.killed

        def kill(self):
            self.killed = True

    monkeypatch.setattr(gpu.multiprocessing, "get_context", lambda _way: argparse.Namespace(Process=Process))
    found = gpu._measured("device", arguments(tmp_path, here=False), 1e6)
    assert found["row"] == 1
    assert said in found["error"]
    assert [*tmp_path.iterdir()] == []


def test_a_row_that_fails_leaves_the_others(gpu, tmp_path, monkeypatch):
    def stamps(_bench, way):
        if way == "graph":
            raise RuntimeError("could not be recorded")
        return [0.0, 1.0, 2.0, 3.0]

    monkeypatch.setattr(gpu, "_fixmatch_stamps", stamps)
    monkeypatch.setattr(gpu, "_views_alone", lambda _bench: 1.0)
    *_, found = gpu.fixmatch_section(gpu._bench(arguments(tmp_path)))
    assert found["ways"]["graph"]["error"] == "RuntimeError: could not be recorded"
    assert found["ways"]["plain"]["step_ms"] == pytest.approx(1000 / gpu.SMOKE.steps)
    assert len(found["targets"]) == 1


def test_trainings_at_once_do_not_wait_for_one_that_failed(gpu, monkeypatch):
    def stamps(job, *, dataset, meet):
        if job == 2:
            raise MemoryError
        meet()

    monkeypatch.setattr(gpu, "train_stamps", stamps)
    # Not a timeout: the meeting is called off, and what called it off is said.
    monkeypatch.setattr(gpu, "MEETING", 1e6)
    with pytest.raises(MemoryError):
        gpu._at_once([0, 1, 2], None)
