"""A rectangle of a picture: reading it as it is typed, and cutting it out of the pixels."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Region
from ivsearch.errors import UsageError

HOW = "write x,y,w,h: shares (0.1,0,0.5,1), percentages (10%,0%,50%,100%) or pixels (120,0,640,720)"


def read_region(text: str) -> Region:
    """``0.1,0,0.5,1`` (all at most 1: shares), ``10%,0%,50%,100%`` or ``120,0,640,720`` (pixels) → Region.

    Raises UsageError for anything else.
    """
    parts = [part.strip() for part in text.split(",")]
    per_cent = [part.endswith("%") for part in parts]
    try:
        numbers = [float(part.removesuffix("%")) for part in parts]
    except ValueError:
        raise UsageError(f"{text!r} is not a region: {HOW}") from None
    if len(numbers) != 4 or len(set(per_cent)) != 1 or not all(map(math.isfinite, numbers)):
        raise UsageError(f"{text!r} is not a region: {HOW}")
    if all(per_cent):
        numbers = [number / 100 for number in numbers]
    x, y, width, height = numbers
    if x < 0 or y < 0 or width <= 0 or height <= 0:
        raise UsageError(f"region {text!r} is empty or begins outside the picture: {HOW}")
    return Region(x, y, width, height, in_pixels=not all(per_cent) and max(numbers) > 1)


def crop(pixels: NDArray[np.uint8], region: Region) -> NDArray[np.uint8]:
    """(height, width, 3) → the pixels of the region, to the nearest whole one and at least one each way.

    Raises UsageError when the region reaches beyond the picture.
    """
    height, width = pixels.shape[:2]
    across, down = (1, 1) if region.in_pixels else (width, height)
    left, right = region.x * across, (region.x + region.width) * across
    top, bottom = region.y * down, (region.y + region.height) * down
    # Shares such as 0.9 + 0.1 may come out a hair beyond the edge.
    if right > width + 1e-6 * across or bottom > height + 1e-6 * down:
        raise UsageError(f"the region ends at {right:g}, {bottom:g}, outside the picture of {width} × {height} pixels")
    first, upper = min(round(left), width - 1), min(round(top), height - 1)
    return pixels[upper : max(round(bottom), upper + 1), first : max(round(right), first + 1)]
