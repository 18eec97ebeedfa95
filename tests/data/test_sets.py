import subprocess
import sys

import pytest

from lt_lib import data
from lt_lib.data import gaussian


def test_every_name_is_described_and_listed():
    assert data.names()[:2] == ("digits", "gaussian")
    assert {"cifar10", "cifar100", "svhn", "fashion_mnist", "imdb", "folder:PATH"} < set(data.names())
    for name in data.names():
        assert len(data.describe(name)) > 20
    assert data.describe("folder:anything") == data.describe("folder:PATH")


@pytest.mark.parametrize("function", [data.load, data.describe, data.check])
def test_unknown_name_gets_the_nearest(function):
    with pytest.raises(ValueError, match="`name` must be one of 'digits', .*got 'cifar-10'. Did you mean 'cifar10'"):
        function("cifar-10")
    with pytest.raises(ValueError, match="`name` must be one of"):
        function("folder:")
    with pytest.raises(TypeError, match="`name` must be one of .*got 3"):
        function(3)


def test_overview_says_what_is_there(tmp_path):
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            (tmp_path / "aclImdb" / split / label).mkdir(parents=True)
    rows = {name: (state, description) for name, state, description in data.overview(tmp_path)}
    assert tuple(rows) == (*data.names(), *data.extra_names(), *data.image_file_names())
    states = {name: state for name, (state, _) in rows.items()}
    assert states["digits"] == states["gaussian:0.05"] == "embedded"
    assert states["imdb"] == "on disk"
    assert states["cifar10"] == states["fashion_mnist"] == "missing"
    assert states["folder:PATH"] == "yours"
    assert rows["svhn"][1] == data.describe("svhn")


def test_check_reports_sizes_and_a_changed_world(monkeypatch):
    report = data.check("digits")
    assert report.ok
    assert report.details == ("1297 training and 500 test samples in 10 classes",)
    assert data.check("gaussian:0.05").ok
    monkeypatch.setitem(gaussian.FROZEN_HASHES, 0.05, "0" * 64)
    changed = data.check("gaussian:0.05")
    assert changed.status == "damaged"
    assert "expected 000000000000" in changed.details[0]


def test_importing_data_needs_neither_torch_nor_what_readers_use(repository):
    heavy = ("torch", "torchvision", "scipy", "sklearn", "PIL")
    code = f"import lt_lib.data, sys; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
