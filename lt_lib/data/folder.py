"""Image folders `train/<class>/*` + `test/<class>/*`, decoded once into a cached uint8 array."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lt_lib._paths import source_tree, whole_file, write_whole
from lt_lib.data._decoding import as_rgb, opened_image
from lt_lib.data.base import Dataset, Split, array_hash, missing_data

PREFIX = "folder:"
SPLITS = ("train", "test")
CACHE_FOLDER = ".lt_cache"
MANIFEST = "manifest.json"


@dataclass(frozen=True)
class ImageTree:
    """The files of an image folder, in reading order, and a digest of what they look like from outside.

    Args:
        class_names: class folders in alphabetical order; the position is the class index.
        files: training files, then test files, each class by class and sorted by name.
        counts: files per split and class, in the order of ``SPLITS`` and ``class_names``.
        digest: SHA-256 over every relative path, size and modification time.
    """

    class_names: tuple[str, ...]
    files: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    digest: str


def find_folder(path: str, root: Path) -> Path:
    """Resolve the PATH of ``folder:PATH``: as written, else from the top of the source tree, else below ``root``.

    Args:
        path: path as the user wrote it.
        root: folder of the data sets.

    Returns:
        The folder that holds ``train`` and ``test``.

    Raises:
        MissingDataError: no place has both sub-folders.
    """
    candidates = list(dict.fromkeys((Path(path), (source_tree() or Path()) / path, root / path)))
    for candidate in candidates:
        if all((candidate / split).is_dir() for split in SPLITS):
            return candidate
    raise missing_data(
        f"{PREFIX}{path}",
        what=[f"{split}/<class>/*" for split in SPLITS],
        where=candidates,
        how="put one image folder per class there",
        stand_in="digits",
        downloadable=False,
    )


def scan(folder: Path) -> ImageTree:
    """List an image folder without opening a file. Names that start with a dot are ignored.

    Args:
        folder: folder with ``train`` and ``test``.

    Returns:
        The tree.

    Raises:
        ValueError: the two splits have different classes or hold files beside them, or a class folder is empty or
            holds another folder.
    """
    names = {split: visible(folder / split) for split in SPLITS}
    for split, found in names.items():
        for name in found:
            if not (folder / split / name).is_dir():
                raise ValueError(f"Folder {folder / split} must hold only class folders, got {name}.")
    if names["train"] != names["test"] or not names["train"]:
        train, test = set(names["train"]), set(names["test"])
        raise ValueError(
            f"Folder {folder} must have the same classes in train and test, at least one, "
            f"got {sorted(train - test)} only in train and {sorted(test - train)} only in test."
        )
    files: list[str] = []
    counts = []
    digest = hashlib.sha256()
    for split in SPLITS:
        sizes = []
        for name in names[split]:
            place = folder / split / name
            members = visible(place)
            if not members:
                raise ValueError(f"Class folder {place} must hold at least one image, got none.")
            for member in members:
                status = os.stat(f"{place}/{member}")
                if not stat.S_ISREG(status.st_mode):
                    raise ValueError(f"Class folder {place} must hold only images, got {member}.")
                digest.update(f"{split}/{name}/{member}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
                files.append(f"{place}/{member}")
            sizes.append(len(members))
        counts.append(tuple(sizes))
    return ImageTree(tuple(names["train"]), tuple(files), tuple(counts), digest.hexdigest())


def load_folder(folder: Path) -> Dataset:
    """Load an image folder through its cache; decode it if there is no cache or the tree has changed.

    The cache lies in ``.lt_cache`` inside the folder: one array with all images and a manifest with the digest of
    the tree and the checksum of the array. Both are written under a temporary name and renamed, the manifest last.

    Args:
        folder: folder with ``train`` and ``test``.

    Returns:
        Data set named after the folder, with RGB images ``uint8`` (samples, height, width, 3); grey, palette and
        transparent images are converted to RGB, 16-bit ones by their upper byte.

    Raises:
        ValueError: an image cannot be decoded, has 32 bits per pixel or another size than the first, the tree is
            malformed, or the cache is damaged; the message names the file.
        OSError: the cache cannot be written.
    """
    tree = scan(folder)
    images = cached_images(folder, tree)
    num_train = sum(tree.counts[0])
    classes = np.arange(len(tree.class_names), dtype=np.int64)
    train, test = (np.repeat(classes, sizes) for sizes in tree.counts)
    return Dataset(
        name=folder.resolve().name,
        train=Split(images[:num_train], train),
        test=Split(images[num_train:], test),
        num_classes=len(tree.class_names),
        class_names=tree.class_names,
    )


def cached_images(folder: Path, tree: ImageTree) -> np.ndarray:
    """The images of a tree from the cache in its folder; decoded, and the cache written, if there is none of it.

    Args:
        folder: where `CACHE_FOLDER` lies.
        tree: the files.

    Returns:
        ``uint8`` (files, height, width, 3).

    Raises:
        ValueError: as ``load_folder``.
        OSError: the cache cannot be written.
    """
    images = _read_cache(folder / CACHE_FOLDER, tree)
    if images is None:
        images = decode(tree.files)
        _write_cache(folder / CACHE_FOLDER, tree, images)
    return images


def decode(files: tuple[str, ...]) -> np.ndarray:
    """Decode images of one size, one after the other: with small images threads only queue for the interpreter.

    Args:
        files: image files, at least one.

    Returns:
        ``uint8`` (files, height, width, 3).

    Raises:
        ValueError: a file cannot be decoded, has 32 bits per pixel, or its size differs from the first one's; the
            message names it.
    """
    first = _decode_one(files[0])
    images = np.empty((len(files), *first.shape), dtype=np.uint8)
    for position, file in enumerate(files):
        image = _decode_one(file)
        if image.shape != first.shape:
            raise ValueError(
                f"Image {file} must have the size of {files[0]} "
                f"({first.shape[1]}×{first.shape[0]}), got {image.shape[1]}×{image.shape[0]}."
            )
        images[position] = image
    return images


def _decode_one(file: str) -> np.ndarray:
    with opened_image(file) as image:
        return np.asarray(as_rgb(image))


def visible(folder: Path) -> list[str]:
    """Names in a folder, sorted, without those that start with a dot."""
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def _read_cache(cache: Path, tree: ImageTree) -> np.ndarray | None:
    # None: no cache, or one of another state of the tree. Anything else that does not fit is damage, and is said.
    manifest_file = cache / MANIFEST
    if not manifest_file.is_file():
        return None
    try:
        manifest = json.loads(manifest_file.read_text())
        tree_digest, array_file, expected = manifest["tree"], cache / manifest["array"], manifest["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(manifest_file, f"its manifest cannot be read ({error})") from error
    if tree_digest != tree.digest:
        return None
    try:
        images: np.ndarray = np.load(array_file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(array_file, f"it cannot be read ({error})") from error
    found = array_hash(images)
    if found != expected:
        raise _damaged(array_file, f"its checksum is {found[:12]}…, expected {str(expected)[:12]}…")
    return images


def _damaged(file: Path, reason: str) -> ValueError:
    return ValueError(f"Cache file {file} is damaged: {reason}. Delete the folder {file.parent} to decode again.")


def _write_cache(cache: Path, tree: ImageTree, images: np.ndarray) -> None:
    cache.mkdir(exist_ok=True)
    array_name = f"images-{tree.digest[:16]}.npy"
    manifest: dict[str, Any] = {"tree": tree.digest, "array": array_name, "sha256": array_hash(images)}
    with whole_file(cache / array_name) as stream:
        np.save(stream, images, allow_pickle=False)
    write_whole(cache / MANIFEST, json.dumps(manifest, indent=1))
    for old in cache.glob("images-*.npy"):
        if old.name != array_name:
            old.unlink()
