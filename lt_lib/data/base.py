"""What every data set is made of: two splits, a root folder, and clear words when something is missing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lt_lib._paths import source_tree

ROOT_VARIABLE = "LT_DATA"
DEFAULT_ROOT = "data"


class MissingDataError(FileNotFoundError):
    """A data set was asked for and its files are not on disk."""


@dataclass(frozen=True, eq=False)
class Split:
    """Inputs and targets of one split, in a fixed order.

    Args:
        inputs: images ``uint8`` (samples, height, width, channels), vectors ``float32`` (samples, dim), or texts, a
            list of str.
        targets: class indices, ``int64`` (samples,).

    Raises:
        ValueError: the two lengths differ, or the targets are not one-dimensional int64.
    """

    inputs: np.ndarray | list[str]
    targets: np.ndarray

    def __post_init__(self) -> None:
        check_stored_targets(self.targets)
        if len(self.inputs) != len(self.targets):
            raise ValueError(f"`inputs` must have one entry per target ({len(self.targets)}), got {len(self.inputs)}.")

    def __len__(self) -> int:
        return len(self.targets)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A named data set with a training and a test split.

    Args:
        name: the label that result rows carry.
        train: training split.
        test: test split.
        num_classes: number of classes, targets lie in ``0 … num_classes - 1``.
        class_names: one name per class, in the order of the targets.

    Raises:
        ValueError: ``class_names`` has another length than ``num_classes``, or a target lies outside the classes.
    """

    name: str
    train: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.class_names) != self.num_classes:
            raise ValueError(f"`class_names` must have {self.num_classes} entries, got {len(self.class_names)}.")
        for split_name, split in (("train", self.train), ("test", self.test)):
            outside = split.targets[(split.targets < 0) | (split.targets >= self.num_classes)]
            if len(outside):
                raise ValueError(
                    f"`{split_name}.targets` must lie in 0 … {self.num_classes - 1}, got {int(outside[0])}."
                )


def check_stored_targets(targets: object) -> None:
    """Refuse targets other than a one-dimensional int64 array: what is stored is hashed, with its type.

    Args:
        targets: what a caller gave as targets.

    Raises:
        ValueError: it is another type, or has another number of axes.
    """
    if not isinstance(targets, np.ndarray):
        raise ValueError(f"`targets` must be a one-dimensional int64 array, got {type(targets).__name__}.")
    if targets.ndim != 1 or targets.dtype != np.int64:
        raise ValueError(f"`targets` must be a one-dimensional int64 array, got {targets.dtype} {targets.shape}.")


def data_root(root: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder that holds data sets: ``root``, else the variable ``LT_DATA``, else ``data``.

    The last is the folder at the top of the source tree, wherever the process works in it; outside a source tree it is
    relative to the working directory.

    Args:
        root: explicit folder, or None.

    Returns:
        The folder as a path; it need not exist.

    Example:
        >>> data_root("somewhere").name
        'somewhere'
    """
    if root is not None:
        return Path(root)
    chosen = os.environ.get(ROOT_VARIABLE)
    return Path(chosen) if chosen else (source_tree() or Path()) / DEFAULT_ROOT


def missing_data(
    name: str,
    *,
    what: Iterable[str],
    where: Iterable[Path],
    how: str,
    stand_in: str,
    downloadable: bool,
    call: str = "load",
) -> MissingDataError:
    """Build the error for files that are not there; the caller raises it.

    Args:
        name: data set as the user wrote it.
        what: missing files, relative to ``where``.
        where: folders that were searched.
        how: the second way to get the data (which files to put where).
        stand_in: an embedded set that needs no files.
        downloadable: whether ``download=True`` can fetch it.
        call: the function that loads it.

    Returns:
        An error that says what is missing, where it was looked for, how to get it and what works without it.
    """
    missing = list(what)
    shown = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    places = " and in ".join(str(place.absolute()) for place in where)
    first_way = (
        f'download it with {call}("{name}", download=True) or `lt-lib data get {name}`'
        if downloadable
        else "name another folder"
    )
    return MissingDataError(
        f"Data set `{name}` is missing: {shown} not found in {places}. Either {first_way}, or {how} "
        f"(the root is `root`, else ${ROOT_VARIABLE}, else {DEFAULT_ROOT}/). "
        f'Without any files, load("{stand_in}") works.'
    )


def array_hash(*arrays: np.ndarray) -> str:
    r"""SHA-256 over dtype, shape and bytes of the arrays, in order.

    Args:
        arrays: any numeric arrays; non-native byte order is normalised to little endian.

    Returns:
        64 hexadecimal digits.

    Example:
        >>> array_hash(np.array([1, 2])) == array_hash(np.array([2, 1]))
        False
    """
    digest = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{little.dtype.str}{little.shape}".encode())
        digest.update(little.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def data_hash(dataset: Dataset) -> str:
    """SHA-256 over inputs and targets of both splits; the name and the paths do not count.

    Args:
        dataset: any data set.

    Returns:
        64 hexadecimal digits that change with any value and with the order of the samples.
    """
    digest = hashlib.sha256()
    for split in (dataset.train, dataset.test):
        if isinstance(split.inputs, list):
            for text in split.inputs:
                encoded = text.encode()
                # The length in front keeps ["ab", "c"] and ["a", "bc"] apart.
                digest.update(len(encoded).to_bytes(8, "little"))
                digest.update(encoded)
        else:
            digest.update(array_hash(split.inputs).encode())
        digest.update(array_hash(split.targets).encode())
    return digest.hexdigest()


def file_md5(path: Path) -> str:
    """MD5 of a file, the checksum that data-set authors publish.

    Args:
        path: an existing file.

    Returns:
        32 hexadecimal digits.
    """
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
