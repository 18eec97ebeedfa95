import gzip
import urllib.error

import numpy as np
import pytest
import torchvision.datasets as tv
from torchvision_files import write_cifar, write_fashion, write_svhn

from lt_lib.data import MissingDataError, check, load

DIGITS = tuple(str(digit) for digit in range(10))


def assert_split(split, images, labels):
    np.testing.assert_array_equal(split.inputs, images)
    assert split.inputs.dtype == np.uint8
    assert split.inputs.flags.c_contiguous
    np.testing.assert_array_equal(split.targets, labels)
    assert split.targets.dtype == np.int64


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download was started")

    for place in ("cifar.download_and_extract_archive", "mnist.download_and_extract_archive", "svhn.download_url"):
        monkeypatch.setattr(f"torchvision.datasets.{place}", refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "reader", "key", "num_classes"),
    [("cifar10", tv.CIFAR10, "labels", 10), ("cifar100", tv.CIFAR100, "fine_labels", 100)],
)
def test_cifar_batches_come_back_as_images(tmp_path, monkeypatch, name, reader, key, num_classes):
    content = write_cifar(tmp_path, monkeypatch, reader, key, num_classes)
    dataset = load(name, tmp_path, download=True)
    *train, test = content.values()
    assert_split(dataset.train, *(np.concatenate(parts) for parts in zip(*train, strict=True)))
    assert_split(dataset.test, *test)
    assert dataset.num_classes == num_classes
    assert dataset.class_names[-1] == f"class {num_classes - 1}"
    assert dataset.name == name
    assert check(name, tmp_path).ok


@pytest.mark.usefixtures("no_network")
def test_svhn_comes_back_as_images_with_zero_as_class_zero(tmp_path, monkeypatch):
    content = write_svhn(tmp_path, monkeypatch)
    dataset = load("svhn", tmp_path)
    assert_split(dataset.train, *content["train"])
    assert_split(dataset.test, *content["test"])
    assert (dataset.train.targets == 0).any()
    assert dataset.class_names == DIGITS


@pytest.mark.usefixtures("no_network")
def test_fashion_mnist_comes_back_as_grey_images(tmp_path):
    content = write_fashion(tmp_path)
    dataset = load("fashion_mnist", tmp_path, download=True)
    assert_split(dataset.train, *content["train"])
    assert_split(dataset.test, *content["t10k"])
    assert dataset.class_names[0] == "T-shirt/top"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
        ("svhn", "train_32x32.mat"),
        ("fashion_mnist", "FashionMNIST/raw/train-images-idx3-ubyte"),
    ],
)
def test_missing_files_are_named_and_nothing_is_fetched(tmp_path, name, first):
    with pytest.raises(MissingDataError, match=f"`{name}` is missing: {first}") as caught:
        load(name, tmp_path)
    for part in (str(tmp_path), "download=True", "put the files there", 'load("digits") works'):
        assert part in str(caught.value)
    assert check(name, tmp_path).status == "missing"
    assert not list(tmp_path.iterdir())


def test_root_comes_from_the_variable(tmp_path, monkeypatch):
    content = write_svhn(tmp_path, monkeypatch)
    monkeypatch.setenv("LT_DATA", str(tmp_path))
    assert_split(load("svhn").train, *content["train"])


def test_one_missing_file_is_named_alone(tmp_path, monkeypatch):
    write_svhn(tmp_path, monkeypatch)
    (tmp_path / "test_32x32.mat").unlink()
    with pytest.raises(MissingDataError, match="is missing: test_32x32.mat not found"):
        load("svhn", tmp_path)


def test_corrupted_file_is_named(tmp_path, monkeypatch):
    write_cifar(tmp_path, monkeypatch, tv.CIFAR10, "labels", 10)
    file = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    file.write_bytes(file.read_bytes()[:-5])
    with pytest.raises(ValueError, match=r"Data set `cifar10`: \S*data_batch_3 is corrupted: its MD5 is \w+, expected"):
        load("cifar10", tmp_path)
    report = check("cifar10", tmp_path)
    assert report.status == "damaged"
    assert "data_batch_3" in report.details[0]


@pytest.mark.parametrize("keep", [2, 3, 10, 100])
def test_truncated_idx_file_is_named(tmp_path, keep):
    write_fashion(tmp_path)
    file = tmp_path / "FashionMNIST" / "raw" / "t10k-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(ValueError, match="t10k-images-idx3-ubyte is corrupted: it "):
        load("fashion_mnist", tmp_path)


def test_download_fetches_what_is_missing_or_damaged_and_only_that(tmp_path, monkeypatch):
    content = write_fashion(tmp_path)
    folder = tmp_path / "FashionMNIST" / "raw"
    intact = {file.name: file.read_bytes() for file in folder.iterdir()}
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x09\x01")
    fetched = []

    def fetch(url, download_root, filename, md5):
        fetched.append(filename)
        (folder / filename.removesuffix(".gz")).write_bytes(intact[filename.removesuffix(".gz")])

    monkeypatch.setattr("torchvision.datasets.mnist.download_and_extract_archive", fetch)
    assert_split(load("fashion_mnist", tmp_path, download=True).train, *content["train"])
    assert "train-labels-idx1-ubyte.gz" in fetched


def test_failed_download_says_so(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fail)
    with pytest.raises(OSError, match=r"`svhn` could not be downloaded to \S+: .*no route"):
        load("svhn", tmp_path, download=True)


def test_packed_idx_files_alone_do_not_count(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    write_fashion(tmp_path)
    for file in list(folder.iterdir()):
        (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
        file.unlink()
    with pytest.raises(MissingDataError, match="train-images-idx3-ubyte"):
        load("fashion_mnist", tmp_path)
