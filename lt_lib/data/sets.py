"""Data sets by name: what there is, loading, and checking what is on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from lt_lib._checks import check_known
from lt_lib.data import digits, extra, folder, gaussian, image_files, text, torchvision_sets
from lt_lib.data.base import Dataset, MissingDataError, data_root

_DESCRIPTIONS = {
    "digits": "1,797 real 8×8 grey digits in 10 classes, embedded in scikit-learn",
    "gaussian": "10 Gaussian-mixture classes in 32 dimensions with a known Bayes rule (error 10 %), made",
    "gaussian:0.05": "the same world with Bayes error 5 %, made",
    "gaussian:0.20": "the same world with Bayes error 20 %, made",
    "cifar10": "60,000 colour images 32×32 in 10 classes, torchvision, 170 MB download",
    "cifar100": "60,000 colour images 32×32 in 100 classes, torchvision, 169 MB download",
    "svhn": "99,289 house-number digits 32×32 in 10 classes, torchvision, 246 MB download",
    "fashion_mnist": "70,000 grey images of clothes 28×28 in 10 classes, torchvision, 31 MB download",
    "folder:PATH": "your own images: any tree train/<class>/* + test/<class>/*, cached as one array",
    "imdb": "50,000 movie reviews in 2 classes, the aclImdb tree, 84 MB download",
}
_WORLDS = {"gaussian": 0.10, "gaussian:0.05": 0.05, "gaussian:0.20": 0.20}
_NO_FILES = ("digits", *_WORLDS)


@dataclass(frozen=True)
class CheckReport:
    """What a look at one data set found.

    Args:
        name: data set.
        status: ``"ok"``, ``"missing"`` or ``"damaged"``.
        details: one sentence per finding; it names the files.
    """

    name: str
    status: str
    details: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the data set can be loaded as it is."""
        return self.status == "ok"


def names() -> tuple[str, ...]:
    """Return the names that ``load`` knows; ``folder:PATH`` stands for any path.

    Example:
        >>> names()[0]
        'digits'
    """
    return tuple(_DESCRIPTIONS)


def describe(name: str) -> str:
    """Say in one line what a data set is and where it comes from.

    Args:
        name: a data set, see ``names``, a source of further samples, see ``extra_names``, or a collection of image
            files, see ``image_file_names``.

    Returns:
        The line, without the name.

    Raises:
        ValueError: ``name`` is unknown.

    Example:
        >>> describe("digits")
        '1,797 real 8×8 grey digits in 10 classes, embedded in scikit-learn'
    """
    if name in extra.extra_names():
        return extra.describe_extra(name)
    if name in image_files.image_file_names():
        return image_files.describe_image_files(name)
    return _DESCRIPTIONS[_known(name)]


def load(name: str, root: str | os.PathLike[str] | None = None, download: bool = False) -> Dataset:
    """Load a data set by name. Nothing is downloaded unless asked, and nothing replaces what is missing.

    Args:
        name: a data set, see ``names``; ``"folder:PATH"`` is read as written, else from the top of the
            source tree, else below ``root``.
        root: folder of the data sets; None means the variable ``LT_DATA``, else ``data``.
        download: fetch what is missing (``cifar10``, ``cifar100``, ``svhn``, ``fashion_mnist``, ``imdb``); embedded
            sets miss nothing.

    Returns:
        Training and test split; images ``uint8`` (samples, height, width, channels), vectors ``float32``, texts a
        list of str, targets int64.

    Raises:
        MissingDataError: the files are not there (a ``FileNotFoundError``); the message says what is missing, where
            it was looked for, the two ways to get it and which embedded set works without it.
        ValueError: ``name`` is unknown, ``download`` is asked of an image folder, the data set does not fit into memory
            (see ``load_image_files``), or a file is corrupted; the message names the file.
        OSError: a download failed.

    Example:
        >>> load("digits").num_classes
        10
    """
    known = _known(name)
    place = data_root(root)
    if known == "digits":
        return digits.load_digits()
    if known in _WORLDS:
        return gaussian.load_gaussian(known, _WORLDS[known])
    if known == "folder:PATH":
        if download:
            raise ValueError(f"`download` must be False for image folders, got True for {name!r}.")
        return folder.load_folder(folder.find_folder(_folder_path(name), place))
    if known == "imdb":
        return text.load_imdb(place, download=download)
    return torchvision_sets.load_torchvision(known, place, download=download)


def check(name: str, root: str | os.PathLike[str] | None = None) -> CheckReport:
    """Verify what is on disk for a data set: checksums where there are any, and that all of it can be read.

    Args:
        name: a data set, see ``names``, a source of further samples, see ``extra_names``, or a collection of image
            files, see ``image_file_names``; of those only the first bytes are read.
        root: folder of the data sets; None means the variable ``LT_DATA``, else ``data``.

    Returns:
        The report. Nothing is downloaded; an image folder is decoded if its cache is missing or out of date.

    Raises:
        ValueError: ``name`` is unknown.

    Example:
        >>> check("digits").status
        'ok'
    """
    apart = dict.fromkeys(extra.extra_names(), _further_sizes)
    apart |= dict.fromkeys(image_files.image_file_names(), _file_sizes)
    known = name if name in apart else _known(name)
    if known in _WORLDS:
        found = gaussian.gaussian_world(bayes_error=_WORLDS[known]).hash()
        expected = gaussian.FROZEN_HASHES[_WORLDS[known]]
        if found != expected:
            sentence = f"the world has hash {found[:12]}…, expected {expected[:12]}…"
            return CheckReport(name, "damaged", (sentence,))
    try:
        sizes = apart.get(name, _sizes)(name, root)
    except MissingDataError as error:
        return CheckReport(name, "missing", (str(error),))
    except (OSError, ValueError) as error:
        return CheckReport(name, "damaged", (str(error),))
    return CheckReport(name, "ok", (sizes,))


def _sizes(name: str, root: str | os.PathLike[str] | None) -> str:
    dataset = load(name, root)
    return f"{len(dataset.train)} training and {len(dataset.test)} test samples in {dataset.num_classes} classes"


def _further_sizes(name: str, root: str | os.PathLike[str] | None) -> str:
    found = extra.load_extra(name, root)
    return f"{len(found.split)} further samples in {len(found.class_names)} classes"


def _file_sizes(name: str, root: str | os.PathLike[str] | None) -> str:
    found = image_files.load_image_files(name, root)
    strange = image_files.strange_files(found)
    if strange:
        raise ValueError(f"Data set `{name}`: {len(strange)} files cannot be read, first {strange[0]}")
    return f"{len(found.train)} training and {len(found.test)} test images in {found.num_classes} classes"


def overview(root: str | os.PathLike[str] | None = None) -> list[tuple[str, str, str]]:
    """List every data set, source of further samples and collection of image files with its state; none is read.

    Args:
        root: folder of the data sets; None means the variable ``LT_DATA``, else ``data``.

    Returns:
        Rows ``(name, state, description)``; the state is ``"embedded"``, ``"on disk"``, ``"missing"`` or
        ``"yours"``.
    """
    place = data_root(root)
    rows = [(name, _state(name, place), description) for name, description in _DESCRIPTIONS.items()]
    for name in extra.extra_names():
        state = "on disk" if extra.is_on_disk(name, place) else "missing"
        rows.append((name, state, extra.describe_extra(name)))
    for name in image_files.image_file_names():
        state = "on disk" if image_files.are_on_disk(name, place) else "missing"
        rows.append((name, state, image_files.describe_image_files(name)))
    return rows


def _state(name: str, root: Path) -> str:
    if name in _NO_FILES:
        return "embedded"
    if name == "folder:PATH":
        return "yours"
    if name == "imdb":
        return "missing" if text.missing_folders(root / text.FOLDER) else "on disk"
    present = all(file.path.is_file() for file in torchvision_sets.expected_files(name, root))
    return "on disk" if present else "missing"


def _known(name: str) -> str:
    if isinstance(name, str) and name.startswith(folder.PREFIX) and _folder_path(name):
        return "folder:PATH"
    if name in image_files.image_file_names():
        raise ValueError(
            f"`name` must be a data set that fits into memory, got {name!r}, whose images are decoded batch by batch: "
            "see load_image_files."
        )
    return check_known(name, "name", names())


def _folder_path(name: str) -> str:
    return name.removeprefix(folder.PREFIX)
