"""A span of a video, exact to the picture: its pictures are encoded anew, upright; sound and subtitles are copied."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from av.codec import Codec
from av.container import InputContainer, OutputContainer
from av.filter import Graph
from av.packet import Packet
from av.stream import Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ivsearch.errors import MediaError, UsageError
from ivsearch.media.codecs import encoders
from ivsearch.media.colour import orientation
from ivsearch.media.container import open_container
from ivsearch.media.decode import Picture, Video
from ivsearch.media.excerpt import can_seek, sought
from ivsearch.media.extract import (
    EDIT_LISTS,
    Cutout,
    Extract,
    add_side_streams,
    as_file,
    ended,
    first_shown,
    side_packet,
)
from ivsearch.media.straight import all_pictures

ENCODERS = {
    "libx264": {"crf": "18", "preset": "medium", "bf": "0"},
    "libvpx-vp9": {"crf": "24", "b": "0", "cpu-used": "4", "row-mt": "1"},
    "mpeg4": {"qscale": "2"},
}
"""What each is told: visually without loss (the x264 guide calls CRF 17 to 18 so), and no pictures out of order: the
length of an MP4 is counted in decoding times, which fit a varying rate only then."""

# MPEG-4 counts time in at most 16 bits a second.
LARGEST_BASE = 65535


def encoded(cutout: Cutout, target: Path, format: str) -> Extract:
    """From the picture shown at the start to the last one before the end, each at its own time.

    Raises UsageError for a format that keeps no times of pictures, MediaError when nothing is shown in the span.
    """
    if format == "avi":
        raise UsageError("AVI keeps no times of pictures: name the output *.mp4 or *.mkv")
    made = Extract(target)
    offset = first_shown(cutout.source)
    start, end = (offset + Fraction(time_s) for time_s in (cutout.start_s, cutout.end_s))
    with (
        Video(cutout.source) as video,
        open_container(cutout.source) as beside,
        av.open(as_file(target), "w", format=format) as output,
    ):
        shown = _pictures(video, offset, start, end)
        first = next(shown, None)
        if first is None:
            raise MediaError("no picture is shown between these times: is it that long?")
        stream = _picture_stream(video, first.frame, output, format)
        sides = add_side_streams(beside, output, made)
        output.metadata.update(beside.metadata)
        pictures = _encoded(video, first, shown, stream, start, end, offset, made)
        for packet in heapq.merge(pictures, _beside(beside, sides, start, end, format), key=_time):
            output.mux(packet)
    return made


def _pictures(video: Video, offset: Fraction, start: Fraction, end: Fraction) -> Iterator[Picture]:
    """The picture shown at the start, and all that come before the end."""
    base = video.time_base
    # A time read off a frame is a rounded one: half a tick keeps it on its own picture.
    first, last = int(start / base + Fraction(1, 2)), int(end / base + Fraction(1, 2))
    pictures = None
    if can_seek(video) and start > offset:
        pictures = sought(video, first)
        if pictures is None:
            with Video(video.path) as anew:
                yield from _within(all_pictures(anew), first, last)
            return
    yield from _within(pictures or all_pictures(video), first, last)


def _within(pictures: Iterator[Picture], first: int, last: int) -> Iterator[Picture]:
    waiting: Picture | None = None
    latest: int | None = None
    for picture in pictures:
        if latest is not None and picture.pts <= latest:
            continue  # a clock that goes back
        latest = picture.pts
        if picture.pts >= last:
            break
        if waiting is not None and picture.pts > first:
            yield waiting
        waiting = picture
    if waiting is not None and latest is not None and latest >= first:
        yield waiting


def _picture_stream(video: Video, first: VideoFrame, output: OutputContainer, format: str) -> VideoStream:
    name = "libvpx-vp9" if format == "webm" else "libx264"
    name = next(iter(encoders([name, "mpeg4"])))
    base = video.time_base
    if name == "mpeg4" and base.denominator > LARGEST_BASE:
        base = Fraction(1, 1000)
    stream = output.add_stream(name, rate=video.rate or Fraction(25), options=ENCODERS[name])
    assert isinstance(stream, VideoStream)
    turned = orientation(first)[0]
    width, height = (first.height, first.width) if turned else (first.width, first.height)
    stream.width, stream.height = width + width % 2, height + height % 2  # chroma is kept for pairs
    known = {each.name for each in Codec(name, "w").video_formats or ()}
    stream.pix_fmt = first.format.name if first.format.name in known else "yuv420p"
    context = stream.codec_context
    stream.time_base = context.time_base = base
    if aspect := video.aspect:
        context.sample_aspect_ratio = 1 / aspect if turned else aspect
    context.colorspace, context.color_range = first.colorspace, first.color_range
    context.color_primaries, context.color_trc = first.color_primaries, first.color_trc
    return stream


def _encoded(
    video: Video,
    first: Picture,
    more: Iterator[Picture],
    stream: VideoStream,
    start: Fraction,
    end: Fraction,
    offset: Fraction,
    made: Extract,
) -> Iterator[Packet]:
    """Notes in ``made`` when the source ends before ``end``: its last picture is not to stand until then."""
    base = Fraction(stream.codec_context.time_base)
    begins: list[int] = []
    waiting: list[Packet] = []

    def encode(picture: Picture) -> list[Packet]:
        frame = _upright(picture.frame)
        if (frame.width, frame.height, frame.format.name) != (stream.width, stream.height, stream.pix_fmt):
            frame = frame.reformat(width=stream.width, height=stream.height, format=stream.pix_fmt)
        begins.append(max(0, round((picture.pts * video.time_base - start) / base)))
        frame.pts, frame.time_base, frame.pict_type = begins[-1], base, 0
        return stream.encode(frame)

    def timed(packet: Packet, until: Fraction | None = None) -> Packet:
        # Encoders guess how long a picture stands; with a varying rate they guess wrong, and the last one ends it all.
        later = [begin for begin in begins if begin > (packet.pts or 0)]
        if later:
            packet.duration = max(1, min(later) - (packet.pts or 0))
        elif until is not None:
            packet.duration = max(1, round((until - start) / base) - (packet.pts or 0))
        return packet

    last = first
    waiting += encode(first)
    for last in more:
        waiting += encode(last)
        while len(waiting) > 1:
            yield timed(waiting.pop(0))
    waiting += stream.encode(None)
    stands_s = last.duration * video.time_base or 1 / (video.rate or Fraction(25))
    until = ended(end, last.pts * video.time_base + stands_s, offset, video.header_duration_s)
    made.short_s = float(end - until)
    for packet in waiting:
        yield timed(packet, until)


def _upright(frame: VideoFrame) -> VideoFrame:
    """The picture as it is displayed: the new file needs no rotation."""
    transpose, mirror_x, mirror_y = orientation(frame)
    wanted = [("transpose", "0", transpose), ("hflip", None, mirror_x), ("vflip", None, mirror_y)]
    if not (transpose or mirror_x or mirror_y):
        return frame
    graph = Graph()
    nodes = [graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)]
    nodes += [graph.add(name, value) if value else graph.add(name) for name, value, needed in wanted if needed]
    graph.link_nodes(*nodes, graph.add("buffersink")).configure()
    graph.push(frame)
    turned = graph.pull()
    assert isinstance(turned, VideoFrame)
    return turned


def _beside(
    source: InputContainer, streams: dict[int, Stream], start: Fraction, end: Fraction, format: str
) -> Iterator[Packet]:
    if not streams:
        return
    for packet in source.demux([stream for stream in source.streams if stream.index in streams]):
        index = packet.stream.index
        if (side := side_packet(packet, start, end)) is None:
            continue
        # Where nothing can be hidden, a packet that begins before the start would move everything.
        if format not in EDIT_LISTS and (side.pts or 0) < 0:
            continue
        side.stream = streams[index]
        yield side


def _time(packet: Packet) -> Fraction:
    return (packet.dts or 0) * Fraction(packet.time_base)
