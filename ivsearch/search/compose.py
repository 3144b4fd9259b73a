"""compose: the Terms of a Query → one vector that is wanted, and what counts against a Clip.

Scores of a text and of a picture lie on different scales, and so do those of two texts: every Term counts by how far
its score stands out from its own usual score in the library (standard deviations). The sum of what is wanted is again a
product with one vector, so the index can be asked for it. What is not wanted takes off only what stands out: a plain
difference of vectors would also prefer Clips for being unlike it. Measured in benchmarks/LOG.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Term
from ivsearch.encode.encoder import Encoder
from ivsearch.errors import MediaError, UsageError
from ivsearch.media.still import Still
from ivsearch.media.suffixes import VIDEO
from ivsearch.search.region import crop

# Some 500 tokens, as many as any encoder of texts reads; tokenizing ten thousand characters takes many seconds.
LONGEST_TEXT = 2000
# How many standard deviations above its usual score a Term that is not wanted begins to count against a Clip.
STANDS_OUT = 1.5
# With fewer scores than this to compare with, none can stand out so far: a Term counts from its mean score on.
FEW = 8


@dataclass(frozen=True, slots=True, eq=False)
class Composed:
    """``wanted`` (dim,) float32 unit. Of each of n Terms that are not wanted: ``unwanted`` (n, dim) float32 its vector,
    ``limits`` (n,) the cosine from which on it counts, ``slopes`` (n,) how much each unit above it takes off."""

    wanted: NDArray[np.float32]
    unwanted: NDArray[np.float32]
    limits: NDArray[np.float32]
    slopes: NDArray[np.float32]

    @classmethod
    def of(cls, wanted: NDArray[np.float32]) -> Composed:
        """One vector and nothing against it."""
        nothing = np.empty(0, np.float32)
        return cls(wanted, np.empty((0, len(wanted)), np.float32), nothing, nothing)

    def against(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """What is taken off the score of each of ``rows`` (m, dim): (m,), 0 where nothing unwanted stands out."""
        above = np.maximum(rows @ self.unwanted.T - self.limits, 0)
        return np.asarray(above @ self.slopes, np.float32)

    def scores(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """``rows`` (m, dim) unit → (m,): the cosine with what is wanted, less what counts against it."""
        return np.asarray(rows @ self.wanted - self.against(rows), np.float32)


def compose(terms: Sequence[Term], vectors: NDArray[np.float32], background: NDArray[np.float32]) -> Composed:
    """``vectors`` (n, dim): the unit vectors of the n Terms. ``background`` (m, dim): Clips of the library, by which is
    told what score each Term usually has."""
    weights = np.array([term.weight for term in terms], np.float32)
    scores = background @ vectors.T
    spread = scores.std(axis=0) if len(scores) else np.ones(len(terms), np.float32)
    spread = np.where(spread > 1e-6, spread, 1.0)
    usual = scores.mean(axis=0) if len(scores) else np.zeros(len(terms), np.float32)
    shares = weights / spread
    total = (shares[weights > 0, None] * vectors[weights > 0]).sum(axis=0)
    length = max(float(np.linalg.norm(total)), 1e-12)
    limits = usual + (STANDS_OUT * spread if len(background) >= FEW else 0.0)
    against = weights < 0
    return Composed(
        (total / length).astype(np.float32),
        vectors[against],
        limits[against].astype(np.float32),
        (-shares[against] / length).astype(np.float32),
    )


def encode_term(encoder: Encoder, term: Term) -> NDArray[np.float32]:
    """A text or an image file as one unit vector (dim,). Raises MediaError for an image that cannot be read,
    UsageError for a video or a region outside the image."""
    if term.image is None:
        return encoder.encode_texts([(term.text or "").strip()[:LONGEST_TEXT]]).vectors[0]
    if term.image.suffix.lower() in VIDEO:
        raise UsageError(f"{term.image} is a video: search by one of its clips (--clip ID), or by an image")
    # Read as indexing reads it, so that a picture of the library finds itself.
    try:
        with Still(term.image, transparency=encoder.transparency) as still:
            pixels = still.pixels()
    except MediaError as error:
        raise MediaError(f"{term.image}: {error}") from error
    if term.region is not None:
        pixels = crop(pixels, term.region)
    return encoder.encode_images(encoder.preprocess([pixels])).vectors[0]
