"""Subtitle streams, written by FFmpeg's own encoders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.subtitles.subtitle import SubtitleSet

from ivsearch.domain import Skipped, TextLine
from ivsearch.media.text_reader import read_text_streams
from ivsearch.media.text_streams import text_streams

HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""
WORDS = ("Where is the captain?", r"المنارة\Nهناك", "灯塔")


def film(path: Path, codec: str | None, *, begins_s: int = 0, lines_at_s: Sequence[int] = (0, 1, 2)) -> Path:
    """Four seconds of video whose first frame is at ``begins_s``; lines of 900 ms so many seconds after it."""
    with av.open(path, "w") as out:
        video = out.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        text = out.add_stream(codec) if codec else None
        if text is not None:
            text.metadata["language"] = "eng"
            text.codec_context.time_base = Fraction(1, 1000)
            text.codec_context.subtitle_header = HEADER
        for at in range(40):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), at * 6, np.uint8))
            frame.pts, frame.time_base = at + 10 * begins_s, Fraction(1, 10)
            out.mux(video.encode(frame))
        out.mux(video.encode())
        for at, words in zip(lines_at_s, WORDS, strict=True) if text is not None else ():
            event = f"{at},0,Default,,0,0,0,,{words}".encode()
            shown = SubtitleSet.create(text=event, start=0, end=900, pts=(at + begins_s) * 1_000_000)
            packet = text.codec_context.encode_subtitle(shown)
            packet.stream, packet.time_base = text, Fraction(1, 1000)
            packet.pts = packet.dts = (at + begins_s) * 1000
            packet.duration = 900
            out.mux(packet)
    return path


@pytest.mark.parametrize(
    ("codec", "suffix"), [("subrip", "mkv"), ("ass", "mkv"), ("webvtt", "mkv"), ("mov_text", "mp4")]
)
@pytest.mark.parametrize("begins_s", [0, 5])
def test_lines_are_timed_from_the_first_frame(tmp_path: Path, codec: str, suffix: str, begins_s: int) -> None:
    (stream,) = text_streams(film(tmp_path / f"a.{suffix}", codec, begins_s=begins_s))
    assert stream.language == "eng"
    assert stream.unreadable == ""
    expected = ["Where is the captain?", "المنارة هناك", "灯塔"]
    assert [line.text for line in stream.lines] == expected
    assert [(line.start_s, line.end_s) for line in stream.lines] == [
        (pytest.approx(at, abs=0.002), pytest.approx(at + 0.9, abs=0.002)) for at in range(3)
    ]


def test_subtitles_that_are_pictures_are_named(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.mkv", "w") as out:
        video = out.add_stream("mpeg4", rate=10)
        video.width = video.height = 64
        video.pix_fmt = "yuv420p"
        text = out.add_stream("dvbsub")
        text.codec_context.time_base = Fraction(1, 1000)
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        out.mux(video.encode(frame))
        out.mux(video.encode())
    (stream,) = text_streams(tmp_path / "a.mkv")
    assert stream.lines == ()
    assert stream.unreadable == "subtitle stream 1 is pictures (dvb_subtitle), not text, and is not read"


def test_a_file_that_is_damaged_half_way_keeps_what_comes_before(tmp_path: Path) -> None:
    data = film(tmp_path / "a.mkv", "subrip").read_bytes()
    (tmp_path / "b.mkv").write_bytes(data[: len(data) * 2 // 3])
    (stream,) = text_streams(tmp_path / "b.mkv")
    assert 0 <= len(stream.lines) <= 3


def test_reading_in_another_process(tmp_path: Path) -> None:
    paths = [film(tmp_path / "a.mkv", "subrip"), tmp_path / "gone.mp4", film(tmp_path / "b.mp4", None)]
    (tmp_path / "c.mp4").write_bytes(b"no video at all")
    found = dict(read_text_streams([*paths, tmp_path / "c.mp4"]))
    assert [stream.lines[0] for stream in found[paths[0]]] == [TextLine(0.0, 0.9, WORDS[0])]
    assert isinstance(found[paths[1]], Skipped)
    assert "looking for subtitles in it: file is gone" in found[paths[1]].reason
    assert found[paths[2]] == []
    assert isinstance(found[tmp_path / "c.mp4"], Skipped)


def test_a_file_that_hangs_costs_that_file_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs.mkv")  # opening it for reading waits for a writer that never comes
    good = film(tmp_path / "a.mkv", "subrip")
    found = dict(read_text_streams([tmp_path / "hangs.mkv", good], stall_s=1.0))
    assert found[tmp_path / "hangs.mkv"] == Skipped(
        tmp_path / "hangs.mkv", "looking for subtitles in it took longer than 1 s"
    )
    assert len(found[good]) == 1
