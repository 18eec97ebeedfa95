import math

import image_trees
import numpy as np
import pytest
import torch
from PIL import Image

from lt_lib.data.image_files import ImageFiles, load_image_files
from lt_lib.data.streaming import ImageStream, choose_box, view


@pytest.fixture
def files(tmp_path):
    """Twelve training images in three classes."""
    image_trees.write_inaturalist(tmp_path)
    return load_image_files("inaturalist", tmp_path).train


def stream(files, **changes):
    return ImageStream(files, **({"size": 16, "crop": "area", "batch_size": 5} | changes))


def everything(stream, epoch=0):
    """Image by sample index, after making sure that no sample comes twice."""
    found = {}
    for images, share, _batch in stream.epoch(epoch):
        assert len(images) == len(share)
        for image, index in zip(images, share.tolist(), strict=True):
            assert index not in found
            found[index] = image
    return found


def damage(files, index, content=None):
    """Cut the end off an image, or replace what is in it."""
    place = files.folder / files.files[index]
    place.write_bytes(place.read_bytes()[:-40] if content is None else content)


def same_images(one, two):
    return one.keys() == two.keys() and all(torch.equal(one[index], two[index]) for index in one)


def test_an_epoch_is_every_sample_once_in_batches_of_nearly_one_size(files):
    batches = list(stream(files).epoch(0))
    assert stream(files).steps == 3
    assert [len(batch) for _, _, batch in batches] == [4, 4, 4]  # not 5, 5, 2
    assert sorted(torch.cat([batch for _, _, batch in batches]).tolist()) == list(range(12))
    images, share, batch = batches[0]
    assert (images.dtype, images.shape) == (torch.uint8, (4, 3, 16, 16))
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(share, batch)


def test_images_belong_to_their_samples(files):
    found = everything(stream(files, crop="centre"))
    for index, image in found.items():
        expected = view(str(files.folder / files.files[index]), 16, "centre", np.random.default_rng(0))
        np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected)


def test_processes_share_every_batch_without_overlap(files):
    whole = everything(stream(files), epoch=3)
    for processes in (2, 3):
        streams = [stream(files, rank=rank, processes=processes) for rank in range(processes)]
        parts = [everything(each, epoch=3) for each in streams]
        union = {index: image for part in parts for index, image in part.items()}
        assert sum(map(len, parts)) == len(union)
        assert same_images(union, whole)
        assert max(map(len, parts)) - min(map(len, parts)) <= streams[0].steps
        for step in zip(*(each.batches(3) for each in streams), strict=True):
            assert all(torch.equal(step[0], other) for other in step)


def test_seed_and_epoch_decide_and_nothing_else(files):
    first = stream(files, seed=1)
    order, images = first.batches(2), everything(first, 2)
    again = stream(files, seed=1)
    everything(again, 0)  # an epoch before changes nothing
    assert same_images(everything(again, 2), images)
    assert all(torch.equal(*pair) for pair in zip(again.batches(2), order, strict=True))
    for other, epoch in ((stream(files, seed=1), 3), (stream(files, seed=2), 2)):
        assert not all(torch.equal(*pair) for pair in zip(other.batches(epoch), order, strict=True))
        assert not same_images(everything(other, epoch), images)


@pytest.mark.timeout(300)  # fresh processes import torch, on a machine that may be busy
def test_workers_change_nothing_over_epochs(files):
    plain, busy = stream(files), stream(files, workers=2)
    for epoch in (0, 1):
        assert same_images(everything(busy, epoch), everything(plain, epoch))
    damage(files, 7)
    with pytest.raises(
        ValueError, match=rf"Image \S+{files.files[7]} is corrupted or not an image: image file is trunc"
    ):
        everything(busy, 2)


def test_the_middle_comes_in_the_order_of_the_files_in_every_epoch(files):
    middle = stream(files, crop="centre", seed=5)
    assert torch.cat(middle.batches(0)).tolist() == list(range(12))
    assert same_images(everything(middle, 0), everything(middle, 7))


def test_a_share_of_an_evaluation_may_be_empty(files):
    shares = [share for _, share, _ in stream(files, crop="centre", batch_size=1, rank=1, processes=2).epoch(0)]
    assert [len(share) for share in shares] == [0] * 12


def reference_view(file, size, crop):
    """Resize the whole image, then cut, at full resolution: what the box does in one step."""
    image = Image.open(file).convert("RGB")
    scale = (size + round(size / 7)) / min(image.size)
    whole = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
    left, top = ((side - size) / 2 for side in whole.size)
    return np.asarray(whole.crop((round(left), round(top), round(left) + size, round(top) + size))).astype(int)


@pytest.mark.parametrize("suffix", ["JPEG", "PNG"])
def test_the_middle_is_what_resizing_and_cutting_gives(tmp_path, suffix):
    # Smooth, large enough to be decoded at half its size.
    side = np.linspace(0, 255, 320)
    pixels = np.stack(np.broadcast_arrays(side[:, None], side[None, :240], 128.0), axis=-1).astype(np.uint8)
    file = tmp_path / f"image.{suffix}"
    Image.fromarray(pixels).save(file, format=suffix, **({"quality": 95} if suffix == "JPEG" else {}))
    found = view(str(file), 56, "centre", np.random.default_rng(0))
    assert np.abs(found - reference_view(file, 56, "centre")).max() <= 4
    # 7/8 of the shorter side, from the middle.
    assert found[0, :, 0].mean() == pytest.approx(255 * (320 - 240 * 7 / 8) / 2 / 320, abs=3)
    assert found[-1, :, 0].mean() == pytest.approx(255 * (1 - (320 - 240 * 7 / 8) / 2 / 320), abs=3)


@pytest.mark.parametrize(("size", "resized"), [(224, 256), (320, 366)])
def test_the_middle_follows_the_papers_margins(size, resized):
    box = choose_box(640, 480, size, "centre", np.random.default_rng(0))
    assert box.width == box.height == pytest.approx(480 * size / resized)
    assert (box.left + box.width / 2, box.top + box.height / 2) == pytest.approx((320, 240))


def test_random_parts_have_the_papers_areas_and_aspects(rng):
    boxes = [choose_box(500, 400, 224, "area", rng) for _ in range(4000)]
    areas = np.array([box.width * box.height for box in boxes]) / (500 * 400)
    aspects = np.array([box.width / box.height for box in boxes])
    assert areas.min() == pytest.approx(0.08, abs=0.01)
    assert 0.95 < areas.max() <= 1
    assert aspects.min() == pytest.approx(3 / 4, abs=0.02)
    assert aspects.max() == pytest.approx(4 / 3, abs=0.02)
    assert all(0 <= b.left <= 500 - b.width and 0 <= b.top <= 400 - b.height for b in boxes)


def test_random_parts_are_as_often_high_as_wide(rng):
    """The aspect is uniform on a logarithmic scale; uniform on a plain one, only 43 % would be higher than wide."""
    boxes = [choose_box(400, 400, 224, "area", rng) for _ in range(4000)]
    unequal = [box.height > box.width for box in boxes if box.height != box.width]
    assert np.mean(unequal) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / len(unequal)))


def test_random_parts_are_distributed_as_those_of_torchvision(rng):
    from scipy.stats import ks_2samp
    from torchvision.transforms.v2 import RandomResizedCrop

    torch.manual_seed(0)
    crop = RandomResizedCrop(224)
    image = torch.zeros(3, 400, 500)
    theirs = [crop.make_params([image]) for _ in range(600)]
    boxes = [choose_box(500, 400, 224, "area", rng) for _ in range(2000)]
    for mine, other in (("left", "left"), ("top", "top"), ("width", "width"), ("height", "height")):
        ours = [getattr(box, mine) for box in boxes]
        assert ks_2samp(ours, [params[other] for params in theirs]).pvalue > 1e-3


@pytest.mark.parametrize(("width", "height"), [(1000, 20), (20, 1000)])
def test_a_panorama_gives_its_largest_allowed_middle(width, height):
    always_wide = np.random.default_rng(0)
    box = choose_box(width, height, 224, "area", always_wide)
    assert 0.75 - 0.05 <= box.width / box.height <= 4 / 3 + 0.05
    assert box.width <= width
    assert box.height <= height


def test_random_squares_lie_anywhere_and_have_one_size(rng):
    boxes = [choose_box(500, 400, 224, "shorter_side", rng) for _ in range(2000)]
    assert {(box.width, box.height) for box in boxes} == {(350.0, 350.0)}
    lefts, tops = (np.array([getattr(box, side) for box in boxes]) for side in ("left", "top"))
    assert (lefts.min(), lefts.max()) == (pytest.approx(0, abs=2), pytest.approx(150, abs=2))
    assert (tops.min(), tops.max()) == (pytest.approx(0, abs=1), pytest.approx(50, abs=1))
    assert abs(np.corrcoef(lefts, tops)[0, 1]) < 0.1


@pytest.mark.parametrize("crop", ["area", "shorter_side"])
def test_half_of_the_training_images_are_mirrored(tmp_path, crop):
    ramp = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8)[None, :, None], (64, 64, 3))
    Image.fromarray(np.ascontiguousarray(ramp)).save(tmp_path / "ramp.png")
    mirrored = [
        bool(
            np.diff(view(str(tmp_path / "ramp.png"), 16, crop, np.random.default_rng(seed))[0, :, 0].astype(int)).sum()
            < 0
        )
        for seed in range(400)
    ]
    assert np.mean(mirrored) == pytest.approx(0.5, abs=4 * math.sqrt(0.25 / 400))


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_every_kind_of_image_becomes_rgb(tmp_path, mode):
    colour = image_trees.picture(0, 0).convert(mode)
    file = tmp_path / ("image.jpg" if mode in ("L", "CMYK") else "image.png")
    colour.save(file)
    found = view(str(file), 16, "centre", np.random.default_rng(0))
    assert (found.shape, found.dtype) == ((16, 16, 3), np.uint8)
    if mode != "L":
        expected = view(str(file), 16, "centre", np.random.default_rng(0)).mean((0, 1))
        np.testing.assert_allclose(expected, np.asarray(image_trees.picture(0, 0)).mean((0, 1)), atol=25)


def test_sixteen_bits_of_grey_keep_their_upper_byte(tmp_path):
    file = tmp_path / "grey.png"
    Image.fromarray(np.full((20, 30), 20_000, dtype=np.uint16)).save(file)
    found = view(str(file), 16, "centre", np.random.default_rng(0))
    assert np.unique(found).tolist() == [20_000 // 256]


@pytest.mark.parametrize(("dtype", "mode"), [(np.int32, "I"), (np.float32, "F")])
def test_numbers_without_a_known_white_are_refused(tmp_path, dtype, mode):
    file = tmp_path / "wide.tif"
    Image.fromarray(np.full((20, 30), 300, dtype=dtype)).save(file)
    with pytest.raises(ValueError, match=rf"Image \S*wide.tif must have 8 or 16 bits per channel, got mode '{mode}'"):
        view(str(file), 16, "centre", np.random.default_rng(0))


@pytest.mark.parametrize("content", [None, b"", b"<html>"])
def test_a_damaged_image_is_named(files, content):
    damage(files, 7, content)
    with pytest.raises(ValueError, match=rf"Image \S+{files.files[7]} is corrupted or not an image: "):
        everything(stream(files))


def test_an_image_that_went_away_is_named(files):
    (files.folder / files.files[7]).unlink()
    with pytest.raises(ValueError, match=rf"Image \S+{files.files[7]} is not there any more"):
        everything(stream(files))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop": "random"}, "`crop` must be one of 'area', 'shorter_side', 'centre', got 'random'"),
        ({"size": 0}, "`size` must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "`batch_size` must be an integer of at least 1, got 0"),
        ({"processes": 0}, "`processes` must be an integer of at least 1"),
        ({"rank": 2, "processes": 2}, r"`rank` must be an integer in \[0, 1\], got 2"),
        ({"workers": -1}, "`workers` must be an integer of at least 0"),
        ({"batch_size": 3, "processes": 4}, "a sample of every batch for each of 4 processes, got 3 with 12 images"),
    ],
)
def test_settings_are_checked(files, changes, message):
    with pytest.raises(ValueError, match=message):
        stream(files, **changes)


def test_order_is_that_of_the_epoch_even_when_an_epoch_was_left_early(files):
    left = stream(files)
    next(left.epoch(0))
    assert same_images(everything(left, 1), everything(stream(files), 1))
    assert isinstance(files, ImageFiles)
