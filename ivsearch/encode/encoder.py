"""The Protocol every encoder follows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Embeddings, Space
from ivsearch.pictures import Transparency


class Encoder(Protocol):
    """Turns pictures and texts into unit vectors of one Space."""

    @property
    def space(self) -> Space: ...

    @property
    def transparency(self) -> Transparency:
        """How transparent pictures must be read for this encoder."""
        ...

    def preprocess(self, pixels: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Pictures (h, w, 3) uint8 of any sizes → one batch for ``encode_images``. CPU only, thread-safe."""
        ...

    def encode_images(self, batch: NDArray[np.float32]) -> Embeddings:
        """A preprocessed batch of n pictures → (n, dim) unit vectors."""
        ...

    def encode_texts(self, texts: Sequence[str]) -> Embeddings:
        """Texts in any language → (n, dim) unit vectors."""
        ...
