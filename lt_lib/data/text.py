"""IMDB movie reviews, read from the `aclImdb` tree of one text file per review."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path

import numpy as np

from lt_lib.data.base import Dataset, Split, file_md5, missing_data

NAME = "imdb"
FOLDER = "aclImdb"
CLASS_NAMES = ("neg", "pos")
SPLITS = ("train", "test")
REVIEWS_PER_CLASS = 12_500
URL = "https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz"
ARCHIVE = "aclImdb_v1.tar.gz"
ARCHIVE_MD5 = "7c2ac02c03563afcf9b574c7e56c153a"


def load_imdb(root: Path, *, download: bool) -> Dataset:
    """Read the 50,000 labelled reviews; negative is class 0, positive is class 1.

    The reviews of a class come in the order of the number in front of their file name (``0_3.txt``, ``1_1.txt``,
    … ``10_4.txt``), so that index lists mean the same on every file system.

    Args:
        root: folder that holds ``aclImdb``.
        download: fetch and unpack the archive if the tree is missing. An intact archive below ``root`` is used.

    Returns:
        Data set whose inputs are lists of str, 12,500 reviews per class in each split.

    Raises:
        MissingDataError: the tree is missing and ``download`` is False.
        ValueError: a folder is incomplete, a file is not UTF-8 text or has no number, or the archive is corrupted;
            the message names the place.
        OSError: the download failed.

    References:
        A. Maas et al., "Learning Word Vectors for Sentiment Analysis", ACL 2011.
    """
    tree = root / FOLDER
    missing = missing_folders(tree)
    if missing and download:
        _download(root)
        missing = missing_folders(tree)
    if missing:
        raise missing_data(
            NAME,
            what=[f"{FOLDER}/{folder}" for folder in missing],
            where=[root],
            how=f"unpack {ARCHIVE} there",
            stand_in="gaussian",
            downloadable=True,
        )
    train, test = (_read_split(tree / split) for split in SPLITS)
    return Dataset(NAME, train, test, len(CLASS_NAMES), CLASS_NAMES)


def missing_folders(tree: Path) -> list[str]:
    """List the folders of labelled reviews that do not exist below ``tree``.

    Args:
        tree: the ``aclImdb`` folder.

    Returns:
        Paths relative to ``tree``, empty when all four are there.
    """
    folders = [f"{split}/{label}" for split in SPLITS for label in CLASS_NAMES]
    return [folder for folder in folders if not (tree / folder).is_dir()]


def _read_split(folder: Path) -> Split:
    texts: list[str] = []
    sizes = []
    for label in CLASS_NAMES:
        files = sorted((folder / label).glob("*.txt"), key=_review_number)
        if len(files) != REVIEWS_PER_CLASS:
            raise ValueError(
                f"Folder {folder / label} must hold {REVIEWS_PER_CLASS} reviews, got {len(files)}; "
                "delete the tree and get it again."
            )
        texts.extend(_read_review(file) for file in files)
        sizes.append(len(files))
    return Split(texts, np.repeat(np.arange(len(sizes), dtype=np.int64), sizes))


def _review_number(file: Path) -> int:
    number = file.name.partition("_")[0]
    if not number.isdecimal():
        raise ValueError(f"File {file} must be named NUMBER_RATING.txt, got {file.name}.")
    return int(number)


def _read_review(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"File {file} must be UTF-8 text, got {error.reason} at byte {error.start}.") from error


def _download(root: Path) -> None:
    from torchvision.datasets.utils import download_url

    tree = root / FOLDER
    if tree.exists():
        raise ValueError(f"Folder {tree} is incomplete ({', '.join(missing_folders(tree))} missing); delete it first.")
    root.mkdir(parents=True, exist_ok=True)
    archive = root / ARCHIVE
    try:
        download_url(URL, str(root), ARCHIVE, ARCHIVE_MD5)
    except (OSError, RuntimeError) as error:
        if archive.is_file() and file_md5(archive) != ARCHIVE_MD5:
            raise ValueError(
                f"Archive {archive} is corrupted (MD5 {file_md5(archive)}, expected {ARCHIVE_MD5}). "
                "Delete it and download again."
            ) from error
        raise OSError(f"Data set `{NAME}` could not be downloaded to {root.absolute()}: {error}") from error
    # Unpacked beside its place and renamed, so that an interruption never leaves half a tree under the real name.
    with tempfile.TemporaryDirectory(dir=root) as scratch:
        with tarfile.open(archive) as packed:
            packed.extractall(scratch, filter="data")
        (Path(scratch) / FOLDER).replace(tree)
