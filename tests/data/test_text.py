import hashlib
import io
import tarfile
import urllib.error
from pathlib import Path

import pytest

from lt_lib.data import MissingDataError, check, load, text


@pytest.fixture
def small(monkeypatch):
    """Expect 12 reviews per class instead of 12,500."""
    monkeypatch.setattr(text, "REVIEWS_PER_CLASS", 12)


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download was started")

    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", refuse)
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", refuse)


def reviews():
    for split in ("train", "test"):
        for label in ("neg", "pos"):
            for number in range(12):
                yield f"aclImdb/{split}/{label}/{number}_{number % 10}.txt", f"{split} {label} {number} é\r\n"


def write_tree(root):
    for name, content in reviews():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode())


def write_archive(root, monkeypatch):
    archive = root / text.ARCHIVE
    with tarfile.open(archive, "w:gz") as packed:
        for name, content in reviews():
            member = tarfile.TarInfo(name)
            member.size = len(content.encode())
            packed.addfile(member, io.BytesIO(content.encode()))
    monkeypatch.setattr(text, "ARCHIVE_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    return archive


def assert_reviews(dataset):
    assert dataset.class_names == ("neg", "pos")
    assert dataset.train.targets.tolist() == dataset.test.targets.tolist() == [0] * 12 + [1] * 12
    # 2 comes before 10: numbers, not letters, give the order. Line ends and accents survive.
    assert dataset.train.inputs == [f"train {label} {number} é\r\n" for label in ("neg", "pos") for number in range(12)]
    assert dataset.test.inputs[-1] == "test pos 11 é\r\n"


@pytest.mark.usefixtures("small", "no_network")
def test_tree_is_read_in_the_order_of_the_numbers(tmp_path):
    write_tree(tmp_path)
    assert_reviews(load("imdb", tmp_path, download=True))
    assert check("imdb", tmp_path).ok


@pytest.mark.usefixtures("no_network")
def test_missing_tree_says_everything(tmp_path):
    with pytest.raises(MissingDataError, match="`imdb` is missing: aclImdb/train/neg, aclImdb/train/pos") as caught:
        load("imdb", tmp_path)
    for part in (str(tmp_path), "download=True", "unpack aclImdb_v1.tar.gz there", 'load("gaussian") works'):
        assert part in str(caught.value)
    assert check("imdb", tmp_path).status == "missing"


def test_incomplete_class_is_named(tmp_path):
    write_tree(tmp_path)
    with pytest.raises(ValueError, match=r"Folder \S*train/neg must hold 12500 reviews, got 12"):
        load("imdb", tmp_path)
    assert check("imdb", tmp_path).status == "damaged"


@pytest.mark.usefixtures("small")
def test_unreadable_review_is_named(tmp_path):
    write_tree(tmp_path)
    file = tmp_path / "aclImdb" / "test" / "pos" / "3_3.txt"
    file.write_bytes(b"good \xff bad")
    with pytest.raises(
        ValueError, match=r"File \S*test/pos/3_3.txt must be UTF-8 text, got invalid start byte at byte 5"
    ):
        load("imdb", tmp_path)
    file.rename(file.with_name("third_3.txt"))
    with pytest.raises(ValueError, match=r"File \S*third_3.txt must be named NUMBER_RATING.txt"):
        load("imdb", tmp_path)


@pytest.mark.usefixtures("small", "no_network")
def test_intact_archive_is_unpacked_without_the_network(tmp_path, monkeypatch):
    write_archive(tmp_path, monkeypatch)
    with pytest.raises(MissingDataError):
        load("imdb", tmp_path)
    assert_reviews(load("imdb", tmp_path, download=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aclImdb", "aclImdb_v1.tar.gz"]


@pytest.mark.usefixtures("small")
def test_downloaded_archive_with_another_checksum_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, max_hops: url)
    half = "torchvision.datasets.utils._urlretrieve"
    monkeypatch.setattr(half, lambda url, target: Path(target).write_bytes(b"half an archive"))
    with pytest.raises(ValueError, match=r"Archive \S*aclImdb_v1.tar.gz is corrupted \(MD5 \w+, expected 7c2ac02c"):
        load("imdb", tmp_path, download=True)
    assert not (tmp_path / "aclImdb").exists()


def test_failed_download_says_so(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise urllib.error.URLError("no route")

    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", fail)
    with pytest.raises(OSError, match=r"`imdb` could not be downloaded to \S+: .*no route"):
        load("imdb", tmp_path, download=True)


@pytest.mark.usefixtures("small", "no_network")
def test_incomplete_tree_is_not_overwritten(tmp_path, monkeypatch):
    write_archive(tmp_path, monkeypatch)
    (tmp_path / "aclImdb" / "train" / "neg").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"Folder \S*aclImdb is incomplete \(train/pos, test/neg, test/pos missing\)"):
        load("imdb", tmp_path, download=True)


@pytest.mark.usefixtures("small", "no_network")
def test_interrupted_unpacking_leaves_no_tree(tmp_path, monkeypatch):
    write_archive(tmp_path, monkeypatch)

    def interrupted(packed, *args, **kwargs):
        packed.extract(packed.next(), *args, **kwargs)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load("imdb", tmp_path, download=True)
    assert [path.name for path in tmp_path.iterdir()] == ["aclImdb_v1.tar.gz"]
    assert_reviews(load("imdb", tmp_path, download=True))
