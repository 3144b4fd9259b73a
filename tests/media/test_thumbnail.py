from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from ivsearch.media.thumbnail import thumbnail_jpeg


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1080, 1920), (320, 180)),
        ((1920, 1080), (180, 320)),
        ((48, 64), (64, 48)),
        ((64, 12800), (320, 2)),
        ((1, 5000), (320, 1)),
    ],
)
def test_size(shape: tuple[int, int], expected: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(thumbnail_jpeg(np.full((*shape, 3), 200, np.uint8))))
    assert image.format == "JPEG"
    assert image.size == expected


def test_colour_survives() -> None:
    pixels = np.zeros((720, 1280, 3), np.uint8)
    pixels[:] = (200, 40, 90)
    image = Image.open(io.BytesIO(thumbnail_jpeg(pixels, long_side=100)))
    assert np.abs(np.asarray(image).astype(int) - (200, 40, 90)).max() <= 4
