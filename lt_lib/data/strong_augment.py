r"""Weak and strong views for consistency training, as functions of a whole batch on the device where it lives.

The strong view of FixMatch is the weak one followed by RandAugment, two layers of sixteen operations with random
magnitudes, and Cutout. Every image draws its own operations and magnitudes; images with the same operation are
computed together, so that no Python runs per image and the host never waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lt_lib._checks import check_fraction, check_integer, check_known, check_real

OPERATIONS = (
    "autocontrast", "equalize", "posterize", "solarize", "color", "contrast", "brightness", "identity", "invert",
    "sharpness", "solarize_add", "rotate", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip
_GEOMETRIC = OPERATIONS[-5:]
_LUMA = (0.2989, 0.5870, 0.1140)
_FILL = 128  # grey that comes in from outside the image


def reflect_crop_flip(images: Tensor, rng: torch.Generator, *, padding: int | None = None, flip: bool = True) -> Tensor:
    r"""Crop at a random offset of the image padded by reflection, and mirror with probability 1/2.

    Args:
        images: batch `(batch, channels, height, width)` of any dtype.
        rng: generator on the device of `images`.
        padding: pixels on each side, below height and width; None for an eighth of the height, 4 of 32.
        flip: whether to mirror; not for digits and letters.

    Returns:
        New batch of the same shape and dtype, in `channels_last` format.

    Raises:
        ValueError: `images` has another number of axes, or `padding` does not fit it.

    Example:
        >>> batch = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> reflect_crop_flip(batch, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 32, 32])
    """
    _check_images(images)
    batch, _, height, width = images.shape
    border = height // 8 if padding is None else padding
    check_integer(border, "padding", minimum=0, maximum=min(height, width) - 1)
    offsets = torch.randint(2 * border + 1, (2, batch, 1), generator=rng, device=images.device)
    rows = _reflected(torch.arange(height, device=images.device) + offsets[0] - border, height)
    columns = _reflected(torch.arange(width, device=images.device) + offsets[1] - border, width)
    if flip:
        mirrored = torch.randint(2, (batch, 1), generator=rng, device=images.device, dtype=torch.uint8).bool()
        columns = torch.where(mirrored, columns.flip(1), columns)
    return _gather(images, rows[:, :, None], columns[:, None, :])


def weak_view(*, flip: bool = True, padding: int | None = None) -> Callable[[Tensor, torch.Generator], Tensor]:
    """FixMatch's weak view: reflected crop and mirror of uint8 images, as float32 in [-1, 1].

    Args:
        flip: whether to mirror.
        padding: as for `reflect_crop_flip`.

    Returns:
        Function (uint8 `(batch, channels, height, width)`, generator) -> float32 batch.
    """

    def view(images: Tensor, rng: torch.Generator) -> Tensor:
        return to_unit_range(reflect_crop_flip(images, rng, padding=padding, flip=flip))

    return view


def strong_view(
    *, flip: bool = True, padding: int | None = None, layers: int = 2, probability: float = 0.5, hole: float = 0.5
) -> Callable[[Tensor, torch.Generator], Tensor]:
    """FixMatch's strong view: reflected crop and mirror, RandAugment, [-1, 1], Cutout.

    Args:
        flip: whether to mirror.
        padding: as for `reflect_crop_flip`.
        layers: as for `rand_augment`.
        probability: as for `rand_augment`.
        hole: side of the square cut out, as a fraction of the image's width; cut as for `cutout`, 0 cuts out nothing.

    Returns:
        Function (uint8 `(batch, channels, height, width)`, generator) -> float32 batch.

    Raises:
        ValueError: `hole` is not in [0, 1].
    """
    check_fraction(hole, "hole")

    def view(images: Tensor, rng: torch.Generator) -> Tensor:
        cropped = reflect_crop_flip(images, rng, padding=padding, flip=flip)
        changed = rand_augment(cropped, rng, layers=layers, probability=probability)
        return cutout(to_unit_range(changed), rng, size=round(hole * images.shape[-1]))

    return view


def noise_view(scale: float, *, drop: float = 0.0) -> Callable[[Tensor, torch.Generator], Tensor]:
    r"""View of vectors: :math:`(x + \sigma z) \odot m` with standard normal z and a random mask m.

    Args:
        scale: :math:`\sigma \ge 0`; for consistency training small for the weak view, large for the strong one.
        drop: probability that a coordinate is set to zero, in [0, 1).

    Returns:
        Function (floating-point `(batch, ...)`, generator) -> batch of the same type.

    Raises:
        ValueError: a number out of range.

    Example:
        >>> noise_view(0.0)(torch.ones(1, 2), torch.Generator())
        tensor([[1., 1.]])
    """
    check_real(scale, "scale", minimum=0.0)
    if not 0 <= check_real(drop, "drop") < 1:
        raise ValueError(f"`drop` must be in [0, 1), got {drop}.")

    def view(vectors: Tensor, rng: torch.Generator) -> Tensor:
        noise = torch.randn(vectors.shape, generator=rng, device=vectors.device, dtype=vectors.dtype)
        moved = torch.add(vectors, noise, alpha=scale)
        if drop == 0:
            return moved
        kept = torch.rand(vectors.shape, generator=rng, device=vectors.device, dtype=vectors.dtype) >= drop
        return moved * kept

    return view


def to_unit_range(images: Tensor) -> Tensor:
    """Pixels 0 … 255 as float32 in [-1, 1]; no mean, no deviation.

    Example:
        >>> to_unit_range(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).flatten().tolist()
        [-1.0, 1.0]
    """
    return images.float().mul_(2 / 255).sub_(1)


def cutout(images: Tensor, rng: torch.Generator, *, size: int = 16) -> Tensor:
    r"""Set a square to zero, which is mid-grey on the scale [-1, 1].

    The centre is uniform over the image, so that part of the square can lie outside.

    Args:
        images: floating-point batch `(batch, channels, height, width)`; changed in place.
        rng: generator on the device of `images`.
        size: side of the square, >= 0; an odd one is cut to the even number below, so that 1 cuts out nothing.

    Returns:
        `images`.

    Raises:
        ValueError: `images` has another number of axes, or `size` < 0.

    References:
        As in the code of CReST, which halves the size to whole pixels on either side of the centre.
    """
    _check_images(images)
    check_integer(size, "size", minimum=0)
    batch, _, height, width = images.shape
    centre = torch.rand(2, batch, 1, generator=rng, device=images.device, dtype=torch.float32)
    half = size // 2

    def inside(length: int, where: Tensor) -> Tensor:
        positions = torch.arange(length, device=images.device)
        middle = (where * length).round()
        return (positions >= middle - half) & (positions < middle + half)

    hole = inside(height, centre[0])[:, None, :, None] & inside(width, centre[1])[:, None, None, :]
    return images.masked_fill_(hole, 0)


def rand_augment(images: Tensor, rng: torch.Generator, *, layers: int = 2, probability: float = 0.5) -> Tensor:
    r"""Apply random operations with random magnitudes to every image.

    In each layer an image is changed with the given probability, by one of the sixteen `OPERATIONS` with equal
    chances, at a magnitude uniform on [0, 1] of that operation's range, with a random sign for the geometric ones.
    The draw is stratified over the batch: each image alone has these chances, but the number of images per operation
    does not fluctuate, so that all shapes are known in advance.

    Args:
        images: uint8 batch `(batch, channels, height, width)`.
        rng: generator on the device of `images`.
        layers: operations in a row, >= 0.
        probability: chance of a change per layer, in (0, 1]; exact where 16 / probability is a whole number, as at 0.5.

    Returns:
        New batch of the same shape, dtype and memory format.

    Raises:
        ValueError: `images` is not a uint8 batch, or a number out of range.

    References:
        E. Cubuk et al., "RandAugment", 2020; ranges as in the code of CReST and FixMatch: angle 30°, shear 0.3,
        shift 10 of 32 pixels, enhancement factors 0.1 … 1.9, 0 … 3 bits kept, border filled with grey.
    """
    _check_images(images)
    if images.dtype != torch.uint8:
        raise ValueError(f"`images` must be uint8, got {images.dtype}.")
    check_integer(layers, "layers", minimum=0)
    if not 0 < check_real(probability, "probability") <= 1:
        raise ValueError(f"`probability` must be in (0, 1], got {probability}.")
    result = images.clone()
    for _ in range(layers):
        result = _one_layer(result, rng, probability)
    return result


def _one_layer(images: Tensor, rng: torch.Generator, probability: float) -> Tensor:
    """The batch after one layer.

    A shuffled deck holds equally many cards of every operation, and blank ones; the images get its first cards. Of an
    operation's cards those past the end of the batch belong to nobody: they are computed for image 0 and thrown away,
    which keeps every shape independent of the draw.
    """
    batch, device = len(images), images.device
    each = max(1, math.ceil(batch * probability / len(OPERATIONS)))
    deck = max(round(each * len(OPERATIONS) / probability), batch)
    holder = torch.randperm(deck, generator=rng, device=device)[: each * len(OPERATIONS)]
    level = torch.rand(each * len(OPERATIONS), generator=rng, device=device, dtype=torch.float32)
    sign = torch.randint(2, (each * len(OPERATIONS),), generator=rng, device=device) * 2 - 1
    real = holder < batch
    target = torch.where(real, holder, batch)
    source = torch.where(real, holder, 0)
    last = torch.channels_last if images.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    changed = torch.empty((batch + 1, *images.shape[1:]), dtype=images.dtype, device=device, memory_format=last)
    written = torch.zeros(batch + 1, dtype=torch.bool, device=device)
    for position, name in enumerate(OPERATIONS[: -len(_GEOMETRIC)]):
        if name == "identity":
            continue
        cards = slice(position * each, (position + 1) * each)
        changed[target[cards]] = _COLOUR[name](images[source[cards]], level[cards])
    cards = slice((len(OPERATIONS) - len(_GEOMETRIC)) * each, None)
    changed[target[cards]] = _moved(images[source[cards]], (level * sign)[cards])
    keep = torch.arange(len(OPERATIONS), device=device) != OPERATIONS.index("identity")
    written[target] = keep.repeat_interleave(each, output_size=len(target))
    return torch.where(written[:batch, None, None, None], changed[:batch], images)


def apply_operation(name: str, images: Tensor, level: Tensor, sign: Tensor | None = None) -> Tensor:
    """One of the `OPERATIONS` on a batch, with a magnitude per image; for looking at, and for tests.

    Args:
        name: a member of `OPERATIONS`.
        images: uint8 batch `(batch, channels, height, width)`.
        level: magnitudes in [0, 1] `(batch,)`.
        sign: -1 or 1 `(batch,)` for the geometric ones; None for 1.

    Returns:
        New uint8 batch.

    Raises:
        ValueError: unknown `name`.
    """
    check_known(name, "name", OPERATIONS)
    if name == "identity":
        return images.clone()
    if name in _GEOMETRIC:
        signed = level if sign is None else level * sign
        which = torch.full((len(images),), _GEOMETRIC.index(name), device=images.device)
        return _moved(images, signed, which)
    return _COLOUR[name](images, level)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Degenerate image plus `factor` times the difference to it, cut to 0 … 255 and to whole numbers."""
    base = degenerate.float()
    return torch.lerp(base.expand(images.shape), images.float(), _per_image(factor)).clamp_(0, 255).to(torch.uint8)


def _enhancement(level: Tensor) -> Tensor:
    return level * 1.8 + 0.1


def _grey(images: Tensor) -> Tensor:
    if images.shape[1] != 3:
        return images.float().mean(dim=1, keepdim=True)
    # Made on the device: numbers sent by the host could not be part of a recorded step.
    weights = torch.stack([torch.full((), weight, device=images.device, dtype=torch.float32) for weight in _LUMA])
    return torch.einsum("bchw,c->bhw", images.float(), weights).unsqueeze(1)


def _autocontrast(images: Tensor, _level: Tensor) -> Tensor:
    low, high = images.amin(dim=(2, 3), keepdim=True).float(), images.amax(dim=(2, 3), keepdim=True).float()
    stretched = (images.float() - low) * (255 / (high - low).clamp_min(1))
    return torch.where(high > low, stretched.clamp_(0, 255).to(torch.uint8), images)


def _equalize(images: Tensor, _level: Tensor) -> Tensor:
    batch, channels = images.shape[:2]
    pixels = images.reshape(batch * channels, -1).long()
    histogram = torch.zeros(len(pixels), 256, dtype=torch.int64, device=images.device)
    histogram.scatter_add_(1, pixels, torch.ones_like(pixels))
    # Pixels of the brightest value present do not count towards the step.
    step = (pixels.shape[1] - histogram.gather(1, pixels.amax(dim=1, keepdim=True))) // 255
    safe = step.clamp_min(1)
    table = (histogram.cumsum(dim=1) - histogram + safe // 2) // safe
    mapped = table.clamp_(0, 255).gather(1, pixels)
    return torch.where(step > 0, mapped, pixels).to(torch.uint8).reshape(images.shape)


def _posterize(images: Tensor, level: Tensor) -> Tensor:
    bits = (level * 4).long().clamp_max(3)  # 0 … 3 highest bits stay
    return images & _per_image((256 - 2 ** (8 - bits)).to(torch.uint8))


def _solarize(images: Tensor, level: Tensor) -> Tensor:
    threshold = (level * 256).long().clamp_max(255).to(torch.uint8)
    return torch.where(images < _per_image(threshold), images, 255 - images)


def _solarize_add(images: Tensor, level: Tensor) -> Tensor:
    addition = (level * 110).to(torch.int16)
    brighter = (images.to(torch.int16) + _per_image(addition)).clamp_max(255).to(torch.uint8)
    return torch.where(images < 128, brighter, images)


def _color(images: Tensor, level: Tensor) -> Tensor:
    return _blend(_grey(images), images, _enhancement(level))


def _contrast(images: Tensor, level: Tensor) -> Tensor:
    middle = _grey(images).mean(dim=(1, 2, 3), keepdim=True).add_(0.5).floor_()
    return _blend(middle, images, _enhancement(level))


def _brightness(images: Tensor, level: Tensor) -> Tensor:
    return _blend(torch.zeros((), device=images.device, dtype=torch.uint8), images, _enhancement(level))


def _invert(images: Tensor, _level: Tensor) -> Tensor:
    return 255 - images


def _sharpness(images: Tensor, level: Tensor) -> Tensor:
    if min(images.shape[2:]) < 3:  # nothing but border, which is never smoothed
        return images
    values = images.float()
    smooth = (functional.avg_pool2d(values, 3, stride=1) * 9 + values[:, :, 1:-1, 1:-1] * 4) / 13
    degenerate = values.clone()
    degenerate[:, :, 1:-1, 1:-1] = smooth.add_(1e-4).floor_()  # the sum of whole numbers over 13, cut down
    return _blend(degenerate, images, _enhancement(level))


_COLOUR: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "autocontrast": _autocontrast,
    "equalize": _equalize,
    "posterize": _posterize,
    "solarize": _solarize,
    "color": _color,
    "contrast": _contrast,
    "brightness": _brightness,
    "invert": _invert,
    "sharpness": _sharpness,
    "solarize_add": _solarize_add,
}


def _moved(images: Tensor, amount: Tensor, which: Tensor | None = None) -> Tensor:
    """The five geometric operations in one gather, nearest pixel, grey from outside.

    Args:
        images: uint8 batch.
        amount: signed magnitudes in [-1, 1].
        which: position in `_GEOMETRIC` of every image; None for equal blocks in their order.
    """
    batch, _, height, width = images.shape
    device = images.device
    if which is None:
        which = torch.arange(len(_GEOMETRIC), device=device).repeat_interleave(
            batch // len(_GEOMETRIC), output_size=batch
        )
    angle = amount * (which == 0) * (math.pi / 6)
    shear_x, shear_y = amount * (which == 1) * 0.3, amount * (which == 2) * 0.3
    shift_x, shift_y = amount * (which == 3) * (10 / 32 * width), amount * (which == 4) * (10 / 32 * height)
    row = torch.arange(height, device=device, dtype=torch.float32)[None, :, None]
    column = torch.arange(width, device=device, dtype=torch.float32)[None, None, :]
    middle_y, middle_x = (height - 1) / 2, (width - 1) / 2

    def each(values: Tensor) -> Tensor:
        return values[:, None, None]

    cosine, sine = each(angle.cos()), each(angle.sin())
    y, x = row - middle_y, column - middle_x
    source_x = cosine * x - sine * y + middle_x + each(shear_x) * row + each(shift_x)
    source_y = sine * x + cosine * y + middle_y + each(shear_y) * column + each(shift_y)
    rows, columns = source_y.round().long(), source_x.round().long()
    outside = (rows < 0) | (rows >= height) | (columns < 0) | (columns >= width)
    found = _gather(images, rows.clamp_(0, height - 1), columns.clamp_(0, width - 1))
    return found.masked_fill_(outside[:, None], _FILL)


def _gather(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Pixels at given rows and columns of each image, both broadcast to `(batch, height, width)`."""
    batch, channels, height, width = images.shape
    flat = images.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    start = torch.arange(batch, device=images.device)[:, None, None] * (height * width)
    index = (start + rows * width + columns).flatten()
    return flat.index_select(0, index).reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def _reflected(positions: Tensor, length: int) -> Tensor:
    """Positions outside 0 … length - 1, mirrored at the outermost pixel, which is not repeated."""
    return (length - 1) - ((length - 1) - positions.abs()).abs()


def _check_images(images: Tensor) -> None:
    if images.ndim != 4:
        raise ValueError(f"`images` must have shape (batch, channels, height, width), got {tuple(images.shape)}.")
