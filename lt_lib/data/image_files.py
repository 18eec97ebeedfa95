"""Image collections that do not fit into memory: lists of files with their classes, checked before training starts."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lt_lib._checks import check_known
from lt_lib.data.base import data_root, missing_data

_DESCRIPTIONS = {
    "inaturalist": "462,000 photographs of 8,142 species, iNaturalist 2018, decoded batch by batch, the user's",
    "inaturalist:2017": "675,000 photographs of 5,089 species, iNaturalist 2017, decoded batch by batch, the user's",
    "inaturalist:2021": "2.8 million images of 10,000 species, iNaturalist 2021, decoded batch by batch, the user's",
    "imagenet": "1.3 million photographs in 1,000 classes, ILSVRC 2012, decoded batch by batch, the user's",
    "imagenet_lt": "115,846 of them, ImageNet-LT: three list files beside the tree of imagenet, the user's",
    "made_up": "100 small made-up pictures in 4 classes, as iNaturalist 2018 has them, decoded batch by batch, made",
}
INATURALIST_FOLDER, IMAGENET_FOLDER = "inaturalist", "imagenet"
MADE_UP = "made_up"  # the collection and its folder, see `made_up_images`
# Version -> the image folder as torchvision names it, and as the archive does.
_IMAGES = {"2017": ("2017", "train_val_images"), "2018": ("2018", "train_val2018")}
# Channel mean and deviation that the code of the class-balanced loss subtracts and divides by, on the scale 0 … 1.
_STATISTICS = {
    INATURALIST_FOLDER: ((0.466, 0.471, 0.380), (0.195, 0.194, 0.192)),
    IMAGENET_FOLDER: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")  # JPEG; ILSVRC has a PNG under the name of a JPEG


@dataclass(frozen=True, eq=False)
class ImageFiles:
    """Image files of one split with their classes, in a fixed order.

    Args:
        folder: where the files lie.
        files: paths relative to ``folder``, with forward slashes.
        targets: class indices, ``int64`` (samples,).

    Raises:
        ValueError: the lengths differ, the split is empty, or the targets are not one-dimensional int64.
    """

    folder: Path
    files: tuple[str, ...]
    targets: np.ndarray

    def __post_init__(self) -> None:
        if self.targets.ndim != 1 or self.targets.dtype != np.int64:
            raise ValueError(
                f"`targets` must be a one-dimensional int64 array, got {self.targets.dtype} {self.targets.shape}."
            )
        if len(self.files) != len(self.targets) or not self.files:
            raise ValueError(
                f"`files` must have one entry per target, at least one, got {len(self.files)} and {len(self.targets)}."
            )

    def __len__(self) -> int:
        return len(self.files)


@dataclass(frozen=True, eq=False)
class ImageFileSet:
    """A named collection of image files.

    Args:
        name: the label that result rows carry.
        train: training files.
        test: the files that papers report on: the official validation split of iNaturalist and ILSVRC, the test list of
            ImageNet-LT.
        validation: files for model selection, or None where the official split has no third part.
        class_names: one name per class, in the order of the targets.
        channel_mean: mean per channel on the scale 0 … 1.
        channel_std: standard deviation per channel on the scale 0 … 1.

    Raises:
        ValueError: a target lies outside the classes.
    """

    name: str
    train: ImageFiles
    test: ImageFiles
    validation: ImageFiles | None
    class_names: tuple[str, ...]
    channel_mean: tuple[float, float, float]
    channel_std: tuple[float, float, float]

    def __post_init__(self) -> None:
        for part, files in self.parts().items():
            outside = files.targets[(files.targets < 0) | (files.targets >= self.num_classes)]
            if len(outside):
                raise ValueError(f"`{part}.targets` must lie in 0 … {self.num_classes - 1}, got {int(outside[0])}.")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """Training files per class, int64 ``(classes,)``."""
        return np.bincount(self.train.targets, minlength=self.num_classes)

    def parts(self) -> dict[str, ImageFiles]:
        """The splits by name, those that there are."""
        named = {"train": self.train, "test": self.test, "validation": self.validation}
        return {part: files for part, files in named.items() if files is not None}

    def hash(self) -> str:
        """SHA-256 over names and classes of all files, in order; what is in the files is too much to read."""
        digest = hashlib.sha256(str(self.num_classes).encode())
        for part, files in self.parts().items():
            digest.update(f"\n{part}\n".encode())
            digest.update("\n".join(files.files).encode())
            digest.update(files.targets.astype("<i8").tobytes())
        return digest.hexdigest()


def image_file_names() -> tuple[str, ...]:
    """Return the names that `load_image_files` knows.

    Example:
        >>> image_file_names()[0]
        'inaturalist'
    """
    return tuple(_DESCRIPTIONS)


def describe_image_files(name: str) -> str:
    """Say in one line what a collection is.

    Raises:
        ValueError: ``name`` is unknown.
    """
    return _DESCRIPTIONS[check_known(name, "name", _DESCRIPTIONS)]


def load_image_files(name: str, root: str | os.PathLike[str] | None = None) -> ImageFileSet:
    """List the images of a collection and make sure that every listed file is there; none is opened, nothing fetched.

    Layouts, below the root:

    - ``inaturalist/2018/<group>/<class>/*.jpg`` and ``inaturalist/2017/…``, as torchvision's ``INaturalist`` unpacks
      them (``train_val2018/``, ``train_val_images/``, the names in the archives, are read too), with the competition's
      ``train2018.json`` and ``val2018.json`` in ``inaturalist/``, which say what is trained and tested on. Names of
      species come from ``categories.json`` (2018, where the others hide them), if it is there.
    - ``inaturalist/2021_train/<class>/*.jpg`` and ``inaturalist/2021_valid/…``; the folders are the split.
    - ``imagenet/train/<synset>/*`` and ``imagenet/val/<synset>/*``; for ``imagenet_lt`` also its three list files
      ``imagenet/ImageNet_LT_{train,val,test}.txt``, one line ``path label`` per image.
    - ``made_up/``, as ``inaturalist/`` of 2018; `write_made_up_images` writes it.

    Args:
        name: a collection, see `image_file_names`; ``inaturalist`` is the version of 2018.
        root: folder of the data sets; None means the variable ``LT_DATA``, else ``data``.

    Returns:
        The collection.

    Raises:
        MissingDataError: folders or list files are not there (a ``FileNotFoundError``); the message says what is
            missing, where it was looked for, the two ways to get it and which embedded set works without it.
        ValueError: ``name`` is unknown, a list names an image that is not there or a class out of range, or a list
            cannot be read; the message names file and image.

    References:
        G. Van Horn et al., "The iNaturalist species classification and detection dataset", CVPR 2018; Z. Liu et al.,
        "Large-scale long-tailed recognition in an open world", CVPR 2019 (ImageNet-LT).
    """
    check_known(name, "name", _DESCRIPTIONS)
    place = data_root(root)
    missing = _missing(name, place)
    if missing:
        raise missing_data(
            name, what=missing, where=[place], how=_how_to_get(name), stand_in="digits", downloadable=False
        )
    if name == "imagenet":
        return _imagenet(place / IMAGENET_FOLDER)
    if name == "imagenet_lt":
        return _imagenet_lt(place / IMAGENET_FOLDER)
    if _version(name) == "2021":
        return _inaturalist_2021(name, place / INATURALIST_FOLDER)
    return _inaturalist(name, place / _folder_of(name))


def archive_folder(version: str) -> str:
    """Name of the image folder in the archive of iNaturalist 2017 or 2018, which its annotations hold.

    Example:
        >>> archive_folder("2018")
        'train_val2018'
    """
    return _IMAGES[version][1]


def are_on_disk(name: str, root: Path) -> bool:
    """Whether folders and lists of a collection are there; they are not read."""
    return not _missing(name, root)


def strange_files(collection: ImageFileSet) -> list[str]:
    """Name the files that do not start as a JPEG or PNG image does.

    Decoding everything would take hours; an image that is damaged further on is named when training reaches it.

    Args:
        collection: what `load_image_files` listed.

    Returns:
        One sentence per file.
    """
    found = []
    for files in collection.parts().values():
        for file in files.files:
            with open(files.folder / file, "rb") as stream:
                start = stream.read(8)
            if not start.startswith(_SIGNATURES):
                found.append(f"{files.folder / file} is not an image: it starts with {start!r}.")
    return found


def _version(name: str) -> str:
    return name.partition(":")[2] or "2018"


def _folder_of(name: str) -> str:
    return MADE_UP if name == MADE_UP else INATURALIST_FOLDER


def _how_to_get(name: str) -> str:
    if name.startswith("imagenet"):
        lists = f", and the list files of ImageNet-LT into {IMAGENET_FOLDER}/" if name == "imagenet_lt" else ""
        return f"unpack ILSVRC 2012 into {IMAGENET_FOLDER}/train/<synset> and {IMAGENET_FOLDER}/val/<synset>{lists}"
    if name == MADE_UP:
        return "`lt-lib data get made_up` writes it, as does lt_lib.data.write_made_up_images(root)"
    version = _version(name)
    if version == "2021":
        return f"let torchvision.datasets.INaturalist fetch 2021_train and 2021_valid into {INATURALIST_FOLDER}/"
    return (
        f"let torchvision.datasets.INaturalist fetch {version} into {INATURALIST_FOLDER}/ and put the competition's "
        f"train{version}.json and val{version}.json beside it"
    )


def _missing(name: str, root: Path) -> list[str]:
    if name.startswith("imagenet"):
        folders = [f"{IMAGENET_FOLDER}/train", f"{IMAGENET_FOLDER}/val"]
        lists = [f"{IMAGENET_FOLDER}/{_lt_list(part)}" for part in ("train", "val", "test")]
        lists = lists if name == "imagenet_lt" else []
    elif _version(name) == "2021":
        folders, lists = [f"{INATURALIST_FOLDER}/2021_train", f"{INATURALIST_FOLDER}/2021_valid"], []
    else:
        version, folder = _version(name), _folder_of(name)
        folders = [f"{folder}/{_images_folder(root / folder, version)}"]
        lists = [f"{folder}/{part}{version}.json" for part in ("train", "val")]
    missing = [f"{folder}/" for folder in folders if not (root / folder).is_dir()]
    return missing + [file for file in lists if not (root / file).is_file()]


def _images_folder(folder: Path, version: str) -> str:
    ours, archive = _IMAGES[version]
    return archive if (folder / archive).is_dir() and not (folder / ours).is_dir() else ours


def _inaturalist(name: str, folder: Path) -> ImageFileSet:
    version = _version(name)
    images = _images_folder(folder, version)
    train_file, val_file = (folder / f"{part}{version}.json" for part in ("train", "val"))
    annotated = _read_json(train_file)
    class_names = _class_names(annotated, train_file, folder / "categories.json", version)
    train, test = (
        _annotated_files(content, file, folder, images, len(class_names))
        for content, file in ((annotated, train_file), (_read_json(val_file), val_file))
    )
    return ImageFileSet(name, train, test, None, class_names, *_STATISTICS[INATURALIST_FOLDER])


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"List {file} must be JSON, got {error}.") from error


def _class_names(annotated: Any, file: Path, categories_file: Path, version: str) -> tuple[str, ...]:
    """Names by class index, from the annotations or, where those say "0", "1" …, from the file of categories."""
    named = version == "2018" and categories_file.is_file()
    source = categories_file if named else file
    try:
        categories = _read_json(source) if named else annotated["categories"]
        names = {int(category["id"]): str(category["name"]) for category in categories}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"List {source} must hold categories with id and name, got {error!r}.") from error
    if sorted(names) != list(range(len(names))) or not names:
        raise ValueError(f"List {source} must number its categories from 0 without a gap, got {sorted(names)[:5]} ….")
    return tuple(names[index] for index in range(len(names)))


def _annotated_files(content: Any, file: Path, folder: Path, images: str, num_classes: int) -> ImageFiles:
    try:
        classes = {entry["image_id"]: entry["category_id"] for entry in content["annotations"]}
        # The first part is the archive's name for the folder, which may have been renamed.
        listed = [
            (f"{images}/{entry['file_name'].partition('/')[2]}", classes[entry["id"]]) for entry in content["images"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"List {file} must hold images with id and file_name, and one annotation with category_id for each, "
            f"got {error!r}."
        ) from error
    return _listed_files(listed, file, folder, num_classes)


def _inaturalist_2021(name: str, folder: Path) -> ImageFileSet:
    class_names = _sub_folders(folder / "2021_train")
    for index, label in enumerate(class_names):
        if label.partition("_")[0] != f"{index:05d}":
            raise ValueError(f"Class folder {folder / '2021_train' / label} must start with {index:05d}_, got {label}.")
    train, test = (_tree_files(folder, part, class_names) for part in ("2021_train", "2021_valid"))
    names = tuple(label.partition("_")[2] for label in class_names)
    return ImageFileSet(name, train, test, None, names, *_STATISTICS[INATURALIST_FOLDER])


def _imagenet(folder: Path) -> ImageFileSet:
    class_names = _sub_folders(folder / "train")
    train, test = (_tree_files(folder, part, class_names) for part in ("train", "val"))
    return ImageFileSet("imagenet", train, test, None, class_names, *_STATISTICS[IMAGENET_FOLDER])


def _imagenet_lt(folder: Path) -> ImageFileSet:
    class_names = _sub_folders(folder / "train")
    parts = {part: _lt_files(folder, folder / _lt_list(part), class_names) for part in ("train", "val", "test")}
    statistics = _STATISTICS[IMAGENET_FOLDER]
    return ImageFileSet("imagenet_lt", parts["train"], parts["test"], parts["val"], class_names, *statistics)


def _lt_list(part: str) -> str:
    return f"ImageNet_LT_{part}.txt"


def _lt_files(folder: Path, file: Path, class_names: tuple[str, ...]) -> ImageFiles:
    listed = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1):
        path, _, label = line.rpartition(" ")
        if not path or not label.isdecimal():
            raise ValueError(f"List {file} must have lines `path label`, got {line!r} in line {number}.")
        listed.append((path, int(label)))
    files = _listed_files(listed, file, folder, len(class_names))
    for path, target in listed:
        # The labels count the synsets in alphabetical order; a tree with other classes would train without complaint.
        if PurePosixPath(path).parent.name != class_names[target]:
            raise ValueError(
                f"List {file} must give {path} the class of its folder, got {target}, which is {class_names[target]}."
            )
    return files


def _listed_files(listed: list[tuple[str, int]], source: Path, folder: Path, num_classes: int) -> ImageFiles:
    if not listed:
        raise ValueError(f"List {source} must name at least one image, got none.")
    for path, target in listed:
        if isinstance(target, bool) or not isinstance(target, int) or not 0 <= target < num_classes:
            raise ValueError(f"List {source} must have classes in 0 … {num_classes - 1}, got {target!r} for {path}.")
    files = tuple(path for path, _ in listed)
    absent = _absent(folder, files)
    if absent:
        raise ValueError(
            f"List {source} must name images that are there, got {len(absent)} that are not, "
            f"first {folder / absent[0]}."
        )
    return ImageFiles(folder, files, np.array([target for _, target in listed], dtype=np.int64))


def _absent(folder: Path, files: Iterable[str]) -> list[str]:
    """Files that do not exist, found by listing each folder once: half a million single looks would take minutes."""
    present: dict[str, frozenset[str]] = {}
    absent = []
    for file in files:
        parent, _, name = file.rpartition("/")
        if parent not in present:
            place = folder / parent
            present[parent] = frozenset(os.listdir(place)) if place.is_dir() else frozenset()
        if name not in present[parent]:
            absent.append(file)
    return absent


def _tree_files(folder: Path, part: str, class_names: tuple[str, ...]) -> ImageFiles:
    found = _sub_folders(folder / part)
    if found != class_names:
        strange = sorted(set(found) ^ set(class_names))
        raise ValueError(
            f"Folder {folder / part} must have the classes of the training images, got {strange[:4]} apart."
        )
    files: list[str] = []
    sizes = []
    for label in class_names:
        names = sorted(name for name in os.listdir(folder / part / label) if not name.startswith("."))
        if not names:
            raise ValueError(f"Class folder {folder / part / label} must hold at least one image, got none.")
        files += [f"{part}/{label}/{name}" for name in names]
        sizes.append(len(names))
    return ImageFiles(folder, tuple(files), np.repeat(np.arange(len(sizes), dtype=np.int64), sizes))


def _sub_folders(folder: Path) -> tuple[str, ...]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    if not names:
        raise ValueError(f"Folder {folder} must hold at least one class folder, got none.")
    return tuple(names)
