"""Whether two SVG drawings are the same but for rounding, which another processor does differently."""

import base64
import io
import re

import numpy as np

_NAMES = re.compile(r'(?<=\bid=")[^"]+|(?<=url\(#)[^)]+|(?<=href="#)[^"]+')
_RASTER = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
# A number stands alone; digits within a word or a colour are part of it.
_NUMBER = re.compile(r"(?<![#\w.-])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.])")
_SHIFT = 0.01  # points, a hundredth of what print shows
_LEVELS = 3 / 255  # everywhere in a picture within the drawing
_MEAN = 2 / 255  # of a picture of the drawing: a line that rounding moves by a pixel changes few of them


def same_drawing(one: str, other: str) -> bool:
    """Whether two drawings by matplotlib differ in nothing that an eye can see.

    Words, colours, styles and order must be equal; numbers may differ by 0.01 points, levels of pictures within by 3 of
    255, and names of parts in any way, since matplotlib makes them from unrounded numbers.

    Args:
        one: An SVG file's text.
        other: Another's.

    Example:
        >>> same_drawing('<path id="a1" d="M 1.0001 2"/>', '<path id="b2" d="M 1.0000 2"/>')
        True
        >>> same_drawing('<path id="a1" d="M 1.5 2"/>', '<path id="a1" d="M 1 2"/>')
        False
    """
    if one == other:
        return True
    rasters = [_RASTER.findall(text) for text in (one, other)]
    words, numbers = zip(*(_parts(text) for text in (one, other)), strict=True)
    return (
        words[0] == words[1]
        and bool(np.all(np.abs(numbers[0] - numbers[1]) <= _SHIFT))
        and all(_same_picture(*pair) for pair in zip(*rasters, strict=True))
    )


def _parts(text: str) -> tuple[list[str], np.ndarray]:
    """Everything but numbers, with parts named by order of appearance; and the numbers."""
    order: dict[str, str] = {}
    named = _NAMES.sub(lambda match: order.setdefault(match[0], f"part{len(order)}_"), _RASTER.sub("picture", text))
    return _NUMBER.split(named), np.array([float(number) for number in _NUMBER.findall(named)])


def same_pixels(one: bytes, other: bytes) -> bool:
    """Whether two PNG files can be read and hold the same picture but for rounding.

    Args:
        one: A PNG file.
        other: Another.
    """
    try:
        first, second = _pixels(one), _pixels(other)
    except (OSError, SyntaxError, ValueError):  # what a damaged file raises
        return False
    return first.shape == second.shape and float(np.abs(first - second).mean()) <= _MEAN


def _same_picture(one: str, other: str) -> bool:
    first, second = (_pixels(base64.b64decode(text)) for text in (one, other))
    return first.shape == second.shape and bool(np.all(np.abs(first - second) <= _LEVELS))


def _pixels(content: bytes) -> np.ndarray:
    import matplotlib.image

    return np.asarray(matplotlib.image.imread(io.BytesIO(content), format="png"))
