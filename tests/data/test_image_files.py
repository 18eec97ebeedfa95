import json
import os
import shutil

import image_trees
import numpy as np
import pytest

from lt_lib.data import MissingDataError, check, describe, image_file_names, load, load_image_files, overview
from lt_lib.data.image_files import ImageFiles, ImageFileSet


def names_of(files):
    return [os.path.basename(file) for file in files.files]


def change_json(file, change):
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


@pytest.mark.parametrize("version", ["2017", "2018"])
@pytest.mark.parametrize("archive", [False, True])
def test_inaturalist_is_split_by_the_annotations(tmp_path, version, archive):
    images = {"2017": "train_val_images", "2018": "train_val2018"}[version] if archive else version
    image_trees.write_inaturalist(tmp_path, version, images=images)
    name = "inaturalist" if version == "2018" else "inaturalist:2017"
    found = load_image_files(name, tmp_path)
    assert found.name == name
    assert found.validation is None
    assert found.class_counts.tolist() == [6, 4, 2]
    assert np.bincount(found.test.targets).tolist() == [2, 2, 2]
    assert names_of(found.train) == [f"{seed:032x}.jpg" for seed in range(12)]
    assert names_of(found.test) == [f"{seed:032x}.jpg" for seed in range(12, 18)]
    assert found.train.files[6].startswith(f"{images}/Plantae/")
    assert all((found.train.folder / file).is_file() for file in found.train.files)
    assert found.class_names == (("0", "1", "2") if version == "2018" else tuple(f"Genus species{i}" for i in range(3)))
    assert check(name, tmp_path).details == ("12 training and 6 test images in 3 classes",)


def test_torchvision_reads_the_same_tree_and_agrees(tmp_path):
    from torchvision.datasets import INaturalist

    folder = image_trees.write_inaturalist(tmp_path)
    theirs = INaturalist(str(folder), version="2018")
    known = {file: target for target, file in theirs.index}
    ours = load_image_files("inaturalist", tmp_path)
    both = [*zip(names_of(ours.train), ours.train.targets, strict=True)]
    both += zip(names_of(ours.test), ours.test.targets, strict=True)
    assert {name: int(target) for name, target in both} == known


def test_hidden_names_come_from_the_file_of_categories(tmp_path):
    folder = image_trees.write_inaturalist(tmp_path)
    categories = [{"id": label, "name": f"Genus species{label}", "kingdom": "Plantae"} for label in (2, 0, 1)]
    (folder / "categories.json").write_text(json.dumps(categories))
    assert load_image_files("inaturalist", tmp_path).class_names == tuple(f"Genus species{i}" for i in range(3))
    categories[0]["id"] = 7
    (folder / "categories.json").write_text(json.dumps(categories))
    with pytest.raises(
        ValueError, match=r"categories.json must number its categories from 0 without a gap, got \[0, 1, 7"
    ):
        load_image_files("inaturalist", tmp_path)


def test_inaturalist_2021_is_split_by_folders(tmp_path):
    from torchvision.datasets import INaturalist

    folder = image_trees.write_inaturalist_2021(tmp_path)
    found = load_image_files("inaturalist:2021", tmp_path)
    assert found.class_counts.tolist() == [3, 2]
    assert found.class_names[1] == "Animalia_Arthropoda_Insecta_Diptera_Family_Genus_species1"
    theirs = INaturalist(str(folder), version="2021_valid")
    assert sorted(zip(names_of(found.test), found.test.targets, strict=True)) == sorted(
        (file, target) for target, file in theirs.index
    )
    wrong = folder / "2021_train" / "00009_Plantae_x_x_x_x_x_x"
    shutil.move(folder / "2021_train" / "00001_Animalia_Arthropoda_Insecta_Diptera_Family_Genus_species1", wrong)
    with pytest.raises(ValueError, match="must start with 00001_, got 00009_Plantae"):
        load_image_files("inaturalist:2021", tmp_path)


def test_imagenet_is_its_tree(tmp_path):
    folder = image_trees.write_imagenet(tmp_path)
    found = load_image_files("imagenet", tmp_path)
    assert found.class_names == image_trees.SYNSETS[:3]
    assert found.class_counts.tolist() == [5, 3, 2]
    assert found.test.targets.tolist() == [0, 0, 1, 1, 2, 2]
    assert found.train.files[5] == "train/n01443537/n01443537_0.JPEG"
    shutil.rmtree(folder / "val" / "n01484850")
    with pytest.raises(ValueError, match=r"must have the classes of the training images, got \['n01484850'\]"):
        load_image_files("imagenet", tmp_path)
    (folder / "val" / "n01484850").mkdir()
    with pytest.raises(ValueError, match="val/n01484850 must hold at least one image, got none"):
        load_image_files("imagenet", tmp_path)


def test_imagenet_lt_is_its_lists(tmp_path):
    image_trees.write_imagenet_lt(tmp_path)
    found = load_image_files("imagenet_lt", tmp_path)
    assert found.class_counts.tolist() == [4, 3, 2]
    assert found.test.files[0] == "val/n01440764/ILSVRC2012_val_00000000.JPEG"
    assert found.validation.files == tuple(
        f"train/{synset}/{synset}_{size}.JPEG" for synset, size in zip(image_trees.SYNSETS, (4, 3, 2), strict=False)
    )
    assert not set(found.train.files) & set(found.validation.files)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace("_1.JPEG 0", "_1.JPEG 3"),
            r"classes in 0 … 2, got 3 for train/n01440764/n01440764_1",
        ),
        (lambda text: text.replace("_1.JPEG 0", "_1.JPEG 1"), "the class of its folder, got 1, which is n01443537"),
        (lambda text: text.replace("_1.JPEG 0", "_1.JPEG"), "lines `path label`, got 'train/.*_1.JPEG' in line 2"),
        (lambda text: text.replace("n01440764_1", "n01440764_77"), "got 1 that are not, first .*n01440764_77.JPEG"),
        (lambda text: text.replace("train/n01440764", "train/n99"), r"got 4 that are not, first \S+/train/n99/"),
        (lambda _text: "", "name at least one image, got none"),
    ],
)
def test_a_wrong_list_of_imagenet_lt_is_named(tmp_path, change, message):
    folder = image_trees.write_imagenet_lt(tmp_path)
    file = folder / "ImageNet_LT_train.txt"
    file.write_text(change(file.read_text()))
    with pytest.raises(ValueError, match=rf"List \S+ImageNet_LT_train.txt must .*{message}"):
        load_image_files("imagenet_lt", tmp_path)
    report = check("imagenet_lt", tmp_path)
    assert report.status == "damaged"
    assert "ImageNet_LT_train.txt" in report.details[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content["annotations"][0].update(category_id=3), "classes in 0 … 2, got 3 for 2018/"),
        (lambda content: content["annotations"][0].update(category_id=True), "classes in 0 … 2, got True"),
        (
            lambda content: content["annotations"].pop(),
            r"one annotation with category_id for each, got KeyError\(500\)",
        ),
        (lambda content: content["images"][0].pop("file_name"), r"got KeyError\('file_name'\)"),
        (lambda content: content.pop("images"), "hold images with id and file_name"),
        (lambda content: content["categories"][0].pop("name"), "hold categories with id and name"),
        (lambda content: content["categories"].clear(), "number its categories from 0"),
    ],
)
def test_a_wrong_annotation_of_inaturalist_is_named(tmp_path, change, message):
    folder = image_trees.write_inaturalist(tmp_path)
    change_json(folder / "train2018.json", change)
    with pytest.raises(ValueError, match=rf"List \S+train2018.json must .*{message}"):
        load_image_files("inaturalist", tmp_path)


def test_an_image_that_is_not_there_is_named(tmp_path):
    folder = image_trees.write_inaturalist(tmp_path)
    (folder / "2018" / "Insecta" / "0" / f"{3:032x}.jpg").unlink()
    with pytest.raises(ValueError, match=rf"train2018.json must name images that are there, got 1 .*{3:032x}.jpg"):
        load_image_files("inaturalist", tmp_path)


def test_a_list_that_is_no_json_is_named(tmp_path):
    folder = image_trees.write_inaturalist(tmp_path)
    (folder / "val2018.json").write_text('{"images": [')
    with pytest.raises(ValueError, match=r"List \S+val2018.json must be JSON, got"):
        load_image_files("inaturalist", tmp_path)


@pytest.mark.parametrize(
    ("name", "first", "way"),
    [
        ("inaturalist", "inaturalist/2018/, inaturalist/train2018.json", "train2018.json and val2018.json beside it"),
        ("inaturalist:2017", "inaturalist/2017/, inaturalist/train2017.json", "INaturalist fetch 2017 into"),
        ("inaturalist:2021", "inaturalist/2021_train/, inaturalist/2021_valid/", "2021_train and 2021_valid into"),
        ("imagenet", "imagenet/train/, imagenet/val/", "unpack ILSVRC 2012"),
        ("imagenet_lt", "imagenet/train/, imagenet/val/, imagenet/ImageNet_LT_train.txt", "list files of ImageNet-LT"),
    ],
)
def test_what_is_missing_is_said(tmp_path, name, first, way):
    with pytest.raises(MissingDataError, match=f"`{name}` is missing: {first}") as caught:
        load_image_files(name, tmp_path)
    for part in (str(tmp_path), way, 'load("digits") works'):
        assert part in str(caught.value)
    assert check(name, tmp_path).status == "missing"


def test_only_what_is_missing_is_said(tmp_path):
    folder = image_trees.write_imagenet_lt(tmp_path)
    (folder / "ImageNet_LT_test.txt").unlink()
    with pytest.raises(MissingDataError, match=r"is missing: imagenet/ImageNet_LT_test.txt not found"):
        load_image_files("imagenet_lt", tmp_path)


def test_names_are_listed_described_and_not_loaded_whole(tmp_path):
    image_trees.write_imagenet(tmp_path)
    states = {name: state for name, state, _ in overview(tmp_path)}
    assert [states[name] for name in image_file_names()] == [
        *["missing"] * 3,
        "on disk",
        *["missing"] * 2,
    ]
    for name in image_file_names():
        assert "batch by batch" in describe(name) or name == "imagenet_lt"
        with pytest.raises(ValueError, match=f"fits into memory, got '{name}'.*see load_image_files"):
            load(name, tmp_path)
    with pytest.raises(ValueError, match="`name` must be one of 'inaturalist', .*Did you mean 'imagenet_lt'"):
        load_image_files("imagenet-lt", tmp_path)


def test_check_names_a_file_that_is_no_image(tmp_path):
    folder = image_trees.write_imagenet(tmp_path)
    (folder / "train" / "n01443537" / "n01443537_1.JPEG").write_bytes(b"<html>not found</html>")
    image_trees.picture(0, 0).save(folder / "val" / "n01440764" / "ILSVRC2012_val_00000000.JPEG", format="PNG")
    report = check("imagenet", tmp_path)
    assert report.status == "damaged"
    assert "1 files cannot be read, first" in report.details[0]
    assert "n01443537_1.JPEG is not an image: it starts with b'<html>no'" in report.details[0]


def test_the_digest_follows_names_classes_and_order(tmp_path):
    image_trees.write_imagenet_lt(tmp_path / "a")
    image_trees.write_imagenet_lt(tmp_path / "b")
    one, two = (load_image_files("imagenet_lt", tmp_path / place) for place in "ab")
    assert one.hash() == two.hash()
    files, targets = one.train.files, one.train.targets
    for changed in (
        ImageFiles(one.train.folder, files[::-1], targets),
        ImageFiles(one.train.folder, files, targets[::-1].copy()),
        ImageFiles(one.train.folder, files[:-1], targets[:-1]),
    ):
        other = ImageFileSet(
            "imagenet_lt", changed, one.test, one.validation, one.class_names, one.channel_mean, one.channel_std
        )
        assert other.hash() != one.hash()


def test_parts_are_checked(tmp_path):
    with pytest.raises(ValueError, match="`targets` must be a one-dimensional int64 array, got int32"):
        ImageFiles(tmp_path, ("a",), np.zeros(1, dtype=np.int32))
    with pytest.raises(ValueError, match="`files` must have one entry per target, at least one, got 1 and 2"):
        ImageFiles(tmp_path, ("a",), np.zeros(2, dtype=np.int64))
    with pytest.raises(ValueError, match="at least one, got 0 and 0"):
        ImageFiles(tmp_path, (), np.zeros(0, dtype=np.int64))
    files = ImageFiles(tmp_path, ("a",), np.array([2]))
    with pytest.raises(ValueError, match=r"`train.targets` must lie in 0 … 1, got 2"):
        ImageFileSet("x", files, files, None, ("a", "b"), (0, 0, 0), (1, 1, 1))
