"""explain: why a hit is where it is, and why a file is not among the hits. Works on stored vectors alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ivsearch.domain import Absence, Explanation, Filters, FrameVectors, Hit, Hits, Modality, Only, Query
from ivsearch.errors import UsageError
from ivsearch.scoring.gallery import Gallery, Sample, unit_mean
from ivsearch.scoring.hubness import Hubness
from ivsearch.scoring.vocabulary import vocabulary, vocabulary_vectors
from ivsearch.search.compose import Composed
from ivsearch.search.search import Search
from ivsearch.search.terms import terms_of
from ivsearch.store.catalog import PathRow

MOST_WORDS = 5
# Standard deviations above what is usual for a word from which on a query or a Moment is about it.
ABOUT = 1.0
# A file that is not found among so many is said to be further down.
DEPTH = 1000


def explain(hits: Hits, search: Search) -> Hits:
    """The same hits, each with its explanation. A sequence is explained by its first step."""
    terms = terms_of(hits.query)
    composed, sample = search.compose(hits.query), search.sample()
    gallery = search.gallery() if all(term.text is not None for term in terms) else None
    explained = []
    for hit in hits.hits:
        frames = search.frames(hit.media_id)
        made = None if frames is None else _explanation(hit, frames, composed, sample, gallery, search)
        explained.append(replace(hit, explanation=made))
    return replace(hits, hits=tuple(explained))


def _explanation(
    hit: Hit, frames: FrameVectors, composed: Composed, sample: Sample | None, gallery: Gallery | None, search: Search
) -> Explanation:
    """Without a ``gallery``: what was asked is not in words, and is not explained in words."""
    off, shared = 0.0, tuple[str, ...]()
    if gallery is not None:
        moment, words = _shown(frames, hit), vocabulary_vectors(search.encoder)
        off = float(Hubness(words, gallery.usual_hub).taken_off(moment[None])[0])
        shared = _in_both(words @ composed.wanted, words @ moment, gallery)
    return Explanation(
        times_s=tuple(frames.pts_s.tolist()),
        scores=tuple(composed.scores(frames.vectors.astype(np.float32)).tolist()),
        words=shared,
        taken_off=off,
        percentile=None if sample is None else _percentile(hit, off, composed, sample, gallery),
    )


def _shown(frames: FrameVectors, hit: Hit) -> NDArray[np.float32]:
    """The unit mean (dim,) of the Moment's frames, in a sequence of its first step's."""
    moment = hit.steps[0] if hit.steps else hit.moment
    first = max(int(np.searchsorted(frames.pts_s, moment.start_s, side="right")) - 1, 0)
    last = max(int(np.searchsorted(frames.pts_s, moment.end_s, side="left")), first + 1)
    return unit_mean(frames.vectors[first:last])


def _in_both(query: NDArray[np.float32], moment: NDArray[np.float32], gallery: Gallery) -> tuple[str, ...]:
    """Words both are about: each counts by the lesser of how far it stands out in either. ``query`` and ``moment``
    (words,): their cosines with the vocabulary."""
    asked = (query - query.mean()) / max(float(query.std()), 1e-6)
    seen = (moment - gallery.usual) / gallery.spread
    both = np.minimum(asked, seen)
    best = np.argsort(-both, kind="stable")[:MOST_WORDS]
    return tuple(vocabulary()[i].english for i in best if both[i] >= ABOUT)


def _percentile(hit: Hit, off: float, composed: Composed, sample: Sample, gallery: Gallery | None) -> float | None:
    """None where no Clip of another Media is there to compare with. ``off``: what hubness takes off its Moment."""
    others = sample.owners != hit.media_id
    if not others.any():
        return None
    scores = composed.scores(sample.clips[others])
    if gallery is not None:
        scores = scores - gallery.usual_hub.taken_off(gallery.hubs[others])
    # A re-ranker's score is a cosine of its own Space.
    score: float | None = hit.score if hit.retrieval_score is None else hit.retrieval_score
    if hit.steps:
        score = hit.steps[0].score - off
    if hit.contributions and hit.retrieval_score is None:
        picture = (each.score for each in hit.contributions if each.modality is Modality.PICTURE)
        score = next(picture, None)
    if score is None:
        return None  # found by its words alone
    return 100 * float((scores < score).mean())


def why_not(
    query: Query,
    path: Path,
    k: int,
    per_media: int | None,
    search: Search,
    find: Callable[[int, int | None], Hits],
    *,
    only: Only | None = None,
) -> Absence:
    """Where a file is for a query, and what keeps it from the first ``k``, of one file ``per_media`` at most. ``path``:
    as in the catalog, absolute; ``find``: (k, hits of one file) → Hits, the search that is asked about, which looked at
    ``only``.

    Raises UsageError for what follows what, and for what is new: there not all files have a rank.
    """
    if query.then or query.after_clip is not None:
        raise UsageError("--why-not explains what matches better: leave it out with --then and --new")
    row = next((row for row in search.catalog.paths_below([path]) if row.path == path), None)
    if row is None:
        return Absence(path, _not_indexed(path, search))
    if search.encoder.space not in search.catalog.spaces() or not search.catalog.encodings(
        search.encoder.space, [row.media_id]
    ):
        return Absence(path, "it has no vectors of this encoder yet: run `ivsearch index`")
    if excluding := _excluding(query.filters, row, search):
        return Absence(path, f"left out by {' and '.join(excluding)}")
    shown = find(k, per_media)
    last = shown[-1].score if len(shown) >= k else None
    for hit in shown:
        found = Absence(path, "", hit.rank, hit.score, hit.likely, hit.moment, last)
        if hit.media_id == row.media_id and hit.path == path:
            return replace(found, reason=f"it is among the hits, at rank {hit.rank}")
        if row.media_id in (hit.media_id, *(copy.media_id for copy in hit.copies)):
            return replace(found, reason=f"it is a copy of {hit.path} and folded into that hit")
    # One hit a file, so that a rank is a rank among files.
    hits = find(DEPTH, 1)
    for hit in hits.hits:
        if row.media_id not in (hit.media_id, *(copy.media_id for copy in hit.copies)):
            continue
        found = Absence(path, "", hit.rank, hit.score, hit.likely, hit.moment, last)
        if search.diverse:
            return replace(found, reason="others match better, or differ more from what comes before them (--diverse)")
        if hit.rank <= k:
            return replace(found, reason="more moments of files that match better take its place (--per-media)")
        files = "1 file matches" if hit.rank == 2 else f"{hit.rank - 1} files match"
        return replace(found, reason=f"{files} better")
    if query.clip_id is not None:
        return Absence(path, "a clip is no answer to its own query, and the file has no other", last_score=last)
    if only is Only.TEXT and len(hits) < DEPTH:
        return Absence(path, "no subtitles, speech or text on screen of it fit the words", last_score=last)
    return Absence(path, f"more than {len(hits)} files match better", last_score=last)


def _not_indexed(path: Path, search: Search) -> str:
    skipped = next((each for each in search.catalog.skipped() if each.path == path), None)
    if skipped is not None:
        return f"it was skipped when indexing: {skipped.reason}"
    if not path.exists():
        return "there is no such file"
    if path.is_dir():
        return "it is a folder: name a file in it"
    return "it is not in the library: run `ivsearch index` on it"


def _excluding(filters: Filters, row: PathRow, search: Search) -> Sequence[str]:
    """The filters that leave the Media out, each by itself."""
    alone = {
        "--path": Filters(paths=filters.paths),
        "--kind": Filters(kind=filters.kind),
        "--min-duration": Filters(min_duration_s=filters.min_duration_s),
        "--max-duration": Filters(max_duration_s=filters.max_duration_s),
        "--after": Filters(after=filters.after),
        "--before": Filters(before=filters.before),
    }
    left_out = []
    for name, one in alone.items():
        matching = search.catalog.matching_media(one)
        if matching is not None and row.media_id not in matching:
            left_out.append(name)
    return left_out
