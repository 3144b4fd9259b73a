"""Before the encoder: is this picture nearly the same as the last one kept?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CELLS = 32

MEAN_CHANGE = 2.0
"""Of 255, mean over all cells and channels. Re-encoding noise averages out to well under 1 in a cell of hundreds of
pixels; a slow pan, a fade or a change of light passes 2 within a second or two."""

CELL_CHANGE = 14.0
"""Of 255, mean over the channels of one cell. A person crossing a 768 × 576 street view covers one or two cells and
changes them by 30 and more; sensor noise and compression flicker in one cell stay under 10."""


class Gate:
    """Keeps a picture when it differs from the last *kept* one, as a whole or in any small place.

    Compared with the last kept picture, not the last seen one, so slow drift adds up and passes in the end.
    Pictures are compared as 32 × 32 cells of mean colour.
    """

    def __init__(self, *, mean_change: float = MEAN_CHANGE, cell_change: float = CELL_CHANGE) -> None:
        self._mean_change = mean_change
        self._cell_change = cell_change
        self._kept: NDArray[np.int16] | None = None

    def keep(self, pixels: NDArray[np.uint8]) -> bool:
        """``pixels`` (height, width, 3) uint8. True for the first picture and for each one that is new."""
        cells = _cells(pixels)
        if self._kept is not None:
            change = np.abs(cells - self._kept)
            if change.mean() < self._mean_change and change.mean(axis=2).max() < self._cell_change:
                return False
        self._kept = cells
        return True


def _cells(pixels: NDArray[np.uint8]) -> NDArray[np.int16]:
    # reducing_gap: first an exact integer box reduction, which is what makes this cheap on large pictures.
    small = Image.fromarray(pixels).resize((CELLS, CELLS), Image.Resampling.BOX, reducing_gap=2.0)
    return np.asarray(small).astype(np.int16)
