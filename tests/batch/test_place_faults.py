"""A place that does not answer for a moment: that is said, and no finished run is taken for a damaged one."""

import contextlib
import errno
import json
import os
import sys
from pathlib import Path

import pytest
from batch.cases import keep_plan, publish

from lt_lib.batch import doctor
from lt_lib.batch.place import FOLDERS, STORAGE_ERRORS, DamagedRun, storage_problem

pytestmark = pytest.mark.faults
CODES = [errno.ESTALE, errno.EIO, errno.EACCES, errno.EPERM, errno.ETIMEDOUT]


@pytest.fixture
def done(place, make_test_plan):
    """A plan whose only run is done."""
    plan = make_test_plan("axes: {x: [1]}\n")
    keep_plan(place, plan)
    publish(place, plan, plan.runs[0], {"a": 1})
    return plan


@contextlib.contextmanager
def breaking(call, name, code):
    """Let a call of `Path` fail for files of one name."""
    original = getattr(Path, call)

    def fail(self, *arguments, **options):
        if self.name == name:
            raise OSError(code, os.strerror(code), str(self))
        return original(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, call, fail)
        yield


@pytest.mark.parametrize("code", CODES, ids=errno.errorcode.get)
@pytest.mark.parametrize(("broken", "name"), [("read_bytes", "manifest.json"), ("stat", "result.json")])
def test_an_error_of_the_place_is_no_damage_of_a_run(place, done, call, code, broken, name):
    words = ["batch", done.grid.path, "--out", place.folder, "--scheduler", "sequential"]
    with breaking(broken, name, code):
        with pytest.raises(OSError, match=os.strerror(code)):
            place.manifest(done.runs[0].id)
        for command in (["status", place.folder], ["verify", place.folder, "--quarantine"], words):
            exit_code, said = call(*command)
            assert exit_code == 4
            assert os.strerror(code) in said
    assert list((place.folder / "quarantine").iterdir()) == []
    exit_code, said = call(*words)
    assert (exit_code, "0 done, 1 were done before" in said) == (0, True)


def test_what_is_no_file_is_damage(place, done):
    folder = place.run_folder(done.runs[0].id)
    for name in ("out/result.json", "manifest.json"):
        size = (folder / name).stat().st_size
        (folder / name).unlink()
        (folder / name).mkdir()
        with pytest.raises(DamagedRun, match=f"{name} (has|is missing|cannot be read)"):
            place.manifest(done.runs[0].id)
        (folder / name).rmdir()
        (folder / name).write_bytes(bytes(size))
    (folder / "out" / "result.json").unlink()
    (folder / "out").rmdir()
    (folder / "out").write_text("")
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").symlink_to(folder / "out" / "below-a-file")
    with pytest.raises(DamagedRun, match=r"manifest.json cannot be read: .*Not a directory"):
        place.manifest(done.runs[0].id)


def test_a_plan_that_does_not_answer_is_a_fault_of_the_place_and_one_that_is_none_of_the_call(place, done, call):
    with breaking("read_bytes", "plan.json", errno.ESTALE):
        assert call("status", place.folder)[0] == 4
    (place.grid_folder("g") / "plan.json").write_text("{")
    assert call("status", place.folder)[0] == 2


@pytest.mark.parametrize("code", CODES[:4], ids=errno.errorcode.get)
def test_a_refusal_is_a_problem_of_the_place_where_the_engine_meets_it(code):
    assert storage_problem(OSError(code, "no"))
    # A cell that opens a file which is not its to open has only itself to blame.
    assert (code in STORAGE_ERRORS) == (code not in (errno.EACCES, errno.EPERM))


@pytest.mark.skipif(sys.platform != "linux", reason="needs a folder that refuses files, whoever asks")
@pytest.mark.parametrize("name", FOLDERS)
def test_the_doctor_writes_to_every_folder_of_a_place_and_leaves_nothing(place, call, monkeypatch, name):
    monkeypatch.setattr(doctor, "_trial", lambda: {"kind": "done"})
    before = sorted(place.folder.rglob("*"))
    code, said = call("doctor", place.folder)
    assert (code, f"ok  place: {place.folder} can be written" in said) == (0, True)
    assert sorted(place.folder.rglob("*")) == before
    (place.folder / name).rmdir()
    (place.folder / name).symlink_to("/proc")  # where not even root makes a file
    code, said = call("doctor", place.folder)
    assert code == 1
    assert f"BAD place: {place.folder / name} cannot be written: [Errno" in said
    assert said.count("BAD") == 1


def test_the_doctor_of_a_place_to_come_makes_nothing(tmp_path, call, monkeypatch):
    monkeypatch.setattr(doctor, "_trial", lambda: {"kind": "done"})
    assert call("doctor", tmp_path / "a" / "b")[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_manifest_that_is_cut_is_still_damage(place, done, call):
    path = place.run_folder(done.runs[0].id) / "manifest.json"
    path.write_bytes(path.read_bytes()[:-5])
    assert json.loads(call("status", place.folder, "--json")[1])["grids"][0]["counts"]["damaged"] == 1
