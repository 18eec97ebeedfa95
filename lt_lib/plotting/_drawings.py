"""Whether two SVG drawings are the same but for rounding, which another processor does differently."""

import base64
import io
import re

import numpy as np

_NAMES = re.compile(r'(?<=\bid=")[^"]+|(?<=url\(#)[^)]+|(?<=href="#)[^"]+')
_RASTER = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)")
# Where something is: all that may differ. Words, colours, widths of lines and factors are none of it.
_PLACES = re.compile(r'(?<=\s)(?:d|x|y|width|height)="[^"]*"|(?:translate|rotate)\([^)]*\)')
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e-?\d+)?")
_SHIFT = 0.01  # points, a hundredth of what print shows
_LEVELS = 3 / 255  # everywhere in a picture within the drawing
_MEAN = 2 / 255  # of a picture of the drawing: a line that rounding moves by a pixel changes few of them


def same_drawing(one: str, other: str) -> bool:
    """Whether two drawings by matplotlib differ in nothing that an eye can see.

    Words with the numbers among them, colours, styles and order must be equal. Coordinates may differ by 0.01 points,
    levels of pictures within by 3 of 255, and names of parts in any way, since matplotlib makes them from unrounded
    numbers.

    Args:
        one: An SVG file's text.
        other: Another's.

    Example:
        >>> same_drawing('<path id="a1" d="M 1.0001 2"/>', '<path id="b2" d="M 1.0000 2"/>')
        True
        >>> same_drawing('<path id="a1" d="M 1.5 2"/>', '<path id="a1" d="M 1 2"/>')
        False
        >>> same_drawing("<text>p = 0.046</text>", "<text>p = 0.054</text>")
        False
    """
    if one == other:
        return True
    rasters = [_RASTER.findall(text) for text in (one, other)]
    words, places = zip(*(_parts(text) for text in (one, other)), strict=True)
    return (
        words[0] == words[1]
        and bool(np.all(np.abs(places[0] - places[1]) <= _SHIFT))
        and all(_same_picture(*pair) for pair in zip(*rasters, strict=True))
    )


def _parts(text: str) -> tuple[str, np.ndarray]:
    """Everything but coordinates, with parts named by order of appearance; and the coordinates."""
    order: dict[str, str] = {}
    places: list[float] = []

    def without_numbers(match: re.Match[str]) -> str:
        places.extend(float(number) for number in _NUMBER.findall(match[0]))
        return _NUMBER.sub("0", match[0])

    named = _NAMES.sub(lambda match: order.setdefault(match[0], f"part{len(order)}"), _RASTER.sub("picture", text))
    return _PLACES.sub(without_numbers, named), np.array(places)


def same_pixels(one: bytes, other: bytes) -> bool:
    """Whether two PNG files can be read and hold the same picture but for rounding.

    Args:
        one: A PNG file.
        other: Another.
    """
    apart = _apart(one, other)
    return apart is not None and float(apart.mean()) <= _MEAN


def _same_picture(one: str, other: str) -> bool:
    apart = _apart(*(base64.b64decode(text) for text in (one, other)))
    return apart is not None and float(apart.max()) <= _LEVELS


def _apart(one: bytes, other: bytes) -> np.ndarray | None:
    """Differences of the levels of two PNG files, in [0, 1]; None for a damaged file, or for two sizes."""
    import matplotlib.image

    try:
        first, second = (matplotlib.image.imread(io.BytesIO(content), format="png") for content in (one, other))
    except (OSError, SyntaxError, ValueError):  # what a damaged file raises
        return None
    return np.abs(first - second) if first.shape == second.shape else None
