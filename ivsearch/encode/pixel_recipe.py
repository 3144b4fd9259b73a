"""How pictures are made ready for a model, as its own files say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivsearch.encode.pixels import Resampling, prepare


@dataclass(frozen=True, slots=True)
class PixelRecipe:
    """The arguments of ``prepare``. Its ``repr`` is part of a Space's revision."""

    way: str
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resampling: Resampling

    def prepare(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        return prepare(pixels, self.way, self.side, self.mean, self.std, self.resampling)
