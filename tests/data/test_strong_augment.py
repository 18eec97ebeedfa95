import math

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch.utils._python_dispatch import TorchDispatchMode

from lt_lib.data import strong_augment as sa


def seed(number=0):
    return torch.Generator().manual_seed(number)


@pytest.fixture
def images():
    """Twelve smooth colour images with some range, uint8, in channels_last memory."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (12, 5, 5, 3)).astype(np.float64)
    fine = coarse.repeat(5, axis=1).repeat(5, axis=2)[:, :20, :24] + rng.normal(0, 12, (12, 20, 24, 3))
    fine[3] = fine[3] / 4 + 90  # low contrast
    fine[4] = 77  # constant
    return torch.from_numpy(fine.clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2)


def picture(image):
    return Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())


def array(image):
    return np.asarray(image).astype(int)


def applied(name, images, level, sign=None):
    result = sa.apply_operation(name, images, level, sign)
    assert result.dtype == torch.uint8
    assert result.shape == images.shape
    return [row.permute(1, 2, 0).numpy().astype(int) for row in result]


LEVELS = torch.linspace(0.013, 0.987, 12)  # none of them where a magnitude is a whole number


def posterized(image, bits):
    """Pillow refuses to keep no bit at all, which leaves black."""
    return ImageOps.posterize(image, bits) if bits else Image.new("RGB", image.size)


PILLOW = {
    "equalize": (lambda image, _level: ImageOps.equalize(image), 0),
    "posterize": (lambda image, level: posterized(image, int(4 * level)), 0),
    "solarize": (lambda image, level: ImageOps.solarize(image, min(int(256 * level), 255)), 0),
    "invert": (lambda image, _level: ImageOps.invert(image), 0),
    "autocontrast": (lambda image, _level: ImageOps.autocontrast(image), 1),
    "color": (lambda image, level: ImageEnhance.Color(image).enhance(1.8 * level + 0.1), 2),
    "contrast": (lambda image, level: ImageEnhance.Contrast(image).enhance(1.8 * level + 0.1), 2),
    "brightness": (lambda image, level: ImageEnhance.Brightness(image).enhance(1.8 * level + 0.1), 1),
    "sharpness": (lambda image, level: ImageEnhance.Sharpness(image).enhance(1.8 * level + 0.1), 2),
}


@pytest.mark.parametrize("name", PILLOW)
def test_the_colour_operations_are_those_of_pillow(images, name):
    make, tolerance = PILLOW[name]
    for found, image, level in zip(applied(name, images, LEVELS), images, LEVELS.tolist(), strict=True):
        assert np.abs(found - array(make(picture(image), level))).max() <= tolerance


@pytest.mark.parametrize("side", [8, 32, 41])
def test_equalize_is_pillows_at_any_size(side):
    rng = np.random.default_rng(1)
    batch = torch.from_numpy((rng.beta(2, 5, (6, 3, side, side)) * 256).astype(np.uint8))
    for found, image in zip(applied("equalize", batch, torch.zeros(6)), batch, strict=True):
        np.testing.assert_array_equal(found, array(ImageOps.equalize(picture(image))))


def test_solarize_add_brightens_the_dark_half(images):
    for found, image, level in zip(applied("solarize_add", images, LEVELS), images, LEVELS.tolist(), strict=True):
        pixels = array(picture(image))
        expected = np.where(pixels < 128, np.minimum(pixels + int(110 * level), 255), pixels)
        np.testing.assert_array_equal(found, expected)


def test_identity_is_a_copy(images):
    assert torch.equal(sa.apply_operation("identity", images, LEVELS), images)


GEOMETRIC = {
    "rotate": lambda level, y, x: (
        math.sin(level * math.pi / 6) * (x - 11.5) + math.cos(level * math.pi / 6) * (y - 9.5) + 9.5,
        math.cos(level * math.pi / 6) * (x - 11.5) - math.sin(level * math.pi / 6) * (y - 9.5) + 11.5,
    ),
    "shear_x": lambda level, y, x: (y, x + 0.3 * level * y),
    "shear_y": lambda level, y, x: (y + 0.3 * level * x, x),
    "translate_x": lambda level, y, x: (y, x + level * 24 * 10 / 32),
    "translate_y": lambda level, y, x: (y + level * 20 * 10 / 32, x),
}


@pytest.mark.parametrize("name", GEOMETRIC)
@pytest.mark.parametrize("sign", [1, -1])
def test_the_geometric_operations_pixel_by_pixel(images, name, sign):
    levels = torch.linspace(0.03, 0.97, 12)
    found = applied(name, images, levels, torch.full((12,), sign))
    differing = 0
    for result, image, level in zip(found, images, levels.tolist(), strict=True):
        pixels = array(picture(image))
        for row in range(20):
            for column in range(24):
                y, x = (round(value) for value in GEOMETRIC[name](sign * level, row, column))
                inside = 0 <= y < 20 and 0 <= x < 24
                differing += not np.array_equal(result[row, column], pixels[y, x] if inside else [128] * 3)
    # A coordinate half-way between two pixels can go either way in single precision.
    assert differing <= 12 * 480 * 0.002


def test_the_operations_at_full_magnitude_change_the_image(images):
    for name in set(sa.OPERATIONS) - {"identity"}:
        changed = sa.apply_operation(name, images[:3], torch.full((3,), 0.9))
        assert not torch.equal(changed, images[:3]), name


def test_grey_images_have_every_operation():
    grey = torch.randint(256, (4, 1, 8, 8), dtype=torch.uint8, generator=seed())
    for name in sa.OPERATIONS:
        assert sa.apply_operation(name, grey, torch.full((4,), 0.7)).shape == grey.shape


def coded(monkeypatch):
    """Every operation paints its own number, so that one can read which was applied."""
    for position, name in enumerate(sa.OPERATIONS[:11]):
        if name != "identity":
            monkeypatch.setitem(
                sa._COLOUR, name, lambda images, _level, code=position: torch.full_like(images, 100 + code)
            )

    def moved(images, _amount):
        block = torch.arange(len(images)) // (len(images) // 5)
        return (111 + block).to(torch.uint8)[:, None, None, None].expand(images.shape)

    monkeypatch.setattr(sa, "_moved", moved)


def test_a_layer_gives_every_operation_its_share(monkeypatch):
    coded(monkeypatch)
    blank = torch.zeros(320, 3, 4, 4, dtype=torch.uint8)
    codes = sa.rand_augment(blank, seed(), layers=1)[:, 0, 0, 0].tolist()
    counts = {code: codes.count(code) for code in set(codes)}
    # Ten images for each operation; identity leaves its ten, and the unchanged half, blank.
    assert counts == {0: 170, **{100 + position: 10 for position in range(16) if position != 7}}
    everywhere = sa.rand_augment(blank, seed(), layers=1, probability=1.0)[:, 0, 0, 0].tolist()
    assert everywhere.count(0) == 20


@pytest.mark.parametrize("batch", [1, 7, 33])
def test_the_chances_of_one_image_do_not_depend_on_the_batch(monkeypatch, batch):
    coded(monkeypatch)
    blank, rng, draws = torch.zeros(batch, 1, 2, 2, dtype=torch.uint8), seed(3), 4000 // batch
    codes = torch.cat([sa.rand_augment(blank, rng, layers=1)[:, 0, 0, 0] for _ in range(draws)])
    total = len(codes)
    expected = total / 32
    for position in range(16):
        if position != 7:
            number = int((codes == 100 + position).sum())
            assert abs(number - expected) < 4.5 * math.sqrt(expected)
    assert abs(int((codes == 0).sum()) - 17 * expected) < 4.5 * math.sqrt(total / 4)


def test_magnitudes_and_signs_differ_from_image_to_image(monkeypatch):
    seen = []
    real = sa._moved
    monkeypatch.setattr(sa, "_moved", lambda images, amount: seen.append(amount) or real(images, amount))
    sa.rand_augment(torch.zeros(3200, 1, 3, 3, dtype=torch.uint8), seed(), layers=1)
    amount = seen[0]
    assert len(amount.unique()) > 0.99 * len(amount)
    assert float(amount.mean().abs()) < 4 / math.sqrt(3 * len(amount))
    assert float(amount.abs().mean()) == pytest.approx(0.5, abs=4 / math.sqrt(12 * len(amount)))
    assert amount.abs().max() <= 1


def test_two_layers_are_two_draws(images):
    rng = seed()
    expected = sa.rand_augment(sa.rand_augment(images, rng, layers=1), rng, layers=1)
    assert torch.equal(sa.rand_augment(images, seed(), layers=2), expected)
    assert torch.equal(sa.rand_augment(images, seed(), layers=0), images)


def test_rand_augment_leaves_its_input_and_keeps_its_layout(images):
    before = images.clone()
    result = sa.rand_augment(images, seed())
    assert torch.equal(images, before)
    assert result.is_contiguous(memory_format=torch.channels_last)
    plain = sa.rand_augment(images.contiguous(), seed())
    assert torch.equal(plain, result)


class HostReads(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.found = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "unique"):
            self.found.append(function.overloadpacket.__name__)
        return function(*args, **(kwargs or {}))


def test_no_view_waits_for_the_device(images):
    views = sa.weak_view(), sa.strong_view()
    with HostReads() as mode:
        for view in views:
            view(images, seed())
    assert mode.found == []


def test_the_crop_is_a_reflected_window(images):
    result = sa.reflect_crop_flip(images, seed(5), padding=4)
    rng = seed(5)
    offsets = torch.randint(9, (2, 12, 1), generator=rng)
    mirrored = torch.randint(2, (12, 1), generator=rng, dtype=torch.uint8)
    for position, image in enumerate(images):
        padded = np.pad(array(picture(image)), ((4, 4), (4, 4), (0, 0)), mode="reflect")
        top, left = (int(value) for value in offsets[:, position, 0])
        expected = padded[top : top + 20, left : left + 24]
        if mirrored[position]:
            expected = expected[:, ::-1]
        np.testing.assert_array_equal(result[position].permute(1, 2, 0).numpy(), expected)
    assert 0 < int(mirrored.sum()) < 12


def test_an_eighth_is_padded_and_digits_are_not_mirrored():
    ramp = torch.arange(16, dtype=torch.uint8).repeat(200, 1, 16, 1)
    result = sa.reflect_crop_flip(ramp, seed(), flip=False)
    # Shifted by at most two columns, and still rising in the middle.
    assert set((result[:, 0, 0, 8] - 8.0).tolist()) == {-2.0, -1.0, 0.0, 1.0, 2.0}
    assert (result[:, 0, 0, 9].int() - result[:, 0, 0, 8].int() == 1).all()
    turned = sa.reflect_crop_flip(ramp, seed())
    share = float((turned[:, 0, 0, 9].int() < turned[:, 0, 0, 8].int()).float().mean())
    assert share == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(200))


def test_cutout_sets_a_square_to_zero():
    holes = sa.cutout(torch.ones(500, 2, 32, 32), seed(), size=16) == 0
    assert torch.equal(holes[:, 0], holes[:, 1])
    rows, columns = holes[:, 0].any(dim=2).sum(dim=1), holes[:, 0].any(dim=1).sum(dim=1)
    assert torch.equal(holes[:, 0].sum(dim=(1, 2)), rows * columns)
    assert int(rows.max()) == int(columns.max()) == 16
    assert int(rows.min()) >= 8  # at a corner a quarter is left
    # The centre is uniform: pixels in the middle are hit with probability 1/4, those at a corner with 1/16.
    hits = holes[:, 0].float().mean(dim=0)
    assert float(hits[12:20, 12:20].mean()) == pytest.approx(0.25, abs=0.05)
    assert float(hits[0, 0]) == pytest.approx(1 / 16, abs=0.045)


@pytest.mark.parametrize(("size", "side"), [(0, 0), (1, 0), (2, 2), (3, 2), (16, 16)])
def test_cutout_rounds_its_side_down_to_an_even_number(size, side):
    holes = sa.cutout(torch.ones(200, 1, 32, 32), seed(), size=size)[:, 0] == 0
    assert int(holes.any(dim=2).sum(dim=1).max()) == side


def test_a_hole_of_no_size_leaves_the_augmented_image():
    batch = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=seed())
    rng = seed(6)
    expected = sa.to_unit_range(sa.rand_augment(sa.reflect_crop_flip(batch, rng), rng))
    assert torch.equal(sa.strong_view(hole=0.0)(batch, seed(6)), expected)
    assert not torch.equal(sa.strong_view(hole=0.2)(batch, seed(6)), expected)


@pytest.mark.parametrize("option", [{"padding": 0}, {"layers": 0}, {"probability": 1.0}, {"flip": False}])
def test_every_option_of_a_view_reaches_its_step(option):
    batch = torch.randint(256, (40, 3, 16, 16), dtype=torch.uint8, generator=seed())
    crop = {name: value for name, value in option.items() if name in ("padding", "flip")}
    change = {name: value for name, value in option.items() if name not in crop}
    rng = seed(6)
    changed = sa.rand_augment(sa.reflect_crop_flip(batch, rng, **crop), rng, **change)
    found = sa.strong_view(**option)(batch, seed(6))
    assert torch.equal(found, sa.cutout(sa.to_unit_range(changed), rng, size=8))
    assert not torch.equal(found, sa.strong_view()(batch, seed(6)))
    if crop:
        found = sa.weak_view(**crop)(batch, seed(6))
        assert torch.equal(found, sa.to_unit_range(sa.reflect_crop_flip(batch, seed(6), **crop)))
        assert not torch.equal(found, sa.weak_view()(batch, seed(6)))


def test_the_views_lie_in_the_unit_range():
    batch = torch.randint(256, (64, 3, 32, 32), dtype=torch.uint8, generator=seed())
    weak, strong = sa.weak_view()(batch, seed()), sa.strong_view()(batch, seed())
    for view in (weak, strong):
        assert view.dtype == torch.float32
        assert (float(view.min()), float(view.max())) == (-1, 1)
    assert float((strong == 0).all(dim=1).float().mean()) > 0.1
    # Pixels are even multiples of 1/255 away from zero, so zero comes from Cutout alone.
    assert not (weak == 0).any()


def test_the_same_generator_gives_the_same_views():
    batch = torch.randint(256, (20, 3, 16, 16), dtype=torch.uint8, generator=seed())
    view = sa.strong_view(flip=False)
    expected = view(batch, seed(4))
    # A run in double precision changes the default type, and must see the same images.
    torch.set_default_dtype(torch.float64)
    try:
        found = view(batch, seed(4))
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found, expected)
    assert torch.equal(view(batch, seed(4)), view(batch, seed(4)))
    assert not torch.equal(view(batch, seed(4)), view(batch, seed(5)))


def test_noise_has_its_scale_and_drops_its_share():
    vectors = torch.full((400, 50), 3.0, dtype=torch.float64)
    moved = sa.noise_view(0.5)(vectors, seed())
    assert moved.dtype == torch.float64
    assert float(moved.mean()) == pytest.approx(3, abs=4 * 0.5 / math.sqrt(20_000))
    assert float(moved.std()) == pytest.approx(0.5, rel=0.03)
    dropped = sa.noise_view(0.0, drop=0.25)(vectors, seed())
    assert float((dropped == 0).double().mean()) == pytest.approx(0.25, abs=4 * 0.433 / math.sqrt(20_000))
    assert set(dropped.unique().tolist()) == {0.0, 3.0}
    assert torch.equal(vectors, torch.full_like(vectors, 3.0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: sa.rand_augment(x.float(), seed()), "`images` must be uint8, got torch.float32"),
        (lambda x: sa.rand_augment(x[0], seed()), r"`images` must have shape \(batch, channels, height, width\)"),
        (lambda x: sa.rand_augment(x, seed(), probability=0.0), r"`probability` must be in \(0, 1\], got 0.0"),
        (lambda x: sa.rand_augment(x, seed(), layers=-1), "`layers` must be an integer of at least 0, got -1"),
        (lambda x: sa.reflect_crop_flip(x, seed(), padding=20), r"`padding` must be an integer in \[0, 19\], got 20"),
        (lambda x: sa.cutout(x.float(), seed(), size=-1), "`size` must be an integer of at least 0, got -1"),
        (lambda x: sa.apply_operation("blur", x, LEVELS), "`name` must be one of .* got 'blur'"),
        (lambda _x: sa.noise_view(-1.0), "`scale` must be a finite number of at least 0.0, got -1.0"),
        (lambda _x: sa.noise_view(1.0, drop=1.0), r"`drop` must be in \[0, 1\), got 1.0"),
        (lambda _x: sa.strong_view(hole=1.5), r"`hole` must be a finite number in \[0.0, 1.0\]"),
    ],
)
def test_wrong_arguments_are_refused(images, call, message):
    with pytest.raises(ValueError, match=message):
        call(images)
