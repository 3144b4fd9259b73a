"""Pixels → a small JPEG to show in lists."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

QUALITY = 80


def thumbnail_jpeg(pixels: NDArray[np.uint8], long_side: int = 320) -> bytes:
    """JPEG bytes of ``pixels`` (height, width, 3) uint8, shrunk to ``long_side`` pixels, never enlarged."""
    image = Image.fromarray(pixels)
    scale = long_side / max(image.size)
    if scale < 1:
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        image = image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()
