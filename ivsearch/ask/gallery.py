"""What a library looks like to its encoder: a sample of its Clips, and how the vocabulary scores on them.

It is the background that makes a score mean something: 0.3 may be much in one Space and little in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ivsearch.ask.finder import Finder
from ivsearch.ask.vocabulary import vocabulary_vectors
from ivsearch.domain import Clip, FrameVectors
from ivsearch.errors import LibraryDamaged
from ivsearch.store.catalog import ClipStamp
from ivsearch.store.vector_store import VectorStore

# Enough for means and quantiles to one percent; reading them takes well under a second.
SAMPLE = 1000
# How many Clips' worth of doubt a word's mean score starts with. In a library of three Clips the mean of a word is
# mostly those three Clips themselves, and must not be taken for what is usual.
DOUBT = 8
# Some Clips are near any text (Radovanović et al., "Hubs in Space", JMLR 2010): how near the nearest words are tells
# which. Half of that is taken off a score, as in CSLS (Conneau et al., "Word Translation Without Parallel Data", ICLR
# 2018, section 2.3) with the vocabulary in place of the queries. Figures in benchmarks/LOG.md.
NEAREST = 10
HUB_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """The background of one library in one Space.

    ``usual`` (words,) float32: the score each word of the vocabulary has on any Clip. ``spread``: how far scores lie
    from what is usual (standard deviation). ``floor``: the mean score of any word on any Clip. ``peak``: the score of
    the word that fits a Clip best, on the median Clip. Neither depends on how many Clips there are. ``clips``
    (n, dim) float32 and ``hubs`` (n,) float32: the sampled Clips' vectors, and how near any word is to each, of
    ``n_clips`` there are.
    """

    usual: NDArray[np.float32]
    spread: float
    floor: float
    peak: float
    clips: NDArray[np.float32]
    hubs: NDArray[np.float32]
    n_clips: int

    def fit(self, cosine: float, hub: float) -> float:
        """How well a text fits a Clip: 0 as any word fits any Clip, 1 as the best word fits the typical Clip.

        ``hub``: ``hubness`` of the Clip, or what is near to everything would fit everything.
        """
        nearer = HUB_SHARE * (hub - float(self.hubs.mean()))
        return (cosine - nearer - self.floor) / self.unit

    def standing(self, text: NDArray[np.float32], cosine: float, hub: float) -> float:
        """How far a text's fit with one Clip stands out among its fits with the library's: standard deviations.

        ``text`` (dim,) unit. 0 where there are too few Clips to tell.
        """
        background = self._background(text)
        if len(background) < DOUBT:
            return 0.0
        return float((cosine - HUB_SHARE * hub - background.mean()) / max(float(background.std()), 1e-6))

    def scatter(self, text: NDArray[np.float32]) -> float:
        """The standard deviation of a text's fits with the library's Clips. ``text`` (dim,) unit."""
        return float(self._background(text).std()) / self.unit

    def _background(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.clips @ text - HUB_SHARE * self.hubs

    @property
    def unit(self) -> float:
        """What separates a fit of 0 from one of 1, as a difference of cosines."""
        return max(self.peak - self.floor, 1e-6)


def hubness(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """``scores`` (words, …): cosine of every word with a Clip. The mean of the nearest words: (…) float32."""
    nearest = np.partition(scores, -NEAREST, axis=0)[-NEAREST:]
    return np.asarray(nearest.mean(axis=0), np.float32)


# Galleries of the libraries that are open, each good until its Clips change.
_GALLERIES: WeakKeyDictionary[VectorStore, tuple[ClipStamp, Gallery]] = WeakKeyDictionary()


def gallery_of(finder: Finder) -> Gallery | None:
    """None for a library without Clips, or with none in the sample that can be read."""
    stamp = finder.catalog.clip_stamp(finder.encoder.space)
    known = _GALLERIES.get(finder.vectors)
    if known is not None and known[0] == stamp:
        return known[1]
    ids = finder.catalog.clip_ids(finder.encoder.space)
    clips = _sample_clips(finder, ids)
    if not len(clips):
        return None
    gallery = measure(vocabulary_vectors(finder.encoder) @ clips.T, clips, len(ids))
    _GALLERIES[finder.vectors] = (stamp, gallery)
    return gallery


def measure(scores: NDArray[np.float32], clips: NDArray[np.float32], total: int) -> Gallery:
    """``scores`` (words, n): cosine of every word with every sampled Clip; ``clips`` (n, dim) their vectors, of
    ``total`` there are."""
    n_clips = scores.shape[1]
    usual = (scores.sum(axis=1) + DOUBT * scores.mean()) / (n_clips + DOUBT)
    spread = float((scores - usual[:, None]).std())
    peak = float(np.median(scores.max(axis=0)))
    hubs = hubness(scores)
    return Gallery(usual.astype(np.float32), max(spread, 1e-6), float(scores.mean()), peak, clips, hubs, total)


def _sample_clips(finder: Finder, ids: Sequence[int]) -> NDArray[np.float32]:
    """At most SAMPLE Clips, evenly spaced: (n, dim) float32 unit rows. Damaged Media are left out."""
    space = finder.encoder.space
    chosen = [ids[i] for i in np.linspace(0, len(ids) - 1, min(SAMPLE, len(ids))).astype(int)]
    clips = finder.catalog.clips(chosen).values()
    encodings = finder.catalog.encodings(space, list({clip.media_id for clip in clips}))
    rows = [np.empty((0, space.dim), np.float32)]
    for clip in clips:
        if clip.media_id not in encodings:
            continue
        try:
            frames = finder.vectors.read(encodings[clip.media_id].record)
        except LibraryDamaged:
            # Search reports damaged Media; a background can do without one.
            continue
        rows.append(clip_vector(clip, frames)[None])
    return np.concatenate(rows)


def clip_vector(clip: Clip, frames: FrameVectors) -> NDArray[np.float32]:
    """The mean of the Clip's unit vectors, normalised again: (dim,) float32."""
    return unit_mean(frames.vectors[clip.first_frame : clip.first_frame + clip.n_frames])


def unit_mean(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """(n, dim) to (dim,) float32 of length 1."""
    mean = vectors.astype(np.float32).mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
