"""Pictures → the pixel values a vision model reads, with Pillow, bit for bit as the official pipelines make them.

Three ways to make a picture square (InternVL's evaluation code, clip_benchmark, and its model card use these):

- ``retrieval``: squash the whole picture. Nothing is cut off, so it is the default for search;
- ``clip``: shorter side to the model's size, the middle cut out, as CLIPImageProcessor does;
- ``classification``: the same, with the odd pixel of the cut rounded as torchvision's CenterCrop rounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ivsearch.errors import UsageError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT = "retrieval"
MOST_OBLONG = 64

Resampling = Image.Resampling


def squash(image: Image.Image, side: int, resampling: Resampling = Resampling.BICUBIC) -> Image.Image:
    """The whole picture as a square of ``side`` pixels."""
    return image.resize((side, side), resampling)


def crop(image: Image.Image, side: int, resampling: Resampling = Resampling.BICUBIC) -> Image.Image:
    """The middle square, ``side`` pixels wide; half a pixel too many goes to the top left, as CLIPImageProcessor."""
    resized = _shortest_edge(image, side, resampling)
    return _cut(resized, (resized.width - side) // 2, (resized.height - side) // 2, side)


def crop_rounded(image: Image.Image, side: int, resampling: Resampling = Resampling.BICUBIC) -> Image.Image:
    """The middle square, ``side`` pixels wide; half a pixel is rounded to even, as torchvision's CenterCrop."""
    resized = _shortest_edge(image, side, resampling)
    return _cut(resized, round((resized.width - side) / 2), round((resized.height - side) / 2), side)


WAYS: dict[str, Callable[[Image.Image, int, Resampling], Image.Image]] = {
    "retrieval": squash,
    "clip": crop,
    "classification": crop_rounded,
}


def check_way(name: str | None) -> str:
    """``name``, or the default way when None. Raises UsageError for one that there is not."""
    if name is None:
        return DEFAULT
    if name not in WAYS:
        raise UsageError(f"there is no way {name!r} to prepare pictures; known: {', '.join(WAYS)} (--preprocess)")
    return name


def prepare(
    pixels: Sequence[NDArray[np.uint8]],
    way: str,
    side: int,
    mean: Sequence[float] = IMAGENET_MEAN,
    std: Sequence[float] = IMAGENET_STD,
    resampling: Resampling = Resampling.BICUBIC,
) -> NDArray[np.float32]:
    """Pictures (h, w, 3) uint8 of any sizes → (n, 3, side, side) float32. Resized in uint8, then normalised."""
    batch = np.empty((len(pixels), 3, side, side), np.float32)
    mean_column = np.asarray(mean, np.float32)[:, None, None]
    std_column = np.asarray(std, np.float32)[:, None, None]
    for row, picture in zip(batch, pixels, strict=True):
        square = np.asarray(WAYS[way](Image.fromarray(picture), side, resampling))
        # In this order and in float32: the official code rounds after each of the three steps.
        np.divide(square.transpose(2, 0, 1), np.float32(255), out=row, dtype=np.float32)
        row -= mean_column
        row /= std_column
    return batch


def _shortest_edge(image: Image.Image, side: int, resampling: Resampling) -> Image.Image:
    width, height = image.size
    if max(width, height) > MOST_OBLONG * min(width, height):
        # Only the middle is kept in the end; a line of 1 × 100,000 pixels would take 15 GB on the way there.
        half_width, half_height = MOST_OBLONG * height // 2, MOST_OBLONG * width // 2
        left, top = max(0, width // 2 - half_width), max(0, height // 2 - half_height)
        image = image.crop((left, top, width - left, height - top))
        width, height = image.size
    if width <= height:
        return image.resize((side, int(side * height / width)), resampling)
    return image.resize((int(side * width / height), side), resampling)


def _cut(image: Image.Image, left: int, top: int, side: int) -> Image.Image:
    return image.crop((left, top, left + side, top + side))
