"""Small trees in the formats of iNaturalist, ILSVRC and ImageNet-LT, with images whose colour tells the class."""

from lt_lib.data import made_up_images
from lt_lib.data.made_up_images import picture, save_picture

__all__ = ["picture", "write_imagenet", "write_imagenet_lt", "write_inaturalist", "write_inaturalist_2021"]
SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")


def _each(size, classes):
    """One size for every class, unless there is one for each already."""
    return [size] * len(classes) if isinstance(size, int) else size


def write_inaturalist(root, version="2018", train=(6, 4, 2), val=2, images=None):
    folder = root / "inaturalist"
    made_up_images.write_inaturalist(folder, train=train, test=_each(val, train), version=version, images=images)
    return folder


def write_inaturalist_2021(root, train=(3, 2), val=1):
    folder = root / "inaturalist"
    for part, sizes in (("2021_train", train), ("2021_valid", _each(val, train))):
        for label, size in enumerate(sizes):
            name = f"{label:05d}_Animalia_Arthropoda_Insecta_Diptera_Family_Genus_species{label}"
            for position in range(size):
                save_picture(folder / part / name / f"{part}-{position}.jpg", label, 10 * label + position)
    return folder


def write_imagenet(root, train=(5, 3, 2), val=2):
    folder = root / "imagenet"
    for label, size in enumerate(train):
        synset = SYNSETS[label]
        for position in range(size):
            save_picture(folder / "train" / synset / f"{synset}_{position}.JPEG", label, 10 * label + position)
        for position in range(val):
            name = f"ILSVRC2012_val_{10 * label + position:08d}.JPEG"
            save_picture(folder / "val" / synset / name, label, 100 + 10 * label + position)
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
