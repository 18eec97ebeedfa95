import os

import pytest
import torch

from lt_lib.training import CheckpointError, load_checkpoint, save_checkpoint
from lt_lib.training.checkpoint import set_generator

STATE = {"identity": "run", "weights": torch.arange(1000.0), "history": {"loss": [1.0, 2.0]}}


@pytest.fixture
def path(tmp_path):
    target = tmp_path / "folder" / "run.pt"
    save_checkpoint(target, STATE)
    return target


def test_what_is_saved_is_read(path):
    state = load_checkpoint(path, identity="run")
    assert torch.equal(state["weights"], STATE["weights"])
    assert state["history"] == STATE["history"]
    assert [entry.name for entry in path.parent.iterdir()] == ["run.pt"]


class FullDiskError(OSError):
    pass


@pytest.mark.parametrize("failing", ["torch.save", "os.fsync", "os.replace"])
def test_the_old_file_survives_a_failure_at_any_moment(path, monkeypatch, failing):
    whole = path.read_bytes()

    def fail(*arguments, **_options):
        if failing == "torch.save":
            arguments[1].write(whole[: len(whole) // 2])  # half of the new file is on disk
        raise FullDiskError("no space left")

    module, name = failing.split(".")
    monkeypatch.setattr({"torch": torch, "os": os}[module], name, fail)
    with pytest.raises(FullDiskError):
        save_checkpoint(path, STATE | {"weights": torch.zeros(1000)})
    assert path.read_bytes() == whole
    assert [entry.name for entry in path.parent.iterdir()] == ["run.pt"]


def test_the_new_file_appears_only_when_it_is_whole(path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda _descriptor: seen.append(path.read_bytes()))
    before = path.read_bytes()
    save_checkpoint(path, STATE | {"weights": torch.zeros(1000)})
    assert seen == [before]
    assert not load_checkpoint(path, identity="run")["weights"].any()


@pytest.mark.parametrize("kept", [0, 1, 3, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(path, kept):
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if isinstance(kept, int) else int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"`path` must be a whole checkpoint, .*run\.pt"):
        load_checkpoint(path, identity="run")


@pytest.mark.parametrize("content", [b"not a checkpoint", b"\x80\x02garbage", b"PK\x03\x04garbage", b"\x00" * 300])
def test_another_kind_of_file_is_named(path, content):
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"`path` must be a whole checkpoint, .*run\.pt"):
        load_checkpoint(path, identity="run")


def test_a_flipped_byte_in_the_numbers_is_found(path):
    content = bytearray(path.read_bytes())
    position = content.find(torch.arange(500.0, 510.0).numpy().tobytes())
    assert position > 0
    content[position] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.pt"):
        load_checkpoint(path, identity="run")


def test_a_checkpoint_of_another_run_is_refused(path):
    with pytest.raises(CheckpointError, match=r"`identity` must be 'other', got 'run' in .*run\.pt"):
        load_checkpoint(path, identity="other")
    torch.save([1, 2], path)
    with pytest.raises(CheckpointError, match="got None in"):
        load_checkpoint(path, identity="run")


def test_a_missing_checkpoint_is_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.pt"):
        load_checkpoint(tmp_path / "absent.pt", identity="run")


def test_random_numbers_of_another_type_of_device_are_refused():
    rng, other = torch.Generator().manual_seed(1), torch.Generator()
    set_generator(other, rng.get_state())
    assert torch.equal(torch.rand(3, generator=rng), torch.rand(3, generator=other))
    # The state of a GPU's generator has 16 bytes.
    with pytest.raises(CheckpointError, match="type of device that it was written on, got one .* 16 bytes for 'cpu'"):
        set_generator(rng, torch.zeros(16, dtype=torch.uint8))
