"""SVHN's extra split and CINIC-10: read from small files in the original formats."""

import hashlib
import urllib.error

import numpy as np
import pytest
import scipy.io
import torchvision.datasets as tv
from PIL import Image

from lt_lib import cli
from lt_lib.data import MissingDataError, check, describe, extra_names, load_extra, overview
from lt_lib.data.extra import CINIC_CLASSES, CINIC_SPLITS

SVHN_FILE = "extra_32x32.mat"


def write_svhn_extra(root, monkeypatch, size=15):
    """As the authors store it: images last axis first, the digit zero called 10."""
    rng = np.random.default_rng(5)
    images = rng.integers(256, size=(size, 32, 32, 3), dtype=np.uint8)
    labels = rng.permutation(np.arange(size) % 10)
    file = root / SVHN_FILE
    scipy.io.savemat(
        file, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]}
    )
    listed = [tv.SVHN.split_list["extra"][0], SVHN_FILE, hashlib.md5(file.read_bytes()).hexdigest()]
    monkeypatch.setattr(tv.SVHN, "split_list", {**tv.SVHN.split_list, "extra": listed})
    return images, labels


@pytest.fixture
def cinic(tmp_path):
    """Two images from ImageNet and one from CIFAR-10 in every class of every split."""
    rng = np.random.default_rng(6)
    content = {}
    for split in CINIC_SPLITS:
        for label in CINIC_CLASSES:
            folder = tmp_path / "CINIC-10" / split / label
            folder.mkdir(parents=True)
            origin = "test" if split == "test" else "train"
            names = [f"n0200{rng.integers(1000):04d}_{number}.png" for number in (17, 4)]
            for name in (*names, f"cifar10-{origin}-{rng.integers(50000)}.png"):
                content[split, label, name] = rng.integers(256, size=(32, 32, 3), dtype=np.uint8)
                Image.fromarray(content[split, label, name]).save(folder / name)
    return tmp_path, content


def test_svhn_extra_comes_back_as_images_with_zero_as_class_zero(tmp_path, monkeypatch):
    images, labels = write_svhn_extra(tmp_path, monkeypatch)
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", None)
    found = load_extra("svhn_extra", tmp_path)
    np.testing.assert_array_equal(found.split.inputs, images)
    np.testing.assert_array_equal(found.split.targets, labels)
    assert (labels == 0).any()
    assert found.split.inputs.dtype == np.uint8
    assert found.split.inputs.flags.c_contiguous
    assert (found.name, found.class_names) == ("svhn_extra", tuple("0123456789"))
    report = check("svhn_extra", tmp_path)
    assert (report.status, report.details) == ("ok", ("15 further samples in 10 classes",))


def test_svhn_extra_that_is_not_there_is_named_and_not_fetched(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.svhn.download_url", None)
    with pytest.raises(MissingDataError, match=f"`svhn_extra` is missing: {SVHN_FILE} not found in") as caught:
        load_extra("svhn_extra", tmp_path)
    for part in (str(tmp_path), 'load_extra("svhn_extra", download=True)', "lt-lib data get svhn_extra"):
        assert part in str(caught.value)
    for part in ("put the files there", 'load("digits") works'):
        assert part in str(caught.value)
    assert check("svhn_extra", tmp_path).status == "missing"
    assert not list(tmp_path.iterdir())


def test_svhn_extra_is_fetched_when_asked(tmp_path, monkeypatch, capsys):
    (tmp_path / "server").mkdir()
    images, _ = write_svhn_extra(tmp_path / "server", monkeypatch)
    asked = []

    def fetch(url, root, filename, md5):
        asked.append((url, filename, md5))
        (tmp_path / "data" / filename).write_bytes((tmp_path / "server" / filename).read_bytes())

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fetch)
    assert len(load_extra("svhn_extra", tmp_path / "data", download=True).split) == len(images)
    assert asked == [tuple(tv.SVHN.split_list["extra"])]
    assert cli.main(["data", "get", "svhn_extra", "--root", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out == "svhn_extra: 15 further samples, 10 classes\n"


def test_damage_and_a_failed_download_are_said(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("torchvision.datasets.svhn.download_url", fail)
    with pytest.raises(OSError, match=r"`svhn_extra` could not be downloaded to \S+: .*no route"):
        load_extra("svhn_extra", tmp_path, download=True)
    write_svhn_extra(tmp_path, monkeypatch)
    (tmp_path / SVHN_FILE).write_bytes((tmp_path / SVHN_FILE).read_bytes()[:-3])
    with pytest.raises(ValueError, match=rf"`svhn_extra`: \S*{SVHN_FILE} is corrupted: its MD5 is \w+, expected"):
        load_extra("svhn_extra", tmp_path)
    assert check("svhn_extra", tmp_path).status == "damaged"


def test_cinic_comes_back_without_the_images_of_cifar(cinic):
    root, content = cinic
    found = load_extra("cinic10", root)
    expected = [
        (position, content[split, label, name])
        for split in CINIC_SPLITS
        for position, label in enumerate(CINIC_CLASSES)
        for name in sorted(n for s, c, n in content if (s, c) == (split, label) and n.startswith("n"))
    ]
    assert len(expected) == 60
    np.testing.assert_array_equal(found.split.targets, [label for label, _ in expected])
    np.testing.assert_array_equal(found.split.inputs, [image for _, image in expected])
    assert found.class_names == CINIC_CLASSES
    from_cifar = np.stack([image for (_, _, name), image in content.items() if name.startswith("cifar")])
    assert not (found.split.inputs[:, None] == from_cifar).all(axis=(2, 3, 4)).any()


def test_cinic_is_decoded_once_and_again_when_it_changes(cinic, monkeypatch):
    root, _ = cinic
    first = load_extra("cinic10", root).split
    again = load_extra("cinic10", root).split
    np.testing.assert_array_equal(first.inputs, again.inputs)
    assert len(list((root / "CINIC-10" / ".lt_cache").iterdir())) == 2
    folder = root / "CINIC-10" / "valid" / "cat"
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(folder / "n99999999_1.png")
    assert len(load_extra("cinic10", root).split) == 61


def test_cinic_that_is_not_there_or_not_whole_is_named(tmp_path, cinic):
    with pytest.raises(MissingDataError, match="`cinic10` is missing: CINIC-10/train/airplane, ") as caught:
        load_extra("cinic10", tmp_path / "elsewhere")
    for part in ("elsewhere", "name another folder", "CINIC-10.tar.gz", 'load("digits") works'):
        assert part in str(caught.value)
    root, _ = cinic
    for file in (root / "CINIC-10" / "valid" / "frog").iterdir():
        file.unlink()
    with pytest.raises(ValueError, match=r"valid/frog must hold an image from ImageNet, got none"):
        load_extra("cinic10", root)
    (root / "CINIC-10" / "valid" / "frog").rmdir()
    with pytest.raises(MissingDataError, match="is missing: CINIC-10/valid/frog not found"):
        load_extra("cinic10", root)


def test_files_of_unknown_origin_are_refused(cinic):
    root, _ = cinic
    Image.fromarray(np.zeros((32, 32, 3), dtype=np.uint8)).save(root / "CINIC-10" / "test" / "dog" / "mine.png")
    with pytest.raises(ValueError, match=r"test/dog must hold CINIC-10's images, .* got mine\.png"):
        load_extra("cinic10", root)


def test_unknown_names_and_downloads_that_do_not_exist_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`name` must be one of 'svhn_extra', 'cinic10', got 'cinic'. Did you mean"):
        load_extra("cinic")
    with pytest.raises(ValueError, match="`download` must be False for the image folders of 'cinic10', got True"):
        load_extra("cinic10", tmp_path, download=True)


def test_the_overview_lists_them(tmp_path, cinic):
    root, _ = cinic
    states = {name: state for name, state, _ in overview(root)}
    assert (states["svhn_extra"], states["cinic10"]) == ("missing", "on disk")
    assert {name: state for name, state, _ in overview(tmp_path / "none")}["cinic10"] == "missing"
    assert all("pool" in describe(name) for name in extra_names())
