"""What a wrong call or a wrong file is told: which file or run it is, and what is wrong with it."""

import json

import pytest
from batch.cases import PARAMETERS, RESULT, keep_plan, write_grid

from lt_lib.batch.grid import GridError, load_grid
from lt_lib.batch.place import manifest_of
from lt_lib.batch.plan import make_plan, write_pin

TABLE = "a\n1\n"


def write_package(folder):
    files = {"__init__.py": "", "table.csv": TABLE, "more/deep.csv": "b\n", "__pycache__/x.pyc": "", ".hidden": ""}
    for name, text in files.items():
        path = folder / "helpers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.faults
def test_data_of_a_package_beside_the_notebook_is_hashed_and_pinned_under_the_package(tmp_path):
    path = write_grid(tmp_path / "grid", "axes: {x: [1]}\n", "import helpers\n", RESULT)
    write_package(path.parent)
    plan = make_plan(load_grid(path))
    assert list(plan.sources) == ["helpers/__init__.py", "helpers/more/deep.csv", "helpers/table.csv"]
    write_pin(plan, tmp_path / "pin")
    assert (tmp_path / "pin" / "modules" / "helpers" / "table.csv").read_text() == TABLE
    (path.parent / "helpers" / "table.csv").write_text("a\n2\n")
    assert make_plan(load_grid(path)).runs[0].id != plan.runs[0].id


READS = """import json, helper
json.dump({"text": helper.TEXT}, open(f"{out_dir}/result.json", "w"))
"""


@pytest.mark.faults
def test_data_in_sources_is_found_by_a_module_beside_it_and_refused_without_one(tmp_path, place, call):
    path = write_grid(tmp_path / "grid", "axes: {x: [1]}\nsources: [table.csv]\n", READS)
    (path.parent / "table.csv").write_text(TABLE)
    words = ["batch", path, "--out", place.folder, "--scheduler", "sequential"]
    code, said = call(*words)
    assert code == 2
    assert "got 'table.csv' and no such module: a run works in a folder of its own" in said
    reads = 'from pathlib import Path\nTEXT = Path(__file__).with_name("table.csv").read_text()\n'
    (path.parent / "helper.py").write_text(reads)
    code, said = call(*words)
    assert code == 0, said
    (result,) = place.folder.glob("runs/*/out/result.json")
    assert json.loads(result.read_text()) == {"text": TABLE}


@pytest.mark.parametrize("pattern", ["../x.py", "/x.py", "none.py", "__pycache__/*"])
def test_sources_that_lie_elsewhere_or_are_none_are_refused(tmp_path, call, pattern):
    (tmp_path / "x.py").write_text("")
    path = write_grid(tmp_path / "grid", f'axes: {{x: [1]}}\nsources: ["{pattern}"]\n')
    (path.parent / "__pycache__").mkdir()
    (path.parent / "__pycache__" / "x.pyc").write_text("")
    code, said = call("batch", path, "--out", tmp_path / "p", "--dry-run")
    assert code == 2
    assert f"`sources` must match files beside the notebook, got '{pattern}'" in said


@pytest.mark.faults
@pytest.mark.parametrize("text", ["", "{'a'", '{"row": {"a": 1', b"\xff\xfe\x00"])
def test_collect_names_the_run_whose_result_cannot_be_read(place, make_test_plan, tmp_path, call, text):
    plan = make_test_plan("axes: {x: [1, 2]}\ndone: {files: []}\n")
    keep_plan(place, plan)
    for run, content in zip(plan.runs, ["{}", text], strict=True):
        folder = place.new_attempt(run.id)
        (folder / "notebook.ipynb").write_text("{}")
        (folder / "out" / "result.json").write_bytes(content if isinstance(content, bytes) else content.encode())
        fields = {"run": run.id, "digest": run.digest, "parameters": dict(run.parameters), "seconds": 1.0}
        fields |= {"notebook_digest": plan.notebook_digest, "sources_digest": plan.sources_digest}
        (folder / "manifest.json").write_text(json.dumps(manifest_of(folder, peak_memory_mb=1.0, **fields)))
        assert place.publish(run.id, folder)
    code, said = call("collect", place.folder, "-o", tmp_path / "t.csv")
    assert code == 2
    assert f"run {plan.runs[1].id}: out/result.json cannot be read: " in said
    assert not (tmp_path / "t.csv").exists()


@pytest.mark.faults
@pytest.mark.parametrize("text", ["", "[]", "{}", '{"address": 3}', "tcp://127.0.0.1:8786", '"text"'])
def test_a_file_that_no_scheduler_wrote_is_named_before_the_place_is_made(tmp_path, call, text):
    path = write_grid(tmp_path / "grid", "axes: {x: [1]}\n")
    file = tmp_path / "scheduler.json"
    file.write_text(text)
    for dry in ([], ["--dry-run"]):
        code, said = call("batch", path, "--out", tmp_path / "p", "--scheduler", file, *dry)
        assert code == 3
        assert f"`scheduler` must be a file that a Dask scheduler wrote, got '{file}': " in said
    assert not (tmp_path / "p").exists()


def test_an_address_in_a_file_is_checked_before_the_place_is_made(tmp_path, call):
    path = write_grid(tmp_path / "grid", "axes: {x: [1]}\n")
    (tmp_path / "scheduler.json").write_text('{"address": "tcp://192.0.2.7:8786"}')
    code, said = call("batch", path, "--out", tmp_path / "p", "--scheduler", tmp_path / "scheduler.json")
    assert (code, "`scheduler` must be tls://" in said) == (2, True)
    assert not (tmp_path / "p").exists()


@pytest.mark.faults
@pytest.mark.parametrize("value", ["2026-13-01", "2026-02-30", "2026-01-01T25:00:00"])
def test_a_date_that_no_calendar_has_is_a_fault_of_the_file(tmp_path, value):
    path = write_grid(tmp_path, f"axes: {{label: [{value}]}}\n")
    with pytest.raises(GridError, match=r"g\.yaml has 1 fault:\nno valid YAML 1\.2: ."):
        load_grid(path)


LISTS = PARAMETERS + "rates: list[float] = [1.0]  # some rates\n"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("axes", "faults"),
    [
        ("label: [2026-01-01, 2026-01-02]", ["must be str, got datetime.date(2026, 1, 1)", "(2026, 1, 2)"]),
        ("x: [.nan, 1]", ["`x` must be finite, got nan"]),
        ("x: [.nan, 1, 1]", ["`x` must be finite, got nan", "`axes` holds a value twice for x"]),
        ("rates: [[.nan], [1, .inf]]", ["`rates` must be finite, got [nan]", "`rates` must be finite, got [1, inf]"]),
    ],
)
def test_a_value_that_is_none_is_not_said_to_be_there_twice(tmp_path, axes, faults):
    path = write_grid(tmp_path, f"axes: {{{axes}}}\n", parameters=LISTS)
    with pytest.raises(GridError) as caught:
        load_grid(path)
    assert len(caught.value.problems) == len(faults)
    for fault, problem in zip(faults, caught.value.problems, strict=True):
        assert fault in problem


@pytest.mark.parametrize(
    ("words", "resources", "ending"),
    [
        (["--scheduler", "sequential"], "", "4.0 h with 1 at once"),
        (["--workers", "2"], "", "2.0 h with 2 at once"),
        (["--workers", "64"], "", "60 min with 4 at once"),
        (["--workers", "3"], "resources: {gpus: 1}\n", "2.0 h with 2 at once"),
        ([], "resources: {gpus: 2}\n", "4.0 h with 1 at once"),
        (["--scheduler", "sequential"], "resources: {gpus: 0.5}\n", "4.0 h with 1 at once"),
        (["--scheduler", "slurm", "--workers", "2"], "", "2.0 h with 2 at once"),
        (
            ["--scheduler", "tcp://127.0.0.1:8786"],
            "",
            "4.0 h of work, divided by the workers of the scheduler",
        ),
    ],
)
def test_a_dry_run_counts_the_workers_that_the_batch_would_have(tmp_path, call, monkeypatch, words, resources, ending):
    monkeypatch.setattr("lt_lib.batch._commands.visible_gpus", lambda: ["GPU-a", "GPU-b"])
    path = write_grid(tmp_path, f"axes: {{x: [1, 2, 3, 4]}}\nestimate: 1h\n{resources}")
    code, said = call("batch", path, "--out", tmp_path / "p", "--dry-run", *words)
    assert code == 0
    assert f"expected: 60 min per run, as the grid says; {ending}" in said
