"""A picture → the square tiles InternVL's chat models look at (Chen et al., "How Far Are We to GPT-4V?", 2024, section
3.3), and tiles → pixel values, bit for bit as the official code makes them with Pillow."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ivsearch.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MOST_TILES = 1000


def tiles(
    picture: NDArray[np.uint8] | Image.Image,
    *,
    image_size: int,
    max_tiles: int,
    use_thumbnail: bool,
    min_tiles: int = 1,
) -> NDArray[np.uint8]:
    """A picture, (h, w, 3) uint8 or of Pillow, as (n, image_size, image_size, 3) uint8: its tiles row by row, and with
    ``use_thumbnail``, when there are several, the whole picture squashed as the last.

    Raises UsageError for what is no such picture, and for numbers of tiles that make no sense.
    """
    columns, rows = grid(*_size(picture), image_size=image_size, min_tiles=min_tiles, max_tiles=max_tiles)
    image = _rgb(picture) if isinstance(picture, Image.Image) else Image.fromarray(picture)
    # A copy: torch complains of what Pillow lends.
    resized = np.array(image.resize((image_size * columns, image_size * rows), Image.Resampling.BICUBIC))
    cut = resized.reshape(rows, image_size, columns, image_size, 3).swapaxes(1, 2)
    cut = cut.reshape(-1, image_size, image_size, 3)
    if not use_thumbnail or len(cut) == 1:
        return cut
    thumbnail = np.asarray(image.resize((image_size, image_size), Image.Resampling.BICUBIC))
    return np.concatenate([cut, thumbnail[None]])


def count(
    picture: NDArray[np.uint8] | Image.Image,
    *,
    image_size: int,
    max_tiles: int,
    use_thumbnail: bool,
    min_tiles: int = 1,
) -> int:
    """How many ``tiles`` there are of a picture, without cutting it. Raises UsageError as it does."""
    columns, rows = grid(*_size(picture), image_size=image_size, min_tiles=min_tiles, max_tiles=max_tiles)
    return columns * rows + (use_thumbnail and columns * rows > 1)


def grid(width: int, height: int, *, image_size: int, min_tiles: int = 1, max_tiles: int) -> tuple[int, int]:
    """(columns, rows) of the tiles of a picture: of all grids with ``min_tiles`` to ``max_tiles`` tiles the one whose
    shape is nearest to the picture's. Of equally near ones a larger is taken when the picture has more than half its
    pixels. Raises UsageError for numbers of tiles that make no sense."""
    if not isinstance(max_tiles, Integral) or not 1 <= max_tiles <= MOST_TILES:
        raise UsageError(f"max_tiles must be a whole number from 1 to {MOST_TILES}, not {max_tiles}")
    if not 1 <= min_tiles <= max_tiles:
        raise UsageError(f"min_tiles must be from 1 to max_tiles, {max_tiles}, not {min_tiles}")
    candidates = [
        (columns, rows)
        for columns in range(1, max_tiles + 1)
        for rows in range(1, max_tiles // columns + 1)
        if columns * rows >= min_tiles
    ]
    shape, nearest, best = width / height, float("inf"), (1, 1)
    for columns, rows in sorted(candidates, key=lambda each: each[0] * each[1]):
        distance = abs(shape - columns / rows)
        large_enough = width * height > 0.5 * image_size**2 * columns * rows
        if distance < nearest or (distance == nearest and large_enough):
            nearest, best = distance, (columns, rows)
    return best


def to_pixels(tiles: Tensor) -> Tensor:
    """(n, s, s, 3) uint8 → (n, 3, s, s) float32, normalised by ImageNet's mean and deviation, on the tiles' device."""
    pixels = tiles.permute(0, 3, 1, 2).contiguous().float()
    mean, std = (pixels.new_tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    # In this order and in float32: the official code rounds after each of the three steps.
    return pixels.div_(255).sub_(mean).div_(std)


def _size(picture: NDArray[np.uint8] | Image.Image) -> tuple[int, int]:
    """(width, height). Raises UsageError for what is no picture."""
    if isinstance(picture, Image.Image):
        width, height = picture.size
    else:
        if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
            raise UsageError(
                f"a picture must be an array (height, width, 3) of uint8, not {picture.shape} of {picture.dtype}: "
                "convert it to 8-bit RGB"
            )
        height, width, _ = picture.shape
    if not width or not height:
        raise UsageError(f"a picture of {width} x {height} pixels shows nothing: leave it out")
    return width, height


def _rgb(image: Image.Image) -> Image.Image:
    """As the official code: alpha is dropped, and nothing is turned upright."""
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # straight to RGB, Pillow warns of what is wanted here
    try:
        return image.convert("RGB")
    except ValueError as error:
        raise UsageError(f"a picture of mode {image.mode!r} does not turn into RGB: give it in RGB") from error
