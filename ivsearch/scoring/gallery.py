"""What a library looks like to its encoder: a sample of its Clips, and how the vocabulary scores on them.

It is the background that makes a score mean something: 0.3 may be much in one Space and little in another.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from ivsearch.encode.encoder import Encoder
from ivsearch.scoring.hubness import Usual, hubness
from ivsearch.scoring.vocabulary import vocabulary_vectors
from ivsearch.store.catalog import Catalog, ClipStamp

if TYPE_CHECKING:
    from ivsearch.store.vector_index import VectorIndex

# Enough for means and quantiles to one percent; reading them takes milliseconds.
SAMPLE = 1000
# How many Clips' worth of doubt a word's mean score starts with. In a library of three Clips the mean of a word is
# mostly those three Clips themselves, and must not be taken for what is usual.
DOUBT = 8
# Of Clips of different Media with a cosine from here on, one is taken for a copy of the other: a proxy or a resized
# photo says nothing of how near pictures of different things are.
COPY = 0.95
# How far above ``apart`` the nearest Clip of another Media is, as a share of the way to 1, before anything is seen of a
# library. Measured with ``mini`` on 131 files without copies.
USUALLY_NEAR = 0.75
# A picture itself, with a cosine of 1, is at least so many times as far above ``apart`` as ``near`` is. Where all
# pictures are alike it could not stand out at all.
ITSELF = 1.3


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Clips evenly drawn: ``clips`` (n, dim) float32 their vectors, ``owners`` (n,) the Media of each, of ``n_clips``
    there are. ``apart``: the mean cosine of Clips of different Media; ``near``: that of the median Clip with the Clip
    of another Media that is nearest to it, the less measured and the more USUALLY_NEAR the fewer Media there are; None
    where there is none. Neither counts copies."""

    clips: NDArray[np.float32]
    owners: NDArray[np.str_]
    n_clips: int
    apart: float
    near: float | None

    @classmethod
    def of(cls, clips: NDArray[np.float32], owners: NDArray[np.str_], n_clips: int) -> Sample:
        alike = clips @ clips.T
        other = (owners[:, None] != owners) & (alike < COPY)
        if not other.any():
            return cls(clips, owners, n_clips, 0.0, None)
        apart = float(alike[other].mean())
        nearest = np.where(other, alike, -np.inf).max(axis=1)
        measured = float(np.median(nearest[np.isfinite(nearest)])) - apart
        n_media = len(np.unique(owners))
        above = (n_media * measured + DOUBT * USUALLY_NEAR * (1 - apart)) / (n_media + DOUBT)
        return cls(clips, owners, n_clips, apart, apart + min(above, (1 - apart) / ITSELF))


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """The background of one library in one Space.

    ``usual`` (words,) float32: the score each word of the vocabulary has on any Clip. ``spread``: how far scores lie
    from what is usual (standard deviation). ``floor``: the mean score of any word on any Clip. ``peak``: the score of
    the word that fits a Clip best, on the median Clip. Neither depends on how many Clips there are. ``hubs`` (n,)
    float32: how near any word is to each Clip of the ``sample``.
    """

    usual: NDArray[np.float32]
    spread: float
    floor: float
    peak: float
    sample: Sample
    hubs: NDArray[np.float32]

    @property
    def clips(self) -> NDArray[np.float32]:
        """The sampled Clips' vectors, (n, dim) float32."""
        return self.sample.clips

    @property
    def n_clips(self) -> int:
        """How many Clips there are in the library."""
        return self.sample.n_clips

    def fit(self, cosine: float, hub: float) -> float:
        """How well a text fits a Clip: 0 as any word fits any Clip, 1 as the best word fits the typical Clip.

        ``hub``: ``hubness`` of the Clip, or what is near to everything would fit everything.
        """
        off = float(self.usual_hub.taken_off(np.array([hub], np.float32))[0])
        return (cosine - off - self.floor) / self.unit

    def standing(self, text: NDArray[np.float32], cosine: float, hub: float) -> float:
        """How far a text's fit with one Clip stands out among its fits with the library's: standard deviations.

        ``text`` (dim,) unit. 0 where there are too few Clips to tell.
        """
        background = self._background(text)
        if len(background) < DOUBT:
            return 0.0
        off = float(self.usual_hub.taken_off(np.array([hub], np.float32))[0])
        return float((cosine - off - background.mean()) / max(float(background.std()), 1e-6))

    def scatter(self, text: NDArray[np.float32]) -> float:
        """The standard deviation of a text's fits with the library's Clips. ``text`` (dim,) unit."""
        return float(self._background(text).std()) / self.unit

    def fits(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        """``fit`` of the text with each sampled Clip: (n,) float32."""
        return (self._background(text) - self.floor) / self.unit

    def _background(self, text: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.clips @ text - self.usual_hub.taken_off(self.hubs)

    @property
    def usual_hub(self) -> Usual:
        return Usual.of(self.hubs)

    @property
    def unit(self) -> float:
        """What separates a fit of 0 from one of 1, as a difference of cosines."""
        return max(self.peak - self.floor, 1e-6)


# Samples and galleries of the libraries that are open, each good until its Clips change.
_SAMPLES: WeakKeyDictionary[VectorIndex, tuple[ClipStamp, Sample]] = WeakKeyDictionary()
_GALLERIES: WeakKeyDictionary[VectorIndex, tuple[Sample, Gallery]] = WeakKeyDictionary()


def sample_of(catalog: Catalog, index: VectorIndex) -> Sample | None:
    """None for a library without Clips, or with none that can be read. No encoder is asked."""
    stamp = catalog.clip_stamp(index.space)
    known = _SAMPLES.get(index)
    if known is not None and known[0] == stamp:
        return known[1]
    ids, clips = index.sample(SAMPLE)
    of = catalog.clips([int(clip_id) for clip_id in ids])
    held = np.array([int(clip_id) in of for clip_id in ids], bool)
    if not held.any():
        return None
    owners = np.array([of[int(clip_id)].media_id for clip_id in ids[held]])
    sample = Sample.of(clips[held], owners, len(index))
    _SAMPLES[index] = (stamp, sample)
    return sample


def gallery_of(catalog: Catalog, index: VectorIndex, encoder: Encoder) -> Gallery | None:
    """As ``sample_of``, with how the vocabulary scores on it. Raises UsageError for an encoder without a text side."""
    sample = sample_of(catalog, index)
    if sample is None:
        return None
    known = _GALLERIES.get(index)
    if known is not None and known[0] is sample:
        return known[1]
    gallery = measure(vocabulary_vectors(encoder) @ sample.clips.T, sample)
    _GALLERIES[index] = (sample, gallery)
    return gallery


def measure(scores: NDArray[np.float32], sample: Sample) -> Gallery:
    """``scores`` (words, n): cosine of every word with every sampled Clip."""
    n_clips = scores.shape[1]
    usual = (scores.sum(axis=1) + DOUBT * scores.mean()) / (n_clips + DOUBT)
    spread = max(float((scores - usual[:, None]).std()), 1e-6)
    peak = float(np.median(scores.max(axis=0)))
    return Gallery(usual.astype(np.float32), spread, float(scores.mean()), peak, sample, hubness(scores))


def unit_mean(vectors: NDArray[np.float16]) -> NDArray[np.float32]:
    """(n, dim) to (dim,) float32 of length 1."""
    mean = vectors.astype(np.float32).mean(axis=0)
    return np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-12), np.float32)
