"""Files that are written in one step, also when two processes of one number, in two containers, write them at once."""

import os

import pytest

from lt_lib._paths import write_whole
from lt_lib.training import load_checkpoint, save_checkpoint


@pytest.fixture
def meanwhile(monkeypatch):
    """Lets something happen between the moment a file is written and the moment it gets its name."""

    def install(act):
        replace = os.replace

        def replace_late(source, target):
            monkeypatch.setattr(os, "replace", replace)
            act()
            replace(source, target)

        monkeypatch.setattr(os, "replace", replace_late)

    return install


@pytest.mark.faults
def test_two_that_write_one_file_at_once_both_write_it_whole(tmp_path, meanwhile):
    path = tmp_path / "file"
    seen = []
    meanwhile(lambda: (write_whole(path, "other"), seen.append(path.read_text())))
    write_whole(path, "mine")
    assert seen == ["other"]
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.faults
def test_two_that_save_one_checkpoint_at_once_both_save_it_whole(tmp_path, meanwhile):
    path = tmp_path / "checkpoint"
    seen = []

    def save_other():
        save_checkpoint(path, {"identity": "run", "epoch": 1})
        seen.append(load_checkpoint(path, identity="run")["epoch"])

    meanwhile(save_other)
    save_checkpoint(path, {"identity": "run", "epoch": 2})
    assert seen == [1]
    assert load_checkpoint(path, identity="run")["epoch"] == 2
    assert os.listdir(tmp_path) == ["checkpoint"]
