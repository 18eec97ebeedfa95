"""How any image file becomes RGB: one rule for the folders decoded at once and for those decoded on the fly."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_SIXTEEN_BITS = "I;16"  # how Pillow's names of 16-bit grey start; the rest is the order of the bytes
_WITHOUT_WHITE = ("I", "F")  # 32 bits: nothing says which number is white


@contextmanager
def opened_image(file: str) -> Iterator[Image]:
    """Open an image file; what is wrong with it, now or while it is decoded, is said with its name.

    Args:
        file: any image that Pillow reads.

    Yields:
        The image, not decoded yet.

    Raises:
        ValueError: the file is missing, damaged, no image, or its pixels have 32 bits.
    """
    import PIL.Image

    try:
        with PIL.Image.open(file) as image:
            mode = image.mode
            if mode not in _WITHOUT_WHITE:
                yield image
                return
    except FileNotFoundError as error:
        raise ValueError(f"Image {file} is not there any more.") from error
    except (OSError, EOFError, SyntaxError, ValueError) as error:
        raise ValueError(f"Image {file} is corrupted or not an image: {error}.") from error
    raise ValueError(f"Image {file} must have 8 or 16 bits per channel, got mode {mode!r}, whose white is unknown.")


def as_rgb(image: Image) -> Image:
    r"""Convert an image to RGB with 8 bits per channel; one that is RGB comes back as it is.

    16-bit grey keeps its upper byte, :math:`\lfloor v / 256 \rfloor`, as Pillow does with 16-bit colours; its own
    conversion would cut every value above 255 to white.

    Args:
        image: grey, palette, transparent, CMYK or RGB, 8 or 16 bits per channel.

    Returns:
        The RGB image.
    """
    import PIL.Image

    if image.mode.startswith(_SIXTEEN_BITS):
        image = PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")
