"""A span of a media file as a file of its own, made so that there is the whole new file or none.

``copied`` takes the packets as they are: nothing is encoded anew, and the picture must begin at a key frame. MP4 and
QuickTime then hide what comes before the start (an edit list, which players follow); the others begin earlier, and it
is said by how much. ``ivsearch.media.reencode`` makes the exact span instead.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from ivsearch.errors import MediaError, UsageError
from ivsearch.media.container import READ_FAULTS, choose_stream, codec_name, header_duration_s, open_container
from ivsearch.media.decode import Video
from ivsearch.media.faults import explain
from ivsearch.media.gops import PLANNED_FORMATS
from ivsearch.media.still import is_still
from ivsearch.media.straight import all_pictures

FORMATS = {
    ".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm", ".avi": "avi", ".ts": "mpegts",
}  # fmt: skip
"""Endings of files that can be written, and FFmpeg's names of their formats."""

EDIT_LISTS = ("mp4", "mov")
EXACT = "cut it exactly (--exact)"


@dataclass(slots=True)
class Extract:
    """What was written: ``early_s``: how much before the wanted start it begins for players, ``late_s``: how much after
    the wanted end it ends, ``short_s``: how much before the wanted end the source ends. ``left_out``: streams that the
    format does not take, and what is neither the pictures that are cut nor sound nor subtitles."""

    path: Path
    early_s: float = 0.0
    late_s: float = 0.0
    short_s: float = 0.0
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Cutout:
    """What is wanted: ``[start_s, end_s)`` of ``source``, times as everywhere, counted from the first picture shown."""

    source: Path
    start_s: float
    end_s: float


Writer = Callable[[Cutout, Path, str], Extract]
"""(what, the file to write, its format) → Extract."""


def extract(cutout: Cutout, target: Path, write: Writer, *, force: bool = False) -> Extract:
    """Writes ``cutout`` to ``target`` by ``write`` (``copied`` or ``reencode.encoded``); a picture is just copied.

    Nothing appears under the name of ``target`` before it is complete, and nothing is left when it fails or is
    interrupted. Raises UsageError for a target that is there already (without ``force``) or of no known format,
    MediaError for a source that cannot be read or does not fit the format, OSError when there is no room.
    """
    still = check_target(cutout, target, force=force)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        if still:
            shutil.copyfile(cutout.source, temporary)
            made = Extract(target)
        else:
            made = write(cutout, temporary, FORMATS[target.suffix.lower()])
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(target)
    except READ_FAULTS as error:
        raise _explained(error, cutout, target) from error
    finally:
        temporary.unlink(missing_ok=True)
    made.path = target
    return made


def check_target(cutout: Cutout, target: Path, *, force: bool) -> bool:
    """Whether a picture is to be copied. Raises what ``extract`` raises before it writes anything."""
    if target.exists() and not force:
        raise UsageError(f"{target} is there already: name another file, or add --force to replace it")
    if target.exists() and target.samefile(cutout.source):
        raise UsageError(f"{target} is the file that is cut from: name another one")
    try:
        still = is_still(cutout.source) and cutout.end_s <= cutout.start_s
    except OSError as error:
        raise MediaError(explain(cutout.source, error)) from error
    if still and target.suffix.lower() != cutout.source.suffix.lower():
        raise UsageError(f"{cutout.source.name} is a picture and is copied as it is: name it *{cutout.source.suffix}")
    if not still and target.suffix.lower() not in FORMATS:
        raise UsageError(f"{target.name}: no video format has that ending; known are {' '.join(FORMATS)}")
    if not target.parent.is_dir():
        raise UsageError(f"there is no folder {target.parent}: make it first, or name another place")
    return still


def copied(cutout: Cutout, target: Path, format: str) -> Extract:
    """The packets of the span as they are, with every stream the format takes; times count from the start.

    The end comes after the last packet that a picture before it needs or that is shown before one of those.
    """
    made = Extract(target)
    first = first_shown(cutout.source)
    start, end = first + Fraction(cutout.start_s), first + Fraction(cutout.end_s)
    with open_container(cutout.source) as source:
        pictures = choose_stream(source)
        length_s = header_duration_s(source, pictures)
        base = Fraction(pictures.time_base or Fraction(1, 1000))
        _seek(source, pictures, _ticks(start, base))
        needed = _needed(source, pictures, _ticks(start, base), _ticks(end, base))
    with open_container(cutout.source) as source, av.open(as_file(target), "w", format=format) as output:
        pictures = choose_stream(source)
        streams = {pictures.index: _picture_stream(pictures, output, cutout.source)}
        streams |= add_side_streams(source, output, made)
        output.metadata.update(source.metadata)
        _seek(source, pictures, needed.key)
        # The picture shown at the start may have come a little earlier. Where what is before it cannot be hidden, that
        # is shown, too, and all streams begin there.
        begin = needed.shown * base if format in EDIT_LISTS else min(start, needed.key * base)
        _mux(source, output, streams, needed, begin, end)
    made.early_s = float(max(start - begin, Fraction(0)))
    made.late_s = float(max(needed.end * base - end, Fraction(0)))
    made.short_s = float(end - ended(end, needed.end * base, first, length_s))
    return made


def as_file(path: Path) -> str:
    """A name that FFmpeg takes for a local file's: it reads what stands before a colon, as in ``12:30.mp4``, as a
    protocol."""
    return f"file:{path.absolute()}"


def _picture_stream(pictures: VideoStream, output: OutputContainer, source: Path) -> Stream:
    try:
        return output.add_stream_from_template(pictures, opaque=True)
    except (AttributeError, *READ_FAULTS):
        name = codec_name(pictures)
        raise MediaError(
            f"{name} does not go into a {output.format.name} file: name it *{source.suffix} or *.mkv, or {EXACT}"
        ) from None


def ended(end: Fraction, shown: Fraction, first: Fraction, length_s: float) -> Fraction:
    """``end``, or where the source ends before. ``shown``: until when the last picture is shown by its own account,
    which may be less than it stands; ``first``: the first picture's time; ``length_s``: by the header (0: unknown)."""
    return min(end, max(shown, first + Fraction(length_s)))


def first_shown(path: Path) -> Fraction:
    """When the first picture is shown, in seconds of the container's own clock: time 0 of everything else.

    Raises MediaError when there is no picture."""
    with Video(path) as video:
        first = next(all_pictures(video), None)
        if first is None:
            raise MediaError("no picture can be decoded: damaged, encrypted, or of an unknown kind; copy it again")
        return first.pts * video.time_base


@dataclass(frozen=True, slots=True)
class _Needed:
    """In ticks of the pictures' stream: the ``key`` frame to begin with, the picture ``shown`` at the start, the
    decoding time ``until`` which packets are taken, and the ``end`` of what they show."""

    key: int
    shown: int
    until: int
    end: int


# So long after the end packets are looked at that may be shown before it.
REORDERED_S = 4


def _needed(source: InputContainer, pictures: VideoStream, first: int, last: int) -> _Needed:
    """Looks at the packets around ``[first, last)`` (ticks), decoding none. Raises MediaError when they have no times,
    or no key frame is there."""
    beyond = last + _ticks(Fraction(REORDERED_S), Fraction(pictures.time_base or 1))
    key: int | None = None
    group: list[tuple[int, int, int]] = []
    for packet in _timed(source, [pictures]):
        pts, dts = _times(packet)
        if packet.is_keyframe and (key is None or pts <= first):
            key, group = pts, []
        if key is not None:
            group.append((dts, pts, pts + max(packet.duration or 0, 1)))
        if dts >= beyond:
            break
    within = [dts for dts, pts, _ in group if pts < last]
    if key is None or not within:
        raise MediaError(f"its packets have no times, or no key frame is there to begin with: {EXACT}")
    if max(stop for _, _, stop in group) <= first:
        raise MediaError("no picture is shown between these times: is it that long?")
    # Whatever is shown before the last one needed must come along, or there would be a hole.
    latest = max(pts for dts, pts, _ in group if dts <= max(within))
    until = max(dts for dts, pts, _ in group if pts <= latest)
    shown = max((pts for _, pts, _ in group if pts <= first), default=key)
    return _Needed(key, shown, until, max(stop for dts, _, stop in group if dts <= until))


def add_side_streams(source: InputContainer, output: OutputContainer, made: Extract) -> dict[int, Stream]:
    """Streams of ``output`` for the sound and subtitles it takes, by their index in ``source``; all others but the
    pictures that are cut are noted as left out."""
    streams: dict[int, Stream] = {}
    pictures = choose_stream(source).index
    for stream in source.streams:
        if stream.index == pictures:
            continue
        if stream.type not in ("audio", "subtitle"):
            made.left_out.append(_named(stream))
            continue
        try:
            streams[stream.index] = output.add_stream_from_template(stream, opaque=True)
        except (AttributeError, *READ_FAULTS):
            made.left_out.append(_named(stream))
    return streams


def _named(stream: Stream) -> str:
    return f"{stream.type} ({stream.codec_context.name})" if stream.codec_context else str(stream.type)


def side_packet(packet: Packet, start: Fraction, end: Fraction) -> Packet | None:
    """A packet of sound or subtitles with its times counted from ``start``; None for one outside the span."""
    if packet.size == 0 or packet.dts is None:
        return None  # the empty one at the end
    pts, dts = _times(packet)
    base, length = Fraction(packet.time_base), packet.duration or 0
    if pts * base >= end or (pts + length) * base <= start:
        return None
    shift = _ticks(start, base)
    packet.pts, packet.dts = pts - shift, dts - shift
    if packet.stream.type == "subtitle" and pts < shift:
        # One that is on screen already when the span begins.
        packet.pts, packet.dts, packet.duration = 0, 0, max(length - (shift - pts), 1)
    return packet


def _mux(
    source: InputContainer,
    output: OutputContainer,
    streams: dict[int, Stream],
    needed: _Needed,
    start: Fraction,
    end: Fraction,
) -> None:
    """The first of ``streams`` takes the pictures that are needed, the others what goes with them."""
    pictures = next(iter(streams))
    begun = False
    for packet in _timed(source, [stream for stream in source.streams if stream.index in streams]):
        index = packet.stream.index
        pts, dts = _times(packet)
        base = Fraction(packet.time_base)
        if dts * base > end + REORDERED_S:
            break
        if index != pictures:
            side = side_packet(packet, start, end)
            if side is not None:
                side.stream = streams[index]
                output.mux(side)
            continue
        begun = begun or (packet.is_keyframe and pts >= needed.key)
        # Pictures of an open group that are shown before their key frame lean on what is not there.
        if begun and dts <= needed.until and pts >= needed.key:
            shift = _ticks(start, base)
            packet.pts, packet.dts, packet.stream = pts - shift, dts - shift, streams[index]
            output.mux(packet)


def _seek(source: InputContainer, pictures: VideoStream, tick: int) -> None:
    """To the key frame before. Other containers lead too far: they are read from their beginning."""
    if source.format.name.startswith(PLANNED_FORMATS):
        source.seek(tick, stream=pictures)


# Packets without decoding time before the first one with it; decoders reorder no more than 16 pictures, or pairs.
MOST_UNTIMED = 64


def _timed(source: InputContainer, streams: Sequence[Stream]) -> Iterator[Packet]:
    """Packets in file order, each with a decoding time: Matroska tells none for the first ones behind a seek, and they
    are counted back from the first that is known."""
    waiting: dict[int, list[Packet]] = {stream.index: [] for stream in streams}
    for packet in source.demux(streams):
        if packet.size == 0:
            continue
        held = waiting[packet.stream.index]
        if packet.dts is None:
            held.append(packet)
            if len(held) > MOST_UNTIMED:
                raise MediaError(f"its packets have no times: {EXACT}")
            continue
        for place, untimed in enumerate(held):
            untimed.dts = packet.dts - (len(held) - place) * max(packet.duration or 0, 1)
            yield untimed
        held.clear()
        yield packet


def _times(packet: Packet) -> tuple[int, int]:
    """(pts, dts) in ticks: AVI has decoding times only."""
    assert packet.dts is not None
    return packet.dts if packet.pts is None else packet.pts, packet.dts


def _ticks(time_s: Fraction, base: Fraction) -> int:
    # A time read off a frame is a rounded one: half a tick keeps it on its own picture.
    return int(time_s / base + Fraction(1, 2)) if time_s >= 0 else -int(-time_s / base + Fraction(1, 2))


def _explained(error: BaseException, cutout: Cutout, target: Path) -> Exception:
    code = getattr(error, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS):
        return OSError(code, os.strerror(code), str(target))
    if isinstance(error, MediaError) or getattr(error, "filename", None) == str(cutout.source.absolute()):
        return MediaError(f"{cutout.source}: {explain(cutout.source, error)}")
    # A source that cannot be opened has said so already.
    said = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return MediaError(
        f"{target} cannot be written from {cutout.source} ({said}): name another place, or *.mkv, or {EXACT}"
    )
