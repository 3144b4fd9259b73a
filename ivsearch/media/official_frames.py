"""Path → the frames that the official code of InternVideo2.5 shows its model: by their number, not by their time.

It cuts the numbers of the presented frames into equal segments and takes one out of the middle of each. Which frame
has which number, packets tell without being decoded, in containers and codecs where each is a picture; elsewhere all
is decoded once to count, and once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from ivsearch.domain import Frame
from ivsearch.errors import MediaError, UsageError
from ivsearch.media.container import READ_FAULTS
from ivsearch.media.decode import Video
from ivsearch.media.faults import explain
from ivsearch.media.gops import PlanBroken, can_plan, planned
from ivsearch.media.grid import MAX_FPS, MAX_HOLD_S, Grid
from ivsearch.media.still import ANIMATION_TIME_BASE, Still, is_still
from ivsearch.media.straight import Timed, all_pictures, held
from ivsearch.pictures import MAX_PIXELS, Transparency

FEWEST, MOST, MULTIPLE = 128, 512, 4
FAR = 1 << 62
SLOWEST_FPS = 0.001

ONE_PICTURE_A_PACKET = ("h264", "hevc", "av1", "vp9", "mpeg4", "mjpeg", "prores", "ffv1")
"""Codecs of which, in a container that can be planned, each packet shows a picture. VP8 has packets that show none."""


def official_indices(n_frames: int, k: int) -> list[int]:
    """Which ``k`` of ``n_frames`` frames, ascending; the same one several times when there are fewer.

    Raises UsageError when either is below 1.
    """
    if n_frames < 1 or k < 1:
        raise UsageError(f"cannot take {k} of {n_frames} frames: both must be at least 1")
    segment = (n_frames - 1) / k
    # Python rounds half to even, as numpy does; the sum is cut, not rounded.
    return [int(segment / 2 + round(segment * index)) for index in range(k)]


def official_count(duration_s: float) -> int:
    """How many frames of a video of this length: one a second, in fours, from 128 to 512."""
    return min(MOST, max(FEWEST, MULTIPLE * max(1, int(duration_s // MULTIPLE))))


def official_frames(
    path: Path,
    k: int | None = None,
    *,
    transparency: Transparency = Transparency.DROPPED,
    max_pixels: int = MAX_PIXELS,
) -> OfficialFrames:
    """``k`` frames of a video, animation or photo; None: as many as its duration asks for.

    Raises MediaError in plain words, UsageError for a ``k`` below 1.
    """
    reading = _Reading(path, transparency, max_pixels)
    try:
        shown = reading.count()
    except READ_FAULTS as error:
        raise MediaError(explain(path, error)) from error
    if not shown.pts:
        raise MediaError("no picture can be decoded: damaged, encrypted, or of an unknown kind; copy it again")
    n_frames = len(shown.pts)
    if k is None:
        k = official_count((n_frames - 1) / shown.fps)
    return OfficialFrames(reading, shown, official_indices(n_frames, k))


class OfficialFrames:
    """``official_frames`` makes one. Iterating decodes: Frames in order, the very same one where a number comes twice,
    with their true times. Raises MediaError then, too.

    ``indices``: their numbers among ``n_frames`` presented frames. ``duration_s`` and ``fps``: of the whole video.
    """

    def __init__(self, reading: _Reading, shown: _Shown, indices: list[int]) -> None:
        self._reading, self._shown = reading, shown
        self.indices = indices
        self.n_frames, self.duration_s, self.fps = len(shown.pts), shown.duration_s, shown.fps

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Frame]:
        several = Counter(self.indices)
        try:
            frames = self._reading.frames([self._shown.pts[index] for index in several], self._shown)
            for count, frame in zip(several.values(), frames, strict=True):
                yield from [frame] * count
        except READ_FAULTS as error:
            raise MediaError(explain(self._reading.path, error)) from error


class _Shown:
    """``pts``: of all presented pictures, ascending, in ticks. ``fps``: as the official reader has it."""

    def __init__(self, pts: list[int], durations: Sequence[int], rate: Fraction | None, time_base: Fraction) -> None:
        self.pts, self.time_base = pts, time_base
        clock = Grid(1, time_base)
        if pts:
            clock.start(pts[0])
        for each, duration in zip(pts, durations, strict=True):
            clock.saw(each, duration)
        self.duration_s = clock.end_s
        self.fps = float(rate) if rate else len(pts) / (self.duration_s or 1.0)


class _Wanted:
    """The wanted ticks, as ``gops`` and ``straight`` ask for them: behind number 0, the first presented picture."""

    def __init__(self, pts: Sequence[int], shown: _Shown) -> None:
        self._limits = [shown.pts[0], *pts]
        self._grid = Grid(min(max(len(pts) / (shown.duration_s or 1.0), SLOWEST_FPS), MAX_FPS), shown.time_base)
        self.went_back = self.jumped = False

    @property
    def fps(self) -> Fraction:
        return self._grid.fps

    @property
    def started(self) -> bool:
        return self._grid.started

    @property
    def end_s(self) -> float:
        return self._grid.end_s

    def start(self, pts: int) -> None:
        self._grid.start(pts)

    def limit(self, index: int) -> int:
        return self._limits[index] if index < len(self._limits) else FAR

    def ticks(self, seconds: float) -> int:
        return self._grid.ticks(seconds)

    def saw(self, pts: int, duration: int) -> None:
        self._grid.saw(pts, duration)


class _Reading:
    """One file, opened for every pass over it."""

    def __init__(self, path: Path, transparency: Transparency, max_pixels: int) -> None:
        self.path, self._transparency, self._max_pixels = path, transparency, max_pixels

    def count(self) -> _Shown:
        """All presented pictures."""
        if is_still(self.path):
            with self._still() as still:
                if not still.is_animated:
                    return _Shown([0], [0], None, ANIMATION_TIME_BASE)
                return _Shown(*_listed(still.pictures(), ANIMATION_TIME_BASE), None, ANIMATION_TIME_BASE)
        with self._video() as video:
            listed = _by_packets(video)
            rate, time_base = video.rate, video.time_base
        if listed is None:
            with self._video() as video:
                listed = _listed(all_pictures(video), time_base)
        return _Shown(*listed, rate, time_base)

    def frames(self, pts: Sequence[int], shown: _Shown) -> Iterator[Frame]:
        """The pictures shown at these ticks (ascending, each once). One that cannot be decoded is the one before it."""
        if is_still(self.path):
            yield from self._of_still(pts, shown)
            return
        given = 0
        last: Frame | None = None
        try:
            with self._video() as video:
                if not can_plan(video):
                    raise PlanBroken
                for index, picture in planned(video, _Wanted(pts, shown)):
                    if index and picture.pts != pts[index - 1]:
                        raise PlanBroken
                    if index:
                        last = Frame(_seconds(picture, shown), video.pixels(picture.frame))
                        given = index
                        yield last
        except PlanBroken:
            with self._video() as video:
                for index, picture in held(all_pictures(video), _Wanted(pts, shown)):
                    if index > given:
                        last = Frame(_seconds(picture, shown), video.pixels(picture.frame))
                        given = index
                        yield last
        if last is None:
            raise MediaError("no picture can be decoded: damaged, encrypted, or of an unknown kind; copy it again")
        yield from [last] * (len(pts) - given)

    def _of_still(self, pts: Sequence[int], shown: _Shown) -> Iterator[Frame]:
        with self._still() as still:
            if not still.is_animated:
                yield Frame(0.0, still.pixels())
                return
            for index, picture in held(still.pictures(), _Wanted(pts, shown)):
                if index:
                    yield Frame(_seconds(picture, shown), picture.pixels)

    def _still(self) -> Still:
        return Still(self.path, max_pixels=self._max_pixels, transparency=self._transparency)

    def _video(self) -> Video:
        return Video(self.path, max_pixels=self._max_pixels, transparency=self._transparency)


def _by_packets(video: Video) -> tuple[list[int], list[int]] | None:
    """Ticks and durations of the pictures, ascending, by what packets say; None where only decoding tells."""
    if not can_plan(video) or video.codec not in ONE_PICTURE_A_PACKET:
        return None
    durations: dict[int, int] = {}
    first: int | None = None
    for packet in video.packets():
        if packet.pts is None or (video.format == "avi" and packet.pts != packet.dts):
            return None
        if first is None:
            if not packet.is_keyframe:
                return None
            first = packet.pts
        if packet.is_discard:
            continue
        # Two pictures at one time, and pictures shown before the first key frame, are not what players show.
        if packet.pts in durations or packet.pts < first:
            return None
        durations[packet.pts] = packet.duration or 0
    pts = sorted(durations)
    listed = pts, [durations[each] for each in pts]
    end_s = _Shown(*listed, video.rate, video.time_base).duration_s
    # Of a file that is cut off, the last packet may be torn.
    return None if video.truncated or video.stops_early(end_s) else listed


def _listed(pictures: Iterable[Timed], time_base: Fraction) -> tuple[list[int], list[int]]:
    """Ticks and durations of the pictures that move the clock on, up to a jump of more than a day."""
    pts: list[int] = []
    durations: list[int] = []
    for picture in pictures:
        if pts and picture.pts <= pts[-1]:
            continue
        if pts and (picture.pts - pts[-1]) * time_base > MAX_HOLD_S:
            break
        pts.append(picture.pts)
        durations.append(picture.duration)
    return pts, durations


def _seconds(picture: Timed, shown: _Shown) -> float:
    return float((picture.pts - shown.pts[0]) * shown.time_base)
