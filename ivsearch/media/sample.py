"""Path → Frames at a rate, by true presentation times: a sample at t is the last picture with pts ≤ t."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ivsearch.domain import Frame, Media, MediaId, MediaKind
from ivsearch.errors import MediaError
from ivsearch.media.container import READ_FAULTS
from ivsearch.media.decode import Picture, Video
from ivsearch.media.faults import explain
from ivsearch.media.gops import PlanBroken, can_plan, planned
from ivsearch.media.grid import MAX_HOLD_S, Grid, check_rate
from ivsearch.media.probe import media_of_still, media_of_video
from ivsearch.media.still import ANIMATION_TIME_BASE, Still, is_still
from ivsearch.media.straight import all_pictures, held
from ivsearch.pictures import MAX_PIXELS, Transparency


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Sample ``index`` of the grid (time ``index / fps``) and the Frame shown then.

    A picture held over several grid times comes as several Samples with the very same Frame.
    """

    index: int
    frame: Frame


class Sampling:
    """The Samples of one file, ``fps`` of them a second of video, one for a still picture. Iterate once.

    ``media`` is set when the first Sample comes, with the header's duration, and holds the true duration and the
    warnings once the last one has. ``threads`` is the number of decoder threads. ``on_progress`` is called at least
    once a packet, so that a caller can tell slow from stuck. Iterating raises MediaError in plain words.
    """

    def __init__(
        self,
        path: Path,
        media_id: MediaId,
        *,
        fps: float = 1.0,
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
        transparency: Transparency = Transparency.ON_WHITE,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        check_rate(fps)
        self._path = path
        self._media_id = media_id
        self._fps = fps
        self._threads = threads
        self._max_pixels = max_pixels
        self._transparency = transparency
        self._on_progress = on_progress
        self._given = 0
        self._media: Media | None = None

    @property
    def media(self) -> Media:
        if self._media is None:
            raise RuntimeError("nothing is known of the file before its first sample")
        return self._media

    def __iter__(self) -> Iterator[Sample]:
        try:
            if is_still(self._path):
                yield from self._still()
            else:
                yield from self._video()
        except READ_FAULTS as error:
            raise MediaError(explain(self._path, error)) from error

    def _still(self) -> Iterator[Sample]:
        with Still(self._path, max_pixels=self._max_pixels, transparency=self._transparency) as still:
            media = media_of_still(still, self._media_id)
            if media.kind is MediaKind.IMAGE:
                pixels = still.pixels()
                self._media = replace(media, warnings=tuple(still.warnings))
                yield Sample(0, Frame(0.0, pixels))
                return
            self._media = media
            grid = Grid(self._fps, ANIMATION_TIME_BASE)
            frame: Frame | None = None
            for index, shown in held(still.pictures(self._on_progress), grid):
                if frame is None or frame.pixels is not shown.pixels:
                    frame = Frame(grid.seconds(shown.pts), shown.pixels)
                yield Sample(index, frame)
            self._media = replace(media, duration_s=grid.end_s, warnings=tuple(still.warnings))

    def _video(self) -> Iterator[Sample]:
        try:
            yield from self._pass(planned_first=True)
        except PlanBroken:
            yield from self._pass(planned_first=False)
        if self._given == 0:
            raise MediaError("no picture can be decoded: damaged, encrypted, or of an unknown kind; copy it again")

    def _pass(self, *, planned_first: bool) -> Iterator[Sample]:
        """One reading of the file; samples that an earlier reading gave are passed over."""
        with Video(
            self._path,
            threads=self._threads,
            max_pixels=self._max_pixels,
            transparency=self._transparency,
            on_progress=self._on_progress,
        ) as video:
            grid = Grid(self._fps, video.time_base)
            plan = planned_first and can_plan(video)
            picked = planned(video, grid) if plan else held(all_pictures(video), grid)
            picture: Picture | None = None
            frame: Frame | None = None
            for index, shown in picked:
                if index < self._given:
                    continue
                if frame is None or picture is not shown:
                    picture, frame = shown, Frame(grid.seconds(shown.pts), video.pixels(shown.frame))
                if self._media is None:
                    self._media = media_of_video(video, shown.frame, self._media_id)
                self._given = index + 1
                yield Sample(index, frame)
            if self._media is not None:
                end_s = grid.end_s or self._media.duration_s
                self._media = replace(self._media, duration_s=end_s, warnings=_warnings(video, grid))


def _warnings(video: Video, grid: Grid) -> tuple[str, ...]:
    said = []
    if video.damaged_packets:
        said.append(f"damaged: {video.damaged_packets} of its pictures cannot be decoded; the others are kept")
    if video.truncated:
        said.append(f"truncated: reading stopped at {grid.end_s:.1f} s; what comes before is kept")
    elif video.stops_early(grid.end_s):
        header = video.header_duration_s
        said.append(f"truncated: pictures end at {grid.end_s:.1f} s, but its header says {header:.1f} s")
    if grid.went_back:
        said.append(f"its clock jumps back: what comes after {grid.end_s:.1f} s and repeats earlier times is left out")
    if grid.jumped:
        said.append(f"its clock jumps by more than {MAX_HOLD_S / 3600:.0f} h: what comes after the jump is left out")
    return tuple(said)
