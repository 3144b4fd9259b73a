"""Nouns → plain dicts: the one JSON shape of command line, HTTP and reports."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from ivsearch.domain import (
    Absence,
    Answer,
    Citation,
    Contribution,
    Copy,
    Explanation,
    Filters,
    Hit,
    Hits,
    Ingested,
    Media,
    Moment,
    Query,
    Region,
    Removed,
    Sentence,
    Skipped,
    Space,
    Term,
    TextRead,
    TextRemoved,
    Then,
)

# Enough for a frame of a 1000 fps video and for a score; floats as they come would fill a screen.
TIME_DIGITS = 3
SCORE_DIGITS = 4


def space(noun: Space) -> dict[str, Any]:
    return {"encoder": noun.encoder, "revision": noun.revision, "dim": noun.dim}


def moment(noun: Moment) -> dict[str, Any]:
    return {
        "start_s": round(noun.start_s, TIME_DIGITS),
        "end_s": round(noun.end_s, TIME_DIGITS),
        "score": round(noun.score, SCORE_DIGITS),
    }


def hit(noun: Hit) -> dict[str, Any]:
    """``likely`` only where it can be told, ``copies`` only where there are any, ``retrieval_score`` only where the hit
    was ranked again, ``steps`` only of a sequence, ``contributions`` only where words were looked at, too."""
    again = {} if noun.retrieval_score is None else {"retrieval_score": round(noun.retrieval_score, SCORE_DIGITS)}
    return {
        "rank": noun.rank,
        "score": round(noun.score, SCORE_DIGITS),
        **again,
        **({} if noun.likely is None else {"likely": round(noun.likely, SCORE_DIGITS)}),
        "path": str(noun.path),
        "media_id": noun.media_id,
        "kind": noun.kind.value,
        "clip_id": noun.clip_id,
        "start_s": round(noun.start_s, TIME_DIGITS),
        "end_s": round(noun.end_s, TIME_DIGITS),
        "moment": moment(noun.moment),
        **({"steps": [moment(each) for each in noun.steps]} if noun.steps else {}),
        **({"copies": [copy(each) for each in noun.copies]} if noun.copies else {}),
        **({} if noun.explanation is None else {"explanation": explanation(noun.explanation)}),
        **({"contributions": [contribution(each) for each in noun.contributions]} if noun.contributions else {}),
    }


def explanation(noun: Explanation) -> dict[str, Any]:
    """``curve``: the presentation time in seconds and the score of every embedded frame of the file."""
    return {
        "words": list(noun.words),
        "taken_off": round(noun.taken_off, SCORE_DIGITS),
        "percentile": None if noun.percentile is None else round(noun.percentile, 1),
        "curve": {
            "times_s": [round(time_s, TIME_DIGITS) for time_s in noun.times_s],
            "scores": [round(score, SCORE_DIGITS) for score in noun.scores],
        },
    }


def absence(noun: Absence) -> dict[str, Any]:
    """Why a file is not among the hits; what could not be told is null."""
    return {
        "path": str(noun.path),
        "reason": noun.reason,
        "rank": noun.rank,
        "score": None if noun.score is None else round(noun.score, SCORE_DIGITS),
        "likely": None if noun.likely is None else round(noun.likely, SCORE_DIGITS),
        "moment": None if noun.moment is None else moment(noun.moment),
        "last_score": None if noun.last_score is None else round(noun.last_score, SCORE_DIGITS),
    }


def copy(noun: Copy) -> dict[str, Any]:
    return {
        "path": str(noun.path),
        "media_id": noun.media_id,
        "start_s": round(noun.start_s, TIME_DIGITS),
        "end_s": round(noun.end_s, TIME_DIGITS),
    }


def contribution(noun: Contribution) -> dict[str, Any]:
    """``text`` only where words were found."""
    return {
        "modality": noun.modality.value,
        "rank": noun.rank,
        "score": round(noun.score, SCORE_DIGITS),
        "share": round(noun.share, SCORE_DIGITS),
        **({"text": noun.text} if noun.text else {}),
    }


def query(noun: Query) -> str | dict[str, Any]:
    """A text as it is, anything else by its kind. ``region``, ``then`` and ``after_clip`` only where they are asked."""
    more: dict[str, Any] = {}
    if noun.region is not None:
        more["region"] = region(noun.region)
    if noun.then:
        more["then"] = [then(each) for each in noun.then]
    if noun.after_clip is not None:
        more["after_clip"] = noun.after_clip
    if noun.terms:
        return {"terms": [term(each) for each in noun.terms], **more}
    if noun.text is not None:
        return {"text": noun.text, **more} if more else noun.text
    if noun.image is not None:
        return {"image": str(noun.image), **more}
    return {"clip": noun.clip_id, **more}


def term(noun: Term) -> dict[str, Any]:
    """``weight``, and of the others what is set."""
    table = {
        "text": noun.text,
        "image": None if noun.image is None else str(noun.image),
        "clip": noun.clip_id,
        "weight": noun.weight,
        "region": None if noun.region is None else region(noun.region),
        "start_s": noun.start_s,
        "end_s": noun.end_s,
    }
    return {name: value for name, value in table.items() if value is not None}


def then(noun: Then) -> dict[str, Any]:
    return {"terms": [term(each) for each in noun.terms], "within_s": noun.within_s}


def region(noun: Region) -> dict[str, Any]:
    unit = "pixels" if noun.in_pixels else "shares"
    return {"x": noun.x, "y": noun.y, "width": noun.width, "height": noun.height, "unit": unit}


def filters(noun: Filters) -> dict[str, Any]:
    """Only what is set."""
    table = {
        "path": list(noun.paths) or None,
        "kind": noun.kind and noun.kind.value,
        "min_duration_s": noun.min_duration_s,
        "max_duration_s": noun.max_duration_s,
        "after": _time(noun.after),
        "before": _time(noun.before),
    }
    return {name: value for name, value in table.items() if value is not None}


def hits(noun: Hits) -> dict[str, Any]:
    """``reranker`` only where hits were ranked again."""
    return {
        "query": query(noun.query),
        "filters": filters(noun.query.filters),
        "space": space(noun.space),
        **({} if noun.reranker is None else {"reranker": space(noun.reranker)}),
        "hits": [hit(each) for each in noun.hits],
        "matched": noun.matched,
    }


def citation(noun: Citation) -> dict[str, Any]:
    """``reason`` only where it is not verified."""
    return {
        "label": noun.label,
        "path": str(noun.path),
        "start_s": round(noun.start_s, TIME_DIGITS),
        "end_s": round(noun.end_s, TIME_DIGITS),
        "verified": noun.verified,
        "support": round(noun.support, SCORE_DIGITS),
        **({"reason": noun.reason} if noun.reason else {}),
    }


def sentence(noun: Sentence) -> dict[str, Any]:
    """``reason`` only where it is not supported."""
    return {
        "text": noun.text,
        "labels": list(noun.labels),
        "verdict": noun.verdict.value,
        **({"reason": noun.reason} if noun.reason else {}),
    }


def answer(noun: Answer) -> dict[str, Any]:
    """``error`` only where the chat model's reply broke off."""
    return {
        "question": noun.question,
        "answer": noun.text,
        "citations": [citation(each) for each in noun.cited],
        "sentences": [sentence(each) for each in noun.sentences],
        "searched": noun.searched,
        "grounded": noun.grounded,
        "matched": noun.matched,
        "composed": noun.composed,
        "chat": noun.chat,
        **({"error": noun.error} if noun.error else {}),
    }


def media(noun: Media) -> dict[str, Any]:
    return {
        "media_id": noun.media_id,
        "kind": noun.kind.value,
        "duration_s": round(noun.duration_s, TIME_DIGITS),
        "width": noun.width,
        "height": noun.height,
        "codec": noun.codec,
        "fps": noun.fps,
        "size_bytes": noun.size_bytes,
        "recorded_at": _time(noun.recorded_at),
        "warnings": list(noun.warnings),
    }


def ingested(noun: Ingested) -> dict[str, Any]:
    return {
        "path": str(noun.path),
        "status": noun.outcome.value,
        "samples": noun.n_samples,
        "frames": noun.n_frames,
        "clips": noun.n_clips,
        **media(noun.media),
    }


def skipped(noun: Skipped) -> dict[str, Any]:
    return {"path": str(noun.path), "status": "skipped", "reason": noun.reason}


def removed(noun: Removed) -> dict[str, Any]:
    return {"path": str(noun.path), "status": "removed", "media_id": noun.media_id}


def text_read(noun: TextRead) -> dict[str, Any]:
    return {
        "path": str(noun.path),
        "status": "text",
        "media_id": noun.media_id,
        "source": noun.source.value,
        "language": noun.language,
        "lines": noun.n_lines,
        "warnings": list(noun.warnings),
    }


def text_removed(noun: TextRemoved) -> dict[str, Any]:
    source = noun.source.value
    return {"path": str(noun.path), "status": "text removed", "media_id": noun.media_id, "source": source}


def _time(noun: datetime | None) -> str | None:
    return noun.isoformat() if noun else None
