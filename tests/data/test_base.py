from pathlib import Path

import numpy as np
import pytest

from lt_lib.data import Dataset, MissingDataError, Split, data_hash, data_root
from lt_lib.data.base import file_md5, missing_data


def make(inputs, targets=(0, 1), name="x"):
    split = Split(inputs, np.array(targets))
    return Dataset(name, split, split, 2, ("a", "b"))


def test_root_is_the_argument_then_the_variable_then_data(monkeypatch):
    monkeypatch.setenv("LT_DATA", "elsewhere")
    assert data_root("here") == Path("here")
    assert data_root() == Path("elsewhere")
    monkeypatch.setenv("LT_DATA", "")
    top = Path(__file__).resolve().parents[2]
    assert data_root() == top / "data"
    monkeypatch.delenv("LT_DATA")
    # A kernel works in notebooks/ and finds the same folder.
    monkeypatch.chdir(top / "notebooks")
    assert data_root() == top / "data"


def test_data_hash_sees_values_types_and_order_but_not_the_name():
    images = np.arange(8, dtype=np.uint8).reshape(2, 2, 2, 1)
    reference = data_hash(make(images))
    assert len(reference) == 64
    assert data_hash(make(images.copy(), name="y")) == reference
    assert data_hash(make(np.asfortranarray(images))) == reference
    changed = [images[::-1], images.reshape(2, 4, 1, 1), images.astype(np.float32), images + np.uint8(1)]
    hashes = {data_hash(make(other)) for other in changed} | {data_hash(make(images, targets=(1, 0)))}
    assert reference not in hashes
    assert len(hashes) == 5


def test_data_hash_of_texts_sees_where_one_ends():
    assert data_hash(make(["ab", "c"])) != data_hash(make(["a", "bc"]))
    assert data_hash(make(["ä", "c"])) == data_hash(make(["ä", "c"]))


def test_split_and_dataset_refuse_what_does_not_fit():
    with pytest.raises(ValueError, match=r"`inputs` must have one entry per target \(2\), got 1"):
        Split(["a"], np.array([0, 1]))
    with pytest.raises(ValueError, match=r"`targets` must be a one-dimensional int64 array, got float64 \(2,\)"):
        Split(["a", "b"], np.array([0.0, 1.0]))
    for wrong, given in (([0, 1], "list"), (None, "NoneType")):
        with pytest.raises(ValueError, match=f"`targets` must be a one-dimensional int64 array, got {given}"):
            Split(["a", "b"], wrong)
    with pytest.raises(ValueError, match=r"`train.targets` must lie in 0 … 1, got 2"):
        make(["a", "b"], targets=(0, 2))
    split = Split(["a"], np.array([0]))
    with pytest.raises(ValueError, match="`class_names` must have 2 entries, got 1"):
        Dataset("x", split, split, 2, ("a",))
    assert len(split) == 1


def test_missing_data_says_everything(tmp_path):
    error = missing_data(
        "shapes",
        what=[f"f{i}" for i in range(6)],
        where=[tmp_path],
        how="put it there",
        stand_in="digits",
        downloadable=True,
    )
    assert isinstance(error, MissingDataError)
    assert isinstance(error, FileNotFoundError)
    for part in (
        "`shapes` is missing: f0, f1, f2, f3 and 2 more",
        str(tmp_path),
        'load("shapes", download=True)',
        "lt-lib data get shapes",
        "put it there",
        "$LT_DATA",
        'load("digits") works',
    ):
        assert part in str(error)


def test_file_md5_of_a_known_text(tmp_path):
    file = tmp_path / "abc"
    file.write_bytes(b"abc")
    assert file_md5(file) == "900150983cd24fb0d6963f7d28e17f72"
