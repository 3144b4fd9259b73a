"""gather: Hits → Evidence: labelled spans with what the encoder sees in each. Works on stored vectors alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ivsearch.ask.finder import Finder
from ivsearch.ask.support import SEEING, SEEN
from ivsearch.domain import Concept, Evidence, FrameVectors, Hit
from ivsearch.errors import LibraryDamaged
from ivsearch.scoring.gallery import Gallery, unit_mean
from ivsearch.scoring.hubness import hubness
from ivsearch.scoring.vocabulary import vocabulary, vocabulary_vectors
from ivsearch.store.texts import Texts

MOST_CONCEPTS = 4
# Lines of subtitles, speech and words on screen that go with a clip: half a minute of talk.
MOST_LINES = 20


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One Evidence with what it was made from.

    ``vector`` (dim,) float32: the unit mean of the moment's frames; ``hub``: how near it is to any word. ``kinds``: the
    likeliest word of every kind (animal, sport, …), for questions that ask for one. ``duration_s`` of the Media.
    """

    evidence: Evidence
    vector: NDArray[np.float32]
    hub: float
    kinds: dict[str, Concept]
    duration_s: float


def gather(hits: Sequence[Hit], finder: Finder, gallery: Gallery) -> list[Shown]:
    """In the order of the hits, labelled from 1. Hits whose vectors are damaged are left out."""
    media_ids = list({hit.media_id for hit in hits})
    encodings = finder.catalog.encodings(finder.encoder.space, media_ids)
    media = finder.catalog.media(media_ids)
    words = vocabulary_vectors(finder.encoder)
    texts = Texts(finder.catalog)
    shown: list[Shown] = []
    for hit in hits:
        if hit.media_id not in encodings or hit.media_id not in media:
            continue
        try:
            frames = finder.vectors.read(encodings[hit.media_id].record)
        except LibraryDamaged:
            # The search that found the hit has noted the damage already.
            continue
        vector = moment_vector(hit.moment.start_s, hit.moment.end_s, frames)
        scores = words @ vector
        weights = _weights(scores, gallery)
        label = len(shown) + 1
        start_s, end_s = hit.moment.start_s, hit.moment.end_s
        said = texts.lines(hit.media_id, start_s, end_s, MOST_LINES)
        words_there = tuple(dict.fromkeys(line.text for _, line in said))
        evidence = Evidence(label, hit, start_s, end_s, _concepts(weights), words_there)
        duration_s = media[hit.media_id].duration_s
        shown.append(Shown(evidence, vector, float(hubness(scores)), _kinds(weights), duration_s))
    return shown


def within(shown: Shown, start_s: float, end_s: float, finder: Finder) -> Shown:
    """The part of it in ``[start_s, end_s)``; all of it where its vectors cannot be read any more."""
    evidence = shown.evidence
    start_s = min(max(start_s, evidence.start_s), evidence.end_s)
    end_s = max(min(end_s, evidence.end_s), start_s)
    part = dataclasses.replace(evidence, start_s=start_s, end_s=end_s)
    encoding = finder.catalog.encodings(finder.encoder.space, [evidence.hit.media_id]).get(evidence.hit.media_id)
    if encoding is None:
        return shown
    try:
        vector = moment_vector(start_s, end_s, finder.vectors.read(encoding.record))
    except LibraryDamaged:
        # The search that found it has noted the damage already.
        return shown
    hub = float(hubness(vocabulary_vectors(finder.encoder) @ vector))
    return dataclasses.replace(shown, evidence=part, vector=vector, hub=hub)


def moment_vector(start_s: float, end_s: float, frames: FrameVectors) -> NDArray[np.float32]:
    """The unit mean (dim,) of the frames shown in ``[start_s, end_s)``; the one shown when it begins counts too."""
    first = max(int(np.searchsorted(frames.pts_s, start_s, side="right")) - 1, 0)
    last = max(int(np.searchsorted(frames.pts_s, end_s, side="left")), first + 1)
    return unit_mean(frames.vectors[first:last])


def _weights(scores: NDArray[np.float32], gallery: Gallery) -> NDArray[np.float64]:
    """What is usual for a word is taken off, so that what is particular to the Clip comes first."""
    return np.array([SEEING(float(x)) for x in (scores - gallery.usual) / gallery.spread])


def _concepts(weights: NDArray[np.float64]) -> tuple[Concept, ...]:
    best = np.argsort(-weights, kind="stable")[:MOST_CONCEPTS]
    return tuple(Concept(vocabulary()[i].english, float(weights[i])) for i in best if weights[i] >= SEEN)


def _kinds(weights: NDArray[np.float64]) -> dict[str, Concept]:
    best: dict[str, Concept] = {}
    for i in np.argsort(-weights, kind="stable"):
        word = vocabulary()[i]
        best.setdefault(word.kind, Concept(word.english, float(weights[i])))
    return best
