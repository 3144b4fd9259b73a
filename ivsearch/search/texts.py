"""Query → words found in the footage, each with the Clip it is in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Clip, Copy, Filters, Hit, Media, MediaId, Modality, Moment, Space, Term
from ivsearch.search.terms import check_terms
from ivsearch.store.catalog import Catalog
from ivsearch.store.matching import fitting_first
from ivsearch.store.text_tokens import query_words
from ivsearch.store.texts import FoundText, Texts

# Text hits of one query, over all modalities: more are never shown, and each costs a look at the catalog.
MOST_TEXTS = 200


@dataclass(frozen=True, slots=True)
class TextHit:
    """Words in the footage that fit a query. ``hit`` spans the line or lines; its rank says nothing yet.

    ``coverage`` in [0, 1] and ``rarity`` in nats: how much of the query the words hold, and how much that says.
    ``rarest``: the rarity of one word that is in a single line of this library.
    """

    hit: Hit
    modality: Modality
    text: str
    coverage: float
    rarity: float
    rarest: float


def find_texts(
    catalog: Catalog,
    space: Space,
    query: str,
    *,
    min_coverage: float,
    filters: Filters,
) -> list[TextHit]:
    """The best first. Media without Clips in the Space are left out, and lines after the end of a video."""
    check_terms([Term(query)])
    texts = Texts(catalog)
    found = texts.find(query_words(query), min_coverage=min_coverage, filters=filters, limit=MOST_TEXTS)
    media_ids = list(dict.fromkeys(each.media_id for each in found))
    media = catalog.media(media_ids)
    paths = catalog.media_paths(media_ids)
    clips: dict[MediaId, list[Clip]] = {}
    for clip in catalog.clips_of(space, media_ids):
        clips.setdefault(clip.media_id, []).append(clip)
    hits = []
    for each in found:
        if each.media_id not in paths or each.media_id not in clips:
            continue
        at = _clip_at(clips[each.media_id], each.fit.line.start_s, each.fit.line.end_s)
        if at is not None:
            hits.append(_text_hit(each, media[each.media_id], fitting_first(paths[each.media_id], filters), at))
    return hits


def _clip_at(clips: Sequence[Clip], start_s: float, end_s: float) -> Clip | None:
    """The Clip that has most of the span; None when the span is not in the video."""

    def shared_s(clip: Clip) -> float:
        return min(clip.end_s, end_s) - max(clip.start_s, start_s)

    best = max(clips, key=shared_s)
    return best if shared_s(best) > 0 or best.start_s == best.end_s else None


def _text_hit(found: FoundText, media: Media, paths: Sequence[Path], clip: Clip) -> TextHit:
    fit = found.fit
    start_s, end_s = fit.line.start_s, min(fit.line.end_s, media.duration_s)
    hit = Hit(
        rank=0,
        score=fit.coverage,
        path=paths[0],
        media_id=found.media_id,
        kind=media.kind,
        clip_id=clip.clip_id,
        start_s=start_s,
        end_s=end_s,
        moment=Moment(start_s, end_s, fit.coverage),
        copies=tuple(Copy(path, found.media_id, start_s, end_s) for path in paths[1:]),
    )
    return TextHit(hit, found.source, fit.line.text, fit.coverage, fit.rarity, found.rarest)
