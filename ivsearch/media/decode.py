"""The robust reader: packets in, pictures with presentation times out, whatever the file is like."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from ivsearch.errors import MediaError
from ivsearch.media import container as header
from ivsearch.media.colour import Painter, display_size, orientation
from ivsearch.media.container import READ_FAULTS
from ivsearch.media.faults import explain
from ivsearch.pictures import MAX_PIXELS, Transparency, too_large


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture, not yet RGB. ``pts`` counts in the stream's time base, ``duration`` too (0: unknown)."""

    pts: int
    duration: int
    frame: VideoFrame


class Video:
    """An open video file. Use as a context manager; ``threads`` is the number of decoder threads.

    ``on_progress`` is called once a packet. Opening raises MediaError in plain words. ``truncated`` and
    ``damaged_packets`` tell, after reading, what was wrong.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int = 1,
        max_pixels: int = MAX_PIXELS,
        transparency: Transparency = Transparency.ON_WHITE,
        on_progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.path = path
        self._on_progress = on_progress
        self.container = header.open_container(path)
        try:
            self.stream = header.choose_stream(self.container)
            self.time_base = Fraction(self.stream.time_base or Fraction(1, 1000))
            self.rate = header.frame_rate(self.stream)
            self.header_duration_s = header.header_duration_s(self.container, self.stream)
            self._max_pixels = max_pixels
            self._check_size(self.stream.codec_context.width, self.stream.codec_context.height)
            self.stream.codec_context.thread_count = threads
            self.stream.codec_context.thread_type = "AUTO" if threads > 1 else "SLICE"
        except READ_FAULTS as error:
            self.container.close()
            raise MediaError(explain(path, error)) from error
        self.truncated = False
        self.damaged_packets = 0
        self._painter = Painter(transparency)

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    @property
    def codec(self) -> str:
        return header.codec_name(self.stream)

    @property
    def format(self) -> str:
        return self.container.format.name

    @property
    def fps(self) -> float | None:
        return float(self.rate) if self.rate else None

    @property
    def recorded_at(self) -> datetime | None:
        return header.recorded_at(self.container, self.stream)

    def packets(self) -> Iterator[Packet]:
        """Packets of the stream in file order. A container error ends them and sets ``truncated``."""
        demuxed = self.container.demux(self.stream)
        while True:
            try:
                packet = next(demuxed, None)
            except READ_FAULTS:
                self.truncated = True
                return
            if packet is None:
                return
            self._on_progress()
            if packet.size:
                yield packet

    def stops_early(self, end_s: float) -> bool:
        """Whether the pictures end well before the header says: MP4 and QuickTime know the length of the stream itself,
        elsewhere the sound may just be longer than the pictures."""
        if self.stream.duration is None or not self.format.startswith("mov,") or self.header_duration_s <= 0:
            return False
        return self.header_duration_s - end_s > max(0.5, 0.02 * self.header_duration_s)

    def decoder(self) -> Decoder:
        return Decoder(self)

    def display_size(self, frame: VideoFrame) -> tuple[int, int]:
        """(width, height) as shown: square pixels, upright."""
        width, height = display_size(frame.width, frame.height, self.aspect)
        return (height, width) if orientation(frame)[0] else (width, height)

    def pixels(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """RGB as shown. Raises MediaError when the picture is larger than ``max_pixels``."""
        self._check_size(*display_size(frame.width, frame.height, self.aspect))
        return self._painter.pixels(frame, self.aspect)

    @property
    def aspect(self) -> Fraction | None:
        # The container's word comes before the codec's, as players have it; a stream may change it in mid-air.
        return self.stream.sample_aspect_ratio or self.stream.codec_context.sample_aspect_ratio

    def _check_size(self, width: int, height: int) -> None:
        if width * height > self._max_pixels:
            raise MediaError(too_large(width, height, self._max_pixels))


class Decoder:
    """Feeds packets, gives pictures in presentation order; a damaged packet is counted and passed over."""

    def __init__(self, video: Video) -> None:
        self._video = video
        self._context: VideoCodecContext = video.stream.codec_context
        self._step = _ticks_per_frame(video)
        self._last: int | None = None
        self._untimed: list[int] = []
        # AVI stores no presentation times; those FFmpeg makes up are wrong as soon as pictures are reordered.
        self._has_times = video.format != "avi"
        self.errors = 0

    def feed(self, packet: Packet) -> list[Picture]:
        if packet.dts is not None and not (self._has_times and packet.pts is not None):
            heapq.heappush(self._untimed, packet.dts)
            if len(self._untimed) > _REORDER:
                heapq.heappop(self._untimed)
        return self._decode(packet)

    def drain(self) -> list[Picture]:
        """The pictures still inside. Afterwards only ``restart`` and a key frame make sense."""
        return self._decode(None)

    def restart(self) -> None:
        self._context.flush_buffers()

    def skip(self, which: Literal["DEFAULT", "NONREF"]) -> None:
        """``DEFAULT`` or ``NONREF``: whether pictures that no other one needs are decoded at all."""
        self._context.skip_frame = which

    def _decode(self, packet: Packet | None) -> list[Picture]:
        try:
            frames = self._context.decode(packet)
        except READ_FAULTS:
            self.errors += 1
            if packet is not None:
                self._video.damaged_packets += 1
                self._forget_time(packet)
            return []
        return [self._timed(frame) for frame in frames if isinstance(frame, VideoFrame)]

    def _forget_time(self, packet: Packet) -> None:
        if packet.dts in self._untimed:
            self._untimed.remove(packet.dts)
            heapq.heapify(self._untimed)

    def _timed(self, frame: VideoFrame) -> Picture:
        """A picture without time takes the smallest unused decoding time (AVI), or follows the last one (raw)."""
        pts = frame.pts if self._has_times else None
        if pts is None and self._untimed:
            pts = heapq.heappop(self._untimed)
        if pts is None:
            pts = 0 if self._last is None else self._last + self._step
        self._last = pts
        return Picture(pts, frame.duration or 0, frame)


_REORDER = 32
"""Pictures a decoder may hold back for reordering: 16 in H.264 and H.265, twice that for field pairs."""


def _ticks_per_frame(video: Video) -> int:
    rate = video.rate or Fraction(25)
    return max(1, round(1 / (rate * video.time_base)))
