import numpy as np
import pytest
import torch

from lt_lib.data.augment import channel_statistics, crop_flip, normalise, pad_crop_flip


def one_by_one(images, top, left, mirrored, padding):
    batch, channels, height, width = images.shape
    result = torch.zeros_like(images, memory_format=torch.contiguous_format)
    for i in range(batch):
        canvas = torch.zeros(channels, height + 2 * padding, width + 2 * padding, dtype=images.dtype)
        canvas[:, padding : padding + height, padding : padding + width] = images[i]
        crop = canvas[:, top[i] : top[i] + height, left[i] : left[i] + width]
        result[i] = torch.from_numpy(crop.numpy()[:, :, ::-1].copy()) if mirrored[i] else crop
    return result


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(("shape", "padding"), [((7, 3, 8, 10), 4), ((5, 1, 6, 6), 2), ((3, 3, 5, 4), 0)])
def test_crop_flip_agrees_with_one_image_at_a_time(shape, padding, dtype, memory_format):
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, shape, generator=rng).to(dtype).to(memory_format=memory_format)
    top, left = torch.randint(2 * padding + 1, (2, len(images)), generator=rng)
    mirrored = torch.randint(2, (len(images),), generator=rng).bool()
    found = crop_flip(images, top, left, mirrored, padding=padding)
    assert torch.equal(found, one_by_one(images, top, left, mirrored, padding))
    assert found.dtype == dtype
    assert found.is_contiguous(memory_format=memory_format)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_pad_crop_flip_draws_every_offset_and_both_sides_evenly(memory_format):
    # A single bright pixel in the middle of each image tells its crop offset; a second one tells the mirror.
    images = torch.zeros(9000, 3, 9, 9, dtype=torch.uint8).to(memory_format=memory_format)
    images[:, :, 4, 4] = 200
    images[:, :, 4, 5] = 100
    found = pad_crop_flip(images, torch.Generator().manual_seed(0), padding=1)
    assert found.is_contiguous(memory_format=memory_format)
    bright = (found[:, 0] == 200).nonzero()
    dim = (found[:, 0] == 100).nonzero()
    assert len(bright) == len(dim) == 9000
    mirrored = dim[:, 2] < bright[:, 2]
    assert abs(mirrored.double().mean() - 0.5) < 0.02
    places = torch.stack([bright[:, 1], bright[:, 2], mirrored.long()], dim=1)
    kinds, counts = places.unique(dim=0, return_counts=True)
    assert len(kinds) == 18
    assert ((counts - 500).abs() < 5 * 500**0.5).all()
    assert torch.equal(found[:, 0], found[:, 2])


def test_pad_crop_flip_uses_its_generator_alone():
    images = torch.arange(4 * 3 * 8 * 8).reshape(4, 3, 8, 8).float()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first, again, other = (pad_crop_flip(images, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    rng = torch.Generator().manual_seed(1)
    assert not torch.equal(pad_crop_flip(images, rng), pad_crop_flip(images, rng))
    assert torch.equal(images, torch.arange(4 * 3 * 8 * 8).reshape(4, 3, 8, 8).float())


def test_default_padding_is_four():
    images = torch.ones(2000, 1, 4, 4)
    found = pad_crop_flip(images, torch.Generator().manual_seed(0))
    # With four pixels of border a 4×4 crop can miss the image altogether, with three it cannot.
    assert (found.sum(dim=(1, 2, 3)) == 0).any()
    assert not (pad_crop_flip(images, torch.Generator().manual_seed(0), padding=3).sum(dim=(1, 2, 3)) == 0).any()


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_normalise_agrees_with_numpy(rng, memory_format):
    pixels = rng.integers(256, size=(4, 3, 5, 6), dtype=np.uint8)
    mean, std = np.array([0.49, 0.48, 0.45]), np.array([0.25, 0.24, 0.26])
    expected = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    images = torch.from_numpy(pixels).to(memory_format=memory_format)
    for values in ((mean, std), (mean.tolist(), std.tolist()), (torch.tensor(mean).float(), torch.tensor(std).float())):
        found = normalise(images, *values)
        assert found.dtype == torch.float32
        assert found.is_contiguous(memory_format=memory_format)
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-6)


def test_statistics_normalise_to_zero_mean_and_unit_deviation(rng, monkeypatch):
    images = rng.integers(0, [100, 200, 256], size=(300, 4, 4, 3)).astype(np.uint8)
    monkeypatch.setattr("lt_lib.data.augment._CHUNK", 128)
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.reshape(-1, 3).mean(axis=0) / 255, rtol=1e-12)
    np.testing.assert_allclose(std, images.reshape(-1, 3).std(axis=0) / 255, rtol=1e-12)
    scaled = normalise(torch.from_numpy(images).permute(0, 3, 1, 2), mean, std).double()
    np.testing.assert_allclose(scaled.mean(dim=(0, 2, 3)).numpy(), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(dim=(0, 2, 3), correction=0).numpy(), 1, atol=1e-6)


def test_statistics_of_a_constant_channel():
    mean, std = channel_statistics(np.full((2, 3, 3, 1), 51, dtype=np.uint8))
    assert mean == pytest.approx(0.2)
    assert std == pytest.approx(0.0, abs=1e-15)


def test_bad_arguments_are_named():
    rng = torch.Generator()
    images = torch.zeros(2, 3, 4, 4, dtype=torch.uint8)
    with pytest.raises(
        ValueError, match=r"`images` must have shape \(batch, channels, height, width\), got \(3, 4, 4\)"
    ):
        pad_crop_flip(images[0], rng)
    with pytest.raises(ValueError, match="`padding` must be .*0.*got -1"):
        pad_crop_flip(images, rng, padding=-1)
    with pytest.raises(ValueError, match=r"`rng` must live on the device of `images` \(meta\), got cpu"):
        pad_crop_flip(images.to("meta"), rng)
    with pytest.raises(ValueError, match="`images` must be uint8 of shape .*got torch.float32"):
        normalise(images.float(), [0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match=r"`mean` must have shape \(3,\), got \(1,\)"):
        normalise(images, [0.5], [0.5] * 3)
    with pytest.raises(ValueError, match=r"`std` must have shape \(3,\), got \(2,\)"):
        normalise(images, [0.5] * 3, [0.5] * 2)
    for wrong in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"`std` must be positive and finite, got \[0.5, {wrong}, 0.5\]"):
            normalise(images, [0.5] * 3, [0.5, wrong, 0.5])
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match=rf"`mean` must be finite, got \[{wrong}, 0.5, 0.5\]"):
            normalise(images, [wrong, 0.5, 0.5], [0.5] * 3)
    with pytest.raises(ValueError, match="`images` must be non-empty uint8 of shape .*got float64"):
        channel_statistics(np.zeros((2, 4, 4, 3)))
    with pytest.raises(ValueError, match="`images` must be non-empty uint8"):
        channel_statistics(np.zeros((0, 4, 4, 3), dtype=np.uint8))
