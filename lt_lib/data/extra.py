"""Further samples with the classes of a known data set, for unlabelled pools: SVHN's extra split and CINIC-10."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lt_lib._checks import check_known
from lt_lib.data import folder, torchvision_sets
from lt_lib.data.base import Split, data_root, missing_data

_DESCRIPTIONS = {
    "svhn_extra": "531,131 further house-number digits with the classes of svhn, a pool, torchvision, 1.3 GB download",
    "cinic10": "210,000 small ImageNet images with the classes of cifar10, a pool, the user's CINIC-10 folder",
}
CINIC_FOLDER = "CINIC-10"
CINIC_SPLITS = ("train", "valid", "test")
CINIC_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_FROM_IMAGENET = re.compile(r"n\d+_\d+\.png")  # synset and number
_FROM_CIFAR = re.compile(r"cifar-?10-.*\.png")


@dataclass(frozen=True, eq=False)
class Extra:
    """Samples without a test split of their own.

    Args:
        name: where they are from, see `extra_names`.
        split: images ``uint8`` (samples, height, width, channels) with their classes.
        class_names: one name per class, those of the data set that they extend.
    """

    name: str
    split: Split
    class_names: tuple[str, ...]


def extra_names() -> tuple[str, ...]:
    """Return the names that `load_extra` knows.

    Example:
        >>> extra_names()
        ('svhn_extra', 'cinic10')
    """
    return tuple(_DESCRIPTIONS)


def describe_extra(name: str) -> str:
    """Say in one line what a source is.

    Raises:
        ValueError: ``name`` is unknown.
    """
    return _DESCRIPTIONS[check_known(name, "name", _DESCRIPTIONS)]


def load_extra(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Extra:
    """Load further samples of known classes. Nothing is downloaded unless asked.

    CINIC-10 also holds all images of CIFAR-10, its test images among them. They are left out: what comes back is the
    part from ImageNet, 21,000 images per class, of all three splits.

    Args:
        name: ``"svhn_extra"``, or ``"cinic10"``, which is read from the folder ``CINIC-10`` below the root.
        root: folder of the data sets; None means the variable ``LT_DATA``, else ``data``.
        download: fetch what is missing; CINIC-10 is only read.

    Returns:
        The samples; targets are those of ``svhn`` and of ``cifar10``.

    Raises:
        MissingDataError: the files are not there; the message says what is missing, where it was looked for, the two
            ways to get it and which embedded set works without it.
        ValueError: ``name`` is unknown, ``download`` is asked of CINIC-10, or a file is corrupted or out of place.
        OSError: the download failed.

    References:
        L. N. Darlow et al., "CINIC-10 is not ImageNet or CIFAR-10", arXiv:1810.03505, 2018.
    """
    check_known(name, "name", _DESCRIPTIONS)
    place = data_root(root)
    if name == "svhn_extra":
        return Extra(name, *torchvision_sets.load_svhn_extra(place, download=download))
    if download:
        raise ValueError(f"`download` must be False for the image folders of {name!r}, got True.")
    return Extra(name, _load_cinic(place), CINIC_CLASSES)


def is_on_disk(name: str, root: Path) -> bool:
    """Whether the files of a source are there; they are not read."""
    if name == "svhn_extra":
        return all(file.path.is_file() for file in torchvision_sets.expected_files(name, root))
    return not _missing_cinic(root)


def _missing_cinic(root: Path) -> list[str]:
    expected = (f"{CINIC_FOLDER}/{split}/{label}" for split in CINIC_SPLITS for label in CINIC_CLASSES)
    return [name for name in expected if not (root / name).is_dir()]


def _load_cinic(root: Path) -> Split:
    missing = _missing_cinic(root)
    if missing:
        raise missing_data(
            "cinic10",
            what=missing,
            where=[root],
            how=f"unpack the authors' CINIC-10.tar.gz (doi:10.7488/ds/2448), which makes the folder {CINIC_FOLDER}",
            stand_in="digits",
            downloadable=False,
        )
    tree = _scan_cinic(root / CINIC_FOLDER)
    images = folder.cached_images(root / CINIC_FOLDER, tree)
    classes = np.arange(len(CINIC_CLASSES), dtype=np.int64)
    return Split(images, np.concatenate([np.repeat(classes, sizes) for sizes in tree.counts]))


def _scan_cinic(place: Path) -> folder.ImageTree:
    """List the images from ImageNet, split after split and class after class."""
    files: list[str] = []
    counts = []
    digest = hashlib.sha256()
    for split in CINIC_SPLITS:
        sizes = []
        for label in CINIC_CLASSES:
            names = folder.visible(place / split / label)
            strange = [name for name in names if not (_FROM_IMAGENET.fullmatch(name) or _FROM_CIFAR.fullmatch(name))]
            if strange:
                raise ValueError(
                    f"Class folder {place / split / label} must hold CINIC-10's images, named after a synset or after "
                    f"CIFAR-10, got {strange[0]}."
                )
            chosen = [name for name in names if _FROM_IMAGENET.fullmatch(name)]
            if not chosen:
                raise ValueError(f"Class folder {place / split / label} must hold an image from ImageNet, got none.")
            for name in chosen:
                status = os.stat(place / split / label / name)
                digest.update(f"{split}/{label}/{name}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
                files.append(f"{place / split / label}/{name}")
            sizes.append(len(chosen))
        counts.append(tuple(sizes))
    return folder.ImageTree(CINIC_CLASSES, tuple(files), tuple(counts), digest.hexdigest())
