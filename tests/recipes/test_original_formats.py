"""The configurations of the papers' tables run from files in the authors' formats to a result, in one short epoch."""

import numpy as np
import pytest
import torchvision.datasets as tv
from torchvision_files import write_cifar, write_fashion, write_svhn

from lt_lib.batch.grid import load_grid
from lt_lib.data import MissingDataError
from lt_lib.recipes import RunConfig, load_result, method_name, preset, run

# What makes a run of a table small enough for a test; everything else stays as the table has it.
SHORT = {"model": "resnet8", "epochs": 1, "n_max": 3, "imbalance_ratio": 3.0, "device": "cpu", "precision": "float32"}


def write(name, root, monkeypatch):
    if name == "cifar100":
        write_cifar(root, monkeypatch, tv.CIFAR100, "fine_labels", 100, size=300)
    elif name == "svhn":
        write_svhn(root, monkeypatch, size=40)
    else:
        write_fashion(root, size=40)


def runs_to_a_result(config, root, counts):
    result = run(config.changed(data_root=str(root)))
    assert result.class_counts == counts
    assert np.isfinite(result.curves["train_loss"]).all()
    assert np.sum(result.confusion) == (300 if config.dataset == "cifar100" else 40)
    row = load_result(result.save(root / "out")).to_row()
    assert (row["dataset"], row["method"]) == (config.dataset, method_name(config))
    assert f"recall_{len(counts) - 1}" in row
    return result


@pytest.mark.parametrize(
    ("grid", "method"), [("ldam-long-tailed", "LDAM-DRW"), ("ldam-step", "CB RS"), ("cb-table", "CB-focal")]
)
def test_a_run_of_the_cifar100_grids(tmp_path, monkeypatch, repository, grid, method):
    write("cifar100", tmp_path, monkeypatch)
    points = load_grid(repository / "notebooks" / "grids" / f"{grid}.yaml").points
    configs = [RunConfig(**point) for point in points if point["dataset"] == "cifar100"]
    config = next(config for config in configs if method_name(config) == method).changed(**SHORT)
    # Truncated, as the tables do: 3 · 3^(-i/99) is 3 once and below 2 from the 37th of 100 classes.
    counts = [3] + [2] * 36 + [1] * 63 if config.imbalance_type == "exponential" else [3] * 50 + [1] * 50
    result = runs_to_a_result(config, tmp_path, counts)
    assert result.config.augment
    assert result.config.profile == "paper"


@pytest.mark.parametrize("name", ["svhn", "fashion_mnist"])
@pytest.mark.parametrize("method", ["ERM", "LDAM-DRW"])
def test_a_run_of_the_other_sets(tmp_path, monkeypatch, name, method):
    write(name, tmp_path, monkeypatch)
    config = preset("cifar-paper", method, dataset=name, **SHORT)
    runs_to_a_result(config, tmp_path, [3, 2, 2, 2, 1, 1, 1, 1, 1, 1])


@pytest.mark.parametrize("name", ["cifar100", "svhn", "fashion_mnist"])
def test_without_files_a_run_says_so(tmp_path, name):
    with pytest.raises(MissingDataError, match=f"Data set `{name}` is missing"):
        run(preset("cifar-paper", dataset=name, data_root=str(tmp_path), **SHORT))
