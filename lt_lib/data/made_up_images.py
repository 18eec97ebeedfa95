"""Small made-up pictures in the format of iNaturalist: what a run on image files needs where there are none."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lt_lib.data.image_files import MADE_UP, archive_folder

if TYPE_CHECKING:
    from PIL.Image import Image

GROUPS = ("Insecta", "Plantae")
SIZE = (40, 30)  # width and height in pixels
TRAIN_COUNTS = (32, 16, 8, 4)
TEST_PER_CLASS = 10


def write_made_up_images(root: str | os.PathLike[str]) -> Path:
    """Write the collection ``made_up``: 60 training and 40 test pictures in 4 classes, with an imbalance ratio of 8.

    Files and contents are the same on every call, so an earlier tree in the same place is written over by itself.

    Args:
        root: folder of the data sets; the tree is the folder ``made_up`` in it, where ``load_image_files`` looks.

    Returns:
        ``root`` as a path.
    """
    write_inaturalist(Path(root) / MADE_UP, train=TRAIN_COUNTS, test=[TEST_PER_CLASS] * len(TRAIN_COUNTS))
    return Path(root)


def write_inaturalist(
    folder: Path,
    *,
    train: Sequence[int],
    test: Sequence[int],
    version: str = "2018",
    images: str | None = None,
) -> None:
    """Write made-up pictures with annotations as the competitions of 2017 and 2018 have them.

    Classes alternate between two groups, and as in the competition's files the numbers of images and annotations are
    not positions.

    Args:
        folder: where the image folder and the two annotation files go.
        train: training pictures per class.
        test: pictures per class of the validation split, on which papers report.
        version: ``"2017"`` or ``"2018"``: names of the files, and of the classes, which 2018 hides behind numbers.
        images: name of the image folder; ``version`` if not given.
    """
    names = [str(label) if version == "2018" else f"Genus species{label}" for label in range(len(train))]
    categories = [{"id": label, "name": name, "supercategory": GROUPS[label % 2]} for label, name in enumerate(names)]
    seed = 0
    for part, sizes in (("train", train), ("val", test)):
        listed, annotations = [], []
        for label in np.repeat(np.arange(len(names)), sizes).tolist():
            file = f"{GROUPS[label % 2]}/{names[label]}/{seed:032x}.jpg"
            save_picture(folder / (images or version) / file, label, seed)
            width, height = SIZE
            listed.append(
                {
                    "id": 500 + seed,
                    "file_name": f"{archive_folder(version)}/{file}",
                    "width": width,
                    "height": height,
                }
            )
            annotations.append({"id": 900 - seed, "image_id": 500 + seed, "category_id": label})
            seed += 1
        content = {"images": listed, "annotations": annotations[::-1], "categories": categories}
        (folder / f"{part}{version}.json").write_text(json.dumps(content), encoding="utf-8")


def save_picture(path: Path, label: int, seed: int) -> None:
    """Write a made-up picture as a JPEG file, whatever the ending of its name; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(label, seed).save(path, format="JPEG", quality=90)


def picture(label: int, seed: int) -> Image:
    """Draw one picture: noise of its own around a colour that belongs to its class.

    Args:
        label: class, which decides the colour.
        seed: of the noise.

    Returns:
        An RGB image, wider than high.

    Example:
        >>> picture(0, 0).size
        (40, 30)
    """
    from PIL import Image

    colour = np.random.default_rng(1000 + label).integers(40, 216, 3)
    noise = np.random.default_rng(seed).integers(-30, 31, (SIZE[1], SIZE[0], 3))
    return Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))
