"""Pins: what runs execute is what their identity says, whatever became of the copy that an earlier batch made."""

import errno
import json
import os
import shutil

import pytest
from batch.cases import RESULT, keep_plan, write_grid

from lt_lib.batch import place as place_module
from lt_lib.batch.grid import load_grid
from lt_lib.batch.place import DamagedPin, Place
from lt_lib.batch.plan import make_plan, write_pin

USES_HELPER = """import helper, json
json.dump({"value": getattr(helper, "FACTOR", None)}, open(f"{out_dir}/result.json", "w"))
"""


@pytest.fixture
def plan(tmp_path):
    path = write_grid(tmp_path / "grid", "axes: {x: [1]}\n", USES_HELPER)
    (path.parent / "helper.py").write_text("FACTOR = 2\n")
    return make_plan(load_grid(path))


@pytest.fixture
def pin(place, plan):
    keep_plan(place, plan)
    return save(place, plan)


def save(place, plan):
    return place.save_pin(plan.pin, lambda target: write_pin(plan, target))


def edit_notebook(pin):
    path = pin / "notebook.ipynb"
    path.write_text(path.read_text().replace("FACTOR", "OTHER"))


def hide_modules(pin):
    shutil.rmtree(pin / "modules")
    (pin / "modules").write_text("")


DAMAGE = {
    "module cut": lambda pin: (pin / "modules" / "helper.py").write_text(""),
    "module gone": lambda pin: (pin / "modules" / "helper.py").unlink(),
    "module added": lambda pin: (pin / "modules" / "json.py").write_text(""),
    "modules gone": lambda pin: shutil.rmtree(pin / "modules"),
    "modules no folder": hide_modules,
    "notebook edited": edit_notebook,
    "notebook cut": lambda pin: (pin / "notebook.ipynb").write_text("{"),
    "notebook gone": lambda pin: (pin / "notebook.ipynb").unlink(),
    "empty": lambda pin: (shutil.rmtree(pin), pin.mkdir()),
}


@pytest.mark.faults
@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_pin_is_named_moved_away_and_written_anew(place, plan, pin, call, kind):
    assert call("verify", place.folder)[0] == 0
    DAMAGE[kind](pin)
    code, said = call("verify", place.folder)
    assert (code, f"pin {plan.pin}: it" in said) == (1, True)
    save(place, plan)
    assert (pin / "modules" / "helper.py").read_text() == "FACTOR = 2\n"
    assert call("verify", place.folder)[0] == 0
    (moved,) = (place.folder / "quarantine").iterdir()
    assert moved.name.startswith(plan.pin)
    assert (moved / "reason.txt").read_text()


@pytest.mark.faults
def test_no_run_executes_a_pin_that_was_cut(place, plan, pin, call):
    (pin / "modules" / "helper.py").write_text("")
    words = ["batch", plan.grid.path, "--out", place.folder, "--scheduler", "sequential"]
    assert call(*words)[0] == 0
    (result,) = place.folder.glob("runs/*/out/result.json")
    assert json.loads(result.read_text()) == {"value": 2}


def test_a_pin_is_used_as_it_is_whatever_the_prose_of_the_notebook_and_what_python_compiled(place, plan, pin):
    notebook = plan.grid.notebook.path
    before = (pin / "notebook.ipynb").read_bytes()
    notebook.write_text(notebook.read_text().replace("# Test", "# Other prose"))
    (pin / "modules" / "__pycache__").mkdir()
    (pin / "modules" / "__pycache__" / "helper.cpython-311.pyc").write_bytes(b"compiled")
    again = make_plan(load_grid(plan.grid.path))
    assert again.pin == plan.pin
    save(place, again)
    assert (pin / "notebook.ipynb").read_bytes() == before
    assert list((place.folder / "quarantine").iterdir()) == []


def test_a_notebook_without_sources_has_a_pin_too(place, make_test_plan):
    plan = make_test_plan("axes: {x: [1]}\n", RESULT)
    assert not plan.sources
    assert save(place, plan) == save(place, plan)
    assert list((place.folder / "quarantine").iterdir()) == []


@pytest.mark.faults
def test_verify_moves_a_damaged_pin_away_if_asked(place, plan, pin, call):
    DAMAGE["module cut"](pin)
    code, said = call("verify", place.folder, "--quarantine")
    assert (code, f"moved to {place.folder / 'quarantine' / plan.pin}" in said) == (1, True)
    assert call("verify", place.folder)[0] == 0


@pytest.mark.faults
@pytest.mark.parametrize("call_of_os", ["open", "walk"])
def test_a_pin_that_does_not_answer_is_not_damaged(place, plan, pin, monkeypatch, call_of_os):
    def fail(path, *arguments, **options):
        error = OSError(errno.EIO, "does not answer", str(path))
        if call_of_os == "walk":
            options["onerror"](error)
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(*((os, "walk") if call_of_os == "walk" else ("pathlib.Path.read_bytes",)), fail)
        with pytest.raises(OSError, match="does not answer"):
            save(place, plan)
    assert save(place, plan) == pin
    assert list((place.folder / "quarantine").iterdir()) == []


def test_a_pin_is_on_disk_before_it_has_its_name(place, plan, monkeypatch):
    synced, rename, sync = [], os.rename, place_module._sync

    def note(path):
        synced.append(path)
        sync(path)

    def check(source, target):
        parts = list(source.rglob("*"))
        assert len(parts) >= 3
        assert set(synced) >= {source, *parts}
        rename(source, target)

    monkeypatch.setattr(place_module, "_sync", note)
    monkeypatch.setattr(os, "rename", check)
    save(place, plan)
    assert synced[-1] == place.folder / "pins"


@pytest.mark.faults
def test_what_another_process_left_under_the_name_meanwhile_counts_only_if_it_is_whole(tmp_path, plan):
    place = Place(tmp_path / "place")
    place.open()

    def lose(target):
        write_pin(plan, target)
        write_pin(plan, place.pin_folder(plan.pin))
        DAMAGE["module cut"](place.pin_folder(plan.pin))

    with pytest.raises(DamagedPin, match=f"pin {plan.pin}: its notebook or its modules were changed"):
        place.save_pin(plan.pin, lose)
