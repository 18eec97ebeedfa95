import hashlib

import numpy as np
import pytest
from PIL import Image

from lt_lib.data import MissingDataError, check, describe, load_image_files, write_made_up_images
from lt_lib.data.made_up_images import picture, write_inaturalist


def contents(folder):
    """Digests of all files by their place."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_made_up_collection_is_long_tailed_and_the_same_everywhere(tmp_path):
    assert write_made_up_images(str(tmp_path)) == tmp_path
    found = load_image_files("made_up", tmp_path)
    assert (found.name, found.validation) == ("made_up", None)
    assert found.class_counts.tolist() == [32, 16, 8, 4]
    assert np.bincount(found.test.targets).tolist() == [10] * 4
    assert found.hash()[:12] == "3c6dd620d79b"
    assert not set(found.train.files) & set(found.test.files)
    assert "100 small made-up pictures in 4 classes" in describe("made_up")
    assert check("made_up", tmp_path).details == ("60 training and 40 test images in 4 classes",)
    first = contents(tmp_path)
    write_made_up_images(tmp_path)
    assert contents(tmp_path) == first
    assert len(first) == 102


def test_colours_tell_the_classes_and_nothing_else_does(tmp_path):
    write_made_up_images(tmp_path)
    found = load_image_files("made_up", tmp_path)
    colours = {part: np.array([mean_colour(files, file) for file in files.files]) for part, files in
               (("train", found.train), ("test", found.test))}  # fmt: skip
    centres = np.array([colours["train"][found.train.targets == label].mean(0) for label in range(4)])
    distances = np.linalg.norm(colours["test"][:, np.newaxis] - centres, axis=2)
    np.testing.assert_array_equal(distances.argmin(1), found.test.targets)
    assert not np.array_equal(np.asarray(picture(0, 0)), np.asarray(picture(0, 1)))


def mean_colour(files, file):
    with Image.open(files.folder / file) as image:
        return np.asarray(image).mean((0, 1))


def test_without_the_tree_the_message_says_what_writes_it(tmp_path):
    with pytest.raises(MissingDataError, match=r"made_up/2018/.*`lt-lib data get made_up` writes it, as does"):
        load_image_files("made_up", tmp_path)
    # The real collection is another folder, and neither stands in for the other.
    write_inaturalist(tmp_path / "inaturalist", train=[2, 1], test=[1, 1])
    assert load_image_files("inaturalist", tmp_path).class_counts.tolist() == [2, 1]
    assert check("made_up", tmp_path).status == "missing"
