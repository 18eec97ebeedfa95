"""Runs of the grids without all labels on CIFAR-100 and SVHN, from small files in the authors' formats to a row."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.io
import torchvision.datasets as tv
import torchvision_files as files

from lt_lib import recipes
from lt_lib.batch.grid import load_grid

# What makes a run small enough for a test, besides the networks; everything else stays as the grid has it.
SHORT = {"epochs": 2, "batch_size": 64, "imbalance_ratio": 2.0, "device": "cpu", "evaluate_every": 1}
PER_CLASS = 4


def point(repository, grid, unit, **wanted):
    """The first point of a grid with these values, as a configuration, made small."""
    found = load_grid(repository / "notebooks" / "grids" / f"{grid}.yaml").points
    config = next(
        config
        for config in (unit(**values) for values in found)
        if all(getattr(config, name) == value for name, value in wanted.items())
    )
    return replace(config, **SHORT)


@pytest.fixture
def cifar100(tmp_path, monkeypatch):
    files.write_cifar(tmp_path, monkeypatch, tv.CIFAR100, "fine_labels", 100, size=100 * PER_CLASS)
    return str(tmp_path)


@pytest.fixture
def svhn(tmp_path, monkeypatch):
    files.write_svhn(tmp_path, monkeypatch, size=200)
    images, labels = files.images_and_labels(800, (32, 32, 3), 10, 7)
    stored = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
    path = tmp_path / "extra_32x32.mat"
    scipy.io.savemat(path, {"X": images.transpose(1, 2, 3, 0), "y": stored})
    listed = {**tv.SVHN.split_list, "extra": [tv.SVHN.split_list["extra"][0], path.name, files.md5(path)]}
    monkeypatch.setattr(tv.SVHN, "split_list", listed)
    return str(tmp_path)


def assert_row(row, dataset, classes, method):
    assert (row["dataset"], row["method"], row["profile"]) == (dataset, method, "paper")
    assert sum(name.startswith("recall_") and name[7:].isdigit() for name in row) == classes
    for score in ("accuracy_last", "accuracy_best_on_test"):
        assert 0 <= row[score] <= 1


def test_a_run_with_pretraining_on_cifar100(repository, cifar100):
    config = point(repository, "ssp", recipes.PretrainConfig, dataset="cifar100", pretext="rotation", loss="softmax")
    result = recipes.run_pretrain(replace(config, model="resnet8", data_root=cifar100, pretrain_epochs=2))
    assert_row(result.to_row(), "cifar100", 100, "ERM + rotation")
    assert 0 <= result.pretext_score <= 1


def test_a_run_of_crest_on_cifar100(repository, cifar100):
    config = point(repository, "crest", recipes.SemiConfig, dataset="cifar100", label="crest+", label_fraction=0.3)
    small = {"model": "wrn-10-1", "n_max": PER_CLASS, "generations": 2, "steps_per_epoch": 2, "unlabelled_ratio": 1}
    result = recipes.run_semi(replace(config, data_root=cifar100, **small))
    row = result.to_row()
    assert (row["dataset"], row["method"], row["profile"]) == ("cifar100", "crest+", "paper")
    assert 0 <= row["accuracy_last"] <= 1
    assert row["config_hash"] == result.config.hash()


def test_a_run_of_self_training_on_svhn_with_its_extra_images(repository, svhn):
    config = point(repository, "self-training-table", recipes.SelfTrainConfig, dataset="svhn", loss="ldam")
    small = {"model": "resnet8", "n_max": 15, "pool_imbalance_ratio": 2.0, "student_epochs": 3, "pool_amount": 2.0}
    result = recipes.run_self_train(replace(config, data_root=svhn, **small))
    assert_row(result.to_row(), "svhn", 10, "LDAM-DRW + pool")
    assert result.pool["source"] == "svhn_extra"
    # Two images without a label for each with one, from the further split alone.
    assert sum(result.pool["class_counts"]) == pytest.approx(2 * sum(result.trained.class_counts), abs=10)
