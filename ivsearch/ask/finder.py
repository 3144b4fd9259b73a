"""What ``ask`` needs of a search, so that it need not know one. ``search.Search`` fits as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Filters, Hit, Hits, Query
from ivsearch.encode.encoder import Encoder
from ivsearch.store.catalog import Catalog
from ivsearch.store.vector_store import VectorStore

if TYPE_CHECKING:
    from ivsearch.store.vector_index import VectorIndex


class Finder(Protocol):
    """Finds Hits, and lets one read the vectors they were found by."""

    @property
    def catalog(self) -> Catalog: ...

    @property
    def vectors(self) -> VectorStore: ...

    @property
    def index(self) -> VectorIndex: ...

    @property
    def encoder(self) -> Encoder: ...

    def encode(self, query: Query) -> NDArray[np.float32]:
        """A Query as one unit vector (dim,)."""
        ...

    def find(
        self, query: Query, k: int = 10, per_media: int | None = None, vector: NDArray[np.float32] | None = None
    ) -> Hits:
        """The k best hits for a Query, best first. ``vector``: what ``encode`` gave for it."""
        ...

    def find_words(self, text: str, filters: Filters, min_coverage: float) -> list[Hit]:
        """Where words of the text are written or said, best first. Each has one Contribution with those words; its
        score is the share of the text that they hold."""
        ...
