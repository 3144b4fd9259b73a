"""The subtitle streams inside a video → lines of text, timed from its first presented frame."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Discard
from av.subtitles.stream import SubtitleStream
from av.subtitles.subtitle import AssSubtitle

from ivsearch.domain import TextLine
from ivsearch.media.container import READ_FAULTS, choose_stream, open_container
from ivsearch.media.subtitles import LANGUAGE, plain, said_once

# A player shows a line that says no length until the next one comes; longer than this nobody leaves one.
LONGEST_S = 10.0
_DRAWING = re.compile(r"\\p[1-9]")


@dataclass(frozen=True, slots=True)
class TextStream:
    """One subtitle stream. ``unreadable``: why it gave no lines, in words; empty when it was read."""

    stream: int
    language: str
    lines: tuple[TextLine, ...]
    unreadable: str = ""


def text_streams(path: Path) -> list[TextStream]:
    """Raises MediaError when the file cannot be opened."""
    with open_container(path) as container:
        start_s = _start_s(container)
        found = []
        wanted: dict[int, list[TextLine]] = {}
        for stream in container.streams.subtitles:
            if complaint := _complaint(stream):
                found.append(TextStream(stream.index, _language(stream.language), (), complaint))
            else:
                wanted[stream.index] = []
        if wanted:
            # What is not asked for need not be read: in an MP4 that is nearly all of the file.
            for other in container.streams:
                if other.index not in wanted:
                    other.discard = Discard.all
            broken = ""
            try:
                for index, line in _lines(container, list(wanted), start_s):
                    wanted[index].append(line)
            except READ_FAULTS as error:
                broken = f"its subtitles end early, for the file is damaged: {error}"
            for index, lines in wanted.items():
                language = _language(container.streams[index].language)
                found.append(TextStream(index, language, tuple(said_once(_ended(lines))), broken))
    return sorted(found, key=lambda each: each.stream)


def _language(named: str | None) -> str:
    return named if named and re.fullmatch(LANGUAGE, named) else ""


def _start_s(container: InputContainer) -> float:
    """The time of the first presented frame, on the clock of the file."""
    video = choose_stream(container)
    if video.start_time is not None and video.time_base:
        return float(video.start_time * video.time_base)
    return (container.start_time or 0) / av.time_base


def _complaint(stream: SubtitleStream) -> str:
    context = stream.codec_context
    if context is None:
        return f"subtitle stream {stream.index} is of a kind that this FFmpeg does not know"
    descriptor = context.codec.canonical_name
    if descriptor in ("hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle", "xsub", "dvb_teletext"):
        return f"subtitle stream {stream.index} is pictures ({descriptor}), not text, and is not read"
    return ""


def _lines(container: InputContainer, indexes: list[int], start_s: float) -> Iterator[tuple[int, TextLine]]:
    for packet in container.demux([container.streams[index] for index in indexes]):
        if packet.pts is None or packet.time_base is None:
            continue
        at_s = float(packet.pts * packet.time_base) - start_s
        length_s = float((packet.duration or 0) * packet.time_base)
        try:
            shown = [each for each in packet.decode() if isinstance(each, AssSubtitle)]
        except av.error.FFmpegError:
            continue  # one line is damaged; the others are kept
        for each in shown:
            words = _words(each)
            if words and at_s + (length_s or LONGEST_S) > 0:
                yield packet.stream_index, TextLine(max(0.0, at_s), at_s + length_s, words)


def _words(shown: AssSubtitle) -> str:
    text = shown.dialogue.decode("utf-8", "replace")
    return "" if _DRAWING.search(text) else plain(text.replace(r"\N", "\n").replace(r"\n", "\n").replace(r"\h", " "))


def _ended(lines: list[TextLine]) -> list[TextLine]:
    """Lines in order; those that say no end last until the next."""
    lines = sorted(lines, key=lambda line: line.start_s)
    starts = [line.start_s for line in lines[1:]] + [float("inf")]
    return [
        line if line.end_s > line.start_s else TextLine(line.start_s, min(next_s, line.start_s + LONGEST_S), line.text)
        for line, next_s in zip(lines, starts, strict=True)
    ]
