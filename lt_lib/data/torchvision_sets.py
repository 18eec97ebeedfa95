"""CIFAR-10/100, SVHN and Fashion-MNIST through torchvision's own readers, with every file checked first."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_lib.data.base import Dataset, Split, file_md5, missing_data

# name -> class in torchvision.datasets
READERS = {"cifar10": "CIFAR10", "cifar100": "CIFAR100", "svhn": "SVHN", "fashion_mnist": "FashionMNIST"}
_SVHN_PARTS = {"svhn": ("train", "test"), "svhn_extra": ("extra",)}
_DIGITS = tuple(str(digit) for digit in range(10))

_IDX_UINT8 = 8


@dataclass(frozen=True)
class ExpectedFile:
    """A file that a data set consists of.

    Args:
        path: where it must lie.
        md5: published checksum, None where only the packed file has one.
    """

    path: Path
    md5: str | None


def expected_files(name: str, root: Path) -> list[ExpectedFile]:
    """List the files of a data set, in the layout that torchvision writes below ``root``.

    Args:
        name: one of ``READERS``, or ``svhn_extra``.
        root: folder of the data sets.

    Returns:
        The files in reading order.
    """
    reader = _reader(name)
    if name in _SVHN_PARTS:
        listed = [reader.split_list[part] for part in _SVHN_PARTS[name]]
        return [ExpectedFile(root / filename, md5) for _, filename, md5 in listed]
    if name == "fashion_mnist":
        folder = root / "FashionMNIST" / "raw"
        return [ExpectedFile(folder / packed.removesuffix(".gz"), None) for packed, _ in reader.resources]
    folder = root / reader.base_folder
    listed = [*reader.train_list, *reader.test_list, (reader.meta["filename"], reader.meta["md5"])]
    return [ExpectedFile(folder / filename, md5) for filename, md5 in listed]


def file_problems(name: str, root: Path) -> list[str]:
    """Check the files that are there against their checksums, or their headers where no checksum is published.

    Args:
        name: one of ``READERS``, or ``svhn_extra``.
        root: folder of the data sets.

    Returns:
        One sentence per damaged file, naming it; missing files are not reported here.
    """
    problems = []
    for file in expected_files(name, root):
        if not file.path.is_file():
            continue
        if file.md5 is None:
            damage = _idx_damage(file.path)
        else:
            found = file_md5(file.path)
            damage = "" if found == file.md5 else f"its MD5 is {found}, expected {file.md5}"
        if damage:
            problems.append(f"{file.path} is corrupted: {damage}. Delete it and get the data set again.")
    return problems


def load_torchvision(name: str, root: Path, *, download: bool) -> Dataset:
    """Read one of torchvision's data sets from disk, after downloading it if asked.

    Args:
        name: one of ``READERS``.
        root: folder of the data sets, laid out as torchvision does (``cifar-10-batches-py/``, ``train_32x32.mat``,
            ``FashionMNIST/raw/`` …).
        download: fetch missing or damaged files; intact ones are never fetched again.

    Returns:
        Data set with images ``uint8`` (samples, height, width, channels).

    Raises:
        MissingDataError: files are missing and ``download`` is False.
        ValueError: a file is corrupted; the message names it.
        OSError: the download failed.
    """
    _make_ready(name, root, download=download)
    train, test = (_read(name, root, part) for part in _parts(name))
    class_names = _DIGITS if name == "svhn" else tuple(train.classes)
    return Dataset(name, _split(name, train), _split(name, test), len(class_names), class_names)


def load_svhn_extra(root: Path, *, download: bool) -> tuple[Split, tuple[str, ...]]:
    """Read SVHN's extra split, ``extra_32x32.mat``: 531,131 easier digits.

    Args:
        root: folder of the data sets.
        download: fetch the file if it is missing or damaged.

    Returns:
        Images ``uint8`` (samples, height, width, channels) with their classes, and the names of the classes.

    Raises:
        MissingDataError, ValueError, OSError: as ``load_torchvision``.
    """
    _make_ready("svhn_extra", root, download=download)
    (extra,) = (_read("svhn_extra", root, part) for part in _parts("svhn_extra"))
    return _split("svhn", extra), _DIGITS


def _make_ready(name: str, root: Path, *, download: bool) -> None:
    """Download if asked, then hold what is there against what is expected."""
    if download:
        _download(name, root)
    files = expected_files(name, root)
    missing = [str(file.path.relative_to(root)) for file in files if not file.path.is_file()]
    if missing:
        raise missing_data(
            name,
            what=missing,
            where=[root],
            how="put the files there",
            stand_in="digits",
            downloadable=True,
            call="load" if name in READERS else "load_extra",
        )
    problems = file_problems(name, root)
    if problems:
        raise ValueError(f"Data set `{name}`: {' '.join(problems)}")


def _reader(name: str) -> Any:
    from torchvision import datasets

    return datasets.SVHN if name in _SVHN_PARTS else getattr(datasets, READERS[name])


def _parts(name: str) -> list[dict[str, Any]]:
    """Arguments that make torchvision's reader read one split."""
    if name in _SVHN_PARTS:
        return [{"split": part} for part in _SVHN_PARTS[name]]
    return [{"train": True}, {"train": False}]


def _read(name: str, root: Path, part: dict[str, Any], *, download: bool = False) -> Any:
    return _reader(name)(root=str(root), download=download, **part)


def _download(name: str, root: Path) -> None:
    # A damaged Fashion-MNIST file would count as present, because torchvision looks only whether it exists.
    for file in expected_files(name, root):
        if file.md5 is None and file.path.is_file() and _idx_damage(file.path):
            file.path.unlink()
    root.mkdir(parents=True, exist_ok=True)
    try:
        for part in _parts(name):
            _read(name, root, part, download=True)
    except (OSError, RuntimeError) as error:
        raise OSError(f"Data set `{name}` could not be downloaded to {root.absolute()}: {error}") from error


def _split(name: str, reader: Any) -> Split:
    images = np.asarray(reader.data)
    if name == "svhn":
        images = images.transpose(0, 2, 3, 1)
    elif name == "fashion_mnist":
        images = images[..., np.newaxis]
    targets = np.asarray(reader.labels if name == "svhn" else reader.targets, dtype=np.int64)
    return Split(np.ascontiguousarray(images), targets)


def _idx_damage(path: Path) -> str:
    # idx: two zero bytes, type, number of axes, then each length as a big-endian 32-bit number, then the values.
    with path.open("rb") as stream:
        header = stream.read(16)
    if len(header) < 4 or header[:3] != bytes((0, 0, _IDX_UINT8)):
        return "it does not start with an idx header of unsigned bytes"
    axes = header[3]
    lengths = [int.from_bytes(header[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(axes)]
    expected = 4 + 4 * axes + int(np.prod(lengths))
    size = path.stat().st_size
    return "" if size == expected else f"it has {size} bytes, its header announces {expected}"
