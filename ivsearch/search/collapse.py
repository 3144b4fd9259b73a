"""collapse: from the spans found in each Media to the hits that are shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ivsearch.domain import MediaId
from ivsearch.search.duplicates import Copies, fold
from ivsearch.search.refine import FoundSpan


def collapse(
    spans: Mapping[MediaId, Sequence[FoundSpan]], k: int, per_media: int | None
) -> list[tuple[MediaId, FoundSpan]]:
    """The k best spans, best first, at most ``per_media`` of one Media."""
    return ranked(spans, k, per_media)[:k]


def distinct(
    spans: Mapping[MediaId, Sequence[FoundSpan]], k: int, per_media: int | None, copies: Copies | None
) -> list[tuple[MediaId, FoundSpan]]:
    """All spans that may be shown when k are, best first, none a copy of a better one. As many of each Media are taken
    as it needs for k to be left."""
    counts = [len(of_media) for of_media in spans.values()]
    limit = per_media or smallest_limit(counts, k)
    while True:
        listed = ranked(spans, k, limit)
        left = fold(listed, copies)
        if len(left) >= k or per_media is not None or limit >= max(counts, default=0):
            return left
        limit = max(limit + 1, smallest_limit(counts, k + len(listed) - len(left)))


def ranked(
    spans: Mapping[MediaId, Sequence[FoundSpan]], k: int, per_media: int | None
) -> list[tuple[MediaId, FoundSpan]]:
    """All spans that may be shown when k are, best first, at most ``per_media`` of one Media.

    With None that limit is as small as it can be while k spans are still shown: one a Media in a big library, more
    when only a few Media are searched.
    """
    limit = per_media or smallest_limit([len(of_media) for of_media in spans.values()], k)
    shown = [(media_id, span) for media_id, of_media in spans.items() for span in of_media[:limit]]
    shown.sort(key=lambda each: (-each[1].score, each[0], each[1].start_s))
    return shown


def smallest_limit(counts: Sequence[int], k: int) -> int:
    """How many of each Media to show at most, so that k are shown; ``counts`` says how many each has."""
    limit, longest = 1, max(counts, default=1)
    while limit < longest and sum(min(limit, count) for count in counts) < k:
        limit += 1
    return limit
