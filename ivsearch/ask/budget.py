"""An evidence budget in frames and tokens, shared out over the clips by score and diversity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ivsearch.domain import Evidence, MediaKind
from ivsearch.errors import UsageError

# Frames closer together than this show the same. Seconds.
CLOSEST_S = 0.25
# A second span of the same file adds less than a first one of another.
SAME_FILE_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Shot:
    """The frames of one Evidence that are shown: ``times_s`` ascending, within ``[start_s, end_s)``.

    They are the times wanted; what ``media.excerpt`` gives for them is the picture shown then. An image has one time,
    0, as often as frames are wanted of it. ``words``: what is said and written in it.
    """

    label: int
    path: Path
    kind: MediaKind
    start_s: float
    end_s: float
    times_s: tuple[float, ...]
    words: tuple[str, ...] = ()


def affordable(n_frames: int, *, n_tokens: int, tokens_per_frame: float, multiple: int = 1) -> int:
    """How many of ``n_frames`` fit into ``n_tokens``, in whole groups of ``multiple``; 0 when not even one does."""
    fitting = min(n_frames, math.floor(n_tokens / tokens_per_frame))
    return max(fitting - fitting % multiple, 0)


def share(evidence: Sequence[Evidence], *, n_frames: int, multiple: int = 1) -> tuple[Shot, ...]:
    """At most ``n_frames`` frames for all of the Evidence, in groups of ``multiple`` frames of one clip each.

    Every clip gets one group while there are any, the best scored first; the rest goes to the clips by Sainte-Laguë's
    divisors (1, 3, 5 …), in proportion to how well they score and how little of them is shown already. Shots come by
    file, that of the lowest label first, and by time in a file. Raises UsageError when not one group fits.
    """
    if multiple < 1 or n_frames < multiple:
        raise UsageError(f"{n_frames} frames hold no group of {multiple}: allow at least {max(multiple, 1)} frames")
    weights = [_weight(each, evidence) for each in evidence]
    room = [_most(each) for each in evidence]
    groups = [0] * len(evidence)
    for _ in range(n_frames // multiple):
        open_ones = [i for i in range(len(evidence)) if groups[i] * multiple < room[i]]
        if not open_ones:
            break
        # One that has nothing yet comes before all that have something.
        best = max(open_ones, key=lambda i: (groups[i] == 0, weights[i] / (2 * groups[i] + 1), -i))
        groups[best] += 1
    shots = [_shot(each, n * multiple) for each, n in zip(evidence, groups, strict=True) if n]
    first = {shot.path: shot.label for shot in sorted(shots, key=lambda shot: -shot.label)}
    return tuple(sorted(shots, key=lambda shot: (first[shot.path], shot.start_s, shot.label)))


def _weight(each: Evidence, evidence: Sequence[Evidence]) -> float:
    """By its score against the best, squared: half as good gets a quarter. Less for what better clips show already."""
    best = max(other.hit.score for other in evidence)
    relevance = max(each.hit.score / best, 0.05) ** 2 if best > 0 else 1.0
    better = [other for other in evidence if other.label < each.label and other.hit.media_id == each.hit.media_id]
    novelty = SAME_FILE_SHARE if better else 1.0
    length_s = each.end_s - each.start_s
    if length_s > 0:
        shown_s = max((min(each.end_s, o.end_s) - max(each.start_s, o.start_s) for o in better), default=0.0)
        novelty *= 1 - min(max(shown_s, 0.0) / length_s, 0.9)
    return relevance * novelty


def _most(each: Evidence) -> int:
    """Frames that still show something new; an image has one."""
    if each.hit.kind is MediaKind.IMAGE:
        return 1
    return max(1, math.ceil((each.end_s - each.start_s) / CLOSEST_S))


def _shot(each: Evidence, n: int) -> Shot:
    """Its frames at the middles of ``n`` equal parts."""
    length_s = each.end_s - each.start_s
    still = each.hit.kind is MediaKind.IMAGE
    times_s = tuple(0.0 if still else each.start_s + (i + 0.5) * length_s / n for i in range(n))
    return Shot(each.label, each.hit.path, each.hit.kind, each.start_s, each.end_s, times_s, each.words)
