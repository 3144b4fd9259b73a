"""Spaces and re-encodings → text for a terminal, and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ivsearch import wire
from ivsearch.plain_text import one_line, printable
from ivsearch.render import length, size

if TYPE_CHECKING:
    from ivsearch.spaces import SpaceState
    from ivsearch.store.reencoding_state import ReencodingState

UNREAD_SHOWN = 20


def spaces_text(states: Sequence[SpaceState]) -> str:
    """Some lines a Space, the active one marked with a star."""
    return "\n".join(line for state in states for line in _space_lines(state)) or "no spaces yet: ivsearch index FOLDER"


def _space_lines(state: SpaceState) -> list[str]:
    mark = "*" if state.is_active else " "
    notes = [
        note
        for note, so in (
            ("in use", state.is_active),
            ("used before: `ivsearch spaces back`", state.is_previous),
            (f"dropped only in part: `ivsearch spaces drop {state.key}` ends it", state.is_dropping),
        )
        if so
    ]
    lines = [f"{mark} {state.key}" + (f"  ({'; '.join(notes)})" if notes else "")]
    if state.source:
        weights = f", weights {state.source.weights}" if state.source.weights else ""
        way = f", prepared for {state.source.preprocess}" if state.source.preprocess else ""
        lines.append(f"    encoder   {printable(state.source.name + weights + way)}")
    behind = state.media_total - state.media_encoded
    missing = "" if state.is_dropping or not behind else f", {behind} not in it"
    # Rounded down: 100 % means all.
    percent = int(state.percent * 10) / 10
    lines.append(f"    media     {state.media_encoded} of {state.media_total} ({percent:g} %){missing}")
    lines.append(f"    on disk   vectors {size(state.vector_bytes)}, index {size(state.index_bytes)}")
    return lines


def reencoding_text(job: ReencodingState, now_s: float) -> str:
    """What the latest re-encoding does, or how it ended, and what it could not read."""
    lines = [f"re-encoding to {printable(job.encoder)}: {_stage(job)}{_how_far(job)}"]
    if job.is_running:
        lines.append(f"    process {job.pid}, last heard of {length(max(0.0, now_s - job.updated_s))} ago")
    lines += [f"    not read: {printable(each.path)}: {one_line(each.reason)}" for each in job.unread[:UNREAD_SHOWN]]
    if len(job.unread) > UNREAD_SHOWN:
        lines.append(f"    and {len(job.unread) - UNREAD_SHOWN} more: `ivsearch spaces --json` has all of them")
    return "\n".join(lines)


def _stage(job: ReencodingState) -> str:
    again = "the same `ivsearch spaces add` goes on from there"
    return {
        "loading": "loading the encoder",
        "encoding": "under way",
        "waiting": "waiting for another ivsearch, which is writing to the library",
        "indexing": "building the index",
        "done": "done",
        "stopped": f"stopped; {again}",
        "failed": f"failed: {one_line(job.error)}; {again}",
        "killed": f"ended without a word (process {job.pid}: killed, or the power went); {again}",
    }[job.stage.value]


def _how_far(job: ReencodingState) -> str:
    if not job.media_total:
        return ""
    rate = f", {job.frames_per_s:.1f} frames/s" if job.is_running and job.frames_per_s else ""
    left = f", about {length(job.left_s)} left" if job.left_s else ""
    return f", {job.media_done} of {job.media_total} media{rate}{left}"


def space_document(state: SpaceState) -> dict[str, Any]:
    return {
        "key": state.key,
        **(wire.space(state.space) if state.space else {}),
        "name": state.source.name if state.source else None,
        "weights": state.source.weights if state.source else None,
        "preprocess": state.source.preprocess if state.source else None,
        "active": state.is_active,
        "previous": state.is_previous,
        "dropping": state.is_dropping,
        "media_encoded": state.media_encoded,
        "media_total": state.media_total,
        "percent": round(state.percent, 2),
        "vector_bytes": state.vector_bytes,
        "index_bytes": state.index_bytes,
    }


def reencoding_document(job: ReencodingState) -> dict[str, Any]:
    return {
        "pid": job.pid,
        "encoder": job.encoder,
        "space": job.space or None,
        "stage": job.stage.value,
        "running": job.is_running,
        "started_s": round(job.started_s, 1),
        "updated_s": round(job.updated_s, 1),
        "media_done": job.media_done,
        "media_total": job.media_total,
        "frames_done": job.frames_done,
        "frames_total": job.frames_total,
        "frames_per_s": round(job.frames_per_s, 2),
        "left_s": None if job.left_s is None else round(job.left_s, 1),
        "error": job.error or None,
        "unread": [{"path": each.path, "media_id": each.media_id, "reason": each.reason} for each in job.unread],
    }
