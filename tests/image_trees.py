"""Small trees in the formats of iNaturalist, ILSVRC and ImageNet-LT, with images whose colour tells the class."""

import json

import numpy as np
from PIL import Image

GROUPS = ("Insecta", "Plantae")
SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")


def picture(target, seed, size=(40, 30)):
    """A noisy image, wider than high, whose mean colour belongs to the class."""
    colour = np.random.default_rng(1000 + target).integers(40, 216, 3)
    noise = np.random.default_rng(seed).integers(-30, 31, (size[1], size[0], 3))
    return Image.fromarray((colour + noise).clip(0, 255).astype(np.uint8))


def save(path, target, seed, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(target, seed, size).save(path, format="JPEG", quality=90)


def _each(size, classes):
    """One size for every class, unless there is one for each already."""
    return [size] * len(classes) if isinstance(size, int) else size


def write_inaturalist(root, version="2018", train=(6, 4, 2), val=2, images=None):
    """Images and annotations as the competition has them; classes alternate between two groups."""
    folder = root / "inaturalist"
    archive = {"2017": "train_val_images", "2018": "train_val2018"}[version]
    place = folder / (images or version)
    seed = 0
    names = [str(label) if version == "2018" else f"Genus species{label}" for label in range(len(train))]
    categories = [{"id": label, "name": name, "supercategory": GROUPS[label % 2]} for label, name in enumerate(names)]
    for part, sizes in (("train", train), ("val", _each(val, train))):
        listed, annotations = [], []
        for label, size in enumerate(sizes):
            for _ in range(size):
                file = f"{GROUPS[label % 2]}/{names[label]}/{seed:032x}.jpg"
                save(place / file, label, seed)
                # Numbers of images and of annotations are not positions.
                listed.append({"id": 500 + seed, "file_name": f"{archive}/{file}", "width": 40, "height": 30})
                annotations.append({"id": 900 - seed, "image_id": 500 + seed, "category_id": label})
                seed += 1
        content = {"images": listed, "annotations": annotations[::-1], "categories": categories}
        (folder / f"{part}{version}.json").write_text(json.dumps(content))
    return folder


def write_inaturalist_2021(root, train=(3, 2), val=1):
    folder = root / "inaturalist"
    for part, sizes in (("2021_train", train), ("2021_valid", _each(val, train))):
        for label, size in enumerate(sizes):
            name = f"{label:05d}_Animalia_Arthropoda_Insecta_Diptera_Family_Genus_species{label}"
            for position in range(size):
                save(folder / part / name / f"{part}-{position}.jpg", label, 10 * label + position)
    return folder


def write_imagenet(root, train=(5, 3, 2), val=2):
    folder = root / "imagenet"
    for label, size in enumerate(train):
        synset = SYNSETS[label]
        for position in range(size):
            save(folder / "train" / synset / f"{synset}_{position}.JPEG", label, 10 * label + position)
        for position in range(val):
            name = f"ILSVRC2012_val_{10 * label + position:08d}.JPEG"
            save(folder / "val" / synset / name, label, 100 + 10 * label + position)
    return folder


def write_imagenet_lt(root, train=(4, 3, 2), val=2):
    """The validation list is taken from the training images: here the last one of every class."""
    folder = write_imagenet(root, [size + 1 for size in train], val)
    lists = {"train": [], "val": [], "test": []}
    for label, size in enumerate(train):
        synset = SYNSETS[label]
        lists["train"] += [f"train/{synset}/{synset}_{position}.JPEG {label}" for position in range(size)]
        lists["val"].append(f"train/{synset}/{synset}_{size}.JPEG {label}")
        lists["test"] += [
            f"val/{synset}/ILSVRC2012_val_{10 * label + position:08d}.JPEG {label}" for position in range(val)
        ]
    for part, lines in lists.items():
        (folder / f"ImageNet_LT_{part}.txt").write_text("\n".join(lines) + "\n")
    return folder
