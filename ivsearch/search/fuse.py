"""fuse: hits of pictures and words found in the footage → one ranking, by weighted reciprocal rank.

Cormack, Clarke and Büttcher 2009, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods":
each list gives 1 / (60 + rank). Here a list is a modality (pictures, subtitles, speech, words on screen), what counts
once is a moment, and what words give depends on how much of the query they hold: all that was asked for comes before
pictures, a part of it only moves up what pictures have found too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ivsearch.domain import Contribution, Hit, Hits, Modality, Moment
from ivsearch.search.texts import TextHit


@dataclass(frozen=True, slots=True)
class Fusion:
    """The figures behind these are in benchmarks/LOG.md.

    ``constant``: the 60 of reciprocal rank fusion. Weights are those of a modality; pictures have 1. Words that hold
    at least ``whole_coverage`` of the query and weigh ``whole_rarity`` nats or more have ``whole_weight``, which brings
    them before pictures; the others have ``part_weight``. But where a picture is clearly what was asked for (``likely``
    is at least ``clear_picture``), a word or two may be said of anything: words that weigh less than ``strong_rarity``
    then have ``beside_weight``, which brings them right after it, whatever else their video shows. In a small
    library no word weighs much: there ``strong_words`` counts in words that are in one line alone. With less than
    ``min_coverage`` words are left out.
    """

    constant: float = 60.0
    whole_coverage: float = 0.95
    whole_rarity: float = 4.0
    whole_weight: float = 2.0
    strong_rarity: float = 12.0
    strong_words: float = 2.5
    clear_picture: float = 0.9
    beside_weight: float = 0.99
    part_weight: float = 0.02
    min_coverage: float = 0.7
    picture_depth: int = 50


@dataclass(frozen=True, slots=True)
class _Share:
    """What one modality gives a moment."""

    modality: Modality
    rank: int
    score: float
    points: float
    text: str


def is_whole(text: TextHit, fusion: Fusion) -> bool:
    """Whether the words hold all that was asked for, and not just words that are everywhere."""
    return text.coverage >= fusion.whole_coverage and text.rarity >= min(fusion.whole_rarity, text.rarest)


def _weight(text: TextHit, pictures: Hits, fusion: Fusion) -> float:
    if not is_whole(text, fusion):
        return fusion.part_weight
    clear = max((hit.likely or 0.0 for hit in pictures), default=0.0) >= fusion.clear_picture
    strong = text.rarity >= min(fusion.strong_rarity, fusion.strong_words * text.rarest)
    return fusion.beside_weight if clear and not strong else fusion.whole_weight


def fuse(pictures: Hits, texts: Sequence[TextHit], fusion: Fusion) -> Hits:
    """One ranking of both. Without texts it is that of the pictures, untouched.

    A Hit's score is then its share of the highest score there can be, in (0, 1]; ``contributions`` have the scores that
    each modality gave. ``matched``: something of the pictures stands out, or some words hold all that was asked for.
    """
    if not texts:
        return pictures
    shares: dict[int, list[_Share]] = {}
    hits = list(pictures.hits)
    for at, hit in enumerate(hits):
        points = 1.0 / (fusion.constant + hit.rank)
        shares[at] = [_Share(Modality.PICTURE, hit.rank, hit.score, points, "")]
    for modality, of_modality in _by_modality(texts).items():
        for rank, text in enumerate(of_modality, 1):
            weight = _weight(text, pictures, fusion)
            share = _Share(modality, rank, text.coverage, weight / (fusion.constant + rank), text.text)
            same = _same_moment(hits, text)
            if same is None:
                hits.append(text.hit)
                shares[len(hits) - 1] = [share]
            elif all(each.modality is not modality for each in shares[same]):
                if weight == fusion.beside_weight:
                    seen = sum(each.points for each in shares[same])
                    share = replace(share, points=max(share.points - seen, 0.0))
                shares[same].append(share)
                hits[same] = _with_words(hits[same], text, is_whole(text, fusion))
    best = (1 + fusion.whole_weight * len(Modality)) / (fusion.constant + 1)
    totals = {at: sum(share.points for share in shares[at]) for at in shares}
    order = sorted(shares, key=lambda at: (-totals[at], at))
    fused = [
        replace(
            hits[at],
            rank=rank,
            score=totals[at] / best,
            contributions=tuple(
                Contribution(share.modality, share.rank, share.score, share.points / totals[at], share.text)
                for share in sorted(shares[at], key=lambda share: -share.points)
            ),
        )
        for rank, at in enumerate(order, 1)
    ]
    matched = pictures.matched or any(is_whole(text, fusion) for text in texts)
    return replace(pictures, hits=tuple(fused), matched=matched)


def _by_modality(texts: Sequence[TextHit]) -> Mapping[Modality, list[TextHit]]:
    found: dict[Modality, list[TextHit]] = {}
    for text in texts:
        found.setdefault(text.modality, []).append(text)
    return found


def _same_moment(hits: Sequence[Hit], text: TextHit) -> int | None:
    """The hit whose span the words were said or shown in."""
    for at, hit in enumerate(hits):
        touches = hit.start_s < text.hit.end_s and text.hit.start_s < hit.end_s
        same = (hit.start_s, hit.end_s) == (text.hit.start_s, text.hit.end_s)
        if hit.media_id == text.hit.media_id and (touches or same):
            return at
    return None


def _with_words(hit: Hit, text: TextHit, whole: bool) -> Hit:
    """A hit of pictures in which words were found: they say where, when they hold all that was asked for.

    Its picture may then be as unlikely as it will: that says nothing of the hit."""
    at = (text.hit.start_s, text.hit.end_s)
    span = replace(hit, start_s=min(hit.start_s, text.hit.start_s), end_s=max(hit.end_s, text.hit.end_s))
    return replace(span, moment=Moment(*at, hit.moment.score), likely=None) if whole else span
