"""Batches of images decoded on the fly, shared out among processes, the same for every number of workers.

The loader is PyTorch's `DataLoader` with worker processes, each decoding whole batches with Pillow: both are
maintained, both are installed already, and they run on every platform. Pillow decodes with libjpeg-turbo, and its
`draft` lets the decoder leave out the frequencies that a crop of 224 pixels cannot show: measured on an 800×600
photograph, about half the time of decoding in full, and no more than the tensor decoder of torchvision, which is
deprecated. What is left is to give every GPU enough workers. The alternatives were looked at and left: NVIDIA DALI
decodes on the GPU, but brings its own random numbers, its own batches and a build per CUDA version; FFCV has had no
release since 2023.
"""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lt_lib._checks import check_integer, check_known
from lt_lib.data._decoding import as_rgb, opened_image
from lt_lib.data.image_files import ImageFiles

CROPS = ("area", "shorter_side", "centre")
_AREAS = (0.08, 1.0)
_ASPECTS = (3 / 4, 4 / 3)
_TRIES = 10


class Box(NamedTuple):
    """Part of an image in pixels, which need not be whole: left and upper edge, width and height."""

    left: float
    top: float
    width: float
    height: float


class ImageStream:
    r"""Epochs of image batches, a share of every batch for each process.

    An epoch is cut into :math:`\lceil n/B\rceil` batches whose sizes differ by at most one, so that no step sees a
    handful of images at the full learning rate. Process :math:`r` of :math:`P` gets the samples at positions
    :math:`r, r+P, \dots` of every batch: the shares are disjoint, and together they are the epoch.

    The order depends on ``seed`` and epoch, the crop of an image on ``seed``, epoch and image. Nothing depends on the
    number of workers or processes, and any epoch can be had without those before it.

    Args:
        files: images and classes.
        size: side of the square that the model sees, in pixels.
        crop: ``"area"``: a random part with 8 to 100 % of the area and an aspect ratio of 3/4 to 4/3, resized;
            ``"shorter_side"``: a random square from the image resized so that its shorter side is 8/7 of ``size``, 256
            for 224; both mirrored at random, in random order. ``"centre"``: the middle of that resized image, in the
            order of the files.
        batch_size: samples per step over all processes.
        seed: of order and crops.
        rank: number of this process.
        processes: how many share the batches.
        workers: processes that decode for this one; 0 decodes here.
        pinned: page-locked batches, which a GPU copies while it computes.

    Raises:
        ValueError: an unknown crop, a number out of range, or batches too small for the processes.

    References:
        The crops are those of Cui et al. 2019 ("area", from Szegedy et al. 2015) and Cao et al. 2019 ("shorter_side",
        as He et al. 2016 without scale jitter). Their evaluation crops 224 of 256 and 320 of 366, here ``size`` of
        ``size + round(size / 7)``.
    """

    def __init__(
        self,
        files: ImageFiles,
        *,
        size: int,
        crop: str,
        batch_size: int,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        workers: int = 0,
        pinned: bool = False,
    ) -> None:
        check_known(crop, "crop", CROPS)
        check_integer(size, "size", minimum=1)
        check_integer(batch_size, "batch_size", minimum=1)
        check_integer(processes, "processes", minimum=1)
        check_integer(rank, "rank", minimum=0, maximum=processes - 1)
        check_integer(workers, "workers", minimum=0)
        self.files, self.seed, self.rank, self.processes = files, seed, rank, processes
        self.steps = -(-len(files) // batch_size)
        self.shuffled = crop != "centre"
        smallest = len(files) // self.steps
        if self.shuffled and smallest < processes:
            raise ValueError(
                f"`batch_size` must leave a sample of every batch for each of {processes} processes, "
                f"got {batch_size} with {len(files)} images."
            )
        self._plan: list[Tensor] = []
        self._epoch = 0
        self._size = size
        settings: dict[str, Any] = {}
        if workers:
            # Forking a process that has threads, as one with a GPU does, can lock it up; a server started early cannot.
            known = multiprocessing.get_all_start_methods()
            method = "forkserver" if "forkserver" in known else "spawn"
            settings = {"multiprocessing_context": method, "persistent_workers": True, "prefetch_factor": 4}
        self._loader: DataLoader[Any] = DataLoader(
            _Decoder(files, size, crop, seed),
            batch_sampler=_Shares(self),
            collate_fn=_unchanged,
            num_workers=workers,
            pin_memory=pinned,
            **settings,
        )

    def batches(self, epoch: int) -> list[Tensor]:
        """Sample indices of all batches of an epoch, the same in every process."""
        order = np.arange(len(self.files))
        if self.shuffled:
            order = np.random.default_rng((self.seed, epoch)).permutation(len(self.files))
        return [torch.from_numpy(part) for part in np.array_split(order, self.steps)]

    def epoch(self, epoch: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Go through one epoch.

        Args:
            epoch: its number, from 0.

        Yields:
            ``images``, uint8 (share, 3, size, size), stored with the colours innermost; ``share``, the indices of their
            samples; ``batch``, the indices of the whole batch.

        Raises:
            ValueError: an image is missing or damaged; the message names it.
        """
        self._epoch = epoch
        self._plan = self.batches(epoch)
        for images, batch in zip(self._loader, self._plan, strict=True):
            yield images.permute(0, 3, 1, 2), batch[self.rank :: self.processes], batch


class _Shares:
    """What the loader asks for: the process's samples of each batch, each with the epoch it is drawn for."""

    def __init__(self, stream: ImageStream) -> None:
        self.stream = stream

    def __len__(self) -> int:
        return self.stream.steps

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        stream = self.stream
        for batch in stream._plan:
            yield [(stream._epoch, index) for index in batch[stream.rank :: stream.processes].tolist()]


class _Decoder(Dataset):
    """Lives in the workers: samples of one share in, their images out as one array."""

    def __init__(self, files: ImageFiles, size: int, crop: str, seed: int) -> None:
        self.folder, self.files = str(files.folder), files.files
        self.size, self.crop, self.seed = size, crop, seed

    def __getitems__(self, samples: list[tuple[int, int]]) -> Tensor:
        images = np.empty((len(samples), self.size, self.size, 3), dtype=np.uint8)
        for position, (epoch, index) in enumerate(samples):
            rng = np.random.default_rng((self.seed, epoch, index))
            images[position] = view(f"{self.folder}/{self.files[index]}", self.size, self.crop, rng)
        return torch.from_numpy(images)


def _unchanged(batch: Any) -> Any:
    return batch


def view(file: str, size: int, crop: str, rng: np.random.Generator) -> np.ndarray:
    """Decode one image and return the part of it that the model sees.

    Args:
        file: any image that Pillow reads; grey, palette, transparent and CMYK images become RGB, 16-bit grey by its
            upper byte.
        size: side of the result in pixels.
        crop: one of ``CROPS``.
        rng: source of crop and mirror; not used for ``"centre"``.

    Returns:
        ``uint8`` (size, size, 3), bilinear with the support widened when shrinking.

    Raises:
        ValueError: the file is missing, damaged, not an image, or has 32 bits per pixel; the message names it.
    """
    from PIL.Image import Resampling

    with opened_image(file) as image:
        width, height = image.size
        box = choose_box(width, height, size, crop, rng)
        # A JPEG decodes at 1/2, 1/4 or 1/8 of its size where the box keeps at least `size` pixels.
        image.draft("RGB", (math.ceil(size * width / box.width), math.ceil(size * height / box.height)))
        x, y = image.size[0] / width, image.size[1] / height
        edges = (box.left * x, box.top * y, (box.left + box.width) * x, (box.top + box.height) * y)
        pixels = np.asarray(as_rgb(image).resize((size, size), Resampling.BILINEAR, box=edges))
    mirrored = crop != "centre" and rng.random() < 0.5
    return pixels[:, ::-1] if mirrored else pixels


def choose_box(width: int, height: int, size: int, crop: str, rng: np.random.Generator) -> Box:
    """The part of an image that is cut out and resized to a square.

    Args:
        width: of the image.
        height: of the image.
        size: side of the square that it becomes.
        crop: one of ``CROPS``.
        rng: source of the random crops.

    Returns:
        A box inside the image.
    """
    if crop == "area":
        return _area_box(width, height, rng)
    # Cutting `size` out of an image resized to a shorter side of `size * 8/7` is cutting 7/8 of the shorter side.
    side = min(width, height) * size / (size + round(size / 7))
    x, y = rng.random(2) if crop == "shorter_side" else (0.5, 0.5)
    return Box(x * (width - side), y * (height - side), side, side)


def _area_box(width: int, height: int, rng: np.random.Generator) -> Box:
    for _ in range(_TRIES):
        area = rng.uniform(*_AREAS) * width * height
        aspect = math.exp(rng.uniform(math.log(_ASPECTS[0]), math.log(_ASPECTS[1])))
        across, down = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < across <= width and 0 < down <= height:
            left, top = rng.integers(width - across + 1), rng.integers(height - down + 1)
            return Box(int(left), int(top), across, down)
    # No luck, as with a panorama: the largest allowed part around the middle.
    aspect = min(max(width / height, _ASPECTS[0]), _ASPECTS[1])
    across, down = min(width, round(height * aspect)), min(height, round(width / aspect))
    return Box((width - across) // 2, (height - down) // 2, across, down)
