"""Augmentation of whole batches on the device where they live; no per-sample Python, no host synchronisation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lt_lib._checks import check_integer

_CHUNK = 512  # images per step of `channel_statistics`, bounds its memory


def pad_crop_flip(images: Tensor, rng: torch.Generator, *, padding: int = 4) -> Tensor:
    r"""Zero-pad, crop at a random offset and mirror with probability 1/2, each image on its own.

    Image :math:`i` draws a vertical and a horizontal offset, uniform on :math:`\{0,…,2p\}`, and a fair coin for the
    mirror; the crop has the size of the input.

    Args:
        images: batch (batch, channels, height, width) of any dtype. On ``uint8`` the border is black; on images
            that are already normalised it is the mean colour. The published recipes pad before normalising.
        rng: generator on the device of ``images``; three draws advance it.
        padding: :math:`p`, pixels on each side, 0 leaves only the mirror.

    Returns:
        New batch of the same shape, dtype and memory format (``channels_last`` is kept).

    Raises:
        ValueError: ``images`` is not four-dimensional, ``padding`` is negative, or ``rng`` lives elsewhere.

    Example:
        >>> batch = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
        >>> pad_crop_flip(batch, torch.Generator().manual_seed(0)).shape
        torch.Size([2, 3, 32, 32])

    References:
        K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, section 4.2.
    """
    if images.ndim != 4:
        raise ValueError(f"`images` must have shape (batch, channels, height, width), got {tuple(images.shape)}.")
    check_integer(padding, "padding", minimum=0)
    if rng.device.type != images.device.type:
        raise ValueError(f"`rng` must live on the device of `images` ({images.device}), got {rng.device}.")
    batch = len(images)
    offsets = torch.randint(2 * padding + 1, (2, batch), generator=rng, device=images.device)
    mirrored = torch.randint(2, (batch,), generator=rng, device=images.device, dtype=torch.uint8).bool()
    return crop_flip(images, offsets[0], offsets[1], mirrored, padding=padding)


def crop_flip(images: Tensor, top: Tensor, left: Tensor, mirrored: Tensor, *, padding: int) -> Tensor:
    """Crop each zero-padded image at its given offset and mirror the marked ones.

    Args:
        images: batch (batch, channels, height, width).
        top: first row of each crop in the padded image (batch,), 0 … 2·padding.
        left: first column of each crop (batch,), 0 … 2·padding.
        mirrored: which images to mirror left to right (batch,), bool.
        padding: pixels of zeros on each side.

    Returns:
        New batch of the same shape, dtype and memory format.
    """
    channels_last = images.is_contiguous(memory_format=torch.channels_last) and not images.is_contiguous()
    height, width = images.shape[2:]
    # Colours are moved to the end when they are innermost in memory, so that each copied row is one run.
    source = images.permute(0, 2, 3, 1) if channels_last else images
    rows, columns = (1, 2) if channels_last else (2, 3)
    border = (0, 0, padding, padding, padding, padding) if channels_last else (padding,) * 4
    windows = functional.pad(source, border).unfold(rows, height, 1).unfold(columns, width, 1)
    # A window view costs nothing: (batch, [channels], offset, offset, [channels], height, width).
    windows = windows.permute(0, 1, 2, 4, 5, 3) if channels_last else windows.permute(0, 2, 3, 1, 4, 5)
    crops = windows[torch.arange(len(images), device=images.device), top, left]
    crops = torch.where(mirrored[:, None, None, None], crops.flip(columns), crops)
    return crops.permute(0, 3, 1, 2) if channels_last else crops


def normalise(
    images: Tensor, mean: Sequence[float] | np.ndarray | Tensor, std: Sequence[float] | np.ndarray | Tensor
) -> Tensor:
    r"""Map ``uint8`` pixels to :math:`(v/255 - \mathrm{mean}_c)/\mathrm{std}_c` in float32.

    Args:
        images: ``uint8`` batch (batch, channels, height, width).
        mean: per-channel mean (channels,) on the scale 0 … 1, finite. On an accelerator give tensors that live there:
            numbers from the host would be copied, and waited for, in every step.
        std: per-channel standard deviation (channels,) on the scale 0 … 1, positive and finite.

    Returns:
        ``float32`` batch of the same shape, device and memory format.

    Raises:
        ValueError: ``images`` is not a ``uint8`` batch, a statistic has another length than the channels or is not
            finite, or a standard deviation is not positive (of the values on the CPU only: reading those on a device
            would synchronise).

    Example:
        >>> round(normalise(torch.full((1, 1, 1, 1), 255, dtype=torch.uint8), [0.5], [0.25]).item(), 6)
        2.0
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise ValueError(
            "`images` must be uint8 of shape (batch, channels, height, width), "
            f"got {images.dtype} {tuple(images.shape)}."
        )
    channels = images.shape[1]
    centre = _statistic(mean)
    spread = _statistic(std)
    for argument, value in (("mean", centre), ("std", spread)):
        if value.shape != (channels,):
            raise ValueError(f"`{argument}` must have shape ({channels},), got {tuple(value.shape)}.")
    if centre.device.type == "cpu" and not bool(centre.isfinite().all()):
        raise ValueError(f"`mean` must be finite, got {centre.tolist()}.")
    if spread.device.type == "cpu" and not bool(((spread > 0) & spread.isfinite()).all()):
        raise ValueError(f"`std` must be positive and finite, got {spread.tolist()}.")
    slope = (1 / (255 * spread)).to(images.device, torch.float32)
    shift = (-centre / spread).to(images.device, torch.float32)
    return torch.addcmul(shift[:, None, None], images.to(torch.float32), slope[:, None, None])


def _statistic(values: Sequence[float] | np.ndarray | Tensor) -> Tensor:
    # Some accelerators have no float64, so only host numbers are widened.
    on_device = isinstance(values, Tensor) and values.device.type != "cpu"
    return torch.as_tensor(values) if on_device else torch.as_tensor(values, dtype=torch.float64)


def channel_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and population standard deviation of each channel on the scale 0 … 1.

    Args:
        images: ``uint8`` images (samples, height, width, channels), at least one.

    Returns:
        ``mean`` and ``std``, float64 (channels,). A constant channel has standard deviation 0.

    Raises:
        ValueError: ``images`` is not ``uint8`` with four axes, or is empty.

    Example:
        >>> channel_statistics(np.array([0, 255], dtype=np.uint8).reshape(2, 1, 1, 1))
        (array([0.5]), array([0.5]))
    """
    if images.dtype != np.uint8 or images.ndim != 4 or images.size == 0:
        raise ValueError(
            "`images` must be non-empty uint8 of shape (samples, height, width, channels), "
            f"got {images.dtype} {images.shape}."
        )
    levels = np.arange(256) / 255
    statistics = []
    for channel in range(images.shape[-1]):
        # A histogram loses nothing of uint8 data and needs one pass; chunks bound the memory of `bincount`.
        parts = (images[start : start + _CHUNK, ..., channel].ravel() for start in range(0, len(images), _CHUNK))
        share = sum(np.bincount(part, minlength=256) for part in parts) / (images.size / images.shape[-1])
        mean = share @ levels
        statistics.append((mean, np.sqrt(share @ (levels - mean) ** 2)))
    means, deviations = np.array(statistics).T
    return means, deviations
