"""look: a Question → a Finding: what to search for, what was found, and how well it agrees."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from ivsearch.ask.evidence import Shown, gather, moment_vector
from ivsearch.ask.finder import Finder
from ivsearch.ask.question import Question, Step, read_question
from ivsearch.ask.quotes import Quote, quotes
from ivsearch.ask.ranking import rank
from ivsearch.ask.support import CLEAR, FOUND
from ivsearch.domain import Clip, Filters, Hit, MediaKind, Moment, Query, Turn
from ivsearch.errors import LibraryDamaged
from ivsearch.scoring.gallery import Gallery, gallery_of

# How far back a conversation is read.
MOST_TURNS = 8
# How many hits are weighed against each other, however few are shown.
DEPTH = 40
# Spans shown of what comes next or before.
NEIGHBOURS = 3
# A rest of a Clip shorter than this is no scene of its own. Seconds.
REST_S = 1.0


class Gap(StrEnum):
    """Why there is nothing to answer from."""

    EMPTY = "empty"
    FILTERED = "filtered"
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """``query`` is what was asked, with what it leans on; ``support`` goes with ``shown``.

    Best first; but with ``step`` they are what follows (or precedes) a moment in the same video, nearest first, after
    that moment itself if it was found just now (``anchored``). ``at_the_end``: nothing follows (or precedes), and that
    moment is all there is. ``gap`` is set, and nothing shown, when there is nothing to answer from. ``denied``: a chat
    model has looked, and says that none of it shows what was asked for. ``quotes``: where words of it are said or
    written.
    """

    query: str
    gap: Gap | None = None
    step: Step | None = None
    anchored: bool = True
    at_the_end: bool = False
    shown: tuple[Shown, ...] = ()
    support: tuple[float, ...] = ()
    gallery: Gallery | None = None
    denied: bool = False
    quotes: tuple[Quote, ...] = ()

    @property
    def clear(self) -> bool:
        """Whether the footage shows what was asked for, as far as can be told."""
        return self.gap is None and not self.denied and (not self.anchored or self.support[0] >= CLEAR)


def look(question: Question, finder: Finder, k: int, filters: Filters, history: Sequence[Turn]) -> Finding:
    """Searches for the question, with the one before it when it leans on that; steps in time when it asks to. What is
    said and written is looked for in a question that stands by itself."""
    finding = _look(question, finder, k, filters, history)
    if question.step or question.leans or finding.gap is Gap.EMPTY:
        return finding
    return dataclasses.replace(finding, quotes=quotes(question, finder, filters, len(finding.shown) + 1))


def _look(question: Question, finder: Finder, k: int, filters: Filters, history: Sequence[Turn]) -> Finding:
    earlier = [read_question(turn.question) for turn in history[-MOST_TURNS:]]
    query, sought = searched_for(question, earlier)
    gallery = gallery_of(finder.catalog, finder.index, finder.encoder)
    if gallery is None and not finder.catalog.clip_ids(finder.encoder.space):
        return Finding(query, Gap.EMPTY)
    vector = finder.encode(Query(text=sought))
    hits = finder.find(Query(text=sought, filters=filters), max(k, DEPTH), vector=vector).hits
    if gallery is None:
        # All that was sampled is damaged: the search has complained of it, and nothing can be weighed.
        return Finding(query, Gap.NOTHING)
    if not hits:
        return Finding(query, Gap.FILTERED if filters != Filters() else Gap.NOTHING)
    found = gather(hits, finder, gallery)
    if not found:
        return Finding(query, Gap.NOTHING)
    # What passes the filters must stand out against what does not, too.
    others = found
    if filters != Filters():
        others = gather(finder.find(Query(text=sought), DEPTH, vector=vector).hits, finder, gallery)
    likely = rank(found, others, vector, question.kind, gallery, k)
    # Asked of one file by name, the nearest moment in it is an answer, if a poor one; its citation stays unverified.
    one_file = bool(filters.paths) and len({shown.evidence.hit.media_id for shown in found}) == 1
    if likely[0][1] < FOUND and not one_file:
        return Finding(query, Gap.NOTHING)
    if question.step and likely[0][0].evidence.hit.kind is MediaKind.VIDEO:
        anchor, support = likely[0]
        return _step(question, earlier, query, vector, anchor.evidence.hit, support, finder, gallery)
    labelled = tuple(_labelled(shown, label) for label, (shown, _) in enumerate(likely, 1))
    return Finding(query, shown=labelled, support=tuple(support for _, support in likely), gallery=gallery)


def searched_for(question: Question, earlier: Sequence[Question]) -> tuple[str, str]:
    """The question, after the one it leans on; and what of both describes footage, which is what is searched for.

    One that only steps in time has nothing of its own to search for.
    """
    if not question.leans or not earlier:
        return question.text, question.described
    query, sought = searched_for(earlier[-1], earlier[:-1])
    if question.step:
        return query, sought
    return f"{query} {question.text}", f"{sought} {question.described}" if question.content else sought


def _labelled(shown: Shown, label: int) -> Shown:
    return dataclasses.replace(shown, evidence=dataclasses.replace(shown.evidence, label=label))


def _step(
    question: Question,
    earlier: Sequence[Question],
    query: str,
    vector: NDArray[np.float32],
    anchor: Hit,
    anchor_support: float,
    finder: Finder,
    gallery: Gallery,
) -> Finding:
    """From the moment found, as many steps as the conversation has taken in a row."""
    steps = [question]
    while steps[0].leans and len(steps) <= len(earlier) and earlier[-len(steps)].step:
        steps.insert(0, earlier[-len(steps)])
    neighbours: list[Hit] = []
    for step in steps:
        if neighbours:
            anchor = neighbours[-1]
        neighbours = _neighbours(anchor, step.step or Step.AFTER, vector, finder)
    anchored = len(steps) == 1
    shown = gather([anchor, *neighbours] if anchored or not neighbours else neighbours, finder, gallery)
    # Which span comes next is read off the clock: there is nothing to doubt about it.
    support = [1.0] * len(shown)
    if anchored:
        support[0] = anchor_support
    return Finding(
        query,
        step=question.step,
        anchored=anchored,
        at_the_end=not neighbours,
        shown=tuple(shown),
        support=tuple(support),
        gallery=gallery,
    )


def _neighbours(anchor: Hit, step: Step, vector: NDArray[np.float32], finder: Finder) -> list[Hit]:
    """The Clips of the same video right after (or before) the anchor's moment, nearest first."""
    space = finder.encoder.space
    clips = finder.catalog.clips_of(space, [anchor.media_id])
    encoding = finder.catalog.encodings(space, [anchor.media_id])[anchor.media_id]
    try:
        frames = finder.vectors.read(encoding.record)
    except LibraryDamaged:
        # The search has noted the damage already; without vectors there are no scenes to tell apart.
        return []
    found: list[Hit] = []
    for clip, start_s, end_s in _cut_at(clips, anchor.moment, step)[:NEIGHBOURS]:
        score = float(vector @ moment_vector(start_s, end_s, frames))
        found.append(
            Hit(
                rank=len(found) + 1,
                score=score,
                path=anchor.path,
                media_id=anchor.media_id,
                kind=anchor.kind,
                clip_id=clip.clip_id,
                start_s=clip.start_s,
                end_s=clip.end_s,
                moment=Moment(start_s, end_s, score),
            )
        )
    return found


def _cut_at(clips: Sequence[Clip], moment: Moment, step: Step) -> list[tuple[Clip, float, float]]:
    if step is Step.AFTER:
        spans = [(clip, max(clip.start_s, moment.end_s), clip.end_s) for clip in clips]
    else:
        spans = [(clip, clip.start_s, min(clip.end_s, moment.start_s)) for clip in reversed(clips)]
    return [span for span in spans if span[2] - span[1] >= REST_S]
