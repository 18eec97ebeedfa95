import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from lt_lib.data import MissingDataError, check, data_hash, load
from lt_lib.data import folder as folder_module


def picture(seed, size=(6, 5)):
    return np.random.default_rng(seed).integers(256, size=(size[1], size[0], 3), dtype=np.uint8)


@pytest.fixture
def tree(tmp_path):
    """Write two classes with 3 + 2 training and 1 + 1 test images, in an order that is not alphabetical."""
    root = tmp_path / "shapes"
    seed = 0
    for split, sizes in (("train", {"square": 2, "circle": 3}), ("test", {"square": 1, "circle": 1})):
        for name, size in sizes.items():
            (root / split / name).mkdir(parents=True)
            for position in reversed(range(size)):
                Image.fromarray(picture(seed)).save(root / split / name / f"{position:04d}.png")
                seed += 1
    return root


@pytest.fixture
def decoded(monkeypatch):
    """Count how many images are decoded."""
    files = []
    original = folder_module._decode_one

    def counting(file):
        files.append(file)
        return original(file)

    monkeypatch.setattr(folder_module, "_decode_one", counting)
    return files


def cache_files(tree):
    return sorted(path.name for path in (tree / ".lt_cache").iterdir())


def test_images_come_back_in_alphabetical_order(tree):
    dataset = load(f"folder:{tree}")
    assert dataset.name == "shapes"
    assert dataset.class_names == ("circle", "square")
    assert dataset.train.targets.tolist() == [0, 0, 0, 1, 1]
    assert dataset.test.targets.tolist() == [0, 1]
    for split, parts in (("train", dataset.train), ("test", dataset.test)):
        files = sorted((tree / split).rglob("*.png"))
        expected = [np.asarray(Image.open(file)) for file in files]
        np.testing.assert_array_equal(parts.inputs, expected)
        assert parts.inputs.dtype == np.uint8
    assert dataset.train.inputs.shape == (5, 5, 6, 3)


def test_second_load_reads_the_cache(tree, decoded):
    first = data_hash(load(f"folder:{tree}"))
    assert len(decoded) >= 7
    decoded.clear()
    assert data_hash(load(f"folder:{tree}")) == first
    assert not decoded
    assert len(cache_files(tree)) == 2


@pytest.mark.parametrize("change", ["touched", "replaced", "added", "removed", "renamed"])
def test_cache_is_rebuilt_when_the_tree_changes(tree, decoded, change):
    before = load(f"folder:{tree}")
    file = tree / "train" / "circle" / "0000.png"
    if change == "touched":
        os.utime(file, ns=(1, 1))
    elif change == "replaced":
        Image.fromarray(picture(99)).save(file)
    elif change == "added":
        Image.fromarray(picture(99)).save(file.with_name("0007.png"))
    elif change == "removed":
        file.unlink()
    else:
        file.rename(file.with_name("0009.png"))
    decoded.clear()
    after = load(f"folder:{tree}")
    assert decoded
    assert (data_hash(after) == data_hash(before)) == (change == "touched")
    # The array of the old tree is gone.
    assert len(cache_files(tree)) == 2


def test_path_is_read_as_written_or_below_the_root(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert load("folder:shapes").name == "shapes"
    monkeypatch.chdir("/")
    assert load("folder:shapes", root=tree.parent).name == "shapes"
    monkeypatch.setenv("LT_DATA", str(tree.parent))
    assert load("folder:shapes").name == "shapes"


def test_missing_folder_says_where_it_looked(tmp_path):
    with pytest.raises(
        MissingDataError, match=r"`folder:nowhere` is missing: train/<class>/\*, test/<class>/\*"
    ) as error:
        load("folder:nowhere", tmp_path)
    assert str(tmp_path / "nowhere") in str(error.value)
    assert 'load("digits") works' in str(error.value)
    assert check("folder:nowhere", tmp_path).status == "missing"
    with pytest.raises(ValueError, match="`download` must be False for image folders"):
        load("folder:nowhere", tmp_path, download=True)


@pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
def test_corrupted_image_is_named_and_no_cache_is_left(tree, damage):
    file = tree / "train" / "square" / "0001.png"
    content = {"truncated": file.read_bytes()[:60], "text": b"hello", "empty": b""}[damage]
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"Image \S*train/square/0001.png is corrupted or not an image"):
        load(f"folder:{tree}")
    assert not (tree / ".lt_cache").exists()
    report = check(f"folder:{tree}")
    assert report.status == "damaged"
    assert "0001.png" in report.details[0]


def test_truncated_jpeg_is_named(tree):
    for file in list(tree.rglob("*.png")):
        Image.open(file).convert("RGB").resize((64, 64)).save(file.with_suffix(".jpg"))
        file.unlink()
    file = tree / "test" / "circle" / "0000.jpg"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(ValueError, match="Image .*test/circle/0000.jpg is corrupted"):
        load(f"folder:{tree}")


def test_other_size_is_named_with_both_sizes(tree):
    file = tree / "test" / "square" / "0000.png"
    Image.fromarray(picture(0, size=(7, 5))).save(file)
    pattern = r"Image \S*test/square/0000.png must have the size of \S*train/circle/0000.png \(6×5\), got 7×5"
    with pytest.raises(ValueError, match=pattern):
        load(f"folder:{tree}")


def test_grey_and_transparent_images_become_rgb(tree):
    grey = picture(3)[..., 0]
    Image.fromarray(grey).save(tree / "train" / "circle" / "0000.png")
    dataset = load(f"folder:{tree}")
    np.testing.assert_array_equal(dataset.train.inputs[0], np.repeat(grey[..., None], 3, axis=2))


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_sixteen_bits_of_grey_keep_their_upper_byte(tree, order):
    values = np.array([[0, 255, 256, 20_000, 40_000, 65_535]] * 5)
    file = tree / "train" / "circle" / "0000.png"
    file.unlink()
    Image.fromarray(values.astype(order)).save(file.with_suffix(".tif"))
    found = load(f"folder:{tree}").train.inputs[0]
    np.testing.assert_array_equal(found, np.repeat((values // 256)[..., None], 3, axis=2))


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_numbers_without_a_known_white_are_refused(tree, dtype, mode):
    file = tree / "train" / "circle" / "0000.png"
    file.unlink()
    Image.fromarray(np.full((5, 6), 300, dtype=dtype)).save(file.with_suffix(".tif"))
    with pytest.raises(ValueError, match=rf"Image \S*0000.tif must have 8 or 16 bits per channel, got mode '{mode}'"):
        load(f"folder:{tree}")


def test_hidden_files_are_ignored_and_folders_refused(tree):
    (tree / "train" / ".hidden").mkdir()
    (tree / "train" / "circle" / ".note").write_text("x")
    assert len(load(f"folder:{tree}").train) == 5
    (tree / "train" / "circle" / "inner").mkdir()
    with pytest.raises(ValueError, match=r"Class folder \S*circle must hold only images, got inner"):
        load(f"folder:{tree}")


def test_malformed_trees_are_refused(tree):
    for splits in (("test",), ("train", "test")):
        for split in splits:
            (tree / split / "README.txt").touch()
        with pytest.raises(ValueError, match=r"Folder \S*/(train|test) must hold only class folders, got README.txt"):
            load(f"folder:{tree}")
    for split in ("train", "test"):
        (tree / split / "README.txt").unlink()
    (tree / "test" / "triangle").mkdir()
    with pytest.raises(ValueError, match=r"got \[\] only in train and \['triangle'\] only in test"):
        load(f"folder:{tree}")
    (tree / "train" / "triangle").mkdir()
    with pytest.raises(ValueError, match="Class folder .*train/triangle must hold at least one image, got none"):
        load(f"folder:{tree}")
    for split in ("train", "test"):
        shutil.rmtree(tree / split)
        (tree / split).mkdir()
    with pytest.raises(ValueError, match="must have the same classes in train and test, at least one"):
        load(f"folder:{tree}")


@pytest.mark.parametrize("damage", ["truncated", "flipped", "missing", "empty"])
def test_damaged_cache_is_named_and_can_be_deleted(tree, damage):
    expected = data_hash(load(f"folder:{tree}"))
    (array,) = (tree / ".lt_cache").glob("images-*.npy")
    content = bytearray(array.read_bytes())
    if damage == "missing":
        array.unlink()
    else:
        content[-1] ^= 1
        kept = {"truncated": content[:-10], "flipped": content, "empty": b""}[damage]
        array.write_bytes(kept)
    with pytest.raises(
        ValueError, match=rf"Cache file \S*{array.name} is damaged: .*Delete the folder .* to decode again"
    ):
        load(f"folder:{tree}")
    assert check(f"folder:{tree}").status == "damaged"
    shutil.rmtree(tree / ".lt_cache")
    assert data_hash(load(f"folder:{tree}")) == expected


def test_whoever_may_read_the_images_may_read_their_cache(tree):
    """A data root can be shared by people."""
    load(f"folder:{tree}")
    (tree / "made-as-usual").touch()
    usual = (tree / "made-as-usual").stat().st_mode
    assert {(tree / ".lt_cache" / name).stat().st_mode for name in cache_files(tree)} == {usual}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"tree": "x"}'])
def test_damaged_manifest_is_named(tree, content):
    load(f"folder:{tree}")
    (tree / ".lt_cache" / "manifest.json").write_text(content)
    with pytest.raises(ValueError, match=r"Cache file \S*manifest.json is damaged: its manifest cannot be read"):
        load(f"folder:{tree}")


@pytest.mark.parametrize("target", ["images-", "manifest"])
def test_interrupted_write_leaves_the_old_cache(tree, monkeypatch, target):
    load(f"folder:{tree}")
    before = {name: (tree / ".lt_cache" / name).read_bytes() for name in cache_files(tree)}
    Image.fromarray(picture(99)).save(tree / "train" / "circle" / "0007.png")
    original = os.replace

    def interrupted(source, destination):
        if os.path.basename(destination).startswith(target):
            raise KeyboardInterrupt
        original(source, destination)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load(f"folder:{tree}")
    monkeypatch.undo()
    assert not list((tree / ".lt_cache").glob(".*.tmp"))
    for name, content in before.items():
        assert (tree / ".lt_cache" / name).read_bytes() == content
    assert len(load(f"folder:{tree}").train) == 6
    assert len(cache_files(tree)) == 2


def test_manifest_holds_the_digest_of_the_tree(tree):
    load(f"folder:{tree}")
    manifest = json.loads((tree / ".lt_cache" / "manifest.json").read_text())
    assert manifest["tree"] == folder_module.scan(tree).digest


def test_a_relative_path_is_also_read_from_the_top_of_the_source_tree(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    for part in ("lt_lib", "notebooks", "images/train", "images/test"):
        (tmp_path / part).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "notebooks")
    assert folder_module.find_folder("images", tmp_path / "data") == tmp_path / "images"
