"""The Protocol every encoder follows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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

    @property
    def batch_size(self) -> int:
        """How many pictures or texts at once suit it on its device."""
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


@dataclass(frozen=True, slots=True)
class Caption:
    """A text generated about a picture, and the ids of its tokens without padding."""

    text: str
    token_ids: tuple[int, ...]


@runtime_checkable
class Captioner(Encoder, Protocol):
    """An Encoder that can also say what a picture shows."""

    def caption(
        self,
        batch: NDArray[np.float32],
        *,
        prompt: str = "English caption:",
        beams: int = 5,
        min_new_tokens: int = 8,
        max_new_tokens: int = 19,
    ) -> list[Caption]:
        """A preprocessed batch of n pictures → n captions. One beam is greedy decoding."""
        ...


@runtime_checkable
class Shared(Encoder, Protocol):
    """An Encoder whose weights make others too."""

    def sibling(self, name: str) -> Encoder | None:
        """The encoder ``name`` on the same weights, which are not read again; None when they do not make it."""
        ...


@runtime_checkable
class Matcher(Encoder, Protocol):
    """An Encoder that can also judge a picture and a text together."""

    def match(self, batch: NDArray[np.float32], texts: Sequence[str]) -> NDArray[np.float32]:
        """(n,) probabilities that picture i shows what text i says."""
        ...
